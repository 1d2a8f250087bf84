//! What the local kernel says of its own connections, joined to the packets by the real agent: who closed, what was
//! dropped and why, which socket gave up. Needs root, and a kernel with the tracepoint in question.

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::{agent, permitted};
use serde_json::Value;
use whyrst_lab::agent::{Agent, Setup};
use whyrst_lab::cleanup;
use whyrst_lab::frame::Flags;
use whyrst_lab::netns::Namespace;
use whyrst_lab::raw::RawPeer;
use whyrst_lab::seq::SeqNum;
use whyrst_lab::topology::{ClientStack, Topology, Wiring};
use whyrst_lab::wait;

const PATIENCE: Duration = Duration::from_secs(20);
/// What container runtimes call a container: 32 bytes in hexadecimal digits.
const CONTAINER: &str = "4f5c1ad0be3b6a6e2a1f4dc6b1b0f4f7d0a5a3b7e8c9d0e1f2a3b4c5d6e7f809";

/// A router that forwards nothing any more and says nothing of it.
const BLACKHOLE: &str = "table ip whyrst {\n chain f {\n type filter hook forward priority 0;\n drop\n }\n}\n";

fn hosts(client: ClientStack) -> Topology {
    Topology::create(client, Wiring::default()).unwrap()
}

fn watching(namespace: &Namespace, interface: &str) -> Agent {
    watching_with(namespace, interface, &[])
}

fn watching_with(namespace: &Namespace, interface: &str, arguments: &[&str]) -> Agent {
    let setup = Setup { quiet: true, arguments: arguments.iter().map(ToString::to_string).collect() };
    let mut started = Agent::spawn(agent(), namespace, &[interface], &setup).unwrap();
    started.wait_ready().unwrap();
    started
}

/// False, with the reason, on a kernel without this tracepoint: then there is nothing to test.
fn hears(agent: &Agent, tracepoint: &str) -> bool {
    let state = agent.status().unwrap()["tracepoints"][tracepoint].clone();
    if state == "attached" {
        return true;
    }
    assert!(std::env::var_os("CI").is_none() || state != "refused", "{state}");
    println!("skipped: {tracepoint}: {state}");
    false
}

/// All findings as JSON.
fn findings(agent: &Agent) -> Vec<Value> {
    let output = agent.run_cli(&["resets", "--limit", "0", "--output", "json"]).unwrap();
    assert!(output.status.success(), "{output:?}");
    output.stdout.split(|b| *b == b'\n').filter(|l| !l.is_empty()).map(|l| serde_json::from_slice(l).unwrap()).collect()
}

/// Waits for a finding of this type on a connection with this port.
fn finding(agent: &Agent, kind: &str, port: u16) -> Value {
    let found = wait::until(&format!("a finding of type {kind}"), PATIENCE, || {
        let of = |f: &Value| [&f["client"]["port"], &f["server"]["port"]].contains(&&Value::from(port));
        Ok(findings(agent).into_iter().find(|f| f["type"] == kind && of(f)))
    });
    found.unwrap_or_else(|e| panic!("{e}; there are: {:#?}\n{}", findings(agent), agent.messages()))
}

fn explained(agent: &Agent, finding: &Value) -> String {
    let id = finding["id"].to_string();
    String::from_utf8(agent.run_cli(&["explain", &id]).unwrap().stdout).unwrap()
}

fn netns_of(namespace: &Namespace) -> u64 {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(namespace.path()).unwrap().ino()
}

fn dropped<'a>(finding: &'a Value, reason: &str) -> Option<&'a Value> {
    finding["kernel"]["drops"].as_array()?.iter().find(|d| d["reason"] == reason)
}

fn pair(client: &Namespace, server: &Namespace, address: SocketAddr) -> (TcpStream, TcpStream) {
    let listener = server.run(|| TcpListener::bind(address)).unwrap().unwrap();
    let client = client.run(|| TcpStream::connect_timeout(&address, PATIENCE)).unwrap().unwrap();
    let (server, _) = listener.accept().unwrap();
    (client, server)
}

