//! Handshakes and resets as no stack of this kernel would send them, against one that must cope.

use std::time::{Duration, Instant};

use super::apps::{self, End, Reader};
use super::check::View;
use super::{Happened, Kind, Scenario, Side, Stage, at, cause};
use crate::LabError;
use crate::app::App;
use crate::error::During;
use crate::frame::{Flags, Segment};
use crate::raw::{Manner, RawPeer};
use crate::seq::SeqNum;
use crate::story::PATIENCE;

const HANDSHAKE: &str = "handshake_violation";

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        id: "S29",
        title: "a client restarts and uses the same port again",
        topology: Kind::Raw(Side::Client),
        run: rebooted,
        checks: || {
            vec![
                at(View::Server)
                    .accept(cause("tuple_reuse_conflict").culprits(&["client"]).mechanisms(&["reply_to_ack"]))
                    .shows(&["syn_in_established"])
                    .sent_by("client"),
            ]
        },
    },
    Scenario {
        id: "S30",
        title: "a SYN below the window meets a connection in TIME-WAIT",
        topology: Kind::Raw(Side::Client),
        run: in_time_wait,
        checks: || vec![at(View::Server).accept(cause("tuple_reuse_conflict")).sent_by("client").sound()],
    },
    Scenario {
        id: "S31",
        title: "a SYN-ACK acknowledges 100 bytes less than the SYN",
        topology: Kind::Raw(Side::Server),
        run: |stage| {
            answered(stage, "a SYN-ACK of the SYN's number - 100", |peer, syn| {
                peer.emit(ISS, Flags::SYN_ACK, Vec::new(), |answer| answer.ack = syn.seq.minus(100))
            })
        },
        checks: || {
            vec![
                at(View::Client)
                    .accept(cause(HANDSHAKE).culprits(&["middlebox"]).mechanisms(&["reply_to_ack"]))
                    .shows(&["synack_bad_ack"])
                    .kernel("TCP_INVALID_ACK_SEQUENCE")
                    .sent_by("client"),
            ]
        },
    },
    Scenario {
        id: "S31B",
        title: "a SYN is answered by an acknowledgement of 5000 bytes more",
        topology: Kind::Raw(Side::Server),
        run: |stage| {
            answered(stage, "an ACK of the SYN's number + 5000", |peer, syn| {
                peer.emit(ISS, Flags::ACK, Vec::new(), |answer| answer.ack = syn.seq.plus(5000))
            })
        },
        checks: || {
            vec![
                // An ACK alone is also what a server says that still holds an older connection of these
                // ports (S29 seen from the other end): nothing on this wire tells the two apart.
                at(View::Client)
                    .accept(cause(HANDSHAKE).mechanisms(&["reply_to_ack"]))
                    .accept(cause("tuple_reuse_conflict").mechanisms(&["reply_to_ack"]))
                    .kernel("TCP_INVALID_ACK_SEQUENCE")
                    .sent_by("client"),
            ]
        },
    },
    Scenario {
        id: "S32",
        title: "a SYN-ACK echoes a timestamp of the future",
        topology: Kind::Raw(Side::Server),
        run: |stage| {
            answered(stage, "a SYN-ACK with a TSecr of the future", |peer, _| {
                peer.emit(ISS, Flags::SYN_ACK, Vec::new(), |answer| {
                    answer.options.timestamps =
                        answer.options.timestamps.map(|(value, echo)| (value, echo.wrapping_add(500_000)));
                })
            })
        },
        checks: || {
            vec![
                at(View::Client)
                    .accept(cause(HANDSHAKE).mechanisms(&["reply_to_ack"]))
                    .kernel("TCP_RFC7323_PAWS")
                    .sent_by("client"),
            ]
        },
    },
    Scenario {
        id: "S33",
        title: "a simultaneous open is acknowledged by 5000 too many, then by 70000 too few",
        topology: Kind::Raw(Side::Server),
        run: crossed,
        checks: || {
            vec![
                at(View::Client)
                    .accept(cause(HANDSHAKE).mechanisms(&["reply_to_ack"]))
                    .kernel("TCP_ACK_UNSENT_DATA")
                    .sent_by("client"),
            ]
        },
    },
    Scenario {
        id: "S34",
        title: "the third segment of a handshake acknowledges what was never sent",
        topology: Kind::Raw(Side::Client),
        run: bad_third,
        checks: || {
            vec![
                at(View::Server)
                    .accept(cause(HANDSHAKE).mechanisms(&["reply_to_ack"]))
                    .kernel("TCP_FLAGS")
                    .sent_by("server"),
            ]
        },
    },
    Scenario {
        id: "S35",
        title: "somebody guesses: RSTs 100 bytes off, inside the window",
        topology: Kind::Raw(Side::Client),
        run: guessed,
        checks: || {
            vec![
                // The sweep weighs 50: a possible injection, and the only candidate.
                at(View::Server)
                    .kinds(&["rst_ineffective"])
                    .accept(cause("rst_injected").variants(&["blind"]).culprits(&["third_party"]))
                    .accept(cause("rst_ineffective").variants(&["blind"]).culprits(&["third_party"]))
                    .least(40, 40)
                    .shows(&["challenge_ack"])
                    .alone(),
            ]
        },
    },
    Scenario {
        id: "S36",
        title: "a RST at the right edge of a SACK block is effective",
        topology: Kind::Raw(Side::Client),
        run: at_sack_edge,
        checks: || {
            vec![
                at(View::Server)
                    .accept(cause("abortive_close"))
                    .accept(cause("close_with_unread_data"))
                    .accept(cause("unknown_reset"))
                    .accept(cause("endpoint_sequence_fault").variants(&["gap_never_sent"]))
                    .least(0, 0)
                    .sent_by("client"),
            ]
        },
    },
    Scenario {
        id: "S36B",
        title: "a RST one below RCV.NXT after a FIN is effective",
        topology: Kind::Raw(Side::Client),
        run: after_fin,
        checks: || {
            vec![
                at(View::Server)
                    .accept(cause("abortive_close"))
                    .accept(cause("post_close_cleanup"))
                    .accept(cause("close_with_unread_data"))
                    .accept(cause("unknown_reset"))
                    .least(0, 0)
                    .sound()
                    .sent_by("client"),
            ]
        },
    },
];

