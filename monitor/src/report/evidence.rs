//! The chain from the first divergence to the end, in words, with expected and actual numbers.

use crate::diagnose::Verdict;
use crate::diagnose::desync::{DesyncView, class};
use crate::diagnose::kernel_word;
use crate::diagnose::shape::ResetView;
use crate::diagnose::view::View;
use crate::diagnose::words::{bytes, count, duration};
use crate::finding::EvidenceLine;
use crate::history::Seen;
use monitor_common::Anomaly;
use monitor_common::flow::Direction;
use monitor_common::recorder::Record;
use monitor_common::segment::flags;
use monitor_common::seq::SeqNum;
use monitor_common::tracker::close::Effect;
use monitor_common::tracker::state::{half, kind};

/// Lines of a report (DIAGNOSIS 3.6).
const LINES: usize = 12;

/// A line before the choice: the lower the rank, the surer it stays.
struct Draft {
    rank: u8,
    time_ns: u64,
    speaker: Direction,
    what: &'static str,
    text: String,
}

/// Ranks of lines: what must be there comes first, context last.
mod rank {
    pub const MUST: u8 = 0;
    pub const HARD: u8 = 1;
    pub const KERNEL: u8 = 2;
    pub const TRIGGER: u8 = 3;
    pub const CONTEXT: u8 = 4;
    pub const SOFT: u8 = 5;
}

/// At most [`LINES`] lines, oldest first; always the first hard anomaly, what fixed the kind, the last progress and
/// the reset, as far as there are any.
pub fn chain(view: &View, verdict: &Verdict, to_unix: &dyn Fn(u64) -> u64) -> Vec<EvidenceLine> {
    let mut drafts = Vec::new();
    let mut first_hard = true;
    let told = |seen: &&Seen| {
        let hits = view.forged.iter().flat_map(|a| &a.hits);
        let of_reset = [Anomaly::LiveAfterRst, Anomaly::RstSeqData];
        // Below, in the words of the test; one observation has two names.
        hits.filter_map(|h| h.anomaly)
            .any(|(a, ..)| a == seen.anomaly || of_reset.contains(&a) && of_reset.contains(&seen.anomaly))
    };
    for seen in view.history.anomalies.iter().filter(|s| !told(s)) {
        let rank = match (seen.hard, first_hard) {
            (true, true) => rank::MUST,
            (true, false) => rank::HARD,
            (false, _) => rank::SOFT,
        };
        first_hard &= !seen.hard;
        drafts.push(Draft {
            rank,
            time_ns: seen.first_ns,
            speaker: seen.speaker,
            what: seen.anomaly.name(),
            text: anomaly(view, seen),
        });
    }
    if let Some(d) = &verdict.desync {
        if !view.history.anomalies.iter().any(|s| s.hard && class(s.anomaly).is_some()) {
            drafts.extend(hole(view, d));
        }
        drafts.push(kind_line(view, d));
        drafts.extend(progress(view, d));
    }
    for fact in &view.history.kernel {
        drafts.push(Draft {
            rank: rank::KERNEL,
            time_ns: fact.time_ns,
            speaker: fact.dropped.map_or(fact.local, |d| d.speaker),
            what: "kernel",
            text: kernel_word::said(view, fact),
        });
    }
    drafts.extend(forged(view, verdict));
    drafts.extend(shared(view, verdict));
    if let Some(r) = &view.reset {
        if let Some(t) = &r.trigger {
            drafts.push(Draft {
                rank: rank::TRIGGER,
                time_ns: t.time_ns,
                speaker: r.sender.other(),
                what: "segment",
                text: format!(
                    "the {} sent {}, which the reset answers",
                    view.role(r.sender.other()),
                    segment(view, r.sender.other(), t)
                ),
            });
        }
        drafts.extend(context(view, r));
        drafts.push(Draft {
            rank: rank::MUST,
            time_ns: r.record.time_ns,
            speaker: r.sender,
            what: "reset",
            text: reset(view, r),
        });
    }
    // Sorting is stable, so what belongs to one moment keeps the order above: cause before effect.
    let mut kept: Vec<usize> = (0..drafts.len()).collect();
    kept.sort_by_key(|i| (drafts[*i].rank, drafts[*i].time_ns));
    kept.truncate(LINES);
    kept.sort_unstable();
    kept.sort_by_key(|i| drafts[*i].time_ns);
    kept.into_iter()
        .map(|i| {
            let d = &mut drafts[i];
            EvidenceLine {
                time_ns: to_unix(d.time_ns),
                direction: view.history.direction_name(d.speaker).into(),
                what: d.what.into(),
                text: std::mem::take(&mut d.text),
            }
        })
        .collect()
}

