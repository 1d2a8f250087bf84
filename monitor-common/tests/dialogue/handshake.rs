//! LISTEN, SYN-SENT, SYN-RECEIVED (RFC 9293 sections 3.5 and 3.10.7).

use crate::quiet;
use crate::support::*;
use monitor_common::segment::{flags, opt};
use monitor_common::tracker::state::{conn, half};

#[test]
fn a_plain_handshake_is_silent_and_sets_the_edges() {
    Talk::each(|t| {
        quiet!(t.a(syn()));
        assert_eq!(t.phase(), "syn_sent");
        quiet!(t.b(syn_ack()));
        assert_eq!(t.phase(), "syn_received");
        quiet!(t.a(bare(1, 1)));
        assert_eq!(t.phase(), "established");
        assert_eq!((t.nxt(A), t.nxt(B), t.acked(A), t.acked(B)), (1, 1, 1, 1));
        // RFC 7323 2.2: the SYN's window of 8000 is not scaled, the third segment's 1000 is, by 3.
        assert_eq!((t.edge(A), t.edge(B)), (8001, 8001));
        assert!(t.c.scale_known());
        assert_eq!(t.c.initiator, t.dir(A) as u8);
    });
}

#[test]
fn a_retransmitted_syn_moves_nothing() {
    Talk::each(|t| {
        quiet!(t.a(syn()));
        assert_eq!(t.wait(1000).a(syn()), "A rexmit");
        quiet!(t.b(syn_ack()));
        assert_eq!(t.wait(1000).b(syn_ack()), "B rexmit");
        quiet!(t.a(bare(1, 1)));
        assert_eq!(t.phase(), "established");
    });
}

/// RFC 5961 4: it draws a challenge ACK, which is benign.
#[test]
fn a_repeated_syn_ack_when_established_is_soft() {
    Talk::each_open(|t| {
        assert_eq!(t.b(syn_ack()), "B syn_in_established");
        quiet!(t.a(bare(1, 1)));
        quiet!(t.a(data(1, 100, 1)));
        assert_eq!(t.lives, 1);
    });
}

/// DIAGNOSIS 1.4: a new ISN before the SYN-ACK re-bases.
#[test]
fn a_new_isn_before_the_syn_ack_takes_the_place_of_the_first() {
    Talk::each(|t| {
        quiet!(t.a(syn()));
        quiet!(t.wait(1000).a(Seg { seq: 5000, ..syn() }));
        quiet!(t.b(Seg { ack: 5001, ..syn_ack() }));
        quiet!(t.a(bare(5001, 1)));
        quiet!(t.a(data(5001, 100, 1)));
        assert_eq!(t.nxt(A), 5101);
        assert_eq!(t.phase(), "established");
    });
}

/// RFC 9293 3.10.7.3: a SYN-ACK that does not acknowledge the SYN is answered with a RST and dropped.
#[test]
fn a_syn_ack_of_something_else_is_not_taken() {
    for ack in [-100, 0, 2, 5001] {
        Talk::each(|t| {
            quiet!(t.a(syn()));
            assert_eq!(t.b(Seg { ack, seq: 70_000, ..syn_ack() }), "B synack_bad_ack!");
            assert_eq!(t.phase(), "syn_sent", "{ack}");
            quiet!(t.wait(500).b(syn_ack()));
            quiet!(t.a(bare(1, 1)));
            quiet!(t.b(data(1, 100, 1)));
            assert_eq!((t.phase(), t.nxt(B)), ("established", 101));
        });
    }
}

#[test]
fn the_reset_that_answers_a_wrong_syn_ack_is_effective() {
    Talk::each(|t| {
        quiet!(t.a(syn()));
        assert_eq!(t.b(Seg { ack: -100, ..syn_ack() }), "B synack_bad_ack!");
        quiet!(t.a(rst(-100)));
        assert_eq!((t.effect(), t.phase()), ("exact", "reset"));
    });
}

