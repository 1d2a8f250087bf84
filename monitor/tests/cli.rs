//! The command against a fake agent: what each verb prints, as text and as JSON.

mod common;

use common::agent::{Agent, code, err, out, run, whyrst};
use common::findings::{NOON, degraded, desynchronised, ineffective, unread};
use serde_json::{Value, json};

fn agent() -> Agent {
    Agent::with([desynchronised(1), ineffective(2), degraded(3), unread(4)])
}

fn ids(objects: &[Value]) -> Vec<u64> {
    objects.iter().map(|o| o["id"].as_u64().unwrap()).collect()
}

#[test]
fn resets_as_text_are_blocks_with_time_ends_verdict_and_sentence() {
    let text = agent().text(&["resets"]);
    let first = "\
2026-11-23 08:00:01.000  #1  10.9.1.2:43122 -> 10.9.2.2:5001  reset
    endpoint_sequence_fault (gap_never_sent), confidence 82 (high); culprit client (confidence 60)
    The client's TCP skipped 3,000 bytes that it never sent, 13.1 s before it reset the connection;
    the server went on acknowledging 199633.

";
    assert!(text.starts_with(first), "{text}");
    assert!(text.contains("#2  10.9.1.2:43122 -> 10.9.2.2:5001  reset without effect"), "{text}");
    assert!(text.contains("#3  10.9.1.2:43122 -> 10.9.2.2:5001  degraded"), "{text}");
    assert!(text.lines().all(|l| l.chars().count() <= 100), "{text}");
}

#[test]
fn resets_as_json_are_the_findings_themselves_oldest_first() {
    let objects = agent().json(&["resets"]);
    assert_eq!(ids(&objects), [1, 2, 3, 4]);
    let types: Vec<_> = objects.iter().map(|o| o["type"].as_str().unwrap()).collect();
    assert_eq!(types, ["reset", "rst_ineffective", "degraded", "reset"]);
    assert!(objects.iter().all(|o| o["version"] == 1));
    assert_eq!(objects[0], serde_json::to_value(desynchronised(1)).unwrap());
}

#[test]
fn resets_are_filtered_by_cause_culprit_type_and_time() {
    let agent = agent();
    let found = |arguments: &[&str]| ids(&agent.json(&[&["resets"], arguments].concat()));
    assert_eq!(found(&["--cause", "close_with_unread_data,sack_translation_fault"]), [3, 4]);
    assert_eq!(found(&["--culprit", "client"]), [1]);
    assert_eq!(found(&["--type", "reset"]), [1, 4]);
    assert_eq!(found(&["--since", "2026-11-23T08:00:03Z"]), [3, 4]);
    assert_eq!(found(&["--limit", "2"]), [3, 4]);
    assert_eq!(found(&["--limit", "0"]), [1, 2, 3, 4]);
}

#[test]
fn a_limit_that_cuts_says_so_on_standard_error_only() {
    let output = agent().output(&["resets", "--limit", "1"]);
    assert_eq!(err(&output), "the newest 1 of 4 shown; --limit 0 shows all\n");
    assert!(!out(&output).contains("--limit"));
}

#[test]
fn no_findings_is_success_and_says_why() {
    let output = Agent::with([]).output(&["resets"]);
    assert_eq!((code(&output), out(&output).as_str()), (0, ""));
    assert!(err(&output).contains("no connection was reset"), "{}", err(&output));
    let output = agent().output(&["resets", "--cause", "port_closed"]);
    assert_eq!((code(&output), err(&output).as_str()), (0, "none of 4 findings matches\n"));
}

