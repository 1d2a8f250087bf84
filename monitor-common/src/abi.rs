//! Layout shared by the kernel programs and their loader: table sets, per-CPU counters, configuration.

use crate::anomaly::ANOMALY_SLOTS;
use crate::icmp::Quote;
use crate::parse::Packet;
use crate::recorder::Recorder;
use crate::tracker::notes::Notes;
use crate::tracker::state::Core;
use bytemuck::{Pod, Zeroable};

/// Raised when any shared layout changes; part of the pin path.
pub const ABI_VERSION: u32 = 6;

/// Ways of one set of the connection table.
pub const WAYS: usize = 16;

/// Sets that share what does not fit into one of them; their number is a multiple of it. Sets fill unevenly: with three
/// slots for two connections one connection in a hundred finds 16 others in its own set, one in 20,000 finds 64 in all
/// four.
pub const NEIGHBOURS: u32 = 4;

/// What an entry is worth when a set is full. In the order in which they go.
pub mod class {
    pub const EMPTY: u8 = 0;
    /// Closed or reset: the first to go.
    pub const DONE: u8 = 1;
    /// Only one end has spoken: goes for a SYN or for another of its kind, never makes an established one go.
    pub const HALF_OPEN: u8 = 2;
    /// A handshake that was answered, or that this host itself began: goes for a SYN where there is none of the above.
    pub const ANSWERED: u8 = 3;
    /// Established: no packet evicts it; the agent's sweep frees it when it is idle.
    pub const LIVE: u8 = 4;
}

/// One set of the connection table: a cache line that tells which of 16 slots a key is in.
///
/// The state of way `w` is entry [`slot`] of the array `FLOWS`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C, align(64))]
pub struct TableSet {
    /// Try-lock for changing tags: whoever reads 1 after adding 1 holds it.
    pub lock: u32,
    /// Where the search for a victim goes on.
    pub hand: u32,
    /// Upper hash bits, never 0 for an entry in use.
    pub tag: [u16; WAYS],
    pub class: [u8; WAYS],
    /// Not 0: an entry of this set may be in one of its neighbours, [`NEIGHBOURS`].
    pub overflowed: u32,
    pub pad: u32,
}

/// What every packet of a connection touches. Last headers and state lie together, because a packet writes both, and memory
/// as far apart as two arrays costs a page walk each; what only abnormal segments touch is an array of its own, so that
/// more connections lie in a page. A multiple of 128 bytes, because processors fetch cache lines in pairs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Flow {
    pub recorder: Recorder,
    pub core: Core,
    pub pad: [u64; 2],
}

const _: () = assert!(core::mem::size_of::<Flow>().is_multiple_of(128), "an entry begins with a pair of cache lines");

/// Where the search for a tag begins, and a free way for it is looked for: at one of `spread + 1` ways.
///
/// With few connections at the first way of each set (see [`slot`]); with many entries in a set at one that the tag
/// chooses, so that most are found at once. Wherever an entry was put, the search comes to it: `spread` may change at
/// any time.
#[inline(always)]
pub const fn first_way(tag: u16, spread: u32) -> u32 {
    tag as u32 & spread & (WAYS as u32 - 1)
}

/// The spread that is best for so many entries in `sets` sets.
pub const fn spread(entries: usize, sets: usize) -> u32 {
    match entries / if sets == 0 { 1 } else { sets } {
        0 => 0,
        1..=4 => 3,
        _ => WAYS as u32 - 1,
    }
}

/// Entry of `FLOWS` of a way of one of `sets` sets. The first ways of all sets lie together and are used first, so that
/// fewer connections than the table can hold lie in fewer pages: an array of a BPF map is mapped in pages of 4 KiB.
#[inline(always)]
pub const fn slot(set: u32, way: u32, sets: u32) -> u32 {
    way * sets + set
}

/// Set and way of an entry of `FLOWS`.
#[inline(always)]
pub const fn set_and_way(slot: u32, sets: u32) -> (u32, u32) {
    (slot % sets, slot / sets)
}

/// Tag of a hash; 0 means empty, so it is avoided.
#[inline(always)]
pub const fn tag(hash: u32) -> u16 {
    let tag = hash as u16;
    if tag == 0 { 1 } else { tag }
}

/// Set of a hash among `sets`: multiply and shift, so that any number of sets serves.
#[inline(always)]
pub const fn set_index(hash: u32, sets: u32) -> u32 {
    ((hash as u64 * sets as u64) >> 32) as u32
}

/// Slots of the reason counters.
pub const REASON_SLOTS: usize = 16;

/// Exact counters, one copy per CPU and hook (0 ingress, 1 egress). User space adds them up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Counters {
    pub packets: u64,
    pub segments: u64,
    pub payload_bytes: u64,
    /// Egress copies of forwarded packets that were tracked at ingress.
    pub duplicates: u64,
    /// Packets that bypassed this host's address translation.
    pub untranslated: u64,
    pub connections_opened: u64,
    pub connections_established: u64,
    /// Closed by two acknowledged FINs.
    pub connections_closed: u64,
    pub resets_effective: u64,
    pub resets_ineffective: u64,
    /// Desynchronisations entered, by kind.
    pub desynchronised: [u64; 16],
    /// Packets without a segment, by [`crate::parse::Reason`].
    pub unparsed: [u64; REASON_SLOTS],
    pub anomalies: [u64; ANOMALY_SLOTS],
    /// Reports that the ring buffer had no room for.
    pub events_lost: u64,
    pub events_sent: u64,
    /// Reports that anybody can cause at will, not made while half of the ring buffer waited for the agent.
    pub events_withheld: u64,
    /// Segments not tracked because their set was full of live connections.
    pub table_full: u64,
    /// Segments not tracked because another CPU was changing the set.
    pub table_busy: u64,
    pub evicted_done: u64,
    pub evicted_half_open: u64,
    /// Notes without room in the evidence map.
    pub evidence_full: u64,
}

