//! The tests of DIAGNOSIS 4 on dialogues: what is forged is found, and what a genuine stack, a lossy or a disordered
//! capture does is not.

use super::{Assessment, INJECTED};
use crate::derive;
use crate::diagnose::diagnose;
use crate::diagnose::dialogue::*;
use crate::diagnose::shape::Mechanism;
use crate::diagnose::view::View;
use crate::history::{Dropped, History, KernelFact};
use crate::surroundings::KnownTtl;
use monitor_common::Anomaly;
use monitor_common::event::identity;
use monitor_common::tracker::state::Hook;

/// The first RST, with what followed it.
fn first(d: &Dialogue) -> History {
    let mut h = d.first_history();
    derive::anomalies(&mut h);
    h
}

fn assessed(d: &Dialogue) -> Option<Assessment> {
    View::new(&first(d)).forged
}

fn score(d: &Dialogue) -> u8 {
    assessed(d).map_or(0, |a| a.score)
}

#[track_caller]
fn hits(d: &Dialogue, tests: &[&str]) {
    let a = assessed(d).unwrap_or_else(|| panic!("nothing hits, expected {tests:?}"));
    for test in tests {
        assert!(a.has(test), "{test}: {a:#?}");
    }
}

#[track_caller]
fn innocent(d: &Dialogue) {
    for h in &d.histories {
        let mut h = h.clone();
        derive::anomalies(&mut h);
        let view = View::new(&h);
        let v = diagnose(&h);
        let points = view.forged.as_ref().map_or(0, |a| a.score);
        assert!(
            points < super::POSSIBLE && !matches!(v.cause, "rst_injected" | "policy_reset"),
            "{:#?}\n{v:#?}",
            view.forged
        );
    }
}

/// The observer is at the client; the server is 40 ms away and back. Some requests.
fn far(d: &mut Dialogue) {
    d.send(Client, syn()).wait_ms(40).send(Server, syn_ack()).send(Client, ack());
    for _ in 0..5 {
        request(d);
    }
}

fn request(d: &mut Dialogue) {
    d.send(Client, data(100)).wait_ms(40).send(Server, data(500)).send(Client, ack()).wait_ms(100);
}

/// RST+ACK from a raw socket: no options, no window.
fn raw() -> Draft {
    abort().bare().wnd(0)
}

/// S52: triples at 0, +1460, +4380 behind the request, then the server's real answer.
#[test]
fn triples_behind_a_keyword_are_injected_on_the_path() {
    everywhere(|d| {
        far(d);
        d.send(Client, data(200));
        let at = d.snd_nxt(Server);
        for step in [0, 1460, 4380] {
            d.send(Server, raw().seq(at + step).ttl(101).id(54321));
        }
        d.wait_ms(36).send(Server, ack()).send(Server, data(500));
        hits(d, &["rtt_impossible", "ttl_delta", "option_shape", "rst_seq_change"]);
        let a = assessed(d).unwrap();
        assert!(a.alive && (a.has("live_after_rst") || a.has("rst_seq_data")) && a.score == 100, "{a:#?}");
        let v = d.first_verdict();
        expect(&v, "rst_injected", Some("on_path"), "middlebox");
        assert_eq!((v.confidence, v.mechanism), (95, Mechanism::Forged));
        let h = first(d);
        for name in [Anomaly::RstSeqChange, Anomaly::RttImpossible, Anomaly::LiveAfterRst] {
            assert!(h.any(name), "{}", name.name());
        }
    });
}

/// S51: one RST into a bulk transfer.
#[test]
fn one_rst_into_a_bulk_transfer() {
    everywhere(|d| {
        d.handshake().exchange(Client, 200);
        for _ in 0..20 {
            d.exchange(Server, 1448);
        }
        let at = d.snd_nxt(Server);
        d.send(Server, reply(at).ttl(57).id(54321));
        let acked = d.snd_nxt(Client);
        for _ in 0..6 {
            d.wait_ms(2).send(Server, data(1448));
            d.send(Client, reply(acked));
        }
        hits(d, &["rst_seq_data", "ttl_delta"]);
        expect(&d.first_verdict(), "rst_injected", Some("on_path"), "middlebox");
    });
}

