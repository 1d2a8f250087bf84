//! Two small but correct TCP ends and a path between them that loses, delays, reorders and duplicates. What passes the
//! observer in the middle is the conversation; nothing in it is a fault of an end.

use crate::support::Who::{self, A, B};
use monitor_common::segment::{Segment, flags, opt};
use monitor_common::seq::SeqNum;
use std::collections::{BTreeMap, BinaryHeap};

/// Times are microseconds.
const MS: u64 = 1_000;
const MSS: u64 = 1_000;
const LAST: u64 = 90_000 * MS;

/// A small generator, so that a conversation follows from its seed.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Rng {
        Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    /// In per mille.
    pub fn chance(&mut self, per_mille: u64) -> bool {
        self.below(1000) < per_mille
    }
}

/// What the path and the ends do. Chances are per mille.
#[derive(Clone, Debug)]
pub struct Config {
    pub seed: u64,
    pub iss: [u32; 2],
    /// Bytes that each end sends.
    pub bytes: [u64; 2],
    /// From A to the observer, and from there to B, one way.
    pub delay: [u64; 2],
    pub loss: [u64; 2],
    pub reorder: u64,
    pub duplicate: u64,
    /// The receive buffer, bytes, and the shift of both ends.
    pub buffer: u64,
    pub shift: Option<u8>,
    pub timestamps: bool,
    pub sack: bool,
    /// B reads only every so often.
    pub slow_reader: bool,
    /// Probes of a closed window carry a byte.
    pub byte_probes: bool,
    /// What B sends is lost behind the observer for seconds.
    pub deaf: bool,
    /// A waits before its last bytes, sending keep-alives.
    pub pause: bool,
    /// A forces the connection closed at the end.
    pub abort: bool,
}

/// One segment as the observer sees it.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    pub time_ns: u64,
    pub who: Who,
    pub segment: Segment,
}

/// Offsets are relative to the initial number: 0 is the SYN, the FIN stands behind the last byte.
#[derive(Debug, Default)]
struct End {
    open: bool,
    syn_sent: bool,
    una: u64,
    nxt: u64,
    /// Right edge that the other end offers.
    edge: u64,
    /// End of the data that the application has written so far.
    written: u64,
    total: u64,
    fin_sent: bool,
    recover: u64,
    dup_acks: u32,
    timer: Option<u64>,
    backoff: u32,
    probes: u32,
    rcv_nxt: u64,
    got_syn: bool,
    peer_fin: Option<u64>,
    unread: u64,
    offered_edge: u64,
    early: BTreeMap<u64, u64>,
    recent: Vec<u64>,
    dsack: Option<(u64, u64)>,
    unacked: u32,
    ack_timer: Option<u64>,
    ip_id: u16,
    ts_recent: u32,
    aborted: bool,
}

#[derive(Debug)]
enum What {
    Observe(Who, Segment),
    Arrive(Who, Segment),
    Timer(Who),
    Ack(Who),
    Read,
    Write,
}

struct Model {
    config: Config,
    rng: Rng,
    now: u64,
    ends: [End; 2],
    queue: BinaryHeap<std::cmp::Reverse<(u64, u64)>>,
    events: BTreeMap<u64, What>,
    serial: u64,
    seen: Vec<Seen>,
    /// Keeps each hop in order, unless a packet is reordered.
    last: [[u64; 2]; 2],
}

/// The conversation of this configuration, as it passes the observer.
pub fn converse(config: &Config) -> Vec<Seen> {
    let mut m = Model {
        rng: Rng::new(config.seed),
        config: config.clone(),
        now: 0,
        ends: [End::default(), End::default()],
        queue: BinaryHeap::new(),
        events: BTreeMap::new(),
        serial: 0,
        seen: Vec::new(),
        last: [[0; 2]; 2],
    };
    for who in [A, B] {
        let end = &mut m.ends[who as usize];
        end.total = config.bytes[who as usize] + 1;
        end.written = if config.pause && who == A { end.total / 2 + 1 } else { end.total };
        end.offered_edge = 1 + config.buffer.min(65_535);
        end.ip_id = 1000 + 7000 * who as u16;
    }
    m.connect();
    if config.pause {
        m.at(20_000 * MS, What::Write);
    }
    if config.slow_reader {
        m.at(100 * MS, What::Read);
    }
    m.run();
    m.seen
}

impl Model {
    fn at(&mut self, time: u64, what: What) {
        self.serial += 1;
        self.queue.push(std::cmp::Reverse((time, self.serial)));
        self.events.insert(self.serial, what);
    }

    fn end(&mut self, who: Who) -> &mut End {
        &mut self.ends[who as usize]
    }

