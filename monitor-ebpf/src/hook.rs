//! What all hooks do with a packet: parse, find its connection, take it if nothing about it is new. The rest is in `stages`.

use crate::maps::{CLOCK, INTERFACES, SCRATCH, TEST_CLOCK};
use crate::packet::Raw;
use crate::stages::{self, next};
use crate::table;
use aya_ebpf::helpers::{bpf_ktime_get_ns, bpf_skb_pull_data};
use aya_ebpf::programs::{TcContext, XdpContext};
use core::hint::cold_path;
use monitor_common::abi::{Flow, Scratch, complaint};
use monitor_common::icmp;
use monitor_common::parse::{self, Bytes, Glance, Packet, Reason};
use monitor_common::tracker::settled;
use monitor_common::tracker::state::Hook;

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
    let found = match glance(raw, 0, &mut scratch.packet) {
        SEGMENT => SEGMENT,
        OTHER => {
            count(scratch, Reason::NotTcp as u32);
            return;
        }
        _ => {
            cold_path();
            forget(raw, parse::ethernet_in_general(raw, 0, &mut scratch.packet))
        }
    };
    if found == SEGMENT {
        scratch.hook = Hook::Ingress as u32;
        scratch.wire_segments = 1;
        if !tracked(INGRESS) {
            return;
        }
    } else {
        count(scratch, found);
        if found == Reason::NotTcp as u32 && icmp::ethernet(raw, &mut scratch.quote) {
            stages::quoted(INGRESS);
        }
    }
    complain(INGRESS);
}

/// No number of a [`Reason`].
const SEGMENT: u32 = 16;
const OTHER: u32 = 17;
const UNCLEAR: u32 = 18;

/// verifier: what was learnt about the packet on the way to the answer is forgotten, or all that follows is walked for each.
#[inline(always)]
fn glance(raw: Raw, wire_len: u32, packet: &mut Packet) -> u32 {
    let seen = match parse::glance(raw, wire_len, packet) {
        Glance::Segment => SEGMENT,
        Glance::Other => OTHER,
        Glance::Unclear => UNCLEAR,
    };
    raw.forget(seen, 31)
}

/// The same for the parser that knows all headers: [`SEGMENT`], or the number of a [`Reason`].
#[inline(always)]
fn forget(raw: Raw, parsed: Result<(), Reason>) -> u32 {
    let found = match parsed {
        Ok(()) => SEGMENT,
        Err(reason) => reason as u32,
    };
    raw.forget(found, 31)
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
    let seen = if framed { glance(raw, wire_len, &mut scratch.packet) } else { UNCLEAR };
    let found = match seen {
        SEGMENT => SEGMENT,
        OTHER => {
            count(scratch, Reason::NotTcp as u32);
            return;
        }
        _ => {
            cold_path();
            make_linear(ctx, scratch, len);
            let raw = Raw::new(ctx.data(), ctx.data_end(), &raw mut scratch.cell);
            let parsed = if hooked == INGRESS {
                parse::received(raw, protocol, wire_len, &mut scratch.packet)
            } else {
                parse::ethernet_in_general(raw, wire_len, &mut scratch.packet)
            };
            forget(raw, parsed)
        }
    };
    let from = if hooked == INGRESS { 0 } else { skb.ingress_ifindex };
    if found == SEGMENT {
        let hook = match hooked {
            INGRESS => Hook::Ingress,
            _ if from != 0 && is_monitored(from) => Hook::Forwarded,
            _ => Hook::Egress,
        };
        scratch.hook = hook as u32;
        if !tracked(hooked) {
            return;
        }
    } else {
        count(scratch, found);
        // This host's own messages; forwarded ones were read where they came in.
        let other = found != Reason::NotTcp as u32 || from != 0 && is_monitored(from);
        let raw = Raw::new(ctx.data(), ctx.data_end(), &raw mut scratch.cell);
        let quotes = !other
            && if hooked == INGRESS {
                icmp::received(raw, protocol, &mut scratch.quote)
            } else {
                icmp::ethernet(raw, &mut scratch.quote)
            };
        if quotes {
            stages::quoted(hooked);
        }
    }
    complain(hooked);
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
fn complain(hooked: u32) {
    if scratch(hooked).is_some_and(|s| s.complaint != complaint::NONE) {
        stages::complain(hooked);
    }
}

#[inline(always)]
pub fn scratch(index: u32) -> Option<&'static mut Scratch> {
    // SAFETY: per CPU and per hook, see the note in `maps`.
    SCRATCH.get_ptr_mut(index).map(|p| unsafe { &mut *p })
}

#[inline(always)]
fn is_monitored(ifindex: u32) -> bool {
    // SAFETY: the value is a plain integer that only the loader writes.
    unsafe { INTERFACES.get(&ifindex) }.is_some()
}

#[inline(always)]
fn count(scratch: &mut Scratch, reason: u32) {
    scratch.counters.unparsed[reason as usize & 15] += 1;
}

#[inline(always)]
pub fn now() -> u64 {
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
    if settled(hooked, flow, now_ns) {
        return false;
    }
    cold_path();
    match stages::predict(hooked, now_ns) {
        next::NOTHING => return false,
        next::REPORT => {}
        _ => {
            if stages::admit(hooked, now_ns) == 0 {
                return false;
            }
            stages::check(hooked, now_ns);
        }
    }
    stages::report(hooked, now_ns);
    true
}

/// Finds or makes the packet's entry, and leaves its place in the scratch memory.
#[inline(always)]
fn find(hooked: u32, now_ns: u64) -> Option<&'static mut Flow> {
    let scratch = scratch(hooked)?;
    let hash = table::hash(&scratch.packet.key);
    if let Some(place) = table::find(&scratch.packet.key, hash) {
        place.note(scratch);
        return Some(place.flow);
    }
    cold_path();
    if stages::enter(hooked, hash, now_ns) == 0 {
        return None;
    }
    table::flow(self::scratch(hooked)?.slot)
}

/// Takes the packet if it is one of a transfer's.
#[inline(always)]
fn settled(hooked: u32, flow: &mut Flow, now_ns: u64) -> bool {
    let Some(scratch) = scratch(hooked) else { return false };
    let Flow { core, recorder, .. } = flow;
    let (dir, segment) = (scratch.packet.direction(), &scratch.packet.segment);
    let taken = settled::on_segment(core, recorder, dir, scratch.hook as u8, segment, now_ns);
    if taken {
        count_segments(scratch);
    }
    taken
}

#[inline(always)]
pub fn count_segments(scratch: &mut Scratch) {
    scratch.counters.segments += scratch.wire_segments as u64;
    scratch.counters.payload_bytes += scratch.packet.segment.payload_len as u64;
}
