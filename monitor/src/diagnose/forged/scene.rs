//! A RST, its claimed sender, and what both ends sent before and after, as the tests ask for it.

use super::super::shape::{ResetView, Shape};
use super::super::words;
use crate::history::History;
use monitor_common::flow::Direction;
use monitor_common::recorder::{RECORDS, Record};
use monitor_common::segment::flags;
use monitor_common::seq::SeqNum;
use monitor_common::tracker::reorder_ns;
use monitor_common::tracker::state::{Fault, Half, Hook, half};

/// Bit of [`Record::options`]: the timestamps option was there.
const TIMESTAMPS: u8 = 1;

pub struct Scene<'a> {
    pub history: &'a History,
    pub reset: &'a ResetView,
    /// The claimed sender, S of DIAGNOSIS 4.1.
    pub sender: Direction,
    /// The end that the RST is for, R.
    pub other: Direction,
    /// S as it was before the RST: a RST moves nothing of it but counters.
    pub me: &'a Half,
    pub fault: &'a Fault,
    pub peer: &'a Half,
    pub rst: Record,
}

impl<'a> Scene<'a> {
    pub fn new(history: &'a History, reset: &'a ResetView) -> Scene<'a> {
        let (sender, other) = (reset.sender, reset.sender.other());
        Scene {
            history,
            reset,
            sender,
            other,
            me: history.half(sender),
            fault: &history.connection.fault[sender.index()],
            peer: history.half(other),
            rst: reset.record,
        }
    }

    pub fn who(&self, speaker: Direction) -> &'static str {
        self.history.role(speaker)
    }

    /// Headers of `speaker` up to the RST, RSTs excluded, oldest first.
    pub fn before(&self, speaker: Direction) -> impl DoubleEndedIterator<Item = &'a Record> {
        let (at, history) = (self.rst.time_ns, self.history);
        history
            .records
            .iter()
            .filter(move |r| r.speaker == speaker && r.record.flags & flags::RST == 0 && r.record.time_ns <= at)
            .map(|r| &r.record)
    }

    /// ... and after it.
    pub fn after(&self, speaker: Direction) -> impl Iterator<Item = &'a Record> {
        let at = self.rst.time_ns;
        self.history.later.of(speaker).filter(move |r| r.time_ns > at)
    }

    /// The RSTs of S: earlier ones, this one, later ones.
    pub fn resets(&self) -> Vec<Record> {
        let earlier = self
            .history
            .records
            .iter()
            .filter(|r| r.speaker == self.sender && r.record.flags & flags::RST != 0)
            .map(|r| r.record);
        let later = self.history.later.resets().filter(|f| f.speaker == self.sender).map(|f| f.record);
        let mut all: Vec<Record> = earlier.chain([self.rst]).chain(later).collect();
        all.sort_by_key(|r| (r.time_ns, r.seq.0));
        all.dedup();
        all
    }

    /// Whether R, as far as is known, ever asked for `number`, within `slack` above it.
    pub fn asked_for(&self, number: SeqNum) -> bool {
        let acks = self.before(self.other).chain(self.after(self.other)).filter(|r| r.flags & flags::ACK != 0);
        acks.map(|r| r.ack).chain([self.peer.ack, self.peer.prev_ack]).any(|ack| ack == number)
    }

    /// All headers of `speaker` since `since_ns` are at hand: the recorder has room for the last few only.
    pub fn complete(&self, speaker: Direction, since_ns: u64) -> bool {
        let me = self.history.half(speaker);
        let oldest = self.history.records.iter().find(|r| r.speaker == speaker).map(|r| r.record.time_ns);
        me.segments as usize <= RECORDS || oldest.is_some_and(|t| t <= since_ns)
    }

    /// Numbers and anomalies can be trusted: both ends heard, nothing proven missing.
    pub fn clear_view(&self) -> bool {
        !self.history.capture_lossy() && self.me.has(half::SEEN) && self.peer.has(half::SEEN)
    }

    pub fn stamps(&self) -> bool {
        self.me.has(half::TIMESTAMPS) && self.peer.has(half::TIMESTAMPS)
    }

    pub fn rst_has(&self, flag: u16) -> bool {
        self.rst.flags & flag != 0
    }

    pub fn rst_stamped(&self) -> bool {
        stamped(&self.rst)
    }

    /// RST alone, without window, options and IP-ID: Linux' and netfilter's answer to a segment, and no stack's abort
    /// that we know of where timestamps were agreed on.
    pub fn plain_reply(&self) -> bool {
        !self.rst_has(flags::ACK) && self.rst.wnd == 0 && !self.rst_stamped() && self.rst.ip_id == 0 && self.stamps()
    }

    pub fn is_reply(&self) -> bool {
        self.reset.shape == Shape::ReplyToAck
    }

    pub fn is_active(&self) -> bool {
        self.reset.shape == Shape::Active
    }

    pub fn is_ipv4(&self) -> bool {
        crate::finding::Endpoint::of(&self.history.connection.key, self.sender).addr.is_ipv4()
    }

    /// S is a socket of this host: delays and hops mean nothing.
    pub fn sender_is_here(&self) -> bool {
        self.me.has(half::SEEN) && self.me.fed_by == Hook::Egress as u8
    }

    /// Smallest round trip from the observer to S, nanoseconds, and its samples. A segment of R asks, S answers.
    pub fn rtt(&self) -> (u64, u8) {
        (u64::from(self.peer.rtt_min_us) * 1_000, self.peer.rtt_samples)
    }

    /// How late reordering lets a segment of S come.
    pub fn reorder_ns(&self) -> u64 {
        reorder_ns(self.peer).max(reorder_ns(self.me))
    }

    /// Relative to the ISN where that was seen.
    pub fn short(&self, speaker: Direction, number: SeqNum) -> u32 {
        let me = self.history.half(speaker);
        if me.has(half::SYN) { number.0.wrapping_sub(me.iss.0) } else { number.0 }
    }

    /// `12.3 ms`: delays are what these tests are about, so they keep a digit.
    pub fn delay(ns: u64) -> String {
        const MS: u64 = 1_000_000;
        if (MS..1_000 * MS).contains(&ns) {
            format!("{}.{} ms", ns / MS, ns % MS / (MS / 10))
        } else {
            words::duration(ns)
        }
    }
}

pub fn stamped(r: &Record) -> bool {
    r.options & TIMESTAMPS != 0
}

/// Whether TSval `a` is later than `b`.
pub fn later_tick(a: u32, b: u32) -> bool {
    SeqNum(a).after(SeqNum(b))
}

/// How far IP-ID `a` is beyond `b`, modulo 2^16.
pub fn id_step(a: u16, b: u16) -> u16 {
    a.wrapping_sub(b)
}
