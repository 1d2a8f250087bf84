//! What all hooks do with a packet: parse, find its connection, track, report.

use crate::maps::{CLOCK, INTERFACES, PREDICT, SCRATCH, TEST_CLOCK};
use crate::packet::Raw;
use crate::{emit, table};
use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::{bpf_ktime_get_ns, bpf_skb_pull_data};
use aya_ebpf::programs::{TcContext, XdpContext};
use aya_log_ebpf::warn;
use monitor_common::abi::{Flow, Scratch, complaint};
use monitor_common::engine::{self, Admission, Former, Predicted};
use monitor_common::flow::Direction;
use monitor_common::icmp;
use monitor_common::parse::{self, Bytes, Glance, Packet, Reason};
use monitor_common::recorder::{RECORDS, Recorder};
use monitor_common::segment::flags;
use monitor_common::tracker::close::Effect;
use monitor_common::tracker::notes::NO_RESET;
use monitor_common::tracker::state::{Hook, Parts, Phase, sync_state};

/// Longest run of headers that is worth making linear: Ethernet with tags, IPv6 with extensions, TCP.
const HEADERS: u32 = 256;

/// Index into `SCRATCH`.
const INGRESS: u32 = 0;
const EGRESS: u32 = 1;

// verifier: each stage looks its scratch memory up anew. LLVM would otherwise carry what one stage stored into the
// next in registers, as a constant on each path, and the verifier would walk the later stages once for every
// combination (more than 1,000,000 instructions on 6.18).

#[inline(always)]
pub fn ingress(ctx: &XdpContext) {
    let Some(scratch) = scratch(INGRESS) else { return };
    scratch.counters.packets += 1;
    let raw = Raw::new(ctx.data(), ctx.data_end(), &raw mut scratch.cell);
    // The frame's length is not known: a frame of several buffers shows only its first.
    let parsed = match glance(raw, 0, &mut scratch.packet) {
        SEGMENT => Ok(()),
        OTHER => {
            count(scratch, Reason::NotTcp);
            return;
        }
        _ => parse::ethernet_in_general(raw, 0, &mut scratch.packet),
    };
    match parsed {
        Ok(()) => {
            scratch.hook = Hook::Ingress as u32;
            scratch.wire_segments = 1;
            if !tracked(INGRESS) {
                return;
            }
        }
        Err(reason) => {
            count(scratch, reason);
            if matches!(reason, Reason::NotTcp) && icmp::ethernet(raw, &mut scratch.quote) {
                quoted(INGRESS);
            }
        }
    }
    complain(ctx, INGRESS);
}

const SEGMENT: u32 = Glance::Segment as u32;
const OTHER: u32 = Glance::Other as u32;

/// verifier: what was learnt about the packet on the way to the answer is forgotten, or all that follows is walked for each.
#[inline(always)]
fn glance(raw: Raw, wire_len: u32, packet: &mut Packet) -> u32 {
    raw.forget(parse::glance(raw, wire_len, packet) as u32, 3)
}

/// Ingress behind the driver, where native XDP would cost the host its offloads.
#[inline(always)]
pub fn tc_ingress(ctx: &TcContext) {
    classified(ctx, INGRESS);
}

#[inline(always)]
pub fn egress(ctx: &TcContext) {
    classified(ctx, EGRESS);
}

