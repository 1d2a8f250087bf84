//! Copying and zeroing map values: by a helper what is large or rare, word by word what nearly every report consists of. The helper
//! looks out for faults and costs 50 to 100 ns on processors with patched returns; as code, what is large would be most of the program.

use crate::maps::EMPTY;
use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use monitor_common::evidence::Evidence;

/// Copies a map value by the helper.
///
/// # Safety
/// `to` is writable memory for a `T`; the helper checks the source.
#[inline(always)]
pub unsafe fn copy<T: Copy>(from: Option<*const T>, to: *mut T) {
    let Some(from) = from else { return };
    // SAFETY: by the caller.
    unsafe { bpf_probe_read_kernel(to.cast(), size_of::<T>() as u32, from.cast()) };
}

/// The same as loads and stores.
///
/// # Safety
/// `from` is readable, and `to` is writable memory for a `T`.
#[inline(always)]
pub unsafe fn copy_by_words<T: Copy>(from: Option<*const T>, to: *mut T) {
    /// LLVM makes no more loads and stores of it than that, and calls a function beyond.
    const MOST: usize = 128;
    const { assert!(size_of::<T>() <= MOST * 8 && align_of::<T>() == 8) };
    let Some(from) = from else { return };
    // SAFETY: by the caller.
    unsafe { core::ptr::copy_nonoverlapping(from, to, 1) };
}

/// Zeroes a map value by the helper, from the empty one. A new entry's lines are not in a cache: as stores of the program's own this
/// makes floods of SYNs 10 % slower.
#[inline(always)]
pub fn zero<T: Copy>(value: &mut T) {
    const { assert!(size_of::<T>() <= size_of::<Evidence>(), "EMPTY is too short to zero this") };
    // SAFETY: the source is a map value at least as long, any bytes of which are zero; T is plain integers.
    unsafe { copy(EMPTY.get_ptr(0).map(|p| p.cast::<T>()), value) };
}
