//! pcapng: blocks in sections (draft-ietf-opsawg-pcapng).
//!
//! The framing (type, length, body, length) is done here, because three things need it that
//! pcap-parser's reader does not give: an error for a length that cannot be true instead of a wish for
//! more data, blocks that are skipped without being held, and offsets. Section headers and interface
//! descriptions, with their options, are pcap-parser's. Packets are decoded here: pcap-parser collects
//! the options of an enhanced packet block in a `Vec`, one allocation a packet, and does not know the
//! obsolete packet block.
//!
//! Two defects of pcap-parser 0.17.0 are worked around by reading the option bytes: it knows no
//! resolution that is a power of two (`build_ts_resolution` compares before it masks the top bit), and
//! it reads `if_tsoffset` as little-endian in big-endian sections, too.

use pcap_parser::nom::IResult;
use pcap_parser::{
    InterfaceDescriptionBlock, OptionCode, PcapError, parse_interfacedescriptionblock_be,
    parse_interfacedescriptionblock_le, parse_sectionheaderblock,
};

use crate::error::{Error, Part, parser_error};
use crate::link::array;
use crate::reader::{Record, length_error};
use crate::source::Source;
use crate::{MAX_BLOCK_BYTES, MAX_INTERFACES, MAX_PACKET_BYTES};

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
const OBSOLETE_PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;

/// Section 4.1: the byte-order magic.
const BYTE_ORDER_MAGIC: u32 = 0x1a2b_3c4d;

/// Blocks that Wireshark gives a frame number though they hold no packet (seen with 4.0.17): journal
/// entries, custom blocks, and the events of sysdig.
fn is_other_frame(block_type: u32) -> bool {
    matches!(block_type, 9 | 0xbad | 0x4000_0bad | 0x204 | 0x208 | 0x216 | 0x217 | 0x221 | 0x222)
}

/// Table "Standardized Block Type Codes": types a text-mode transfer would make of a section header.
fn is_reserved(block_type: u32) -> bool {
    matches!(block_type >> 8, 0x0a_0d0a | 0x0d_0d0a) || matches!(block_type & 0xff_ffff, 0x0a_0d0a | 0x0a_0d0d)
}

/// How an interface counts time (sections 4.2, `if_tsresol` and `if_tsoffset`).
#[derive(Clone, Copy, Debug, PartialEq)]
struct Clock {
    unit: Unit,
    offset_s: i64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Unit {
    /// So many nanoseconds.
    Times(u64),
    /// So many of them are a nanosecond.
    Part(u64),
    /// 2^-n seconds.
    Binary(u32),
    /// Too small for 64 bits of them to make a nanosecond.
    Nothing,
}

impl Clock {
    fn new(resolution: u8, offset_s: i64) -> Self {
        let power = u32::from(resolution & 0x7f);
        let unit = if resolution & 0x80 != 0 {
            Unit::Binary(power)
        } else if power <= 9 {
            Unit::Times(10u64.pow(9 - power))
        } else {
            10u64.checked_pow(power - 9).map_or(Unit::Nothing, Unit::Part)
        };
        Self { unit, offset_s }
    }

    #[inline]
    fn ns(&self, units: u64) -> u64 {
        let ns = match self.unit {
            Unit::Times(n) => units.saturating_mul(n),
            Unit::Part(n) => units / n,
            Unit::Binary(n) => u64::try_from((u128::from(units) * 1_000_000_000) >> n).unwrap_or(u64::MAX),
            Unit::Nothing => 0,
        };
        if self.offset_s == 0 {
            return ns;
        }
        let moved = i128::from(ns) + i128::from(self.offset_s) * 1_000_000_000;
        moved.clamp(0, i128::from(u64::MAX)) as u64
    }
}

struct Interface {
    link_type: u16,
    /// Bytes kept of each packet; 0 is no limit.
    snap_len: u32,
    clock: Clock,
}

pub(crate) struct PcapNg {
    big_endian: bool,
    /// Of the present section.
    interfaces: Vec<Interface>,
}

/// A block that is wholly in the buffer.
struct Block<'a> {
    bytes: &'a [u8],
    big_endian: bool,
}

