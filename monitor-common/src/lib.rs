//! What the kernel programs and the offline analyser share: header parsing, TCP options, sequence
//! arithmetic, the connection key and the tracker.
//!
//! # The tracker's contract
//!
//! `(connection, direction, segment, time) in, observations out`. The crate does no I/O, reads no clock,
//! allocates nothing and never panics; time is an argument (`now_ns`, nanoseconds of any clock that does not
//! run backwards by more than a reordering). The same packets therefore give the same state and the same
//! events in the kernel and on the host, field by field; a test of the project holds that to be true.
//!
//! Data flows one way:
//!
//! ```text
//! bytes --parse--> (FlowKey, Direction, Segment) --engine--> Connection, Evidence, Recorder
//!                                                   |
//!                                                   +--> engine::why --> Event (transitions only)
//! ```
//!
//! Terms are those of RFC 9293: a *segment* is TCP's unit, a *packet* IP's, a *frame* the link's. A *flow* is an
//! unordered 4-tuple, a *connection* one life of it, an *endpoint* one side, a *direction* who sent.
#![no_std]
#![forbid(unsafe_code)]

pub mod abi;
pub mod anomaly;
pub mod drops;
pub mod engine;
pub mod event;
pub mod evidence;
pub mod flow;
pub mod icmp;
pub mod options;
pub mod parse;
pub mod recorder;
pub mod segment;
pub mod seq;
pub mod tracker;

pub use anomaly::Anomaly;
pub use flow::{Direction, FlowKey};
pub use segment::Segment;
pub use seq::SeqNum;
