//! Frames, and connections made of them: servers are local, clients come in.

use monitor::capture::bed::Bed;
use monitor::capture::player::{Client, Kind, Script, client_of};
use monitor_common::flow::{FlowKey, v4};
use std::net::Ipv4Addr;

pub const FIN: u8 = 0x01;
pub const SYN: u8 = 0x02;
pub const RST: u8 = 0x04;
pub const PSH: u8 = 0x08;
pub const ACK: u8 = 0x10;

pub const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// First sequence numbers of clients and servers.
pub const CLIENT_ISS: u32 = 1_000;
pub const SERVER_ISS: u32 = 5_000;

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    Client,
    Server,
}

impl From {
    pub fn kind(self) -> Kind {
        match self {
            From::Client => Kind::Xdp,
            From::Server => Kind::Classifier,
        }
    }

    pub fn varies(self) -> Client {
        match self {
            From::Client => Client::Source,
            From::Server => Client::Destination,
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Segment {
    pub from: From,
    pub port: u16,
    pub flags: u8,
    pub seq: u32,
    pub ack: u32,
    /// Above 1460 by the IP header's word only: what an ingress hook sees of a larger one are its headers.
    pub payload: u16,
    /// Options, whole words.
    pub options: &'static [u8],
}

impl Segment {
    pub fn new(from: From, port: u16, flags: u8, seq: u32, ack: u32) -> Segment {
        Segment { from, port, flags, seq, ack, payload: 0, options: &[] }
    }

    /// Ethernet, IPv4, TCP, with a client of its own.
    pub fn frame(&self, client: (Ipv4Addr, u16)) -> Vec<u8> {
        let server = (SERVER, self.port);
        let (source, destination) = match self.from {
            From::Client => (client, server),
            From::Server => (server, client),
        };
        let header = 20 + self.options.len();
        let total = (20 + header + self.payload as usize) as u16;
        let mut f = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0];
        f.extend(total.to_be_bytes());
        f.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
        f.extend(source.0.octets());
        f.extend(destination.0.octets());
        f.extend(source.1.to_be_bytes());
        f.extend(destination.1.to_be_bytes());
        f.extend(self.seq.to_be_bytes());
        f.extend(self.ack.to_be_bytes());
        // As Linux has it: 64,240 bytes in the SYN, then scaled by 7.
        let window: u16 = if self.flags & SYN != 0 { 64_240 } else { 502 };
        f.extend([(header as u8 / 4) << 4, self.flags]);
        f.extend(window.to_be_bytes());
        f.extend([0, 0, 0, 0]);
        f.extend(self.options);
        if self.payload <= 1460 {
            f.resize(f.len() + self.payload as usize, 0);
        }
        f
    }
}

/// The three segments of a handshake with a scale of 7 both ways.
pub fn handshake(port: u16) -> [Segment; 3] {
    const OPTIONS: &[u8] = &[2, 4, 5, 0xb4, 1, 3, 3, 7];
    [
        Segment { options: OPTIONS, ..Segment::new(From::Client, port, SYN, CLIENT_ISS, 0) },
        Segment { options: OPTIONS, ..Segment::new(From::Server, port, SYN | ACK, SERVER_ISS, CLIENT_ISS + 1) },
        Segment::new(From::Client, port, ACK, CLIENT_ISS + 1, SERVER_ISS + 1),
    ]
}

/// Plays `segment` for the clients `from..from + count`; returns nanoseconds per packet.
pub fn play(bed: &mut Bed, segment: &Segment, from: u64, count: u32) -> u32 {
    let script = Script { client: Some(segment.from.varies()), ..Script::default() };
    let player = bed.player(segment.from.kind(), script).unwrap_or_else(|e| panic!("{e}"));
    player.play(&segment.frame(client_of(from)), from, count).unwrap_or_else(|e| panic!("{segment:?}: {e}"))
}

/// Opens the connections of the clients `from..from + count`, some at a time: what is half open may be evicted.
pub fn establish(bed: &mut Bed, port: u16, from: u64, count: u32) {
    const AT_A_TIME: u32 = 5_000;
    let players: Vec<_> = handshake(port)
        .into_iter()
        .map(|s| {
            let script = Script { client: Some(s.from.varies()), ..Script::default() };
            (bed.player(s.from.kind(), script).unwrap_or_else(|e| panic!("{e}")), s.frame(client_of(from)))
        })
        .collect();
    let mut done = 0;
    while done < count {
        let some = AT_A_TIME.min(count - done);
        for (player, frame) in &players {
            player.play(frame, from + done as u64, some).unwrap_or_else(|e| panic!("{e}"));
            let now = bed.time().unwrap();
            bed.set_time(now + 100_000).unwrap();
        }
        done += some;
    }
}

pub fn key(client: (Ipv4Addr, u16), port: u16) -> FlowKey {
    FlowKey::canonical(v4(client.0.to_bits()), client.1, v4(SERVER.to_bits()), port).0
}
