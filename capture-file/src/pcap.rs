//! The classic format: a file header, then records (draft-ietf-opsawg-pcap).

use pcap_parser::{PcapHeader, parse_pcap_frame, parse_pcap_frame_be, parse_pcap_frame_modified, parse_pcap_header};

use crate::error::{Error, Part, parser_error};
use crate::kuznetzov;
use crate::reader::{Format, Record};
use crate::source::Source;
use crate::{MAX_PACKET_BYTES, link};

const FILE_HEADER_BYTES: usize = 24;

/// Byte order and form of the records.
#[derive(Clone, Copy)]
enum Layout {
    Little,
    Big,
    ModifiedLittle,
    ModifiedBig,
}

impl Layout {
    fn header_bytes(self) -> usize {
        match self {
            Self::Little | Self::Big => 16,
            Self::ModifiedLittle | Self::ModifiedBig => kuznetzov::HEADER_BYTES,
        }
    }
}

/// Before version 2.4 the captured length and the length on the wire were the other way round, or, in
/// 2.3, one or the other by platform (libpcap, sf-pcap.c, `pcap_check_header`).
#[derive(Clone, Copy)]
enum Lengths {
    Usual,
    Swapped,
    Either,
}

pub(crate) struct Pcap {
    layout: Layout,
    lengths: Lengths,
    /// Nanoseconds in a unit of the fraction field.
    fraction_ns: u64,
    link_type: u16,
}

impl Pcap {
    pub(crate) fn matches(magic: [u8; 4]) -> bool {
        magic == kuznetzov::MAGIC_BIG
            || matches!(u32::from_le_bytes(magic), 0xa1b2_c3d4 | 0xd4c3_b2a1 | 0xa1b2_3c4d | 0x4d3c_b2a1 | 0xa1b2_cd34)
    }

    /// Reads the file header.
    pub(crate) fn new(source: &mut Source) -> Result<Self, Error> {
        source.need(FILE_HEADER_BYTES, Part::FileHeader)?;
        let mut head = [0; FILE_HEADER_BYTES];
        head.copy_from_slice(&source.available()[..FILE_HEADER_BYTES]);
        let modified_big = head.starts_with(&kuznetzov::MAGIC_BIG);
        if modified_big {
            // Only the magic differs, and pcap-parser does not know this one.
            head[..4].copy_from_slice(&[0xa1, 0xb2, 0xc3, 0xd4]);
        }
        let header: PcapHeader = match parse_pcap_header(&head) {
            Ok((_, header)) => header,
            Err(e) => {
                let at = source.position();
                return Err(Error::Malformed { at, part: Part::FileHeader, source: parser_error(e) });
            }
        };
        source.consume(FILE_HEADER_BYTES);
        let layout = match (modified_big || header.is_modified_format(), header.is_bigendian()) {
            (false, false) => Layout::Little,
            (false, true) => Layout::Big,
            (true, false) => Layout::ModifiedLittle,
            (true, true) => Layout::ModifiedBig,
        };
        let lengths = match (header.version_major, header.version_minor) {
            (2, 0..=2) | (543, 0) => Lengths::Swapped,
            (2, 3) => Lengths::Either,
            _ => Lengths::Usual,
        };
        Ok(Self {
            layout,
            lengths,
            fraction_ns: if header.is_nanosecond_precision() { 1 } else { 1000 },
            // The upper half holds the FCS length and reserved bits (draft-ietf-opsawg-pcap section 4).
            link_type: (header.network.0 as u32 & 0xffff) as u16,
        })
    }

    pub(crate) fn format(&self) -> Format {
        match self.layout {
            Layout::ModifiedLittle | Layout::ModifiedBig => Format::PcapKuznetzov,
            _ if self.fraction_ns == 1 => Format::PcapNanoseconds,
            _ => Format::Pcap,
        }
    }

    #[inline]
    pub(crate) fn next(&mut self, source: &mut Source) -> Result<Option<Record>, Error> {
        if let Lengths::Usual = self.lengths {
            loop {
                let bytes = source.available();
                let parsed = match self.layout {
                    Layout::Little => parse_pcap_frame(bytes),
                    Layout::Big => parse_pcap_frame_be(bytes),
                    Layout::ModifiedLittle => parse_pcap_frame_modified(bytes),
                    Layout::ModifiedBig => kuznetzov::parse_record_big(bytes),
                };
                if let Ok((_, b)) = parsed
                    && b.caplen <= MAX_PACKET_BYTES
                {
                    let record = self.record(b.ts_sec, b.ts_usec, b.caplen, b.origlen);
                    source.consume(self.layout.header_bytes() + b.caplen as usize);
                    return Ok(Some(record));
                }
                // The parser says only that bytes are missing, or believes any length: look ourselves.
                match self.lengths(source)? {
                    None => return Ok(None),
                    Some((caplen, _)) => self.need_record(source, caplen)?,
                }
            }
        }
        let Some((caplen, origlen)) = self.lengths(source)? else { return Ok(None) };
        self.need_record(source, caplen)?;
        let record = self.record(self.word(source, 0), self.word(source, 4), caplen, origlen);
        source.consume(self.layout.header_bytes() + caplen as usize);
        Ok(Some(record))
    }

    #[inline]
    fn record(&self, seconds: u32, fraction: u32, caplen: u32, origlen: u32) -> Record {
        Record {
            // Cannot overflow: 2^32 * 10^9 + 2^32 * 10^3 < 2^64.
            time_ns: u64::from(seconds) * 1_000_000_000 + u64::from(fraction) * self.fraction_ns,
            link_type: self.link_type,
            interface: 0,
            // Writers exist that leave 0 here; fewer bytes on the wire than in the file makes no sense.
            wire_len: origlen.max(caplen),
            back: caplen as usize,
            len: caplen as usize,
        }
    }

    /// Captured length and length on the wire of the record at the present position.
    fn lengths(&self, source: &mut Source) -> Result<Option<(u32, u32)>, Error> {
        let header_bytes = self.layout.header_bytes();
        if !source.fill(header_bytes)? {
            return match source.available() {
                [] => Ok(None),
                _ => Err(source.truncated(Part::RecordHeader, header_bytes as u64)),
            };
        }
        let (a, b) = (self.word(source, 8), self.word(source, 12));
        Ok(Some(match self.lengths {
            Lengths::Swapped => (b, a),
            Lengths::Either if a > b => (b, a),
            _ => (a, b),
        }))
    }

    fn need_record(&self, source: &mut Source, caplen: u32) -> Result<(), Error> {
        if caplen > MAX_PACKET_BYTES {
            return Err(Error::Length {
                at: source.position(),
                part: Part::PacketData,
                len: caplen.into(),
                rule: "more than 262144 bytes",
            });
        }
        source.need(self.layout.header_bytes() + caplen as usize, Part::PacketData)
    }

    /// Header word at `at`; the header must be available.
    fn word(&self, source: &Source, at: usize) -> u32 {
        let bytes = link::array::<4>(source.available(), at).unwrap_or_default();
        match self.layout {
            Layout::Little | Layout::ModifiedLittle => u32::from_le_bytes(bytes),
            Layout::Big | Layout::ModifiedBig => u32::from_be_bytes(bytes),
        }
    }
}