    fn run(&mut self) {
        while let Some(std::cmp::Reverse((time, serial))) = self.queue.pop() {
            if time > LAST || self.seen.len() > 4_000 {
                break;
            }
            self.now = time;
            let Some(what) = self.events.remove(&serial) else { continue };
            match what {
                What::Observe(from, s) => {
                    self.seen.push(Seen { time_ns: 1_700_000_000_000_000_000 + time * 1000, who: from, segment: s });
                    self.hop(from, 1, s);
                }
                What::Arrive(to, s) => self.receive(to, s),
                What::Timer(who) => self.on_timer(who),
                What::Ack(who) => {
                    if self.end(who).ack_timer == Some(time) {
                        self.send_ack(who);
                    }
                }
                What::Read => self.read(),
                What::Write => {
                    let a = self.end(A);
                    a.written = a.total;
                    self.pump(A);
                }
            }
        }
    }

    fn connect(&mut self) {
        self.end(A).syn_sent = true;
        self.end(A).nxt = 1;
        self.send_syn(A);
        self.arm(A);
    }

    /// One of the two hops of a packet from `from`: 0 to the observer, 1 from there on.
    fn hop(&mut self, from: Who, hop: usize, s: Segment) {
        let link = if from == A { hop } else { 1 - hop };
        if self.rng.chance(self.config.loss[link]) {
            return;
        }
        if self.config.deaf && from == B && hop == 1 && (2_000 * MS..9_000 * MS).contains(&self.now) {
            return;
        }
        let delay = self.config.delay[link];
        let mut time = self.now + delay + self.rng.below(delay / 20 + 10);
        if self.rng.chance(self.config.reorder) {
            time += self.rng.below(3 * MS - 100);
        } else {
            // The others keep their order.
            time = time.max(self.last[from as usize][hop] + 1);
            self.last[from as usize][hop] = time;
        }
        let what = |to: Who| if hop == 0 { What::Observe(from, s) } else { What::Arrive(to, s) };
        if self.rng.chance(self.config.duplicate) {
            self.at(time + 5, what(from.other()));
        }
        self.at(time, what(from.other()));
    }

    fn number(&self, who: Who, offset: u64) -> SeqNum {
        SeqNum(self.config.iss[who as usize].wrapping_add(offset as u32))
    }

    fn offset(&self, who: Who, n: SeqNum, near: u64) -> i64 {
        near as i64 + i64::from(n.distance(self.number(who, near)))
    }

    fn emit(&mut self, who: Who, seq: u64, len: u64, control: u16) {
        let shift = if control & flags::SYN != 0 { 0 } else { self.config.shift.unwrap_or(0) };
        let (now, timestamps) = (self.now, self.config.timestamps);
        let sack = self.config.sack;
        let ack = if control & flags::ACK != 0 {
            self.number(who.other(), self.ends[who as usize].rcv_nxt)
        } else {
            SeqNum(0)
        };
        let mut s = Segment {
            seq: self.number(who, seq),
            ack,
            payload_len: len as u32,
            flags: control,
            ttl: 64,
            ..Segment::default()
        };
        let mut blocks = Vec::new();
        let limit = self.config.buffer;
        let scale = self.config.shift;
        let end = self.end(who);
        end.ip_id = end.ip_id.wrapping_add(1);
        s.ip_id = end.ip_id;
        // The right edge never moves back.
        let free = limit.saturating_sub(end.unread);
        end.offered_edge = end.offered_edge.max(end.rcv_nxt + free);
        s.wnd = ((end.offered_edge.saturating_sub(end.rcv_nxt)) >> shift).min(65_535) as u16;
        if control & flags::SYN != 0 {
            s.wnd = limit.min(65_535) as u16;
            s.mss = MSS as u16;
            s.options |= opt::MSS;
            if let Some(shift) = scale {
                s.wscale = shift;
                s.options |= opt::WSCALE;
            }
            if sack {
                s.options |= opt::SACK_PERMITTED;
            }
        } else if sack && control & flags::ACK != 0 {
            blocks.extend(end.dsack.take());
            // A block that repeats the first is what a duplicate inside it looks like: not twice otherwise.
            let duplicates = blocks.len();
            for start in end.recent.iter().rev() {
                if let Some((&l, &r)) = end.early.range(..=start).next_back()
                    && r > *start
                    && !blocks.iter().skip(duplicates).any(|b| *b == (l, r))
                    && blocks.len() < 3
                {
                    blocks.push((l, r));
                }
            }
        }
        if timestamps {
            s.tsval = ((now / MS) as u32).wrapping_sub(3_000);
            s.tsecr = end.ts_recent;
            s.options |= opt::TIMESTAMPS;
        }
        end.unacked = 0;
        end.ack_timer = None;
        for (i, (l, r)) in blocks.into_iter().enumerate().take(4) {
            s.sack[i] = [self.number(who.other(), l), self.number(who.other(), r)];
            s.sack_count = i as u8 + 1;
            s.options |= opt::SACK;
        }
        self.hop(who, 0, s);
    }

