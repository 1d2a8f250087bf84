//! What the benchmark measures against, and with: floor programs, each the cheapest code for a part of what a tracker
//! must do per packet, and the player that hands packets to the program under test.
//!
//! Nothing here tracks anything, and nothing here is shared with the programs under test: a change to those must not
//! move the floor.
#![no_std]
#![no_main]

mod floor;
mod maps;
mod parse;
mod player;

use aya_ebpf::bindings::xdp_action::{XDP_ABORTED, XDP_PASS};
use aya_ebpf::bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC};
use aya_ebpf::macros::{classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};
use parse::Headers;

// The XDP programs take fragments like the agent's, because a program may only be tail-called by one of its own kind.

#[xdp(frags)]
pub fn x_empty(_: XdpContext) -> u32 {
    XDP_PASS
}

#[classifier]
pub fn t_empty(_: TcContext) -> i32 {
    TC_ACT_UNSPEC
}

/// Headers read, nothing done with them.
#[xdp(frags)]
pub fn x_parse(ctx: XdpContext) -> u32 {
    let mut headers = Headers::default();
    parse::tcp(ctx.data(), ctx.data_end(), &mut headers);
    // Keeps the reads from being optimised away.
    if headers.sum() == 0x5ead_beef { XDP_ABORTED } else { XDP_PASS }
}

#[classifier]
pub fn t_parse(ctx: TcContext) -> i32 {
    let mut headers = Headers::default();
    parse::tcp(ctx.data(), ctx.data_end(), &mut headers);
    if headers.sum() == 0x5ead_beef { TC_ACT_SHOT } else { TC_ACT_UNSPEC }
}

/// The whole floor: headers, key, one lookup or insert, one clock, 128 bytes read, modified and written.
#[xdp(frags)]
pub fn x_floor(ctx: XdpContext) -> u32 {
    floor::packet(ctx.data(), ctx.data_end());
    XDP_PASS
}

#[classifier]
pub fn t_floor(ctx: TcContext) -> i32 {
    floor::packet(ctx.data(), ctx.data_end());
    TC_ACT_UNSPEC
}

/// The whole floor, and each connection's last headers.
#[xdp(frags)]
pub fn x_recorded(ctx: XdpContext) -> u32 {
    floor::recorded(ctx.data(), ctx.data_end());
    XDP_PASS
}

#[classifier]
pub fn t_recorded(ctx: TcContext) -> i32 {
    floor::recorded(ctx.data(), ctx.data_end());
    TC_ACT_UNSPEC
}

/// The whole floor, and an event for each packet.
#[classifier]
pub fn t_event(ctx: TcContext) -> i32 {
    floor::packet(ctx.data(), ctx.data_end());
    floor::empty_event();
    TC_ACT_UNSPEC
}

#[classifier]
pub fn t_event_close(ctx: TcContext) -> i32 {
    floor::packet(ctx.data(), ctx.data_end());
    floor::event_of_a_close();
    TC_ACT_UNSPEC
}

/// The same of the floor with last headers, which it tells.
#[classifier]
pub fn t_event_reset(ctx: TcContext) -> i32 {
    if let Some((long, area)) = floor::recorded(ctx.data(), ctx.data_end()) {
        floor::event_of_a_reset(long, area);
    }
    TC_ACT_UNSPEC
}

/// Writes the next packet into the test buffer and goes on in the program under test.
#[xdp(frags)]
pub fn x_play(ctx: XdpContext) -> u32 {
    player::ingress(&ctx);
    XDP_ABORTED
}

#[classifier]
pub fn t_play(ctx: TcContext) -> i32 {
    player::egress(&ctx);
    TC_ACT_SHOT
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
