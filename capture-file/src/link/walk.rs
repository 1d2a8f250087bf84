//! A position in a frame that can only be moved and read with checks.

use super::{MAX_NESTED_IP, Reason};

/// `N` bytes of `data` from `at` on.
#[inline]
pub(crate) fn array<const N: usize>(data: &[u8], at: usize) -> Option<[u8; N]> {
    data.get(at..)?.first_chunk().copied()
}

pub(super) struct Walk<'a> {
    /// What is left: captured, and inside all lengths read so far.
    rest: &'a [u8],
    /// Offset of `rest` in the frame.
    offset: usize,
    /// Bytes on the wire from `offset` on, inside all lengths read so far.
    wire: u32,
    /// IP headers passed.
    nested: u8,
}

impl<'a> Walk<'a> {
    #[inline]
    pub(super) fn new(data: &'a [u8], wire_len: u32) -> Self {
        let captured = u32::try_from(data.len()).unwrap_or(u32::MAX);
        Self { rest: data, offset: 0, wire: wire_len.max(captured), nested: 0 }
    }

    #[inline]
    pub(super) fn offset(&self) -> usize {
        self.offset
    }

    #[inline]
    pub(super) fn wire(&self) -> u32 {
        self.wire
    }

    /// Bytes at a distance from the present position.
    #[inline]
    pub(super) fn array<const N: usize>(&self, at: usize) -> Result<[u8; N], Reason> {
        array(self.rest, at).ok_or_else(|| self.missing(at + N))
    }

    /// Present or not, without an opinion.
    pub(super) fn peek16(&self, at: usize) -> Option<u16> {
        array(self.rest, at).map(u16::from_be_bytes)
    }

    #[inline]
    pub(super) fn u8(&self, at: usize) -> Result<u8, Reason> {
        self.array::<1>(at).map(|[b]| b)
    }

    #[inline]
    pub(super) fn be16(&self, at: usize) -> Result<u16, Reason> {
        self.array(at).map(u16::from_be_bytes)
    }

    #[inline]
    pub(super) fn le16(&self, at: usize) -> Result<u16, Reason> {
        self.array(at).map(u16::from_le_bytes)
    }

    #[inline]
    pub(super) fn be32(&self, at: usize) -> Result<u32, Reason> {
        self.array(at).map(u32::from_be_bytes)
    }

    #[inline]
    pub(super) fn le32(&self, at: usize) -> Result<u32, Reason> {
        self.array(at).map(u32::from_le_bytes)
    }

    /// Moves forward. Standing at the end of what is captured is allowed.
    #[inline]
    pub(super) fn skip(&mut self, n: usize) -> Result<(), Reason> {
        self.rest = self.rest.get(n..).ok_or_else(|| self.missing(n))?;
        self.offset += n;
        // `n` is at most what is captured, which is at most `wire`.
        self.wire = self.wire.saturating_sub(n as u32);
        Ok(())
    }

    /// Believes a length field: what follows ends `len` bytes from here, or earlier.
    #[inline]
    pub(super) fn bound(&mut self, len: u32) {
        self.wire = self.wire.min(len);
        let captured = self.rest.len().min(len as usize);
        self.rest = &self.rest[..captured];
    }

    /// Counts an IP header.
    #[inline]
    pub(super) fn nest(&mut self) -> Result<(), Reason> {
        if self.nested >= MAX_NESTED_IP {
            return Err(Reason::TooDeep);
        }
        self.nested += 1;
        Ok(())
    }

    /// Bytes that are not there: not captured, or not there at all?
    #[cold]
    fn missing(&self, upto: usize) -> Reason {
        if upto as u64 > u64::from(self.wire) { Reason::Malformed } else { Reason::Truncated }
    }
}
