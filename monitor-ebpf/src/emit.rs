//! Reports to the agent: built in the ring buffer. One in each quarter of it wakes the agent, which else comes by itself.

use crate::maps::{EMPTY, EVENTS, EVIDENCE, FAULTS, FLOWS, RING_HALF, SCRATCH};
use crate::memory::{copy, copy_by_words, zero};
use crate::table;
use aya_ebpf::bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP};
use aya_ebpf::helpers::generated::bpf_ringbuf_query;
use monitor_common::abi::{Scratch, complaint};
use monitor_common::engine;
use monitor_common::event::{Ended, Event, FaultlessRecorded, FullEvent, KernelEvent, Recorded, tag, why};
use monitor_common::evidence::Evidence;
use monitor_common::flow::Direction;
use monitor_common::tracker::notes::NO_RESET;
use monitor_common::tracker::state::{Connection, Core, half};

const QUIET: u64 = BPF_RB_NO_WAKEUP as u64;

/// Flags for the submission of a report of that type. The agent looks rarely while nothing happens; a storm must not fill
/// the ring buffer meanwhile. What wakes it is the report that crosses a quarter of the ring, which its address
/// tells without a helper: a wake-up costs the packet path a hundred times the report. So the agent comes before cheap reports are
/// withheld.
#[inline(always)]
fn flags<T>(report: *const T, scratch: &mut Scratch) -> u64 {
    const LOUD: u64 = BPF_RB_FORCE_WAKEUP as u64;
    let cell = &raw mut scratch.cell;
    // SAFETY: a field of the scratch memory. verifier: in a register this would be a pointer, which has no bits.
    let from = unsafe {
        core::ptr::write_volatile(cell, report as usize as u32);
        core::ptr::read_volatile(cell)
    };
    // With the header of the next one (`BPF_RINGBUF_HDR_SZ`), so that no boundary is missed.
    let crossed = from ^ from.wrapping_add(size_of::<T>() as u32 + 8);
    if crossed >= RING_HALF.load() / 2 { LOUD } else { QUIET }
}

/// Enters the notes into the evidence, and reports what is worth it.
#[inline(always)]
pub fn report(hooked: u32, now_ns: u64) {
    let Some(scratch) = scratch(hooked) else { return };
    let lost = enter(hooked, scratch.packet.direction(), now_ns);
    let Some(c) = table::core(scratch.slot) else { return };
    let why = engine::why(c, scratch.packet.direction(), &scratch.notes);
    if why == 0 || (is_cheap(c, why, scratch) && no_room_for_cheap(scratch)) {
        return;
    }
    let head = Head { why, effect: scratch.notes.effect, phase: scratch.notes.before, lost };
    if !engine::needs_evidence(why, &scratch.notes) {
        brief(hooked, &head, now_ns);
        return;
    }
    evident(hooked, &head, now_ns);
}

/// A report with all that there is.
#[inline(always)]
fn evident(hooked: u32, head: &Head, now_ns: u64) {
    let Some(scratch) = scratch(hooked) else { return };
    let Some(c) = table::core(scratch.slot) else { return };
    if c.noted == 0 {
        recorded(hooked, head, now_ns);
        return;
    }
    match EVIDENCE.get_ptr(&scratch.slot) {
        // SAFETY: a map value; see `enter`. One of the slot's former connection is none of this one's.
        Some(e) if unsafe { (*e).created_ns } == c.created_ns => full(hooked, head, e, now_ns),
        _ => recorded(hooked, head, now_ns),
    }
}

/// A report that anybody can cause at will, or whose loss costs next to nothing: about a connection of which only one end
/// has spoken, or the close of one that was always in sync.
#[inline(always)]
fn is_cheap(c: &Core, why: u8, scratch: &Scratch) -> bool {
    let both = c.half[0].flags & c.half[1].flags & half::SEEN != 0;
    !both || !engine::needs_evidence(why, &scratch.notes)
}

/// Cheap reports get half of the ring: what the agent has not taken yet tells how much of a flood there is, and the
/// other half is for connections. The agent takes no more than it has time for.
#[inline(always)]
fn no_room_for_cheap(scratch: &mut Scratch) -> bool {
    const UNREAD: u64 = BPF_RB_AVAIL_DATA as u64;
    // SAFETY: the map is a ring buffer.
    let unread = unsafe { bpf_ringbuf_query((&raw const EVENTS).cast_mut().cast(), UNREAD) };
    let crowded = unread >= RING_HALF.load() as u64;
    scratch.counters.events_withheld += crowded as u64;
    crowded
}

