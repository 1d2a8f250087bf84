//! Sequence numbers as a circle (RFC 9293 3.4); there is deliberately no `Ord`.

use std::fmt;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SeqNum(pub u32);

impl SeqNum {
    pub fn plus(self, bytes: u32) -> Self {
        Self(self.0.wrapping_add(bytes))
    }

    pub fn minus(self, bytes: u32) -> Self {
        Self(self.0.wrapping_sub(bytes))
    }

    /// How far `self` is after `base`; negative when it is before.
    pub fn distance(self, base: Self) -> i32 {
        self.0.wrapping_sub(base.0) as i32
    }

    pub fn after(self, other: Self) -> bool {
        self.distance(other) > 0
    }

    pub fn before(self, other: Self) -> bool {
        self.distance(other) < 0
    }
}

impl fmt::Display for SeqNum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_survives_the_wrap() {
        let below = SeqNum(u32::MAX - 9);
        let above = below.plus(20);
        assert_eq!(above, SeqNum(10));
        assert!(above.after(below) && below.before(above));
        assert_eq!(below.distance(above), -20);
        assert_eq!(above.minus(20), below);
    }
}