/// What speaks against the RST's claimed sender, each test with its numbers.
fn forged(view: &View, verdict: &Verdict) -> Vec<Draft> {
    let Some(assessment) = &view.forged else { return Vec::new() };
    let blamed =
        matches!(verdict.cause, "rst_injected" | "policy_reset" | "middlebox_idle_timeout" | "rst_ineffective");
    let rank = if blamed { rank::HARD } else { rank::CONTEXT };
    let mut out: Vec<Draft> = assessment
        .hits
        .iter()
        .map(|h| Draft { rank, time_ns: h.time_ns, speaker: h.speaker, what: h.test, text: h.text.clone() })
        .collect();
    if let (Some(name), Some(r)) = (assessment.signature, &view.reset) {
        out.push(Draft {
            rank: rank::SOFT,
            time_ns: r.record.time_ns,
            speaker: r.sender,
            what: "signature",
            text: format!("what the client sent has the shape {name}, which impatient clients and scanners share"),
        });
    }
    out
}

/// The same fault on other connections.
fn shared(view: &View, verdict: &Verdict) -> Option<Draft> {
    let same = view.history.surroundings.same_fault.as_ref()?;
    if same.cause != verdict.cause || same.variant.as_deref() != verdict.variant {
        return None;
    }
    Some(Draft {
        rank: rank::KERNEL,
        time_ns: view.history.time_ns,
        speaker: view.history.client(),
        what: "same_fault",
        text: format!(
            "the same fault on {} connections of one {} within {}",
            same.flows,
            same.shared,
            duration(view.history.time_ns.saturating_sub(same.since_ns))
        ),
    })
}

/// The last data of either end and the FINs, as far as the recorder still has them: what an application did.
fn context(view: &View, r: &ResetView) -> Vec<Draft> {
    let mut out = Vec::new();
    for speaker in [r.sender.other(), r.sender] {
        let last_data = view.records(speaker).rev().find(|s| s.payload_len > 0);
        let last_fin = view.records(speaker).rev().find(|s| s.flags & flags::FIN != 0);
        let same = |a: &Record, b: &Record| (a.time_ns, a.seq) == (b.time_ns, b.seq);
        let fin = last_fin.filter(|f| !last_data.is_some_and(|d| same(d, f)));
        for s in last_data.into_iter().chain(fin) {
            if r.trigger.as_ref().is_some_and(|t| same(t, s)) {
                continue;
            }
            out.push(Draft {
                rank: rank::CONTEXT,
                time_ns: s.time_ns,
                speaker,
                what: "segment",
                text: format!("the {} sent {}", view.role(speaker), segment(view, speaker, s)),
            });
        }
    }
    out
}

/// The hole, where only the end's view found it too old: the tracker left no note of it.
fn hole(view: &View, d: &DesyncView) -> Option<Draft> {
    let hole = view.hole(d.data)?;
    Some(Draft {
        rank: rank::MUST,
        time_ns: hole.since_ns,
        speaker: d.data,
        what: Anomaly::HoleNeverRetransmitted.name(),
        text: hole_text(view, d.data, hole.lo, hole.hi),
    })
}

fn hole_text(view: &View, data: Direction, lo: SeqNum, hi: SeqNum) -> String {
    format!(
        "the {} skipped {}: expected {}, sent {}, and never filled the hole",
        view.role(data),
        bytes(hi.distance(lo).max(0) as u64),
        view.number(data, lo),
        view.number(data, hi),
    )
}

