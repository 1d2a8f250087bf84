//! Any bytes as a capture through the whole offline path: tracker, pipeline, diagnosis, report. Findings keep to the
//! contract: a known band, evidence of at most twelve lines, a reset exactly where the type says so.

use monitor::capture::replay::{Output, ReplayOptions, Summary, analyze};
use monitor::finding::{Finding, FindingKind};
use std::io::{Seek, Write};

const MOST_EVIDENCE: usize = 12;

pub fn run(data: &[u8]) {
    thread_local!(static FILE: std::cell::RefCell<tempfile::NamedTempFile> =
        std::cell::RefCell::new(tempfile::NamedTempFile::new().expect("a temporary folder")));
    FILE.with_borrow_mut(|file| {
        file.as_file_mut().set_len(0).and_then(|()| file.as_file_mut().rewind()).expect("a file of our own");
        file.write_all(data).expect("room for one input");
        let mut summary = Summary::default();
        let options = ReplayOptions { segments: true, connections: true, ..ReplayOptions::default() };
        let mut findings = 0;
        let mut sink = |output: Output| {
            if let Output::Finding(finding) = &output {
                findings += 1;
                check(finding);
            }
            Ok(())
        };
        let done = analyze(file.path(), options, &mut summary, &mut sink, &mut |_| {});
        assert_eq!(summary.findings, findings);
        assert_eq!(summary.damaged == 0, done.is_ok());
    });
}

fn check(f: &Finding) {
    assert!(f.confidence <= 99 && f.culprit_confidence <= 99);
    assert!(matches!(f.band.as_str(), "certain" | "high" | "medium" | "low"), "{}", f.band);
    assert!(f.evidence.len() <= MOST_EVIDENCE);
    assert_eq!(f.reset.is_some(), f.kind != FindingKind::Degraded);
    assert!(!f.summary.is_empty());
}
