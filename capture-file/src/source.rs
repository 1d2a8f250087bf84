//! The bytes of a capture: buffering, decompression and counting.
//!
//! A buffer of our own rather than the parser's: a length field must not size an allocation (the buffer
//! grows only as data arrives, up to what the caller asks for), and an offset must be known for every
//! error.

use std::io::{self, BufReader, Chain, Cursor, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::bufread::MultiGzDecoder;

use crate::error::{Error, Part, Position};

/// Large enough that the copy of a cut record at each refill does not count, small enough to stay in
/// the second-level cache.
const BUFFER_BYTES: usize = 256 << 10;

/// Counts what is taken from the file or pipe itself, compressed or not.
struct Counted {
    inner: Box<dyn Read + Send>,
    read: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.read.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

/// The first bytes again, looked at to recognise the compression, then the rest.
type Whole = Chain<Cursor<Vec<u8>>, Counted>;

enum Input {
    Plain(Counted),
    Gzip(Box<MultiGzDecoder<BufReader<Whole>>>),
}

impl Input {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(r) => r.read(buf),
            Self::Gzip(r) => r.read(buf),
        }
    }
}

pub(crate) struct Source {
    input: Input,
    buf: Vec<u8>,
    /// `buf[pos..end]` is read and not consumed.
    pos: usize,
    end: usize,
    /// Offset in the capture of `buf[0]`.
    base: u64,
    ended: bool,
    read: Arc<AtomicU64>,
    /// Frames counted so far, for error messages.
    pub(crate) frame: u64,
}

impl Source {
    pub(crate) fn new(inner: Box<dyn Read + Send>) -> Result<Self, Error> {
        let read = Arc::new(AtomicU64::new(0));
        let mut counted = Counted { inner, read: Arc::clone(&read) };
        let mut start = Vec::with_capacity(4);
        // `read_to_end` retries interrupted calls.
        let first = (&mut counted).take(4).read_to_end(&mut start);
        let mut source = Self {
            input: Input::Plain(counted),
            buf: Vec::new(),
            pos: 0,
            end: 0,
            base: 0,
            ended: false,
            read,
            frame: 0,
        };
        first.map_err(|e| source.io_error(e))?;
        // RFC 1952 2.3.1: ID1, ID2 and the only compression method.
        if start.starts_with(&[0x1f, 0x8b, 8]) {
            let Input::Plain(counted) = source.input else { unreachable!("made a few lines above") };
            let chain = Cursor::new(start).chain(counted);
            source.input = Input::Gzip(Box::new(MultiGzDecoder::new(BufReader::with_capacity(64 << 10, chain))));
            source.buf.resize(BUFFER_BYTES, 0);
        } else {
            source.end = start.len();
            source.buf = start;
            source.buf.resize(BUFFER_BYTES, 0);
        }
        Ok(source)
    }

    pub(crate) fn is_compressed(&self) -> bool {
        matches!(self.input, Input::Gzip(_))
    }

    pub(crate) fn bytes_read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    pub(crate) fn position(&self) -> Position {
        Position { offset: self.base + self.pos as u64, after_frame: self.frame, compressed: self.is_compressed() }
    }

    #[inline]
    pub(crate) fn available(&self) -> &[u8] {
        &self.buf[self.pos..self.end]
    }

    /// Bytes of the last consumed record, by its distance from the present position.
    #[inline]
    pub(crate) fn behind(&self, back: usize, len: usize) -> &[u8] {
        let start = self.pos - back;
        &self.buf[start..start + len]
    }

    #[inline]
    pub(crate) fn consume(&mut self, n: usize) {
        debug_assert!(n <= self.end - self.pos);
        self.pos += n;
    }

    /// Makes `n` bytes available; false if the capture ends before.
    #[inline]
    pub(crate) fn fill(&mut self, n: usize) -> Result<bool, Error> {
        if self.end - self.pos >= n { Ok(true) } else { self.refill(n) }
    }

    /// As [`fill`](Self::fill), but an early end is damage of `part`.
    #[inline]
    pub(crate) fn need(&mut self, n: usize, part: Part) -> Result<(), Error> {
        if self.fill(n)? { Ok(()) } else { Err(self.truncated(part, n as u64)) }
    }

    /// The error for a capture that ends `need` bytes after the present position or earlier.
    pub(crate) fn truncated(&self, part: Part, need: u64) -> Error {
        Error::Truncated { at: self.position(), part, need, have: self.available().len() as u64 }
    }

    #[cold]
    fn refill(&mut self, n: usize) -> Result<bool, Error> {
        self.buf.copy_within(self.pos..self.end, 0);
        self.base += self.pos as u64;
        self.end -= self.pos;
        self.pos = 0;
        while self.end < n {
            if self.ended {
                return Ok(false);
            }
            if self.end == self.buf.len() {
                // Full and still not enough: `n` is more than the buffer. Double, so that a length
                // without data behind it costs no memory.
                let len = (self.buf.len() * 2).min(n);
                self.buf.resize(len, 0);
            }
            match self.input.read(&mut self.buf[self.end..]) {
                Ok(0) => self.ended = true,
                Ok(got) => self.end += got,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(self.io_error(e)),
            }
        }
        Ok(true)
    }

    /// Passes over `n` bytes without keeping them; the number it could not pass over.
    pub(crate) fn skip(&mut self, mut n: u64) -> Result<u64, Error> {
        while n > 0 {
            if !self.fill(1)? {
                break;
            }
            let step = n.min((self.end - self.pos) as u64);
            self.pos += step as usize;
            n -= step;
        }
        Ok(n)
    }

    fn io_error(&self, source: io::Error) -> Error {
        use io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
        let at = self.position();
        match source.kind() {
            InvalidData | InvalidInput | UnexpectedEof if self.is_compressed() => Error::Gzip { at, source },
            _ => Error::Read { at, source },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(bytes: usize) -> Source {
        Source::new(Box::new(io::repeat(1).take(bytes as u64))).unwrap()
    }

    #[test]
    fn buffer_grows_only_as_data_arrives() {
        let mut short = source(1000);
        assert!(!short.fill(16 << 20).unwrap());
        assert_eq!(short.buf.len(), BUFFER_BYTES);

        // 300 KiB need the first doubling, not the second.
        let mut longer = source(300 << 10);
        assert!(!longer.fill(16 << 20).unwrap());
        assert_eq!(longer.buf.len(), 2 * BUFFER_BYTES);

        let mut enough = source(10 << 20);
        assert!(enough.fill(9 << 20).unwrap());
        assert_eq!(enough.buf.len(), 9 << 20);
    }

    #[test]
    fn skipping_keeps_nothing() {
        let mut source = source(100 << 20);
        assert_eq!(source.skip(99 << 20).unwrap(), 0);
        assert_eq!(source.buf.len(), BUFFER_BYTES);
        assert_eq!(source.position().offset, 99 << 20);
        assert_eq!(source.skip(2 << 20).unwrap(), 1 << 20);
    }
}