/// A socket buffer on its way through TC, either way.
#[inline(always)]
fn classified(ctx: &TcContext, hooked: u32) {
    let Some(scratch) = scratch(hooked) else { return };
    scratch.counters.packets += 1;
    // SAFETY: the context is valid for the program's run.
    let skb = unsafe { &*ctx.skb.skb };
    let protocol = u16::from_be(skb.protocol as u16);
    // One packet here is several segments on the wire.
    scratch.wire_segments = if skb.gso_segs > 1 { skb.gso_segs } else { 1 };
    let len = skb.len;
    // Of what came in the IP header is believed, as by XDP. Only a packet beyond 64 KiB (BIG TCP) has no length in it.
    let wire_len = if hooked == EGRESS || len > parse::MAX_IP_LENGTH { len } else { 0 };
    // The EtherType of a packet that came in is the stack's, see `parse::received`.
    let framed = hooked == EGRESS || protocol == parse::ETHERTYPE_IPV4;
    let raw = Raw::new(ctx.data(), ctx.data_end(), &raw mut scratch.cell);
    let seen = if framed { glance(raw, wire_len, &mut scratch.packet) } else { Glance::Unclear as u32 };
    let parsed = match seen {
        SEGMENT => Ok(()),
        OTHER => {
            count(scratch, Reason::NotTcp);
            return;
        }
        _ => {
            make_linear(ctx, scratch, len);
            let raw = Raw::new(ctx.data(), ctx.data_end(), &raw mut scratch.cell);
            if hooked == INGRESS {
                parse::received(raw, protocol, wire_len, &mut scratch.packet)
            } else {
                parse::ethernet_in_general(raw, wire_len, &mut scratch.packet)
            }
        }
    };
    let from = if hooked == INGRESS { 0 } else { skb.ingress_ifindex };
    match parsed {
        Ok(()) => {
            let hook = match hooked {
                INGRESS => Hook::Ingress,
                _ if from != 0 && is_monitored(from) => Hook::Forwarded,
                _ => Hook::Egress,
            };
            scratch.hook = hook as u32;
            if !tracked(hooked) {
                return;
            }
        }
        Err(reason) => {
            count(scratch, reason);
            // This host's own messages; forwarded ones were read where they came in.
            let other = !matches!(reason, Reason::NotTcp) || from != 0 && is_monitored(from);
            let raw = Raw::new(ctx.data(), ctx.data_end(), &raw mut scratch.cell);
            let quotes = !other
                && if hooked == INGRESS {
                    icmp::received(raw, protocol, &mut scratch.quote)
                } else {
                    icmp::ethernet(raw, &mut scratch.quote)
                };
            if quotes {
                quoted(hooked);
            }
        }
    }
    complain(ctx, hooked);
}

/// Moves headers into the linear part: GSO and GRO packets have 66 bytes there, others none.
#[inline(always)]
fn make_linear(ctx: &TcContext, scratch: &mut Scratch, len: u32) {
    let linear = (ctx.data_end() - ctx.data()) as u32;
    if linear < HEADERS && linear < len {
        let raw = Raw::new(ctx.data(), ctx.data_end(), &raw mut scratch.cell);
        if !parse::has_headers(raw) {
            let want = if len < HEADERS { len } else { HEADERS };
            // SAFETY: the helper takes the context that the program was given. It leaves the packet's content alone; where it
            // fails the parser says what is missing.
            unsafe { bpf_skb_pull_data(ctx.skb.skb, want) };
        }
    }
}

/// The programs' own troubles, to the agent's log.
#[inline(always)]
fn complain<C: EbpfContext>(ctx: &C, hooked: u32) {
    let Some(scratch) = scratch(hooked) else { return };
    if scratch.complaint == complaint::NONE {
        return;
    }
    let what = scratch.complaint;
    scratch.complaint = complaint::NONE;
    let counters = &scratch.counters;
    if what == complaint::TABLE_FULL {
        warn!(
            ctx,
            "connection table: {} segments not tracked, their sets are full of live connections", counters.table_full
        );
    } else if what == complaint::EVENTS_LOST {
        warn!(ctx, "ring buffer full: {} reports lost", counters.events_lost);
    } else {
        warn!(ctx, "evidence map full: {} observations lost", counters.evidence_full);
    }
}

#[inline(always)]
fn scratch(index: u32) -> Option<&'static mut Scratch> {
    // SAFETY: per CPU and per hook, see the note in `maps`.
    SCRATCH.get_ptr_mut(index).map(|p| unsafe { &mut *p })
}

#[inline(always)]
fn is_monitored(ifindex: u32) -> bool {
    // SAFETY: the value is a plain integer that only the loader writes.
    unsafe { INTERFACES.get(&ifindex) }.is_some()
}

#[inline(always)]
fn count(scratch: &mut Scratch, reason: Reason) {
    scratch.counters.unparsed[reason as usize & 15] += 1;
}

#[inline(always)]
fn now() -> u64 {
    if TEST_CLOCK.load() != 0 {
        return CLOCK.get(0).copied().unwrap_or(0);
    }
    // SAFETY: no arguments.
    unsafe { bpf_ktime_get_ns() }
}

/// False if the packet was one of the many after which there is nothing to complain about either.
#[inline(always)]
fn tracked(hooked: u32) -> bool {
    let now_ns = now();
    let Some(flow) = find(hooked, now_ns) else { return true };
    let left = predicted(hooked, flow, now_ns);
    if left == next::NOTHING {
        return false;
    }
    if left == next::REPORT || track(hooked, now_ns) {
        tally(hooked);
        emit::report(hooked, now_ns);
    }
    true
}