impl Block<'_> {
    /// 0 outside the block; callers check the block's length first.
    #[inline]
    fn u32(&self, at: usize) -> u32 {
        let bytes = array(self.bytes, at).unwrap_or_default();
        if self.big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
    }

    #[inline]
    fn u16(&self, at: usize) -> u16 {
        let bytes = array(self.bytes, at).unwrap_or_default();
        if self.big_endian { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) }
    }
}

impl PcapNg {
    /// Reads the first section header.
    pub(crate) fn new(source: &mut Source) -> Result<Self, Error> {
        let mut pcapng = Self { big_endian: false, interfaces: Vec::new() };
        source.need(12, Part::Block(SECTION_HEADER))?;
        let len = pcapng.section_order(source)?;
        pcapng.check_length(source, Part::Block(SECTION_HEADER), len)?;
        pcapng.section(source, len)?;
        Ok(pcapng)
    }

    #[inline]
    pub(crate) fn next(&mut self, source: &mut Source) -> Result<Option<Record>, Error> {
        loop {
            if !source.fill(8)? {
                return match source.available() {
                    [] => Ok(None),
                    _ => Err(source.truncated(Part::BlockHeader, 8)),
                };
            }
            let head = Block { bytes: source.available(), big_endian: self.big_endian };
            let (block_type, mut len) = (head.u32(0), head.u32(4));
            let part = Part::Block(block_type);
            if block_type == SECTION_HEADER {
                source.need(12, part)?;
                len = self.section_order(source)?;
            }
            self.check_length(source, part, len)?;
            match block_type {
                ENHANCED_PACKET => return self.packet(source, len, Self::enhanced).map(Some),
                SIMPLE_PACKET => return self.packet(source, len, Self::simple).map(Some),
                OBSOLETE_PACKET => return self.packet(source, len, Self::obsolete).map(Some),
                SECTION_HEADER => self.section(source, len)?,
                INTERFACE_DESCRIPTION => self.interface(source, len)?,
                _ if is_reserved(block_type) => {
                    return Err(Error::ReservedBlock { at: source.position(), block_type });
                }
                _ => {
                    self.pass_over(source, part, len)?;
                    if is_other_frame(block_type) {
                        source.frame += 1;
                    }
                }
            }
        }
    }

    /// Takes the byte order from a section header of which 12 bytes are available; its length.
    fn section_order(&mut self, source: &mut Source) -> Result<u32, Error> {
        let magic: [u8; 4] = array(source.available(), 8).unwrap_or_default();
        self.big_endian = if u32::from_le_bytes(magic) == BYTE_ORDER_MAGIC {
            false
        } else if u32::from_be_bytes(magic) == BYTE_ORDER_MAGIC {
            true
        } else {
            return Err(Error::ByteOrder { at: source.position(), magic: u32::from_le_bytes(magic) });
        };
        Ok(Block { bytes: source.available(), big_endian: self.big_endian }.u32(4))
    }

    /// Section 3.1.
    #[inline]
    fn check_length(&self, source: &Source, part: Part, len: u32) -> Result<(), Error> {
        if len < 12 || !len.is_multiple_of(4) {
            return Err(length_error(source, part, len, "not a multiple of 4 from 12 on"));
        }
        Ok(())
    }

    /// Makes a block available whole and checks its second length (section 3.1).
    #[inline]
    fn hold(&self, source: &mut Source, part: Part, len: u32, least: u32) -> Result<(), Error> {
        if len < least {
            return Err(length_error(source, part, len, "too short for its fixed fields"));
        }
        if len > MAX_BLOCK_BYTES {
            return Err(length_error(source, part, len, "more than 16 MiB"));
        }
        source.need(len as usize, part)?;
        let block = Block { bytes: source.available(), big_endian: self.big_endian };
        let trailing = block.u32(len as usize - 4);
        if trailing != len {
            return Err(Error::LengthMismatch { at: source.position(), part, leading: len, trailing });
        }
        Ok(())
    }

