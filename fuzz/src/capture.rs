//! Any bytes as a capture file: every packet lies inside it, an error is the last thing that comes.

use capture_file::Reader;
use capture_file::link::{Located, locate};

pub fn run(data: &[u8]) {
    let Ok(mut reader) = Reader::from_reader(std::io::Cursor::new(data.to_vec())) else { return };
    while let Ok(Some(packet)) = reader.next() {
        assert!(packet.wire_len as usize >= packet.data.len());
        if let Located::Ip { offset, wire_len: _ } = locate(packet.link_type, packet.data, packet.wire_len) {
            let version = packet.data[offset] >> 4;
            let rest = packet.data.len() - offset;
            assert!(version == 4 && rest >= 20 || version == 6 && rest >= 40);
        }
    }
    assert!(reader.next().is_ok_and(|p| p.is_none()), "packets after the end");
}
