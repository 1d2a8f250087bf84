//! ESTABLISHED: selective acknowledgements (RFC 2018, RFC 2883).

use crate::quiet;
use crate::support::*;

/// Sends 1..=500 of which B misses 101..=200.
fn loss(t: &mut Talk) {
    for i in 0..5 {
        quiet!(t.a(data(1 + 100 * i, 100, 1)));
    }
    quiet!(t.b(bare(1, 101)));
}

#[test]
fn blocks_over_what_was_sent_are_duplicates_at_most() {
    Talk::each_open(|t| {
        loss(t);
        assert_eq!(t.b(bare(1, 101).sack(201, 301)), "B dup_ack");
        assert_eq!(t.b(bare(1, 101).sack(201, 501)), "B dup_ack");
        assert_eq!(t.a(data(101, 100, 1)), "A rexmit");
        quiet!(t.b(bare(1, 501)));
    });
}

/// RFC 2883 4.1: the first block lies below the acknowledgement.
#[test]
fn a_duplicate_below_the_acknowledgement_is_a_dsack() {
    Talk::each_open(|t| {
        quiet!(t.a(data(1, 100, 1)));
        quiet!(t.b(bare(1, 101)));
        assert_eq!(t.a(data(1, 100, 1)), "A rexmit_acked");
        assert_eq!(t.b(bare(1, 101).sack(1, 101)), "B dsack");
    });
}

/// RFC 2883 4.2: or inside the second.
#[test]
fn a_duplicate_inside_the_next_block_is_a_dsack() {
    Talk::each_open(|t| {
        loss(t);
        assert_eq!(t.b(bare(1, 101).sack(301, 401).sack(201, 501)), "B dup_ack, B dsack");
        assert_eq!(t.hard, 0);
    });
}

#[test]
fn an_inverted_block_proves_itself() {
    Talk::each_open(|t| {
        loss(t);
        assert_eq!(t.b(bare(1, 101).sack(301, 201)), "B dup_ack, B sack_inverted!");
        assert_eq!(t.sync(A), "suspect");
    });
}

/// One packet with two number spaces: DIAGNOSIS sack_offset, which needs no stall.
#[test]
fn blocks_beyond_the_own_window_prove_themselves() {
    Talk::each_open(|t| {
        loss(t);
        for _ in 0..3 {
            let said = t.b(bare(1, 101).sack(123_456_201, 123_456_501));
            assert!(said.contains("B sack_beyond_own_window!"), "{said}");
        }
        assert_eq!(t.sync(A), "desynced sack_offset");
        assert_eq!(t.sync(B), "in_sync");
        assert_eq!(t.fault(B).sack_shift, 123_456_000);
    });
}

#[test]
fn blocks_beyond_every_window_prove_themselves_in_the_middle_of_a_stream() {
    Talk::each(|t| {
        quiet!(t.a(data(1, 100, 1)));
        quiet!(t.b(bare(1, 101)));
        quiet!(t.a(data(101, 100, 1)));
        assert_eq!(t.b(bare(1, 101).sack(1_500_000_000, 1_500_000_100)), "B dup_ack, B sack_beyond_own_window!");
    });
}

/// The same two truths as for acknowledgements.
#[test]
fn blocks_over_the_unseen_are_settled_by_the_sender() {
    for missed in [true, false] {
        Talk::each_open(|t| {
            loss(t);
            assert_eq!(t.b(bare(1, 101).sack(201, 1_501)), "B dup_ack");
            if missed {
                assert_eq!(t.a(data(1_501, 100, 1)), "A capture_gap");
            } else {
                assert_eq!(t.wait(100).a(bare(501, 1)), "B sack_unsent!");
                assert_eq!(t.sync(A), "suspect");
            }
        });
    }
}

/// S37: the retransmission of what the receiver waits for is reported as a duplicate, 1000 higher.
#[test]
fn a_shifted_dsack_names_the_offset() {
    Talk::each_open(|t| {
        for i in 0..30 {
            t.a(data(1 + 100 * i, 100, 1));
        }
        quiet!(t.b(bare(1, 101)));
        t.b(bare(1, 101).sack(1_101, 3_001));
        let mut said = String::new();
        for wait in [200, 400, 800, 1600, 3200] {
            t.wait(wait).a(data(101, 100, 1));
            said += &t.b(bare(1, 101).sack(1_101, 1_201).sack(1_101, 3_001));
        }
        assert!(said.contains("B dsack_shifted!"), "{said}");
        assert_eq!(t.fault(B).dsack_shift, 1_000);
        assert_eq!(t.sync(A), "desynced offset");
    });
}

/// The network duplicates the segment behind the one that was retransmitted last. The ACK moves: nothing is shifted.
#[test]
fn duplicates_made_by_the_network_are_not_shifted_dsacks() {
    Talk::each_open(|t| {
        let mut said = String::new();
        for round in 0..6 {
            let at = 1 + 500 * round;
            for i in 0..5 {
                t.a(data(at + 100 * i, 100, 1));
            }
            t.b(bare(1, at));
            t.b(bare(1, at).sack(at + 100, at + 500));
            t.a(data(at, 100, 1));
            said += &t.b(bare(1, at).sack(at + 100, at + 200).sack(at + 100, at + 500));
            t.b(bare(1, at + 500));
        }
        assert!(!said.contains('!'), "{said}");
        assert_eq!(t.sync(A), "in_sync");
    });
}

/// DIAGNOSIS 2.3 `sack_offset` where the offset is within the window: plain acknowledgements fit and advance, while the
/// blocks lie beyond what was sent by the same bytes each time.
#[test]
fn blocks_beyond_what_was_sent_by_a_constant_are_a_sack_offset() {
    Talk::each_open(|t| {
        let mut at = 1;
        for i in 0..3 {
            quiet!(t.a(data(at, 100, 1)));
            quiet!(t.a(data(at + 100, 100, 1)));
            // The first is lost beyond the observer; the second is reported 3000 further on.
            t.b(bare(1, at).sack(at + 3_100, at + 3_200));
            let said = t.wait(50).a(bare(at + 200, 1));
            assert_eq!(said, "B sack_unsent!", "{i}");
            assert_eq!(t.a(data(at, 100, 1)), "A rexmit");
            at += 200;
            t.b(bare(1, at));
        }
        assert_eq!((t.fault(A).sack_lo, t.fault(A).sack_lo_hits), (3_000, 3));
        assert_eq!(t.sync(A), "desynced sack_offset");
    });
}

/// Blocks anywhere are no constant offset.
#[test]
fn blocks_beyond_what_was_sent_at_random_are_no_offset() {
    Talk::each_open(|t| {
        let mut at = 1;
        for shift in [3_000, 2_000, 4_000, 1_000, 500] {
            quiet!(t.a(data(at, 100, 1)));
            quiet!(t.a(data(at + 100, 100, 1)));
            t.b(bare(1, at).sack(at + 100 + shift, at + 200 + shift));
            assert_eq!(t.wait(50).a(bare(at + 200, 1)), "B sack_unsent!");
            t.a(data(at, 100, 1));
            at += 200;
            t.b(bare(1, at));
        }
        assert_eq!(t.fault(A).sack_lo_hits, 1);
        assert_eq!(t.sync(A), "suspect");
    });
}
