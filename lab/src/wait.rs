//! Waiting by polling with a deadline, never by sleeping for a guessed time.

use std::thread;
use std::time::{Duration, Instant};

use crate::LabError;

/// Short enough to be invisible in a story, long enough not to burn a core.
const PAUSE: Duration = Duration::from_millis(5);

/// Calls `check` until it yields a value; an error of `check` ends the wait at once.
pub fn until<T>(
    what: &str,
    limit: Duration,
    mut check: impl FnMut() -> Result<Option<T>, LabError>,
) -> Result<T, LabError> {
    let started = Instant::now();
    loop {
        if let Some(value) = check()? {
            return Ok(value);
        }
        if started.elapsed() >= limit {
            return Err(LabError::Timeout { what: what.to_owned(), waited: started.elapsed() });
        }
        thread::sleep(PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_ends_the_wait() {
        let mut left = 3;
        let got = until("a countdown", Duration::from_secs(5), || {
            left -= 1;
            Ok((left == 0).then_some("done"))
        });
        assert_eq!(got.unwrap(), "done");
    }

    #[test]
    fn a_missed_deadline_says_what_was_awaited() {
        let got: Result<(), _> = until("a miracle", Duration::from_millis(10), || Ok(None));
        assert!(got.unwrap_err().to_string().contains("a miracle"));
    }
}