    fn send_syn(&mut self, who: Who) {
        let control = if self.end(who).got_syn { flags::SYN | flags::ACK } else { flags::SYN };
        self.emit(who, 0, 0, control);
    }

    fn send_ack(&mut self, who: Who) {
        let nxt = self.end(who).nxt;
        self.emit(who, nxt, 0, flags::ACK);
    }

    fn arm(&mut self, who: Who) {
        let now = self.now;
        let rtt = 2 * (self.config.delay[0] + self.config.delay[1]);
        let end = self.end(who);
        let rto = (2 * rtt).max(200 * MS) << end.backoff.min(7);
        let rto = if end.open { rto } else { rto.max(1_000 * MS) };
        let due = now + rto;
        end.timer = Some(due);
        self.at(due, What::Timer(who));
    }

    /// Sends what window and flight allow.
    fn pump(&mut self, who: Who) {
        loop {
            let end = self.end(who);
            if !end.open || end.aborted {
                return;
            }
            let flight = end.nxt - end.una;
            let data_end = end.written;
            if end.nxt < data_end {
                let len = MSS.min(data_end - end.nxt).min(end.edge.saturating_sub(end.nxt));
                let stuck = len == 0 || flight + len > 12 * MSS || len < MSS && flight > 0 && end.nxt + len < data_end;
                if stuck {
                    if flight == 0 && end.timer.is_none() {
                        self.arm(who);
                    }
                    return;
                }
                let seq = end.nxt;
                end.nxt += len;
                self.emit(who, seq, len, flags::ACK | flags::PSH);
            } else if end.written == end.total && !end.fin_sent && end.nxt == end.total {
                let abort = self.config.abort && who == A;
                let end = self.end(who);
                let seq = end.nxt;
                if abort {
                    end.aborted = true;
                    self.emit(who, seq, 0, flags::ACK | flags::RST);
                    return;
                }
                end.fin_sent = true;
                end.nxt += 1;
                self.emit(who, seq, 0, flags::ACK | flags::FIN);
            } else {
                if self.config.pause && who == A && self.end(who).timer.is_none() {
                    self.arm(who);
                }
                return;
            }
            if self.end(who).timer.is_none() {
                self.arm(who);
            }
        }
    }

    /// Sends again what stands at the left edge, now and then in another size.
    fn retransmit(&mut self, who: Who) {
        let double = self.rng.chance(150);
        let end = self.end(who);
        let (una, nxt, total) = (end.una, end.nxt, end.total);
        if una == 0 {
            return self.send_syn(who);
        }
        let len = (if double { 2 * MSS } else { MSS }).min(total.min(nxt).saturating_sub(una));
        let fin = end.fin_sent && una + len == total;
        self.emit(who, una, len, if fin { flags::ACK | flags::FIN } else { flags::ACK });
    }

    fn on_timer(&mut self, who: Who) {
        let (now, probe_byte, pause) = (self.now, self.config.byte_probes, self.config.pause);
        let end = self.end(who);
        if end.timer != Some(now) || end.aborted {
            return;
        }
        end.timer = None;
        if end.backoff > 8 {
            return;
        }
        if end.nxt > end.una {
            end.recover = end.nxt;
            end.dup_acks = 0;
            self.retransmit(who);
        } else if end.open && end.nxt < end.written {
            // The window is closed.
            let nxt = end.nxt;
            end.probes += 1;
            if end.edge > nxt {
                return self.pump(who);
            }
            if probe_byte {
                self.emit(who, nxt, 1, flags::ACK);
            } else {
                self.emit(who, nxt - 1, 0, flags::ACK);
            }
        } else if pause && end.open && who == A && end.written < end.total {
            let nxt = end.nxt;
            self.emit(who, nxt - 1, 0, flags::ACK);
            self.end(who).backoff = 2;
            return self.arm(who);
        } else {
            return;
        }
        self.end(who).backoff += 1;
        self.arm(who);
    }

    fn read(&mut self) {
        let pause = 50 + self.rng.below(2_000);
        let b = self.end(B);
        let update = b.unread > 0;
        b.unread = 0;
        if update && b.open {
            self.send_ack(B);
        }
        self.at(self.now + pause * MS, What::Read);
    }

