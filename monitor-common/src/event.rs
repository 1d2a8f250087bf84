//! What the kernel tells user space, and what the offline reader hands to the same code.

use crate::evidence::Evidence;
use crate::flow::FlowKey;
use crate::recorder::{Record, Recorder};
use crate::tracker::notes::Notes;
use crate::tracker::state::{Connection, Core, Half, half};
use bytemuck::{Pod, Zeroable};
use core::mem::{offset_of, size_of};

/// Bits of [`Event::why`].
pub mod why {
    /// The segment is a RST, effective or not.
    pub const RESET: u8 = 1 << 0;
    /// A direction changed its desynchronisation state.
    pub const SYNC: u8 = 1 << 1;
    /// Both FINs are acknowledged.
    pub const CLOSE: u8 = 1 << 2;
    /// First occurrence of a hard anomaly.
    pub const HARD_ANOMALY: u8 = 1 << 3;
    /// The 4-tuple begins a new life: the connection is the old one, as it was, with its evidence if it was broken off
    /// ([`crate::engine::is_broken_off`]). Not if nothing was wrong with it.
    pub const REUSED: u8 = 1 << 4;
    /// One of the first segments of a speaker after its own effective RST, other than a RST
    /// ([`crate::engine::REPORTED_AFTER_RESET`] within [`crate::tracker::AFTER_RESET_NS`]): whether it lives on.
    pub const AFTER_RESET: u8 = 1 << 5;
}

/// Bits of [`Event::identity`]: in what the packet differs from those that its speaker sent before.
///
/// Raw differences: which of them a genuine stack makes, too, depends on the reset's shape and is for the reader to
/// judge.
pub mod identity {
    /// The TTL (IPv6: hop limit) differs by two, or by one where eight or more packets in a row had the same.
    pub const TTL_DIFFERS: u8 = 1 << 0;
    /// The speaker's IPv4 IDs increment, and this one is not 1 to 1024 after the last (RFC 6864). An ID of 0 is no break
    /// in a RST that answers a segment (RST alone, or with sequence number 0): Linux sends those with ID 0 and DF.
    pub const ID_BREAK: u8 = 1 << 1;
    /// Another source MAC address than the last segment's.
    pub const L2_DIFFERS: u8 = 1 << 2;
    /// DF, TOS or IPv6 flow label differ from the last segment's. In a RST that answers a segment only DF counts: its TOS
    /// is copied from that segment, and its flow label is not the connection's.
    pub const LABEL_DIFFERS: u8 = 1 << 3;
    /// A RST that leaves this host although packets of its claimed sender come in here or pass through: nothing of it
    /// came in, so this host made it.
    pub const NO_INGRESS_TWIN: u8 = 1 << 4;
}

/// [`Event::tag`].
pub mod tag {
    /// An [`super::Event`] alone.
    pub const BRIEF: u32 = 0x6272_6531;
    /// A [`super::FullEvent`], a [`super::Recorded`], or a [`super::FaultlessRecorded`].
    pub const FULL: u32 = 0x6675_6c31;
    /// A [`super::KernelEvent`].
    pub const KERNEL: u32 = 0x6b65_7231;
    /// An [`super::Ended`].
    pub const ENDED: u32 = 0x656e_6431;
}

/// One report about a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Event {
    pub tag: u32,
    /// Entry in the connection table; 0 offline.
    pub slot: u32,
    pub time_ns: u64,
    pub why: u8,
    /// Sender of the segment.
    pub direction: u8,
    /// [`crate::tracker::state::Hook`].
    pub hook: u8,
    /// [`crate::tracker::close::Effect`] of a RST.
    pub effect: u8,
    /// [`crate::tracker::state::Phase`] before the segment.
    pub phase: u8,
    /// Bit for each note that was the first of its kind.
    pub first: u8,
    /// The evidence found no room in its map.
    pub evidence_lost: u8,
    /// [`identity`] of a RST, and of a segment that follows its speaker's effective RST; else 0.
    pub identity: u8,
    /// The segment that caused the report.
    pub record: Record,
    pub notes: Notes,
    /// Last, and its faults last in it: see [`Faultless`].
    pub connection: Connection,
}

/// An [`Event`] without the connection's faults, which were never written: it was predicted from its first segment to the
/// reset that is reported, as most are.
pub type Faultless = [u64; offset_of!(Event, connection) / 8 + offset_of!(Connection, fault) / 8];

impl Event {
    /// Of a brief report's bytes; `None` if they are too few.
    pub fn read(bytes: &[u8]) -> Option<Event> {
        let mut event: Event = bytemuck::pod_read_unaligned(bytes.get(..size_of::<Event>())?);
        if event.connection.is_bare() {
            // They are those of the connection that had the slot before.
            event.connection.fault = Default::default();
        }
        event.connection.detach();
        Some(event)
    }
}

/// The close of a life with which nothing was wrong ([`crate::engine::ended_well`]), and all that is to be learned from it. One cache
/// line with the ring buffer's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Ended {
    pub tag: u32,
    /// By speaker, as in [`Half`](crate::tracker::state::Half).
    pub ttl: [u8; 2],
    /// 0 if this end never spoke.
    pub ttl_run: [u8; 2],
    pub time_ns: u64,
    pub key: FlowKey,
}

impl Ended {
    #[inline(always)]
    pub fn of(c: &Core, now_ns: u64) -> Ended {
        let [a, b] = &c.half;
        let run = |h: &Half| if h.has(half::SEEN) { h.ttl_run } else { 0 };
        Ended { tag: tag::ENDED, ttl: [a.ttl, b.ttl], ttl_run: [run(a), run(b)], time_ns: now_ns, key: c.key }
    }

