//! Traffic in which nothing is wrong, as observers see it who come late, see one direction, or miss packets: not one
//! hard anomaly, not one desynchronisation, no verdict that blames anyone.
//!
//! `WHYRST_CONTROLS` names a folder with more captures of such traffic (the lab's, say).

use crate::datagram::{self, Datagram};
use crate::files::{corpus, entries, packets};
use crate::views::{self, View};
use crate::wire;
use crate::{generate, verdicts};
use monitor::capture::host::Engine;
use monitor_common::Anomaly;
use monitor_common::tracker::notes::HARD;
use monitor_common::tracker::state::{Hook, sync_state};
use std::path::Path;

#[derive(Default)]
struct Survey {
    captures: usize,
    views: usize,
    segments: u64,
    wrong: Vec<String>,
}

impl Survey {
    fn look(&mut self, name: &str, all: &[Datagram]) {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let path = folder.path().join("capture.pcap");
        self.captures += 1;
        for view in View::ALL {
            let seen = views::of(all, view);
            let records: Vec<_> = seen.iter().map(|d| d.record()).collect();
            wire::write(&path, wire::RAW, &records);
            self.views += 1;
            self.segments += records.len() as u64;
            for line in hard_notes(&path) {
                self.wrong.push(format!("{name}, {view:?}: {line}"));
            }
            for finding in verdicts::findings(&path) {
                self.wrong.push(format!("{name}, {view:?}: {}", verdicts::line(&finding)));
            }
        }
    }

    fn check(&self) {
        let Survey { captures, views, segments, wrong } = self;
        let noise = wrong.len() as f64 * 1e6 / *segments as f64;
        println!("{captures} captures, {views} views, {segments} segments: {noise:.1} findings per million segments");
        wrong.iter().take(60).for_each(|line| println!("    {line}"));
        assert!(wrong.is_empty(), "{} false alarms", wrong.len());
    }
}

/// Hard anomalies and desynchronisations, in words.
fn hard_notes(path: &Path) -> Vec<String> {
    let mut engine = Engine::new();
    let mut found = Vec::new();
    for (i, one) in packets(path).iter().enumerate() {
        engine.on_packet(&one.packet, Hook::Ingress, one.time_ns);
        let notes = engine.notes();
        for n in notes.iter().filter(|n| n.flags & HARD != 0) {
            let name = Anomaly::from_number(n.anomaly).map_or("?", Anomaly::name);
            found.push(format!("segment {i}: {name} {} {}", n.expected.0, n.actual.0));
        }
        if notes.sync_before != notes.sync_after && notes.sync_after.contains(&sync_state::DESYNCED) {
            found.push(format!("segment {i}: desynchronised"));
        }
    }
    found
}

#[test]
fn clean_captures_of_the_corpus_are_innocent() {
    let Some(corpus) = corpus() else { return };
    let mut survey = Survey::default();
    for entry in entries(&corpus).iter().filter(|e| e.has("clean")) {
        survey.look(&entry.name, &datagram::read(&entry.path).0);
    }
    assert!(survey.captures > 150, "{}", survey.captures);
    survey.check();
}

/// S54, S55, S56 and S61 of the specification as far as a model of two ends goes.
#[test]
fn generated_conversations_are_innocent() {
    let mut survey = Survey::default();
    for seed in 0..150 {
        let all: Vec<Datagram> =
            generate::clean(seed).iter().filter_map(|r| Datagram::parse(&r.bytes, r.wire_len, r.time_ns)).collect();
        survey.look(&format!("seed {seed}"), &all);
    }
    survey.check();
}

#[test]
fn more_captures_are_innocent() {
    let Some(folder) = std::env::var_os("WHYRST_CONTROLS") else {
        // Nothing is left out: the lab holds its own captures against the same rules.
        return;
    };
    let mut survey = Survey::default();
    for entry in std::fs::read_dir(folder).expect("WHYRST_CONTROLS is a folder") {
        let path = entry.expect("an entry").path();
        survey.look(&path.display().to_string(), &datagram::read(&path).0);
    }
    assert!(survey.captures > 0, "WHYRST_CONTROLS is empty");
    survey.check();
}