/// DIAGNOSIS 4.2: a genuine linger-0 RST on the same path scores 0; so does a genuine answer (S62).
#[test]
fn genuine_resets_score_nothing() {
    everywhere(|d| {
        far(d);
        d.send(Client, data(200)).wait_ms(41).send(Server, abort());
        assert_eq!(score(d), 0);
        innocent(d);
    });
    everywhere(|d| {
        far(d);
        let at = d.snd_nxt(Server);
        d.send_lost(Client, data(200)).wait_ms(43).send(Server, reply(at));
        assert_eq!(score(d), 0);
        assert_eq!(d.first_verdict().cause, "peer_lost_state");
    });
}

/// S18: a firewall next to the client rejects the payload. Everything matches but the time.
#[test]
fn an_answer_sooner_than_the_far_end_can_is_a_firewalls() {
    everywhere(|d| {
        far(d);
        let at = d.snd_nxt(Server);
        d.send(Client, ack()).send_lost(Client, data(200)).send(Server, reply(at));
        // The acknowledgement was old; only its first emission counts.
        let early = assessed(d);
        assert!(early.is_none_or(|a| !a.has("rtt_impossible")));
    });
    everywhere(|d| {
        far(d);
        d.send(Client, data(100)).wait_ms(40).send(Server, data(500)).send(Client, ack());
        let at = d.snd_nxt(Server);
        d.send_lost(Client, data(200)).send(Server, reply(at));
        hits(d, &["rtt_impossible"]);
        let v = d.first_verdict();
        expect(&v, "policy_reset", None, "middlebox");
        assert_eq!(v.mechanism, Mechanism::NetfilterReject);
    });
}

/// A stack that aborts with a RST alone may do so right behind its own data: no answer, so no delay to judge.
#[test]
fn a_foreign_abort_right_behind_its_data_is_no_impossible_answer() {
    everywhere(|d| {
        far(d);
        d.send(Client, data(100)).wait_ms(40).send(Server, data(500)).send(Client, ack());
        let at = d.snd_nxt(Server);
        // RST alone, with the next ID of its series.
        d.send(Server, reply(at).id(30_008));
        innocent(d);
    });
}

/// One slow sample (a radio waking up) does not make an ordinary answer early.
#[test]
fn a_slow_handshake_does_not_make_an_answer_early() {
    everywhere(|d| {
        d.send(Client, syn()).wait_ms(900).send(Server, syn_ack()).send(Client, ack());
        let at = d.snd_nxt(Server);
        d.send_lost(Client, data(200)).wait_ms(45).send(Server, reply(at));
        innocent(d);
    });
}

/// Segments that the RST overtook, and copies of older ones: they were sent before it.
#[test]
fn what_is_late_or_doubled_after_a_reset_is_no_life() {
    everywhere(|d| {
        d.handshake().exchange(Client, 300).exchange(Server, 500);
        let stamp = (d.now_ns() / 1_000_000) as u32;
        let nxt = d.snd_nxt(Server);
        d.send(Server, abort());
        // Overtaken: its timestamp is older than the RST's.
        d.wait_ms(20).send(Server, data(100).seq(nxt).tsval(stamp));
        innocent(d);
    });
    everywhere(|d| {
        d.handshake().exchange(Client, 300);
        let (at, acked) = (d.snd_nxt(Server), d.snd_nxt(Client));
        let stamp = (d.now_ns() / 1_000_000) as u32;
        d.send(Server, data(500).tsval(stamp).id(30_100)).send(Client, ack()).send(Server, abort());
        // A copy of what was seen before.
        d.wait_ms(50).send(Server, data(500).seq(at).acking(acked).tsval(stamp).id(30_100));
        innocent(d);
    });
}

/// The dead socket answers everything that was under way, each time with another number.
#[test]
fn answers_to_a_burst_are_no_guesses() {
    everywhere(|d| {
        d.handshake().exchange(Client, 300).exchange(Server, 500).send(Server, abort());
        let base = d.snd_nxt(Server);
        for n in 0..6 {
            d.send_lost(Client, data(1000).acking(base));
            if n > 2 {
                d.send(Server, reply(base));
            }
        }
        innocent(d);
    });
    // A receiver that lost its state answers each acknowledgement with that one's number.
    everywhere(|d| {
        d.handshake().exchange(Client, 300);
        for _ in 0..4 {
            d.send(Server, data(1448));
        }
        let end = d.snd_nxt(Server);
        for n in (0..4).rev() {
            d.send(Client, ack().acking(end - n * 1448));
        }
        for n in (0..4).rev() {
            d.send(Server, reply(end - n * 1448));
        }
        innocent(d);
    });
}

