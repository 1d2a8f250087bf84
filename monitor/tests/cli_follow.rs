//! `resets --follow`, and readers that go away.

mod common;

use common::agent::{Agent, code, err};
use common::findings::{desynchronised, unread};
use common::wait_for;
use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Stdio};

struct Follower {
    child: Child,
    lines: BufReader<ChildStdout>,
}

/// Started, and known to the agent.
fn follow(agent: &Agent, arguments: &[&str]) -> Follower {
    let before = agent.store.followers();
    let mut command = agent.command(&[&["resets", "--follow"], arguments].concat());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap());
    wait_for("the follower", || (agent.store.followers() > before).then_some(()));
    Follower { child, lines }
}

impl Follower {
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line
    }

    fn id(&mut self) -> u64 {
        let line = self.line();
        let object: Value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line:?}"));
        object["id"].as_u64().unwrap()
    }

    fn interrupt(&self) {
        let pid = i32::try_from(self.child.id()).unwrap();
        // SAFETY: kill takes two integers; the child is ours and not yet waited for.
        assert_eq!(unsafe { libc::kill(pid, libc::SIGINT) }, 0);
    }
}

#[test]
fn new_findings_come_as_they_are_made_and_ctrl_c_is_success() {
    let agent = Agent::with([unread(1)]);
    let mut follower = follow(&agent, &["-o", "json"]);
    agent.store.record(unread(2));
    assert_eq!(follower.id(), 2, "the past is left out unless asked for");
    agent.store.record(unread(3));
    assert_eq!(follower.id(), 3);
    follower.interrupt();
    let output = follower.child.wait_with_output().unwrap();
    assert_eq!((code(&output), err(&output).as_str()), (0, ""));
}

#[test]
fn since_and_limit_begin_in_the_past() {
    let agent = Agent::with([unread(1), unread(2), unread(3)]);
    let mut from = follow(&agent, &["-o", "json", "--since", "2026-11-23T08:00:02Z"]);
    assert_eq!((from.id(), from.id()), (2, 3));
    let mut newest = follow(&agent, &["-o", "json", "--limit", "1"]);
    assert_eq!(newest.id(), 3);
    agent.store.record(unread(4));
    assert_eq!((from.id(), newest.id()), (4, 4));
    for mut follower in [from, newest] {
        follower.child.kill().unwrap();
        follower.child.wait().unwrap();
    }
}

#[test]
fn filters_hold_for_what_comes() {
    let agent = Agent::with([]);
    let mut follower = follow(&agent, &["--cause", "endpoint_sequence_fault"]);
    agent.store.record(unread(1));
    agent.store.record(desynchronised(2));
    assert!(follower.line().contains("#2  10.9.1.2:43122"));
    follower.interrupt();
    assert!(follower.child.wait().unwrap().success());
}

#[test]
fn an_agent_that_ends_is_exit_code_5() {
    let mut agent = Agent::with([]);
    let follower = follow(&agent, &[]);
    agent.stop();
    let output = follower.child.wait_with_output().unwrap();
    assert_eq!(code(&output), 5);
    assert!(err(&output).contains("agent"), "{}", err(&output));
}

#[test]
fn a_follower_that_goes_frees_its_place() {
    let agent = Agent::with([]);
    let mut follower = follow(&agent, &[]);
    follower.child.kill().unwrap();
    follower.child.wait().unwrap();
    wait_for("the place", || (agent.store.followers() == 0).then_some(()));
}

#[test]
fn a_reader_that_has_seen_enough_is_quiet_success() {
    // More than a pipe holds.
    let agent = Agent::with((1..=100).map(desynchronised));
    let mut command = agent.command(&["resets", "-o", "json"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = [0; 10];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((code(&output), err(&output).as_str()), (0, ""));
}
