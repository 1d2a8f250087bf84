//! What a capture with whole packets tells beyond headers: whether TCP checksums are right (RFC 9293 section 3.1), and
//! whether the same sequence numbers carried the same bytes twice. A few hundred bytes per direction are kept, no more.

use crate::history::{PayloadFacts, PayloadSide};
use monitor_common::parse::Packet;
use monitor_common::segment::{Segment, flags, packet};
use monitor_common::seq::SeqNum;

/// Payload kept per direction for comparison.
const KEPT: usize = 512;
const TCP: u8 = 6;

/// The transport of an IP packet that was captured whole.
struct Whole<'a> {
    /// Sum over the pseudo header (RFC 9293 section 3.1), not folded.
    pseudo: u32,
    tcp: &'a [u8],
}

/// What the payload of one connection told so far.
#[derive(Clone, Debug, Default)]
pub struct Payload {
    facts: PayloadFacts,
    kept: [Kept; 2],
}

/// The latest payload of one direction.
#[derive(Clone, Debug, Default)]
struct Kept {
    seq: SeqNum,
    bytes: Vec<u8>,
}

impl Payload {
    pub fn facts(&self) -> PayloadFacts {
        self.facts
    }
}

/// Looks at a packet whose IP header is at `offset` of `data`. `of` is its connection's, and begins with the first
/// packet that was captured whole.
pub fn look(of: &mut Option<Box<Payload>>, data: &[u8], offset: usize, parsed: &Packet, now_ns: u64) {
    let s = &parsed.segment;
    if s.has(flags::SYN) && !s.has(flags::ACK) {
        // Numbers of another life say nothing about this one's.
        *of = None;
    }
    // At most one byte: a probe, whose byte may be anything (RFC 9293 section 3.8.4).
    if s.payload_len <= 1 || s.packet & (packet::FIRST_FRAGMENT | packet::LENGTH_UNCERTAIN) != 0 {
        return;
    }
    let Some(whole) = data.get(offset..).and_then(whole) else { return };
    let Some(payload) = payload(&whole, s) else { return };
    let of = of.get_or_insert_default();
    let i = parsed.direction().index();
    let side = &mut of.facts.side[i];
    if checksum_is_right(&whole) {
        side.checksum_good = side.checksum_good.saturating_add(1);
    } else {
        if side.checksum_bad == 0 {
            (side.bad_first_ns, side.bad_seq) = (now_ns, s.seq.0);
        }
        side.checksum_bad = side.checksum_bad.saturating_add(1);
        side.bad_last_ns = now_ns;
        if side.checksum_good > 0 {
            // Damaged bytes are no other version of them.
            return;
        }
    }
    compare(&of.kept[i], s.seq, payload, side, now_ns);
    of.kept[i].take(s.seq, payload);
}

pub fn facts(of: &Option<Box<Payload>>) -> PayloadFacts {
    of.as_ref().map(|p| p.facts()).unwrap_or_default()
}

/// Notes where `payload` at `seq` differs from what is kept of the same numbers.
fn compare(kept: &Kept, seq: SeqNum, payload: &[u8], side: &mut PayloadSide, now_ns: u64) {
    let ahead = i64::from(kept.seq.distance(seq));
    let from = ahead.max(0);
    let to = (ahead + kept.bytes.len() as i64).min(payload.len() as i64);
    let differs = (from..to).find(|n| payload[*n as usize] != kept.bytes[(n - ahead) as usize]);
    if let Some(n) = differs {
        if side.overlaps == 0 {
            (side.overlap_first_ns, side.overlap_seq) = (now_ns, seq.add(n as u32).0);
        }
        side.overlaps = side.overlaps.saturating_add(1);
        side.overlap_last_ns = now_ns;
    }
}

