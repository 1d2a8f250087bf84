//! What the kernel tells user space, and what the offline reader hands to the same code.

use crate::evidence::Evidence;
use crate::flow::FlowKey;
use crate::recorder::{Record, Recorder};
use crate::tracker::notes::Notes;
use crate::tracker::state::Connection;
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
    /// The 4-tuple begins a new life: the connection is the old one, as it was.
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
    /// An [`super::Event`] alone, or its [`super::Faultless`] part.
    pub const BRIEF: u32 = 0x6272_6531;
    /// A [`super::FullEvent`], a [`super::Recorded`], or a [`super::FaultlessRecorded`].
    pub const FULL: u32 = 0x6675_6c31;
    /// A [`super::KernelEvent`].
    pub const KERNEL: u32 = 0x6b65_7231;
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
/// close that is reported, as most are.
pub type Faultless = [u64; offset_of!(Event, connection) / 8 + offset_of!(Connection, fault) / 8];

impl Event {
    /// Of a brief report's bytes, with or without faults; `None` if they are too few.
    pub fn read(bytes: &[u8]) -> Option<Event> {
        let mut event = Event::zeroed();
        let room = bytemuck::bytes_of_mut(&mut event);
        let sent = if bytes.len() < room.len() { size_of::<Faultless>() } else { room.len() };
        room[..sent].copy_from_slice(bytes.get(..sent)?);
        event.connection.detach();
        Some(event)
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
};
