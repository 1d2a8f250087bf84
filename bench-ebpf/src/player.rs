//! One system call with `repeat = N` runs the player N times: each run writes the next packet of a conversation into
//! the test buffer and tail-calls the program under test, so N different packets are timed by one call.
//!
//! A conversation is played as many connections at once, step by step: every connection's first packet, every
//! connection's second, and so on, in an order that changes from step to step. Connections differ in the client's
//! address. After its last packet the conversation goes on at its loop point, either as a new connection or as the
//! same one with sequence numbers and time stamps moved on.
//!
//! Frames keep the buffer's length: what follows an IP packet in a frame is padding.

use crate::maps::{FRAMES, PLAY, T_NEXT, X_NEXT};
use aya_ebpf::helpers::generated::{bpf_skb_store_bytes, bpf_xdp_store_bytes};
use aya_ebpf::programs::{TcContext, XdpContext};

/// Of each frame that much is written: all headers, and zeroes of payload.
pub const HEADERS: usize = 128;

/// One packet of the conversation. Offsets are from the frame's start; 0: the packet has no such field.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Frame {
    /// The last four bytes of the client's address.
    client: u8,
    ip_sum: u8,
    l4_sum: u8,
    /// TCP's sequence number; the acknowledgement follows it.
    seq: u8,
    /// TSval; TSecr follows it.
    timestamp: u8,
    /// First of two SACK edges.
    sack: u8,
    /// Whether the server sends it.
    from_server: u8,
    /// IPv4's identification.
    ident: u8,
    /// The beginning of the frame.
    data: [u8; HEADERS],
}

#[derive(Clone, Copy)]
#[repr(C)]
pub struct Play {
    /// Packets played so far.
    count: u64,
    /// Packets in `FRAMES`.
    frames: u32,
    /// The loop point.
    lead: u32,
    /// Connections at once, a power of two: its logarithm, and itself less 1.
    shift: u32,
    mask: u32,
    /// XORed into the client's address.
    salt: u32,
    /// Not 0: each pass is new connections.
    renew: u32,
    /// What a pass from the loop point on adds to the sequence numbers of client and server, and to their time stamps.
    bytes: [u32; 2],
    ticks: u32,
    /// What a pass adds to their IPv4 identifications.
    ids: [u16; 2],
}

/// How the packet differs from the one in `FRAMES`.
struct Change {
    salt: u32,
    pass: u32,
}

#[inline(always)]
fn next(play: &mut Play) -> Option<(&'static Frame, Change)> {
    let count = play.count;
    play.count += 1;
    let step = count >> (play.shift & 63);
    // An odd factor permutes the connections, another one in each step.
    let connection = (count as u32).wrapping_mul((step as u32).wrapping_mul(0x9e37_79b2) | 1) & play.mask;
    let mut salt = play.salt ^ connection;
    let lead = u64::from(play.lead);
    let (index, pass) = if step < lead {
        (step as u32, 0)
    } else {
        let body = (play.frames - play.lead).max(1) as u64;
        let beyond = step - lead;
        ((lead + beyond % body) as u32, (beyond / body) as u32)
    };
    let mut change = Change { salt, pass };
    if play.renew != 0 {
        salt ^= pass << (play.shift & 31);
        change = Change { salt, pass: 0 };
    }
    Some((FRAMES.get(index)?, change))
}

/// The IPv4 identification, moved on by `by`; returns what that adds to the header's checksum.
#[inline(always)]
fn identified(data: usize, end: usize, offset: u8, by: u16) -> u32 {
    let at = data + usize::from(offset);
    if offset == 0 || at + 2 > end {
        return 0;
    }
    // SAFETY: as in `moved`.
    unsafe {
        let old = *(at as *const u16);
        let new = u16::from_be(old).wrapping_add(by).to_be();
        *(at as *mut u16) = new;
        u32::from(!old) + u32::from(new)
    }
}

