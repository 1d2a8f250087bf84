//! Packets per second of the reader, alone and with `locate`, on the files given.

use std::time::Instant;

use capture_file::Reader;
use capture_file::link::{Located, locate};

fn main() -> Result<(), capture_file::Error> {
    for path in std::env::args_os().skip(1) {
        for with_locate in [false, true] {
            let start = Instant::now();
            let mut reader = Reader::open(&path)?;
            let (mut packets, mut bytes, mut found) = (0u64, 0u64, 0u64);
            while let Some(packet) = reader.next()? {
                packets += 1;
                bytes += packet.data.len() as u64;
                if with_locate && let Located::Ip { .. } = locate(packet.link_type, packet.data, packet.wire_len) {
                    found += 1;
                }
            }
            let seconds = start.elapsed().as_secs_f64();
            println!(
                "{} {}: {packets} packets ({bytes} bytes, {found} with TCP) in {seconds:.3} s: {:.1} M packets/s, {:.0} MB/s",
                path.display(),
                if with_locate { "read and locate" } else { "read" },
                packets as f64 / seconds / 1e6,
                reader.bytes_read() as f64 / seconds / 1e6,
            );
        }
    }
    Ok(())
}
