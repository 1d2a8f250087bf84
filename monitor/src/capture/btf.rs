//! The running kernel's BTF, as far as structures' offsets, enum members and tracepoints' arguments go.
//!
//! aya's own BTF type keeps its members private, and the crates that read BTF are copyleft or unkept; the format is
//! small (Documentation/bpf/btf.rst). Only what was written by the running kernel is read, but every access is
//! checked all the same.

use monitor_common::abi::Offsets;
use std::collections::HashMap;
use std::path::Path;

const MAGIC: u16 = 0xeb9f;
/// Kinds of `include/uapi/linux/btf.h`.
mod kind {
    pub const INT: u32 = 1;
    pub const PTR: u32 = 2;
    pub const ARRAY: u32 = 3;
    pub const STRUCT: u32 = 4;
    pub const UNION: u32 = 5;
    pub const ENUM: u32 = 6;
    pub const TYPEDEF: u32 = 8;
    pub const VOLATILE: u32 = 9;
    pub const CONST: u32 = 10;
    pub const RESTRICT: u32 = 11;
    pub const FUNC_PROTO: u32 = 13;
    pub const VAR: u32 = 14;
    pub const DATASEC: u32 = 15;
    pub const DECL_TAG: u32 = 17;
    pub const TYPE_TAG: u32 = 18;
    pub const ENUM64: u32 = 19;
}

#[derive(Debug, thiserror::Error)]
pub enum BtfError {
    #[error("cannot read {path}: {source}; the kernel needs CONFIG_DEBUG_INFO_BTF for tracepoint evidence")]
    Read { path: String, source: std::io::Error },
    #[error("damaged BTF: {0}")]
    Damaged(&'static str),
}

/// Parsed BTF.
pub struct Btf {
    data: Vec<u8>,
    types: Vec<Type>,
    strings: usize,
    by_name: HashMap<(u32, String), u32>,
}

#[derive(Clone, Copy)]
struct Type {
    name: u32,
    kind: u32,
    vlen: u32,
    bitfield: bool,
    /// Size or referred type.
    size_or_type: u32,
    /// Where the kind's own data begins.
    extra: usize,
}

impl Btf {
    /// `/sys/kernel/btf/vmlinux`.
    pub fn of_kernel() -> Result<Btf, BtfError> {
        Btf::from_file(Path::new("/sys/kernel/btf/vmlinux"))
    }

    pub fn from_file(path: &Path) -> Result<Btf, BtfError> {
        let data = std::fs::read(path).map_err(|source| BtfError::Read { path: path.display().to_string(), source })?;
        Btf::parse(data)
    }

    pub fn parse(data: Vec<u8>) -> Result<Btf, BtfError> {
        let word = |at: usize| -> Result<u32, BtfError> {
            data.get(at..at + 4)
                .map(|b| u32::from_ne_bytes([b[0], b[1], b[2], b[3]]))
                .ok_or(BtfError::Damaged("ends early"))
        };
        if word(0)? as u16 != MAGIC {
            return Err(BtfError::Damaged("no magic number"));
        }
        let header = word(4)? as usize;
        let (type_off, type_len) = (header + word(8)? as usize, word(12)? as usize);
        let strings = header + word(16)? as usize;
        let mut types = vec![Type { name: 0, kind: 0, vlen: 0, bitfield: false, size_or_type: 0, extra: 0 }];
        let mut at = type_off;
        while at < type_off + type_len {
            let info = word(at + 4)?;
            let t = Type {
                name: word(at)?,
                kind: info >> 24 & 0x1f,
                vlen: info & 0xffff,
                bitfield: info >> 31 != 0,
                size_or_type: word(at + 8)?,
                extra: at + 12,
            };
            let n = t.vlen as usize;
            at = t.extra
                + match t.kind {
                    kind::INT | kind::VAR | kind::DECL_TAG => 4,
                    kind::ARRAY => 12,
                    kind::STRUCT | kind::UNION | kind::DATASEC | kind::ENUM64 => 12 * n,
                    kind::ENUM | kind::FUNC_PROTO => 8 * n,
                    _ => 0,
                };
            types.push(t);
        }
        let mut btf = Btf { data, types, strings, by_name: HashMap::new() };
        for id in 1..btf.types.len() as u32 {
            let t = btf.types[id as usize];
            if matches!(t.kind, kind::STRUCT | kind::ENUM | kind::TYPEDEF)
                && let Some(name) = btf.string(t.name)
                && !name.is_empty()
            {
                let name = name.to_string();
                btf.by_name.entry((t.kind, name)).or_insert(id);
            }
        }
        Ok(btf)
    }

