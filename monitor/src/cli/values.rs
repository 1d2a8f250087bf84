//! Values of arguments: times, numbers of lines.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Span, SpanRelativeTo, Timestamp};

/// The default of every `--limit`.
pub const LIMIT: usize = 100;

/// A moment, given as an age (`10m`, `1h 30m`, `2d`) or as a time (RFC 3339, or local without a zone).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Since(pub Timestamp);

impl Since {
    pub fn as_unix_ns(self) -> u64 {
        self.0.as_nanosecond().try_into().unwrap_or(0)
    }
}

pub fn since(text: &str) -> Result<Since, String> {
    since_at(text, Timestamp::now())
}

fn since_at(text: &str, now: Timestamp) -> Result<Since, String> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(Since(time));
    }
    if let Ok(local) = text.parse::<DateTime>() {
        return local.to_zoned(TimeZone::system()).map(|z| Since(z.timestamp())).map_err(|e| e.to_string());
    }
    let age = text.parse::<Span>().and_then(|s| s.to_duration(SpanRelativeTo::days_are_24_hours()));
    match age {
        Ok(age) if !age.is_negative() => now.checked_sub(age).map(Since).map_err(|e| e.to_string()),
        _ => Err("give an age such as 10m, 1h 30m or 2d, or a time such as 2026-11-23T08:00:00Z".into()),
    }
}

/// `None` for 0: no limit.
pub fn limit(n: usize) -> Option<usize> {
    (n > 0).then_some(n)
}

/// What travels in a query.
pub fn joined(values: &[String]) -> Option<String> {
    (!values.is_empty()).then(|| values.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_takes_ages_and_times() {
        let now: Timestamp = "2026-11-23T08:00:00Z".parse().unwrap();
        let at = |text| since_at(text, now).unwrap().0.to_string();
        assert_eq!(at("10m"), "2026-11-23T07:50:00Z");
        assert_eq!(at("1h 30m"), "2026-11-23T06:30:00Z");
        assert_eq!(at("1h30m"), "2026-11-23T06:30:00Z");
        assert_eq!(at("2d"), "2026-11-21T08:00:00Z");
        assert_eq!(at("2026-11-23T09:00:00+02:00"), "2026-11-23T07:00:00Z");
    }

    #[test]
    fn since_explains_itself_when_it_is_not_understood() {
        for text in ["", "yesterday", "-5m", "10"] {
            assert!(since(text).is_err_and(|e| e.contains("10m")), "{text:?}");
        }
    }
}
