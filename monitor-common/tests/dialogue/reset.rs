//! Resets (RFC 9293 3.5.2, 3.5.3; RFC 5961 section 3; Linux `tcp_validate_incoming`).

use crate::quiet;
use crate::support::*;
use monitor_common::engine::REPORTED_RESETS;

/// 500 bytes each way, all acknowledged.
fn exchange(t: &mut Talk) {
    quiet!(t.a(data(1, 500, 1)));
    quiet!(t.b(data(1, 500, 501)));
    quiet!(t.a(bare(501, 501)));
}

#[test]
fn at_the_expected_number_it_ends_the_connection() {
    Talk::each_open(|t| {
        exchange(t);
        quiet!(t.b(rst(501)));
        assert_eq!((t.effect(), t.phase()), ("exact", "reset"));
        assert!(t.reset_reported());
    });
}

/// An active abort stands behind the data in flight.
#[test]
fn behind_data_in_flight_it_is_exact_at_its_receiver() {
    Talk::each_open(|t| {
        exchange(t);
        quiet!(t.b(data(501, 500, 501)));
        quiet!(t.b(rst_ack(1001, 501)));
        assert_eq!(t.effect(), "exact");
    });
}

#[test]
fn inside_the_window_it_is_challenged() {
    Talk::each_open(|t| {
        exchange(t);
        quiet!(t.b(rst(601)));
        assert_eq!((t.effect(), t.phase()), ("in_window", "established"));
        quiet!(t.a(bare(501, 501)));
        quiet!(t.b(data(501, 100, 501)));
        quiet!(t.a(bare(501, 601)));
        assert_eq!((t.nxt(B), t.hard), (601, 0));
    });
}

#[test]
fn outside_the_window_it_is_ignored() {
    for seq in [100_000, 0, -5_000, 2_000_000_000] {
        Talk::each_open(|t| {
            exchange(t);
            quiet!(t.b(rst(seq)));
            assert_eq!((t.effect(), t.phase()), ("out_of_window", "established"), "{seq}");
            quiet!(t.b(data(501, 100, 501)));
        });
    }
}

/// RFC 9293 3.10.7.3: it must acknowledge the SYN.
#[test]
fn in_syn_sent_the_acknowledgement_decides() {
    for (s, effect) in [
        (rst_ack(0, 1), "exact"),
        (rst_ack(0, 2), "out_of_window"),
        (rst_ack(0, 0), "out_of_window"),
        (rst(0), "out_of_window"),
    ] {
        Talk::each(|t| {
            quiet!(t.a(syn()));
            quiet!(t.b(Seg { seq: -(t.iss[1] as i64), ..s }));
            assert_eq!(t.effect(), effect, "{s:?}");
            assert_eq!(t.phase(), if effect == "exact" { "reset" } else { "syn_sent" });
        });
    }
}

#[test]
fn in_syn_received_the_client_withdraws() {
    Talk::each(|t| {
        quiet!(t.a(syn()));
        quiet!(t.b(syn_ack()));
        quiet!(t.a(rst(1)));
        assert_eq!(t.effect(), "exact");
    });
}

/// Linux accepts the right edge of the highest SACK block too.
#[test]
fn at_the_right_edge_of_a_sack_block() {
    Talk::each_open(|t| {
        exchange(t);
        // 501..=600 is lost before the observer.
        assert_eq!(t.b(data(601, 100, 501)), "B seq_gap");
        assert_eq!(t.a(bare(501, 501).sack(601, 701)), "A dup_ack");
        quiet!(t.b(rst(701)));
        assert_eq!(t.effect(), "exact");
    });
}

/// What the receiver expects does not lie behind a hole.
#[test]
fn behind_a_hole_it_is_only_in_the_window() {
    Talk::each_open(|t| {
        exchange(t);
        assert_eq!(t.b(data(601, 100, 501)), "B seq_gap");
        quiet!(t.b(rst(651)));
        assert_eq!(t.effect(), "in_window");
        quiet!(t.b(rst(501)));
        assert_eq!(t.effect(), "exact");
    });
}