const PORT: u16 = 5004;
const RAW_PORT: u16 = 40_200;
const ISS: SeqNum = SeqNum(50_000_000);

/// A connection of the raw client whose server has read 18 bytes.
fn opened(stage: &mut Stage, manner: Manner) -> Result<(RawPeer, Reader, Happened), LabError> {
    let server = stage.server(PORT);
    let listener = stage.listen(PORT)?;
    let mut peer = stage.raw(Side::Client, RAW_PORT)?;
    peer.manner = manner;
    peer.connect(server, ISS, PATIENCE)?;
    let reader = Reader::start(apps::accept(&listener)?)?;
    peer.send_new(b"eighteen bytes ...".to_vec())?;
    reader.reached(18, PATIENCE)?;
    drain(&mut peer)?;
    let happened = Happened { client: peer.local(), server, told: String::new() };
    stage.keep(Box::new(listener));
    Ok((peer, reader, happened))
}

/// Takes what has come; the last of it.
fn drain(peer: &mut RawPeer) -> Result<Option<Segment>, LabError> {
    let mut last = None;
    while let Some(segment) = peer.receive(Duration::from_millis(60))? {
        last = Some(segment);
    }
    Ok(last)
}

fn reply(peer: &mut RawPeer, what: &str, wanted: impl Fn(&Segment) -> bool) -> Result<Segment, LabError> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        match peer.receive(Duration::from_millis(200))? {
            Some(segment) if wanted(&segment) => return Ok(segment),
            _ => {}
        }
    }
    Err(LabError::Plot(format!("{what} did not come")))
}

fn rebooted(stage: &mut Stage) -> Result<Happened, LabError> {
    let (mut peer, reader, mut happened) = opened(stage, Manner::default())?;
    let old = peer.snd_nxt();
    let new = ISS.plus(900_000_000);
    peer.transmit(new, Flags::SYN, Vec::new())?;
    let challenge = reply(&mut peer, "an ACK with the old numbers", |s| s.flags.ack && !s.flags.syn)?;
    if challenge.ack != old {
        return Err(LabError::Plot(format!("the server acknowledged {}, not the old {old}", challenge.ack)));
    }
    // What a stack in SYN-SENT answers (RFC 9293 3.10.7.3).
    peer.transmit(challenge.ack, Flags::RST, Vec::new())?;
    apps::expect("the server", End::Error(libc::ECONNRESET), reader.finish(PATIENCE)?)?;
    stage.sleep(Duration::from_millis(700));
    peer.begin(new);
    peer.transmit(new, Flags::SYN, Vec::new())?;
    let accepted = reply(&mut peer, "a SYN-ACK", |s| s.flags.syn && s.flags.ack)?;
    peer.set_rcv_nxt(accepted.end());
    peer.transmit(peer.snd_nxt(), Flags::ACK, Vec::new())?;
    happened.told = format!(
        "a SYN got an ACK of {old}, as of old; the RST at that number ended the old connection, the same SYN was then accepted"
    );
    Ok(happened)
}

