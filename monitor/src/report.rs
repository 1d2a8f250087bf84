//! From a history to the finding that people and programs read: the verdict, and the facts around it.

mod evidence;

use crate::community_id::community_id;
use crate::diagnose::desync::{DesyncView, flight_size};
use crate::diagnose::shape::ResetView;
use crate::diagnose::view::View;
use crate::diagnose::{self, NOTHING, UNKNOWN, Verdict, kernel_word};
use crate::finding::{
    AnomalyCount, Desync, Finding, FindingKind, Kernel, KernelDrop, Reset, VERSION, Visibility, Volume,
};
use crate::history::History;
use monitor_common::flow::Direction;
use monitor_common::segment::flags;
use monitor_common::tracker::state::kind;

pub use crate::diagnose::echo::{FirstReset, is_echo};

/// The finding about a connection's end; none when there is nothing to report (a clean close, a connection that goes
/// on in order). `to_unix` maps the tracker's clock to nanoseconds since the epoch.
pub fn finding(history: &History, to_unix: &dyn Fn(u64) -> u64, id: u64, file: Option<&str>) -> Option<Finding> {
    let view = View::new(history);
    let verdict = diagnose::diagnose(history);
    let kind = match &view.reset {
        Some(reset) if reset.effective => FindingKind::Reset,
        Some(_) => FindingKind::RstIneffective,
        // A degradation that cannot be named with some confidence is not worth an alarm.
        None if matches!(verdict.cause, NOTHING | UNKNOWN) => return None,
        None => FindingKind::Degraded,
    };
    let client = history.client();
    let evidence = evidence::chain(&view, &verdict, to_unix);
    let Verdict {
        cause,
        variant,
        culprit,
        culprit_confidence,
        confidence,
        band,
        mechanism,
        desync,
        also_considered,
        contradictions,
        summary,
        advice,
    } = verdict;
    Some(Finding {
        kind,
        version: VERSION,
        id,
        time_ns: to_unix(history.time_ns),
        file: file.map(str::to_owned),
        community_id: community_id(&history.connection.key),
        client: history.endpoint(client),
        server: history.endpoint(client.other()),
        reset: view.reset.as_ref().map(|r| reset(&view, r)),
        mechanism: mechanism.name().into(),
        cause: cause.into(),
        variant: variant.map(str::to_owned),
        culprit: culprit.into(),
        culprit_confidence,
        confidence,
        band: band.into(),
        phase: history.phase.name().into(),
        desync: desync.as_ref().map(|d| self::desync(history, d, to_unix)),
        anomalies: anomalies(history, to_unix),
        visibility: visibility(history),
        also_considered,
        contradictions,
        kernel: kernel(&view, to_unix),
        kernel_evidence: kernel_word::sentence(&view, cause),
        summary,
        advice,
        evidence,
        volume: volume(history),
        echoes: 0,
        similar: None,
        idle_ns: view.reset.as_ref().map(|_| view.idle_before_end_ns()),
        related: Vec::new(),
    })
}

fn reset(view: &View, r: &ResetView) -> Reset {
    let with_ack = r.record.flags & flags::ACK != 0;
    Reset {
        sender: view.role(r.sender).into(),
        seq: r.record.seq.0,
        ack: r.record.ack.0,
        flags: if with_ack { "RST|ACK" } else { "RST" }.into(),
        shape: r.shape.name().into(),
        effect: r.effect.name().into(),
    }
}

fn desync(history: &History, d: &DesyncView, to_unix: &dyn Fn(u64) -> u64) -> Desync {
    Desync {
        kind: kind::name(d.kind).into(),
        direction: history.direction_name(d.data).into(),
        first_ns: to_unix(d.first_ns),
        lead_ns: history.time_ns.saturating_sub(d.first_ns),
        expected: d.expected.0,
        actual: d.actual.0,
        distance_bytes: d.distance,
        location: d.place().name().into(),
        delivered_bytes: d.delivered_since(history),
    }
}

fn anomalies(history: &History, to_unix: &dyn Fn(u64) -> u64) -> Vec<AnomalyCount> {
    history
        .anomalies
        .iter()
        .map(|s| AnomalyCount {
            name: s.anomaly.name().into(),
            direction: history.direction_name(s.speaker).into(),
            count: s.count,
            first_ns: to_unix(s.first_ns),
            last_ns: to_unix(s.last_ns),
            hard: s.hard,
        })
        .collect()
}

fn visibility(history: &History) -> Visibility {
    Visibility {
        mid_stream: history.mid_stream(),
        scale_known: history.connection.scale_known(),
        one_way: history.one_way(),
        capture_lossy: history.capture_lossy(),
        truncated: history.truncated,
        events_lost: history.events_lost,
        under_pressure: history.under_pressure,
    }
}

