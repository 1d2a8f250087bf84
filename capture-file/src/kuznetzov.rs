//! The "modified" pcap format of Alexey Kuznetzov's patches to libpcap (Linux, 1990s), magic 0xa1b2cd34.
//!
//! Each record header is 24 bytes: the usual 16, then interface index (4), protocol (2), packet type (1)
//! and a byte of padding. pcap-parser reads the little-endian form only, so the big-endian one is done
//! here. Wireshark and libpcap know both.

use pcap_parser::nom::{Err, IResult, Needed};
use pcap_parser::{LegacyPcapBlock, PcapError};

/// Bytes of a record header.
pub(crate) const HEADER_BYTES: usize = 24;

/// The first four bytes of a big-endian file.
pub(crate) const MAGIC_BIG: [u8; 4] = [0xa1, 0xb2, 0xcd, 0x34];

/// As `pcap_parser::parse_pcap_frame_modified`, big-endian.
pub(crate) fn parse_record_big(i: &[u8]) -> IResult<&[u8], LegacyPcapBlock<'_>, PcapError<&[u8]>> {
    let Some((head, rest)) = i.split_first_chunk::<HEADER_BYTES>() else {
        return Err(Err::Incomplete(Needed::new(HEADER_BYTES - i.len())));
    };
    let word = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let caplen = word(8);
    let Some((data, rest)) = rest.split_at_checked(caplen as usize) else {
        return Err(Err::Incomplete(Needed::new(caplen as usize - rest.len())));
    };
    Ok((rest, LegacyPcapBlock { ts_sec: word(0), ts_usec: word(4), caplen, origlen: word(12), data }))
}