#[test]
fn a_closed_port_and_late_data_are_innocent() {
    everywhere(|d| {
        d.send(Client, syn()).send(Server, refuse());
        innocent(d);
    });
    everywhere(|d| {
        d.handshake().exchange(Client, 300);
        d.send(Server, fin()).send(Client, ack());
        let at = d.snd_nxt(Server);
        for _ in 0..3 {
            d.wait_ms(200).send_lost(Client, data(100)).send(Server, reply(at));
        }
        innocent(d);
    });
    // A client that takes its connect back: RST, and nothing more of it.
    everywhere(|d| {
        d.send(Client, syn()).send(Server, syn_ack()).send(Client, reply(1));
        d.send(Server, syn_ack());
        innocent(d);
    });
}

/// Both ends abort on their own at the same time.
#[test]
fn crossing_aborts_are_innocent() {
    everywhere(|d| {
        d.handshake().exchange(Client, 300).exchange(Server, 500);
        d.send(Server, abort()).send(Client, abort());
        innocent(d);
    });
}

/// A FIN and the RST behind it, one below it, or at SND.UNA.
#[test]
fn aborts_at_other_numbers_are_innocent() {
    for back in [0, 1] {
        everywhere(|d| {
            d.handshake().exchange(Client, 300).exchange(Server, 500).send(Server, fin());
            let nxt = d.snd_nxt(Server);
            d.send(Server, abort().seq(nxt - back));
            innocent(d);
        });
    }
    everywhere(|d| {
        d.handshake().exchange(Client, 300).exchange(Server, 500);
        let una = d.snd_nxt(Server);
        d.send_lost(Server, data(1000)).send_lost(Server, data(1000)).send(Server, raw().seq(una));
        let a = assessed(d);
        assert!(a.is_none_or(|a| !a.has("data_seq_rst")));
    });
}

/// S53: computed from an older packet, 4552 below.
#[test]
fn a_stale_number_is_told_from_an_answer() {
    everywhere(|d| {
        d.handshake().exchange(Client, 300);
        for _ in 0..10 {
            d.exchange(Server, 1448);
        }
        let at = d.snd_nxt(Server) - 4552;
        d.wait_ms(20).send(Server, reply(at));
        hits(d, &["data_seq_rst"]);
        let v = d.first_verdict();
        assert_eq!(v.cause, "rst_ineffective");
        // At a number that was asked for it is an answer.
    });
    everywhere(|d| {
        d.handshake().exchange(Client, 300);
        for _ in 0..10 {
            d.exchange(Server, 1448);
        }
        let at = d.snd_nxt(Server) - 2 * 1448;
        d.wait_ms(20).send(Server, reply(at));
        innocent(d);
    });
}

#[test]
fn different_acknowledgements_without_data_between() {
    everywhere(|d| {
        far(d);
        d.send(Client, data(200)).wait_ms(40);
        let at = d.snd_nxt(Server);
        let acked = d.snd_nxt(Client);
        d.send(Server, raw().seq(at)).send(Server, raw().seq(at).acking(acked + 777));
        hits(d, &["rst_ack_change"]);
    });
}

/// SYN_RST: a RST in the client's name behind its SYN; the client goes on.
#[test]
fn a_rst_behind_the_syn_of_a_client_that_goes_on() {
    everywhere(|d| {
        d.send(Client, syn()).send(Client, reply(1).ttl(64)).wait_ms(20).send(Server, syn_ack());
        d.send(Client, ack()).send(Client, data(200));
        hits(d, &["syn_rst"]);
        assert!(score(d) >= INJECTED);
        assert!(first(d).any(Anomaly::SynRst));
    });
}

/// The sender's own kernel owns up to it: nothing else counts.
#[test]
fn the_senders_kernel_vetoes() {
    everywhere(|d| {
        far(d);
        d.send(Client, data(200)).send(Server, raw().ttl(101).id(54321));
        let mut h = first(d);
        assert!(View::new(&h).forged.is_some_and(|a| a.score >= INJECTED));
        h.kernel.push(d.fact("tcp_send_reset", Server, "TCP_STATE", false, 1));
        assert_eq!(View::new(&h).forged, None);
        assert_ne!(diagnose(&h).cause, "rst_injected");
    });
}

