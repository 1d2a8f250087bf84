//! ESTABLISHED: acknowledgements (RFC 9293 3.10.7.4, RFC 5681 section 2, RFC 5961 section 5).

use crate::quiet;
use crate::support::*;

#[test]
fn a_duplicate_acknowledgement_is_as_rfc_5681_defines_it() {
    Talk::each_open(|t| {
        quiet!(t.a(data(1, 100, 1)));
        quiet!(t.a(data(101, 100, 1)));
        quiet!(t.b(bare(1, 101)));
        // (a) data outstanding, (b) no data, (c) neither SYN nor FIN, (d) same number, (e) same window.
        assert_eq!(t.b(bare(1, 101)), "B dup_ack");
        assert_eq!(t.b(bare(1, 101)), "B dup_ack");
        assert_eq!(t.half(B).dup_acks, 2);
        quiet!(t.b(data(1, 50, 101)));
        quiet!(t.b(bare(51, 101).wnd(1010)));
        quiet!(t.b(fin(51, 101).wnd(1010)));
        assert_eq!(t.half(B).dup_acks, 2);
        quiet!(t.b(bare(52, 201).wnd(1010)));
        assert_eq!(t.half(B).dup_acks, 0);
        // Nothing is outstanding now.
        quiet!(t.b(bare(52, 201).wnd(1010)));
    });
}

/// One-way, the receiver's acknowledgements only: what is outstanding is unknown, wherever its numbers lie.
#[test]
fn without_the_sender_no_acknowledgement_is_duplicate_and_no_data_stranded() {
    for ack in [1, 0x8000_0001i64, -5_000] {
        Talk::each(|t| {
            t.b(bare(1, ack).scale(Some(3)));
            for _ in 0..4 {
                let said = t.b(bare(1, ack));
                assert!(!said.contains("dup_ack"), "{said}");
            }
            assert_eq!((t.half(B).dup_acks, t.fault(B).shrink_hits, t.hard), (0, 0, 0));
        });
    }
}

#[test]
fn an_overtaken_acknowledgement_is_old() {
    Talk::each_open(|t| {
        quiet!(t.a(data(1, 100, 1)));
        quiet!(t.a(data(101, 100, 1)));
        quiet!(t.b(bare(1, 201)));
        assert_eq!(t.b(bare(1, 101)), "B ack_old");
        assert_eq!(t.acked(B), 201);
    });
}

fn transfer(t: &mut Talk, bytes: i64) {
    let mut at = t.nxt(A);
    let to = at + bytes;
    while at < to {
        quiet!(t.a(data(at, 4000, 1)));
        at += 4000;
        quiet!(t.b(bare(1, at)));
    }
}

/// RFC 5961 5: older than the largest window seen.
#[test]
fn an_acknowledgement_from_long_ago_is_too_old() {
    Talk::each_open(|t| {
        transfer(t, 80_000);
        assert_eq!(t.b(bare(1, 20_001)), "B ack_old");
        assert_eq!(t.b(bare(1, 1_001)), "B ack_too_old!");
        assert_eq!((t.acked(B), t.sync(A)), (80_001, "in_sync".into()));
    });
}

/// DIAGNOSIS 1.3: how old is too old is a test of windows.
#[test]
fn in_the_middle_of_a_stream_no_acknowledgement_is_too_old() {
    Talk::each(|t| {
        quiet!(t.a(data(1, 4000, 1)));
        quiet!(t.b(bare(1, 4001)));
        transfer(t, 100_000);
        assert_eq!(t.b(bare(1, 1_001)), "B ack_old");
        assert_eq!(t.hard, 0);
    });
}

/// DIAGNOSIS 1.3: in a one-way view acknowledgements of unseen data mean nothing.
#[test]
fn in_a_one_way_view_nothing_is_unsent() {
    Talk::each(|t| {
        quiet!(t.b(bare(1, 1)));
        for i in 1..500 {
            quiet!(t.b(bare(1, 1 + 5000 * i)));
        }
        quiet!(t.b(data(1, 100, 2_600_000)));
        assert_eq!(t.hard, 0);
    });
}

#[test]
fn an_acknowledgement_of_the_unsent_moves_nothing() {
    Talk::each_open(|t| {
        quiet!(t.a(data(1, 100, 1)));
        let (edge, wnd) = (t.edge(B), t.half(B).wnd_max);
        quiet!(t.b(bare(1, 50_001).wnd(8000)));
        assert_eq!((t.acked(B), t.edge(B), t.half(B).wnd_max), (1, edge, wnd));
        quiet!(t.b(bare(1, 101)));
        assert_eq!(t.acked(B), 101);
    });
}

/// A FIN that was missed is one number, not a fault.
#[test]
fn an_acknowledgement_of_one_number_more_is_a_missed_fin() {
    Talk::each_open(|t| {
        quiet!(t.a(data(1, 100, 1)));
        quiet!(t.b(bare(1, 102)));
        quiet!(t.a(bare(102, 1)));
        quiet!(t.b(bare(1, 102)));
        assert_eq!(t.hard, 0);
    });
}

/// KakaoTalk in the corpus: a FIN fixes the end of the stream, so its retransmissions do prove.
#[test]
fn an_acknowledgement_beyond_the_fin_is_of_the_unsent() {
    Talk::each_open(|t| {
        quiet!(t.a(fin(1, 1)));
        quiet!(t.b(bare(1, 1_232)));
        let mut said = String::new();
        for wait in [200, 1200, 1600, 3200] {
            said += &t.wait(wait).a(fin(1, 1));
            t.b(bare(1, 1_232));
        }
        assert!(said.contains("B ack_unsent!"), "{said}");
    });
}

/// Joncheray's state: each side's data lies outside what the other accepts, each ACK provokes the next.
fn war(t: &mut Talk, rounds: u64, pause: u64) -> String {
    let mut said = String::new();
    quiet!(t.a(data(1, 100, 1)));
    quiet!(t.b(data(1, 100, 1)));
    for _ in 0..rounds {
        said += &t.wait(pause).a(bare(101, 5_001));
        said += &t.wait(pause).b(bare(101, 7_001));
    }
    said
}

#[test]
fn an_acknowledgement_war_is_told_from_its_third_exchange_on() {
    Talk::each_open(|t| {
        let said = war(t, 10, 200);
        assert!(said.contains("ack_pingpong!"), "{said}");
        assert!(!said.contains("ack_storm"), "{said}");
        for _ in 0..10 {
            t.wait(200).a(bare(101, 5_001));
            t.wait(200).b(bare(101, 7_001));
        }
        assert!(t.sync(A).starts_with("desynced"), "{}", t.sync(A));
        assert!(t.sync(B).starts_with("desynced"), "{}", t.sync(B));
    });
}

#[test]
fn a_fast_war_is_a_storm() {
    Talk::each_open(|t| {
        quiet!(t.a(data(1, 100, 1)));
        quiet!(t.b(data(1, 100, 1)));
        let mut said = String::new();
        for _ in 0..200 {
            t.now_ns -= 9 * MS;
            said += &t.a(bare(101, 5_001));
            t.now_ns -= 9 * MS;
            said += &t.b(bare(101, 7_001));
        }
        assert!(said.contains("ack_storm!"), "{said}");
    });
}

#[test]
fn answers_to_probes_are_no_war() {
    Talk::each_open(|t| {
        for _ in 0..100 {
            assert_eq!(t.wait(300).a(bare(0, 1)), "A keepalive_probe");
            quiet!(t.b(bare(1, 1)));
        }
        assert_eq!((t.fault(A).pingpongs, t.fault(B).pingpongs), (0, 0));
    });
}
