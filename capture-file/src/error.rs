//! What can be wrong with a capture, where, and why.

use std::fmt;
use std::io;
use std::path::PathBuf;

use pcap_parser::PcapError;

/// Where reading stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Offset in bytes of the damaged header, record or block; counted in the decompressed data when
    /// `compressed`.
    pub offset: u64,
    /// Number of the last frame before it; 0 when there is none.
    pub after_frame: u64,
    /// The file is gzip-compressed.
    pub compressed: bool,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at byte {}", self.offset)?;
        if self.compressed {
            f.write_str(" of the decompressed data")?;
        }
        match self.after_frame {
            0 => f.write_str(", before the first frame"),
            n => write!(f, ", after frame {n}"),
        }
    }
}

/// The piece of a capture an [`Error`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Part {
    /// The 24 bytes at the beginning of a pcap file.
    FileHeader,
    /// The 16 (Kuznetzov: 24) bytes before each packet of a pcap file.
    RecordHeader,
    /// The captured bytes of a packet.
    PacketData,
    /// Type and length at the beginning of a pcapng block.
    BlockHeader,
    /// A whole pcapng block of this type.
    Block(u32),
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FileHeader => f.write_str("file header"),
            Self::RecordHeader => f.write_str("record header"),
            Self::PacketData => f.write_str("packet data"),
            Self::BlockHeader => f.write_str("block header"),
            Self::Block(1) => f.write_str("interface description block"),
            Self::Block(2) => f.write_str("packet block (obsolete form)"),
            Self::Block(3) => f.write_str("simple packet block"),
            Self::Block(6) => f.write_str("enhanced packet block"),
            Self::Block(0x0a0d_0d0a) => f.write_str("section header block"),
            Self::Block(other) => write!(f, "block of type {other:#x}"),
        }
    }
}

/// Why a capture cannot be read, or not be read further.
///
/// All packets before the damage were delivered. After an error [`Reader::next`](crate::Reader::next)
/// returns `Ok(None)`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file cannot be opened.
    #[error("cannot open {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
    /// Reading failed, for another reason than the contents.
    #[error("cannot read the capture {at}")]
    Read {
        /// The first byte that could not be had.
        at: Position,
        /// The reader's answer.
        source: io::Error,
    },
    /// The compressed data is cut short or damaged.
    #[error("damaged gzip data {at}")]
    Gzip {
        /// The beginning of the record that could not be had whole.
        at: Position,
        /// What the decompressor says.
        source: io::Error,
    },
    /// There is not one byte.
    #[error("the capture is empty (0 bytes)")]
    Empty,
    /// No known format begins like this.
    #[error("not a pcap or pcapng file: it begins with {}{}", hex(start, *len), hint(start))]
    NotACapture {
        /// The first bytes.
        start: [u8; 4],
        /// How many of them are there.
        len: usize,
    },
    /// The capture ends inside a header, a packet or a block.
    #[error("{part} cut short {at}: {have} of {need} bytes are there")]
    Truncated {
        /// Where the record or block begins.
        at: Position,
        /// What is cut.
        part: Part,
        /// Bytes it should have; more may follow.
        need: u64,
        /// Bytes it has.
        have: u64,
    },
    /// A length field that cannot be true.
    #[error("impossible length {len} of {part} {at}: {rule}")]
    Length {
        /// Where the record or block begins.
        at: Position,
        /// What the length is of.
        part: Part,
        /// The length as in the file, in bytes.
        len: u64,
        /// The rule it breaks.
        rule: &'static str,
    },
    /// The two lengths around a pcapng block differ.
    #[error("{part} {at} begins with length {leading} and ends with length {trailing}")]
    LengthMismatch {
        /// Where the block begins.
        at: Position,
        /// The block.
        part: Part,
        /// Length at its beginning.
        leading: u32,
        /// Length at its end.
        trailing: u32,
    },
    /// A block type that no writer may use: the draft reserves it to make transfers in text mode
    /// detectable (draft-ietf-opsawg-pcapng, "Standardized Block Type Codes"). Other unknown types are skipped.
    #[error("unknown block type {block_type:#010x} {at}: reserved, seen when a file was copied in text mode")]
    ReservedBlock {
        /// Where the block begins.
        at: Position,
        /// Its type.
        block_type: u32,
    },
    /// A section header with neither byte order.
    #[error("section header {at} has the unknown byte-order magic {magic:#010x}")]
    ByteOrder {
        /// Where the block begins.
        at: Position,
        /// The magic, read as little-endian.
        magic: u32,
    },
    /// A version of the format nobody has defined.
    #[error("section header {at} has the unknown version {major}.{minor}")]
    Version {
        /// Where the block begins.
        at: Position,
        /// Major version.
        major: u16,
        /// Minor version.
        minor: u16,
    },
    /// A packet of an interface that was not described before.
    #[error("packet {at} names interface {interface}, but the section describes {known}")]
    UnknownInterface {
        /// Where the block begins.
        at: Position,
        /// The interface as in the block.
        interface: u32,
        /// How many the section has described so far.
        known: usize,
    },
    /// More than [`MAX_INTERFACES`](crate::MAX_INTERFACES) interfaces in a section.
    #[error("interface description {at} exceeds the limit of {} in a section", crate::MAX_INTERFACES)]
    TooManyInterfaces {
        /// Where the block begins.
        at: Position,
    },
    /// The parser refused a header or block.
    #[error("malformed {part} {at}")]
    Malformed {
        /// Where it begins.
        at: Position,
        /// What is malformed.
        part: Part,
        /// The parser's answer, without the input.
        source: PcapError<&'static [u8]>,
    },
}