    fn receive(&mut self, who: Who, s: Segment) {
        let end = &self.ends[who as usize];
        if end.aborted {
            if !s.has(flags::RST) {
                let answer = Segment { seq: s.ack, flags: flags::RST, ttl: 64, ..Segment::default() };
                self.hop(who, 0, answer);
            }
            return;
        }
        let peer = who.other();
        let seq = self.offset(peer, s.seq, end.rcv_nxt);
        let ack = self.offset(who, s.ack, end.una);
        if s.has(flags::RST) {
            let exact = seq == end.rcv_nxt as i64;
            if exact {
                self.end(who).aborted = true;
            }
            return;
        }
        if s.has(flags::SYN) {
            return self.receive_syn(who, &s, ack);
        }
        if !end.got_syn {
            return;
        }
        let shift = self.config.shift.unwrap_or(0);
        if s.has_option(opt::TIMESTAMPS) && seq <= end.rcv_nxt as i64 {
            self.end(who).ts_recent = s.tsval;
        }
        self.receive_ack(who, &s, ack, u64::from(s.wnd) << shift);
        let must_ack = self.receive_data(who, seq, u64::from(s.payload_len), s.has(flags::FIN));
        self.pump(who);
        let now = self.now;
        let end = self.end(who);
        if must_ack || end.unacked >= 2 {
            self.send_ack(who);
        } else if end.unacked > 0 && end.ack_timer.is_none() {
            end.ack_timer = Some(now + 40 * MS);
            self.at(now + 40 * MS, What::Ack(who));
        }
    }

    fn receive_syn(&mut self, who: Who, s: &Segment, ack: i64) {
        let end = self.end(who);
        if s.has(flags::ACK) && ack != 1 {
            return;
        }
        let first = !end.got_syn;
        end.got_syn = true;
        end.rcv_nxt = end.rcv_nxt.max(1);
        if s.has_option(opt::TIMESTAMPS) && first {
            end.ts_recent = s.tsval;
        }
        if who == B {
            if first {
                end.nxt = 1;
                self.send_syn(B);
                self.arm(B);
            } else if end.una == 0 {
                self.send_syn(B);
            } else {
                self.send_ack(B);
            }
            return;
        }
        if end.una == 0 {
            end.una = 1;
            end.open = true;
            end.edge = 1 + u64::from(s.wnd);
            end.timer = None;
            end.backoff = 0;
        }
        self.send_ack(A);
        self.pump(A);
    }

    fn receive_ack(&mut self, who: Who, s: &Segment, ack: i64, window: u64) {
        let end = self.end(who);
        let limit = end.nxt + u64::from(end.una == end.nxt && end.probes > 0);
        if ack < end.una as i64 || ack > limit as i64 {
            return;
        }
        let ack = ack as u64;
        end.edge = end.edge.max(ack + window);
        if ack > end.una {
            end.una = ack;
            end.nxt = end.nxt.max(ack);
            end.open = true;
            end.backoff = 0;
            end.probes = 0;
            end.dup_acks = 0;
            end.timer = None;
            let (again, more) = (ack < end.recover && ack < end.nxt, ack < end.nxt);
            if again {
                self.retransmit(who);
            }
            if more {
                self.arm(who);
            }
        } else if s.seq_len() == 0 && end.nxt > end.una {
            end.dup_acks += 1;
            if end.dup_acks == 3 && end.una >= end.recover {
                end.recover = end.nxt;
                self.retransmit(who);
            }
        }
    }

    /// Whether it must be acknowledged at once.
    fn receive_data(&mut self, who: Who, seq: i64, len: u64, fin: bool) -> bool {
        let (slow, sack) = (self.config.slow_reader && who == B, self.config.sack);
        let end = self.end(who);
        if len == 0 && !fin {
            // A probe or keep-alive is answered.
            return seq < end.rcv_nxt as i64;
        }
        let stop = seq + len as i64 + i64::from(fin);
        if stop <= end.rcv_nxt as i64 {
            if sack && seq > 0 && len > 0 {
                end.dsack = Some((seq as u64, stop as u64));
            }
            return true;
        }
        if stop > (end.offered_edge + u64::from(fin)) as i64 {
            return true;
        }
        let (start, stop) = (seq.max(end.rcv_nxt as i64) as u64, stop as u64);
        if fin {
            end.peer_fin = Some(stop);
        }
        if sack && end.early.range(..=start).next_back().is_some_and(|(_, &r)| r >= stop) {
            end.dsack = Some((start, stop));
        }
        // Merge with what is there.
        let (mut l, mut r) = (start, stop);
        let touching: Vec<u64> = end.early.range(..=stop).filter(|(_, r)| **r >= start).map(|(l, _)| *l).collect();
        for key in touching {
            if let Some(right) = end.early.remove(&key) {
                l = l.min(key);
                r = r.max(right);
            }
        }
        end.early.insert(l, r);
        end.recent.retain(|x| *x != start);
        end.recent.push(start);
        if end.recent.len() > 3 {
            end.recent.remove(0);
        }
        let before = end.rcv_nxt;
        if let Some(right) = end.early.remove(&before) {
            end.rcv_nxt = right;
            if slow {
                end.unread += right - before;
            }
        }
        end.unacked += 1;
        before == end.rcv_nxt || !end.early.is_empty() || fin
    }
}
