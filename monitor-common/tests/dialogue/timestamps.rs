//! ESTABLISHED: timestamps (RFC 7323 sections 3 and 5).

use crate::quiet;
use crate::support::*;

/// Data with a regular clock, acknowledged.
fn warm_up(t: &mut Talk) {
    for i in 0..4 {
        quiet!(t.a(data(1 + 100 * i, 100, 1)));
        quiet!(t.b(bare(1, 101 + 100 * i)));
    }
}

#[test]
fn a_segment_reordered_by_two_milliseconds_is_soft() {
    Talk::each_open_with(true, |t| {
        warm_up(t);
        assert_eq!(t.a(data(501, 100, 1).ts(1_000)), "A seq_gap");
        assert_eq!(t.a(data(401, 100, 1).ts(998)), "A ts_regress, A rexmit");
        assert_eq!(t.hard, 0);
    });
}

/// PAWS (RFC 7323 5.3): the receiver takes new data with old timestamps for duplicates and drops it.
#[test]
fn a_clock_that_runs_backwards_stops_the_transfer() {
    Talk::each_open_with(true, |t| {
        warm_up(t);
        let mut said = String::new();
        for i in 0..6 {
            let ts = (((t.now_ns - START_NS) / MS) as u32).wrapping_sub(100_000);
            said += &t.wait(500).a(data(401 + 100 * i, 100, 1).ts(ts));
            t.b(bare(1, 401));
        }
        assert!(said.contains("A ts_regress_new!"), "{said}");
        assert_eq!(t.sync(A), "desynced paws");
        assert_eq!(t.sync(B), "in_sync");
    });
}

/// DIAGNOSIS 1.2: retracted when the data is acknowledged.
#[test]
fn a_receiver_that_does_not_mind_retracts() {
    Talk::each_open_with(true, |t| {
        warm_up(t);
        for i in 0..20 {
            let ts = (((t.now_ns - START_NS) / MS) as u32).wrapping_sub(100_000);
            let said = t.a(data(401 + 100 * i, 100, 1).ts(ts));
            assert!(!said.contains('!'), "{said}");
            quiet!(t.b(bare(1, 501 + 100 * i)));
        }
        assert_eq!((t.hard, t.sync(A)), (0, "in_sync".into()));
    });
}

/// The clock may count microseconds (Linux 6.7): what overtook by 2 ms is 2000 ticks ahead.
#[test]
fn reordering_against_a_microsecond_clock_is_soft() {
    Talk::each_open_with(true, |t| {
        let us = |t: &Talk| ((t.now_ns - START_NS) / 1_000) as u32;
        let mut at = 1;
        for _ in 0..20 {
            let now = us(t) + 10_000;
            quiet!(t.b(data(at, 100, at)));
            t.now_ns -= 9 * MS;
            // The ACK overtakes the data that was sent before it.
            t.a(bare(at, at + 100).ts(now + 2_000));
            t.now_ns -= 9 * MS;
            let said = t.a(data(at, 100, at).ts(now));
            assert!(!said.contains('!'), "{said}");
            at += 100;
        }
        assert_eq!(t.hard, 0);
    });
}

#[test]
fn a_segment_without_the_agreed_option_is_soft_and_resets_may_lack_it() {
    Talk::each_open_with(true, |t| {
        assert_eq!(t.a(data(1, 100, 1).no_ts()), "A ts_missing");
        quiet!(t.b(bare(1, 101)));
        quiet!(t.a(rst_ack(101, 1)));
        assert_eq!(t.effect(), "exact");
    });
}

#[test]
fn the_timestamp_wraps_like_a_sequence_number() {
    Talk::each_open_with(true, |t| {
        // The helper's clock starts 1000 below 2^32, so it wraps after a second.
        for i in 0..4 {
            quiet!(t.wait(700).a(data(1 + 100 * i, 100, 1)));
            quiet!(t.b(bare(1, 101 + 100 * i)));
        }
    });
}

/// RFC 7323 section 4: an echo of what was never sent; the clock of its owner denies it.
#[test]
fn an_echo_from_the_future_is_denied_by_its_owners_clock() {
    Talk::each_open_with(true, |t| {
        warm_up(t);
        let now = ((t.now_ns - START_NS) / MS) as u32;
        quiet!(t.b(bare(1, 401).tsecr(now + 5_000)));
        assert_eq!(t.wait(50).a(data(401, 100, 1)), "B tsecr_future");
        let said = t.noted(monitor_common::Anomaly::TsecrFuture).expect("noted");
        // A spoke last 10 ms before that moment.
        assert_eq!(said.actual.0.wrapping_sub(said.expected.0), 5_010);
        assert_eq!((t.hard, t.sync(A), t.sync(B)), (0, "in_sync".into(), "in_sync".into()));
    });
}

#[test]
fn an_echo_of_a_segment_that_was_missed_here_is_innocent() {
    Talk::each_open_with(true, |t| {
        warm_up(t);
        let now = ((t.now_ns - START_NS) / MS) as u32;
        // A's clock went on by 5 s; the segment that said so was not seen.
        quiet!(t.b(bare(1, 401).tsecr(now + 5_000)));
        quiet!(t.wait(50).a(bare(401, 1).ts(now + 5_060)));
        quiet!(t.b(bare(1, 401).tsecr(now + 5_060)));
    });
}

/// A view that is proven to miss packets says nothing about echoes.
#[test]
fn in_a_view_with_a_gap_no_echo_is_from_the_future() {
    Talk::each_open_with(true, |t| {
        warm_up(t);
        quiet!(t.b(bare(1, 1_401)));
        assert_eq!(t.a(data(1_401, 100, 1)), "A capture_gap");
        let now = ((t.now_ns - START_NS) / MS) as u32;
        quiet!(t.b(bare(1, 1_501).tsecr(now + 5_000)));
        quiet!(t.wait(50).a(data(1_501, 100, 1)));
    });
}

/// Reordering of a second is no proof either.
#[test]
fn an_echo_within_a_second_is_innocent() {
    Talk::each_open_with(true, |t| {
        warm_up(t);
        let hi = t.half(A).ts_hi.wrapping_add(1_000);
        quiet!(t.b(bare(1, 401).tsecr(hi.wrapping_add(1_000))));
        quiet!(t.wait(50).a(data(401, 100, 1)));
    });
}
