//! Captures into classic pcap files, one per interface.
//!
//! Done here rather than by an external program because two things must be certain: that capturing
//! has begun before traffic does (it begins when [`Capture::start`] returns), and that at the end
//! nothing is left unread.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::error::{During, LabError};
use crate::netns::Namespace;
use crate::packet_socket::{MAX_FRAME, PacketSocket, Received};

/// Keeps every header and cuts bulk payload, for captures that are committed.
pub const HEADERS_ONLY: u32 = 128;
/// Whole frames.
pub const WHOLE: u32 = 262_144;

/// How long an interface must be quiet before a capture that was told to stop believes it.
const QUIET: Duration = Duration::from_millis(50);
/// An upper bound for that, in case it never becomes quiet.
const DRAIN_LIMIT: Duration = Duration::from_secs(2);

/// A running capture. Dropping it stops it; [`Capture::stop`] also reports.
pub struct Capture {
    path: PathBuf,
    stop: Arc<AtomicBool>,
    writer: Option<JoinHandle<Result<Summary, LabError>>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    pub packets: u64,
    /// Frames the kernel could not hand over in time. Zero in a capture worth keeping.
    pub dropped: u32,
}

impl Capture {
    pub fn start(namespace: &Namespace, interface: &str, path: &Path, snaplen: u32) -> Result<Self, LabError> {
        let socket = PacketSocket::open(namespace, interface)?;
        let file = File::create(path).during(format!("create {}", path.display()))?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let shown = path.display().to_string();
        let writer = thread::spawn(move || {
            let mut file = BufWriter::new(file);
            copy(&socket, &mut file, snaplen, &stopped, &shown)
        });
        Ok(Self { path: path.to_owned(), stop, writer: Some(writer) })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Ends the capture once the interface is quiet; all frames are in the file afterwards.
    pub fn stop(mut self) -> Result<Summary, LabError> {
        self.join().unwrap_or(Ok(Summary { packets: 0, dropped: 0 }))
    }

    fn join(&mut self) -> Option<Result<Summary, LabError>> {
        self.stop.store(true, Ordering::Relaxed);
        let writer = self.writer.take()?;
        Some(writer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(writer) = self.writer.take() {
            // Errors belong to `stop`; here the story has failed already.
            let _ = writer.join();
        }
    }
}

fn copy(
    socket: &PacketSocket,
    file: &mut impl Write,
    snaplen: u32,
    stop: &AtomicBool,
    shown: &str,
) -> Result<Summary, LabError> {
    let mut summary = Summary { packets: 0, dropped: 0 };
    let mut buffer = vec![0; MAX_FRAME];
    let mut told_to_stop = None;
    file.write_all(&file_header(snaplen)).during(format!("write {shown}"))?;
    loop {
        match socket.receive(&mut buffer, QUIET)? {
            Some(received) => {
                let kept = received.len.min(buffer.len()).min(snaplen as usize);
                file.write_all(&record_header(&received, kept))
                    .and_then(|()| file.write_all(&buffer[..kept]))
                    .during(format!("write {shown}"))?;
                summary.packets += 1;
            }
            // Quiet: what came so far should be readable even if we are killed.
            None => {
                file.flush().during(format!("write {shown}"))?;
                if told_to_stop.is_some() {
                    break;
                }
            }
        }
        if stop.load(Ordering::Relaxed) {
            let since = *told_to_stop.get_or_insert_with(Instant::now);
            if since.elapsed() > DRAIN_LIMIT {
                break;
            }
        }
    }
    file.flush().during(format!("write {shown}"))?;
    summary.dropped = socket.dropped()?;
    Ok(summary)
}

/// Little-endian, microseconds, Ethernet: what every reader of pcap understands.
pub(crate) fn file_header(snaplen: u32) -> [u8; 24] {
    const MAGIC_MICROSECONDS: u32 = 0xa1b2_c3d4;
    const LINKTYPE_ETHERNET: u32 = 1;
    let mut header = [0; 24];
    header[..4].copy_from_slice(&MAGIC_MICROSECONDS.to_le_bytes());
    header[4..6].copy_from_slice(&2u16.to_le_bytes());
    header[6..8].copy_from_slice(&4u16.to_le_bytes());
    header[16..20].copy_from_slice(&snaplen.to_le_bytes());
    header[20..].copy_from_slice(&LINKTYPE_ETHERNET.to_le_bytes());
    header
}

fn record_header(received: &Received, kept: usize) -> [u8; 16] {
    record(received.time.as_secs() as u32, received.time.subsec_micros(), kept, received.len)
}

/// What stands before a frame of which `kept` bytes follow.
pub(crate) fn record(seconds: u32, micros: u32, kept: usize, len: usize) -> [u8; 16] {
    let mut header = [0; 16];
    for (slot, field) in header.chunks_exact_mut(4).zip([seconds, micros, kept as u32, len as u32]) {
        slot.copy_from_slice(&field.to_le_bytes());
    }
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_have_the_bytes_of_the_format() {
        #[rustfmt::skip]
        let expected = [
            0xd4, 0xc3, 0xb2, 0xa1,  2, 0, 4, 0,  0, 0, 0, 0,  0, 0, 0, 0,  128, 0, 0, 0,  1, 0, 0, 0,
        ];
        assert_eq!(file_header(128), expected);
        let received = Received { len: 1514, outgoing: false, time: Duration::new(1, 2_000_999) };
        assert_eq!(record_header(&received, 128), [1, 0, 0, 0, 0xd0, 7, 0, 0, 128, 0, 0, 0, 0xea, 5, 0, 0]);
    }
}