impl Kept {
    /// Keeps the end of the segment if it goes beyond what is kept; what is sent again changes nothing.
    fn take(&mut self, seq: SeqNum, payload: &[u8]) {
        let end = seq.add(payload.len() as u32);
        let kept_end = self.seq.add(self.bytes.len() as u32);
        if !self.bytes.is_empty() && !end.after(kept_end) {
            return;
        }
        if seq == kept_end && payload.len() < KEPT {
            let extra = (self.bytes.len() + payload.len()).saturating_sub(KEPT);
            self.bytes.drain(..extra);
        } else {
            self.bytes.clear();
        }
        let new = &payload[payload.len().saturating_sub(KEPT)..];
        self.bytes.reserve_exact(new.len());
        self.bytes.extend_from_slice(new);
        self.seq = end.sub(self.bytes.len() as u32);
    }
}

/// The TCP segment behind an IP header, if all of it was captured and it is no fragment.
fn whole(ip: &[u8]) -> Option<Whole<'_>> {
    match ip.first()? >> 4 {
        4 => {
            let header = usize::from(ip[0] & 15) * 4;
            let total = usize::from(u16::from_be_bytes([*ip.get(2)?, *ip.get(3)?]));
            let fragment = u16::from_be_bytes([*ip.get(6)?, *ip.get(7)?]) & 0x3fff;
            if *ip.get(9)? != TCP || fragment != 0 || header < 20 {
                return None;
            }
            let tcp = ip.get(header..total)?;
            Some(Whole { pseudo: sum(ip.get(12..20)?) + u32::from(TCP) + u32::try_from(tcp.len()).ok()?, tcp })
        }
        6 => {
            let length = usize::from(u16::from_be_bytes([*ip.get(4)?, *ip.get(5)?]));
            let all = ip.get(..40 + length).filter(|_| length > 0)?;
            let (mut next, mut at) = (ip[6], 40);
            // Options for hops, routing and destination (RFC 8200 section 4.1); a routing header changes the address that
            // the checksum is over, so it ends the search.
            while matches!(next, 0 | 60) {
                next = *all.get(at)?;
                at += 8 + 8 * usize::from(*all.get(at + 1)?);
            }
            let tcp = all.get(at..).filter(|_| next == TCP)?;
            Some(Whole { pseudo: sum(&all[8..40]) + u32::from(TCP) + u32::try_from(tcp.len()).ok()?, tcp })
        }
        _ => None,
    }
}

fn payload<'a>(whole: &Whole<'a>, s: &Segment) -> Option<&'a [u8]> {
    let header = usize::from(*whole.tcp.get(12)? >> 4) * 4;
    whole.tcp.get(header..).filter(|p| p.len() == s.payload_len as usize)
}

/// Sum of 16-bit words (RFC 1071), not folded; 64 KiB fit.
fn sum(bytes: &[u8]) -> u32 {
    let (pairs, rest) = bytes.as_chunks::<2>();
    pairs.iter().map(|p| u32::from(u16::from_be_bytes(*p))).sum::<u32>()
        + rest.first().map_or(0, |b| u32::from(*b) << 8)
}

fn checksum_is_right(whole: &Whole) -> bool {
    let mut total = u64::from(whole.pseudo) + u64::from(sum(whole.tcp));
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    total == 0xffff
}

#[cfg(test)]
mod tests {
    use super::*;
    use monitor_common::parse;

    /// An IPv4 packet with a right checksum.
    fn frame(from_client: bool, seq: u32, payload: &[u8]) -> Vec<u8> {
        let (a, b) = ([10, 0, 0, 1], [10, 0, 0, 2]);
        let (src, dst, ports) = if from_client { (a, b, [0x9c, 0x41, 0, 80]) } else { (b, a, [0, 80, 0x9c, 0x41]) };
        let total = (40 + payload.len()) as u16;
        let mut ip = vec![0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, 6, 0, 0];
        ip[2..4].copy_from_slice(&total.to_be_bytes());
        ip.extend(src.into_iter().chain(dst));
        ip.extend(ports);
        ip.extend(seq.to_be_bytes());
        ip.extend([0, 0, 0, 1, 0x50, 0x18, 1, 0, 0, 0, 0, 0]);
        ip.extend(payload);
        let whole = whole(&ip).unwrap();
        let mut total = whole.pseudo + sum(whole.tcp);
        while total > 0xffff {
            total = (total & 0xffff) + (total >> 16);
        }
        ip[36..38].copy_from_slice(&(!(total as u16)).to_be_bytes());
        ip
    }