#[test]
fn two_syn_acks_with_different_numbers_disagree() {
    Talk::each(|t| {
        quiet!(t.a(syn()));
        quiet!(t.b(syn_ack()));
        assert_eq!(t.b(Seg { seq: 90_000, ..syn_ack() }), "B synack_isn_change!");
        assert_eq!(t.nxt(B), 1);
        quiet!(t.a(bare(1, 1)));
        quiet!(t.b(data(1, 100, 1)));
        assert_eq!(t.nxt(B), 101);
    });
}

/// The client decides which of the SYN-ACKs it takes: the one that it acknowledges.
#[test]
fn the_syn_ack_that_is_acknowledged_counts() {
    Talk::each(|t| {
        quiet!(t.a(syn()));
        quiet!(t.b(syn_ack()));
        assert_eq!(t.b(Seg { seq: 90_000, ..syn_ack() }), "B synack_isn_change!");
        quiet!(t.a(bare(1, 90_001)));
        quiet!(t.b(data(90_001, 100, 1)));
        quiet!(t.a(bare(1, 90_101)));
        quiet!(t.b(bare(90_101, 1)));
        assert_eq!((t.nxt(B), t.acked(A)), (90_101, 90_101));
        assert_eq!((t.sync(A), t.sync(B)), ("in_sync".into(), "in_sync".into()));
    });
}

/// RFC 9293 3.5, figure 7.
#[test]
fn a_simultaneous_open_establishes() {
    Talk::each(|t| {
        quiet!(t.a(syn()));
        quiet!(t.b(syn()));
        // The SYN again, now with an acknowledgement.
        assert_eq!(t.a(syn_ack()), "A rexmit");
        assert_eq!(t.b(syn_ack()), "B rexmit");
        assert_eq!(t.phase(), "established");
        quiet!(t.a(data(1, 100, 1)));
        quiet!(t.b(bare(1, 101)));
        assert!(t.c.scale_known());
    });
}

/// RFC 7413 4.2.
#[test]
fn fast_open_data_may_be_acknowledged_with_the_syn_or_not() {
    Talk::each(|t| {
        quiet!(t.a(Seg { len: 100, options: opt::FAST_OPEN, ..syn() }));
        quiet!(t.b(Seg { ack: 101, ..syn_ack() }));
        quiet!(t.b(data(1, 500, 101)));
        quiet!(t.a(bare(101, 501)));
        assert_eq!((t.phase(), t.nxt(A)), ("established", 101));
    });
    Talk::each(|t| {
        quiet!(t.a(Seg { len: 100, options: opt::FAST_OPEN, ..syn() }));
        quiet!(t.b(syn_ack()));
        assert_eq!(t.a(data(1, 100, 1)), "A rexmit");
        quiet!(t.b(bare(1, 101)));
        quiet!(t.a(data(101, 100, 1)));
        assert_eq!((t.phase(), t.nxt(A)), ("established", 201));
    });
}

/// A SYN carries a cookie request only, its data is ignored, the SYN is repeated without data.
#[test]
fn fast_open_falls_back_without_data() {
    Talk::each(|t| {
        quiet!(t.a(Seg { len: 100, options: opt::FAST_OPEN, ..syn() }));
        assert_eq!(t.wait(1000).a(syn()), "A rexmit");
        quiet!(t.b(syn_ack()));
        quiet!(t.a(bare(1, 1)));
        assert_eq!(t.a(data(1, 100, 1)), "A rexmit");
        quiet!(t.a(data(101, 100, 1)));
        assert_eq!(t.hard, 0);
    });
}

/// RFC 7323 2.2: scaling is on only when both SYNs carry the option.
#[test]
fn windows_are_scaled_only_by_agreement() {
    for (a, b, shift) in [(Some(3), Some(7), [3, 7]), (Some(3), None, [0, 0]), (None, Some(7), [0, 0])] {
        Talk::each(|t| {
            t.a(syn().scale(a));
            t.b(syn_ack().scale(b));
            t.a(bare(1, 1).wnd(20_000));
            t.b(bare(1, 1).wnd(30_000));
            assert_eq!(t.edge(A), 1 + (20_000 << shift[0]), "{a:?} {b:?}");
            assert_eq!(t.edge(B), 1 + (30_000 << shift[1]), "{a:?} {b:?}");
            assert_eq!(t.hard, 0);
        });
    }
}

