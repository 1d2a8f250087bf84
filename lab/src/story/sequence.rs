//! A bulk transfer in which the sender loses its place in its own sequence (the symptom of
//! Microsoft Q189080): it skips bytes that it never sends and goes on. The receiver can only repeat
//! its acknowledgement of the last byte before the hole and report the rest as SACK blocks. Seconds
//! later the sender gives up with a RST.
//!
//! The sender is a [`RawPeer`] behind the router; the receiver is the kernel's own stack with an
//! application that reads everything.

use std::io::{self, Read};
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use super::{App, Ending, Narrator, Outcome, PATIENCE, Story, any_address, expect_reset, relative};
use crate::LabError;
use crate::error::During;
use crate::frame::{Flags, Segment};
use crate::raw::RawPeer;
use crate::seq::SeqNum;
use crate::topology::{ClientStack, Point, Topology};
use crate::wait;

const SERVER_PORT: u16 = 9000;
const CLIENT_PORT: u16 = 40001;
/// Segments before the hole: about 420 kB.
const SEGMENTS_BEFORE_HOLE: u32 = 290;
/// Bytes that are never sent. Not a multiple of any segment size: no lost segments look like this.
pub(crate) const HOLE_BYTES: u32 = 3000;
/// A fixed congestion window; veth loses nothing, so nothing more clever is needed.
const MAX_IN_FLIGHT_SEGMENTS: u32 = 16;
/// Segments sent right behind the hole, before the sender notices that nothing is acknowledged.
const SEGMENTS_BEHIND_HOLE: u32 = 12;
/// How long nothing is acknowledged before the sender gives up.
const STALL: Duration = Duration::from_millis(4500);
/// Between two attempts of the stuck sender.
const ATTEMPT: Duration = Duration::from_millis(400);
const RTO: Duration = Duration::from_millis(300);

#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Initial sequence number of the faulty sender.
    pub iss: SeqNum,
}

impl Default for Options {
    fn default() -> Self {
        Self { iss: SeqNum(1_890_800_000) }
    }
}

impl Options {
    /// The sequence space wraps from 2^32-1 to 0 in the middle of the hole.
    pub fn wrap_inside_hole(ipv6: bool) -> Self {
        let until_hole = 1 + SEGMENTS_BEFORE_HOLE * payload_len(ipv6);
        Self { iss: SeqNum(0).minus(until_hole + HOLE_BYTES / 2) }
    }

    /// It wraps shortly before the hole.
    pub fn wrap_before_hole() -> Self {
        Self { iss: SeqNum(0).minus(100_000) }
    }
}

/// Data bytes of one segment: 1500 minus IP and TCP headers and timestamps.
fn payload_len(ipv6: bool) -> u32 {
    if ipv6 { 1428 } else { 1448 }
}

/// The exact numbers of one performance. The hole is `hole_start..hole_end`.
#[derive(Clone, Debug)]
pub struct Facts {
    pub client: SocketAddr,
    pub server: SocketAddr,
    pub iss: SeqNum,
    pub hole_start: SeqNum,
    pub hole_end: SeqNum,
    /// Acknowledgements that repeated `hole_start` with SACK blocks.
    pub duplicate_acks: u32,
    /// Segments above the hole that were sent again; those inside it: none.
    pub retransmissions_above_hole: u32,
    pub retransmissions_before_hole: u32,
    pub stalled_for: Duration,
    /// Equals the right edge of the SACK block, which is why the receiver accepts it.
    pub rst_seq: SeqNum,
    pub rst_ack: SeqNum,
    /// What the server's application read before ECONNRESET.
    pub bytes_read: u64,
}

pub struct Sequence {
    topology: Topology,
    options: super::Options,
}

pub fn prepare(options: &super::Options) -> Result<Sequence, LabError> {
    Ok(Sequence { topology: Topology::create(ClientStack::Raw, options.wiring())?, options: *options })
}

impl Story for Sequence {
    fn topology(&self) -> &Topology {
        &self.topology
    }