/// Linux: one below what is expected, after a FIN.
#[test]
fn one_below_after_a_fin() {
    Talk::each_open(|t| {
        exchange(t);
        quiet!(t.b(fin(501, 501)));
        quiet!(t.a(bare(501, 502)));
        quiet!(t.b(rst(501)));
        assert_eq!(t.effect(), "exact");
    });
    Talk::each_open(|t| {
        exchange(t);
        quiet!(t.b(rst(500)));
        assert_eq!(t.effect(), "out_of_window");
    });
}

/// A reply is at the number of the ACK it answers, also where that ACK is of the unsent.
#[test]
fn the_answer_to_an_impossible_acknowledgement_is_exact() {
    Talk::each_open(|t| {
        exchange(t);
        quiet!(t.a(bare(501, 9_000)));
        quiet!(t.b(rst(9_000)));
        assert_eq!(t.effect(), "exact");
    });
}

#[test]
fn with_an_unseen_receiver_it_is_taken_as_effective() {
    Talk::each(|t| {
        quiet!(t.a(data(5_000, 100, 70_000)));
        quiet!(t.a(rst_ack(5_100, 70_000)));
        assert_eq!((t.effect(), t.phase()), ("unverified", "reset"));
    });
    Talk::each(|t| {
        quiet!(t.a(rst(5_100)));
        assert_eq!(t.effect(), "unverified");
    });
}

#[test]
fn it_moves_no_edge() {
    Talk::each_open(|t| {
        exchange(t);
        let before = (t.nxt(B), t.acked(B), t.edge(B), t.nxt(A), t.acked(A), t.edge(A));
        for s in [rst(501), rst_ack(601, 900), rst_ack(100_000, 1).wnd(9)] {
            quiet!(t.b(s));
        }
        assert_eq!(before, (t.nxt(B), t.acked(B), t.edge(B), t.nxt(A), t.acked(A), t.edge(A)));
    });
}

#[test]
fn many_are_counted_and_few_reported_but_the_fatal_one_always() {
    Talk::each_open(|t| {
        exchange(t);
        for i in 0..20 {
            quiet!(t.b(rst(601)));
            assert_eq!(t.reset_reported(), i < REPORTED_RESETS);
        }
        quiet!(t.b(rst(501)));
        assert!(t.reset_reported());
        assert_eq!(t.half(B).rst_count, 21);
    });
}

/// One on a connection with which nothing was wrong, whatever it does, at every stage; each `send` checks that it gives
/// the same as the full checks, and needs nothing of the faults.
#[test]
fn the_first_one_is_predicted() {
    let is_predicted = |t: &mut Talk, who, s: Seg| {
        let before = t.predicted;
        quiet!(t.send(who, s));
        assert!(t.reset_reported() && t.bare);
        assert_eq!(t.predicted, before + 1);
    };
    for s in [rst(501), rst(601), rst(501_000), rst_ack(501, 501)] {
        Talk::each_open(|t| {
            exchange(t);
            is_predicted(t, B, s);
        });
    }
    Talk::each(|t| {
        quiet!(t.a(syn()));
        let refused = Seg { seq: -(t.iss[1] as i64), ..rst_ack(0, 1) };
        is_predicted(t, B, refused);
    });
    Talk::each(|t| {
        quiet!(t.a(syn()));
        quiet!(t.b(syn_ack()));
        is_predicted(t, A, rst(1));
    });
    Talk::each(|t| is_predicted(t, A, rst(1)));
}

#[test]
fn one_that_may_be_a_copy_is_not_predicted() {
    Talk::each_open(|t| {
        exchange(t);
        quiet!(t.b(rst(601)));
        let before = t.predicted;
        quiet!(t.b(rst(501)));
        assert_eq!((t.predicted, t.effect()), (before, "exact"));
    });
}