/// A number option of a TCP socket.
fn set(stream: &TcpStream, level: i32, option: i32, value: i32) {
    let bytes = std::mem::size_of::<i32>() as libc::socklen_t;
    // SAFETY: the option's value is an int that lives over the call.
    let done = unsafe { libc::setsockopt(stream.as_raw_fd(), level, option, (&raw const value).cast(), bytes) };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
}

fn linger_zero(stream: &TcpStream) {
    let value = libc::linger { l_onoff: 1, l_linger: 0 };
    let bytes = std::mem::size_of::<libc::linger>() as libc::socklen_t;
    // SAFETY: as above, with a structure.
    let done = unsafe {
        libc::setsockopt(stream.as_raw_fd(), libc::SOL_SOCKET, libc::SO_LINGER, (&raw const value).cast(), bytes)
    };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
}

/// A cgroup with a container's name; removed when dropped.
struct Cgroup(PathBuf);

impl Cgroup {
    /// None where no cgroup v2 file system is mounted writable.
    fn create(role: &str) -> Option<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let root = mounts.lines().find(|l| l.contains(" - cgroup2 "))?.split(' ').nth(4)?.to_owned();
        let own = PathBuf::from(root).join(format!("whyrst-{}-{role}", std::process::id()));
        let scope = own.join(format!("docker-{CONTAINER}.scope"));
        match fs::create_dir_all(&scope) {
            Ok(()) => Some(Self(scope)),
            Err(e) => {
                println!("without a cgroup of our own: {e}");
                None
            }
        }
    }

    fn procs(&self) -> String {
        self.0.join("cgroup.procs").display().to_string()
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // The last process may still be on its way out.
        let _ = wait::until("the cgroup to be empty", PATIENCE, || Ok(fs::remove_dir(&self.0).ok()));
        let _ = self.0.parent().map(fs::remove_dir);
    }
}

/// A process of its own in the server's namespace that holds a connection to the client and reads nothing of it.
struct Holder {
    child: Child,
    stream: TcpStream,
}

