//! Who a packet comes from, by what its stack and its way leave in it: TTL, IPv4 ID, source MAC address, and DF, TOS and
//! flow label (DIAGNOSIS 4.2). The baseline is the speaker's last segment; a RST is compared and never enters it.

use super::notes::Notes;
use super::state::{Half, Hook, half};
use crate::anomaly::Anomaly;
use crate::event::identity;
use crate::flow::Direction;
use crate::segment::{Segment, flags, opt, packet};
use crate::seq::SeqNum;

/// Equal ones in a row that make a baseline.
const STABLE: u8 = 8;
/// Increments of the ID in a row that make its sender one that increments. Random IDs do it once in 4000.
const INCREMENTS: u8 = 2;
/// IDs that may have been used between two packets; one segmentation-offload packet uses up to 45.
const ID_STEP: u16 = 1024;

/// Whether `id` is what the speaker's counter may have come to.
#[inline(always)]
fn follows(me: &Half, id: u16) -> bool {
    let step = id.wrapping_sub(me.ip_id);
    (1..=ID_STEP).contains(&step)
}

/// Whether the speaker sent the segment after all that was seen of it: its timestamp or IPv4 ID says so.
#[inline(always)]
pub fn is_fresh(me: &Half, s: &Segment) -> bool {
    if me.has(half::TIMESTAMPS) && s.has_option(opt::TIMESTAMPS) {
        s.tsval.wrapping_sub(me.ts_hi) as i32 >= 0
    } else {
        s.packet & packet::IPV6 == 0 && me.id_run >= INCREMENTS && follows(me, s.ip_id)
    }
}

/// [`identity`] bits of a packet against those before it.
#[inline(always)]
pub fn of(me: &Half, hook: u8, s: &Segment) -> u8 {
    let mut bits = 0;
    let reset = s.has(flags::RST);
    // A stack answers without looking at a connection: nothing but DF and TTL is the connection's.
    let reply = reset && (!s.has(flags::ACK) || s.seq.0 == 0);
    if me.ttl_run > 0 {
        let apart = me.ttl.abs_diff(s.ttl);
        if apart >= 2 || apart == 1 && me.ttl_run >= STABLE {
            bits |= identity::TTL_DIFFERS;
        }
    }
    if s.packet & packet::IPV6 == 0 && me.id_run >= INCREMENTS {
        let exempt = s.ip_id == 0 && (reply || !reset && s.seq_len() == 0);
        if !exempt && !follows(me, s.ip_id) {
            bits |= identity::ID_BREAK;
        }
    }
    if me.l2 != 0 && s.l2 != 0 && me.l2 != s.l2 {
        bits |= identity::L2_DIFFERS;
    }
    let compared = if reply { Segment::LABEL_DF } else { u16::MAX };
    if me.label != 0 && (me.label ^ s.label()) & compared != 0 {
        bits |= identity::LABEL_DIFFERS;
    }
    let comes_in = me.fed_by == Hook::Ingress as u8 || me.fed_by == Hook::Forwarded as u8;
    if reset && hook == Hook::Egress as u8 && comes_in {
        bits |= identity::NO_INGRESS_TWIN;
    }
    bits
}

/// Whether the segment continues the baseline: [`remember`] notes nothing about it. One that repeats the last IPv4 ID does
/// not, because it may be a copy.
#[inline(always)]
pub fn continues(me: &Half, s: &Segment) -> bool {
    let id_breaks = s.packet & packet::IPV6 == 0
        && s.ip_id != 0
        && (s.ip_id == me.ip_id || me.id_run >= STABLE && !follows(me, s.ip_id));
    me.ttl == s.ttl && me.l2 == s.l2 && !id_breaks && !(s.ip_id == 0 && me.id_run >= STABLE)
}

/// Runs are counted up to this, the longest that anybody asks for.
pub const RUN_MAX: u8 = STABLE;

/// What [`take`] makes of TTL and runs if the segment is of the same TTL, source and label, and its IPv4 ID counts on or is zero as
/// ever: four bytes as they lie in the [`Half`]. Nothing if it is any other.
#[inline(always)]
pub fn longer_runs(me: &Half, s: &Segment) -> Option<u32> {
    let v6 = s.packet & packet::IPV6 != 0;
    let counts = me.ip_id != 0 && s.ip_id != 0 && follows(me, s.ip_id);
    if me.ttl != s.ttl || me.l2 != s.l2 || me.label != s.label() || !(v6 || counts || me.ip_id | s.ip_id == 0) {
        return None;
    }
    let runs = u32::from_le_bytes([me.ttl, me.ttl_run, me.id_run, me.l2_run]);
    let grow = if counts && !v6 { 0x0101_0100 } else { 0x0100_0100 };
    Some(runs + (!(runs >> RUN_MAX.trailing_zeros()) & grow))
}
const _: () = assert!(RUN_MAX.is_power_of_two());

/// Takes a segment other than a RST into the baseline.
#[inline(always)]
pub fn remember(me: &mut Half, dir: Direction, s: &Segment, notes: &mut Notes) {
    if me.ttl_run >= STABLE && me.ttl != s.ttl {
        notes.push(Anomaly::TtlShift, dir, SeqNum(me.ttl as u32), SeqNum(s.ttl as u32));
    }
    let breaks = s.packet & packet::IPV6 == 0
        && me.id_run >= STABLE
        && !(me.ip_id != 0 && follows(me, s.ip_id))
        && (s.ip_id != 0 || s.seq_len() > 0);
    if breaks {
        notes.push(Anomaly::IpidBreak, dir, SeqNum(me.ip_id as u32), SeqNum(s.ip_id as u32));
    }
    if me.l2_run >= STABLE && me.l2 != 0 && s.l2 != 0 && me.l2 != s.l2 {
        notes.push(Anomaly::L2Shift, dir, SeqNum(me.l2 as u32), SeqNum(s.l2 as u32));
    }
    take(me, s);
}

/// The baseline itself.
#[inline(always)]
pub fn take(me: &mut Half, s: &Segment) {
    if me.ttl_run == 0 || me.ttl == s.ttl {
        me.ttl_run = longer(me.ttl_run);
    } else {
        me.ttl_run = 1;
    }
    me.ttl = s.ttl;
    if s.packet & packet::IPV6 == 0 {
        if me.ip_id != 0 && follows(me, s.ip_id) {
            me.id_run = longer(me.id_run);
        } else if s.ip_id != 0 || s.seq_len() > 0 {
            me.id_run = 0;
        }
        if s.ip_id != 0 {
            me.ip_id = s.ip_id;
        }
    }
    if me.l2 == s.l2 {
        me.l2_run = longer(me.l2_run);
    } else {
        me.l2 = s.l2;
        me.l2_run = 1;
    }
    me.label = s.label();
}

#[inline(always)]
fn longer(run: u8) -> u8 {
    if run < RUN_MAX { run + 1 } else { run }
}