/// What the sender's kernel said, else any local one; that it dropped segments is the least.
fn kernel(view: &View, to_unix: &dyn Fn(u64) -> u64) -> Option<Kernel> {
    let all = &view.history.kernel;
    let fact = view.send_reset().or_else(|| all.iter().find(|f| f.dropped.is_none())).or_else(|| all.first())?;
    let dropped = all.iter().filter_map(|f| Some((f, f.dropped.as_ref()?)));
    Some(Kernel {
        cgroup: fact.cgroup.clone(),
        container: fact.container.clone(),
        unit: fact.unit.clone(),
        cookie: fact.cookie,
        drops: dropped
            .map(|(f, d)| KernelDrop {
                reason: f.reason.clone(),
                direction: view.history.direction_name(d.speaker).into(),
                count: d.count,
                first_ns: to_unix(d.first_ns),
                last_ns: to_unix(f.time_ns),
                seq: d.seq.0,
            })
            .collect(),
        reason: fact.reason.clone(),
        source: fact.source.into(),
        netns: fact.netns,
        pid: fact.pid,
        command: fact.command.clone(),
    })
}

fn volume(history: &History) -> Volume {
    let (client, server) = (history.half(history.client()), history.half(history.client().other()));
    Volume {
        client_bytes: client.bytes,
        server_bytes: server.bytes,
        client_segments: client.segments,
        server_segments: server.segments,
        duration_ns: history.connection.last_ns().saturating_sub(history.connection.created_ns),
        bulk: [Direction::Forward, Direction::Reverse].into_iter().any(|d| is_bulk(history, d)),
    }
}

