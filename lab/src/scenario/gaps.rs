//! Raw peers that lose their own sequence, their accounting or their clock.

use std::time::{Duration, Instant};

use super::apps::{self, End, Pace, Reader, Writer};
use super::check::View;
use super::{Check, Happened, Kind, Scenario, Side, Stage, at, cause};
use crate::LabError;
use crate::app::App;
use crate::frame::Flags;
use crate::raw::{Manner, RawPeer};
use crate::seq::SeqNum;
use crate::story::sequence::{self, HOLE_BYTES, Sender};
use crate::story::{PATIENCE, sequence::Options};

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        id: "S47",
        title: "a sender skips 3000 bytes that it never sends, then resets",
        topology: Kind::Raw(Side::Client),
        run: |stage| skipped(stage, Options::default().iss),
        checks: gap,
    },
    Scenario {
        id: "S48",
        title: "a receiver acknowledges 4096 bytes too many from 200 kB on, then resets",
        topology: Kind::Raw(Side::Server),
        run: acknowledged_too_much,
        checks: || {
            vec![
                at(View::Client)
                    .accept(
                        cause("endpoint_sequence_fault")
                            .variants(&["acks_unsent"])
                            .culprits(&["network_or_peer", "server"]),
                    )
                    .shows(&["ack_unsent"])
                    .sent_by("server"),
            ]
        },
    },
    Scenario {
        id: "S50",
        title: "a sender's timestamps go back by 100000, then it resets",
        topology: Kind::Raw(Side::Client),
        run: clock_turned_back,
        checks: || {
            vec![
                at(View::Server)
                    .accept(cause("timestamp_regression").culprits(&["client"]))
                    .desync("paws", None)
                    .shows(&["ts_regress_new"])
                    .sent_by("client"),
            ]
        },
    },
    Scenario {
        id: "S60",
        title: "the sender of S47 with the sequence space wrapping inside its hole",
        topology: Kind::Raw(Side::Client),
        run: |stage| skipped(stage, Options::wrap_inside_hole(false).iss),
        checks: gap,
    },
];

fn gap() -> Vec<Check> {
    vec![
        at(View::Server)
            .accept(cause("endpoint_sequence_fault").variants(&["gap_never_sent"]).culprits(&["client"]))
            .desync("gap", i64::from(HOLE_BYTES))
            .shows(&["hole_never_retransmitted"])
            .shows_not(&["rexmit_above_hole", "ack_unsent", "sack_unsent", "seq_jump", "seq_beyond_window"])
            .sent_by("client"),
    ]
}

const PORT: u16 = 5003;
const RAW_PORT: u16 = 40_100;

fn skipped(stage: &mut Stage, iss: SeqNum) -> Result<Happened, LabError> {
    let server = stage.server(PORT);
    let listener = stage.listen(PORT)?;
    let sink = App::start("the server's application", move || sequence::read_all(&listener));
    let mut peer = stage.raw(Side::Client, RAW_PORT)?;
    peer.connect(server, iss, PATIENCE)?;
    let client = peer.local();
    let mut sender = Sender::new(peer, iss);
    sender.send_until_hole()?;
    sender.peer.skip(HOLE_BYTES);
    sender.send_behind_hole()?;
    let stalled = sender.stay_stuck()?;
    sender.peer.abort()?;
    let (read, error) = sink.finish(PATIENCE)?;
    if error.raw_os_error() != Some(libc::ECONNRESET) {
        return Err(LabError::Plot(format!("the server should have been reset, but got: {error}")));
    }
    let before = sender.hole_start.0.wrapping_sub(iss.0) - 1;
    if read != u64::from(before) || sender.duplicate_acks < 10 {
        return Err(LabError::Plot(format!("the server read {read} bytes of {before}")));
    }
    Ok(Happened {
        client,
        server,
        told: format!(
            "after {read} bytes {HOLE_BYTES} were skipped; {} duplicate acknowledgements in {:.1} s, {} segments behind the hole again, the hole never; then a RST",
            sender.duplicate_acks,
            stalled.as_secs_f64(),
            sender.retransmissions_above_hole,
        ),
    })
}