    /// Of a report's bytes; `None` if they are too few.
    pub fn read(bytes: &[u8]) -> Option<Ended> {
        bytes.get(..size_of::<Ended>()).map(bytemuck::pod_read_unaligned)
    }
}

/// A report with everything that a verdict needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct FullEvent {
    pub event: Event,
    pub recorder: Recorder,
    /// Zero where nothing was ever noted of the connection. The report then ends before it: two kilobytes less to write
    /// for the many resets in which nothing is wrong.
    pub evidence: Evidence,
}

/// The part of a [`FullEvent`] without its evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Recorded {
    pub event: Event,
    pub recorder: Recorder,
}

/// A [`Recorded`] without the connection's faults: most connections that are reset were predicted until then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct FaultlessRecorded {
    pub event: Faultless,
    pub recorder: Recorder,
}

impl FullEvent {
    /// Of a report's bytes, with or without evidence and faults; `None` if they are too few.
    pub fn read(bytes: &[u8]) -> Option<FullEvent> {
        const EVENT: usize = size_of::<Faultless>();
        const RECORDER: usize = offset_of!(FullEvent, recorder);
        let mut full: FullEvent = FullEvent::zeroed();
        let room = bytemuck::bytes_of_mut(&mut full);
        if bytes.len() >= size_of::<Recorded>() {
            let sent = if bytes.len() < room.len() { size_of::<Recorded>() } else { room.len() };
            room[..sent].copy_from_slice(&bytes[..sent]);
        } else {
            let sent: &[u8] = bytes.get(..size_of::<FaultlessRecorded>())?;
            room[..EVENT].copy_from_slice(&sent[..EVENT]);
            room[RECORDER..size_of::<Recorded>()].copy_from_slice(&sent[EVENT..]);
        }
        full.event.connection.detach();
        Some(full)
    }
}

/// [`KernelEvent::source`].
pub mod source {
    /// Tracepoint `tcp_send_reset`.
    pub const SEND_RESET: u8 = 1;
    /// Tracepoint `tcp_receive_reset`.
    pub const RECEIVE_RESET: u8 = 2;
    /// Tracepoint `inet_sk_error_report`. (Drops are not reported but added up: [`crate::drops`].)
    pub const ERROR_REPORT: u8 = 3;
}

/// What the local kernel said about a reset, from its tracepoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct KernelEvent {
    pub tag: u32,
    /// [`source`].
    pub source: u8,
    /// TCP state of the socket (`include/net/tcp_states.h`), 0 when there is none.
    pub state: u8,
    /// 4 or 6.
    pub family: u8,
    /// A trigger segment was at hand: the reset answers it.
    pub has_trigger: u8,
    pub time_ns: u64,
    /// Value of `enum sk_rst_reason` or an errno, by source; names come from BTF.
    pub reason: u32,
    /// Inode number of the network namespace.
    pub netns: u32,
    pub cookie: u64,
    /// Process in whose context it happened; see `in_process`.
    pub tgid: u32,
    pub local_port: u16,
    pub remote_port: u16,
    pub comm: [u8; 16],
    /// As in [`crate::flow::FlowKey`].
    pub local: [u64; 2],
    pub remote: [u64; 2],
    pub key: FlowKey,
    /// cgroup v2 id: of the process where that caused it, else of the socket; 0 unknown.
    pub cgroup: u64,
    /// Entry in the connection table.
    pub slot: u32,
    /// The process held the socket: what happened is its doing, or done to it by its own call.
    pub in_process: u8,
    pub pad: [u8; 3],
}

const _: () = {
    assert!(size_of::<Event>().is_multiple_of(8) && offset_of!(Event, connection).is_multiple_of(8));
    assert!(size_of::<FullEvent>().is_multiple_of(8));
    assert!(offset_of!(FullEvent, evidence) == size_of::<Recorded>());
    assert!(size_of::<KernelEvent>() == 144);
    /// `BPF_RINGBUF_HDR_SZ`.
    const HEADER: usize = 8;
    assert!(HEADER + size_of::<Ended>() == 64);
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tracker::state::{Fault, bare};

    /// What lies where the faults of a connection belong that never had any is some former connection's.
    #[test]
    fn a_bare_connections_faults_are_not_read() {
        let fault: [Fault; 2] = bytemuck::pod_read_unaligned(&[0xa5; size_of::<[Fault; 2]>()]);
        for (bare, expected) in [(bare::YES, [Fault::default(); 2]), (0, fault)] {
            let core = Core { bare, noted: 1, ..Core::default() };
            let sent = Event { slot: 9, connection: Connection { core, fault }, ..Event::default() };
            let bytes = bytemuck::bytes_of(&sent);
            let read = Event::read(bytes).unwrap();
            assert_eq!((read.slot, read.connection.fault), (9, expected));
            assert_eq!((read.connection.bare, read.connection.noted), (0, 0));
            assert_eq!(Event::read(&bytes[..bytes.len() - 1]), None);
        }
    }

    #[test]
    fn an_end_is_read_whole_or_not_at_all() {
        let mut core = Core::default();
        (core.half[1].flags, core.half[1].ttl, core.half[1].ttl_run) = (half::SEEN, 57, 4);
        // Only a RST was seen of this one.
        (core.half[0].ttl, core.half[0].ttl_run) = (64, 1);
        let sent = Ended::of(&core, 5);
        assert_eq!((sent.time_ns, sent.ttl, sent.ttl_run), (5, [64, 57], [0, 4]));
        let bytes = bytemuck::bytes_of(&sent);
        assert_eq!(Ended::read(bytes), Some(sent));
        assert_eq!(Ended::read(&bytes[..bytes.len() - 1]), None);
    }
}