impl Error {
    /// Where reading stopped; `None` when it never began.
    pub fn position(&self) -> Option<Position> {
        match self {
            Self::Open { .. } | Self::Empty | Self::NotACapture { .. } => None,
            Self::Read { at, .. }
            | Self::Gzip { at, .. }
            | Self::Truncated { at, .. }
            | Self::Length { at, .. }
            | Self::LengthMismatch { at, .. }
            | Self::ReservedBlock { at, .. }
            | Self::ByteOrder { at, .. }
            | Self::Version { at, .. }
            | Self::UnknownInterface { at, .. }
            | Self::TooManyInterfaces { at }
            | Self::Malformed { at, .. } => Some(*at),
        }
    }

    /// The capture merely ends too early, as when it is still being written or the disk was full.
    pub fn is_truncation(&self) -> bool {
        match self {
            Self::Truncated { .. } => true,
            Self::Gzip { source, .. } => source.kind() == io::ErrorKind::UnexpectedEof,
            _ => false,
        }
    }
}

/// The parser's errors quote their input, which may be megabytes of a hostile block: keep the kind.
pub(crate) fn parser_error(error: pcap_parser::nom::Err<PcapError<&[u8]>>) -> PcapError<&'static [u8]> {
    use pcap_parser::nom::{Err, Needed};
    match error {
        Err::Incomplete(Needed::Size(n)) => PcapError::Incomplete(n.get()),
        Err::Incomplete(Needed::Unknown) => PcapError::Incomplete(0),
        Err::Error(e) | Err::Failure(e) => match e {
            PcapError::NomError(_, kind) | PcapError::OwnedNomError(_, kind) => PcapError::NomError(&[], kind),
            other => other.to_owned_vec(),
        },
    }
}

fn hex(start: &[u8; 4], len: usize) -> String {
    let bytes: Vec<String> = start.iter().take(len).map(|b| format!("{b:02x}")).collect();
    bytes.join(" ")
}

/// Formats people do hand to a pcap reader.
fn hint(start: &[u8; 4]) -> &'static str {
    match start {
        [0x28, 0xb5, 0x2f, 0xfd] => " (zstd-compressed: decompress it first)",
        [0xfd, b'7', b'z', b'X'] => " (xz-compressed: decompress it first)",
        [b'B', b'Z', b'h', _] => " (bzip2-compressed: decompress it first)",
        [0x04, 0x22, 0x4d, 0x18] => " (lz4-compressed: decompress it first)",
        [b'P', b'K', 3, 4] => " (a zip archive: unpack it first)",
        [b's', b'n', b'o', b'o'] => " (a snoop file: convert it with editcap)",
        [0x0a, 0x0d, 0x0a, _] | [0x0d, 0x0a, 0x0d, _] => {
            " (a pcapng file that was copied in text mode: copy it again in binary mode)"
        }
        _ => "",
    }
}
