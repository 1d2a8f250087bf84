//! Captures (classic pcap, microseconds, Ethernet) of clean connections: nothing in them is anomalous.

use super::conversation::spoken;
use super::segment::{Frame, Link, MSS};
use std::io::{self, Write};

/// How much of each frame a long capture keeps.
const SNAP: usize = 96;
/// Connections that are open at once in [`many`].
const WIDTH: usize = 256;
/// Connections of [`bulk`].
const STREAMS: u32 = 8;
/// 2023-11-14.
const START_US: u64 = 1_700_000_000_000_000;

struct Writer<W> {
    out: W,
    now_us: u64,
    step_us: u64,
    snap: usize,
    packets: u64,
}

impl<W: Write> Writer<W> {
    fn new(mut out: W, snap: usize, step_us: u64) -> io::Result<Writer<W>> {
        const MAGIC: u32 = 0xa1b2_c3d4;
        const ETHERNET: u32 = 1;
        out.write_all(&MAGIC.to_le_bytes())?;
        out.write_all(&2u16.to_le_bytes())?;
        out.write_all(&4u16.to_le_bytes())?;
        out.write_all(&[0; 8])?;
        out.write_all(&(snap as u32).to_le_bytes())?;
        out.write_all(&ETHERNET.to_le_bytes())?;
        Ok(Writer { out, now_us: START_US, step_us, snap, packets: 0 })
    }

    fn frame(&mut self, frame: &Frame) -> io::Result<()> {
        let kept = self.snap.min(frame.wire);
        let head = &frame.head[..kept.min(frame.head.len())];
        let (seconds, micros) = ((self.now_us / 1_000_000) as u32, (self.now_us % 1_000_000) as u32);
        for word in [seconds, micros, kept as u32, frame.wire as u32] {
            self.out.write_all(&word.to_le_bytes())?;
        }
        self.out.write_all(head)?;
        io::copy(&mut io::Read::take(io::repeat(0), (kept - head.len()) as u64), &mut self.out)?;
        self.now_us += self.step_us;
        self.packets += 1;
        Ok(())
    }
}

/// One conversation with whole frames. Returns the number of packets, as the others do.
pub fn conversation(out: impl Write, frames: &[Frame]) -> io::Result<u64> {
    let mut writer = Writer::new(out, 65_535, 10)?;
    frames.iter().try_for_each(|frame| writer.frame(frame))?;
    Ok(writer.packets)
}

/// Connections of 30 packets, 256 at a time.
pub fn many(out: impl Write, connections: u32) -> io::Result<u64> {
    interleaved(out, (0..connections).map(|n| spoken(n, Link::Ipv4, 3, 10 * MSS)), WIDTH)
}

/// Eight bulk transfers at once, about `packets` packets in all.
pub fn bulk(out: impl Write, packets: u32) -> io::Result<u64> {
    // Six packets are handshake and end; of the others two thirds carry data.
    let bytes = (packets / STREAMS - 6) * 2 / 3 * MSS;
    interleaved(out, (0..STREAMS).map(|n| spoken(n, Link::Ipv4, 0, bytes)), STREAMS as usize)
}

/// Of each open connection a packet in turn; where one has ended the next begins.
fn interleaved<I: Iterator<Item = Frame>>(
    out: impl Write,
    mut connections: impl Iterator<Item = I>,
    width: usize,
) -> io::Result<u64> {
    let mut writer = Writer::new(out, SNAP, 2)?;
    let mut open: Vec<I> = connections.by_ref().take(width).collect();
    while !open.is_empty() {
        let mut i = 0;
        while i < open.len() {
            if let Some(frame) = open[i].next() {
                writer.frame(&frame)?;
                i += 1;
            } else if let Some(next) = connections.next() {
                open[i] = next;
            } else {
                open.remove(i);
            }
        }
    }
    writer.out.flush()?;
    Ok(writer.packets)
}

#[cfg(test)]
mod tests {
    use super::super::conversation::Conversation;
    use super::*;
    use sha2::{Digest, Sha256};

    fn hash(file: &[u8]) -> String {
        Sha256::digest(file).iter().map(|b| format!("{b:02x}")).collect()
    }

    /// The sums are of files that another program wrote to the same description, and tshark found nothing amiss in.
    #[test]
    fn captures_are_those_that_other_tools_were_measured_with() {
        let mut file = Vec::new();
        assert_eq!(conversation(&mut file, &Conversation::whole(Link::Ipv4).frames).unwrap(), 1193);
        assert_eq!(hash(&file), "add170bceffcd4b85b26c14a9842dedbab8ad839234268c34506d5faa6dd19d8");
        file.clear();
        assert_eq!(conversation(&mut file, &Conversation::short().frames).unwrap(), 30);
        assert_eq!(hash(&file), "613004c5147b9630017bf45b6b785176695c98c9ef9b0f366dc8ff3fe6b529db");
        file.clear();
        assert_eq!(many(&mut file, 300).unwrap(), 9000);
        assert_eq!(hash(&file), "a3aea23aab2c1ff31996a6ed8025e63d01ad6749902cb2067be98102671492dd");
        file.clear();
        assert_eq!(bulk(&mut file, 8000).unwrap(), 7992);
        assert_eq!(hash(&file), "5b8dfc454e86f29217e406a427200541926c2b1a03e23a9f7f5ceff39e76404b");
    }
}