fn acknowledged_too_much(stage: &mut Stage) -> Result<Happened, LabError> {
    const AFTER: i32 = 200_000;
    const EXCESS: u32 = 4096;
    const STUCK: Duration = Duration::from_millis(5500);
    let mut peer: RawPeer = stage.raw(Side::Server, PORT)?;
    // No SACK: what it says beyond its acknowledgements would tell more than the row has.
    peer.manner = Manner { timestamps: true, window: 20_000, syn_window: 20_000, ..Manner::OLD };
    let server = stage.server(PORT);
    let host = stage.net.client.clone();
    let connecting = App::start("the client's application", move || apps::connect(&host, server));
    peer.accept(SeqNum(7_000_000), PATIENCE)?;
    let client = connecting.finish(PATIENCE)??;
    let mut happened = Happened { client: apps::local(&client)?, server, told: String::new() };
    let writer = Writer::start(client, 4_000_000, Pace::BULK)?;
    let first = peer.rcv_nxt();
    let mut next = first;
    let (mut wrong, mut since) = (0, Instant::now());
    let started = Instant::now();
    while since.elapsed() < STUCK {
        if started.elapsed() > PATIENCE {
            return Err(LabError::Plot("the transfer never stopped".into()));
        }
        let Some(segment) = peer.receive(Duration::from_millis(100))? else { continue };
        if segment.seq == next && !segment.payload.is_empty() {
            next = segment.end();
            since = Instant::now();
        }
        if segment.payload.is_empty() {
            continue;
        }
        if next.distance(first) < AFTER {
            peer.set_rcv_nxt(next);
            peer.transmit(peer.snd_nxt(), Flags::ACK, Vec::new())?;
            continue;
        }
        // All that is in flight first: an acknowledgement of it would be acceptable still.
        let mut came = 1;
        while let Some(segment) = peer.receive(Duration::from_millis(5))? {
            came += u32::from(!segment.payload.is_empty());
            if segment.seq == next {
                next = segment.end();
                since = Instant::now();
            }
        }
        peer.set_rcv_nxt(next.plus(EXCESS));
        for _ in 0..came {
            wrong += 1;
            peer.transmit(peer.snd_nxt(), Flags::ACK, Vec::new())?;
        }
    }
    if wrong < 10 || next.distance(first) > AFTER + 40_000 {
        return Err(LabError::Plot(format!("{wrong} wrong acknowledgements, {} bytes", next.distance(first))));
    }
    peer.abort()?;
    apps::expect("the client", End::Error(libc::ECONNRESET), writer.finish(PATIENCE)?)?;
    happened.told = format!(
        "after {} bytes {wrong} acknowledgements were {EXCESS} beyond what had come; nothing new for 5.5 s, then a RST",
        next.distance(first)
    );
    Ok(happened)
}

fn clock_turned_back(stage: &mut Stage) -> Result<Happened, LabError> {
    const STEP: u32 = 100_000;
    const BEFORE: u32 = 100;
    let server = stage.server(PORT);
    let listener = stage.listen(PORT)?;
    let mut peer = stage.raw(Side::Client, RAW_PORT)?;
    peer.connect(server, SeqNum(3_000_000), PATIENCE)?;
    let client = peer.local();
    let reader = Reader::start(apps::accept(&listener)?)?;
    let len = peer.payload_len();
    let acknowledged = |peer: &mut RawPeer, limit: Duration| -> Result<bool, LabError> {
        let deadline = Instant::now() + limit;
        while peer.snd_una() != peer.snd_nxt() && Instant::now() < deadline {
            peer.receive(Duration::from_millis(20))?;
        }
        Ok(peer.snd_una() == peer.snd_nxt())
    };
    for number in 0..BEFORE {
        peer.send_new(apps::pattern(u64::from(number * len), len as usize))?;
        if number % 10 == 9 && !acknowledged(&mut peer, PATIENCE)? {
            return Err(LabError::Plot("data before the fault was not acknowledged".into()));
        }
    }
    peer.clock_offset = 0u32.wrapping_sub(STEP);
    // Five new segments with old timestamps, and what a sender does when nothing comes back.
    let stuck = peer.snd_nxt();
    for number in 0..5 {
        peer.send_new(apps::pattern(u64::from((BEFORE + number) * len), len as usize))?;
    }
    for wait in [250, 500, 1000, 2000] {
        if acknowledged(&mut peer, Duration::from_millis(wait))? || peer.snd_una() != stuck {
            return Err(LabError::Plot("a segment with an old timestamp was accepted".into()));
        }
        peer.transmit(stuck, Flags::ACK, apps::pattern(u64::from(BEFORE * len), len as usize))?;
    }
    acknowledged(&mut peer, Duration::from_millis(200))?;
    // Not at its own SND.NXT, of which the server knows nothing.
    peer.transmit(stuck, Flags::RST_ACK, Vec::new())?;
    apps::expect("the server", End::Error(libc::ECONNRESET), reader.finish(PATIENCE)?)?;
    let read = reader.bytes();
    if read != u64::from(BEFORE * len) {
        return Err(LabError::Plot(format!("the server read {read} bytes")));
    }
    Ok(Happened {
        client,
        server,
        told: format!(
            "after {read} bytes the timestamps fell by {STEP}: nothing was accepted any more, except the RST, 4 s later"
        ),
    })
}