#[test]
fn explain_tells_the_chain_with_relative_times_and_what_to_check() {
    let text = agent().text(&["explain", "1"]);
    let in_one_line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in [
        "Finding 1  10.9.1.2:43122 -> 10.9.2.2:5001  reset",
        "What happened",
        "while it was established, 14.2 s after its first segment",
        "The client had sent 3.06 MiB in 2,213 segments, the server 0 B in 1,120 segments.",
        "diverged 13.1 s before the end, kind gap (the sender skipped bytes that it never sent): expected 199633, was 202633, 3,000 bytes apart",
        "Evidence (times from the reset)\n  -13.1 s  client -> server  seq_gap\n           the client goes on at 202633",
        "\n        0  client -> server  reset\n",
        "2 further resets of this connection",
        "The reset\n  It carries the address of the client (10.9.1.2:43122): RST|ACK, sequence number 3203633",
        "How it came to exist: a TCP stack aborted its own live connection",
        "Effect: at exactly the number that the receiver expected",
        "Also considered\n  - seq_translation_fault (confidence 40): a device that shifts numbers",
        "What speaks against it\n  - the same end was in order on another path",
        "What could not be seen\n  - No kernel's word was at hand",
        "Check next\n  Look at the client's TCP stack",
    ] {
        assert!(text.contains(part) || in_one_line.contains(part), "no '{part}' in:\n{text}");
    }
    assert!(text.lines().all(|l| l.chars().count() <= 100), "{text}");
}

#[test]
fn explain_without_an_id_takes_the_newest_that_did_something() {
    let agent = Agent::with([desynchronised(1), ineffective(2)]);
    assert_eq!(ids(&agent.json(&["explain"])), [1]);
}

#[test]
fn explain_takes_a_community_id_with_any_of_its_characters() {
    let agent = agent();
    for f in [desynchronised(1), degraded(3)] {
        assert_eq!(ids(&agent.json(&["explain", &f.community_id])), [f.id]);
    }
    assert_eq!(ids(&agent.json(&["explain", "#4"])), [4]);
}

#[test]
fn explain_of_what_is_not_there_fails_and_names_the_way_on() {
    let output = agent().output(&["explain", "99"]);
    assert_eq!(code(&output), 1);
    assert!(
        err(&output).starts_with("whyrst: there is no finding 99: the agent holds 4 of at most 100;"),
        "{}",
        err(&output)
    );
    assert_eq!(code(&agent().output(&["explain", "nonsense"])), 2);
}

#[test]
fn words_from_elsewhere_cannot_steer_the_terminal() {
    let text = agent().text(&["explain", "4"]);
    let in_one_line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(in_one_line.contains("in process app\u{fffd}[2J (812)") && !text.contains('\x1b'), "{text}");
}

#[test]
fn conns_as_text_are_aligned_with_what_is_wrong_named() {
    let text = agent().text(&["conns"]);
    let lines: Vec<_> = text.lines().collect();
    assert!(
        lines[0].starts_with("CLIENT               SERVER             STATE        SYNC                  AGE"),
        "{text}"
    );
    assert!(lines[1].starts_with("10.9.1.2:43122       10.9.2.2:5001      established  desynced (gap)"), "{text}");
    assert!(lines[1].ends_with("26  mid-stream, life 3"), "{text}");
    assert_eq!(lines.len(), 4);
}