    fn word(&self, at: usize) -> Option<u32> {
        self.data.get(at..at + 4).map(|b| u32::from_ne_bytes([b[0], b[1], b[2], b[3]]))
    }

    fn string(&self, offset: u32) -> Option<&str> {
        let from = self.data.get(self.strings + offset as usize..)?;
        let end = from.iter().position(|b| *b == 0)?;
        std::str::from_utf8(&from[..end]).ok()
    }

    fn named(&self, kind: u32, name: &str) -> Option<Type> {
        self.by_name.get(&(kind, name.to_string())).map(|id| self.types[*id as usize])
    }

    /// Through typedefs and qualifiers.
    fn resolve(&self, mut id: u32) -> Option<Type> {
        for _ in 0..32 {
            let t = *self.types.get(id as usize)?;
            match t.kind {
                kind::TYPEDEF | kind::VOLATILE | kind::CONST | kind::RESTRICT | kind::TYPE_TAG => id = t.size_or_type,
                _ => return Some(t),
            }
        }
        None
    }

    /// Byte offset of a field, `a.b` for nested ones; members of anonymous structs and unions are found as C finds
    /// them.
    pub fn field_offset(&self, structure: &str, path: &str) -> Option<u32> {
        let mut t = self.named(kind::STRUCT, structure)?;
        let mut offset = 0;
        for part in path.split('.') {
            let (at, ty) = self.member(&t, part, 0)?;
            offset += at;
            t = self.resolve(ty)?;
        }
        Some(offset)
    }

    fn member(&self, t: &Type, name: &str, depth: u32) -> Option<(u32, u32)> {
        if depth > 8 || !matches!(t.kind, kind::STRUCT | kind::UNION) {
            return None;
        }
        for i in 0..t.vlen as usize {
            let at = t.extra + 12 * i;
            let (member_name, ty, bits) = (self.word(at)?, self.word(at + 4)?, self.word(at + 8)?);
            let bits = if t.bitfield { bits & 0x00ff_ffff } else { bits };
            match self.string(member_name) {
                Some(n) if n == name => return Some((bits / 8, ty)),
                Some("") => {
                    let inner = self.resolve(ty)?;
                    if let Some((inner_at, found)) = self.member(&inner, name, depth + 1) {
                        return Some((bits / 8 + inner_at, found));
                    }
                }
                _ => {}
            }
        }
        None
    }

    /// Members of an enum, by value.
    pub fn enumerators(&self, name: &str) -> Option<HashMap<u32, String>> {
        let t = self.named(kind::ENUM, name)?;
        let mut out = HashMap::new();
        for i in 0..t.vlen as usize {
            let at = t.extra + 8 * i;
            out.insert(self.word(at + 4)?, self.string(self.word(at)?)?.to_string());
        }
        Some(out)
    }

    /// Number of arguments of a tracepoint; none when the kernel does not have it.
    pub fn tracepoint_arguments(&self, name: &str) -> Option<u32> {
        let t = self.named(kind::TYPEDEF, &format!("btf_trace_{name}"))?;
        let pointer = self.resolve(t.size_or_type)?;
        if pointer.kind != kind::PTR {
            return None;
        }
        let proto = self.resolve(pointer.size_or_type)?;
        // The first is the tracepoint's own data.
        (proto.kind == kind::FUNC_PROTO).then(|| proto.vlen.saturating_sub(1))
    }

    /// Whether resets carry the kernel's own reason (about 6.10 and later).
    pub fn has_reset_reason(&self) -> bool {
        self.tracepoint_arguments("tcp_send_reset") >= Some(3) && self.named(kind::ENUM, "sk_rst_reason").is_some()
    }

    /// Whether drops carry a reason (5.17 and later).
    pub fn has_drop_reason(&self) -> bool {
        self.tracepoint_arguments("kfree_skb") >= Some(3) && self.named(kind::ENUM, "skb_drop_reason").is_some()
    }

