//! How numbers read in summaries and evidence.

use monitor_common::tracker::{MS, SECOND};

/// `13.2 s`, `450 ms`, `80 us`: enough digits to compare, no more.
pub fn duration(ns: u64) -> String {
    const US: u64 = 1_000;
    match ns {
        0..US => format!("{ns} ns"),
        US..MS => format!("{} µs", ns / US),
        MS..SECOND => format!("{} ms", ns / MS),
        _ if ns < 100 * SECOND => format!("{}.{} s", ns / SECOND, ns % SECOND / (100 * MS)),
        _ => format!("{} s", ns / SECOND),
    }
}

/// `1 byte`, `3000 bytes`.
pub fn bytes(n: u64) -> String {
    count(n, "byte")
}

/// `1 segment`, `3 segments`.
pub fn count(n: u64, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_keep_three_digits_or_so() {
        assert_eq!(duration(900), "900 ns");
        assert_eq!(duration(80_000), "80 µs");
        assert_eq!(duration(450 * MS), "450 ms");
        assert_eq!(duration(13 * SECOND + 250 * MS), "13.2 s");
        assert_eq!(duration(350 * SECOND), "350 s");
    }

    #[test]
    fn one_is_singular() {
        assert_eq!(bytes(1), "1 byte");
        assert_eq!(bytes(0), "0 bytes");
        assert_eq!(count(2, "probe"), "2 probes");
    }
}
