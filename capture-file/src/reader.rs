//! The reader: which format, and one packet after the other.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::error::{Error, Part};
use crate::pcap::Pcap;
use crate::pcapng::PcapNg;
use crate::source::Source;

/// What kind of file it is, compression apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// pcap with microseconds.
    Pcap,
    /// pcap with nanoseconds.
    PcapNanoseconds,
    /// pcap with Kuznetzov's longer record headers.
    PcapKuznetzov,
    /// pcapng.
    PcapNg,
}

impl Format {
    /// Name for people and machines.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pcap => "pcap",
            Self::PcapNanoseconds => "pcap-nsec",
            Self::PcapKuznetzov => "pcap-kuznetzov",
            Self::PcapNg => "pcapng",
        }
    }
}

/// One packet of a capture; borrows the reader's buffer until the next call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Number of the packet record in the file, from 1; equal to Wireshark's frame number. pcapng
    /// journal entries, custom blocks and system-call events have numbers there, too, and are passed
    /// over here, so numbers may be missing.
    pub frame: u64,
    /// Capture time in nanoseconds since the Unix epoch (UTC). 0 when the file has none, as for simple
    /// packet blocks. Times before 1970 or after 2554 are clamped.
    pub time_ns: u64,
    /// LINKTYPE of the registry at <https://www.tcpdump.org/linktypes.html>.
    pub link_type: u16,
    /// Interface within its pcapng section, from 0; 0 for pcap.
    pub interface: u32,
    /// Length on the wire in bytes, never less than `data.len()`.
    pub wire_len: u32,
    /// The captured bytes, from the link-layer header on.
    pub data: &'a [u8],
}

/// What a format finds; the bytes are addressed by their distance from the reader's position.
pub(crate) struct Record {
    pub(crate) time_ns: u64,
    pub(crate) link_type: u16,
    pub(crate) interface: u32,
    pub(crate) wire_len: u32,
    pub(crate) back: usize,
    pub(crate) len: usize,
}

enum State {
    Pcap(Pcap),
    PcapNg(PcapNg),
}

/// Reads a capture from beginning to end.
///
/// Memory is bounded whatever the file says: a buffer of 256 KiB that grows, only as data arrives, to
/// at most [`MAX_BLOCK_BYTES`](crate::MAX_BLOCK_BYTES), and a table of at most
/// [`MAX_INTERFACES`](crate::MAX_INTERFACES) interfaces. There is no allocation per packet.
///
/// From a pipe, a packet is delivered as soon as its last byte has arrived.
pub struct Reader {
    source: Source,
    state: State,
    total_bytes: Option<u64>,
    done: bool,
}

impl Reader {
    /// Opens a file. The formats and compression are recognised by content, not by name.
    ///
    /// # Errors
    ///
    /// [`Error::Open`], and all of [`from_reader`](Self::from_reader).
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let open = |source| Error::Open { path: path.to_owned(), source };
        let file = File::open(path).map_err(open)?;
        let metadata = file.metadata().map_err(open)?;
        let mut reader = Self::from_reader(file)?;
        reader.total_bytes = metadata.is_file().then_some(metadata.len());
        Ok(reader)
    }

    /// Reads from a stream: a pipe, a socket, bytes in memory. Buffering is done here.
    ///
    /// # Errors
    ///
    /// [`Error::Empty`], [`Error::NotACapture`], or damage of the first header.
    pub fn from_reader(reader: impl Read + Send + 'static) -> Result<Self, Error> {
        let mut source = Source::new(Box::new(reader))?;
        source.fill(4)?;
        let state = match source.available() {
            [] => return Err(Error::Empty),
            &[a, b, c, d, ..] if Pcap::matches([a, b, c, d]) => State::Pcap(Pcap::new(&mut source)?),
            &[0x0a, 0x0d, 0x0d, 0x0a, ..] => State::PcapNg(PcapNg::new(&mut source)?),
            bytes => {
                let mut start = [0; 4];
                let len = bytes.len().min(4);
                start[..len].copy_from_slice(&bytes[..len]);
                return Err(Error::NotACapture { start, len });
            }
        };
        Ok(Self { source, state, total_bytes: None, done: false })
    }

    /// The next packet; `None` at the end of the capture, and after an error.
    ///
    /// # Errors
    ///
    /// Damage, once, after all packets before it.
    #[allow(clippy::should_implement_trait, reason = "an iterator cannot lend its buffer")]
    #[inline]
    pub fn next(&mut self) -> Result<Option<Packet<'_>>, Error> {
        if self.done {
            return Ok(None);
        }
        let found = match &mut self.state {
            State::Pcap(pcap) => pcap.next(&mut self.source),
            State::PcapNg(pcapng) => pcapng.next(&mut self.source),
        };
        match found {
            Ok(Some(record)) => {
                self.source.frame += 1;
                Ok(Some(Packet {
                    frame: self.source.frame,
                    time_ns: record.time_ns,
                    link_type: record.link_type,
                    interface: record.interface,
                    wire_len: record.wire_len,
                    data: self.source.behind(record.back, record.len),
                }))
            }
            Ok(None) => {
                self.done = true;
                Ok(None)
            }
            Err(e) => {
                self.done = true;
                Err(e)
            }
        }
    }

    /// The format.
    pub fn format(&self) -> Format {
        match &self.state {
            State::Pcap(pcap) => pcap.format(),
            State::PcapNg(_) => Format::PcapNg,
        }
    }

    /// Whether the file is gzip-compressed.
    pub fn is_compressed(&self) -> bool {
        self.source.is_compressed()
    }

    /// Bytes taken so far from the file or stream itself (compressed bytes, if it is compressed). Runs
    /// ahead of the packets by up to the size of the buffers; equal to [`total_bytes`](Self::total_bytes)
    /// at the end of a regular file.
    pub fn bytes_read(&self) -> u64 {
        self.source.bytes_read()
    }

    /// Size of the file in bytes when it was opened; `None` for anything but a regular file.
    pub fn total_bytes(&self) -> Option<u64> {
        self.total_bytes
    }

    /// Number of the last frame delivered or passed over.
    pub fn frames(&self) -> u64 {
        self.source.frame
    }
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader")
            .field("format", &self.format())
            .field("position", &self.source.position())
            .field("total_bytes", &self.total_bytes)
            .finish_non_exhaustive()
    }
}

/// The error for a length field at the present position.
pub(crate) fn length_error(source: &Source, part: Part, len: u32, rule: &'static str) -> Error {
    Error::Length { at: source.position(), part, len: len.into(), rule }
}
