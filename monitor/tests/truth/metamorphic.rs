//! What must not matter: where in the sequence space a connection lives, which end stands first in the key, the IP
//! version, a VLAN tag, when it happened, and whether the capture holds every packet twice. Verdicts stay.

use crate::datagram::{self, Datagram};
use crate::files::{corpus, entries};
use crate::model::Rng;
use crate::wire::{self, Record};
use crate::{generate, verdicts};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// A change, and the capture that it makes of these packets.
type Change = (&'static str, u32, fn(&[Datagram]) -> Vec<Record>);

fn records(packets: &[Datagram], change: impl Fn(&mut Datagram)) -> Vec<Record> {
    let changed = packets.iter().cloned().map(|mut d| {
        change(&mut d);
        d.record()
    });
    changed.collect()
}

fn shifted(packets: &[Datagram], by: [u32; 2]) -> Vec<Record> {
    records(packets, |d| d.shift(by))
}

/// Moves the middle of what each side sends to just below 2^32; not onto it, where a RST would look as if it answered no
/// ACK.
fn across(packets: &[Datagram]) -> Vec<Record> {
    let middle = |server: bool| {
        let of: Vec<u32> = packets.iter().filter(|d| d.server() == server).map(Datagram::raw_seq).collect();
        of.get(of.len() / 2).map_or(0, |seq| seq.wrapping_neg().wrapping_sub(13))
    };
    shifted(packets, [middle(false), middle(true)])
}

const TWICE: &str = "every packet twice";

const CHANGES: [Change; 11] = [
    ("the client's numbers moved", wire::RAW, |p| shifted(p, [0x1234_5678, 0])),
    ("the server's numbers moved", wire::RAW, |p| shifted(p, [0, 0x8765_4321])),
    ("both ends' numbers moved", wire::RAW, |p| shifted(p, [0x7fff_ffff, 0xdead_beef])),
    ("numbers moved across 2^32", wire::RAW, across),
    ("the other order of the key", wire::RAW, |p| records(p, Datagram::mirror)),
    ("IPv6", wire::RAW, |p| records(p, Datagram::over_ipv6)),
    ("a VLAN tag", wire::ETHERNET, |p| p.iter().map(Datagram::tagged).collect()),
    (TWICE, wire::RAW, |p| p.iter().flat_map(|d| [d.record(), d.record()]).collect()),
    ("ten years later", wire::RAW, |p| records(p, |d| d.time_ns += 315_360_000 * 1_000_000_000)),
    ("from the beginning of time", wire::RAW, |p| {
        let first = p.iter().map(|d| d.time_ns).min().unwrap_or(0);
        records(p, |d| d.time_ns -= first)
    }),
    ("a nanosecond later", wire::RAW, |p| records(p, |d| d.time_ns += 1)),
];

/// Captures and changes after which the documentation lets the verdict be another one. Every one has a class with a
/// reason there.
fn documented() -> Vec<(&'static str, &'static str)> {
    let text = include_str!("../../../docs/verification.md");
    let cells = |line: &'static str| line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>();
    let table: Vec<Vec<&str>> = text.lines().filter(|l| l.starts_with('|')).map(cells).collect();
    let is_change = |name: &str| CHANGES.iter().any(|(change, ..)| *change == name);
    let rows = table.iter().filter(|r| r.len() == 3 && is_change(r[1]));
    let exceptions = rows.map(|row| {
        let reason = table.iter().find(|r| r.len() == 2 && r[0] == row[2]);
        assert!(reason.is_some_and(|r| r[1].len() > 20), "no reason for {row:?}");
        (row[0], row[1])
    });
    exceptions.collect()
}

#[derive(Default)]
struct Survey {
    captures: usize,
    verdicts: usize,
    compared: usize,
    names: BTreeSet<String>,
    other: BTreeMap<(String, &'static str), Vec<String>>,
}

impl Survey {
    fn look(&mut self, name: &str, packets: &[Datagram]) {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let path = folder.path().join("capture.pcap");
        wire::write(&path, wire::RAW, &records(packets, |_| {}));
        let before = verdicts::of(&path);
        self.captures += 1;
        self.names.insert(name.to_owned());
        self.verdicts += before.len();
        for (change, link, make) in CHANGES {
            wire::write(&path, link, &make(packets));
            let mut after = verdicts::of(&path);
            let mut before = before.clone();
            self.compared += 1;
            if change == TWICE {
                // A reset that came twice is told twice where each is a report of its own.
                before.dedup();
                after.dedup();
            }
            if before != after {
                let mut lines = Vec::new();
                before.iter().filter(|v| !after.contains(v)).for_each(|v| lines.push(format!("- {v}")));
                after.iter().filter(|v| !before.contains(v)).for_each(|v| lines.push(format!("+ {v}")));
                self.other.insert((name.to_owned(), change), lines);
            }
        }
    }

    fn check(&self) {
        println!("{} captures, {} verdicts, {} changes of a capture", self.captures, self.verdicts, self.compared);
        for ((name, change), lines) in &self.other {
            println!("{name}, {change}:");
            lines.iter().take(6).for_each(|line| println!("    {line}"));
        }
        let found: BTreeSet<_> = self.other.keys().map(|(name, change)| (name.as_str(), *change)).collect();
        let expected: BTreeSet<_> = documented().into_iter().filter(|(name, _)| self.names.contains(*name)).collect();
        let new: Vec<_> = found.difference(&expected).collect();
        let gone: Vec<_> = expected.difference(&found).collect();
        assert!(new.is_empty() && gone.is_empty(), "not in docs/verification.md: {new:?}; no longer so: {gone:?}");
    }
}

#[test]
fn verdicts_on_fixtures_stay() {
    let mut survey = Survey::default();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures");
    let mut paths: Vec<_> = std::fs::read_dir(folder).expect("fixtures").map(|e| e.expect("an entry").path()).collect();
    paths.sort();
    for path in paths.iter().filter(|p| p.extension().is_some_and(|e| e == "pcap")) {
        let name = path.file_name().expect("a file").to_string_lossy();
        survey.look(&name, &datagram::read(path).0);
    }
    assert!(survey.verdicts > 50, "{}", survey.verdicts);
    survey.check();
}

#[test]
fn verdicts_on_the_corpus_stay() {
    let Some(corpus) = corpus() else { return };
    let mut survey = Survey::default();
    for entry in entries(&corpus).iter().filter(|e| e.has("rst")) {
        survey.look(&entry.name, &datagram::read(&entry.path).0);
    }
    assert!(survey.captures > 200 && survey.verdicts > 300, "{} {}", survey.captures, survey.verdicts);
    survey.check();
}

#[test]
fn verdicts_on_generated_faults_stay() {
    let mut survey = Survey::default();
    let mut rng = Rng::new(77);
    for n in 0..120 {
        let (name, records) = generate::faulty(&mut rng, n);
        let packets: Vec<Datagram> =
            records.iter().filter_map(|r| Datagram::parse(&r.bytes, r.wire_len, r.time_ns)).collect();
        assert_eq!(packets.len(), records.len());
        survey.look(&name, &packets);
    }
    assert!(survey.verdicts > 60, "{}", survey.verdicts);
    survey.check();
}
