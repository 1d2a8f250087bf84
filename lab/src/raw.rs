//! A TCP peer in user space, for the faults that no real stack can be talked into.
//!
//! It lives on an interface without an IP address, so the kernel beneath stays silent: no RST for
//! segments it has no socket for, no ARP replies. The peer does its own handshake, keeps the
//! variables of RFC 9293 3.3.1, and sends exactly what it is told; what to send is the story's
//! business.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::error::LabError;
use crate::frame::{Flags, Options, Segment};
use crate::neighbour;
use crate::netns::Namespace;
use crate::packet_socket::{MAX_FRAME, PacketSocket};
use crate::seq::SeqNum;

/// Offered in our SYN, and kept to by our segments: 1500 minus IPv4 and TCP headers.
const MSS: u16 = 1460;
const MSS_IPV6: u16 = 1440;
/// Bytes of the timestamps option with its padding, in every segment after the SYN.
const TIMESTAMPS_LEN: u16 = 12;
const WSCALE: u8 = 7;
/// Raw window after the handshake: 502 << 7 is about 64 kB.
const WINDOW: u16 = 502;
const SYN_WINDOW: u16 = 64240;
const TTL: u8 = 64;
const RETRY: Duration = Duration::from_millis(300);

/// How a peer presents itself, and what it offers from then on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Manner {
    pub wscale: Option<u8>,
    pub sack: bool,
    pub timestamps: bool,
    /// Of the SYN, and of everything after it, as on the wire.
    pub syn_window: u16,
    pub window: u16,
}

impl Default for Manner {
    fn default() -> Self {
        Self { wscale: Some(WSCALE), sack: true, timestamps: true, syn_window: SYN_WINDOW, window: WINDOW }
    }
}

impl Manner {
    /// No options but the segment size: what was common before RFC 1323.
    pub const OLD: Self =
        Self { wscale: None, sack: false, timestamps: false, syn_window: SYN_WINDOW, window: SYN_WINDOW };
}

pub struct RawPeer {
    /// May be changed at any time; offers of the SYN are made once.
    pub manner: Manner,
    /// Added to the clock of the timestamps.
    pub clock_offset: u32,
    socket: PacketSocket,
    buffer: Vec<u8>,
    local: SocketAddr,
    remote: SocketAddr,
    gateway: IpAddr,
    gateway_mac: [u8; 6],
    started: Instant,
    ip_id: u16,
    ts_recent: u32,
    rcv_nxt: SeqNum,
    snd_una: SeqNum,
    snd_nxt: SeqNum,
    snd_wnd: u32,
    snd_wscale: u8,
}

impl RawPeer {
    /// A peer with address `local` behind `interface`, which must have no address of its own.
    /// `gateway` is the next hop towards every `remote`.
    pub fn open(namespace: &Namespace, interface: &str, local: SocketAddr, gateway: IpAddr) -> Result<Self, LabError> {
        let mut peer = Self {
            manner: Manner::default(),
            clock_offset: 0,
            socket: PacketSocket::open(namespace, interface)?,
            buffer: vec![0; MAX_FRAME],
            local,
            remote: local,
            gateway,
            gateway_mac: [0; 6],
            started: Instant::now(),
            ip_id: 0x4000,
            ts_recent: 0,
            rcv_nxt: SeqNum(0),
            snd_una: SeqNum(0),
            snd_nxt: SeqNum(0),
            snd_wnd: 0,
            snd_wscale: 0,
        };
        peer.resolve_gateway()?;
        Ok(peer)
    }

    fn resolve_gateway(&mut self) -> Result<(), LabError> {
        const LIMIT: Duration = Duration::from_secs(5);
        let mac = self.socket.mac();
        while self.started.elapsed() < LIMIT {
            self.socket.send(&neighbour::request(mac, self.local.ip(), self.gateway))?;
            let asked = Instant::now();
            while asked.elapsed() < RETRY {
                let Some(received) = self.socket.receive(&mut self.buffer, RETRY)? else {
                    break;
                };
                if let Some(found) = neighbour::resolved(&self.buffer[..received.len], self.gateway) {
                    self.gateway_mac = found;
                    return Ok(());
                }
            }
        }
        Err(LabError::Timeout {
            what: format!("the hardware address of {}", self.gateway),
            waited: self.started.elapsed(),
        })
    }