    type Of = Option<Box<Payload>>;

    fn hear(p: &mut Of, ip: &[u8], now_ns: u64) -> PayloadFacts {
        let mut parsed = Packet::default();
        parse::ip(ip, 0, ip.len() as u32, &mut parsed).unwrap();
        look(p, ip, 0, &parsed, now_ns);
        facts(p)
    }

    /// RFC 1071 section 3, the example: 0001 f203 f4f5 f6f7 sums up to ddf2 with two carries.
    #[test]
    fn the_sum_is_that_of_the_rfc() {
        let total = sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
        assert_eq!(total, 0x2_ddf0);
        assert_eq!(sum(&[0x12]), 0x1200);
    }

    #[test]
    fn right_and_wrong_checksums_are_told_apart() {
        let mut p = Of::default();
        for n in 0..3 {
            hear(&mut p, &frame(true, 100 + n * 4, b"data"), u64::from(n));
        }
        let mut bad = frame(true, 112, b"data");
        *bad.last_mut().unwrap() ^= 1;
        hear(&mut p, &bad, 7);
        let facts = hear(&mut p, &bad, 9);
        let side = facts.side.iter().find(|s| s.checksum_good == 3).unwrap();
        assert_eq!((side.checksum_bad, side.bad_first_ns, side.bad_last_ns, side.bad_seq), (2, 7, 9, 112));
        assert_eq!(side.overlaps, 0);
    }

    #[test]
    fn the_same_bytes_again_are_a_retransmission_and_other_bytes_are_not() {
        let mut p = Of::default();
        for start in [1_000u32, u32::MAX - 3] {
            hear(&mut p, &frame(false, start, b"abcdefgh"), 1);
            // Cut differently, it is still the same stream.
            let facts = hear(&mut p, &frame(false, start.wrapping_add(2), b"cdefghij"), 2);
            assert_eq!(facts.side.iter().map(|s| s.overlaps).sum::<u32>(), 0);
            let facts = hear(&mut p, &frame(false, start.wrapping_add(4), b"efXh"), 3);
            let side = facts.side.iter().find(|s| s.overlaps > 0).unwrap();
            assert_eq!((side.overlaps, side.overlap_seq, side.overlap_first_ns), (1, start.wrapping_add(6), 3));
            p = None;
        }
    }

    #[test]
    fn little_is_kept_and_what_is_out_of_sight_is_not_judged() {
        let mut p = Of::default();
        let long = vec![7u8; 1448];
        let mut facts = PayloadFacts::default();
        for n in 0..20 {
            facts = hear(&mut p, &frame(true, 1 + n * 1448, &long), n.into());
        }
        assert_eq!(facts.side.iter().map(|s| s.overlaps).sum::<u32>(), 0);
        assert!(p.iter().all(|p| p.kept.iter().all(|k| k.bytes.len() <= KEPT && k.bytes.capacity() <= KEPT)));
        // Old numbers: nothing to compare with.
        let facts = hear(&mut p, &frame(true, 1, &[8u8; 100]), 30);
        assert_eq!(facts.side.iter().map(|s| s.overlaps).sum::<u32>(), 0);
    }

    #[test]
    fn packets_that_are_cut_short_are_passed_over() {
        let ip = frame(true, 1, b"0123456789");
        let mut parsed = Packet::default();
        parse::ip(&ip[..45], 0, ip.len() as u32, &mut parsed).unwrap();
        let mut p = Of::default();
        for end in 0..ip.len() {
            look(&mut p, &ip[..end], 0, &parsed, 1);
        }
        assert_eq!(facts(&p), PayloadFacts::default());
    }
}