impl Holder {
    fn start(hosts: &Topology, port: u16, cgroup: Option<&Cgroup>) -> Self {
        let address = SocketAddr::new(hosts.addresses.client, port);
        let listener = hosts.client.run(|| TcpListener::bind(address)).unwrap().unwrap();
        let join = cgroup.map_or(String::new(), |c| format!("echo $$ > {} && ", c.procs()));
        let script = format!("{join}exec 3<>/dev/tcp/{}/{port} && echo connected && read line", address.ip());
        let mut command = hosts.server.command("bash").unwrap();
        command.args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "connected\n");
        stream.write_all(&[b'x'; 1000]).unwrap();
        // Acknowledged, so it is in the holder's receive queue.
        wait::until("the bytes to arrive", PATIENCE, || {
            let mut left: libc::c_int = 0;
            // SAFETY: SIOCOUTQ writes an int.
            let asked = unsafe { libc::ioctl(stream.as_raw_fd(), libc::TIOCOUTQ, &raw mut left) };
            assert_eq!(asked, 0);
            Ok((left == 0).then_some(()))
        })
        .unwrap();
        Self { child, stream }
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn assert_unread_close(hosts: &Topology, agent: &Agent, port: u16, pid: u32, cgroup: Option<&Cgroup>) {
    let found = finding(agent, "reset", port);
    let kernel = &found["kernel"];
    assert_eq!(kernel["reason"], "TCP_ABORT_ON_CLOSE", "{found:#}");
    assert_eq!(found["cause"], "close_with_unread_data");
    assert_eq!((kernel["pid"].as_u64(), &kernel["command"]), (Some(u64::from(pid)), &"bash".into()), "{found:#}");
    assert_eq!(kernel["netns"], netns_of(&hosts.server));
    let text = explained(agent, &found);
    assert!(text.contains("bash"), "{text}");
    if let Some(cgroup) = cgroup {
        assert_eq!(kernel["container"], CONTAINER, "{found:#}");
        let path = kernel["cgroup"].as_str().unwrap();
        assert!(cgroup.0.ends_with(path.trim_start_matches('/')), "{path}");
        assert!(text.contains(&CONTAINER[..12]), "{text}");
    }
    let page = agent.metrics().unwrap();
    for secret in [&CONTAINER[..12], "bash", &pid.to_string()] {
        let labels: Vec<_> = page.lines().filter(|l| l.split(' ').next().unwrap().contains(secret)).collect();
        assert_eq!(labels, Vec::<&str>::new(), "{secret} in a label");
    }
}

#[test]
fn an_unread_close_names_process_and_container() {
    if !permitted() {
        return;
    }
    let hosts = hosts(ClientStack::Kernel);
    let agent = watching(&hosts.server, "s0");
    if !hears(&agent, "tcp_send_reset") {
        return;
    }
    let cgroup = Cgroup::create("close");
    let mut holder = Holder::start(&hosts, 7200, cgroup.as_ref());
    // The shell ends when its input does, and closes the connection with everything else.
    drop(holder.child.stdin.take());
    holder.child.wait().unwrap();
    assert_unread_close(&hosts, &agent, 7200, holder.pid(), cgroup.as_ref());
}

#[test]
fn a_killed_process_is_named_and_its_container_is_known_after_its_end() {
    if !permitted() {
        return;
    }
    let hosts = hosts(ClientStack::Kernel);
    // Made before the agent, so that it has read the name by the time the process is gone.
    let cgroup = Cgroup::create("kill");
    let agent = watching(&hosts.server, "s0");
    if !hears(&agent, "tcp_send_reset") {
        return;
    }
    let mut holder = Holder::start(&hosts, 7201, cgroup.as_ref());
    holder.child.kill().unwrap();
    holder.child.wait().unwrap();
    assert_unread_close(&hosts, &agent, 7201, holder.pid(), cgroup.as_ref());
    assert!(holder.stream.read(&mut [0; 8]).is_err(), "the client saw the reset");
}

#[test]
fn a_keepalive_timer_accuses_no_process() {
    if !permitted() {
        return;
    }
    let hosts = hosts(ClientStack::Kernel);
    let agent = watching(&hosts.server, "s0");
    if !hears(&agent, "tcp_send_reset") {
        return;
    }
    let (client, server) = pair(&hosts.client, &hosts.server, hosts.server_socket(7202));
    for (option, value) in [(libc::TCP_KEEPIDLE, 1), (libc::TCP_KEEPINTVL, 1), (libc::TCP_KEEPCNT, 2)] {
        set(&server, libc::IPPROTO_TCP, option, value);
    }
    set(&server, libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1);
    hosts.router.nft(BLACKHOLE).unwrap();
    let found = finding(&agent, "reset", 7202);
    let kernel = &found["kernel"];
    assert_eq!(kernel["source"], "tcp_send_reset", "{found:#}");
    assert_eq!((&kernel["pid"], &kernel["command"]), (&Value::Null, &Value::Null), "{found:#}");
    if kernel["reason"] != "none" {
        assert_eq!(
            (&kernel["reason"], &found["cause"]),
            (&"TCP_KEEPALIVE_TIMEOUT".into(), &"keepalive_timeout".into())
        );
    }
    drop((client, server));
}

/// Three peers' faults that only the receiving stack notices.
#[test]
fn what_the_kernel_does_not_take_is_counted_by_reason() {
    if !permitted() {
        return;
    }
    let hosts = hosts(ClientStack::Raw);
    let agent = watching(&hosts.server, "s0");
    if !hears(&agent, "kfree_skb") {
        return;
    }
    let address = hosts.server_socket(7203);
    let listener = hosts.server.run(|| TcpListener::bind(address)).unwrap().unwrap();
    let local = SocketAddr::new(hosts.addresses.client, 40_003);
    let mut peer = RawPeer::open(&hosts.client, "c0", local, hosts.addresses.router_to_client).unwrap();
    peer.connect(address, SeqNum(u32::MAX - 500), PATIENCE).unwrap();
    let (server, _) = listener.accept().unwrap();
    peer.send_new(vec![b'x'; 1000]).unwrap();
    wait::until("the data", PATIENCE, || Ok((server.peek(&mut [0; 1000]).unwrap() == 1000).then_some(()))).unwrap();
    let (next, una) = (peer.snd_nxt(), peer.rcv_nxt());
    // Beyond every window, twice; then an acknowledgement of what was never sent, three times.
    let beyond = next.plus(50_000_000);
    for _ in 0..2 {
        peer.transmit(beyond, Flags::PSH_ACK, vec![b'y'; 100]).unwrap();
    }
    for _ in 0..3 {
        peer.transmit_acking(next, una.plus(5000), Flags::PSH_ACK, vec![b'z'; 10]).unwrap();
    }
    // A RST inside the window but not at its edge is challenged, not obeyed.
    peer.transmit(next.plus(100), Flags::RST_ACK, Vec::new()).unwrap();
    let ineffective = finding(&agent, "rst_ineffective", 7203);
    assert_eq!(dropped(&ineffective, "TCP_RESET").map(|d| &d["count"]), Some(&1.into()), "{ineffective:#}");
    assert_ne!(ineffective["kernel"]["source"], "tcp_receive_reset", "it was not received as a reset");

    drop(server);
    let found = finding(&agent, "reset", 7203);
    assert_eq!(found["kernel"]["source"], "tcp_send_reset", "the reset's own reason comes first: {found:#}");
    for (reason, count, seq) in [("TCP_INVALID_SEQUENCE", 2, beyond), ("TCP_ACK_UNSENT_DATA", 3, next)] {
        // Before 6.x some reasons have other names; none of these then.
        let Some(d) = dropped(&found, reason).or_else(|| dropped(&found, "TCP_INVALID_END_SEQUENCE")) else {
            panic!("no {reason}: {found:#}")
        };
        assert_eq!((d["count"].as_u64(), d["seq"].as_u64()), (Some(count), Some(seq.0.into())), "{reason}: {d:#}");
        assert_eq!(d["direction"], "client_to_server");
        assert!(d["first_ns"].as_u64() <= d["last_ns"].as_u64() && d["last_ns"].as_u64() < found["time_ns"].as_u64());
    }
    assert!(explained(&agent, &found).contains("TCP_ACK_UNSENT_DATA"));
    let status = agent.status().unwrap();
    assert!(status["kernel_words"]["drops"].as_u64() >= Some(6), "{status:#}");
    assert_eq!(status["lost"]["drop_reasons"], 0);
}

/// A listener has no remote end, so the tuple must come from the segment that it answers.
#[test]
fn a_listeners_reset_is_joined_by_its_trigger() {
    if !permitted() {
        return;
    }
    let hosts = hosts(ClientStack::Raw);
    let agent = watching(&hosts.server, "s0");
    if !hears(&agent, "tcp_send_reset") {
        return;
    }
    let address = hosts.server_socket(7204);
    let _listener = hosts.server.run(|| TcpListener::bind(address)).unwrap().unwrap();
    let local = SocketAddr::new(hosts.addresses.client, 40_004);
    let mut peer = RawPeer::open(&hosts.client, "c0", local, hosts.addresses.router_to_client).unwrap();
    peer.aim(address);
    peer.transmit_acking(SeqNum(1000), SeqNum(77_000), Flags::PSH_ACK, vec![b'x'; 100]).unwrap();
    let found = finding(&agent, "reset", 40_004);
    let kernel = &found["kernel"];
    assert_eq!((&kernel["source"], &kernel["pid"]), (&"tcp_send_reset".into(), &Value::Null), "{found:#}");
    assert_eq!(kernel["netns"], netns_of(&hosts.server));
    if kernel["reason"] != "none" {
        assert_eq!(kernel["reason"], "TCP_FLAGS", "{found:#}");
    }
    assert_eq!(found["reset"]["seq"], 77_000);
}

#[test]
fn the_packet_filters_reject_is_no_stacks_reset() {
    if !permitted() {
        return;
    }
    let hosts = hosts(ClientStack::Kernel);
    let agent = watching(&hosts.server, "s0");
    if !hears(&agent, "kfree_skb") {
        return;
    }
    hosts
        .server
        .nft(
            "table ip whyrst {\n chain i {\n type filter hook input priority 0;\n \
             tcp dport 7205 tcp flags & psh == psh reject with tcp reset\n }\n}\n",
        )
        .unwrap();
    let (mut client, server) = pair(&hosts.client, &hosts.server, hosts.server_socket(7205));
    client.write_all(b"let me in").unwrap();
    let found = finding(&agent, "reset", 7205);
    let drops = dropped(&found, "NETFILTER_DROP").unwrap_or_else(|| panic!("{found:#}"));
    assert_eq!((&drops["count"], &drops["direction"]), (&1.into(), &"client_to_server".into()));
    assert_eq!(
        (&found["kernel"]["source"], &found["kernel"]["reason"]),
        (&"kfree_skb".into(), &"NETFILTER_DROP".into())
    );
    assert_eq!(found["kernel"]["pid"], Value::Null);
    drop((client, server));
}

#[test]
fn a_silent_death_is_reported_when_the_socket_gives_up() {
    if !permitted() {
        return;
    }
    let hosts = hosts(ClientStack::Kernel);
    let agent = watching(&hosts.server, "s0");
    if !hears(&agent, "inet_sk_error_report") {
        return;
    }
    let (mut client, mut server) = pair(&hosts.client, &hosts.server, hosts.server_socket(7206));
    client.write_all(b"hello").unwrap();
    server.read_exact(&mut [0; 5]).unwrap();
    server.write_all(b"hello").unwrap();
    client.read_exact(&mut [0; 5]).unwrap();
    set(&server, libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT, 1500);
    hosts.router.nft(BLACKHOLE).unwrap();
    server.write_all(b"anybody there?").unwrap();
    let found = finding(&agent, "degraded", 7206);
    assert_eq!(found["mechanism"], "timeout_no_rst", "{found:#}");
    assert_eq!(found["kernel"]["source"], "inet_sk_error_report");
    assert_eq!(found["kernel"]["reason"], "ETIMEDOUT");
    assert_eq!(found["kernel"]["netns"], netns_of(&hosts.server));
    assert!(explained(&agent, &found).contains("ETIMEDOUT"));

    // The answer to a late packet is the corpse; what killed the connection stays known.
    hosts.router.nft("flush ruleset").unwrap();
    client.write_all(b"still here").unwrap();
    let corpse = finding(&agent, "reset", 7206);
    let words = corpse["evidence"].to_string();
    assert!(words.contains("ETIMEDOUT"), "{corpse:#}");
    assert_eq!(corpse["id"], found["id"], "one story, not two");
}

/// Two hosts with one cable; every pair of the test has the same addresses.
fn cabled() -> (Namespace, Namespace) {
    let (client, server) = (Namespace::create("client").unwrap(), Namespace::create("server").unwrap());
    client.veth("c0", &server, "s0").unwrap();
    client.address("c0", IpAddr::from([10, 71, 9, 1])).unwrap();
    server.address("s0", IpAddr::from([10, 71, 9, 2])).unwrap();
    (client, server)
}

/// A connection from a port of choice, so that two of them are the same to the last digit.
fn from_port(client: &Namespace, port: u16, to: SocketAddr) -> TcpStream {
    let make = || {
        // SAFETY: a socket of its own.
        let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) };
        assert!(fd >= 0);
        // SAFETY: nobody else has this descriptor.
        let stream = unsafe { <TcpStream as std::os::fd::FromRawFd>::from_raw_fd(fd) };
        set(&stream, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1);
        let ours = |port: u16, addr: u32| libc::sockaddr_in {
            sin_family: libc::AF_INET as libc::sa_family_t,
            sin_port: port.to_be(),
            sin_addr: libc::in_addr { s_addr: addr.to_be() },
            sin_zero: [0; 8],
        };
        let SocketAddr::V4(to) = to else { unreachable!("the test's addresses are IPv4") };
        let len = std::mem::size_of::<libc::sockaddr_in>() as libc::socklen_t;
        let (from, to) = (ours(port, 0), ours(to.port(), u32::from(*to.ip())));
        // SAFETY: addresses of the stated length that live over the calls.
        unsafe {
            assert_eq!(libc::bind(fd, (&raw const from).cast(), len), 0);
            assert_eq!(libc::connect(fd, (&raw const to).cast(), len), 0, "{}", std::io::Error::last_os_error());
        }
        stream
    };
    client.run(make).unwrap()
}