    fn agent_points(&self) -> &'static [Point] {
        &[Point::Server]
    }

    fn capture_points(&self) -> &'static [Point] {
        &[Point::Client, Point::Server]
    }

    fn tell(&self, narrator: &mut Narrator) -> Result<Outcome, LabError> {
        let topology = &self.topology;
        let iss = self.options.sequence.iss;
        let client = SocketAddr::new(topology.addresses.client, CLIENT_PORT);
        let server = topology.server_socket(SERVER_PORT);

        let address = SocketAddr::new(any_address(self.options.ipv6), SERVER_PORT);
        let listener =
            topology.server.run(|| TcpListener::bind(address))?.during(format!("listen on port {SERVER_PORT}"))?;
        let sink = App::start("the server's application", move || read_all(&listener));

        let mut peer =
            RawPeer::open(&topology.client, Point::Client.interface(), client, topology.addresses.router_to_client)?;
        narrator
            .step(format!("the client {client} connects to {server} and offers SACK, timestamps and window scaling"));
        peer.connect(server, iss, PATIENCE)?;
        narrator.step(format!("connected; the client starts a bulk transfer (its initial sequence number is {iss})"));

        let mut sender = Sender::new(peer, iss);
        sender.send_until_hole()?;
        let Sender { hole_start, hole_end, .. } = sender;
        narrator.step(format!(
            "after {} bytes the client loses its place: it skips {HOLE_BYTES} bytes, sequence numbers {hole_start} to {}, and goes on at {hole_end}",
            relative(hole_start, iss) - 1,
            hole_end.minus(1),
        ));
        sender.peer.skip(HOLE_BYTES);
        sender.send_behind_hole()?;
        narrator.step(format!(
            "the server has everything before the hole and cannot go on: it repeats acknowledgement {hole_start}, and reports what lies behind it with SACK"
        ));
        let stalled_for = sender.stay_stuck()?;
        narrator.step(format!(
            "for {:.1} s nothing was acknowledged: {} duplicate acknowledgements, {} segments behind the hole sent again, the hole itself never",
            stalled_for.as_secs_f64(),
            sender.duplicate_acks,
            sender.retransmissions_above_hole,
        ));
        if let Some((_, error)) = sink.finished() {
            return Err(LabError::Plot(format!("the connection ended before the RST: {error}")));
        }
        let rst_seq = sender.peer.snd_nxt();
        let rst_ack = sender.peer.rcv_nxt();
        sender.peer.abort()?;
        narrator.step(format!("the client gives up and sends RST, sequence number {rst_seq}: exactly where the SACK block ends, so the server must accept it"));

        let (bytes_read, error) = sink.finish(PATIENCE)?;
        let server_saw = expect_reset("the server's application", &error)?;
        wait::until("the server's socket to vanish", PATIENCE, || {
            Ok((topology.server.connected_sockets(SERVER_PORT)? == 0).then_some(()))
        })?;
        narrator.step(format!(
            "the server's application gets \"{error}\" after reading {bytes_read} bytes; its socket is gone"
        ));
        let expected = u64::from(relative(hole_start, iss) - 1);
        if bytes_read != expected {
            return Err(LabError::Plot(format!(
                "the server read {bytes_read} bytes, not the {expected} before the hole"
            )));
        }

        Ok(Outcome {
            steps: narrator.take_steps(),
            client_saw: Ending::OwnDoing,
            server_saw,
            facts: super::Facts::Sequence(Facts {
                client,
                server,
                iss,
                hole_start,
                hole_end,
                duplicate_acks: sender.duplicate_acks,
                retransmissions_above_hole: sender.retransmissions_above_hole,
                retransmissions_before_hole: sender.retransmissions_before_hole,
                stalled_for,
                rst_seq,
                rst_ack,
                bytes_read,
            }),
        })
    }
}

/// Accepts one connection and reads it to its end: how much came, and what ended it.
pub(crate) fn read_all(listener: &TcpListener) -> (u64, io::Error) {
    let mut total = 0;
    let error = (|| {
        let (mut stream, _) = listener.accept()?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut buffer = vec![0; 65536];
        loop {
            match stream.read(&mut buffer)? {
                0 => return Err::<(), _>(io::ErrorKind::UnexpectedEof.into()),
                count => total += count as u64,
            }
        }
    })();
    (total, error.expect_err("the loop above ends only with an error"))
}

/// A sender with a fixed congestion window that skips [`HOLE_BYTES`] once.
pub(crate) struct Sender {
    pub(crate) peer: RawPeer,
    segment_len: u32,
    iss: SeqNum,
    pub(crate) hole_start: SeqNum,
    pub(crate) hole_end: SeqNum,
    pub(crate) duplicate_acks: u32,
    retransmissions_before_hole: u32,
    pub(crate) retransmissions_above_hole: u32,
    last_ack: Option<Segment>,
}

impl Sender {
    pub(crate) fn new(peer: RawPeer, iss: SeqNum) -> Self {
        let segment_len = peer.payload_len();
        let hole_start = iss.plus(1 + SEGMENTS_BEFORE_HOLE * segment_len);
        Self {
            peer,
            segment_len,
            iss,
            hole_start,
            hole_end: hole_start.plus(HOLE_BYTES),
            duplicate_acks: 0,
            retransmissions_before_hole: 0,
            retransmissions_above_hole: 0,
            last_ack: None,
        }
    }

    fn in_flight(&self) -> u32 {
        self.peer.snd_nxt().0.wrapping_sub(self.peer.snd_una().0)
    }

    /// A pattern that depends on the sequence number, so that repeated bytes repeat exactly.
    fn payload(&self, seq: SeqNum) -> Vec<u8> {
        let first = relative(seq, self.iss);
        (0..self.segment_len).map(|n| b'a' + (first.wrapping_add(n) % 23) as u8).collect()
    }