fn kind_line(view: &View, d: &DesyncView) -> Draft {
    let at_the_end = d.fixed_ns == view.history.time_ns;
    let distance = if d.distance == 0 { String::new() } else { format!(", {} bytes apart", d.distance) };
    Draft {
        rank: rank::MUST,
        time_ns: d.fixed_ns,
        speaker: d.data,
        what: "desync",
        text: format!(
            "the ends no longer agree about what the {} sends: kind {}{distance}, {}{}",
            view.role(d.data),
            kind::name(d.kind),
            count(d.hard.into(), "confirmed fault"),
            if at_the_end { ", as it stands at the end" } else { "" },
        ),
    }
}

fn progress(view: &View, d: &DesyncView) -> Option<Draft> {
    let receiver = view.half(d.data.other());
    if !receiver.has(half::ACKED) {
        return None;
    }
    Some(Draft {
        rank: rank::MUST,
        time_ns: receiver.ack_ns,
        speaker: d.data.other(),
        what: "progress",
        text: format!(
            "last progress: the {} acknowledged {} and nothing beyond; {} of the {}'s stayed unacknowledged",
            view.role(d.data.other()),
            view.number(d.data, receiver.ack),
            bytes(u64::from(crate::diagnose::desync::flight_size(view.half(d.data), receiver))),
            view.role(d.data),
        ),
    })
}

fn reset(view: &View, r: &ResetView) -> String {
    let with_ack = r.record.flags & flags::ACK != 0;
    let ack = if with_ack {
        format!(", acknowledging {}", view.short(r.sender.other(), r.record.ack))
    } else {
        String::new()
    };
    let effect = match r.effect {
        Effect::Exact => "exactly what the receiver accepts",
        Effect::InWindow => "inside the window but not exact",
        Effect::OutOfWindow => "outside the window",
        Effect::Unverified => "its receiver's numbers were not seen",
        Effect::Unsigned => "without the signature that its receiver requires",
    };
    let form = if with_ack { "RST+ACK" } else { "RST" };
    format!(
        "{form} in the name of the {} with {}{ack}: {effect} ({})",
        view.role(r.sender),
        view.number(r.sender, r.seq()),
        r.mechanism.name().replace('_', " "),
    )
}

fn segment(view: &View, speaker: Direction, r: &Record) -> String {
    let mut what = match r.payload_len {
        0 => "a bare ACK".to_string(),
        n => format!("{} of data", bytes(n.into())),
    };
    if r.flags & flags::SYN != 0 {
        what = if r.flags & flags::ACK != 0 { "a SYN-ACK".into() } else { "a SYN".into() };
    } else if r.flags & flags::FIN != 0 {
        what = if r.payload_len > 0 { format!("{what} and a FIN") } else { "a FIN".into() };
    }
    format!("{what} with {}, acknowledging {}", view.number(speaker, r.seq), view.short(speaker.other(), r.ack))
}