/// Whether `speaker` sent much, and much at a time (DIAGNOSIS 3.6).
fn is_bulk(history: &History, speaker: Direction) -> bool {
    const MUCH: u64 = 256 * 1024;
    const AT_A_TIME: u64 = 8 * 1024;
    let (me, peer) = (history.half(speaker), history.half(speaker.other()));
    // What was in flight can be told at the end, from the last headers, and on average over the whole life.
    let at_the_end = u64::from(flight_size(me, peer));
    let mut una = None;
    let mut recorded = 0;
    for r in &history.records {
        if r.speaker != speaker && r.record.flags & flags::ACK != 0 {
            una = Some(r.record.ack);
        } else if r.speaker == speaker
            && let Some(una) = una
        {
            recorded = recorded.max(i64::from(r.record.seq.add(r.record.payload_len).distance(una)));
        }
    }
    let life = history.connection.last_ns().saturating_sub(history.connection.created_ns).max(1);
    let average = u128::from(me.bytes) * u128::from(me.rtt_min_us) * 1_000 / u128::from(life);
    let most = at_the_end.max(recorded.max(0) as u64).max(average.min(u128::from(u64::MAX)) as u64);
    me.bytes > MUCH && most >= AT_A_TIME
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::dialogue::*;
    use crate::history::End;
    use monitor_common::tracker::{MS, SECOND};

    /// The tracker's clock starts an hour into 1970.
    fn to_unix(ns: u64) -> u64 {
        ns + 3_600 * SECOND
    }

    fn report(history: &History) -> Option<Finding> {
        finding(history, &to_unix, 7, Some("trace.pcap"))
    }

    fn gap(d: &mut Dialogue) -> u32 {
        d.handshake().exchange(Client, 100).exchange(Server, 100);
        for _ in 0..20 {
            d.exchange(Client, 1448);
        }
        let lo = d.snd_nxt(Client);
        d.skip(Client, 3000);
        for round in 0..12 {
            d.wait_ms(300).send(Client, data(1448));
            let right = d.snd_nxt(Client);
            d.send(Server, ack().acking(lo).sack(lo + 3000, right));
            if round > 2 {
                d.send(Client, data(1448).seq(lo + 3000 + round * 1448));
                d.send(Server, ack().acking(lo).sack(lo + 3000, right));
            }
        }
        d.send(Client, abort());
        lo
    }

    #[test]
    fn a_desync_is_reported_with_every_number() {
        everywhere(|d| {
            let lo = gap(d);
            let f = report(&d.history()).unwrap();
            assert_eq!((f.kind, f.id, f.cause.as_str()), (FindingKind::Reset, 7, "endpoint_sequence_fault"));
            assert_eq!(f.file.as_deref(), Some("trace.pcap"));
            assert_eq!(f.time_ns, to_unix(d.now_ns()));
            assert_eq!((f.client.port, f.server.port), (40_001, 9_000));
            let reset = f.reset.unwrap();
            assert_eq!((reset.sender.as_str(), reset.flags.as_str()), ("client", "RST|ACK"));
            assert_eq!((reset.shape.as_str(), reset.effect.as_str()), ("active", "exact"));
            let desync = f.desync.unwrap();
            assert_eq!((desync.kind.as_str(), desync.direction.as_str()), ("gap", "client_to_server"));
            assert_eq!(desync.expected, d.absolute(Client, lo));
            assert_eq!(desync.distance_bytes, 3000);
            assert_eq!(desync.first_ns + desync.lead_ns, f.time_ns);
            assert!(desync.lead_ns > 3 * SECOND);
            assert_eq!(f.volume.server_bytes, 100);
            assert!(f.visibility.scale_known && !f.visibility.mid_stream && !f.visibility.one_way);
            assert!(
                f.anomalies
                    .iter()
                    .any(|a| a.name == "hole_never_retransmitted" && a.hard && a.direction == "client_to_server")
            );
        });
    }

    #[test]
    fn the_chain_is_in_order_and_holds_what_it_must() {
        everywhere(|d| {
            let lo = gap(d);
            let f = report(&d.history()).unwrap();
            assert!(f.evidence.len() <= 12, "{:#?}", f.evidence);
            assert!(f.evidence.is_sorted_by_key(|e| e.time_ns), "{:#?}", f.evidence);
            for what in ["hole_persistent", "desync", "progress", "reset"] {
                assert!(f.evidence.iter().any(|e| e.what == what), "{what}: {:#?}", f.evidence);
            }
            assert_eq!(f.evidence.last().unwrap().what, "reset");
            let text = f.evidence.iter().map(|e| e.text.as_str()).collect::<Vec<_>>().join("\n");
            assert!(
                text.contains(&format!("relative sequence number {lo} (absolute {})", d.absolute(Client, lo))),
                "{text}"
            );
        });
    }

    /// The tracker had no occasion to note the hole; the chain names it all the same.
    #[test]
    fn a_hole_that_only_the_end_shows_is_in_the_chain() {
        everywhere(|d| {
            d.handshake().exchange(Client, 1448);
            let lo = d.snd_nxt(Client);
            d.skip(Client, 3000);
            for _ in 0..6 {
                d.send(Client, data(1448));
                let right = d.snd_nxt(Client);
                d.send(Server, ack().acking(lo).sack(lo + 3000, right));
            }
            d.wait_ms(1_600).send(Client, abort());
            let f = report(&d.history()).unwrap();
            assert_eq!(f.cause, "endpoint_sequence_fault");
            assert!(f.evidence.iter().any(|e| e.what == "hole_never_retransmitted"), "{:#?}", f.evidence);
            assert!(f.desync.unwrap().lead_ns >= 1_600 * MS);
        });
    }

    #[test]
    fn a_clean_close_is_not_reported() {
        everywhere(|d| {
            d.handshake().exchange(Client, 300).exchange(Server, 5000);
            d.send(Server, fin()).send(Client, fin()).send(Server, ack());
            assert_eq!(report(&d.history()), None);
        });
    }

    #[test]
    fn an_open_connection_in_sync_is_not_reported() {
        everywhere(|d| {
            d.handshake().exchange(Client, 300).exchange(Server, 5000);
            assert_eq!(report(&d.open(End::Open)), None);
            assert_eq!(report(&d.open(End::Silent)), None);
        });
    }

    #[test]
    fn a_stuck_connection_is_degraded_and_has_no_reset() {
        everywhere(|d| {
            gap(d);
            let f = report(&d.open(End::Silent)).unwrap();
            assert_eq!((f.kind, f.mechanism.as_str()), (FindingKind::Degraded, "timeout_no_rst"));
            assert_eq!(f.reset, None);
            let json = serde_json::to_value(&f).unwrap();
            assert_eq!(json["type"], "degraded");
            assert!(json.get("reset").is_none());
        });
    }

    #[test]
    fn a_rst_that_must_be_challenged_is_reported_as_such() {
        everywhere(|d| {
            d.handshake().exchange(Client, 300).exchange(Server, 500);
            let at = d.snd_nxt(Server) + 100;
            d.send(Server, reply(at));
            let f = report(&d.history()).unwrap();
            assert_eq!((f.kind, f.cause.as_str()), (FindingKind::RstIneffective, "rst_ineffective"));
            assert_eq!(f.reset.unwrap().effect, "in_window");
        });
    }

    #[test]
    fn the_kernels_word_is_passed_on() {
        everywhere(|d| {
            d.handshake().exchange(Client, 1000).send(Server, abort());
            let mut history = d.history();
            assert_eq!(report(&history).unwrap().kernel, None);
            history.kernel.push(d.fact("tcp_send_reset", Server, "TCP_ABORT_ON_CLOSE", false, 7));
            let f = report(&history).unwrap();
            let kernel = f.kernel.unwrap();
            assert_eq!((kernel.reason.as_str(), kernel.pid), ("TCP_ABORT_ON_CLOSE", Some(4242)));
            assert!(f.evidence.iter().any(|e| e.what == "kernel"));
            assert_eq!((f.confidence, f.band.as_str()), (97, "certain"));
        });
    }
}