/// A 32-bit field of the packet, moved by `f`; returns what that adds to an Internet checksum.
#[inline(always)]
fn moved(data: usize, end: usize, offset: usize, f: impl Fn(u32) -> u32) -> u32 {
    let at = data + offset;
    if at + 4 > end {
        return 0;
    }
    // SAFETY: inside of the packet, which the verifier makes sure of once more; BPF accesses may be unaligned.
    unsafe {
        let old = *(at as *const u32);
        let new = f(u32::from_be(old)).to_be();
        *(at as *mut u32) = new;
        (!old & 0xffff) + (!old >> 16) + (new & 0xffff) + (new >> 16)
    }
}

/// RFC 1624, equation 3.
#[inline(always)]
fn mend(data: usize, end: usize, offset: u8, difference: u32) {
    let at = data + usize::from(offset);
    if offset == 0 || at + 2 > end {
        return;
    }
    // SAFETY: as in `moved`.
    unsafe {
        let mut sum = u32::from(!*(at as *const u16)) + difference;
        sum = (sum & 0xffff) + (sum >> 16);
        sum = (sum & 0xffff) + (sum >> 16);
        *(at as *mut u16) = !(sum as u16);
    }
}

#[inline(always)]
fn vary(data: usize, end: usize, frame: &Frame, play: &Play, change: &Change) {
    let mut difference = 0;
    if frame.client != 0 && change.salt != 0 {
        let salt = change.salt;
        difference = moved(data, end, usize::from(frame.client), |address| address ^ salt);
    }
    let mut header = difference;
    if change.pass != 0 && frame.seq != 0 {
        let ids = play.ids[usize::from(frame.from_server != 0)];
        header += identified(data, end, frame.ident, ids.wrapping_mul(change.pass as u16));
        let [client, server] = play.bytes.map(|bytes| bytes.wrapping_mul(change.pass));
        let (own, other) = if frame.from_server != 0 { (server, client) } else { (client, server) };
        let seq = usize::from(frame.seq);
        difference += moved(data, end, seq, |n| n.wrapping_add(own));
        difference += moved(data, end, seq + 4, |n| n.wrapping_add(other));
        if frame.timestamp != 0 {
            let at = usize::from(frame.timestamp);
            let ticks = play.ticks.wrapping_mul(change.pass);
            difference += moved(data, end, at, |n| n.wrapping_add(ticks));
            difference += moved(data, end, at + 4, |n| n.wrapping_add(ticks));
        }
        if frame.sack != 0 {
            let at = usize::from(frame.sack);
            difference += moved(data, end, at, |n| n.wrapping_add(other));
            difference += moved(data, end, at + 4, |n| n.wrapping_add(other));
        }
    }
    mend(data, end, frame.ip_sum, header);
    mend(data, end, frame.l4_sum, difference);
}

#[inline(always)]
pub fn ingress(ctx: &XdpContext) -> Option<()> {
    // SAFETY: only one player runs at a time.
    let play = unsafe { &mut *PLAY.get_ptr_mut(0)? };
    let (frame, change) = next(play)?;
    // SAFETY: the map value is written to the packet of the context.
    let failed = unsafe { bpf_xdp_store_bytes(ctx.ctx, 0, frame.data.as_ptr() as *mut _, HEADERS as u32) };
    if failed != 0 {
        return None;
    }
    vary(ctx.data(), ctx.data_end(), frame, play, &change);
    // SAFETY: ends this program, which holds nothing.
    unsafe { X_NEXT.tail_call(ctx, 0) };
    None
}

#[inline(always)]
pub fn egress(ctx: &TcContext) -> Option<()> {
    // SAFETY: only one player runs at a time.
    let play = unsafe { &mut *PLAY.get_ptr_mut(0)? };
    let (frame, change) = next(play)?;
    // SAFETY: the map value is written to the packet of the context.
    let failed = unsafe { bpf_skb_store_bytes(ctx.skb.skb.cast(), 0, frame.data.as_ptr().cast(), HEADERS as u32, 0) };
    if failed != 0 {
        return None;
    }
    vary(ctx.data(), ctx.data_end(), frame, play, &change);
    // SAFETY: ends this program, which holds nothing.
    unsafe { T_NEXT.tail_call(ctx, 0) };
    None
}
