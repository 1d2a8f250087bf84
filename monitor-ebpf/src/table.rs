//! The connection table: 16-way sets in arrays, hashed here.
//!
//! An array lookup is inlined by the JIT and costs next to nothing where a hash map costs a helper call and a walk over
//! a bucket; and owning the sets means owning the eviction: a half-open connection never makes an established
//! one go.

use crate::emit;
use crate::maps::{FLOWS, HASH_SEED, SET_COUNT, SETS};
use core::intrinsics::{AtomicOrdering, atomic_xadd};
use monitor_common::abi::{Counters, TableSet, WAYS, class, set_index, tag};
use monitor_common::flow::FlowKey;
use monitor_common::segment::Segment;
use monitor_common::tracker;
use monitor_common::tracker::state::{Connection, Phase, half};

/// Where a connection lives.
pub struct Place {
    pub set: u32,
    pub way: u32,
    pub slot: u32,
}

/// The entry of a slot.
#[inline(always)]
pub fn connection(slot: u32) -> Option<&'static mut Connection> {
    // SAFETY: an array element stays where it is; who writes what is argued in `maps`.
    FLOWS.get_ptr_mut(slot).map(|p| unsafe { &mut *p })
}

#[inline(always)]
pub fn find_or_insert(key: &FlowKey, segment: &Segment, now_ns: u64, counters: &mut Counters) -> Option<Place> {
    let hash = key.hash(HASH_SEED.load());
    let index = set_index(hash, SET_COUNT.load());
    let set = SETS.get_ptr_mut(index)?;
    match find(key, hash, index, set) {
        Some(place) => Some(place),
        None => insert(index, set, tag(hash), key, segment, now_ns, counters),
    }
}

/// The slot of a flow that is tracked.
#[inline(always)]
pub fn slot_of(key: &FlowKey) -> Option<u32> {
    let hash = key.hash(HASH_SEED.load());
    let index = set_index(hash, SET_COUNT.load());
    let set = SETS.get_ptr_mut(index)?;
    find(key, hash, index, set).map(|place| place.slot)
}

#[inline(always)]
fn find(key: &FlowKey, hash: u32, index: u32, set: *mut TableSet) -> Option<Place> {
    let tag = tag(hash);
    let mut way = 0u32;
    while way < WAYS as u32 {
        // SAFETY: `way` is below WAYS; the set is an array element.
        if unsafe { (*set).tag[way as usize & (WAYS - 1)] } == tag {
            let slot = index * WAYS as u32 + way;
            let connection = FLOWS.get_ptr_mut(slot)?;
            // SAFETY: an array element. A key that is being replaced does not match.
            if unsafe { (*connection).key.is(key) } {
                return Some(Place { set: index, way, slot });
            }
        }
        way += 1;
    }
    None
}

#[inline(always)]
fn add(lock: *mut u32, value: u32) {
    // SAFETY: the lock is an aligned word of the set. Without the old value being used this is the plain atomic
    // addition that every kernel has; compare-and-swap exists from 5.12 on only.
    unsafe { atomic_xadd::<u32, u32, { AtomicOrdering::SeqCst }>(lock, value) };
}

/// Takes the set if nobody has it: of all who add one, only who then reads one holds it, because a holder's one
/// stays in until it lets go.
#[inline(always)]
fn try_lock(lock: *mut u32) -> bool {
    add(lock, 1);
    // SAFETY: as in `add`.
    if unsafe { core::ptr::read_volatile(lock) } == 1 {
        return true;
    }
    add(lock, u32::MAX);
    false
}

#[inline(always)]
fn insert(
    index: u32,
    set: *mut TableSet,
    tag: u16,
    key: &FlowKey,
    segment: &Segment,
    now_ns: u64,
    counters: &mut Counters,
) -> Option<Place> {
    // SAFETY: a field of an array element.
    let lock = unsafe { &raw mut (*set).lock };
    if !try_lock(lock) {
        counters.table_busy += 1;
        return None;
    }
    let place = insert_locked(index, set, tag, key, segment, now_ns, counters);
    add(lock, u32::MAX);
    place
}

#[inline(always)]
fn insert_locked(
    index: u32,
    set: *mut TableSet,
    tag: u16,
    key: &FlowKey,
    segment: &Segment,
    now_ns: u64,
    counters: &mut Counters,
) -> Option<Place> {
    // SAFETY: an array element, and the lock is held.
    let s = unsafe { &mut *set };
    const NONE: u32 = u32::MAX;
    let (mut empty, mut done, mut half_open) = (NONE, NONE, NONE);
    let hand = s.hand;
    let mut i = 0u32;
    while i < WAYS as u32 {
        // From the hand on, so that half-open entries go in turn.
        let way = (hand + i) & (WAYS as u32 - 1);
        let class = s.class[way as usize & (WAYS - 1)];
        if s.tag[way as usize & (WAYS - 1)] == 0 {
            empty = way;
            break;
        }
        if class == class::DONE && done == NONE {
            done = way;
        }
        if class == class::HALF_OPEN && half_open == NONE {
            half_open = way;
        }
        i += 1;
    }
    let way = if empty != NONE {
        empty
    } else if done != NONE {
        counters.evicted_done += 1;
        done
    } else if half_open != NONE {
        counters.evicted_half_open += 1;
        half_open
    } else {
        counters.table_full += 1;
        return None;
    };
    let w = way as usize & (WAYS - 1);
    let slot = index * WAYS as u32 + way;
    let connection = FLOWS.get_ptr_mut(slot)?;
    // SAFETY: the tag is taken away first, so that nobody finds the entry while it changes.
    let c = unsafe { &mut *connection };
    s.tag[w] = 0;
    emit::zero(c);
    tracker::begin(c, key, segment, 0, now_ns);
    s.class[w] = class::HALF_OPEN;
    s.hand = way + 1;
    // SAFETY: published last, and not moved before the entry's stores.
    unsafe { core::ptr::write_volatile(&raw mut s.tag[w], tag) };
    counters.connections_opened += 1;
    Some(Place { set: index, way, slot })
}

/// Keeps the entry's class up to date. An entry counts as live only when both ends have spoken: one-sided floods
/// must not fill the table.
#[inline(always)]
pub fn classify(set: u32, way: u32, c: &Connection) {
    let class = match c.phase() {
        Phase::TimeWait | Phase::Reset => class::DONE,
        Phase::SynSent | Phase::SynReceived => class::HALF_OPEN,
        _ if c.half[0].has(half::SEEN) && c.half[1].has(half::SEEN) => class::LIVE,
        _ => class::HALF_OPEN,
    };
    let Some(set) = SETS.get_ptr_mut(set) else { return };
    // SAFETY: an array element; the class is one byte, and a lost store is made up by the next packet.
    let slot = unsafe { &mut (*set).class[way as usize & (WAYS - 1)] };
    if *slot != class {
        *slot = class;
    }
}
