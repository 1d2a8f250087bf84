//! What few packets need, each stage a function that the kernel's verifier walks once.
//!
//! A function that the object exports is *global* (Linux 5.6): it is walked once, with any arguments, and not for each
//! way into it with all that is known there. So it may not rely on what its caller has checked, and takes numbers only.
//! Each looks its scratch memory up anew. A call costs up to 8 ns, so nothing is called for the packets of a settled connection.

use crate::hook::{count_segments, now, scratch};
use crate::memory::zero;
use crate::{emit, table};
use aya_log_ebpf::warn;
use monitor_common::abi::{Flow, complaint};
use monitor_common::engine::{self, Admission, Former, Predicted};
use monitor_common::flow::Direction;
use monitor_common::recorder::{RECORDS, Recorder};
use monitor_common::segment::flags;
use monitor_common::tracker::close::Effect;
use monitor_common::tracker::notes::NO_RESET;
use monitor_common::tracker::state::{Parts, Phase, sync_state};

/// Makes an entry for the packet, whose flow has this hash, and leaves its place in the scratch memory. 0 if there is no room.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn enter(hooked: u32, hash: u32, now_ns: u64) -> u32 {
    let Some(scratch) = scratch(hooked) else { return 0 };
    let packet = &scratch.packet;
    let full = scratch.counters.table_full;
    match table::insert(hash, &packet.key, &packet.segment, scratch.hook, now_ns, &mut scratch.counters) {
        Some(place) => {
            place.note(scratch);
            1
        }
        None => {
            let now_full = scratch.counters.table_full;
            if now_full != full && complaint::is_due(now_full) {
                scratch.complaint = complaint::TABLE_FULL;
            }
            0
        }
    }
}

/// What is left to do with a packet.
pub mod next {
    pub const CHECK: u32 = 0;
    pub const REPORT: u32 = 1;
    pub const NOTHING: u32 = 2;
}

/// Takes the packet if it is one of the many in which there is nothing to find. One of [`next`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn predict(hooked: u32, now_ns: u64) -> u32 {
    let Some(scratch) = scratch(hooked) else { return next::NOTHING };
    let Some(Flow { core, recorder, .. }) = table::flow(scratch.slot) else { return next::NOTHING };
    let Some(fault) = table::faults(scratch.slot) else { return next::NOTHING };
    let (dir, segment) = (scratch.packet.direction(), &scratch.packet.segment);
    let (mut c, notes) = (Parts { core, fault }, &mut scratch.notes);
    let left = match engine::predict_unsettled(&mut c, recorder, dir, scratch.hook as u8, segment, now_ns, notes) {
        Predicted::No => next::CHECK,
        Predicted::Moved => {
            if segment.has(flags::SYN) && table::is_roomy() {
                fetch(recorder);
            }
            next::REPORT
        }
        Predicted::Yes => next::NOTHING,
    };
    if left != next::CHECK {
        count_segments(scratch);
    }
    left
}

/// Has the recorder's cache lines come from memory together, when a connection is answered, and not one after the other as
/// they are written: the store buffer holds the stores of about one packet.
#[inline(always)]
fn fetch(recorder: &Recorder) {
    let mut i = 0;
    while i < RECORDS / 2 {
        // SAFETY: valid references.
        unsafe {
            core::ptr::read_volatile(&raw const recorder.record[0][2 * i].time_ns);
            core::ptr::read_volatile(&raw const recorder.record[1][2 * i].time_ns);
        }
        i += 1;
    }
}

/// Counts what the packet did, and reports it if it is worth it.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn report(hooked: u32, now_ns: u64) -> u32 {
    tally(hooked);
    emit::report(hooked, now_ns);
    0
}

