//! Small conversations: a book of frames, and two ends that keep count of their numbers.

use super::wire::{ACK, End, Envelope, FIN, PSH, RST, SYN, TCP, Tcp, option};

/// Frames with their times, in order.
#[derive(Default)]
pub struct Book {
    pub frames: Vec<Frame>,
    now_us: u64,
    talks: u16,
}

pub struct Frame {
    /// Since the first frame.
    pub time_us: u64,
    pub bytes: Vec<u8>,
    /// As on the wire; more than `bytes` where the capture cut it.
    pub wire_len: usize,
}

/// Between two frames, unless something is waited for.
const STEP_US: u64 = 250;

impl Book {
    pub fn frame(&mut self, bytes: Vec<u8>) {
        let wire_len = bytes.len();
        self.cut(bytes, wire_len);
    }

    /// A frame of which only `bytes` were kept.
    pub fn cut(&mut self, bytes: Vec<u8>, wire_len: usize) {
        self.now_us += STEP_US;
        self.frames.push(Frame { time_us: self.now_us, bytes, wire_len });
    }

    pub fn wait_ms(&mut self, milliseconds: u64) {
        self.now_us += milliseconds * 1000;
    }

    /// A conversation on a port of its own.
    pub fn talk(&mut self, envelope: Envelope) -> Talk<'_> {
        self.talks += 1;
        let number = self.talks;
        let iss = [1_000_000, 3_000_000_000].map(|base: u32| base.wrapping_add(u32::from(number) * 100_000));
        Talk {
            book: self,
            envelope,
            client_port: 20_000 + number,
            server_port: 80,
            iss,
            snd_nxt: iss,
            window: [501, 509],
            syn_options: [linux_syn_options(7), linux_syn_options(8)],
            clocks: None,
        }
    }
}

/// MSS, SACK permitted, NOP, NOP, window scale; no timestamps, so that later options are the talk's own.
pub fn linux_syn_options(shift: u8) -> Vec<u8> {
    [option::mss(1460), option::sack_permitted(), vec![option::NOP], option::wscale(shift), vec![option::NOP; 2]]
        .concat()
}

/// Windows of about the same size as those after scaling.
pub const UNSCALED: [u16; 2] = [64240, 65160];

/// Whether SYN options have a window scale of more than a few bits.
fn offers_scaling(options: &[u8]) -> bool {
    let mut rest = options;
    loop {
        rest = match rest {
            [] | [option::END, ..] => return false,
            [option::NOP, more @ ..] => more,
            [3, 3, shift, ..] => return *shift > 4,
            [_, len, ..] if *len >= 2 => rest.get(usize::from(*len)..).unwrap_or_default(),
            _ => return false,
        };
    }
}

pub struct Talk<'a> {
    pub book: &'a mut Book,
    pub envelope: Envelope,
    pub client_port: u16,
    pub server_port: u16,
    pub iss: [u32; 2],
    pub snd_nxt: [u32; 2],
    pub window: [u16; 2],
    pub syn_options: [Vec<u8>; 2],
    /// Timestamp clocks of both ends, if they use timestamps.
    pub clocks: Option<[u32; 2]>,
}

