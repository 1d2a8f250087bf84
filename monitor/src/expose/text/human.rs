//! Numbers for people.

/// Three significant digits for the small, two units for the large: `850 µs`, `12.3 ms`, `4.21 s`, `2 min 5 s`, `3 h 12 min`.
pub fn duration(ns: u64) -> String {
    const S: u64 = 1_000_000_000;
    let pair = |large: u64, large_name: &str, small: u64, small_name: &str| match small {
        0 => format!("{large} {large_name}"),
        _ => format!("{large} {large_name} {small} {small_name}"),
    };
    let seconds = (ns + S / 2) / S;
    match ns {
        0..1_000 => format!("{ns} ns"),
        1_000..999_500 => format!("{} µs", three_digits(ns as f64 / 1e3)),
        999_500..999_500_000 => format!("{} ms", three_digits(ns as f64 / 1e6)),
        _ if seconds < 60 => format!("{} s", three_digits(ns as f64 / 1e9)),
        _ if seconds < 3600 => pair(seconds / 60, "min", seconds % 60, "s"),
        _ if seconds < 86_400 => pair(seconds / 3600, "h", seconds % 3600 / 60, "min"),
        _ => pair(seconds / 86_400, "d", seconds % 86_400 / 3600, "h"),
    }
}

fn three_digits(v: f64) -> String {
    // By what rounding makes of it: 9.996 is 10.0, not 10.00.
    let decimals = if v < 9.995 {
        2
    } else if v < 99.95 {
        1
    } else {
        0
    };
    let text = format!("{v:.decimals$}");
    if decimals == 0 { text } else { text.trim_end_matches('0').trim_end_matches('.').to_owned() }
}

/// `0 B`, `1,460 B`, `12.3 KiB`, `4.5 MiB`. Exact up to 10,000 bytes, because those are counted by hand.
pub fn bytes(n: u64) -> String {
    if n < 10_000 {
        return format!("{} B", count(n));
    }
    let mut value = n as f64;
    for unit in ["KiB", "MiB", "GiB", "TiB"] {
        value /= 1024.0;
        if value < 1023.5 {
            return format!("{} {unit}", three_digits(value));
        }
    }
    format!("{} PiB", three_digits(value / 1024.0))
}

/// With commas between thousands.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, d) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(d);
    }
    out
}

/// `1 packet`, `2 packets`.
pub fn counted(n: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(n), if n == 1 { one } else { many })
}

/// Seconds before (-) or after the end, for a column.
pub fn relative(time_ns: u64, end_ns: u64) -> String {
    if time_ns == end_ns {
        return "0".into();
    }
    let sign = if time_ns < end_ns { '-' } else { '+' };
    format!("{sign}{}", duration(time_ns.abs_diff(end_ns)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_three_digits_or_two_units() {
        let cases = [
            (999, "999 ns"),
            (850_000, "850 µs"),
            (999_700, "1 ms"),
            (12_345_678, "12.3 ms"),
            (4_210_000_000, "4.21 s"),
            (59_700_000_000, "1 min"),
            (125_000_000_000, "2 min 5 s"),
            (11_530_000_000_000, "3 h 12 min"),
            (187_200_000_000_000, "2 d 4 h"),
        ];
        for (ns, text) in cases {
            assert_eq!(duration(ns), text);
        }
    }

    #[test]
    fn bytes_are_exact_while_they_are_few() {
        assert_eq!(bytes(9_999), "9,999 B");
        assert_eq!(bytes(199_632), "195 KiB");
        assert_eq!(bytes(8 << 20), "8 MiB");
        assert_eq!(bytes(u64::MAX), "16384 PiB");
    }

    #[test]
    fn times_are_told_from_the_end() {
        assert_eq!(relative(5, 5), "0");
        assert_eq!(relative(0, 13_100_000_000), "-13.1 s");
        assert_eq!(relative(2_000_000, 0), "+2 ms");
    }
}
