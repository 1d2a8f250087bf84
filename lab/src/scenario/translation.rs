//! Devices that shift numbers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::apps::{self, End, Pace, Reader, Writer};
use super::check::View;
use super::{Happened, Kind, Scenario, Side, Stage, at, cause};
use crate::LabError;
use crate::forwarder::{Delay, Outbox};
use crate::packet::Packet;
use crate::story::PATIENCE;

pub const SCENARIOS: &[Scenario] = &[Scenario {
    id: "S37",
    title: "a device adds 1000 to the client's sequence numbers after 200 kB",
    topology: Kind::Wire,
    run: shifted,
    checks: || {
        vec![
            at(View::Client)
                .accept(cause("seq_translation_fault").culprits(&["middlebox"]))
                .desync("offset", 1000)
                .shows(&["sack_unsent", "dsack_shifted"]),
            at(View::Server)
                .accept(cause("seq_translation_fault").culprits(&["network_or_peer"]))
                .desync("offset_upstream", 1000)
                .shows(&["hole_persistent", "rexmit_above_hole"])
                .kernel("TCP_ABORT_ON_DATA"),
        ]
    },
}];

const PORT: u16 = 5001;
const BULK: u64 = 4_000_000;

/// The row's own: x is the client, which sends; z the server, whose application gives up.
fn shifted(stage: &mut Stage) -> Result<Happened, LabError> {
    const AFTER: u64 = 200_000;
    const SHIFT: u32 = 1000;
    let passed = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&passed);
    let device = stage.device(Delay::NONE, move |from: Side, mut packet: Packet, out: &mut Outbox| {
        if from == Side::Client && count.fetch_add(u64::from(packet.len()), Ordering::Relaxed) >= AFTER {
            packet.set_seq(packet.seq().plus(SHIFT));
        }
        out.forward(from, packet);
    })?;
    let (client, server) = stage.pair(PORT)?;
    let happened_between = (apps::local(&client)?, apps::local(&server)?);
    let writer = Writer::start(client, BULK, Pace::BULK)?;
    let reader = Reader::start(server)?;
    reader.reached(AFTER, PATIENCE)?;
    let read = reader.stalled(Duration::from_millis(6500), PATIENCE)?;
    if read >= AFTER + 2000 {
        return Err(LabError::Plot(format!("the server read {read} bytes although numbers were shifted")));
    }
    reader.stop()?;
    let end = writer.finish(PATIENCE)?;
    // A reset that finds the connection half closed is told as a broken pipe (tcp_reset, CLOSE-WAIT).
    apps::expect("the client", End::Error(libc::EPIPE), end)?;
    drop(device.stop()?);
    Ok(Happened {
        client: happened_between.0,
        server: happened_between.1,
        told: format!(
            "the server read {read} bytes, nothing more for 6.5 s, and closed; the client then got {end}; numbers were shifted by {SHIFT}"
        ),
    })
}