#[test]
fn without_both_syns_no_window_is_judged() {
    Talk::each(|t| {
        quiet!(t.b(syn_ack()));
        quiet!(t.a(bare(1, 1)));
        quiet!(t.b(data(1, 1000, 1)));
        quiet!(t.b(data(1001, 60_000, 1)));
        quiet!(t.b(data(61_001, 60_000, 1)));
        assert!(t.c.flags & conn::MID_STREAM != 0);
        assert!(!t.half(A).has(half::EDGE));
        assert_eq!(t.phase(), "established");
    });
}

#[test]
fn a_missed_syn_ack_is_no_fault() {
    Talk::each(|t| {
        quiet!(t.a(syn()));
        quiet!(t.a(bare(1, 1)));
        quiet!(t.a(data(1, 100, 1)));
        quiet!(t.b(bare(1, 101)));
        quiet!(t.b(data(1, 5000, 101)));
        quiet!(t.a(bare(101, 5001)));
        assert_eq!(t.phase(), "established");
    });
}

#[test]
fn a_missed_third_segment_is_no_fault() {
    Talk::each(|t| {
        quiet!(t.a(syn()));
        quiet!(t.b(syn_ack()));
        t.b(bare(1, 101));
        t.a(data(101, 100, 1));
        t.b(bare(1, 201));
        assert_eq!((t.phase(), t.hard, t.nxt(A)), ("established", 0, 201));
    });
}

#[test]
fn picked_up_in_the_middle_of_a_transfer() {
    Talk::each(|t| {
        quiet!(t.a(data(5_000, 1000, 70_000)));
        assert_eq!(t.phase(), "established");
        assert!(t.c.flags & conn::MID_STREAM != 0);
        quiet!(t.a(data(6_000, 1000, 70_000)));
        quiet!(t.b(bare(70_000, 6_000)));
        quiet!(t.b(bare(70_000, 7_000)));
        quiet!(t.b(data(70_000, 500, 7_000)));
        quiet!(t.a(bare(7_000, 70_500)));
        assert_eq!((t.nxt(A), t.nxt(B)), (7_000, 70_500));
    });
}

/// A first segment that lies below what the other end acknowledges was only late.
#[test]
fn picked_up_between_data_and_its_acknowledgement() {
    Talk::each(|t| {
        quiet!(t.b(bare(70_000, 7_000)));
        assert_eq!(t.a(data(6_000, 1000, 70_000)), "A rexmit_acked");
        quiet!(t.a(data(7_000, 1000, 70_000)));
        quiet!(t.b(bare(70_000, 8_000)));
        assert_eq!(t.nxt(A), 8_000);
    });
}

/// DIAGNOSIS 0: a first bare segment may be a keep-alive, one below SND.NXT.
#[test]
fn picked_up_at_a_keep_alive() {
    Talk::each(|t| {
        quiet!(t.a(bare(4_999, 70_000)));
        quiet!(t.b(bare(70_000, 5_000)));
        for _ in 0..5 {
            assert_eq!(t.wait(1000).a(bare(4_999, 70_000)), "A keepalive_probe");
            quiet!(t.b(bare(70_000, 5_000)));
        }
        quiet!(t.a(data(5_000, 100, 70_000)));
        assert_eq!(t.hard, 0);
    });
}

/// DIAGNOSIS 22: the other end still holds an old connection of the 4-tuple that was never seen here. Its challenge ACK
/// carries that connection's numbers.
#[test]
fn a_challenge_ack_from_an_unseen_former_life_is_not_taken() {
    for old in [-1_500_000_000i64, -500_000, 1_900_000_000] {
        Talk::each(|t| {
            quiet!(t.a(syn()));
            quiet!(t.b(bare(777_777, old)));
            assert_eq!(t.phase(), "syn_sent");
            quiet!(t.a(rst(old)));
            assert_eq!(t.effect(), "exact");
            t.wait(3000).a(syn());
            quiet!(t.b(syn_ack()));
            quiet!(t.a(bare(1, 1)));
            quiet!(t.b(data(1, 100, 1)));
            quiet!(t.a(bare(1, 101)));
            quiet!(t.b(bare(101, 1)));
            assert_eq!((t.phase(), t.nxt(B)), ("established", 101));
            assert!(t.c.scale_known());
        });
    }
}

