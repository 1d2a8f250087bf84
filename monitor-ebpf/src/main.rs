//! The kernel programs: XDP or TC on ingress, TC on egress, BTF tracepoints. Thin shells around `monitor-common`; they
//! observe and always pass the packet on.
#![no_std]
#![no_main]
#![allow(internal_features)]
#![feature(core_intrinsics)]

mod emit;
mod hook;
mod maps;
mod memory;
mod packet;
mod stages;
mod table;
mod tracepoints;

use aya_ebpf::bindings::{TC_ACT_UNSPEC, xdp_action::XDP_PASS};
use aya_ebpf::macros::{btf_tracepoint, classifier, xdp};
use aya_ebpf::programs::{BtfTracePointContext, TcContext, XdpContext};

// `inline(always)`: what the macros make is a function that calls the one written here.

/// Ingress. `frags`: also frames that span several buffers; headers lie in the first.
#[xdp(frags)]
#[inline(always)]
pub fn xdp_in(ctx: XdpContext) -> u32 {
    hook::ingress(&ctx);
    XDP_PASS
}

/// The same for drivers and kernels (before 5.18) that refuse `frags`.
#[xdp]
#[inline(always)]
pub fn xdp_in_linear(ctx: XdpContext) -> u32 {
    hook::ingress(&ctx);
    XDP_PASS
}

/// Ingress where XDP would cost the host its offloads: the same, for packets that GRO may have made of several segments.
#[classifier]
#[inline(always)]
pub fn tc_in(ctx: TcContext) -> i32 {
    hook::tc_ingress(&ctx);
    TC_ACT_UNSPEC
}

/// Egress. `UNSPEC` lets the next classifier, or the default, decide.
#[classifier]
#[inline(always)]
pub fn tc_out(ctx: TcContext) -> i32 {
    hook::egress(&ctx);
    TC_ACT_UNSPEC
}

#[btf_tracepoint(function = "tcp_send_reset")]
pub fn send_reset(ctx: BtfTracePointContext) -> i32 {
    tracepoints::send_reset(&ctx);
    0
}

#[btf_tracepoint(function = "tcp_receive_reset")]
pub fn receive_reset(ctx: BtfTracePointContext) -> i32 {
    tracepoints::receive_reset(&ctx);
    0
}

#[btf_tracepoint(function = "inet_sk_error_report")]
pub fn error_report(ctx: BtfTracePointContext) -> i32 {
    tracepoints::error_report(&ctx);
    0
}

/// Loaded only where the tracepoint has a reason (5.17).
#[btf_tracepoint(function = "kfree_skb")]
pub fn segment_drop(ctx: BtfTracePointContext) -> i32 {
    tracepoints::dropped(&ctx);
    0
}

/// An endless loop on purpose: a bounds check that can fail is refused when the object is loaded.
#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
