//! The connection table: 16-way sets in arrays, hashed here. A set that is full of live connections passes new ones on to
//! its three neighbours.
//!
//! An array lookup is inlined by the JIT and costs next to nothing where a hash map costs a helper call and a walk over
//! a bucket; and owning the sets means owning the eviction: a half-open connection never makes an established
//! one go.

use crate::maps::{FAULTS, FLOWS, HASH_KEYS, SET_COUNT, SETS, SPREAD};
use crate::memory::zero;
use core::hint::black_box as hide;
use core::intrinsics::{AtomicOrdering, atomic_xadd};
use monitor_common::abi::{
    Counters, Flow, NEIGHBOURS, Scratch, TableSet, WAYS, class, first_way, set_index, slot, tag,
};
use monitor_common::flow::{Direction, FlowKey};
use monitor_common::segment::{Segment, flags};
use monitor_common::tracker;
use monitor_common::tracker::state::{Core, Fault, Hook, Phase, bare, half};

/// Where a connection lives.
pub struct Place {
    pub set: u32,
    pub way: u32,
    pub slot: u32,
    pub flow: &'static mut Flow,
}

/// The entry of a slot.
#[inline(always)]
pub fn flow(slot: u32) -> Option<&'static mut Flow> {
    // SAFETY: an array element stays where it is; who writes what is argued in `maps`.
    FLOWS.get_ptr_mut(slot).map(|p| unsafe { &mut *p })
}

/// What every packet of a slot's connection touches.
#[inline(always)]
pub fn core(slot: u32) -> Option<&'static mut Core> {
    flow(slot).map(|f| &mut f.core)
}

/// What abnormal segments touch.
#[inline(always)]
pub fn faults(slot: u32) -> Option<&'static mut [Fault; 2]> {
    // SAFETY: as in `flow`.
    FAULTS.get_ptr_mut(slot).map(|p| unsafe { &mut *p })
}

impl Place {
    /// Leaves it in the scratch memory.
    #[inline(always)]
    pub fn note(&self, scratch: &mut Scratch) {
        (scratch.set, scratch.way, scratch.slot) = (self.set, self.way, self.slot);
    }
}

#[inline(always)]
pub fn hash(key: &FlowKey) -> u32 {
    key.hash(&HASH_KEYS.load())
}

/// The slot of a flow that is tracked.
#[inline(always)]
pub fn slot_of(key: &FlowKey) -> Option<u32> {
    find(key, hash(key)).map(|place| place.slot)
}

/// Looks into the hash's own set, and on into its neighbours while those before had to pass an entry on.
#[inline(always)]
pub fn find(key: &FlowKey, hash: u32) -> Option<Place> {
    let home = set_index(hash, SET_COUNT.load());
    let mut step = 0u32;
    while step < NEIGHBOURS {
        let index = home ^ step;
        let set = SETS.get_ptr_mut(index)?;
        let found = find_in(key, hash, index, set);
        // SAFETY: a field of an array element.
        if found.is_some() || unsafe { (*set).overflowed } == 0 {
            return found;
        }
        step += 1;
    }
    None
}

#[inline(always)]
fn find_in(key: &FlowKey, hash: u32, index: u32, set: *mut TableSet) -> Option<Place> {
    let tag = tag(hash);
    let first = first(tag);
    let mut i = 0u32;
    while i < WAYS as u32 {
        let way = (first + i) & (WAYS as u32 - 1);
        // SAFETY: `way` is below WAYS; the set is an array element.
        if unsafe { (*set).tag[way as usize] } == tag {
            let slot = slot(index, way, SET_COUNT.load());
            // A key that is being replaced does not match.
            let flow = flow(slot)?;
            if flow.core.key.is(key) {
                return Some(Place { set: index, way, slot, flow });
            }
        }
        i += 1;
    }
    None
}

#[inline(always)]
fn spread() -> u32 {
    SPREAD.get(0).copied().unwrap_or(0)
}