    /// Opens a connection; fails if the server does not agree to whatever we offered of SACK,
    /// timestamps and window scaling.
    pub fn connect(&mut self, remote: SocketAddr, iss: SeqNum, limit: Duration) -> Result<(), LabError> {
        self.remote = remote;
        self.snd_una = iss;
        self.snd_nxt = iss.plus(1);
        let started = Instant::now();
        while started.elapsed() < limit {
            self.transmit(iss, Flags::SYN, Vec::new())?;
            let Some(reply) = self.receive(RETRY)? else {
                continue;
            };
            if reply.flags.rst {
                return Err(LabError::Plot(format!("{remote} refused the connection")));
            }
            if !(reply.flags.syn && reply.flags.ack && reply.ack == self.snd_nxt) {
                continue;
            }
            let offered = &reply.options;
            let agreed = (offered.sack_permitted, offered.timestamps.is_some(), offered.wscale.is_some());
            if agreed != (self.manner.sack, self.manner.timestamps, self.manner.wscale.is_some()) {
                return Err(LabError::Plot(format!(
                    "{remote} did not agree to SACK, timestamps and window scaling as offered: {offered:?}"
                )));
            }
            self.snd_wscale = offered.wscale.unwrap_or(0);
            self.rcv_nxt = reply.end();
            return self.transmit(self.snd_nxt, Flags::ACK, Vec::new());
        }
        Err(LabError::Timeout { what: format!("a SYN-ACK from {remote}"), waited: started.elapsed() })
    }

    /// Waits for a SYN to our address and takes its sender as the remote end. Answering is the
    /// caller's business.
    pub fn wait_for_syn(&mut self, limit: Duration) -> Result<Segment, LabError> {
        let deadline = Instant::now() + limit;
        while let Some(segment) = self.next(deadline, false)? {
            if segment.flags.syn && !segment.flags.ack {
                self.remote = segment.source;
                self.rcv_nxt = segment.end();
                self.ts_recent = segment.options.timestamps.map_or(0, |(value, _)| value);
                return Ok(segment);
            }
        }
        Err(LabError::Timeout { what: format!("a SYN to {}", self.local), waited: limit })
    }

    /// The passive side of a handshake.
    pub fn accept(&mut self, iss: SeqNum, limit: Duration) -> Result<(), LabError> {
        let syn = self.wait_for_syn(limit)?;
        self.begin(iss);
        self.transmit(iss, Flags::SYN_ACK, Vec::new())?;
        let started = Instant::now();
        while started.elapsed() < limit {
            match self.receive(RETRY)? {
                Some(reply) if reply.flags.ack && !reply.flags.syn && reply.ack == self.snd_nxt => {
                    // What scaling allows, both must have offered.
                    self.snd_wscale = syn.options.wscale.filter(|_| self.manner.wscale.is_some()).unwrap_or(0);
                    self.learn(&reply);
                    return Ok(());
                }
                Some(_) => {}
                None => self.transmit(iss, Flags::SYN_ACK, Vec::new())?,
            }
        }
        Err(LabError::Timeout { what: format!("the handshake with {} to end", self.remote), waited: limit })
    }

    /// Chooses the remote end; [`Self::connect`] does so itself.
    pub fn aim(&mut self, remote: SocketAddr) {
        self.remote = remote;
    }

    /// Chooses our initial sequence number.
    pub fn begin(&mut self, iss: SeqNum) {
        self.snd_una = iss;
        self.snd_nxt = iss.plus(1);
    }

    /// Sends one segment, anywhere in the sequence space. SND.NXT moves only through [`Self::skip`]
    /// and [`Self::send_new`].
    pub fn transmit(&mut self, seq: SeqNum, flags: Flags, payload: Vec<u8>) -> Result<(), LabError> {
        self.emit(seq, flags, payload, |_| {})
    }

    /// As [`Self::transmit`], with an acknowledgement of choice.
    pub fn transmit_acking(
        &mut self,
        seq: SeqNum,
        ack: SeqNum,
        flags: Flags,
        payload: Vec<u8>,
    ) -> Result<(), LabError> {
        self.emit(seq, flags, payload, |segment| segment.ack = ack)
    }

