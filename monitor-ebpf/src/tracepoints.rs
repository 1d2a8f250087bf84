//! What the local kernel says about its own resets, errors and drops. All optional: an older kernel says less.
//!
//! Tracepoints see every namespace of the machine. What is said of a socket or a packet of another namespace than the
//! watched interfaces' is not taken, whatever its tuple.

use crate::maps::{DROP_REASONS, DROPS, EMPTY, FACTS, NETNS, OFFSETS, TALLY};
use crate::memory::zero;
use crate::{emit, table};
use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::generated::{bpf_get_current_cgroup_id, bpf_get_current_comm};
use aya_ebpf::helpers::{bpf_get_current_pid_tgid, bpf_ktime_get_ns, bpf_probe_read_kernel};
use aya_ebpf::programs::BtfTracePointContext;
use core::intrinsics::{AtomicOrdering, atomic_xadd};
use monitor_common::abi::{Offsets, Tally};
use monitor_common::drops::{self, Drops, REASONS};
use monitor_common::event::{KernelEvent, source, tag};
use monitor_common::flow::{Addr, FlowKey, v4};
use monitor_common::seq::SeqNum;

/// `include/uapi/linux/in.h`, `include/net/tcp_states.h`.
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
const IPPROTO_TCP: u8 = 6;
const TCP_TIME_WAIT: u8 = 6;
const TCP_NEW_SYN_RECV: u8 = 12;
/// `skb->transport_header` before it is set.
const UNSET: u16 = u16::MAX;
/// `SKB_DST_NOREF` of include/linux/skbuff.h: a flag in the pointer.
const DST_NOREF: u64 = 1;

/// tcp_send_reset(sk, skb, reason): both pointers may be null. The segment answered, if there is one; before the
/// tracepoint had a reason an active reset passed the reset itself, without headers yet.
#[inline(always)]
pub fn send_reset(ctx: &BtfTracePointContext) {
    let (sk, skb) = (argument(ctx, 0), argument(ctx, 1));
    let o = OFFSETS.load();
    let reason = if o.has_reset_reason != 0 { argument(ctx, 2) as u32 } else { 0 };
    let Some(event) = start(source::SEND_RESET, reason) else { return };
    if sk != 0 {
        describe_socket(event, sk, &o);
    }
    let transport = if skb != 0 { read::<u16>(skb, o.skb_transport_header) } else { UNSET };
    if transport != UNSET {
        event.has_trigger = 1;
        // The trigger's tuple, even where there is a socket: a listener has no remote end, and a TIME-WAIT stub is
        // shorter than the structure that holds the port.
        from_trigger(event, skb, transport, &o);
        if event.netns == 0 {
            event.netns = netns_of_packet(skb, &o);
        }
    } else if sk != 0 {
        from_socket(event, sk, &o);
        decide_process(event, sk, &o);
    }
    finish(source::SEND_RESET);
}

#[inline(always)]
pub fn receive_reset(ctx: &BtfTracePointContext) {
    of_socket(ctx, source::RECEIVE_RESET);
}

#[inline(always)]
pub fn error_report(ctx: &BtfTracePointContext) {
    of_socket(ctx, source::ERROR_REPORT);
}

#[inline(always)]
fn of_socket(ctx: &BtfTracePointContext, source: u8) {
    let sk = argument(ctx, 0);
    if sk == 0 {
        return;
    }
    let o = OFFSETS.load();
    let reason = if source == source::ERROR_REPORT { read::<u32>(sk, o.sk_err) } else { 0 };
    let Some(event) = start(source, reason) else { return };
    describe_socket(event, sk, &o);
    from_socket(event, sk, &o);
    finish(source);
}

/// The event of this CPU and source, in map memory: on the stack its many small fields would make the verifier walk
/// what follows once for each way in which they can be missing.
#[inline(always)]
fn building(source: u8) -> Option<&'static mut KernelEvent> {
    // SAFETY: per-CPU memory of this tracepoint, see `maps`.
    FACTS.get_ptr_mut(source as u32 & 3).map(|p| unsafe { &mut *p })
}