#[test]
fn conns_are_filtered_and_sorted() {
    let agent = agent();
    let found = |arguments: &[&str]| {
        let objects = agent.json(&[&["conns"], arguments].concat());
        assert!(objects.iter().all(|o| o["type"] == "connection" && o["version"] == 1));
        objects.iter().map(|o| o["client"]["port"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(found(&[]), [43122, 40001, 40000]);
    assert_eq!(found(&["--sort", "age"]), [40000, 40001, 43122]);
    assert_eq!(found(&["--sort", "retransmissions", "--limit", "1"]), [43122]);
    assert_eq!(found(&["--desync"]), [43122]);
    assert_eq!(found(&["--sync", "in_sync,recovered"]), [40001, 40000]);
    assert_eq!(found(&["--state", "time_wait"]), [40000]);
    assert_eq!(found(&["--client", "10.0.0.0/8", "--server", "10.0.0.0/16"]), [40001]);
    assert_eq!(found(&["--port", "443"]), [40000]);
}

#[test]
fn status_as_text_shows_hooks_load_and_losses() {
    let text = agent().text(&["status"]);
    for part in [
        "whyrst 0.1.0, up ",
        " on Linux 6.1.0-49-amd64",
        "eth0            ingress xdp_native, egress tcx",
        "ingress xdp_generic, egress clsact; the driver has no native XDP",
        "3 tracked: 2 established, 1 time_wait; 1 desynchronised: 1 gap",
        "3 of 65,536 entries in use (0 %), 88 MiB of memory",
        "5 events for want of room in the ring buffer (--ring-bytes)",
        "kernel evidence tcp_send_reset",
        "without tcp_receive_reset: not in this kernel",
    ] {
        assert!(text.contains(part), "no '{part}' in:\n{text}");
    }
}

#[test]
fn status_as_json_is_one_object() {
    let objects = agent().json(&["status"]);
    assert_eq!(objects.len(), 1);
    let o = &objects[0];
    assert_eq!((&o["type"], &o["version"], &o["started_ns"]), (&json!("status"), &json!(1), &json!(NOON)));
    assert_eq!(o["findings"]["resets"], 2);
    assert_eq!(o["findings"]["ineffective"], 1);
    assert_eq!(o["lost"]["events_ring_buffer"], 5);
    assert_eq!(o["interfaces"][0]["ingress"], "xdp_native");
}

#[test]
fn doctor_works_everywhere_and_says_what_would_be_used() {
    let output = run(&["doctor"]);
    assert_eq!(code(&output), 0);
    let text = out(&output);
    for part in [
        "capabilities",
        "BTF",
        "ring buffer",
        "egress",
        "reset reasons",
        "Kernel memory with the default settings",
        "`whyrst run",
    ] {
        assert!(text.contains(part), "no '{part}' in:\n{text}");
    }
    assert!(text.lines().all(|l| l.chars().count() <= 100), "{text}");
    let object: Value = serde_json::from_str(&out(&run(&["doctor", "-o", "json"]))).unwrap();
    assert_eq!((&object["type"], &object["version"]), (&json!("doctor"), &json!(1)));
    assert!(object["checks"].as_array().unwrap().len() > 10);
    let known = ["ok", "limited", "missing", "unknown"];
    assert!(object["checks"].as_array().unwrap().iter().all(|c| known.contains(&c["state"].as_str().unwrap())));
}

#[test]
fn completions_are_made_for_every_shell() {
    for shell in ["bash", "zsh", "fish"] {
        let output = run(&["completions", shell]);
        assert!(code(&output) == 0 && out(&output).contains("explain"), "{shell}");
    }
}

#[test]
fn colours_need_a_terminal_or_force_and_no_color_wins_nothing_back() {
    let agent = agent();
    assert!(!agent.text(&["resets"]).contains('\x1b'), "a pipe is no terminal");
    let with = |name: &str| out(&agent.command(&["resets"]).env(name, "1").output().unwrap());
    assert!(with("CLICOLOR_FORCE").contains("\x1b["));
    assert!(!with("NO_COLOR").contains('\x1b'));
    let json = agent.command(&["resets", "-o", "json"]).env("CLICOLOR_FORCE", "1").output().unwrap();
    assert!(!out(&json).contains('\x1b'));
}

#[test]
fn help_shows_examples_and_the_long_one_exit_codes() {
    let short = out(&run(&["-h"]));
    assert!(short.contains("Examples:") && !short.contains("Exit codes:"), "{short}");
    let long = out(&run(&["--help"]));
    assert!(long.contains("5  agent not reachable"), "{long}");
    for verb in ["run", "status", "conns", "resets", "explain", "analyze", "completions"] {
        assert!(out(&run(&[verb, "--help"])).contains("Examples:"), "{verb}");
    }
    assert_eq!(code(&whyrst(&["--version"]).output().unwrap()), 0);
}