    /// Skips a block without holding it, whatever its length.
    fn pass_over(&self, source: &mut Source, part: Part, len: u32) -> Result<(), Error> {
        let at = source.position();
        let cut = |missing: u64| Error::Truncated { at, part, need: len.into(), have: u64::from(len) - missing };
        let missing = source.skip(u64::from(len) - 4)?;
        if missing > 0 {
            return Err(cut(missing + 4));
        }
        if !source.fill(4)? {
            return Err(cut(4 - source.available().len() as u64));
        }
        let trailing = Block { bytes: source.available(), big_endian: self.big_endian }.u32(0);
        if trailing != len {
            return Err(Error::LengthMismatch { at, part, leading: len, trailing });
        }
        source.consume(4);
        Ok(())
    }

    /// Section 4.1. The section length is of no use: a section ends at the next header or at the end.
    fn section(&mut self, source: &mut Source, len: u32) -> Result<(), Error> {
        let part = Part::Block(SECTION_HEADER);
        self.hold(source, part, len, 28)?;
        let at = source.position();
        let (major, minor) = match parse_sectionheaderblock(&source.available()[..len as usize]) {
            Ok((_, section)) => (section.major_version, section.minor_version),
            Err(e) => return Err(Error::Malformed { at, part, source: parser_error(e) }),
        };
        if major != 1 {
            return Err(Error::Version { at, major, minor });
        }
        self.interfaces.clear();
        source.consume(len as usize);
        Ok(())
    }

    /// Section 4.2.
    fn interface(&mut self, source: &mut Source, len: u32) -> Result<(), Error> {
        type Parse = fn(&[u8]) -> IResult<&[u8], InterfaceDescriptionBlock<'_>, PcapError<&[u8]>>;
        let part = Part::Block(INTERFACE_DESCRIPTION);
        self.hold(source, part, len, 20)?;
        let at = source.position();
        if self.interfaces.len() >= MAX_INTERFACES {
            return Err(Error::TooManyInterfaces { at });
        }
        let parse: Parse =
            if self.big_endian { parse_interfacedescriptionblock_be } else { parse_interfacedescriptionblock_le };
        let description = match parse(&source.available()[..len as usize]) {
            Ok((_, description)) => description,
            Err(e) => return Err(Error::Malformed { at, part, source: parser_error(e) }),
        };
        // Microseconds unless said otherwise.
        let (mut resolution, mut offset_s) = (6, 0);
        for option in &description.options {
            match (option.code, option.as_bytes()) {
                (OptionCode::EndOfOpt, _) => break,
                (OptionCode::IfTsresol, Ok(&[value, ..])) => resolution = value,
                (OptionCode::IfTsoffset, Ok(value)) => {
                    if let Some(bytes) = array::<8>(value, 0) {
                        offset_s = if self.big_endian { i64::from_be_bytes(bytes) } else { i64::from_le_bytes(bytes) };
                    }
                }
                _ => {}
            }
        }
        self.interfaces.push(Interface {
            link_type: (description.linktype.0 as u32 & 0xffff) as u16,
            snap_len: description.snaplen,
            clock: Clock::new(resolution, offset_s),
        });
        source.consume(len as usize);
        Ok(())
    }

