//! The least that a connection tracker does per packet.

use crate::maps::{AREAS, COUNTS, LONG_NEW, LONG_TABLE, NEW, RING, TABLE};
use crate::parse::{self, Headers};
use aya_ebpf::bindings::BPF_RB_NO_WAKEUP;
use aya_ebpf::btf_maps::{Array, HashMap};
use aya_ebpf::helpers::bpf_ktime_get_ns;

/// Both endpoints, the lower port (or, with equal ports, address) second: one entry for both directions.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Key {
    words: [u32; 10],
}

/// 128 bytes of state.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct State {
    words: [u64; 16],
}

const PROTOCOL: u32 = 6;

#[inline(always)]
fn key(h: &Headers) -> (Key, bool) {
    let (from, to) = (u16::from_be(h.source_port), u16::from_be(h.destination_port));
    let swap = from < to || (from == to && h.source[0] < h.destination[0]);
    let ports = |a: u16, b: u16| u32::from(a) << 16 | u32::from(b);
    let mut key = Key { words: [0; 10] };
    let (a, b) = if swap { (&h.destination, &h.source) } else { (&h.source, &h.destination) };
    let mut i = 0;
    while i < 4 {
        key.words[i] = a[i];
        key.words[4 + i] = b[i];
        i += 1;
    }
    key.words[8] =
        if swap { ports(h.source_port, h.destination_port) } else { ports(h.destination_port, h.source_port) };
    key.words[9] = PROTOCOL;
    (key, swap)
}

#[inline(always)]
fn count(index: u32) {
    if let Some(counter) = COUNTS.get_ptr_mut(index) {
        // SAFETY: a map value of this CPU's own.
        unsafe { *counter += 1 };
    }
}

/// The connection's value, made if there is none. With it, whether it is new.
#[inline(always)]
fn found<V>(table: &HashMap<Key, V, 1024>, new: &Array<V, 1>, key: &Key) -> Option<(*mut V, bool)> {
    if let Some(value) = table.get_ptr_mut(key) {
        return Some((value, false));
    }
    count(0);
    /// Not over another CPU's entry.
    const BPF_NOEXIST: u64 = 1;
    if table.insert(key, new.get(0)?, BPF_NOEXIST).is_err() {
        count(1);
    }
    Some((table.get_ptr_mut(key)?, true))
}

/// What of a packet goes into the state: the time, and a number made of all its headers.
#[inline(always)]
fn entry(headers: &Headers, swapped: bool) -> (u64, u64) {
    // SAFETY: no arguments.
    let now = unsafe { bpf_ktime_get_ns() };
    (now, u64::from(headers.sum()) + u64::from(swapped))
}

#[inline(always)]
fn advance(state: &mut State, now: u64, sum: u64) {
    let words = &mut state.words;
    words[1] = now;
    let mut i = 0;
    while i < words.len() {
        words[i] = words[i].wrapping_add(sum + i as u64);
        i += 1;
    }
}

#[inline(always)]
pub fn packet(data: usize, end: usize) -> Option<()> {
    let mut headers = Headers::default();
    parse::tcp(data, end, &mut headers)?;
    let (key, swapped) = key(&headers);
    let (state, _) = found(&TABLE, &NEW, &key)?;
    let (now, sum) = entry(&headers, swapped);
    // SAFETY: a map value; like any tracker without a lock, two CPUs may work on it at once, and words are not torn.
    advance(unsafe { &mut *state }, now, sum);
    Some(())
}

/// Headers kept of each direction.
const RECORDS: usize = 8;

/// A [`State`], and where the rest of it is.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Long {
    state: State,
    area: u64,
}

/// Ten cache lines: of each direction 64 bytes of state, and its last headers.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub struct Area {
    own: [[u64; 8]; 2],
    record: [[[u64; 4]; RECORDS]; 2],
}

/// The floor of a tracker that also keeps each connection's last headers: as many cache lines as ours, those of a new
/// connection being a former one's, which are in no cache. Gives what it keeps of the connection.
#[inline(always)]
pub fn recorded(data: usize, end: usize) -> Option<(&'static Long, &'static Area)> {
    let mut headers = Headers::default();
    parse::tcp(data, end, &mut headers)?;
    let (key, swapped) = key(&headers);
    let (long, is_new) = found(&LONG_TABLE, &LONG_NEW, &key)?;
    // SAFETY: as in `packet`.
    let long = unsafe { &mut *long };
    if is_new {
        long.area = u64::from(next_area());
    }
    let (now, sum) = entry(&headers, swapped);
    advance(&mut long.state, now, sum);
    // SAFETY: as in `packet`.
    let area = unsafe { &mut *AREAS.get_ptr_mut(long.area as u32)? };
    let own = if swapped { &mut area.own[1] } else { &mut area.own[0] };
    let number = own[0] as usize & (RECORDS - 1);
    own[0] += 1;
    let mut i = 1;
    while i < own.len() {
        own[i] = own[i].wrapping_add(sum + i as u64);
        i += 1;
    }
    let records = if swapped { &mut area.record[1] } else { &mut area.record[0] };
    records[number] = [now, sum, sum + 1, sum + 2];
    Some((long, area))
}

/// Areas are used in turn.
#[inline(always)]
fn next_area() -> u32 {
    const LAST: u32 = 3;
    let Some(last) = COUNTS.get_ptr_mut(LAST) else { return 0 };
    // SAFETY: a map value of this CPU's own.
    unsafe {
        let next = *last as u32 + 1;
        *last = if AREAS.get_ptr(next).is_some() { u64::from(next) } else { 0 };
        *last as u32
    }
}

/// An event of so many words; nobody is woken. `write` fills it.
#[inline(always)]
fn event<const WORDS: usize>(write: impl FnOnce(*mut [u64; WORDS])) {
    match RING.reserve_untyped::<[u64; WORDS]>(0) {
        Some(mut room) => {
            write(room.as_mut_ptr());
            room.submit(u64::from(BPF_RB_NO_WAKEUP));
        }
        None => count(2),
    }
}

/// The least that an event can be.
#[inline(always)]
pub fn empty_event() {
    // SAFETY: memory of that size.
    event::<1>(|room| unsafe { (*room)[0] = 1 });
}

/// As many bytes as the agent hears of a close in good order.
#[inline(always)]
pub fn event_of_a_close() {
    // SAFETY: memory of that size.
    event::<7>(|room| unsafe { *room = [1; 7] });
}

/// As many bytes as the agent hears of a reset: what is kept of the connection, and some more.
#[inline(always)]
pub fn event_of_a_reset(long: &Long, area: &Area) {
    const LONG: usize = size_of::<Long>() / 8;
    const AREA: usize = size_of::<Area>() / 8;
    // SAFETY: memory of that size; the parts lie in it side by side.
    event::<131>(|room| unsafe {
        let room = room.cast::<u64>();
        core::ptr::copy_nonoverlapping(core::ptr::from_ref(long).cast::<u64>(), room, LONG);
        core::ptr::copy_nonoverlapping(core::ptr::from_ref(area).cast::<u64>(), room.add(LONG), AREA);
        let mut i = LONG + AREA;
        while i < 131 {
            core::ptr::write_volatile(room.add(i), 1);
            i += 1;
        }
    });
}