    fn may_send(&self) -> bool {
        self.peer.usable_window() >= self.segment_len
    }

    fn send_new(&mut self) -> Result<(), LabError> {
        let payload = self.payload(self.peer.snd_nxt());
        self.peer.send_new(payload)
    }

    pub(crate) fn send_until_hole(&mut self) -> Result<(), LabError> {
        let started = Instant::now();
        while self.peer.snd_nxt() != self.hole_start {
            if started.elapsed() > PATIENCE {
                return Err(self.too_slow(started));
            }
            if self.may_send() && self.in_flight() < MAX_IN_FLIGHT_SEGMENTS * self.segment_len {
                self.send_new()?;
                // Acknowledgements that have come meanwhile, so that the window is the latest.
                self.take_acks(Duration::ZERO)?;
            } else if !self.take_acks(RTO)? {
                self.retransmit_before_hole()?;
            }
        }
        Ok(())
    }

    /// New segments behind the hole, until there are enough and all before it is acknowledged.
    pub(crate) fn send_behind_hole(&mut self) -> Result<(), LabError> {
        let started = Instant::now();
        let enough = self.hole_end.plus(SEGMENTS_BEHIND_HOLE * self.segment_len);
        while self.peer.snd_nxt() != enough || self.peer.snd_una() != self.hole_start {
            if started.elapsed() > PATIENCE {
                return Err(self.too_slow(started));
            }
            if self.peer.snd_nxt() != enough && self.may_send() {
                self.send_new()?;
                self.take_acks(Duration::ZERO)?;
            } else if !self.take_acks(RTO)? && self.peer.snd_una() != self.hole_start {
                self.retransmit_before_hole()?;
            }
        }
        Ok(())
    }

    /// What a stack does that believes it has sent everything: now and then it repeats one of the
    /// segments that it remembers, and adds a new one. It does not insist on the first segment
    /// behind the hole: a sender that does looks as if a device had shifted all its numbers.
    pub(crate) fn stay_stuck(&mut self) -> Result<Duration, LabError> {
        let started = Instant::now();
        let mut again = self.hole_end.plus(self.segment_len);
        while started.elapsed() < STALL {
            let waiting = Instant::now();
            while waiting.elapsed() < ATTEMPT {
                self.take_acks(ATTEMPT.saturating_sub(waiting.elapsed()))?;
            }
            let payload = self.payload(again);
            self.peer.transmit(again, Flags::ACK, payload)?;
            self.retransmissions_above_hole += 1;
            again = again.plus(self.segment_len);
            if self.may_send() {
                self.send_new()?;
            }
            if self.peer.snd_una() != self.hole_start {
                return Err(LabError::Plot(format!(
                    "the server acknowledged {}, past the hole at {}",
                    self.peer.snd_una(),
                    self.hole_start
                )));
            }
        }
        self.wait_for_right_edge()?;
        Ok(started.elapsed())
    }

    /// Linux accepts a RST at RCV.NXT (RFC 5961 3.2) or at the rightmost SACK edge, and nowhere
    /// else; SND.NXT of this sender must be that edge.
    fn wait_for_right_edge(&mut self) -> Result<(), LabError> {
        let right = self.peer.snd_nxt();
        let started = Instant::now();
        while !self.sack_reaches(right) {
            if started.elapsed() > PATIENCE {
                return Err(LabError::Plot(format!("no SACK block ends at {right}")));
            }
            self.take_acks(RTO)?;
        }
        Ok(())
    }

    fn sack_reaches(&self, right: SeqNum) -> bool {
        let blocks = self.last_ack.iter().flat_map(|ack| &ack.options.sack);
        blocks.into_iter().any(|&(_, edge)| edge == right)
    }

    fn retransmit_before_hole(&mut self) -> Result<(), LabError> {
        let seq = self.peer.snd_una();
        // Segments are sent whole, but nothing obliges the receiver to acknowledge whole ones.
        let left = relative(self.hole_start, seq).min(self.segment_len);
        let mut payload = self.payload(seq);
        payload.truncate(left as usize);
        self.retransmissions_before_hole += 1;
        self.peer.transmit(seq, Flags::ACK, payload)
    }

    /// Waits for one segment and takes all others that are there already. False if none came.
    fn take_acks(&mut self, wait: Duration) -> Result<bool, LabError> {
        let mut wait = wait;
        let mut any = false;
        while let Some(segment) = self.peer.receive(wait)? {
            if segment.flags.rst {
                return Err(LabError::Plot("the server sent a RST by itself".into()));
            }
            if segment.ack == self.hole_start && !segment.options.sack.is_empty() {
                self.duplicate_acks += 1;
            }
            self.last_ack = Some(segment);
            any = true;
            wait = Duration::ZERO;
        }
        Ok(any)
    }

    fn too_slow(&self, started: Instant) -> LabError {
        LabError::Timeout { what: format!("the transfer to pass {}", self.peer.snd_una()), waited: started.elapsed() }
    }
}