#[inline(always)]
fn first(tag: u16) -> u32 {
    first_way(tag, spread())
}

/// Whether there are few connections, so that what is fetched for one is still in a cache when it speaks again.
#[inline(always)]
pub fn is_roomy() -> bool {
    spread() == 0
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

/// Zeroes the faults of a connection that has none yet, or waits until the other CPU has, because what that one notes in
/// them must not be zeroed any more. False if it takes too long, or a third CPU is at it.
///
/// Dekker's algorithm with fixed turns: where both have claimed, the one with the reverse segment steps back.
#[inline(always)]
pub fn clear_faults(c: &mut Core, fault: &mut [Fault; 2], dir: Direction) -> bool {
    /// Ten cache lines out of memory, several times over.
    const SPINS: u32 = 1024;
    let word = &raw mut c.bare;
    let own = bare::CLAIM[dir.index()];
    add(word, own);
    let (mut claimed, mut clean) = (true, false);
    let mut i = 0;
    while i < SPINS {
        // SAFETY: as in `add`.
        let found = unsafe { core::ptr::read_volatile(word) };
        clean = found & bare::YES == 0;
        if clean {
            break;
        }
        if claimed && found == own | bare::YES {
            zero(fault);
            add(word, bare::YES.wrapping_neg());
            clean = true;
            break;
        }
        if claimed && matches!(dir, Direction::Reverse) {
            add(word, own.wrapping_neg());
            claimed = false;
        }
        i += 1;
    }
    if claimed {
        add(word, own.wrapping_neg());
    }
    clean
}

/// What a segment of an unknown connection may push out of a full set.
#[inline(always)]
fn worth(segment: &Segment) -> u8 {
    if segment.has(flags::RST) {
        // It tells least and is free to forge: it gets room that nobody else needs.
        class::DONE
    } else if segment.has(flags::SYN) {
        class::ANSWERED
    } else {
        class::HALF_OPEN
    }
}

#[inline(always)]
pub fn insert(
    hash: u32,
    key: &FlowKey,
    segment: &Segment,
    hook: u32,
    now_ns: u64,
    counters: &mut Counters,
) -> Option<Place> {
    let home = set_index(hash, SET_COUNT.load());
    let most = worth(segment);
    let mut step = 0u32;
    let way = loop {
        let set = SETS.get_ptr_mut(home ^ step)?;
        // SAFETY: a field of an array element.
        let lock = unsafe { &raw mut (*set).lock };
        if !try_lock(lock) {
            counters.table_busy += 1;
            return None;
        }
        // The other CPU may have made it just before: both directions of an unknown connection begin at once.
        if let Some(place) = find_in(key, hash, home ^ step, set) {
            add(lock, u32::MAX);
            return Some(place);
        }
        // SAFETY: an array element, and the lock is held.
        let s = unsafe { &mut *set };
        let last = step + 1 == NEIGHBOURS;
        let way = room(s, first(tag(hash)), most, last, counters);
        if way < WAYS as u32 {
            break way;
        }
        let goes_on = most != class::DONE;
        s.overflowed |= goes_on as u32;
        add(lock, u32::MAX);
        step += 1;
        if !goes_on || last {
            counters.table_full += 1;
            return None;
        }
    };
    let index = home ^ step;
    let set = SETS.get_ptr_mut(index)?;
    // SAFETY: an array element, and the lock is held.
    let place = fill(index, unsafe { &mut *set }, way, tag(hash), key, segment, hook, now_ns, counters);
    // SAFETY: a field of an array element.
    add(unsafe { &raw mut (*set).lock }, u32::MAX);
    place
}

/// So many live entries make a set one in which half-open ones would go too soon: its neighbours are asked first.
const CROWDED: u32 = WAYS as u32 - 2;

/// The way that a new entry gets: the first in the order of [`class`], none above `most`; `WAYS` if there is none.
#[inline(always)]
fn room(s: &mut TableSet, first: u32, most: u8, last: bool, counters: &mut Counters) -> u32 {
    let hand = s.hand;
    // verifier: without a branch but the minimum's, or it would walk on with every combination of what was found.
    let mut best = hide(u32::MAX);
    let mut live = 0u32;
    let mut i = 0u32;
    while i < WAYS as u32 {
        // From the hand on, so that entries of one class go in turn, the oldest first.
        let way = (hand.wrapping_add(i)) as usize & (WAYS - 1);
        // 0 where the tag is 0: a program may have classified an entry that the agent was freeing.
        let used = (s.tag[way] as u32).wrapping_neg() >> 31;
        let class = s.class[way] as u32 * used;
        live += class >> 2;
        // Of free ways the first from where a search for the tag begins.
        let free = (way as u32).wrapping_sub(first) & (WAYS as u32 - 1);
        let score = class << 4 | (class.wrapping_neg() as i32 >> 31) as u32 & (i ^ free) ^ free;
        best = if score < best { score } else { best };
        i += 1;
    }
    let class = (best >> 4) as u8;
    if class == class::EMPTY {
        return first.wrapping_add(best) & (WAYS as u32 - 1);
    }
    let way = hand.wrapping_add(best) & (WAYS as u32 - 1);
    s.hand = way.wrapping_add(1);
    if class == class::DONE {
        counters.evicted_done += 1;
        return way;
    }
    if class > most || class == class::LIVE || live >= CROWDED && !last {
        return WAYS as u32;
    }
    counters.evicted_half_open += 1;
    way
}

/// Begins an entry in a way of a set that is locked.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn fill(
    index: u32,
    s: &mut TableSet,
    way: u32,
    tag: u16,
    key: &FlowKey,
    segment: &Segment,
    hook: u32,
    now_ns: u64,
    counters: &mut Counters,
) -> Option<Place> {
    let w = way as usize & (WAYS - 1);
    let slot = slot(index, way, SET_COUNT.load());
    let flow = flow(slot)?;
    let c = &mut flow.core;
    // The tag is taken away first, so that nobody finds the entry while it changes.
    s.tag[w] = 0;
    zero(c);
    c.bare = bare::YES;
    tracker::begin(c, key, segment, 0, now_ns);
    // What `worth_of` makes of its first segment, which is not classified if it is predicted.
    let own_attempt = hook == Hook::Egress as u32 && segment.has(flags::SYN);
    s.class[w] = if own_attempt { class::ANSWERED } else { class::HALF_OPEN };
    // SAFETY: published last, and not moved before the entry's stores.
    unsafe { core::ptr::write_volatile(&raw mut s.tag[w], tag) };
    counters.connections_opened += 1;
    Some(Place { set: index, way, slot, flow })
}

/// Keeps the entry's class up to date.
#[inline(always)]
pub fn classify(set: u32, way: u32, c: &Core) {
    let class = worth_of(c);
    let Some(set) = SETS.get_ptr_mut(set) else { return };
    // SAFETY: an array element; the class is one byte, and a lost store is made up by the next packet.
    let slot = unsafe { &mut (*set).class[way as usize & (WAYS - 1)] };
    if *slot != class {
        *slot = class;
    }
}

/// An entry counts as live only when both ends have spoken: one-sided floods must not fill the table. Nor may a flood
/// from outside make the attempts of this host go, or handshakes that were answered.
#[inline(always)]
fn worth_of(c: &Core) -> u8 {
    let both = c.half[0].has(half::SEEN) && c.half[1].has(half::SEEN);
    match c.phase() {
        Phase::TimeWait | Phase::Reset => class::DONE,
        Phase::SynSent | Phase::SynReceived => {
            let own = c.half[c.initiator as usize & 1].fed_by == Hook::Egress as u8;
            if both || own { class::ANSWERED } else { class::HALF_OPEN }
        }
        _ if both => class::LIVE,
        _ => class::HALF_OPEN,
    }
}