    #[inline]
    fn packet(
        &self,
        source: &mut Source,
        len: u32,
        decode: impl Fn(&Self, &Source, &Block<'_>) -> Result<Record, Error>,
    ) -> Result<Record, Error> {
        let part = Part::Block(Block { bytes: source.available(), big_endian: self.big_endian }.u32(0));
        self.hold(source, part, len, 16)?;
        let block = Block { bytes: &source.available()[..len as usize], big_endian: self.big_endian };
        let record = decode(self, source, &block)?;
        source.consume(len as usize);
        Ok(record)
    }

    /// Section 4.3.
    #[inline]
    fn enhanced(&self, source: &Source, block: &Block<'_>) -> Result<Record, Error> {
        self.stamped(source, block, ENHANCED_PACKET, block.u32(8))
    }

    /// Appendix A: as the enhanced one, but for 16 bits of interface and 16 of a drop count.
    fn obsolete(&self, source: &Source, block: &Block<'_>) -> Result<Record, Error> {
        self.stamped(source, block, OBSOLETE_PACKET, block.u16(8).into())
    }

    #[inline]
    fn stamped(&self, source: &Source, block: &Block<'_>, block_type: u32, interface: u32) -> Result<Record, Error> {
        const DATA: usize = 28;
        let total = block.bytes.len();
        if total < DATA + 4 {
            return Err(length_error(source, Part::Block(block_type), total as u32, "too short for its fixed fields"));
        }
        let described = self.described(source, interface)?;
        let units = u64::from(block.u32(12)) << 32 | u64::from(block.u32(16));
        let (caplen, origlen) = (block.u32(20), block.u32(24));
        check_captured(source, caplen, total - DATA - 4)?;
        Ok(Record {
            time_ns: described.clock.ns(units),
            link_type: described.link_type,
            interface,
            wire_len: origlen.max(caplen),
            back: total - DATA,
            len: caplen as usize,
        })
    }

    /// Section 4.4: no time, the first interface, and a captured length that follows from the others.
    fn simple(&self, source: &Source, block: &Block<'_>) -> Result<Record, Error> {
        const DATA: usize = 12;
        let described = self.described(source, 0)?;
        let origlen = block.u32(8);
        let snapped = match described.snap_len {
            0 => origlen,
            limit => origlen.min(limit),
        };
        let room = block.bytes.len() - DATA - 4;
        // Some writers leave the snap length too large; the block says how much there is.
        let caplen = snapped.min(room as u32);
        check_captured(source, caplen, room)?;
        Ok(Record {
            time_ns: 0,
            link_type: described.link_type,
            interface: 0,
            wire_len: origlen,
            back: block.bytes.len() - DATA,
            len: caplen as usize,
        })
    }

    #[inline]
    fn described(&self, source: &Source, interface: u32) -> Result<&Interface, Error> {
        self.interfaces.get(interface as usize).ok_or_else(|| Error::UnknownInterface {
            at: source.position(),
            interface,
            known: self.interfaces.len(),
        })
    }
}

#[inline]
fn check_captured(source: &Source, caplen: u32, room: usize) -> Result<(), Error> {
    if caplen > MAX_PACKET_BYTES {
        return Err(length_error(source, Part::PacketData, caplen, "more than 262144 bytes"));
    }
    if caplen as usize > room {
        return Err(length_error(source, Part::PacketData, caplen, "more than the block holds"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_count_in_powers_of_ten_and_two() {
        // if_tsresol, units, nanoseconds
        for (resolution, units, ns) in [
            (6, 1_700_000_000_123_456, 1_700_000_000_123_456_000),
            (9, 1_700_000_000_123_456_789, 1_700_000_000_123_456_789),
            (0, 1_700_000_000, 1_700_000_000_000_000_000),
            (3, 1_700_000_000_123, 1_700_000_000_123_000_000),
            (12, 5_999, 5),
            (0x80 | 20, 3 << 19, 1_500_000_000),
            (0x80 | 32, 1 << 31, 500_000_000),
            (0x80, 7, 7_000_000_000),
            (29, u64::MAX, 0),
            (127, u64::MAX, 0),
            (0xff, u64::MAX, 0),
            (0, u64::MAX, u64::MAX),
        ] {
            assert_eq!(Clock::new(resolution, 0).ns(units), ns, "resolution {resolution:#x}");
        }
    }

    #[test]
    fn clock_offset_moves_both_ways_and_is_clamped() {
        assert_eq!(Clock::new(6, 10).ns(1), 10_000_001_000);
        assert_eq!(Clock::new(6, -1).ns(3_000_000), 2_000_000_000);
        assert_eq!(Clock::new(6, -5).ns(3_000_000), 0);
        assert_eq!(Clock::new(0, i64::MAX).ns(u64::MAX), u64::MAX);
        assert_eq!(Clock::new(0, i64::MIN).ns(0), 0);
    }

    #[test]
    fn reserved_types_are_those_of_the_draft() {
        for reserved in [0x0a0d_0a00, 0x0a0d_0aff, 0x000a_0d0a, 0xff0a_0d0a, 0x000a_0d0d, 0xff0a_0d0d] {
            assert!(is_reserved(reserved), "{reserved:#x}");
        }
        for free in [SECTION_HEADER, 1, 6, 0xbad, 0x0a0d_0b00, 0x0a0b_0d0a] {
            assert!(!is_reserved(free), "{free:#x}");
        }
    }
}
