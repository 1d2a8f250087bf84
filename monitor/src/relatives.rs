//! Connections that carry on another one's numbers under another address.
//!
//! When translation of an address starts, stops or changes in the middle of a connection, its packets appear under a
//! new 4-tuple that shares one endpoint with the old one and its sequence space.

use crate::finding::Endpoint;
use crate::history::Relative;
use monitor_common::SeqNum;
use monitor_common::flow::{Direction, FlowKey};
use monitor_common::tracker::state::{Connection, Half, conn, half};
use std::borrow::Borrow;

/// More segments than this and the connection had a life of its own.
const FEW: u32 = 8;

/// Whether it is worth to look: a connection without a handshake, of a few segments.
pub fn is_candidate(c: &Connection) -> bool {
    c.flags & conn::MID_STREAM != 0 && c.half[0].segments.saturating_add(c.half[1].segments) <= FEW
}

/// The connections in `all` whose numbers the stray segment of `stray` carries on. The stray's sender is the end that
/// is not `reset_by`.
pub fn find(
    stray: &Connection,
    reset_by: Direction,
    all: impl Iterator<Item: Borrow<Connection>>,
    found: &mut Vec<Relative>,
) {
    let sender = reset_by.other();
    let half = &stray.half[sender.index()];
    if !half.has(half::SEEN) {
        return;
    }
    let (addr, port) = endpoint(&stray.key, reset_by);
    for other in all {
        let other = other.borrow();
        if other.key == stray.key {
            continue;
        }
        for shared in [Direction::Forward, Direction::Reverse] {
            if endpoint(&other.key, shared) != (addr, port) {
                continue;
            }
            if let Some(relative) = fit(stray, half, sender, other, shared) {
                found.push(relative);
            }
        }
    }
    // Whatever the table's order was.
    found.sort_by_key(|r| (!r.exact, r.key.port, r.key.addr));
    found.truncate(4);
}

fn endpoint(key: &FlowKey, d: Direction) -> ([u64; 2], u16) {
    (key.addr[d.index()], key.port[d.index()])
}

fn fit(stray: &Connection, half: &Half, sender: Direction, other: &Connection, shared: Direction) -> Option<Relative> {
    let near = &other.half[shared.index()];
    let far = &other.half[shared.other().index()];
    if !near.has(half::SEEN) || !far.has(half::SEEN) || !half.has(half::ACKED) {
        return None;
    }
    // The stray acknowledges what the shared endpoint sent on the other connection, and goes on where that one's far
    // end stood.
    let acknowledges = within(half.ack, if far.has(half::ACKED) { far.ack } else { near.snd_nxt }, near.snd_nxt);
    let goes_on = within(half.prev_seq, if near.has(half::ACKED) { near.ack } else { far.snd_nxt }, far.snd_nxt);
    if !acknowledges && !goes_on {
        return None;
    }
    let (translated, untranslated) = (Endpoint::of(&other.key, shared.other()), Endpoint::of(&stray.key, sender));
    let from_syn = (other.flags & conn::INITIATOR != 0).then_some(other.initiator == shared as u8);
    Some(Relative {
        key: other.key,
        shared: Endpoint::of(&other.key, shared),
        translated,
        untranslated,
        number: if acknowledges { half.ack.0 } else { half.prev_seq.0 },
        other: if acknowledges { near.snd_nxt.0 } else { far.snd_nxt.0 },
        exact: acknowledges && goes_on || half.ack == near.snd_nxt,
        shared_is_client: from_syn.or((translated.addr == untranslated.addr).then_some(false)),
    })
}

fn within(n: SeqNum, lo: SeqNum, hi: SeqNum) -> bool {
    n.at_or_after(lo) && n.at_or_before(hi)
}
