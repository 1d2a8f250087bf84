//! What a reset waits for: time, echoes, what follows it, and no more memory than is meant.

use super::*;
use crate::diagnose::dialogue::*;
use monitor_common::tracker::{MS, SECOND};

const LIVE: Settings = Settings { hold_ns: 30 * MS, kernel_watched: true, report_desync_at_once: true };

fn run(d: &Dialogue, facts: Vec<KernelFact>) -> (Pipeline, Vec<Finding>) {
    let mut p = Pipeline::new(LIVE, 1, None);
    for fact in facts {
        p.on_fact(FactAbout { key: d.connection().key, fact });
    }
    let mut found = Vec::new();
    for report in &d.reports {
        flush(&mut p, d, report.event.time_ns, &mut found);
        p.on_full(report, &mut |_, _, _| {});
    }
    (p, found)
}

fn flush(p: &mut Pipeline, d: &Dialogue, now_ns: u64, found: &mut Vec<Finding>) {
    p.flush(now_ns, &mut |_, _| Some((*d.connection(), Recorder::default())), &|t| t, &mut |f| found.push(f));
}

/// The server aborts into a burst: ten answers of the dead socket, more than are reported one by one.
fn burst(d: &mut Dialogue) {
    d.handshake().exchange(Client, 300).exchange(Server, 500).send(Server, abort());
    let acked = d.snd_nxt(Server);
    for _ in 0..10 {
        d.send_lost(Client, data(1000).acking(acked)).send(Server, reply(acked));
    }
}

#[test]
fn a_reset_waits_two_seconds_and_its_echoes_are_counted_exactly() {
    everywhere(|d| {
        burst(d);
        let (mut p, mut found) = run(d, Vec::new());
        let at = d.first_history().time_ns;
        flush(&mut p, d, at + 2 * SECOND - 1, &mut found);
        assert_eq!(found, []);
        flush(&mut p, d, at + 2 * SECOND, &mut found);
        assert_eq!((found.len(), found[0].echoes, found[0].id), (1, 10, 1));
        flush(&mut p, d, u64::MAX, &mut found);
        assert_eq!(found.len(), 1);
        assert!(p.pending.is_empty() && p.waiting.is_empty());
    });
}

#[test]
fn a_reset_that_its_senders_kernel_owns_up_to_is_told_at_once_and_again_with_its_echoes() {
    everywhere(|d| {
        burst(d);
        let mut fact = d.fact("tcp_send_reset", Server, "TCP_STATE", false, 7);
        fact.time_ns = d.first_history().time_ns;
        let mut p = Pipeline::new(LIVE, 1, None);
        p.on_fact(FactAbout { key: d.connection().key, fact: fact.clone() });
        let mut found = Vec::new();
        p.on_full(&d.reports[0], &mut |_, _, _| {});
        p.flush(fact.time_ns + 30 * MS, &mut |_, _| None, &|t| t, &mut |f| found.push(f));
        assert_eq!((found.len(), found[0].echoes), (1, 0));
        assert_eq!(found[0].cause, "abortive_close");
        // Nothing of it changes but the count.
        flush(&mut p, d, u64::MAX, &mut found);
        assert_eq!((found.len(), found[1].id, found[1].echoes), (2, found[0].id, 10));
        assert_eq!(found[1].cause, "abortive_close");
    });
}

#[test]
fn what_follows_reaches_the_verdict() {
    everywhere(|d| {
        d.handshake().exchange(Client, 200);
        for _ in 0..20 {
            d.exchange(Server, 1448);
        }
        let at = d.snd_nxt(Server);
        d.send(Server, reply(at).ttl(57).id(54321));
        for _ in 0..4 {
            d.wait_ms(5).send(Server, data(1448));
        }
        let (mut p, mut found) = run(d, Vec::new());
        flush(&mut p, d, u64::MAX, &mut found);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].cause.as_str(), found[0].mechanism.as_str()), ("rst_injected", "forged"));
        let what: Vec<&str> = found[0].evidence.iter().map(|e| e.what.as_str()).collect();
        assert!(what.contains(&"rst_seq_data") && what.contains(&"ttl_delta"), "{what:?}");
        assert!(found[0].anomalies.iter().any(|a| a.name == "live_after_rst"));
    });
}

