//! `analyze` on the repository's own captures.

mod common;

use common::agent::{code, err, out, run, whyrst};
use serde_json::Value;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Output, Stdio};

/// One connection, closed with unread data: one finding, no desynchronisation.
const UNREAD: &str = "story-unread-c0.pcap";
/// A stack that skipped bytes: one finding, desynchronised.
const SEQUENCE: &str = "story-sequence-c0.pcap";

fn fixture(name: &str) -> String {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fixtures").join(name).to_str().unwrap().to_owned()
}

fn objects(output: &Output) -> Vec<Value> {
    out(output).lines().map(|l| serde_json::from_str(l).unwrap()).collect()
}

fn analyze(arguments: &[&str]) -> Output {
    run(&[&["analyze"], arguments].concat())
}

fn piped(arguments: &[&str], input: &[u8]) -> Output {
    let mut command = whyrst(&[&["analyze", "-"], arguments].concat());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(input).unwrap());
        child.wait_with_output().unwrap()
    })
}

#[test]
fn text_has_the_finding_then_the_summary() {
    let output = analyze(&[&fixture(UNREAD)]);
    assert_eq!((code(&output), err(&output).as_str()), (0, ""));
    let text = out(&output);
    assert!(text.contains("close_with_unread_data") && text.contains(&fixture(UNREAD)), "{text}");
    assert!(text.contains("\nSummary\n  1 file: "), "{text}");
}

#[test]
fn json_has_one_object_a_finding_and_the_summary_last() {
    let objects = objects(&analyze(&["-o", "json", &fixture(SEQUENCE)]));
    let types: Vec<_> = objects.iter().map(|o| o["type"].as_str().unwrap()).collect();
    assert_eq!(types, ["reset", "summary"]);
    assert!(objects.iter().all(|o| o["version"] == 1));
    assert_eq!(objects[0]["cause"], "endpoint_sequence_fault");
    assert_eq!((&objects[1]["files"], &objects[1]["findings"]), (&1.into(), &1.into()));
}

#[test]
fn several_files_are_one_analysis_with_ids_of_its_own() {
    let objects = objects(&analyze(&["-o", "json", &fixture(UNREAD), &fixture(SEQUENCE)]));
    let ids: Vec<_> = objects.iter().filter_map(|o| o["id"].as_u64()).collect();
    assert_eq!(ids.len(), 2);
    assert_ne!(ids[0], ids[1]);
    assert_eq!(objects.last().unwrap()["files"], 2);
}

#[test]
fn explain_tells_the_story_offline() {
    let text = out(&analyze(&["--explain", &fixture(SEQUENCE)]));
    for part in ["What happened", "Evidence (times from the reset)", "Check next", "Summary"] {
        assert!(text.contains(part), "no '{part}' in:\n{text}");
    }
    assert!(text.lines().all(|l| l.chars().count() <= 100), "{text}");
}

#[test]
fn segments_and_connections_are_printed_where_they_are_asked_for() {
    let objects = objects(&analyze(&["--segments", "--all", "-o", "json", &fixture(UNREAD)]));
    let of = |kind: &str| objects.iter().filter(|o| o["type"] == kind).count() as u64;
    let summary = objects.last().unwrap();
    assert_eq!(of("segment"), summary["segments"].as_u64().unwrap());
    assert_eq!(of("connection"), summary["connections"].as_u64().unwrap());
    let text = out(&analyze(&["--segments", "--all", &fixture(UNREAD)]));
    assert!(text.contains("  SYN  seq ") && text.contains(" retransmissions\n"), "{text}");
}

#[test]
fn fail_on_is_exit_code_3_only_for_what_it_names() {
    for (what, name, expected) in [
        ("reset", UNREAD, 3),
        ("desync", UNREAD, 0),
        ("desync", SEQUENCE, 3),
        ("any", UNREAD, 3),
        ("endpoint_sequence_fault,port_closed", SEQUENCE, 3),
        ("port_closed", SEQUENCE, 0),
    ] {
        assert_eq!(code(&analyze(&["--fail-on", what, &fixture(name)])), expected, "{what} {name}");
    }
}

#[test]
fn standard_input_gives_the_same_as_the_file() {
    let bytes = std::fs::read(fixture(SEQUENCE)).unwrap();
    let from_stdin = objects(&piped(&["-o", "json"], &bytes));
    let from_file = objects(&analyze(&["-o", "json", &fixture(SEQUENCE)]));
    let verdict = |o: &[Value]| (o[0]["cause"].clone(), o[0]["confidence"].clone(), o[1]["segments"].clone());
    assert_eq!(verdict(&from_stdin), verdict(&from_file));
}

#[test]
fn a_damaged_file_gives_what_was_read_a_message_and_exit_code_1() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cut.pcap");
    let bytes = std::fs::read(fixture(SEQUENCE)).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    let output = analyze(&["-o", "json", "--fail-on", "any", path.to_str().unwrap()]);
    assert_eq!(code(&output), 1, "an incomplete answer does not pass for a complete one");
    assert!(err(&output).starts_with("whyrst: ") && err(&output).contains("cut.pcap"), "{}", err(&output));
    let summary = objects(&output).pop().unwrap();
    assert_eq!((&summary["type"], &summary["damaged"]), (&"summary".into(), &1.into()));
    assert!(summary["segments"].as_u64().unwrap() > 100);
}

#[test]
fn one_bad_file_does_not_keep_the_others_from_being_read() {
    let output = analyze(&["-o", "json", "/no/such.pcap", &fixture(UNREAD)]);
    assert_eq!(code(&output), 1);
    assert!(err(&output).contains("/no/such.pcap"), "{}", err(&output));
    assert_eq!(objects(&output)[0]["cause"], "close_with_unread_data");
}

#[test]
fn what_is_no_capture_is_said_to_be_none() {
    let output = piped(&[], b"this is not a capture, whatever its name");
    assert_eq!(code(&output), 1);
    assert!(err(&output).contains("standard input"), "{}", err(&output));
}

#[test]
fn a_reader_that_has_seen_enough_is_quiet_success() {
    let mut command = whyrst(&["analyze", "--segments", "-o", "json", &fixture(SEQUENCE)]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdout.take().unwrap().read_exact(&mut [0; 10]).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((code(&output), err(&output).as_str()), (0, ""));
}