/// Whether a segment that is not predicted is tracked: 0 if not. Begins the flow's next life, if that is what it does.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn admit(hooked: u32, now_ns: u64) -> u32 {
    let Some(scratch) = scratch(hooked) else { return 0 };
    let Some(Flow { core, recorder, .. }) = table::flow(scratch.slot) else { return 0 };
    let Some(fault) = table::faults(scratch.slot) else { return 0 };
    let mut c = Parts { core, fault };
    let dir = scratch.packet.direction();
    let segment = &scratch.packet.segment;
    let counters = &mut scratch.counters;
    if c.core.is_bare() && !table::clear_faults(c.core, c.fault, dir) {
        counters.table_busy += 1;
        return 0;
    }
    match engine::admit(c.core, dir, scratch.hook as u8, segment) {
        Admission::Track => {}
        Admission::Duplicate => {
            counters.duplicates += 1;
            return 0;
        }
        Admission::Untranslated => {
            counters.untranslated += 1;
            return 0;
        }
    }
    counters.segments += scratch.wire_segments as u64;
    counters.payload_bytes += segment.payload_len as u64;
    if engine::starts_new_life(&c, dir, segment) {
        counters.connections_opened += 1;
        emit::reused(hooked, now_ns);
        let former = Former::of(&mut c, recorder, dir);
        zero(c.core);
        zero(c.fault);
        engine::restart(&mut c, &former, dir, segment, now_ns);
    }
    1
}

/// The full checks of a segment that was admitted.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn check(hooked: u32, now_ns: u64) -> u32 {
    let Some(scratch) = scratch(hooked) else { return 0 };
    let Some(Flow { core, recorder, .. }) = table::flow(scratch.slot) else { return 0 };
    let Some(fault) = table::faults(scratch.slot) else { return 0 };
    let dir = scratch.packet.direction();
    let (segment, notes) = (&scratch.packet.segment, &mut scratch.notes);
    engine::track(&mut Parts { core, fault }, recorder, dir, scratch.hook as u8, segment, now_ns, notes);
    0
}

/// The exact counters, and the entry's class.
#[inline(always)]
fn tally(hooked: u32) {
    let Some(scratch) = scratch(hooked) else { return };
    let Some(c) = table::core(scratch.slot) else { return };
    let Some(fault) = table::faults(scratch.slot) else { return };
    let (notes, counters) = (&scratch.notes, &mut scratch.counters);
    if notes.effect != NO_RESET {
        if Effect::from_number(notes.effect).is_effective() {
            counters.resets_effective += 1;
        } else {
            counters.resets_ineffective += 1;
        }
    }
    if notes.before != notes.after {
        if notes.after == Phase::Established as u8 {
            counters.connections_established += 1;
        }
        if notes.after == Phase::TimeWait as u8 {
            counters.connections_closed += 1;
        }
    }
    let mut d = 0;
    while d < 2 {
        if notes.sync_after[d] == sync_state::DESYNCED && notes.sync_before[d] != sync_state::DESYNCED {
            counters.desynchronised[fault[d].sync.kind as usize & 15] += 1;
        }
        d += 1;
    }
    let mut i = 0;
    while i < notes.note.len() {
        if i >= notes.count as usize {
            break;
        }
        counters.anomalies[notes.note[i].anomaly as usize & 63] += 1;
        i += 1;
    }
    table::classify(scratch.set, scratch.way, c);
}

/// What an ICMP message says about a tracked connection, into its evidence.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn quoted(hooked: u32) -> u32 {
    let Some(scratch) = scratch(hooked) else { return 0 };
    let Some(slot) = table::slot_of(&scratch.quote.key) else { return 0 };
    let Some(c) = table::core(slot) else { return 0 };
    scratch.slot = slot;
    engine::on_quote(c, &scratch.quote, &mut scratch.notes);
    if scratch.notes.count == 0 {
        return 0;
    }
    scratch.counters.anomalies[scratch.notes.note[0].anomaly as usize & 63] += 1;
    let writer = Direction::from_index(scratch.quote.speaker).other();
    emit::enter(hooked, writer, now());
    0
}

/// Says in the agent's log what the scratch memory has for it.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn complain(hooked: u32) -> u32 {
    let Some(scratch) = scratch(hooked) else { return 0 };
    let what = scratch.complaint;
    scratch.complaint = complaint::NONE;
    let counters = &scratch.counters;
    if what == complaint::TABLE_FULL {
        warn!(
            (),
            "connection table: {} segments not tracked, their sets are full of live connections", counters.table_full
        );
    } else if what == complaint::EVENTS_LOST {
        warn!((), "ring buffer full: {} reports lost", counters.events_lost);
    } else {
        warn!((), "evidence map full: {} observations lost", counters.evidence_full);
    }
    0
}