#[test]
fn a_challenge_ack_that_is_not_answered_changes_nothing_either() {
    Talk::each(|t| {
        quiet!(t.a(syn()));
        quiet!(t.b(bare(777_777, -500_000)));
        assert_eq!(t.wait(1000).a(syn()), "A rexmit");
        quiet!(t.b(bare(777_777, -500_000)));
        assert_eq!(t.wait(1000).a(syn()), "A rexmit");
        quiet!(t.b(syn_ack()));
        quiet!(t.a(bare(1, 1)));
        quiet!(t.b(data(1, 100, 1)));
        assert_eq!((t.lives, t.nxt(B), t.phase()), (1, 101, "established"));
    });
}

/// Some stacks try a refused SYN again with the same number.
#[test]
fn a_refused_syn_that_is_accepted_at_last() {
    Talk::each(|t| {
        quiet!(t.a(syn()));
        quiet!(t.b(rst_ack(0, 1)));
        assert_eq!((t.effect(), t.phase()), ("exact", "reset"));
        t.wait(500).a(syn());
        assert_eq!(t.phase(), "reset");
        quiet!(t.b(rst_ack(0, 1)));
        t.wait(500).a(syn());
        quiet!(t.b(syn_ack()));
        quiet!(t.a(bare(1, 1)));
        quiet!(t.a(data(1, 100, 1)));
        quiet!(t.b(bare(1, 101)));
        assert_eq!((t.phase(), t.lives), ("established", 2));
    });
}

/// S34: the third segment acknowledges what was not sent; the server answers with a RST at that number.
#[test]
fn the_reset_that_answers_a_wrong_third_segment_is_effective() {
    Talk::each(|t| {
        quiet!(t.a(syn()));
        quiet!(t.b(syn_ack()));
        quiet!(t.a(bare(1, 6_001)));
        quiet!(t.b(rst(6_001)));
        assert_eq!((t.effect(), t.phase()), ("exact", "reset"));
    });
}

#[test]
fn accurate_ecn_bits_are_no_matter() {
    Talk::each(|t| {
        quiet!(t.a(syn().flags(flags::SYN | flags::ECE | flags::CWR | 0x100)));
        quiet!(t.b(syn_ack().flags(flags::SYN | flags::ACK | flags::ECE)));
        quiet!(t.a(bare(1, 1).flags(flags::ACK | 0x100)));
        assert_eq!(t.phase(), "established");
    });
}

/// RFC 9293 3.10.7.3: in SYN-SENT a segment without SYN is dropped, so an injected one must not decide the numbers.
#[test]
fn what_is_injected_before_the_syn_ack_is_forgotten() {
    Talk::each(|t| {
        quiet!(t.a(syn()));
        t.b(fin(-26_175, 1));
        t.b(syn_ack());
        quiet!(t.a(bare(1, 1)));
        quiet!(t.b(data(1, 100, 1)));
        quiet!(t.a(bare(1, 101)));
        assert_eq!((t.nxt(B), t.phase(), t.hard), (101, "established", 0));
        assert!(t.c.scale_known() && t.c.flags & conn::MID_STREAM == 0);
    });
}

#[test]
fn data_that_overtakes_the_syn_ack_is_kept() {
    Talk::each(|t| {
        quiet!(t.a(syn()));
        quiet!(t.b(data(1, 100, 1)));
        quiet!(t.b(syn_ack()));
        quiet!(t.a(bare(1, 101)));
        assert_eq!((t.nxt(B), t.phase(), t.hard), (101, "established", 0));
    });
}