impl Talk<'_> {
    /// Any segment at all: the caller chooses every number.
    pub fn raw(&mut self, from: End, seq: u32, ack: u32, flags: u16, options: &[u8], payload_len: usize) {
        let tcp = self.tcp(from, seq, ack, flags, options, payload_len);
        let bytes = tcp.bytes(from, &self.envelope);
        let frame = self.envelope.around(from, TCP, &bytes);
        self.book.frame(frame);
    }

    pub fn tcp(&mut self, from: End, seq: u32, ack: u32, flags: u16, options: &[u8], payload_len: usize) -> Tcp {
        let mut options = options.to_vec();
        if let Some(clocks) = &mut self.clocks {
            clocks[from.index()] = clocks[from.index()].wrapping_add(1);
            let echo = if flags & ACK == 0 { 0 } else { clocks[from.other().index()] };
            let stamp = option::timestamps(clocks[from.index()], echo);
            options = [vec![option::NOP; 2], stamp, options].concat();
        }
        Tcp {
            client_port: self.client_port,
            server_port: self.server_port,
            seq,
            ack,
            flags,
            window: self.window[from.index()],
            options,
            payload_len,
            data_offset: None,
        }
    }

    /// A segment at SND.NXT that acknowledges all of the other end; SND.NXT moves on.
    pub fn send(&mut self, from: End, flags: u16, options: &[u8], payload_len: usize) {
        let (seq, ack) = (self.nxt(from), self.nxt(from.other()));
        let ack = if flags & ACK == 0 { 0 } else { ack };
        self.raw(from, seq, ack, flags, options, payload_len);
        let len = payload_len as u32 + u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0);
        self.skip(from, len);
    }

    /// SND.NXT moves over bytes that are not in the capture.
    pub fn skip(&mut self, from: End, bytes: u32) {
        self.snd_nxt[from.index()] = self.nxt(from).wrapping_add(bytes);
    }

    pub fn nxt(&self, end: End) -> u32 {
        self.snd_nxt[end.index()]
    }

    /// The sequence number this far after SND.NXT; negative is before.
    pub fn at(&self, end: End, offset: i64) -> u32 {
        self.nxt(end).wrapping_add(offset as u32)
    }

    /// Starts over with other initial sequence numbers.
    pub fn restart(&mut self, client_iss: u32, server_iss: u32) {
        self.iss = [client_iss, server_iss];
        self.snd_nxt = self.iss;
    }

    /// The three-way handshake.
    pub fn open(&mut self) {
        let [client, server] = self.syn_options.clone();
        // Windows in SYNs are never scaled (RFC 7323 2.2), and no later ones without an agreement.
        let scaled = std::mem::replace(&mut self.window, UNSCALED);
        self.send(End::Client, SYN, &client, 0);
        self.send(End::Server, SYN | ACK, &server, 0);
        if offers_scaling(&client) && offers_scaling(&server) {
            self.window = scaled;
        }
        self.ack(End::Client);
    }

    pub fn ack(&mut self, from: End) {
        self.send(from, ACK, &[], 0);
    }

    pub fn ack_with(&mut self, from: End, options: &[u8]) {
        self.send(from, ACK, options, 0);
    }

    /// Acknowledges something else than all.
    pub fn ack_number(&mut self, from: End, ack: u32, options: &[u8]) {
        let seq = self.nxt(from);
        self.raw(from, seq, ack, ACK, options, 0);
    }

    pub fn data(&mut self, from: End, len: usize) {
        self.send(from, PSH | ACK, &[], len);
    }

    /// Data that starts this far from SND.NXT; nothing moves.
    pub fn data_at(&mut self, from: End, offset: i64, len: usize) {
        let (seq, ack) = (self.at(from, offset), self.nxt(from.other()));
        self.raw(from, seq, ack, PSH | ACK, &[], len);
    }

    /// A question and its answer.
    pub fn exchange(&mut self) {
        self.data(End::Client, 50);
        self.ack(End::Server);
        self.data(End::Server, 100);
        self.ack(End::Client);
    }

    /// An orderly end, begun by `first`.
    pub fn close(&mut self, first: End) {
        self.send(first, FIN | ACK, &[], 0);
        self.send(first.other(), FIN | ACK, &[], 0);
        self.ack(first);
    }

    pub fn reset(&mut self, from: End, offset: i64, flags: u16) {
        let seq = self.at(from, offset);
        let ack = if flags & ACK == 0 { 0 } else { self.nxt(from.other()) };
        self.raw(from, seq, ack, RST | flags, &[], 0);
    }

    /// A whole conversation in one go.
    pub fn whole(&mut self) {
        self.open();
        self.exchange();
        self.close(End::Client);
    }
}