#[test]
fn the_same_tuple_in_another_namespace_is_another_connection() {
    if !permitted() {
        return;
    }
    let ((client, server), (other_client, other_server)) = (cabled(), cabled());
    let agent = watching(&server, "s0");
    if !hears(&agent, "tcp_send_reset") {
        return;
    }
    let address = SocketAddr::from(([10, 71, 9, 2], 7207));
    let connected = |client: &Namespace, server: &Namespace| {
        let listener = server.run(|| TcpListener::bind(address)).unwrap().unwrap();
        let client = from_port(client, 45_007, address);
        (client, listener.accept().unwrap().0)
    };
    let (here, there) = (connected(&client, &server), connected(&other_client, &other_server));
    // There: unread data. Here, within the time that joins: a plain abort.
    (&there.0).write_all(&[b'x'; 1000]).unwrap();
    wait::until("the data", PATIENCE, || Ok((there.1.peek(&mut [0; 1000]).unwrap() == 1000).then_some(()))).unwrap();
    linger_zero(&here.1);
    drop(there.1);
    drop(here.1);
    let found = finding(&agent, "reset", 7207);
    let kernel = &found["kernel"];
    assert_eq!(kernel["netns"], netns_of(&server), "{found:#}");
    if kernel["reason"] != "none" {
        assert_eq!(kernel["reason"], "TCP_STATE", "{found:#}");
    }
    let words = found["evidence"].to_string();
    assert!(!words.contains("TCP_ABORT_ON_CLOSE"), "{words}");
    // The socket's own error report after its disconnect has no remote end, and is no part of the story.
    assert!(!words.contains("inet_sk_error_report"), "{words}");
    let status = agent.status().unwrap();
    assert!(status["kernel_words"]["elsewhere"].as_u64() >= Some(1), "{status:#}");
    assert_eq!(findings(&agent).len(), 1);
    drop((here.0, there.0));
}

