//! Reading capture files, and finding the IP packet in a frame.
//!
//! Two halves that do not know each other:
//!
//! * [`Reader`] turns a stream of bytes into [`Packet`]s: pcap (microseconds, nanoseconds, both byte
//!   orders, Kuznetzov's variant) and pcapng, each optionally gzip-compressed. It knows nothing of
//!   what is inside a frame.
//! * [`link::locate`] takes a frame and its link type and says where the innermost IP header with TCP
//!   begins, after link layers and tunnels. It allocates nothing and never panics. The TCP header
//!   itself is not its business.
//!
//! ```no_run
//! use capture_file::{Reader, link::{Located, locate}};
//!
//! let mut reader = Reader::open("trace.pcapng")?;
//! while let Some(packet) = reader.next()? {
//!     match locate(packet.link_type, packet.data, packet.wire_len) {
//!         Located::Ip { offset, wire_len } => {
//!             println!("{}: {} bytes of IP at {offset}", packet.frame, wire_len);
//!         }
//!         Located::Not(reason) => println!("{}: {}", packet.frame, reason.name()),
//!     }
//! }
//! # Ok::<(), capture_file::Error>(())
//! ```
//!
//! Damage is expected: every packet before it is delivered, then one [`Error`] says what is wrong, at
//! which byte and after which frame. Memory is bounded whatever the file says (see [`Reader`]).

mod error;
mod kuznetzov;
pub mod link;
mod pcap;
mod pcapng;
mod reader;
mod source;

pub use error::{Error, Part, Position};
pub use reader::{Format, Packet, Reader};

/// Largest captured length of one packet that is believed, in bytes.
///
/// The same limit as libpcap's `MAXIMUM_SNAPLEN` and Wireshark's `WTAP_MAX_PACKET_SIZE_STANDARD`; link
/// types with larger packets (USB, D-Bus) carry no IP. A larger length is damage.
pub const MAX_PACKET_BYTES: u32 = 262_144;

/// Largest pcapng block that is held in memory, in bytes; only section headers, interface descriptions
/// and packets (with their options) are held, others are skipped whatever their length.
pub const MAX_BLOCK_BYTES: u32 = 16 << 20;

/// Most interfaces one pcapng section may describe.
pub const MAX_INTERFACES: usize = 65_536;
