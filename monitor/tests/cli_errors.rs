//! What goes wrong: exit codes and messages that say what to do.

mod common;

use common::agent::{Agent, code, err, out, run, whyrst};
use common::findings::unread;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::process::Output;

/// As if by an ordinary user: the capabilities go in a thread of its own, and `exec` as root cannot gain them again.
fn without_capabilities(arguments: &[&str]) -> Output {
    let mut command = whyrst(arguments);
    let spawn = move || {
        monitor::privileges::drop_after_attach(&[]).unwrap();
        command.output().unwrap()
    };
    std::thread::spawn(spawn).join().unwrap()
}

#[test]
fn without_an_agent_the_exit_code_is_5_and_the_message_names_the_command_that_starts_one() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("none.sock");
    for verb in ["status", "conns", "resets", "explain"] {
        let output = run(&[verb, "--socket", socket.to_str().unwrap()]);
        assert_eq!(code(&output), 5, "{verb}");
        let message = err(&output);
        assert!(
            message.contains(
                "none.sock: there is no such socket; is the agent running? start it with `whyrst run -i IFACE`"
            ),
            "{message}"
        );
    }
}

#[test]
fn the_socket_of_a_dead_agent_is_not_reachable_either() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("dead.sock");
    drop(UnixListener::bind(&socket).unwrap());
    let output = run(&["status", "--socket", socket.to_str().unwrap()]);
    assert_eq!(code(&output), 5);
    assert!(err(&output).contains("nobody listens on it"), "{}", err(&output));
}

#[test]
fn a_socket_that_is_not_ours_to_use_is_exit_code_4() {
    let agent = Agent::with([]);
    std::fs::set_permissions(agent.socket(), std::fs::Permissions::from_mode(0o000)).unwrap();
    let output = without_capabilities(&["status", "--socket", agent.socket().to_str().unwrap()]);
    assert_eq!(code(&output), 4);
    assert!(
        err(&output).contains("permission denied; run as root or as a member of the socket's group"),
        "{}",
        err(&output)
    );
}

#[test]
fn running_the_agent_without_privileges_is_exit_code_4_with_the_exact_capabilities() {
    let output = without_capabilities(&["run", "-i", "lo"]);
    assert_eq!((code(&output), out(&output).as_str()), (4, ""));
    let message = err(&output);
    assert!(
        message.starts_with(
            "whyrst: cannot attach: this process lacks CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON; run it as root"
        ),
        "{message}"
    );
    assert_eq!(message.lines().count(), 1, "{message}");
}

#[test]
fn wrong_usage_is_exit_code_2_with_a_hint() {
    let cases: [(&[&str], &str); 14] = [
        (&[], "Usage: whyrst"),
        (&["frobnicate"], "unrecognized subcommand"),
        (&["resets", "--cause", "port_close"], "port_closed"),
        (&["resets", "--since", "yesterday"], "10m"),
        (&["conns", "--client", "10.0.0.0/40"], "neither an address nor a network"),
        (&["conns", "--state", "open"], "established"),
        (&["conns", "--sync", "suspect", "--desync"], "cannot be used with"),
        (&["explain", "abc"], "community id"),
        (&["analyze"], "FILE"),
        (&["analyze", "--fail-on", "everything", "x.pcap"], "invalid value 'everything'"),
        (&["analyze", "-", "-"], "give `-` once"),
        (&["run"], "-i IFACE"),
        (&["run", "-i", "lo", "--all"], "cannot be used with"),
        (&["run", "-i", "lo", "--listen", "everywhere"], "127.0.0.1:18908, or off"),
    ];
    for (arguments, hint) in cases {
        let output = run(arguments);
        assert_eq!(code(&output), 2, "{arguments:?}: {}", err(&output));
        assert!(err(&output).contains(hint), "{arguments:?}: {}", err(&output));
        assert_eq!(out(&output), "", "{arguments:?}");
    }
}

#[test]
fn a_bad_configuration_file_is_named_with_the_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("whyrst.toml");
    for (text, hint) in [
        ("interfaces = ['lo']\nmax_connection = 5\n", "unknown field `max_connection`"),
        ("interfaces = 'lo'\n", "line 1"),
        ("interfaces = ['lo']\nring_bytes = 5000\n", "powers of two"),
        ("interfaces = ['lo']\ningress = 'fast'\n", "xdp-generic"),
    ] {
        std::fs::write(&path, text).unwrap();
        let output = run(&["run", "--config", path.to_str().unwrap()]);
        assert_eq!(code(&output), 2, "{text}");
        assert!(err(&output).contains(hint), "{text}: {}", err(&output));
    }
    let output = run(&["run", "--config", "/no/such/whyrst.toml"]);
    assert_eq!(code(&output), 1);
    assert!(err(&output).contains("/no/such/whyrst.toml"), "{}", err(&output));
}

#[test]
fn a_bad_rust_log_is_wrong_usage_and_not_ignored() {
    let output = whyrst(&["completions", "bash"]).env("RUST_LOG", "monitor=loud").output().unwrap();
    assert_eq!(code(&output), 2);
    assert!(err(&output).contains("RUST_LOG=monitor=loud"), "{}", err(&output));
}

#[test]
fn an_unreadable_capture_is_exit_code_1_and_named() {
    let output = run(&["analyze", "/no/such/trace.pcap"]);
    assert_eq!(code(&output), 1);
    assert!(err(&output).starts_with("whyrst: ") && err(&output).contains("/no/such/trace.pcap"), "{}", err(&output));
}

#[test]
fn a_port_in_use_is_found_before_anything_is_attached() {
    if !monitor::privileges::missing_for_attach().is_empty() {
        println!("skipped: needs the capabilities to attach");
        assert!(std::env::var_os("CI").is_none(), "CI runs everything");
        return;
    }
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (address, socket) = (held.local_addr().unwrap().to_string(), folder.path().join("w.sock"));
    let output = run(&["run", "-i", "lo", "--listen", &address, "--socket", socket.to_str().unwrap()]);
    assert_eq!(code(&output), 1);
    assert!(err(&output).contains("the port is in use; is another agent running?"), "{}", err(&output));
}

#[test]
fn a_second_agent_on_the_same_socket_is_refused() {
    if !monitor::privileges::missing_for_attach().is_empty() {
        println!("skipped: needs the capabilities to attach");
        assert!(std::env::var_os("CI").is_none(), "CI runs everything");
        return;
    }
    let agent = Agent::with([unread(1)]);
    let output = agent.output(&["run", "-i", "lo", "--listen", "off"]);
    assert_eq!(code(&output), 1);
    assert!(err(&output).contains("another agent is listening on"), "{}", err(&output));
    assert_eq!(agent.json(&["resets"]).len(), 1, "the first one goes on");
}