#[inline(always)]
fn start(source: u8, reason: u32) -> Option<&'static mut KernelEvent> {
    let event = building(source)?;
    zero(event);
    event.tag = tag::KERNEL;
    event.source = source;
    event.reason = reason;
    Some(event)
}

/// Hands the event out, if its flow is one that the hooks track, in their namespace.
#[inline(always)]
fn finish(source: u8) {
    let Some(event) = building(source) else { return };
    // After a disconnect the socket has no remote end any more: there is nothing to join by.
    if event.remote_port == 0 {
        return;
    }
    let (key, _) = FlowKey::canonical(event.local, event.local_port, event.remote, event.remote_port);
    event.key = key;
    let Some(event) = building(source) else { return };
    let Some(slot) = table::slot_of(&event.key) else { return };
    let Some(tally) = tally() else { return };
    if !is_watched(event.netns) {
        add(&mut tally.elsewhere);
        return;
    }
    event.slot = slot;
    // SAFETY: no arguments.
    event.time_ns = unsafe { bpf_ktime_get_ns() };
    event.tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    // SAFETY: writes 16 bytes to where it is told.
    unsafe { bpf_get_current_comm(event.comm.as_mut_ptr().cast(), event.comm.len() as u32) };
    if emit::kernel(event) {
        add(&mut tally.facts_sent);
    } else {
        add(&mut tally.facts_lost);
    }
}

/// kfree_skb(skb, location, reason, rx_sk): for every packet that the machine drops, so the cheapest tests come first.
#[inline(always)]
pub fn dropped(ctx: &BtfTracePointContext) {
    // Read directly: a scalar, and the program is loaded only where the argument exists.
    // SAFETY: the context holds the tracepoint's arguments as words.
    let reason = unsafe { *ctx.as_ptr().cast::<u64>().add(2) } as u32;
    if reason >= REASONS as u32 {
        return;
    }
    if DROP_REASONS.get(reason).copied().unwrap_or(0) == 0 {
        return;
    }
    let skb = argument(ctx, 0);
    let o = OFFSETS.load();
    if !headers(skb, &o) {
        return;
    }
    // verifier: what was read passes through map memory and is looked up anew, as in the hooks. On the stack of 6.1 every
    // way in which a read can fail made the search for the slot be walked once more (1,000,000 instructions and over).
    let Some(event) = building(PACKET) else { return };
    let (key, direction) = FlowKey::canonical(event.remote, event.remote_port, event.local, event.local_port);
    event.key = key;
    event.family = direction as u8;
    let Some(event) = building(PACKET) else { return };
    let Some(slot) = table::slot_of(&event.key) else { return };
    let Some(tally) = tally() else { return };
    if NETNS.load() != 0 {
        let socket = if o.has_drop_socket != 0 { argument(ctx, 3) } else { 0 };
        event.netns = if socket != 0 { netns_of_socket(socket, &o) } else { 0 };
        if !is_watched(event.netns) {
            event.netns = netns_of_packet(skb, &o);
        }
        if !is_watched(event.netns) {
            add(&mut tally.elsewhere);
            return;
        }
    }
    // A packet that has not come in through an interface was made here.
    event.has_trigger = (read::<u32>(skb, o.skb_iif) == 0) as u8;
    let Some(event) = building(PACKET) else { return };
    let segment = drops::Segment {
        reason: reason as u16,
        speaker: event.family & 1,
        flags: event.state,
        leaving: event.has_trigger,
        seq: SeqNum(event.reason),
    };
    if enter(slot, &segment) {
        add(&mut tally.drops);
    } else {
        add(&mut tally.drops_lost);
    }
}

