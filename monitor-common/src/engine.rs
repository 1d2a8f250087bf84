//! What a shell (kernel program or offline reader) does with a parsed packet, in its order:
//!
//! 1. [`admit`]: is this the observation of the speaker that counts?
//! 2. [`starts_new_life`]: report the old connection, [`restart`].
//! 3. [`track`]: tracker and flight recorder; fills the [`Notes`].
//! 4. with notes: [`crate::evidence::Evidence::enter`]; marks first occurrences.
//! 5. [`why`]: is there anything to report?
//!
//! The shell owns memory, clock and output; every decision is made here.

use crate::event::why;
use crate::evidence::Recorder;
use crate::flow::Direction;
use crate::segment::{Segment, flags};
use crate::tracker::notes::{NO_RESET, Notes};
use crate::tracker::state::{Connection, Hook, Phase, half};
use crate::tracker::{self, handshake};

/// Whether an observation is tracked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    Track,
    /// The egress of a forwarded packet whose ingress was tracked under the same tuple.
    Duplicate,
    /// It arrived under a tuple that this speaker reaches only through this host's address translation, so it was
    /// never translated: the mark stays with the connection, the copy at egress is tracked.
    Untranslated,
}

/// `hook` is a [`Hook`]. Each speaker is observed at one place: the first that saw it. A forwarded packet passes two hooks, but under one
/// tuple only without address translation; with it, either tuple sees the packet once.
#[inline(always)]
pub fn admit(c: &mut Connection, dir: Direction, hook: u8, s: &Segment) -> Admission {
    let me = &mut c.half[dir.index()];
    if me.fed_by == hook {
        return Admission::Track;
    }
    if me.fed_by == 0 {
        me.fed_by = hook;
        return Admission::Track;
    }
    if hook == Hook::Forwarded as u8 && me.fed_by == Hook::Ingress as u8 {
        return Admission::Duplicate;
    }
    if hook == Hook::Ingress as u8 && me.fed_by == Hook::Forwarded as u8 {
        if s.has(flags::RST) {
            me.flags |= half::UNTRANSLATED;
        }
        return Admission::Untranslated;
    }
    Admission::Track
}

/// Whether the segment begins a new life of the flow.
#[inline(always)]
pub fn starts_new_life(c: &Connection, dir: Direction, s: &Segment) -> bool {
    s.has(flags::SYN) && !s.has(flags::RST) && handshake::starts_new_life(c, dir, s)
}

/// Begins the next life of the flow in the same entry.
#[inline(always)]
pub fn restart(c: &mut Connection, dir: Direction, s: &Segment, now_ns: u64) {
    let fed_by = [c.half[0].fed_by, c.half[1].fed_by];
    let next_iss = c.fault[dir.other().index()].next_iss;
    tracker::begin(c, s, c.incarnation.wrapping_add(1), now_ns);
    c.half[0].fed_by = fed_by[0];
    c.half[1].fed_by = fed_by[1];
    if s.has(flags::ACK) {
        handshake::adopt_forgotten_syn(c, dir, next_iss);
    }
}

#[inline(always)]
fn sync_states(c: &Connection) -> [u8; 2] {
    [c.fault[0].sync.state, c.fault[1].sync.state]
}

/// Tracks the segment and records its header; `notes` tells what it did.
#[inline(always)]
pub fn track(c: &mut Connection, recorder: &mut Recorder, dir: Direction, s: &Segment, now_ns: u64, notes: &mut Notes) {
    notes.clear();
    notes.before = c.phase() as u8;
    notes.sync_before = sync_states(c);
    recorder.put(dir, c.half[dir.index()].segments, s, now_ns);
    tracker::on_segment(c, dir, s, now_ns, notes);
    notes.after = c.phase() as u8;
    notes.sync_after = sync_states(c);
}

/// RSTs of one speaker that are reported one by one; further ones are counted in its half.
pub const REPORTED_RESETS: u8 = 4;

/// Bits of [`why`]; 0 when there is nothing to report. After `Evidence::enter`.
#[inline(always)]
pub fn why(c: &Connection, dir: Direction, notes: &Notes) -> u8 {
    let mut bits = 0;
    // The one that ends the connection is reported however many ineffective ones came before it.
    let ended = notes.after == Phase::Reset as u8 && notes.before != Phase::Reset as u8;
    if notes.effect != NO_RESET && (ended || c.half[dir.index()].rst_count <= REPORTED_RESETS) {
        bits |= why::RESET;
    }
    if notes.sync_before != notes.sync_after {
        bits |= why::SYNC;
    }
    if notes.after == Phase::TimeWait as u8 && notes.before != Phase::TimeWait as u8 {
        bits |= why::CLOSE;
    }
    if notes.first_hard != 0 {
        bits |= why::HARD_ANOMALY;
    }
    bits
}

/// Whether the report needs the evidence: everything but the close of a connection that was always in sync.
#[inline(always)]
pub fn needs_evidence(why: u8, notes: &Notes) -> bool {
    why != why::CLOSE || notes.sync_after != [0, 0]
}