    /// The same with anything else about the segment changed.
    pub fn emit(
        &mut self,
        seq: SeqNum,
        flags: Flags,
        payload: Vec<u8>,
        change: impl FnOnce(&mut Segment),
    ) -> Result<(), LabError> {
        let manner = self.manner;
        let mut segment = Segment {
            source: self.local,
            destination: self.remote,
            seq,
            ack: if flags.ack { self.rcv_nxt } else { SeqNum(0) },
            flags,
            wnd: if flags.syn { manner.syn_window } else { manner.window },
            options: Options {
                mss: flags.syn.then_some(self.header_free_mss()),
                wscale: manner.wscale.filter(|_| flags.syn),
                sack_permitted: flags.syn && manner.sack,
                timestamps: manner.timestamps.then_some((self.ts_value(), self.ts_recent)),
                sack: Vec::new(),
            },
            payload,
            ttl: TTL,
            ip_id: self.ip_id,
        };
        change(&mut segment);
        self.ip_id = self.ip_id.wrapping_add(1);
        self.socket.send(&segment.to_frame(self.socket.mac(), self.gateway_mac))
    }

    /// New data at SND.NXT.
    pub fn send_new(&mut self, payload: Vec<u8>) -> Result<(), LabError> {
        let seq = self.snd_nxt;
        self.snd_nxt = seq.plus(payload.len() as u32);
        self.transmit(seq, Flags::ACK, payload)
    }

    /// Moves SND.NXT over bytes that will never be sent: the fault.
    pub fn skip(&mut self, bytes: u32) {
        self.snd_nxt = self.snd_nxt.plus(bytes);
    }

    /// An active abort as a stack sends it: RST and ACK at SND.NXT.
    pub fn abort(&mut self) -> Result<(), LabError> {
        self.transmit(self.snd_nxt, Flags::RST_ACK, Vec::new())
    }

    /// The next segment of our connection, after the variables were updated from it. Questions for
    /// our hardware address are answered on the way.
    pub fn receive(&mut self, wait: Duration) -> Result<Option<Segment>, LabError> {
        let segment = self.next(Instant::now() + wait, true)?;
        if let Some(segment) = &segment {
            self.learn(segment);
        }
        Ok(segment)
    }

    /// The next segment to our address, from the remote end or from anybody.
    fn next(&mut self, deadline: Instant, from_remote: bool) -> Result<Option<Segment>, LabError> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Some(received) = self.socket.receive(&mut self.buffer, left)? else {
                return Ok(None);
            };
            if received.outgoing {
                continue;
            }
            let frame = &self.buffer[..received.len.min(self.buffer.len())];
            if let Some(reply) = neighbour::answer(frame, self.socket.mac(), self.local.ip()) {
                self.socket.send(&reply)?;
            }
            match Segment::from_frame(frame) {
                Some(segment)
                    if segment.destination == self.local && (!from_remote || segment.source == self.remote) =>
                {
                    return Ok(Some(segment));
                }
                _ => {}
            }
        }
    }

    fn learn(&mut self, segment: &Segment) {
        if let Some((value, _)) = segment.options.timestamps {
            self.ts_recent = value;
        }
        if segment.flags.ack && !segment.ack.before(self.snd_una) {
            self.snd_una = segment.ack;
            // The window in a SYN is never scaled (RFC 7323 2.2).
            let shift = if segment.flags.syn { 0 } else { self.snd_wscale };
            self.snd_wnd = u32::from(segment.wnd) << shift;
        }
    }

    fn header_free_mss(&self) -> u16 {
        if self.local.is_ipv4() { MSS } else { MSS_IPV6 }
    }

    /// A clock of one tick per millisecond that starts anywhere, like that of Linux.
    fn ts_value(&self) -> u32 {
        0x1000_0000u32.wrapping_add(self.started.elapsed().as_millis() as u32).wrapping_add(self.clock_offset)
    }

    /// Data bytes that fit one segment.
    pub fn payload_len(&self) -> u32 {
        u32::from(self.header_free_mss() - if self.manner.timestamps { TIMESTAMPS_LEN } else { 0 })
    }

    pub fn snd_una(&self) -> SeqNum {
        self.snd_una
    }

    pub fn snd_nxt(&self) -> SeqNum {
        self.snd_nxt
    }

    pub fn rcv_nxt(&self) -> SeqNum {
        self.rcv_nxt
    }

    /// What we acknowledge from now on, whether it came or not.
    pub fn set_rcv_nxt(&mut self, next: SeqNum) {
        self.rcv_nxt = next;
    }

    pub fn remote(&self) -> SocketAddr {
        self.remote
    }

    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// Bytes that may still be sent: from SND.NXT to the right edge of the offered window.
    pub fn usable_window(&self) -> u32 {
        let in_flight = self.snd_nxt.distance(self.snd_una).max(0) as u32;
        self.snd_wnd.saturating_sub(in_flight)
    }
}
