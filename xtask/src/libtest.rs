//! Reads what `cargo test` prints: the result lines, and the tests that skipped themselves.

/// Numbers and skips of a whole run, summed over all its test binaries.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub passed: usize,
    pub failed: usize,
    pub ignored: usize,
    /// Lines starting with `skipped:`; a test that cannot run here prints why and returns.
    pub skipped: Vec<String>,
}

impl Tally {
    /// Takes in one line of output.
    pub fn read(&mut self, line: &str) {
        if line.starts_with("skipped:") {
            self.skipped.push(line.trim_end().to_string());
        } else if let Some(rest) = line.strip_prefix("test result: ") {
            // "ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s"
            let counts = rest.split_once(". ").map_or(rest, |(_, counts)| counts);
            for part in counts.split(';') {
                let mut words = part.split_whitespace();
                let (number, what) = (words.next().and_then(|word| word.parse::<usize>().ok()), words.next());
                match (number, what) {
                    (Some(number), Some("passed")) => self.passed += number,
                    (Some(number), Some("failed")) => self.failed += number,
                    (Some(number), Some("ignored")) => self.ignored += number,
                    _ => {}
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_all_binaries_are_summed() {
        let mut tally = Tally::default();
        for line in [
            "running 4 tests",
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s",
            "test result: FAILED. 10 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s",
            "skipped: needs root",
            "a test named skipped: is not one",
        ] {
            tally.read(line);
        }
        let skipped = vec!["skipped: needs root".to_string()];
        assert_eq!(tally, Tally { passed: 13, failed: 2, ignored: 1, skipped });
    }
}