/// IP-ID and TTL that go on speak for the sender.
#[test]
fn a_continuing_series_counts_against_the_accusation() {
    everywhere(|d| {
        far(d);
        d.send(Client, data(200)).send(Server, raw());
        let a = assessed(d).unwrap();
        assert!(a.genuine_look && a.has("rtt_impossible") && a.score < INJECTED, "{a:#?}");
    });
}

/// The router that the observer is on made the RST (S18 and S26, path view).
#[test]
fn the_observers_own_host_is_the_device() {
    let refused = |d: &mut Dialogue, idle_ms: u64| {
        d.handshake().exchange(Client, 300).exchange(Server, 500).wait_ms(idle_ms);
        let at = d.snd_nxt(Server);
        d.send_lost(Client, data(100)).send(Server, reply(at));
        let mut h = first(d);
        h.identity |= identity::NO_INGRESS_TWIN;
        diagnose(&h)
    };
    everywhere(|d| {
        let v = refused(d, 5);
        expect(&v, "policy_reset", None, "middlebox");
        assert_eq!(v.mechanism, Mechanism::NetfilterReject);
    });
    everywhere(|d| {
        let v = refused(d, 350_000);
        expect(&v, "middlebox_idle_timeout", None, "middlebox");
        assert_eq!(v.confidence, 80);
        assert!(v.summary.contains("350 s"), "{}", v.summary);
    });
}

/// S57: both ends at once after silence.
#[test]
fn both_ends_at_once_after_silence_is_a_timer() {
    everywhere(|d| {
        d.handshake().exchange(Client, 300).exchange(Server, 500).wait_ms(60_000);
        d.send(Server, raw()).send(Client, raw());
        let v = d.first_verdict();
        expect(&v, "middlebox_idle_timeout", Some("at_expiry"), "middlebox");
    });
}

/// S20: netfilter of this host, on a server socket of this host.
#[test]
fn this_hosts_own_filter() {
    everywhere(|d| {
        d.observed_at(Server, Hook::Egress);
        d.handshake().exchange(Client, 300).exchange(Server, 500);
        let at = d.snd_nxt(Server);
        d.send_lost(Client, data(100)).send(Server, reply(at));
        let mut h = first(d);
        h.surroundings.kernel_watched = true;
        assert_ne!(diagnose(&h).cause, "policy_reset");
        let speaker = d.direction(Client);
        let (first_ns, seq) = (h.time_ns, monitor_common::SeqNum(1));
        let dropped = Dropped { speaker, count: 1, first_ns, seq, flags: 0x18, leaving: false };
        let fact = d.fact("kfree_skb", Server, "NETFILTER_DROP", false, 0);
        h.kernel.push(KernelFact { dropped: Some(dropped), ..fact });
        let v = diagnose(&h);
        expect(&v, "policy_reset", Some("local"), "local_host_policy");
        assert_eq!((v.confidence, v.mechanism), (95, Mechanism::NetfilterReject));
        h.kernel.push(d.fact("tcp_send_reset", Server, "NO_SOCKET", true, 0));
        assert_ne!(diagnose(&h).cause, "policy_reset");
    });
}

/// S19: the client's host knows how far the server is from other connections.
#[test]
fn a_refusal_from_nearer_than_the_host_is_a_firewalls() {
    everywhere(|d| {
        d.send(Client, syn()).send(Server, refuse().ttl(64));
        let mut h = first(d);
        h.surroundings.ttl = Some(KnownTtl { ttl: 64, connections: 2 });
        assert_eq!(diagnose(&h).cause, "port_closed");
        h.surroundings.ttl = Some(KnownTtl { ttl: 63, connections: 2 });
        let v = diagnose(&h);
        expect(&v, "policy_reset", None, "middlebox");
        assert!(v.also_considered.iter().any(|c| c.cause == "port_closed"), "{v:#?}");
        // As far away, with another initial TTL: a host's own way.
        h.surroundings.ttl = Some(KnownTtl { ttl: 128, connections: 2 });
        assert_eq!(diagnose(&h).cause, "port_closed");
    });
}

/// A sweep that at last hits.
#[test]
fn scattered_guesses_are_blind() {
    everywhere(|d| {
        d.handshake().exchange(Client, 300).exchange(Server, 500);
        let at = d.snd_nxt(Server);
        for n in 1..6 {
            d.send(Server, reply(at + n * 5000).ttl(50));
        }
        let v = d.first_verdict();
        expect(&v, "rst_ineffective", Some("blind"), "third_party");
        assert!(v.summary.contains("somebody guesses"), "{}", v.summary);
    });
}
