//! The least that a connection tracker does per packet.

use crate::maps::{COUNTS, NEW, RING, TABLE};
use crate::parse::{self, Headers};
use aya_ebpf::bindings::BPF_RB_NO_WAKEUP;
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

#[inline(always)]
pub fn packet(data: usize, end: usize) -> Option<()> {
    let mut headers = Headers::default();
    parse::tcp(data, end, &mut headers)?;
    let (key, swapped) = key(&headers);
    let mut found = TABLE.get_ptr_mut(&key);
    if found.is_none() {
        count(0);
        let new = NEW.get(0)?;
        /// Not over another CPU's entry.
        const BPF_NOEXIST: u64 = 1;
        if TABLE.insert(&key, new, BPF_NOEXIST).is_err() {
            count(1);
        }
        found = TABLE.get_ptr_mut(&key);
    }
    let state = found?;
    // SAFETY: no arguments.
    let now = unsafe { bpf_ktime_get_ns() };
    let sum = u64::from(headers.sum()) + u64::from(swapped);
    // SAFETY: a map value; like any tracker without a lock, two CPUs may work on it at once, and words are not torn.
    let words = unsafe { &mut (*state).words };
    words[1] = now;
    let mut i = 0;
    while i < words.len() {
        words[i] = words[i].wrapping_add(sum + i as u64);
        i += 1;
    }
    Some(())
}

/// The least that an event can be: eight bytes, and nobody is woken.
#[inline(always)]
pub fn event() {
    match RING.reserve(0) {
        Some(mut entry) => {
            entry.write(1);
            entry.submit(u64::from(BPF_RB_NO_WAKEUP));
        }
        None => count(2),
    }
}
