//! What the local kernel says about its own resets. All optional: an older kernel says less.

use crate::maps::{FACTS, OFFSETS};
use crate::{emit, table};
use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::generated::bpf_get_current_comm;
use aya_ebpf::helpers::{bpf_get_current_pid_tgid, bpf_ktime_get_ns, bpf_probe_read_kernel};
use aya_ebpf::programs::BtfTracePointContext;
use monitor_common::abi::Offsets;
use monitor_common::event::{KernelEvent, source, tag};
use monitor_common::flow::{FlowKey, v4};

/// `include/uapi/linux/in.h`, `include/net/tcp_states.h`.
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
const TCP_LISTEN: u8 = 10;
/// `skb->transport_header` before it is set.
const UNSET: u16 = u16::MAX;

/// tcp_send_reset(sk, skb, reason): both pointers may be null. The segment answered, if there is one; before the
/// tracepoint had a reason an active reset passed the reset itself, without headers yet.
#[inline(always)]
pub fn send_reset(ctx: &BtfTracePointContext) {
    let (sk, skb) = (argument(ctx, 0), argument(ctx, 1));
    let o = OFFSETS.load();
    let reason = if o.has_reset_reason != 0 { argument(ctx, 2) as u32 } else { 0 };
    let Some(event) = start(source::SEND_RESET, reason) else { return };
    if sk != 0 {
        event.state = read::<u8>(sk, o.skc_state);
        // A listener has no remote end: the tuple is the trigger's.
        if event.state != TCP_LISTEN {
            from_socket(event, sk, &o);
        }
        describe_socket(event, sk, &o);
    }
    if skb != 0 {
        let transport = read::<u16>(skb, o.skb_transport_header);
        if transport != UNSET {
            event.has_trigger = 1;
            if event.remote_port == 0 {
                from_trigger(event, skb, transport, &o);
            }
        }
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
    event.state = read::<u8>(sk, o.skc_state);
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
    emit::zero(event);
    event.tag = tag::KERNEL;
    event.source = source;
    event.reason = reason;
    Some(event)
}

/// Hands the event out, if its flow is one that the hooks track: tracepoints see every namespace of the machine.
#[inline(always)]
fn finish(source: u8) {
    let Some(event) = building(source) else { return };
    if event.remote_port == 0 {
        return;
    }
    let (key, _) = FlowKey::canonical(event.local, event.local_port, event.remote, event.remote_port);
    event.key = key;
    let Some(event) = building(source) else { return };
    if !table::is_tracked(&event.key) {
        return;
    }
    // SAFETY: no arguments.
    event.time_ns = unsafe { bpf_ktime_get_ns() };
    event.tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    // SAFETY: writes 16 bytes to where it is told.
    unsafe { bpf_get_current_comm(event.comm.as_mut_ptr().cast(), event.comm.len() as u32) };
    emit::kernel(event);
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
fn describe_socket(event: &mut KernelEvent, sk: u64, o: &Offsets) {
    event.cookie = read::<u64>(sk, o.skc_cookie);
    let net = read::<u64>(sk, o.skc_net);
    if net != 0 {
        event.netns = read::<u32>(net, o.net_inum);
    }
}

#[inline(always)]
fn address6(base: u64, offset: u32) -> [u64; 2] {
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