fn in_time_wait(stage: &mut Stage) -> Result<Happened, LabError> {
    let server = stage.server(PORT);
    let listener = stage.listen(PORT)?;
    let mut peer = stage.raw(Side::Client, RAW_PORT)?;
    peer.manner = Manner::OLD;
    peer.connect(server, ISS, PATIENCE)?;
    // The server closes first, so the waiting is its own.
    drop(apps::accept(&listener)?);
    let fin = reply(&mut peer, "a FIN", |s| s.flags.fin)?;
    peer.set_rcv_nxt(fin.end());
    peer.transmit(peer.snd_nxt(), Flags::FIN_ACK, Vec::new())?;
    peer.skip(1);
    let end = peer.snd_nxt();
    reply(&mut peer, "the last ACK", |s| s.flags.ack && s.ack == end)?;
    let low = ISS.minus(1_000_000);
    peer.transmit(low, Flags::SYN, Vec::new())?;
    let old = reply(&mut peer, "an ACK with the old numbers", |s| s.flags.ack && !s.flags.syn)?;
    if old.ack != end {
        return Err(LabError::Plot(format!("the server acknowledged {}, not {end}", old.ack)));
    }
    peer.transmit(old.ack, Flags::RST, Vec::new())?;
    stage.sleep(Duration::from_millis(1000));
    peer.begin(low);
    peer.transmit(low, Flags::SYN, Vec::new())?;
    let accepted = reply(&mut peer, "a SYN-ACK", |s| s.flags.syn && s.flags.ack)?;
    peer.set_rcv_nxt(accepted.end());
    peer.transmit(peer.snd_nxt(), Flags::ACK, Vec::new())?;
    // Closing the listener would reset what nobody accepted.
    stage.keep(Box::new(listener));
    Ok(Happened {
        client: peer.local(),
        server,
        told: "in TIME-WAIT a lower SYN got the old ACK; after the RST at that number the same SYN was accepted".into(),
    })
}

/// The kernel's SYN gets this answer, once per SYN; its RST is what the row is about.
fn answered(
    stage: &mut Stage,
    what: &str,
    answer: impl Fn(&mut RawPeer, &Segment) -> Result<(), LabError>,
) -> Result<Happened, LabError> {
    let mut peer = stage.raw(Side::Server, PORT)?;
    let server = stage.server(PORT);
    let host = stage.net.client.clone();
    let connecting = App::start("the client's application", move || {
        host.run(|| std::net::TcpStream::connect_timeout(&server, Duration::from_millis(1500)))
    });
    let syn = peer.wait_for_syn(PATIENCE)?;
    peer.begin(ISS);
    answer(&mut peer, &syn)?;
    let rst = reply(&mut peer, "the client's RST", |s| s.flags.rst)?;
    let connected = connecting.finish(PATIENCE)??;
    if connected.is_ok() {
        return Err(LabError::Plot("the client is connected".into()));
    }
    Ok(Happened {
        client: syn.source,
        server,
        told: format!(
            "{what} got a RST at {:+} from the SYN; the client stayed unconnected",
            rst.seq.distance(syn.seq)
        ),
    })
}

fn crossed(stage: &mut Stage) -> Result<Happened, LabError> {
    let mut peer = stage.raw(Side::Server, PORT)?;
    let server = stage.server(PORT);
    let host = stage.net.client.clone();
    let connecting = App::start("the client's application", move || {
        host.run(|| std::net::TcpStream::connect_timeout(&server, Duration::from_millis(2500)))
    });
    let syn = peer.wait_for_syn(PATIENCE)?;
    peer.begin(ISS);
    peer.transmit(ISS, Flags::SYN, Vec::new())?;
    reply(&mut peer, "the client's SYN-ACK", |s| s.flags.syn && s.flags.ack)?;
    let mut numbers = Vec::new();
    for ack in [syn.end().plus(5000), syn.end().minus(70_000)] {
        peer.emit(ISS.plus(1), Flags::ACK, Vec::new(), |segment| segment.ack = ack)?;
        let rst = reply(&mut peer, "the client's RST", |s| s.flags.rst)?;
        if rst.seq != ack {
            return Err(LabError::Plot(format!("the RST has number {}, not {ack}", rst.seq)));
        }
        numbers.push(rst.seq.distance(syn.end()));
        stage.sleep(Duration::from_millis(100));
    }
    let connected = connecting.finish(PATIENCE)??;
    if connected.is_ok() {
        return Err(LabError::Plot("the client is connected".into()));
    }
    Ok(Happened {
        client: syn.source,
        server,
        told: format!("two SYNs crossed; RSTs at {numbers:?} from the client's number"),
    })
}