/// Enters a drop in the slot's entry, which is made at the first and emptied when it is another connection's.
#[inline(always)]
fn enter(slot: u32, segment: &drops::Segment) -> bool {
    let Some(connection) = table::core(slot) else { return false };
    let created_ns = connection.created_ns;
    let mut found = DROPS.get_ptr_mut(&slot);
    if found.is_none() {
        let Some(empty) = EMPTY.get_ptr(0) else { return false };
        // SAFETY: a map value of zeroes, longer than the one to insert.
        let empty = unsafe { &*empty.cast::<Drops>() };
        if DROPS.insert(&slot, empty, 0).is_err() {
            return false;
        }
        found = DROPS.get_ptr_mut(&slot);
    }
    let Some(entry) = found else { return false };
    // SAFETY: a map value; the agent deletes it for free slots only. Who writes it is argued in `drops`.
    let entry = unsafe { &mut *entry };
    if entry.created_ns != created_ns {
        zero(entry);
        entry.created_ns = created_ns;
    }
    // SAFETY: no arguments.
    entry.enter(segment, unsafe { bpf_ktime_get_ns() })
}

/// Index into `FACTS` of the packet that is dropped: its addresses as `remote` (source) and `local`, its sequence number
/// as `reason`, its flags as `state`.
const PACKET: u8 = 0;

/// Reads addresses and TCP header of a packet into [`PACKET`], where it is TCP right behind IP. The transport offset is
/// worked out anew: it is not set yet where generic XDP drops.
#[inline(always)]
fn headers(skb: u64, o: &Offsets) -> bool {
    let Some(event) = building(PACKET) else { return false };
    let head = read::<u64>(skb, o.skb_head);
    if head == 0 {
        return false;
    }
    let ip = head + read::<u16>(skb, o.skb_network_header) as u64;
    let first = read::<u8>(ip, 0);
    let mut tcp = ip + 40;
    if first >> 4 == 4 {
        // Later fragments have no TCP header.
        if read::<u8>(ip, 9) != IPPROTO_TCP || u16::from_be(read::<u16>(ip, 6)) & 0x1fff != 0 {
            return false;
        }
        event.remote = v4(u32::from_be(read::<u32>(ip, 12)));
        event.local = v4(u32::from_be(read::<u32>(ip, 16)));
        tcp = ip + (first as u64 & 0xf) * 4;
    } else if first >> 4 == 6 {
        if read::<u8>(ip, 6) != IPPROTO_TCP {
            return false;
        }
        event.remote = address6(ip, 8);
        event.local = address6(ip, 24);
    } else {
        return false;
    }
    event.remote_port = u16::from_be(read::<u16>(tcp, 0));
    event.local_port = u16::from_be(read::<u16>(tcp, 2));
    event.reason = u32::from_be(read::<u32>(tcp, 4));
    event.state = read::<u8>(tcp, 13);
    true
}

#[inline(always)]
fn tally() -> Option<&'static mut Tally> {
    // SAFETY: per-CPU memory; every counter is raised atomically.
    TALLY.get_ptr_mut(0).map(|p| unsafe { &mut *p })
}

#[inline(always)]
fn add(counter: &mut u64) {
    // SAFETY: an aligned word of map memory.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::SeqCst }>(counter, 1) };
}

/// Argument `n` as a number. Read through the helper, because a typed load would make it a pointer that the verifier
/// lets nobody calculate with, and would refuse an argument that this kernel's tracepoint does not have.
#[inline(always)]
fn argument(ctx: &BtfTracePointContext, n: usize) -> u64 {
    // SAFETY: a helper that checks its source address.
    unsafe { bpf_probe_read_kernel(ctx.as_ptr().cast::<u64>().add(n)) }.unwrap_or(0)
}

/// A field at `offset` of a kernel structure; zero when it cannot be had.
#[inline(always)]
fn read<T: Default>(base: u64, offset: u32) -> T {
    if offset == Offsets::MISSING {
        return T::default();
    }
    // SAFETY: a helper that checks its source address.
    unsafe { bpf_probe_read_kernel((base + offset as u64) as *const T) }.unwrap_or_default()
}

#[inline(always)]
fn is_watched(netns: u32) -> bool {
    let ours = NETNS.load();
    ours == 0 || netns == ours
}

#[inline(always)]
fn inode_of(net: u64, o: &Offsets) -> u32 {
    if net == 0 { 0 } else { read::<u32>(net, o.net_inum) }
}

#[inline(always)]
fn netns_of_socket(sk: u64, o: &Offsets) -> u32 {
    inode_of(read::<u64>(sk, o.skc_net), o)
}