/// Per-CPU memory of one hook: its counters, and room for what does not fit the 512-byte stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Scratch {
    pub counters: Counters,
    pub packet: Packet,
    pub quote: Quote,
    pub notes: Notes,
    /// Where the packet's connection is: way of its set, and slot.
    pub way: u32,
    pub slot: u32,
    pub set: u32,
    /// What numbers pass through that the verifier should forget.
    pub cell: u32,
    /// [`crate::tracker::state::Hook`] of the packet.
    pub hook: u32,
    /// [`complaint`] to log after the packet, 0 mostly.
    pub complaint: u32,
    /// Segments on the wire that the packet stands for: several with segmentation or receive offload.
    pub wire_segments: u32,
    pub pad: u32,
}

/// What a program has to say of itself.
pub mod complaint {
    pub const NONE: u32 = 0;
    pub const TABLE_FULL: u32 = 1;
    pub const EVENTS_LOST: u32 = 2;
    pub const EVIDENCE_FULL: u32 = 3;

    /// Whether the `n`-th loss is worth a line: the 1st, 2nd, 4th, 8th and so on, never one per packet.
    #[inline(always)]
    pub const fn is_due(n: u64) -> bool {
        n & n.wrapping_sub(1) == 0
    }
}

/// Exact counters of the tracepoint programs, one copy per CPU. They are raised atomically, because one tracepoint may
/// interrupt another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Tally {
    pub facts_sent: u64,
    /// Facts that the ring buffer had no room for.
    pub facts_lost: u64,
    /// Dropped segments of tracked connections that were entered in `DROPS`.
    pub drops: u64,
    /// ... and that were not: the map was full, or the connection's places were taken.
    pub drops_lost: u64,
    /// Facts and drops of a tracked tuple in a network namespace that is not watched, or that cannot be told.
    pub elsewhere: u64,
}

/// Byte offsets in structures of the running kernel, which differ from version to version. The loader reads them
/// from BTF; [`Offsets::UNKNOWN`] entries make the tracepoint say less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Offsets {
    /// `struct sock_common`.
    pub skc_family: u32,
    pub skc_state: u32,
    pub skc_daddr: u32,
    pub skc_rcv_saddr: u32,
    pub skc_dport: u32,
    pub skc_v6_daddr: u32,
    pub skc_v6_rcv_saddr: u32,
    pub skc_net: u32,
    pub skc_cookie: u32,
    /// `struct net`: `ns.inum`.
    pub net_inum: u32,
    /// `struct sock`.
    pub sk_err: u32,
    /// `struct inet_sock`. Not `skc_num`: closing gives the port back and zeroes it before the reset is sent.
    pub inet_sport: u32,
    /// `struct sk_buff`.
    pub skb_head: u32,
    pub skb_network_header: u32,
    pub skb_transport_header: u32,
    /// Not 0: the third argument of `tcp_send_reset` is its reason.
    pub has_reset_reason: u32,
    /// `struct sk_buff`: device, interface of arrival, route.
    pub skb_dev: u32,
    pub skb_iif: u32,
    pub skb_dst: u32,
    pub dst_dev: u32,
    pub dev_net: u32,
    /// `struct sock`: the lock's owner flag, and the cgroup that the socket was made in.
    pub sk_owned: u32,
    pub sk_cgroup: u32,
    /// `struct cgroup`, `struct kernfs_node`.
    pub cgroup_node: u32,
    pub node_id: u32,
    /// Not 0: the fourth argument of `kfree_skb` is the receiving socket.
    pub has_drop_socket: u32,
}

impl Offsets {
    /// Offset of a field that this kernel's BTF does not have.
    pub const MISSING: u32 = u32::MAX;
    pub const UNKNOWN: Offsets = Offsets {
        skc_family: Self::MISSING,
        skc_state: Self::MISSING,
        skc_daddr: Self::MISSING,
        skc_rcv_saddr: Self::MISSING,
        skc_dport: Self::MISSING,
        skc_v6_daddr: Self::MISSING,
        skc_v6_rcv_saddr: Self::MISSING,
        skc_net: Self::MISSING,
        skc_cookie: Self::MISSING,
        net_inum: Self::MISSING,
        sk_err: Self::MISSING,
        inet_sport: Self::MISSING,
        skb_head: Self::MISSING,
        skb_network_header: Self::MISSING,
        skb_transport_header: Self::MISSING,
        has_reset_reason: 0,
        skb_dev: Self::MISSING,
        skb_iif: Self::MISSING,
        skb_dst: Self::MISSING,
        dst_dev: Self::MISSING,
        dev_net: Self::MISSING,
        sk_owned: Self::MISSING,
        sk_cgroup: Self::MISSING,
        cgroup_node: Self::MISSING,
        node_id: Self::MISSING,
        has_drop_socket: 0,
    };
}

/// Values of the map `INTERFACES`, by ifindex.
pub mod interface {
    pub const MONITORED: u32 = 1;
}

const _: () = {
    assert!(core::mem::size_of::<TableSet>() == 64);
    assert!(core::mem::size_of::<Scratch>().is_multiple_of(8));
};