    /// What the tracepoint programs read.
    pub fn offsets(&self) -> Offsets {
        let common = |path| self.field_offset("sock_common", path).unwrap_or(Offsets::MISSING);
        let of = |structure, path| self.field_offset(structure, path).unwrap_or(Offsets::MISSING);
        Offsets {
            skc_family: common("skc_family"),
            skc_state: common("skc_state"),
            skc_daddr: common("skc_daddr"),
            skc_rcv_saddr: common("skc_rcv_saddr"),
            skc_dport: common("skc_dport"),
            skc_v6_daddr: common("skc_v6_daddr"),
            skc_v6_rcv_saddr: common("skc_v6_rcv_saddr"),
            skc_net: common("skc_net.net"),
            skc_cookie: common("skc_cookie"),
            net_inum: of("net", "ns.inum"),
            sk_err: of("sock", "sk_err"),
            inet_sport: of("inet_sock", "inet_sport"),
            skb_head: of("sk_buff", "head"),
            skb_network_header: of("sk_buff", "network_header"),
            skb_transport_header: of("sk_buff", "transport_header"),
            has_reset_reason: u32::from(self.has_reset_reason()),
            skb_dev: of("sk_buff", "dev"),
            skb_iif: of("sk_buff", "skb_iif"),
            skb_dst: of("sk_buff", "_skb_refdst"),
            dst_dev: of("dst_entry", "dev"),
            dev_net: of("net_device", "nd_net.net"),
            sk_owned: of("sock", "sk_lock.owned"),
            // Before 5.15 a union that may hold something else; then it has no such member.
            sk_cgroup: of("sock", "sk_cgrp_data.cgroup"),
            cgroup_node: of("cgroup", "kn"),
            node_id: of("kernfs_node", "id"),
            has_drop_socket: u32::from(self.tracepoint_arguments("kfree_skb") >= Some(4)),
        }
    }
}

/// Name of a reset reason as users read it: without the enum's prefix.
pub fn reset_reason_name(name: &str) -> &str {
    name.strip_prefix("SK_RST_REASON_").unwrap_or(name)
}

/// The same of a reason for a drop.
pub fn drop_reason_name(name: &str) -> &str {
    name.strip_prefix("SKB_DROP_REASON_").unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_data_is_an_error_not_a_panic() {
        assert!(Btf::parse(vec![]).is_err());
        assert!(Btf::parse(vec![0; 64]).is_err());
        let mut header = vec![0x9f, 0xeb, 1, 0, 24, 0, 0, 0];
        header.extend([0, 0, 0, 0, 255, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert!(Btf::parse(header).is_err());
    }

    #[test]
    fn the_running_kernel_has_what_the_tracepoints_read() {
        let Ok(btf) = Btf::of_kernel() else {
            println!("skipped: this kernel has no BTF");
            assert!(std::env::var_os("CI").is_none(), "CI needs a kernel with BTF");
            return;
        };
        let o = btf.offsets();
        // struct sock_common begins with the addresses and the ports: include/net/sock.h.
        assert_eq!((o.skc_daddr, o.skc_rcv_saddr), (0, 4));
        assert_eq!(o.skc_dport, 12);
        assert_ne!(o.inet_sport, Offsets::MISSING);
        assert_eq!(o.skc_family, 16);
        assert_ne!(o.net_inum, Offsets::MISSING);
        assert_ne!(o.skb_head, Offsets::MISSING);
        assert!(btf.tracepoint_arguments("tcp_send_reset") >= Some(2));
        assert_eq!(btf.tracepoint_arguments("no_such_tracepoint"), None);
        if btf.has_reset_reason() {
            let reasons = btf.enumerators("sk_rst_reason").expect("the enum exists");
            assert!(reasons.values().any(|n| n == "SK_RST_REASON_NO_SOCKET"));
        }
        if btf.has_drop_reason() {
            let reasons = btf.enumerators("skb_drop_reason").expect("the enum exists");
            assert!(reasons.values().any(|n| n == "SKB_DROP_REASON_NETFILTER_DROP"));
            // struct net_device *dev is the third word of struct sk_buff: include/linux/skbuff.h.
            assert_eq!(o.skb_dev, 16);
            assert_ne!(o.dev_net, Offsets::MISSING);
            assert_ne!(o.dst_dev, Offsets::MISSING);
            assert_ne!(o.skb_dst, Offsets::MISSING);
        }
        // spinlock_t comes first in socket_lock_t: include/net/sock.h.
        assert_ne!(o.sk_owned, Offsets::MISSING);
    }
}
