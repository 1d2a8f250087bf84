//! Connections between real stacks, and what an agent says of them.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use whyrst_lab::netns::Namespace;
use whyrst_lab::offload;

pub const PATIENCE: Duration = Duration::from_secs(20);

pub fn connected_to(client: &Namespace, server: &Namespace, address: SocketAddr) -> (TcpStream, TcpStream) {
    let listener = server.run(|| TcpListener::bind(address)).unwrap().unwrap();
    let client = client.run(|| TcpStream::connect_timeout(&address, PATIENCE)).unwrap().unwrap();
    let (server, _) = listener.accept().unwrap();
    for stream in [&client, &server] {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
    }
    (client, server)
}

pub fn send(mut stream: &TcpStream, bytes: usize) {
    let piece = [b'x'; 16384];
    let mut left = bytes;
    while left > 0 {
        let len = left.min(piece.len());
        stream.write_all(&piece[..len]).unwrap();
        left -= len;
    }
}

pub fn receive(mut stream: &TcpStream, bytes: usize) {
    let mut buffer = vec![0; 65536];
    let mut left = bytes;
    while left > 0 {
        let read = stream.read(&mut buffer).unwrap();
        assert!(read > 0, "the other end closed {left} bytes too early");
        left -= read;
    }
}

/// Closes in order: both ends have read everything, the client first.
pub fn close(client: TcpStream, server: TcpStream) {
    client.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!((&server).read(&mut [0; 1]).unwrap(), 0);
    drop(server);
    assert_eq!((&client).read(&mut [0; 1]).unwrap(), 0);
}

pub fn pinned<T>(cpu: usize, work: impl FnOnce() -> T) -> T {
    let mut set = CpuSet::new();
    set.set(cpu).unwrap();
    sched_setaffinity(Pid::from_raw(0), &set).unwrap();
    work()
}

/// Two hosts with one queue between them, so that nothing is reordered on the way.
pub fn neighbours() -> (Namespace, Namespace) {
    let (client, server) = (Namespace::create("client").unwrap(), Namespace::create("server").unwrap());
    let queue = ["numrxqueues", "1", "numtxqueues", "1"];
    let ends = [&["link", "add", "c0"][..], &queue, &["type", "veth", "peer", "s0"], &queue, &["netns", server.name()]];
    client.ip(&ends.concat()).unwrap();
    for (namespace, interface, last) in [(&client, "c0", 1), (&server, "s0", 2)] {
        namespace.address(interface, IpAddr::from([10, 71, 9, last])).unwrap();
        namespace.ip(&["link", "set", interface, "up"]).unwrap();
        offload::set(namespace, interface, true).unwrap();
    }
    (client, server)
}

/// The value of a series, by its whole name with labels; 0 if it is not there.
pub fn metric(page: &str, series: &str) -> f64 {
    let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.map_or(0.0, |value| value.parse().unwrap())
}

pub fn traffic(status: &serde_json::Value, field: &str) -> u64 {
    status["traffic"][field].as_u64().expect("a number of the contract")
}