/// Failed attempts are one finding; the one that hits is another.
#[test]
fn attempts_and_the_hit_are_two_findings() {
    everywhere(|d| {
        d.handshake().exchange(Client, 300).exchange(Server, 500);
        let at = d.snd_nxt(Server);
        for n in [3, 2, 1] {
            d.send(Server, reply(at + n * 5000).ttl(50));
        }
        d.send(Server, reply(at).ttl(50));
        let (mut p, mut found) = run(d, Vec::new());
        flush(&mut p, d, u64::MAX, &mut found);
        let kinds: Vec<_> = found.iter().map(|f| (f.kind, f.echoes)).collect();
        assert_eq!(kinds, [(FindingKind::RstIneffective, 2), (FindingKind::Reset, 0)]);
        assert_eq!(found[0].variant.as_deref(), Some("blind"));
    });
}

#[test]
fn a_flood_is_told_early_and_does_not_grow() {
    let mut d = Dialogue::new(SETUPS[0]);
    d.handshake().exchange(Client, 300).send(Server, abort());
    let mut p = Pipeline::new(LIVE, 1, None);
    let mut found = 0;
    for n in 0..KEPT_PENDING as u32 + 100 {
        let mut report = d.reports[0];
        report.event.connection.key.port = [n as u16, 1 + (n >> 16) as u16];
        report.event.connection.created_ns += u64::from(n);
        p.on_full(&report, &mut |_, _, _| {});
        p.flush(report.event.time_ns, &mut |_, _| None, &|t| t, &mut |_| found += 1);
    }
    assert_eq!((p.pending.len(), found), (KEPT_PENDING, 100));
    assert_eq!(p.waiting.len(), KEPT_PENDING);
}

/// The client's last data is never acknowledged, however often it sends it.
fn unanswered(d: &mut Dialogue) {
    d.handshake().exchange(Client, 300).exchange(Server, 500);
    let left = d.snd_nxt(Client);
    d.send_lost(Client, data(100));
    for wait in [200, 400, 800, 1600] {
        d.wait_ms(wait).send_lost(Client, data(100).seq(left));
    }
}

/// The client's kernel says that it gave up; then the table's sweep finds the connection silent, and at last the server's host comes
/// back and resets what it does not know.
#[test]
fn a_life_that_its_kernel_gave_up_is_told_once_and_a_reset_replaces_it() {
    everywhere(|d| {
        unanswered(d);
        let gone = d.open(End::Open);
        let mut p = Pipeline::new(LIVE, 1, None);
        let mut found = Vec::new();
        p.on_timeout(gone.clone(), d.now_ns());
        p.on_timeout(gone, d.now_ns());
        p.on_end(d.open(End::Silent));
        flush(&mut p, d, d.now_ns() + SECOND, &mut found);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].kind, found[0].id), (FindingKind::Degraded, 1));
        let (seq, reports) = (d.snd_nxt(Server), d.reports.len());
        d.wait_ms(60_000).send(Server, reply(seq));
        for report in &d.reports[reports..] {
            p.on_full(report, &mut |_, _, _| {});
        }
        flush(&mut p, d, u64::MAX, &mut found);
        assert_eq!(found.len(), 2);
        assert_eq!((found[1].kind, found[1].id), (FindingKind::Reset, 1));
    });
}

/// A client whose server is gone sends again and again, gives up without a word, and comes back with the same port; the server,
/// started anew, answers. What ended the first life is told with its evidence.
#[test]
fn a_life_that_the_next_one_breaks_off_is_judged_with_its_evidence() {
    everywhere(|d| {
        unanswered(d);
        let first = life_of(d.connection());
        d.wait_ms(3000).send(Client, syn().seq(1_000_000));
        d.send(Server, syn_ack().seq(2_000_000).acking(1_000_001));
        assert_ne!(life_of(d.connection()), first);
        let (mut p, mut found) = run(d, Vec::new());
        flush(&mut p, d, u64::MAX, &mut found);
        assert_eq!(found.len(), 1);
        assert!(found[0].anomalies.iter().any(|a| a.name == "rto_backoff"), "{:?}", found[0].anomalies);
        assert!(!found[0].evidence.is_empty());
    });
}
