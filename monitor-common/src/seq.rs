//! Sequence numbers: arithmetic modulo 2^32 (RFC 9293 section 3.4, RFC 1982).

use bytemuck::{Pod, Zeroable};

/// A TCP sequence or acknowledgement number, host byte order.
///
/// There is deliberately no `Ord`: the space is a circle. Two numbers can be compared only while they are less
/// than 2^31 apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
#[repr(transparent)]
pub struct SeqNum(pub u32);

impl SeqNum {
    /// How far `self` lies ahead of `other` (negative: behind), `d(self, other)` of the specification.
    #[inline(always)]
    pub const fn distance(self, other: SeqNum) -> i32 {
        self.0.wrapping_sub(other.0) as i32
    }

    #[inline(always)]
    pub const fn after(self, other: SeqNum) -> bool {
        self.distance(other) > 0
    }

    #[inline(always)]
    pub const fn before(self, other: SeqNum) -> bool {
        self.distance(other) < 0
    }

    #[inline(always)]
    pub const fn at_or_after(self, other: SeqNum) -> bool {
        self.distance(other) >= 0
    }

    #[inline(always)]
    pub const fn at_or_before(self, other: SeqNum) -> bool {
        self.distance(other) <= 0
    }

    /// The number `bytes` further on.
    #[inline(always)]
    pub const fn add(self, bytes: u32) -> SeqNum {
        SeqNum(self.0.wrapping_add(bytes))
    }

    /// The number `bytes` further back.
    #[inline(always)]
    pub const fn sub(self, bytes: u32) -> SeqNum {
        SeqNum(self.0.wrapping_sub(bytes))
    }

    /// The later of two numbers.
    #[inline(always)]
    pub const fn max(self, other: SeqNum) -> SeqNum {
        if self.after(other) { self } else { other }
    }

    /// The earlier of two numbers.
    #[inline(always)]
    pub const fn min(self, other: SeqNum) -> SeqNum {
        if self.before(other) { self } else { other }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_survives_the_wrap() {
        let below = SeqNum(u32::MAX - 9);
        let above = below.add(20);
        assert_eq!(above, SeqNum(10));
        assert!(above.after(below));
        assert_eq!(above.distance(below), 20);
        assert_eq!(below.distance(above), -20);
        assert_eq!(above.max(below), above);
        assert_eq!(above.min(below), below);
        assert_eq!(above.sub(20), below);
    }

    #[test]
    fn a_number_is_neither_before_nor_after_itself() {
        let n = SeqNum(7);
        assert!(!n.before(n) && !n.after(n));
        assert!(n.at_or_after(n) && n.at_or_before(n));
    }
}
