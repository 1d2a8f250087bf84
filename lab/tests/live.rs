//! The real agent on real kernel stacks: verdicts, coming and going, refusals, and traffic that two
//! hooks see at once. Needs root.

mod common;

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;

use common::traffic::{PATIENCE, close, connected_to, metric, neighbours, pinned, receive, send, traffic};
use common::{agent, lab, permitted};
use monitor::capture::interfaces;
use nix::sys::signal::Signal;
use nix::unistd::{Gid, Pid, Uid, setgid, setuid};
use whyrst_lab::agent::{Agent, Setup};
use whyrst_lab::capture::{Capture, WHOLE};
use whyrst_lab::cleanup::ScratchDirectory;
use whyrst_lab::netns::Namespace;
use whyrst_lab::story::{self, Kind, Narrator, Options};
use whyrst_lab::topology::{ClientStack, Point, Topology, Wiring};
use whyrst_lab::verdict::{self, Expected, Verdict};
use whyrst_lab::{bpf, wait};

fn quiet() -> Setup {
    Setup { quiet: true, ..Setup::default() }
}

fn with_arguments(arguments: &[&str]) -> Setup {
    Setup { arguments: arguments.iter().map(ToString::to_string).collect(), quiet: true }
}

fn started(namespace: &Namespace, interfaces: &[&str], setup: &Setup) -> Agent {
    let mut started = Agent::spawn(agent(), namespace, interfaces, setup).unwrap();
    started.wait_ready().unwrap();
    started
}

fn scratch(name: &str) -> ScratchDirectory {
    ScratchDirectory::create(&format!("whyrst-{}-test-{name}", std::process::id())).unwrap()
}

// Verdicts.

struct Watched {
    live: Verdict,
    findings: Vec<Verdict>,
    status: serde_json::Value,
    metrics: String,
}

/// A story with an agent: the verdict is right, and the same for a capture taken at the same points.
fn watch(kind: Kind, options: &Options) -> Watched {
    let story = story::prepare(kind, options).unwrap();
    let points = story.agent_points();
    let directory = ScratchDirectory::create(&format!("{}-captures", story.topology().router.name())).unwrap();
    let interfaces: Vec<_> = points.iter().map(|point| point.interface()).collect();
    let agent = started(story.topology().namespace(points[0]), &interfaces, &quiet());
    let captures = story::start_captures(kind, &*story, directory.path(), WHOLE).unwrap();
    let outcome = story.tell(&mut Narrator::silent()).unwrap();
    let expected = Expected::of(&outcome);
    let findings = agent.wait_for_resets(expected.resets).unwrap();
    let live = expected.find(&findings).unwrap().clone();
    assert_eq!(expected.differences(&live), [], "{live:#?}");
    let (status, metrics) = (agent.status().unwrap(), agent.metrics().unwrap());
    let ended = agent.stop().unwrap();
    assert!(ended.success(), "{ended}");
    story::stop_captures(captures).unwrap();
    for &point in points {
        let path = story::capture_path(kind, point, directory.path());
        let offline = analyze(&path);
        let offline = expected.find(&offline).unwrap();
        assert_eq!(live.disagreements(offline), [], "{}", path.display());
    }
    Watched { live, findings, status, metrics }
}

fn analyze(capture: &Path) -> Vec<Verdict> {
    let output = Command::new(agent()).args(["analyze", "--output", "json"]).arg(capture).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    verdict::parse_lines(&output.stdout).unwrap()
}

