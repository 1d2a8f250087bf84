//! What tshark 4.0 means by its `tcp.analysis` flags: our reading of `tcp_analyze_sequence_number` in
//! `epan/dissectors/packet-tcp.c`, as a model of the few numbers that it keeps.
//!
//! The comparison needs it for two things. That it foretells every flag of every frame of the corpus proves that the
//! definitions were understood; and its state beside the tracker's tells *why* the two differ over a frame: by their
//! definitions, or because one of them counted an earlier segment that the other did not.

use crate::files::Row;
use std::collections::BTreeMap;

const FIN: u16 = 0x01;
const SYN: u16 = 0x02;
const RST: u16 = 0x04;
const ACK: u16 = 0x10;

/// The flags that are compared. `retransmission`, `fast_retransmission`, `spurious_retransmission` and
/// `out_of_order` are one here: tshark tells them apart by time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    pub lost_segment: bool,
    pub again: bool,
    pub zero_window: bool,
    pub window_full: bool,
    pub keep_alive: bool,
    pub zero_window_probe: bool,
    pub duplicate_ack: bool,
    pub ack_lost_segment: bool,
}

impl Marks {
    pub const NAMES: [&str; 8] = [
        "lost_segment",
        "again",
        "zero_window",
        "window_full",
        "keep_alive",
        "zero_window_probe",
        "duplicate_ack",
        "ack_lost_segment",
    ];

    pub fn all(&self) -> [bool; 8] {
        [
            self.lost_segment,
            self.again,
            self.zero_window,
            self.window_full,
            self.keep_alive,
            self.zero_window_probe,
            self.duplicate_ack,
            self.ack_lost_segment,
        ]
    }

    /// As tshark printed them.
    pub fn of(row: &Row) -> Marks {
        let has = |name: &str| row.analysis.contains(name);
        Marks {
            lost_segment: has("lost_segment"),
            again: has("retransmission")
                || has("fast_retransmission")
                || has("spurious_retransmission")
                || has("out_of_order"),
            zero_window: has("zero_window"),
            window_full: has("window_full"),
            keep_alive: has("keep_alive"),
            zero_window_probe: has("zero_window_probe"),
            duplicate_ack: has("duplicate_ack"),
            ack_lost_segment: has("ack_lost_segment"),
        }
    }
}

/// One direction of a stream. Zero stands for "not known" in the numbers, as it does there.
#[derive(Clone, Debug, Default)]
pub struct Side {
    /// After the highest number seen.
    pub next: u32,
    /// After the highest number seen without a gap before it.
    pub unbroken: u32,
    pub last_ack: u32,
    /// Raw; the comparison of two windows is one of raw fields.
    pub raw_window: Option<u16>,
    pub scaled_window: u64,
    /// The scale is settled: shown in a segment that is no SYN.
    pub scale: Option<i32>,
    /// Duplicate ACKs in a row; below 0 after an `ack_lost_segment` about this side, which is not said again meanwhile.
    pub duplicates: i32,
    last_keep_alive: bool,
    last_probe: bool,
}

/// All streams of a capture, by tshark's number and direction.
#[derive(Default)]
pub struct Reading {
    sides: BTreeMap<(u32, usize), Side>,
}

fn after(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) > 0
}

impl Reading {
    pub fn side(&self, stream: u32, direction: usize) -> Side {
        self.sides.get(&(stream, direction)).cloned().unwrap_or_default()
    }

    /// The flags that the frame must have.
    pub fn hear(&mut self, row: &Row, direction: usize) -> Marks {
        let me = self.side(row.stream, direction);
        let peer = self.side(row.stream, 1 - direction);
        let (seq, ack, len) = (row.seq, row.ack, row.len);
        let has = |flag: u16| row.flags & flag != 0;
        let control = has(SYN) || has(FIN) || has(RST);
        let raw_window = row.raw_window;
        let mut marks = Marks::default();
        let mut new = me.clone();
        let mut judge = peer.clone();
        let bare = len == 0 && !control;
        let repeats = bare && Some(raw_window) == me.raw_window && seq == me.next && ack == me.last_ack;

        marks.zero_window_probe = len == 1 && seq == me.next && peer.raw_window == Some(0);
        if !marks.zero_window_probe {
            marks.zero_window = raw_window == 0 && !control;
            marks.lost_segment = me.next != 0 && after(seq, me.next) && !has(RST);
            marks.keep_alive = len <= 1 && seq == me.next.wrapping_sub(1) && !control;
            marks.window_full = len > 0
                && !control
                && peer.scale.is_some_and(|s| s != -1)
                && u64::from(seq.wrapping_add(len)) == u64::from(peer.last_ack.wrapping_add(peer.scaled_window as u32));
            let answer = repeats && (raw_window != 0 && peer.last_keep_alive || raw_window == 0 && peer.last_probe);
            if repeats && raw_window != 0 && !answer {
                marks.duplicate_ack = true;
                new.duplicates = me.duplicates.max(0) + 1;
            }
        }
        if ack != me.last_ack {
            new.duplicates = 0;
        }
        if has(ACK) && peer.unbroken != 0 && after(ack, peer.unbroken) {
            if peer.next != peer.unbroken {
                judge.unbroken = peer.next;
                marks.ack_lost_segment = true;
            } else {
                marks.ack_lost_segment = peer.duplicates == 0;
                judge.duplicates = -1;
            }
        }
        if (len > 0 || has(SYN) || has(FIN)) && !marks.keep_alive {
            let end = seq.wrapping_add(len);
            let one_below = len > 1 && seq == me.next.wrapping_sub(1);
            let spurious = len > 0 && peer.last_ack != 0 && !after(end, peer.last_ack);
            marks.again = spurious || me.next != 0 && after(me.next, seq) && !one_below;
        }
        let end = seq.wrapping_add(len).wrapping_add(u32::from(has(SYN) || has(FIN)));
        if (after(end, me.next) || me.next == 0) && (!has(RST) || has(ACK)) && !marks.zero_window_probe {
            new.next = end;
        }
        if (seq == me.unbroken || me.unbroken == 0) && !marks.zero_window_probe {
            new.unbroken = new.next;
        }
        new.raw_window = Some(raw_window);
        new.scaled_window = row.window;
        new.scale = if has(SYN) { Some(row.shift.unwrap_or(-1)) } else { row.scale.or(me.scale) };
        if has(SYN) && has(ACK) && (new.scale == Some(-1) || peer.scale == Some(-1)) {
            (new.scale, judge.scale) = (Some(-2), Some(-2));
        }
        new.last_ack = ack;
        new.last_keep_alive = marks.keep_alive;
        new.last_probe = marks.zero_window_probe;
        self.sides.insert((row.stream, direction), new);
        self.sides.insert((row.stream, 1 - direction), judge);
        marks
    }
}
