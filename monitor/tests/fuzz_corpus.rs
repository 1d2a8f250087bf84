//! The committed corpus of the fuzz targets, through the same functions that the fuzzer calls: an input that once broke
//! something stays a test, for people without a fuzzer, too. The whole offline path, whose instrumented build takes
//! minutes, is also given damaged copies of it here.

// Shared by path, because the fuzz targets are a workspace of their own (another profile, instrumented).
#[path = "../../fuzz/src/analyze.rs"]
mod analyze;
#[path = "../../fuzz/src/capture.rs"]
mod capture;
#[path = "../../fuzz/src/frame.rs"]
mod frame;
#[path = "../../fuzz/src/options.rs"]
mod options;
#[path = "../../fuzz/src/tracker.rs"]
mod tracker;

use std::path::Path;

fn replay(target: &str, run: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let mut inputs = 0;
    for entry in std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
        let path = entry.expect("an entry of a folder").path();
        let data = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        // Shown when it panics.
        println!("{}", path.display());
        run(&data);
        inputs += 1;
    }
    assert!(inputs >= 3, "{}: only {inputs} inputs", folder.display());
}

#[test]
fn frames() {
    replay("frame", frame::run);
}

#[test]
fn options() {
    replay("options", options::run);
}

#[test]
fn tracker() {
    replay("tracker", tracker::run);
}

#[test]
fn captures() {
    replay("capture", capture::run);
}

#[test]
fn analyses() {
    replay("analyze", analyze::run);
}

/// Copies of the captures with bytes changed, cut out or doubled, by a fixed sequence of random numbers.
#[test]
fn analyses_of_damaged_captures() {
    const COPIES: u64 = 250;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/analyze");
    let mut paths: Vec<_> =
        std::fs::read_dir(folder).expect("the corpus").map(|e| e.expect("an entry").path()).collect();
    paths.sort();
    for (n, path) in paths.iter().enumerate() {
        let whole = std::fs::read(path).expect("a file of the corpus");
        for copy in 0..COPIES {
            let mut rng = Random((((n as u64) << 32) | copy) ^ 0x9e37_79b9_7f4a_7c15);
            let mut data = whole.clone();
            for _ in 0..=rng.below(16) {
                let at = rng.below(data.len());
                match rng.below(8) {
                    0 => data.truncate(at.max(1)),
                    1 => drop(data.drain(at..(at + rng.below(64)).min(data.len() - 1).max(at))),
                    2 => data.extend_from_within(at..),
                    _ => data[at] = rng.below(256) as u8,
                }
            }
            println!("{}, copy {copy}", path.display());
            analyze::run(&data);
        }
    }
}

/// Marsaglia's xorshift; the same damage in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }
}