/// What an ICMP message says about a tracked connection, into its evidence.
#[inline(always)]
fn quoted(hooked: u32) {
    let Some(scratch) = scratch(hooked) else { return };
    let Some(slot) = table::slot_of(&scratch.quote.key) else { return };
    let Some(c) = table::core(slot) else { return };
    scratch.slot = slot;
    engine::on_quote(c, &scratch.quote, &mut scratch.notes);
    if scratch.notes.count == 0 {
        return;
    }
    scratch.counters.anomalies[scratch.notes.note[0].anomaly as usize & 63] += 1;
    let writer = Direction::from_index(scratch.quote.speaker).other();
    emit::enter(hooked, writer, now());
}

/// Finds or makes the packet's entry, and leaves its place in the scratch memory.
#[inline(always)]
fn find(hooked: u32, now_ns: u64) -> Option<&'static mut Flow> {
    let scratch = scratch(hooked)?;
    let packet = &scratch.packet;
    let full = scratch.counters.table_full;
    match table::find_or_insert(&packet.key, &packet.segment, scratch.hook, now_ns, &mut scratch.counters) {
        Some(place) => {
            scratch.way = place.way;
            scratch.slot = place.slot;
            scratch.set = place.set;
            Some(place.flow)
        }
        None => {
            let now_full = scratch.counters.table_full;
            if now_full != full && complaint::is_due(now_full) {
                scratch.complaint = complaint::TABLE_FULL;
            }
            None
        }
    }
}

/// What is left to do with a packet.
mod next {
    pub const CHECK: u32 = 0;
    pub const REPORT: u32 = 1;
    pub const NOTHING: u32 = 2;
}

/// Takes the packet if it is one of the many in which there is nothing to find. One of [`next`].
#[inline(always)]
fn predicted(hooked: u32, flow: &mut Flow, now_ns: u64) -> u32 {
    if PREDICT.load() == 0 {
        return next::CHECK;
    }
    let Some(scratch) = scratch(hooked) else { return next::NOTHING };
    let Flow { core, recorder, .. } = flow;
    let Some(fault) = table::faults(scratch.slot) else { return next::NOTHING };
    let (dir, segment) = (scratch.packet.direction(), &scratch.packet.segment);
    let (mut c, notes) = (Parts { core, fault }, &mut scratch.notes);
    let left = match engine::predict(&mut c, recorder, dir, scratch.hook as u8, segment, now_ns, notes) {
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
        scratch.counters.segments += scratch.wire_segments as u64;
        scratch.counters.payload_bytes += segment.payload_len as u64;
    }
    // verifier: through memory, so that the full checks are walked once and not from each place that refuses.
    let cell = &raw mut scratch.cell;
    // SAFETY: a field of the scratch memory.
    unsafe {
        core::ptr::write_volatile(cell, left);
        core::ptr::read_volatile(cell)
    }
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

#[inline(always)]
fn track(hooked: u32, now_ns: u64) -> bool {
    let Some(scratch) = scratch(hooked) else { return false };
    let Some(Flow { core, recorder, .. }) = table::flow(scratch.slot) else { return false };
    let Some(fault) = table::faults(scratch.slot) else { return false };
    let mut c = Parts { core, fault };
    let dir = scratch.packet.direction();
    let segment = &scratch.packet.segment;
    let counters = &mut scratch.counters;
    if c.core.is_bare() && !table::clear_faults(c.core, c.fault, dir) {
        counters.table_busy += 1;
        return false;
    }
    match engine::admit(c.core, dir, scratch.hook as u8, segment) {
        Admission::Track => {}
        Admission::Duplicate => {
            counters.duplicates += 1;
            return false;
        }
        Admission::Untranslated => {
            counters.untranslated += 1;
            return false;
        }
    }
    counters.segments += scratch.wire_segments as u64;
    counters.payload_bytes += segment.payload_len as u64;
    if engine::starts_new_life(&c, dir, segment) {
        counters.connections_opened += 1;
        emit::reused(hooked, now_ns);
        let former = Former::of(&mut c, recorder, dir);
        emit::zero(c.core);
        emit::zero(c.fault);
        engine::restart(&mut c, &former, dir, segment, now_ns);
    }
    engine::track(&mut c, recorder, dir, scratch.hook as u8, segment, now_ns, &mut scratch.notes);
    true
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