/// The namespace of the packet's device, else of its route's: TCP takes the device away from what it receives.
#[inline(always)]
fn netns_of_packet(skb: u64, o: &Offsets) -> u32 {
    let dev = read::<u64>(skb, o.skb_dev);
    let netns = if dev == 0 { 0 } else { inode_of(read::<u64>(dev, o.dev_net), o) };
    if netns != 0 {
        return netns;
    }
    let dst = read::<u64>(skb, o.skb_dst) & !DST_NOREF;
    if dst == 0 {
        return 0;
    }
    let dev = read::<u64>(dst, o.dst_dev);
    if dev == 0 { 0 } else { inode_of(read::<u64>(dev, o.dev_net), o) }
}

/// What every kind of socket has, and the cgroup that a full one was made in.
#[inline(always)]
fn describe_socket(event: &mut KernelEvent, sk: u64, o: &Offsets) {
    event.state = read::<u8>(sk, o.skc_state);
    event.cookie = read::<u64>(sk, o.skc_cookie);
    event.netns = netns_of_socket(sk, o);
    if event.state == TCP_TIME_WAIT || event.state == TCP_NEW_SYN_RECV {
        return;
    }
    let cgroup = read::<u64>(sk, o.sk_cgroup);
    let node = if cgroup == 0 { 0 } else { read::<u64>(cgroup, o.cgroup_node) };
    if node != 0 {
        event.cgroup = read::<u64>(node, o.node_id);
    }
}

/// Whether the current process is the one that acts. Timers and the receive path run in whatever process they interrupt,
/// but never touch a socket that a process holds (`sock_owned_by_user`), so a held one means its holder.
#[inline(always)]
fn decide_process(event: &mut KernelEvent, sk: u64, o: &Offsets) {
    if read::<u32>(sk, o.sk_owned) == 0 {
        return;
    }
    event.in_process = 1;
    // SAFETY: no arguments.
    event.cgroup = unsafe { bpf_get_current_cgroup_id() };
}

#[inline(always)]
fn address6(base: u64, offset: u32) -> Addr {
    [u64::from_be(read::<u64>(base, offset)), u64::from_be(read::<u64>(base, offset + 8))]
}

#[inline(always)]
fn from_socket(event: &mut KernelEvent, sk: u64, o: &Offsets) {
    event.local_port = u16::from_be(read::<u16>(sk, o.inet_sport));
    event.remote_port = u16::from_be(read::<u16>(sk, o.skc_dport));
    match read::<u16>(sk, o.skc_family) {
        AF_INET => {
            event.family = 4;
            event.local = v4(u32::from_be(read::<u32>(sk, o.skc_rcv_saddr)));
            event.remote = v4(u32::from_be(read::<u32>(sk, o.skc_daddr)));
        }
        AF_INET6 if o.skc_v6_daddr != Offsets::MISSING && o.skc_v6_rcv_saddr != Offsets::MISSING => {
            event.family = 6;
            event.local = address6(sk, o.skc_v6_rcv_saddr);
            event.remote = address6(sk, o.skc_v6_daddr);
        }
        _ => event.remote_port = 0,
    }
}

/// The tuple of the segment that is answered: its destination is the local end.
#[inline(always)]
fn from_trigger(event: &mut KernelEvent, skb: u64, transport: u16, o: &Offsets) {
    let head = read::<u64>(skb, o.skb_head);
    if head == 0 {
        return;
    }
    let ip = head + read::<u16>(skb, o.skb_network_header) as u64;
    let tcp = head + transport as u64;
    event.remote_port = u16::from_be(read::<u16>(tcp, 0));
    event.local_port = u16::from_be(read::<u16>(tcp, 2));
    if read::<u8>(ip, 0) >> 4 == 4 {
        event.family = 4;
        event.remote = v4(u32::from_be(read::<u32>(ip, 12)));
        event.local = v4(u32::from_be(read::<u32>(ip, 16)));
    } else {
        event.family = 6;
        event.remote = address6(ip, 8);
        event.local = address6(ip, 24);
    }
}