#[test]
fn a_lost_place_is_the_senders_fault() {
    if !permitted() {
        return;
    }
    let watched = watch(Kind::Sequence, &Options::default());
    let page = &watched.metrics;
    let labels = r#"{cause="endpoint_sequence_fault",culprit="client",phase="established"}"#;
    assert_eq!(metric(page, &format!("whyrst_resets_total{labels}")), 1.0);
    assert_eq!(metric(page, r#"whyrst_desynchronisations_total{kind="gap"}"#), 1.0);
    assert_eq!(metric(page, "whyrst_desync_to_reset_seconds_count"), 1.0);
    let lead_seconds = watched.live.desync.unwrap().lead_ns as f64 / 1e9;
    assert!((metric(page, "whyrst_desync_to_reset_seconds_sum") - lead_seconds).abs() < 0.001, "{page}");
    assert!(lead_seconds > 4.0, "{lead_seconds}");
    // Reported before it was reset, under the same id: one finding, not two.
    assert_eq!(watched.findings.len(), 1, "{:#?}", watched.findings);
}

#[test]
fn a_lost_place_over_ipv6_with_wrapping_numbers() {
    if permitted() {
        let sequence = story::sequence::Options::wrap_inside_hole(true);
        watch(Kind::Sequence, &Options { ipv6: true, sequence, ..Options::default() });
    }
}

#[test]
fn a_bypassed_translation_is_the_routers_fault() {
    if !permitted() {
        return;
    }
    for ipv6 in [false, true] {
        let watched = watch(Kind::Nat, &Options { ipv6, ..Options::default() });
        assert_eq!(metric(&watched.metrics, r#"whyrst_events_lost_total{stage="ring_buffer"}"#), 0.0);
    }
}

#[test]
fn unread_data_is_nobodys_desynchronisation() {
    if !permitted() {
        return;
    }
    for options in [
        Options::default(),
        Options { ipv6: true, ..Options::default() },
        Options { vlan: Some(100), ..Options::default() },
        Options { ipv6: true, vlan: Some(100), ..Options::default() },
    ] {
        let watched = watch(Kind::Unread, &options);
        let page = &watched.metrics;
        let desynchronised: f64 = page
            .lines()
            .filter(|line| line.starts_with("whyrst_desynchronisations_total{"))
            .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
            .sum();
        assert_eq!(desynchronised, 0.0, "{page}");
        // The reset is this host's own: its kernel's reason belongs to the verdict where there is one.
        let reasons = gives_reset_reasons(&watched.status);
        let reason = watched.live.kernel.as_ref().map(|kernel| kernel.reason.as_str());
        if reasons {
            assert_eq!(reason, Some("TCP_ABORT_ON_CLOSE"), "{:#?}", watched.live);
        }
    }
}

/// Linux 6.10 and later, unless the agent says that it got no tracepoint.
fn gives_reset_reasons(status: &serde_json::Value) -> bool {
    let notes = status["notes"].as_array().into_iter().flatten();
    let without = notes.filter_map(|note| note.as_str()).any(|note| note.contains("no reasons"));
    status["tracepoints"]["tcp_send_reset"] == "attached" && !without
}

// The demo, as `cargo xtask demo` runs it.

#[test]
fn the_demo_is_green_fits_the_page_and_cleans_up() {
    if !permitted() {
        return;
    }
    let directory = scratch("demo");
    let output = Command::new(lab())
        .arg("demo")
        .arg("--agent")
        .arg(agent())
        .arg("--keep-pcaps")
        .arg(directory.path().join("kept"))
        .env_remove("CLICOLOR_FORCE")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    let long: Vec<_> = text.lines().filter(|line| line.chars().count() > 100).collect();
    assert_eq!(long, Vec::<&str>::new(), "lines of more than 100 columns");
    assert!(!text.contains('\x1b'), "colours without a terminal");
    assert!(text.contains("Left behind: nothing"), "{text}");
    assert!(directory.path().join("kept/story-nat-rs.pcap").is_file());
}

#[test]
fn an_interrupted_demo_leaves_nothing() {
    if !permitted() {
        return;
    }
    // In the middle of the first story, which lasts for seconds.
    for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        let mut demo = Command::new(lab())
            .arg("demo")
            .arg("--agent")
            .arg(agent())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let mut out = std::io::BufReader::new(demo.stdout.take().unwrap());
        let mut line = String::new();
        while !line.contains("loses its place: it skips") {
            line.clear();
            let read = std::io::BufRead::read_line(&mut out, &mut line).unwrap();
            assert!(read > 0, "the demo ended before it was interrupted");
        }
        let whole_group = Pid::from_raw(-(demo.id() as i32));
        let children = children_of(demo.id());
        let programs: BTreeSet<u32> =
            children.iter().flat_map(|&pid| bpf::programs_of(pid).unwrap_or_default()).collect();
        assert!(!programs.is_empty(), "no agent among {children:?}");
        nix::sys::signal::kill(whole_group, signal).unwrap();
        let status = wait::until("the demo to end", PATIENCE, || Ok(demo.try_wait().unwrap())).unwrap();
        assert_eq!(status.code(), Some(code));
        let prefix = format!("whyrst-{}-", demo.id());
        for folder in [Path::new("/run/netns"), &std::env::temp_dir()] {
            let left: Vec<_> = std::fs::read_dir(folder)
                .unwrap()
                .flatten()
                .filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
                .map(|entry| entry.path())
                .collect();
            assert_eq!(left, Vec::<PathBuf>::new());
        }
        for pid in children {
            assert!(!Path::new(&format!("/proc/{pid}")).exists(), "process {pid} is left");
        }
        wait_gone(&programs);
    }
}

fn children_of(parent: u32) -> Vec<u32> {
    let children = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap();
    children.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

/// The kernel frees programs a moment after their last user has gone.
fn wait_gone(programs: &BTreeSet<u32>) {
    wait::until("the kernel programs to be freed", PATIENCE, || {
        for &id in programs {
            if bpf::program_exists(id)? {
                return Ok(None);
            }
        }
        Ok(Some(()))
    })
    .unwrap();
}

// Coming and going.

fn hosts() -> Topology {
    Topology::create(ClientStack::Kernel, Wiring::default()).unwrap()
}

fn xdp_program(namespace: &Namespace, interface: &str) -> Option<u32> {
    let all = namespace.run(interfaces::list).unwrap().unwrap();
    all.into_iter().find(|i| i.name == interface).expect("the interface is there").xdp_program
}

/// What is attached to the two TC hooks of an interface through clsact; tcx links show in [`Agent::programs`].
fn filters(namespace: &Namespace, interface: &str) -> String {
    // An error means that there is no clsact at all.
    let of = |hook| namespace.output("tc", &["filter", "show", "dev", interface, hook]).unwrap_or_default();
    of("ingress") + &of("egress")
}

fn has_filters(namespace: &Namespace, interface: &str) -> bool {
    ["tc_in", "tc_out"].iter().any(|program| filters(namespace, interface).contains(program))
}

fn assert_clean(namespace: &Namespace, interface: &str, programs: &BTreeSet<u32>) {
    wait::until("XDP to be detached", PATIENCE, || Ok(xdp_program(namespace, interface).is_none().then_some(())))
        .unwrap();
    assert!(!has_filters(namespace, interface));
    wait_gone(programs);
}

/// What `status` says of the only interface's ingress: hook and note.
fn ingress(agent: &Agent) -> (String, String) {
    let status = agent.status().unwrap();
    let text = |field: &str| status["interfaces"][0][field].as_str().unwrap_or_default().to_owned();
    (text("ingress"), text("note"))
}

/// Every way in, and what `status` calls it.
const WAYS: [(&str, &[&str]); 4] = [
    ("auto", &["tcx", "clsact"]),
    ("tc", &["tcx", "clsact"]),
    ("xdp", &["xdp_native"]),
    ("xdp-generic", &["xdp_generic"]),
];

#[test]
fn sigterm_and_sigint_detach() {
    if !permitted() {
        return;
    }
    let hosts = hosts();
    for (n, (way, names)) in WAYS.into_iter().enumerate() {
        let signal = [Signal::SIGTERM, Signal::SIGINT][n % 2];
        let agent = started(&hosts.server, &["s0"], &with_arguments(&["--ingress", way]));
        let programs = agent.programs().unwrap();
        // Ingress and egress at least; tracepoints where the kernel has them.
        assert!(programs.len() >= 2, "{programs:?}");
        let (hook, note) = ingress(&agent);
        assert!(names.contains(&hook.as_str()), "{way}: {hook}");
        assert_eq!(xdp_program(&hosts.server, "s0").is_some(), hook.starts_with("xdp"), "{way}");
        // A veth's peer would lose its offload by native XDP; the choice is explained, an order is not.
        assert_eq!(note.contains("segmentation offload"), way == "auto", "{way}: {note}");
        let socket = agent.socket();
        let pid = agent.pid();
        let status = agent.end(signal).unwrap();
        assert!(status.success(), "{signal}: {status}");
        assert_clean(&hosts.server, "s0", &programs);
        assert!(!socket.exists() && !Path::new(&format!("/proc/{pid}")).exists());
    }
}

#[test]
fn sigkill_leaves_nothing_attached() {
    if !permitted() {
        return;
    }
    let hosts = hosts();
    for way in ["xdp", "tc"] {
        let setup = with_arguments(&["--ingress", way]);
        let agent = started(&hosts.server, &["s0"], &setup);
        let programs = agent.programs().unwrap();
        agent.end(Signal::SIGKILL).unwrap();
        // Before 6.6 filters stay; the next start removes them, whatever way it takes itself.
        if has_filters(&hosts.server, "s0") {
            started(&hosts.server, &["s0"], &with_arguments(&["--ingress", "xdp"])).stop().unwrap();
        }
        assert_clean(&hosts.server, "s0", &programs);
    }
}

#[test]
fn a_pinned_agent_survives_sigkill_and_is_taken_over() {
    if !permitted() {
        return;
    }
    let directory = scratch("pins");
    let bpffs = Mounted::bpffs(directory.path());
    let pins = bpffs.0.join("whyrst");
    let hosts = hosts();
    for way in ["xdp", "tc"] {
        let setup = with_arguments(&["--ingress", way, "--pin", pins.to_str().unwrap()]);
        let first = started(&hosts.server, &["s0"], &setup);
        let old = first.programs().unwrap();
        first.end(Signal::SIGKILL).unwrap();
        // Ingress and egress go on. Tracepoints are not pinned: they say nothing without their agent.
        let left = wait::until("the tracepoints to be freed", PATIENCE, || {
            let left: BTreeSet<u32> = old.iter().copied().filter(|&id| bpf::program_exists(id).unwrap()).collect();
            Ok((left.len() <= 2).then_some(left))
        })
        .unwrap();
        assert_eq!(left.len(), 2, "{way}: of {old:?} only {left:?}");

        let second = started(&hosts.server, &["s0"], &setup);
        let new = second.programs().unwrap();
        assert!(old.is_disjoint(&new), "{old:?} {new:?}");
        wait_gone(&old);
        let programs = second.programs().unwrap();
        assert!(second.stop().unwrap().success());
        assert_clean(&hosts.server, "s0", &programs);
        let left: Vec<_> = std::fs::read_dir(&pins).map(|pins| pins.flatten().collect()).unwrap_or_default();
        assert!(left.is_empty(), "{left:?}");
    }
}

/// A BPF file system of our own, so that the machine's is left alone.
struct Mounted(PathBuf);

impl Mounted {
    fn bpffs(directory: &Path) -> Self {
        let status = Command::new("mount").args(["-t", "bpf", "whyrst-test"]).arg(directory).status().unwrap();
        assert!(status.success(), "cannot mount a BPF file system");
        Self(directory.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

// Refusals: exit code and message.

/// `whyrst run` that is expected to fail.
fn refused(namespace: &Namespace, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = namespace.command(agent()).unwrap();
    command.arg("run").args(arguments);
    refusal(&mut command)
}

fn refusal(command: &mut Command) -> (Option<i32>, String) {
    let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let ended = wait::until("the agent to refuse", PATIENCE, || Ok(child.try_wait().unwrap()));
    if ended.is_err() {
        child.kill().unwrap();
    }
    let Output { status, stderr, .. } = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&stderr).into_owned();
    assert!(ended.is_ok(), "it did not refuse: {text}");
    (status.code(), text)
}

fn assert_refused((code, text): (Option<i32>, String), expected: i32, words: &[&str]) {
    assert_eq!(code, Some(expected), "{text}");
    for word in words {
        assert!(text.contains(word), "`{word}` is missing in: {text}");
    }
    assert!(!text.contains("panicked"), "{text}");
}

#[test]
fn a_foreign_program_is_named_and_not_replaced() {
    if !permitted() {
        return;
    }
    let hosts = hosts();
    let first = started(&hosts.server, &["s0"], &with_arguments(&["--ingress", "xdp"]));
    let held = xdp_program(&hosts.server, "s0").expect("attached");
    let directory = scratch("foreign");
    let socket = directory.path().join("second.sock");
    for mode in ["xdp", "xdp-generic"] {
        let arguments = ["-i", "s0", "--listen", "off", "--ingress", mode, "--socket", socket.to_str().unwrap()];
        let refused = refused(&hosts.server, &arguments);
        assert_refused(refused, 1, &["s0", "already has an XDP program", &format!("id {held}"), "xdp_in"]);
        assert_eq!(xdp_program(&hosts.server, "s0"), Some(held), "{mode}");
    }
    // Left to itself it goes behind the other's program, and says what that means.
    let beside = started(&hosts.server, &["s0"], &with_arguments(&["--listen", "127.0.0.1:9817"]));
    let (hook, note) = ingress(&beside);
    assert!(["tcx", "clsact"].contains(&hook.as_str()), "{hook}");
    assert!(note.contains(&format!("XDP program {held}")), "{note}");
    drop(connected(&hosts, 7150));
    for agent in [&first, &beside] {
        wait::until("the handshake to be counted", PATIENCE, || {
            Ok((traffic(&agent.status()?, "received_segments") >= 2).then_some(()))
        })
        .unwrap();
    }
    assert_eq!(xdp_program(&hosts.server, "s0"), Some(held));
    assert!(beside.stop().unwrap().success());
    assert!(first.stop().unwrap().success());
}

#[test]
fn a_missing_interface_is_a_usage_error_that_lists_the_others() {
    if permitted() {
        let hosts = hosts();
        assert_refused(refused(&hosts.server, &["-i", "eth9", "--listen", "off"]), 2, &["eth9", "s0"]);
    }
}

#[test]
fn a_port_or_socket_in_use_is_an_error_and_nothing_is_attached() {
    if !permitted() {
        return;
    }
    let hosts = hosts();
    let directory = scratch("in-use");
    let free = directory.path().join("free.sock");
    let listener = hosts.server.run(|| TcpListener::bind("127.0.0.1:0")).unwrap().unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let port = refused(&hosts.server, &["-i", "s0", "--listen", &address, "--socket", free.to_str().unwrap()]);
    assert_refused(port, 1, &[&address]);
    assert_eq!(xdp_program(&hosts.server, "s0"), None);

    let first = started(&hosts.server, &["s0"], &with_arguments(&["--ingress", "xdp"]));
    let held = xdp_program(&hosts.server, "s0");
    let socket = first.socket();
    let taken = refused(&hosts.server, &["-i", "s0", "--listen", "off", "--socket", socket.to_str().unwrap()]);
    assert_refused(taken, 1, &[socket.to_str().unwrap()]);
    assert_eq!(xdp_program(&hosts.server, "s0"), held);
    assert!(first.status().is_ok(), "the first agent still has its socket");
}

#[test]
fn without_privileges_nothing_is_tried() {
    if !permitted() {
        return;
    }
    let hosts = hosts();
    // Nobody may not enter the folder of the build.
    let directory = scratch("nobody");
    let program = directory.path().join("whyrst");
    std::fs::copy(agent(), &program).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = hosts.server.command(&program).unwrap();
    let socket = directory.path().join("agent.sock");
    command.args(["run", "-i", "s0", "--listen", "off", "--socket"]).arg(socket);
    let become_nobody = || {
        setgid(Gid::from_raw(65534))?;
        Ok(setuid(Uid::from_raw(65534))?)
    };
    // SAFETY: between fork and exec the closure makes two system calls.
    unsafe { command.pre_exec(become_nobody) };
    assert_refused(refusal(&mut command), 4, &["root", "CAP_BPF"]);
    assert_eq!(xdp_program(&hosts.server, "s0"), None);
}

#[test]
fn an_interface_that_is_down_is_watched_once_it_is_up() {
    if !permitted() {
        return;
    }
    let hosts = hosts();
    hosts.client.ip(&["link", "set", "c0", "down"]).unwrap();
    let agent = started(&hosts.client, &["c0"], &quiet());
    hosts.client.ip(&["link", "set", "c0", "up"]).unwrap();
    hosts.client.default_route(hosts.addresses.router_to_client).unwrap();
    let (client, server) = connected(&hosts, 7100);
    wait::until("the handshake to be counted", PATIENCE, || {
        Ok((traffic(&agent.status()?, "received_segments") >= 1).then_some(()))
    })
    .unwrap();
    drop((client, server));
}

// Traffic.

/// A connection from the client to the server.
fn connected(hosts: &Topology, port: u16) -> (TcpStream, TcpStream) {
    connected_to(&hosts.client, &hosts.server, hosts.server_socket(port))
}

fn hard_anomalies(page: &str) -> Vec<&str> {
    // Hard by nature; the catalogue is in `monitor_common::anomaly`.
    let hard: Vec<_> = monitor_common::Anomaly::ALL
        .iter()
        .filter(|anomaly| anomaly.level() == monitor_common::anomaly::Level::Hard)
        .map(|anomaly| format!("whyrst_anomalies_total{{anomaly=\"{}\"}}", anomaly.name()))
        .collect();
    page.lines()
        .filter(|line| hard.iter().any(|series| line.starts_with(series.as_str())) && !line.ends_with(" 0"))
        .collect()
}

#[test]
fn forwarded_packets_are_counted_once() {
    if !permitted() {
        return;
    }
    let hosts = hosts();
    // A burst would overflow the ring behind XDP, and two CPUs would overtake each other at the router.
    for host in [&hosts.client, &hosts.server] {
        host.sysctl("net.ipv4.tcp_wmem", "4096 65536 65536").unwrap();
    }
    let directory = scratch("forwarded");
    let path = directory.path().join("rc.pcap");
    let agent = started(&hosts.router, &["rc", "rs"], &quiet());
    let capture = Capture::start(&hosts.router, Point::RouterToClient.interface(), &path, 128).unwrap();
    const BYTES: usize = 2_000_000;
    let (client, server) = connected(&hosts, 7000);
    thread::scope(|scope| {
        scope.spawn(|| pinned(0, || send(&client, BYTES)));
        pinned(0, || receive(&server, BYTES));
    });
    thread::scope(|scope| {
        scope.spawn(|| pinned(0, || send(&server, 100_000)));
        receive(&client, 100_000);
    });
    close(client, server);
    let summary = capture.stop().unwrap();
    assert_eq!(summary.dropped, 0);

    let mut on_wire = monitor::capture::replay::Summary::default();
    let mut sink = |_| Ok(());
    monitor::capture::replay::analyze(&path, Default::default(), &mut on_wire, &mut sink, &mut |_| {}).unwrap();
    let status = agent.status().unwrap();
    let tracked = traffic(&status, "received_segments") + traffic(&status, "transmitted_segments");
    assert_eq!(tracked, on_wire.segments, "{status:#}");
    let page = agent.metrics().unwrap();
    assert!(metric(&page, "whyrst_duplicate_packets_total") > 0.0, "{page}");
    assert_eq!(metric(&page, r#"whyrst_anomalies_total{anomaly="rexmit"}"#), 0.0, "{page}");
    assert_eq!(metric(&page, "whyrst_received_bytes_total"), (BYTES + 100_000) as f64);
    assert_eq!(metric(&page, "whyrst_transmitted_bytes_total"), 0.0);
    assert_eq!(metric(&page, "whyrst_connections_closed_total"), 1.0);
    assert_eq!(hard_anomalies(&page), Vec::<&str>::new());
    assert!(agent.findings().unwrap().is_empty());
}

/// Receiving happens where the client sends, in its soft interrupt; sending where the server's
/// application runs. With both on the move, two CPUs work on one entry all the time.
#[test]
fn two_cpus_on_one_connection_do_not_lose_track() {
    if !permitted() {
        return;
    }
    let cpus = thread::available_parallelism().unwrap().get();
    if cpus < 2 {
        println!("skipped: needs two CPUs");
        assert!(std::env::var_os("CI").is_none(), "CI must run this test with two CPUs");
        return;
    }
    for way in ["xdp", "tc"] {
        two_cpus(way);
    }
}

fn two_cpus(way: &str) {
    const BYTES: usize = 100_000_000;
    let (client_host, server_host) = neighbours();
    let agent = started(&server_host, &["s0"], &with_arguments(&["--ingress", way]));
    let address = SocketAddr::from(([10, 71, 9, 2], 7001));
    let (client, server) = connected_to(&client_host, &server_host, address);
    thread::scope(|scope| {
        scope.spawn(|| pinned(0, || send(&client, BYTES)));
        scope.spawn(|| pinned(0, || receive(&client, BYTES)));
        scope.spawn(|| pinned(1, || send(&server, BYTES)));
        scope.spawn(|| pinned(1, || receive(&server, BYTES)));
    });
    let rows = agent.run_cli(&["conns", "--output", "json", "--port", "7001"]).unwrap();
    let row: serde_json::Value = serde_json::from_slice(&rows.stdout).unwrap();
    assert_eq!((&row["phase"], &row["sync"]), (&"established".into(), &"in_sync".into()), "{row:#}");
    let counted = |field: &str| row[field].as_u64().unwrap();
    close(client, server);
    let page = agent.metrics().unwrap();
    println!(
        "{} segments; {} and {} bytes counted, {BYTES} each way carried; {} retransmissions",
        counted("client_segments") + counted("server_segments"),
        counted("client_bytes"),
        counted("server_bytes"),
        counted("retransmissions"),
    );
    // Behind the driver of a veth each CPU that sends has a queue of its own: segments that two of them send arrive out
    // of order, for the receiver as for us. Nothing but their order may be noted of them.
    if way == "xdp" {
        assert_eq!(hard_anomalies(&page), Vec::<&str>::new());
    }
    assert_eq!(metric(&page, r#"whyrst_table_rejected_segments_total{reason="busy"}"#), 0.0, "{page}");
    assert_eq!(metric(&page, "whyrst_connections_opened_total"), 1.0);
    assert_eq!(metric(&page, "whyrst_connections_closed_total"), 1.0);
    // A race may lose an update of one counter of the entry, never of the per-CPU ones.
    for series in ["whyrst_received_bytes_total", "whyrst_transmitted_bytes_total"] {
        assert!(metric(&page, series) >= BYTES as f64, "{series}: {}", metric(&page, series));
    }
    assert!(agent.findings().unwrap().is_empty());
}
