//! TCP options: MSS, window scale, SACK, timestamps (RFC 9293 3.2, 7323, 2018), and the presence of TFO, MPTCP,
//! MD5 and TCP-AO.

use crate::parse::{Bytes, View};
use crate::segment::{Segment, opt};
use crate::seq::SeqNum;

/// Steps of the walk; a NOP is a step. Every stack's real layouts need at most nine.
const MAX_STEPS: usize = 12;

/// NOP, NOP, timestamps: the layout that nearly every segment of a connection with timestamps has.
pub(crate) const ALIGNED_TIMESTAMPS: u32 = 0x0101_080a;

/// Reads the `len` option bytes at `offset` into `segment`. Bytes that the buffer does not hold, and an option that
/// runs past the header, set [`opt::MALFORMED`]; what came before stays.
#[inline(always)]
pub fn parse<B: Bytes>(bytes: B, offset: usize, len: usize, segment: &mut Segment) {
    if len == 12
        && let Some(v) = bytes.at(offset, 12)
        && v.be32(0) == ALIGNED_TIMESTAMPS
    {
        segment.options = opt::TIMESTAMPS;
        segment.tsval = v.be32(4);
        segment.tsecr = v.be32(8);
        return;
    }
    let mut at = 0;
    let mut steps = 0;
    while steps < MAX_STEPS {
        if at >= len || at >= 40 {
            return;
        }
        match step(bytes, offset + at, len - at, segment) {
            0 => return,
            used => at = bytes.forget((at + used) as u32, 63) as usize,
        }
        steps += 1;
    }
    if at < len {
        segment.options |= opt::MALFORMED;
    }
}

/// Reads one option with `left` bytes of header from it on; returns its length, 0 at the end.
#[inline(always)]
fn step<B: Bytes>(bytes: B, offset: usize, left: usize, s: &mut Segment) -> usize {
    // From the byte before, which is there always: the option may be one byte at the very end of the packet.
    let Some(kind) = bytes.at(offset - 1, 2) else {
        s.options |= opt::MALFORMED;
        return 0;
    };
    match kind.byte(1) {
        0 => return 0,
        1 => return 1,
        _ => {}
    }
    let head = if left < 2 { None } else { bytes.at(offset, 2) };
    let (kind, len) = match head {
        Some(head) => (head.byte(0), head.byte(1) as usize),
        None => (0, 0),
    };
    if len < 2 || len > left || len > 40 {
        s.options |= opt::MALFORMED;
        return 0;
    }
    match (kind, len) {
        (2, 4) => {
            if let Some(v) = bytes.at(offset, 4) {
                s.mss = v.be16(2);
                s.options |= opt::MSS;
            }
        }
        (3, 3) => {
            if let Some(v) = bytes.at(offset, 3) {
                // RFC 7323 section 2.3: a shift above 14 is taken as 14.
                let shift = v.byte(2);
                s.wscale = if shift > 14 { 14 } else { shift };
                s.options |= opt::WSCALE;
            }
        }
        (4, 2) => s.options |= opt::SACK_PERMITTED,
        (8, 10) => {
            if let Some(v) = bytes.at(offset, 10) {
                s.tsval = v.be32(2);
                s.tsecr = v.be32(6);
                s.options |= opt::TIMESTAMPS;
            }
        }
        // RFC 2018 section 3: a kind, a length, and one to four blocks of eight bytes.
        (5, 10 | 18 | 26 | 34) => sack(bytes, offset, len, s),
        (34, _) => s.options |= opt::FAST_OPEN,
        (19, _) | (29, _) => s.options |= opt::AUTH,
        (30, _) => {
            s.options |= opt::MPTCP;
            if len >= 4
                && let Some(v) = bytes.at(offset, 4)
                // RFC 8684: MP_FASTCLOSE is subtype 7, MP_TCPRST 8.
                && matches!(v.byte(2) >> 4, 7 | 8)
            {
                s.options |= opt::MPTCP_RESET;
            }
        }
        _ => {}
    }
    len
}

/// Blocks are granted one by one: a capture may cut the option short.
#[inline(always)]
fn sack<B: Bytes>(bytes: B, offset: usize, len: usize, s: &mut Segment) {
    s.options |= opt::SACK;
    s.sack_count = 0;
    let mut i = 0;
    while i < 4 {
        let start = 2 + 8 * i;
        if start >= len {
            break;
        }
        let Some(v) = bytes.at(offset + start, 8) else {
            break;
        };
        s.sack[i] = [SeqNum(v.be32(0)), SeqNum(v.be32(4))];
        s.sack_count = i as u8 + 1;
        i += 1;
    }
}
