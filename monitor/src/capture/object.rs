//! The committed eBPF object.

use sha2::{Digest, Sha256};

/// The object, aligned for the ELF reader.
pub static BYTES: &[u8] = aya::include_bytes_aligned!("../../ebpf/whyrst.bpf.o");

/// First 12 hex digits of the object's SHA-256.
pub fn short_hash() -> String {
    Sha256::digest(BYTES).iter().take(6).map(|b| format!("{b:02x}")).collect()
}