/// First occurrence of an anomaly, with what should have been and what was.
fn anomaly(view: &View, seen: &Seen) -> String {
    let who = view.role(seen.speaker);
    let peer = view.role(seen.speaker.other());
    let (expected, actual) = (SeqNum(seen.expected), SeqNum(seen.actual));
    // Numbers of the speaker's own stream, and of what it acknowledges.
    let own = |n| view.number(seen.speaker, n);
    let theirs = |n| view.number(seen.speaker.other(), n);
    let own_short = |n| view.short(seen.speaker, n);
    let theirs_short = |n| view.short(seen.speaker.other(), n);
    let beyond = bytes(u64::from(actual.distance(expected).unsigned_abs()));
    let text = match seen.anomaly {
        Anomaly::SeqGap => format!("the {who} went on at {} where {} was next", own(actual), own_short(expected)),
        Anomaly::HolePersistent => format!(
            "the {who}'s stream has had a hole of {beyond} for more than a second: {} to {} is missing, and the {peer} \
             keeps asking for it",
            own(expected),
            own_short(actual)
        ),
        Anomaly::HoleNeverRetransmitted => hole_text(view, seen.speaker, expected, actual),
        Anomaly::RexmitAboveHole => format!(
            "the {who} retransmits what starts at {}, right above the hole, and never the hole at {}",
            own(actual),
            own_short(expected)
        ),
        Anomaly::SeqBeyondWindow | Anomaly::DataBeyondWindow => {
            format!(
                "the {who} sent up to {} although the {peer} had allowed no more than {}",
                own(actual),
                own_short(expected)
            )
        }
        Anomaly::SeqBelowWindow => {
            format!("the {who} sent {} long after {} had been acknowledged", own(actual), own_short(expected))
        }
        Anomaly::SeqJump => format!(
            "the {who} sent a segment of another number space: {}, {beyond} from the edge {}",
            own(actual),
            own_short(expected)
        ),
        Anomaly::Rexmit => format!("the {who} retransmitted from {}", own(actual)),
        Anomaly::RexmitAcked => {
            format!(
                "the {who} retransmitted from {} although everything up to {} was acknowledged",
                own(actual),
                own_short(expected)
            )
        }
        Anomaly::BareAckSeqRegress => format!(
            "an acknowledgement of the {who} carries {} although it had sent up to {}: it disowns {beyond}",
            own(actual),
            own_short(expected)
        ),
        Anomaly::DataAfterOwnFin => {
            format!("the {who} sent up to {} after its FIN at {}", own(actual), own_short(expected))
        }
        Anomaly::OverlapMismatch => format!("the {who} sent other bytes at {} than before", own(actual)),
        Anomaly::AckUnsent => format!(
            "the {who} acknowledged {}, {beyond} beyond the {} that the {peer} had sent",
            theirs(actual),
            theirs_short(expected)
        ),
        Anomaly::AckTooOld => {
            format!("the {who} acknowledged {} long after {}", theirs(actual), theirs_short(expected))
        }
        Anomaly::AckOld => format!("the {who} acknowledged {} after {}", theirs(actual), theirs_short(expected)),
        Anomaly::DupAck => format!("the {who} asked again for {}", theirs(expected)),
        Anomaly::AckPingpong | Anomaly::AckStorm => format!(
            "bare acknowledgements answer each other, each unacceptable to the other end: the {who} acknowledges {} while \
             the {peer} stands at {}",
            theirs(actual),
            theirs_short(expected)
        ),
        Anomaly::ChallengeAck => format!("the {who} challenged: it stands at {}", theirs(expected)),
        Anomaly::SackUnsent => format!(
            "a SACK block of the {who} ends at {}, {beyond} beyond the {} that the {peer} had sent",
            theirs(actual),
            theirs_short(expected)
        ),
        Anomaly::SackBeyondOwnWindow => format!(
            "a SACK block of the {who} ends at {}, beyond the window up to {} that the same packet offers",
            theirs(actual),
            theirs_short(expected)
        ),
        Anomaly::SackOffsetConstant => {
            format!("the {who}'s SACK blocks lie {beyond} beyond what the {peer} sent, each time by as much")
        }
        Anomaly::SackInverted => {
            format!(
                "a SACK block of the {who} ends at {} before it begins at {}",
                theirs(actual),
                theirs_short(expected)
            )
        }
        Anomaly::Dsack => format!("the {who} reported {} as received twice", theirs(actual)),
        Anomaly::DsackOfFirstTx => {
            format!("the {who} reported {} as received twice, which was sent once", theirs(actual))
        }
        Anomaly::SackReneg => {
            format!(
                "the {who} withdrew its report of {} while it still waited for {}",
                theirs(actual),
                theirs(expected)
            )
        }
        Anomaly::DsackShifted => format!(
            "the {who} reported the retransmission from {} as a duplicate at {}, {beyond} further on",
            theirs(expected),
            theirs_short(actual)
        ),
        Anomaly::WindowShrink => format!(
            "the {who} took back {beyond} of window: its right edge went from {} to {}",
            theirs(expected),
            theirs_short(actual)
        ),
        Anomaly::WindowCollapsePostsyn => format!(
            "the first window of the {who} after its SYN is {} bytes, where the SYN offered {}",
            seen.actual, seen.expected
        ),
        Anomaly::WindowUnscaledSuspect => {
            format!("the first window field of the {who} equals its SYN's, {}, although scaling is on", seen.expected)
        }
        Anomaly::ZeroWindow => format!("the {who} closed its window at {}", theirs(expected)),
        Anomaly::ZeroWindowStall => format!("the {who} kept its window closed while the {peer} had data to send"),
        Anomaly::ZeroWindowProbe => format!("the {who} probed the {peer}'s closed window"),
        Anomaly::TinySegmentStall => format!("the {who} sent nothing but tiny segments, one per time-out"),
        Anomaly::TsRegress | Anomaly::TsRegressNew => format!(
            "the {who}'s timestamp went back by {} ticks, from {} to {}",
            expected.distance(actual),
            seen.expected,
            seen.actual
        ),
        Anomaly::TsMissing => format!("a segment of the {who} lacks the timestamps option that was agreed"),
        Anomaly::TsecrFuture => {
            format!("the {who} echoed timestamp {} where the {peer} had come to {} at most", seen.actual, seen.expected)
        }
        Anomaly::SynInEstablished => {
            format!("the {who} sent a SYN with sequence number {} into the connection", seen.actual)
        }
        Anomaly::SynackIsnChange => {
            format!("the {who} sent a second SYN-ACK with initial number {} instead of {}", seen.actual, seen.expected)
        }
        Anomaly::SynackBadAck => {
            format!("the {who}'s SYN-ACK acknowledges {} where {} is right", seen.actual, seen.expected)
        }
        Anomaly::OptChanged => format!("the options of the {who}'s handshake contradict what it does"),
        Anomaly::KeepaliveProbe => format!("the {who} sent a keepalive probe"),
        Anomaly::KeepaliveUnanswered => format!("the {peer} did not answer the {who}'s keepalive probe"),
        Anomaly::RtoBackoff => {
            format!("the {who} retransmitted {} for the third time, ever more slowly", own(expected))
        }
        Anomaly::SizeDependentLoss => format!(
            "segments of the {who} of up to {} arrived, those of {} never",
            bytes(seen.expected.into()),
            bytes(seen.actual.into())
        ),
        Anomaly::WindowDependentLoss => format!(
            "all that was acknowledged ended within the {peer}'s unscaled window, up to {}, and what the {who} sent beyond it \
             was not",
            own(expected)
        ),
        Anomaly::TtlShift => format!("the TTL of the {who}'s packets went from {} to {}", seen.expected, seen.actual),
        Anomaly::IpidBreak => format!("the IP-ID series of the {who} broke: {} after {}", seen.actual, seen.expected),
        Anomaly::L2Shift => format!("packets of the {who} began to come from another hardware address"),
        Anomaly::RttImpossible => format!(
            "the RST came {} after what it answers, but the {who} is {} away and back",
            duration(u64::from(seen.actual) * 1_000),
            duration(u64::from(seen.expected) * 1_000)
        ),
        Anomaly::IdleGap => format!("the {who} spoke after more than 50 s of silence both ways"),
        Anomaly::IcmpFragNeeded => {
            format!("ICMP: the {who}'s segment at {} was too big for a hop of {} bytes", own(expected), seen.actual)
        }
        Anomaly::CsumBad => format!("the {who}'s segment at {} arrived with a wrong checksum", own(actual)),
        Anomaly::IcmpUnreach => format!(
            "ICMP: the {who}'s segment at {} could not be delivered (type {}, code {})",
            own(expected),
            seen.actual >> 8,
            seen.actual & 0xff
        ),
        Anomaly::LiveAfterRst => format!("the {who} went on at {} after the RST in its name", own(actual)),
        Anomaly::RstSeqData => {
            format!("data of the {who} at {} followed the RST in its name at {}", own(actual), own_short(expected))
        }
        Anomaly::DataSeqRst => format!(
            "the RST in the {who}'s name carries {} although the {who} had come to {}",
            own(actual),
            own_short(expected)
        ),
        Anomaly::RstSeqChange => {
            format!("a second RST in the {who}'s name carries {} after {}", own(actual), own_short(expected))
        }
        Anomaly::RstAckChange => {
            format!("a second RST in the {who}'s name acknowledges {} after {}", theirs(actual), theirs_short(expected))
        }
        Anomaly::SynRst => format!("the {who} went on with the handshake after a RST in its name"),
        Anomaly::CaptureGap => format!(
            "the observation misses packets of the {who}: it is at {} where {} was seen last",
            own(actual),
            own_short(expected)
        ),
    };
    match seen.count {
        0 | 1 => text,
        n => format!("{text} ({n} times within {})", duration(seen.last_ns.saturating_sub(seen.first_ns))),
    }
}