/// Enters the notes into the slot's evidence, in the ledger of `writer`. Returns 1 when there was no room for it.
#[inline(always)]
pub fn enter(hooked: u32, writer: Direction, now_ns: u64) -> u8 {
    let Some(scratch) = scratch(hooked) else { return 0 };
    if scratch.notes.count == 0 {
        return 0;
    }
    let Some(c) = table::core(scratch.slot) else { return 0 };
    match evidence_of(scratch.slot, c.created_ns) {
        Some(e) => {
            c.noted = 1;
            // SAFETY: the map's value stays until the agent deletes it, which it does for free slots only.
            unsafe { (*e).enter(writer, &mut scratch.notes, now_ns) };
            0
        }
        None => {
            let counters = &mut scratch.counters;
            if counters.evidence_full == 0 {
                scratch.complaint = complaint::EVIDENCE_FULL;
            }
            counters.evidence_full += scratch.notes.count as u64;
            1
        }
    }
}

/// Reports the life of a flow that ends because the next one begins, unless nothing was wrong with it: most of these were
/// told of when they closed.
#[inline(always)]
pub fn reused(hooked: u32, now_ns: u64) {
    let Some(scratch) = scratch(hooked) else { return };
    let Some(c) = table::core(scratch.slot) else { return };
    let broken_off = engine::is_broken_off(c);
    if engine::ended_well(c) || (!broken_off && no_room_for_cheap(scratch)) {
        return;
    }
    scratch.notes.clear();
    let head = Head { why: why::REUSED, effect: NO_RESET, phase: c.phase() as u8, lost: 0 };
    if broken_off {
        evident(hooked, &head, now_ns);
    } else {
        brief(hooked, &head, now_ns);
    }
}

#[inline(always)]
fn scratch(index: u32) -> Option<&'static mut Scratch> {
    // SAFETY: per CPU and per hook, see the note in `maps`.
    SCRATCH.get_ptr_mut(index).map(|p| unsafe { &mut *p })
}

struct Head {
    why: u8,
    effect: u8,
    phase: u8,
    lost: u8,
}

/// The slot's evidence, emptied when it is another connection's.
#[inline(always)]
fn evidence_of(slot: u32, created_ns: u64) -> Option<*mut Evidence> {
    let mut found = EVIDENCE.get_ptr_mut(&slot);
    if found.is_none() {
        let empty = EMPTY.get(0)?;
        if EVIDENCE.insert(&slot, empty, 0).is_err() {
            return None;
        }
        found = EVIDENCE.get_ptr_mut(&slot);
    }
    let e = found?;
    // SAFETY: a map value; see `report`.
    unsafe {
        if (*e).created_ns != created_ns {
            zero(&mut *e);
            (*e).created_ns = created_ns;
        }
    }
    Some(e)
}

#[inline(always)]
fn brief(hooked: u32, head: &Head, now_ns: u64) {
    let Some(scratch) = scratch(hooked) else { return };
    let Some(c) = table::core(scratch.slot) else { return };
    if engine::ended_well(c) {
        ended(scratch, c, now_ns);
        return;
    }
    let Some(mut room) = EVENTS.reserve_untyped::<Event>(0) else {
        lost(scratch);
        return;
    };
    // SAFETY: the room is writable memory of the event's size.
    unsafe {
        fill(room.as_mut_ptr(), scratch, head, tag::BRIEF, now_ns);
        connection(scratch, &raw mut (*room.as_mut_ptr()).connection);
    }
    let flags = flags(room.as_mut_ptr(), scratch);
    room.submit(flags);
    scratch.counters.events_sent += 1;
}

/// The end of a life with which nothing was wrong.
#[inline(always)]
fn ended(scratch: &mut Scratch, c: &Core, now_ns: u64) {
    let Some(mut room) = EVENTS.reserve_untyped::<Ended>(0) else {
        lost(scratch);
        return;
    };
    room.write(Ended::of(c, now_ns));
    let flags = flags(room.as_mut_ptr(), scratch);
    room.submit(flags);
    scratch.counters.events_sent += 1;
}