/// A router whose hosts are containers of its own, so to speak.
#[test]
fn sockets_of_other_namespaces_are_believed_where_that_is_asked_for() {
    if !permitted() {
        return;
    }
    let hosts = hosts(ClientStack::Kernel);
    for (arguments, port) in [(&[][..], 7208), (&["--all-namespaces"][..], 7209)] {
        let agent = watching_with(&hosts.router, "rs", arguments);
        if !hears(&agent, "tcp_send_reset") {
            return;
        }
        let holder = Holder::start(&hosts, port, None);
        drop(holder);
        let found = finding(&agent, "reset", port);
        let kernel = &found["kernel"];
        if arguments.is_empty() {
            assert_eq!(*kernel, Value::Null, "{found:#}");
        } else {
            assert_eq!(
                (&kernel["source"], &kernel["command"]),
                (&"tcp_send_reset".into(), &"bash".into()),
                "{found:#}"
            );
            assert_eq!(kernel["netns"], netns_of(&hosts.server));
        }
        assert!(agent.stop().unwrap().success());
    }
}

#[test]
fn doctor_tells_of_drops_and_cgroups() {
    if !permitted() {
        return;
    }
    let output = Command::new(agent()).args(["doctor", "--output", "json"]).output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let check = |name: &str| report["checks"].as_array().unwrap().iter().find(|c| c["name"] == name).unwrap().clone();
    let tracepoints = check("tracepoints");
    if check("drop reasons")["state"] == "ok" {
        assert!(tracepoints["found"].as_str().unwrap().contains("kfree_skb"), "{tracepoints:#}");
    }
    assert!(["ok", "limited"].contains(&check("cgroups")["state"].as_str().unwrap()));
    cleanup::settle();
}