fn bad_third(stage: &mut Stage) -> Result<Happened, LabError> {
    let server = stage.server(PORT);
    let _listener = stage.listen(PORT)?;
    let mut peer = stage.raw(Side::Client, RAW_PORT)?;
    peer.aim(server);
    peer.begin(ISS);
    peer.transmit(ISS, Flags::SYN, Vec::new())?;
    let offer = reply(&mut peer, "a SYN-ACK", |s| s.flags.syn && s.flags.ack)?;
    peer.set_rcv_nxt(offer.end());
    let ack = offer.end().plus(5000);
    peer.emit(ISS.plus(1), Flags::ACK, Vec::new(), |segment| segment.ack = ack)?;
    let rst = reply(&mut peer, "the server's RST", |s| s.flags.rst)?;
    if rst.seq != ack {
        return Err(LabError::Plot(format!("the RST has number {}, not {ack}", rst.seq)));
    }
    stage.sleep(Duration::from_millis(300));
    Ok(Happened {
        client: peer.local(),
        server,
        told: "an ACK of 5000 bytes that were never sent got a RST at that number".into(),
    })
}

fn guessed(stage: &mut Stage) -> Result<Happened, LabError> {
    let (mut peer, reader, mut happened) = opened(stage, Manner::default())?;
    let mut challenges = [0, 0];
    let mut count = |peer: &mut RawPeer, slot: usize, wait: Duration| -> Result<(), LabError> {
        let deadline = Instant::now() + wait;
        while let Some(segment) = peer.receive(deadline.saturating_duration_since(Instant::now()))? {
            challenges[slot] += u32::from(segment.payload.is_empty() && segment.flags.ack);
        }
        Ok(())
    };
    for number in 1..=5 {
        peer.transmit(peer.snd_nxt().plus(100 * number), Flags::RST, Vec::new())?;
        count(&mut peer, 0, Duration::from_millis(40))?;
    }
    count(&mut peer, 0, Duration::from_millis(650))?;
    peer.transmit(peer.snd_nxt().plus(100), Flags::RST, Vec::new())?;
    count(&mut peer, 1, Duration::from_millis(200))?;
    // Alive as before.
    peer.send_new(b"still here".to_vec())?;
    reader.reached(28, PATIENCE)?;
    let closing = peer.snd_nxt();
    peer.transmit(closing, Flags::FIN_ACK, Vec::new())?;
    peer.skip(1);
    apps::expect("the server", End::Eof, reader.finish(PATIENCE)?)?;
    if let Some(fin) = drain(&mut peer)? {
        peer.set_rcv_nxt(fin.end());
        peer.transmit(peer.snd_nxt(), Flags::ACK, Vec::new())?;
    }
    if challenges != [1, 1] {
        return Err(LabError::Plot(format!("challenges: {challenges:?}, not one and one")));
    }
    happened.told =
        "five RSTs in 200 ms got one challenge, a sixth another; the connection lived on and closed in order".into();
    Ok(happened)
}

fn at_sack_edge(stage: &mut Stage) -> Result<Happened, LabError> {
    let (mut peer, reader, mut happened) = opened(stage, Manner::default())?;
    peer.skip(1000);
    peer.send_new(apps::pattern(0, 500))?;
    let edge = peer.snd_nxt();
    reply(&mut peer, "a SACK block", |s| s.options.sack.first().is_some_and(|block| block.1 == edge))?;
    peer.transmit(edge, Flags::RST_ACK, Vec::new())?;
    apps::expect("the server", End::Error(libc::ECONNRESET), reader.finish(PATIENCE)?)?;
    happened.told =
        "with a hole of 1000 bytes open, the RST at the SACK block's right edge ended the connection".into();
    Ok(happened)
}

fn after_fin(stage: &mut Stage) -> Result<Happened, LabError> {
    let server = stage.server(PORT);
    let listener = stage.listen(PORT)?;
    let mut peer = stage.raw(Side::Client, RAW_PORT)?;
    peer.connect(server, ISS, PATIENCE)?;
    let stream = apps::accept(&listener)?;
    let fin = peer.snd_nxt();
    peer.transmit(fin, Flags::FIN_ACK, Vec::new())?;
    peer.skip(1);
    reply(&mut peer, "the ACK of the FIN", |s| s.ack == fin.plus(1))?;
    peer.transmit(fin, Flags::RST_ACK, Vec::new())?;
    let error = crate::wait::until("the server to be reset", PATIENCE, || stream.take_error().during("ask a socket"))?;
    apps::expect("the server", End::Error(libc::EPIPE), End::Error(error.raw_os_error().unwrap_or(libc::EIO)))?;
    Ok(Happened {
        client: peer.local(),
        server,
        told: "a FIN was acknowledged; the RST at the FIN's own number was accepted".into(),
    })
}