#[inline(always)]
fn full(hooked: u32, head: &Head, evidence: *const Evidence, now_ns: u64) {
    let Some(scratch) = scratch(hooked) else { return };
    let Some(mut room) = EVENTS.reserve_untyped::<FullEvent>(0) else {
        lost(scratch);
        return;
    };
    let p = room.as_mut_ptr();
    // SAFETY: the room is writable memory of the event's size; sources are map values of the copied type.
    unsafe {
        fill(&raw mut (*p).event, scratch, head, tag::FULL, now_ns);
        connection(scratch, &raw mut (*p).event.connection);
        copy(FLOWS.get_ptr(scratch.slot).map(|f| &raw const (*f).recorder), &raw mut (*p).recorder);
        copy(Some(evidence), &raw mut (*p).evidence);
    }
    let flags = flags(room.as_mut_ptr(), scratch);
    room.submit(flags);
    scratch.counters.events_sent += 1;
}

/// A full report of a connection without evidence.
#[inline(always)]
fn recorded(hooked: u32, head: &Head, now_ns: u64) {
    let Some(scratch) = scratch(hooked) else { return };
    let Some(c) = table::core(scratch.slot) else { return };
    if c.is_bare() {
        faultless_recorded(hooked, head, now_ns);
        return;
    }
    let Some(mut room) = EVENTS.reserve_untyped::<Recorded>(0) else {
        lost(scratch);
        return;
    };
    let p = room.as_mut_ptr();
    // SAFETY: as in `full`.
    unsafe {
        fill(&raw mut (*p).event, scratch, head, tag::FULL, now_ns);
        connection(scratch, &raw mut (*p).event.connection);
        copy(FLOWS.get_ptr(scratch.slot).map(|f| &raw const (*f).recorder), &raw mut (*p).recorder);
    }
    let flags = flags(room.as_mut_ptr(), scratch);
    room.submit(flags);
    scratch.counters.events_sent += 1;
}

/// The same of a connection whose faults were never written.
#[inline(always)]
fn faultless_recorded(hooked: u32, head: &Head, now_ns: u64) {
    let Some(scratch) = scratch(hooked) else { return };
    let Some(mut room) = EVENTS.reserve_untyped::<FaultlessRecorded>(0) else {
        lost(scratch);
        return;
    };
    let p = room.as_mut_ptr();
    let e = p.cast::<Event>();
    // SAFETY: as in `full`; no more of the event is written than there is room for.
    unsafe {
        fill(e, scratch, head, tag::FULL, now_ns);
        copy_by_words(FLOWS.get_ptr(scratch.slot).map(|f| &raw const (*f).core), &raw mut (*e).connection.core);
        copy_by_words(FLOWS.get_ptr(scratch.slot).map(|f| &raw const (*f).recorder), &raw mut (*p).recorder);
    }
    let flags = flags(room.as_mut_ptr(), scratch);
    room.submit(flags);
    scratch.counters.events_sent += 1;
}

#[inline(always)]
fn lost(scratch: &mut Scratch) {
    scratch.counters.events_lost += 1;
    if complaint::is_due(scratch.counters.events_lost) {
        scratch.complaint = complaint::EVENTS_LOST;
    }
}

/// The connection of a report, in one piece.
///
/// # Safety
/// `to` points to writable memory for it.
#[inline(always)]
unsafe fn connection(scratch: &Scratch, to: *mut Connection) {
    // SAFETY: by the caller; the sources are map values of the copied types.
    unsafe {
        copy(FLOWS.get_ptr(scratch.slot).map(|f| &raw const (*f).core), &raw mut (*to).core);
        copy(FAULTS.get_ptr(scratch.slot), &raw mut (*to).fault);
    }
}

/// All but the connection.
///
/// # Safety
/// `e` points to writable memory for an event up to its connection.
#[inline(always)]
unsafe fn fill(e: *mut Event, scratch: &Scratch, head: &Head, tag: u32, now_ns: u64) {
    // SAFETY: by the caller.
    unsafe {
        (*e).tag = tag;
        (*e).slot = scratch.slot;
        (*e).time_ns = now_ns;
        (*e).why = head.why;
        (*e).direction = scratch.packet.direction;
        (*e).hook = scratch.hook as u8;
        (*e).effect = head.effect;
        (*e).phase = head.phase;
        (*e).first = scratch.notes.first;
        (*e).evidence_lost = head.lost;
        (*e).identity = scratch.notes.identity;
        let r = &raw mut (*e).record;
        (*r).fill(&scratch.packet.segment, now_ns);
        copy_by_words(Some(&raw const scratch.notes), &raw mut (*e).notes);
    }
}

/// A report of the local kernel's own. False when there was no room for it.
#[inline(always)]
pub fn kernel(event: &KernelEvent) -> bool {
    EVENTS.output_untyped::<KernelEvent>(event, QUIET).is_ok()
}
