//! The desynchronisation state machine (DIAGNOSIS 2).

use crate::quiet;
use crate::support::*;
use monitor_common::event::why;

/// A device shifts what A sends by `shift` on its way to B: B acknowledges that much more than A sent.
fn shifted(t: &mut Talk, rounds: i64, shift: impl Fn(i64) -> i64) {
    for i in 0..rounds {
        let at = t.nxt(A);
        quiet!(t.a(data(at, 50, 1)));
        t.b(bare(1, at + 50 + shift(i)));
        t.wait(300).a(bare(at + 50, 1));
    }
}

#[test]
fn a_constant_offset() {
    for shift in [8, 1_000, 123_456_789, 2_000_000_000] {
        Talk::each_open(|t| {
            quiet!(t.a(data(1, 100, 1)));
            quiet!(t.b(bare(1, 101)));
            shifted(t, 3, |_| shift);
            assert_eq!(t.sync(A), "suspect");
            shifted(t, 9, |_| shift);
            assert_eq!(t.sync(A), "desynced offset", "{shift}");
            assert_eq!(t.sync(B), "in_sync");
            let fault = t.fault(A);
            assert!(i64::from(fault.shift_lo) <= shift && shift <= i64::from(fault.shift_hi), "{fault:?}");
        });
    }
}

#[test]
fn an_offset_that_drifts_is_erratic() {
    Talk::each_open(|t| {
        quiet!(t.a(data(1, 100, 1)));
        quiet!(t.b(bare(1, 101)));
        shifted(t, 10, |i| [5_000, 900_000, 60_000, 7_000_000][i as usize % 4]);
        assert_eq!(t.sync(A), "desynced ack_unsent_erratic");
    });
}

#[test]
fn one_hard_anomaly_and_progress_is_forgotten() {
    Talk::each_open(|t| {
        quiet!(t.a(data(1, 100, 1)));
        quiet!(t.b(bare(1, 1_101)));
        assert_eq!(t.a(bare(101, 1)), "B ack_unsent!");
        assert_eq!(t.sync(A), "suspect");
        quiet!(t.b(bare(1, 101)));
        for i in 0..10 {
            quiet!(t.wait(400).a(data(101 + 100 * i, 100, 1)));
            quiet!(t.b(bare(1, 201 + 100 * i)));
        }
        assert_eq!(t.sync(A), "in_sync");
    });
}

#[test]
fn a_desynchronised_connection_recovers_by_progress() {
    Talk::each_open(|t| {
        quiet!(t.a(data(1, 100, 1)));
        quiet!(t.b(bare(1, 101)));
        shifted(t, 12, |_| 1_000);
        assert_eq!(t.sync(A), "desynced offset");
        // Silence does not mend it.
        t.wait(600_000);
        t.a(bare(t.nxt(A), 1));
        assert_eq!(t.sync(A), "desynced offset");
        for _ in 0..10 {
            let at = t.nxt(A);
            t.wait(400).a(data(at, 100, 1));
            t.b(bare(1, at + 100));
        }
        assert_eq!(t.sync(A), "recovered");
        for _ in 0..10 {
            let at = t.nxt(A);
            t.wait(5_000).a(data(at, 100, 1));
            t.b(bare(1, at + 100));
        }
        assert_eq!(t.sync(A), "in_sync");
    });
}

/// Heavy loss both ways: a retransmission would be acceptable, so it is no desynchronisation.
#[test]
fn loss_alone_never_desynchronises() {
    Talk::each_open(|t| {
        for i in 0..6 {
            quiet!(t.a(data(1 + 100 * i, 100, 1)));
        }
        quiet!(t.b(bare(1, 101)));
        let mut wait = 200;
        for _ in 0..12 {
            t.wait(wait).a(data(101, 100, 1));
            t.b(bare(1, 101).sack(201, 601));
            assert!(!t.reported(why::SYNC));
            wait *= 2;
        }
        // Watched, because the other end is heard and the backoff goes on (DIAGNOSIS 2.2); gone with the first progress.
        assert_eq!((t.hard, t.sync(A)), (0, "suspect".into()));
        quiet!(t.b(bare(1, 601)));
        quiet!(t.wait(1000).a(data(601, 100, 1)));
        assert_eq!(t.sync(A), "in_sync");
    });
}

/// Nobody is heard: a broken path, not two ends that disagree.
#[test]
fn a_backoff_into_silence_is_not_even_suspect() {
    Talk::each_open(|t| {
        quiet!(t.a(data(1, 100, 1)));
        let mut wait = 200;
        for _ in 0..8 {
            t.wait(wait).a(data(1, 100, 1));
            wait *= 2;
        }
        assert_eq!((t.hard, t.sync(A)), (0, "in_sync".into()));
    });
}

/// The first hard anomaly is where the numbers diverge, not the backoff before it.
#[test]
fn a_soft_suspicion_gives_way_to_the_first_fault() {
    Talk::each_open(|t| {
        quiet!(t.a(data(1, 100, 1)));
        for wait in [200, 400, 800, 1600] {
            t.wait(wait).a(data(1, 100, 1));
            t.b(bare(1, 1));
        }
        assert_eq!((t.sync(A), t.fault(A).sync.hard), ("suspect".into(), 0));
        quiet!(t.b(bare(1, 5_001)));
        assert_eq!(t.wait(100).a(bare(101, 1)), "B ack_unsent!");
        let sync = t.fault(A).sync;
        assert_eq!((sync.hard, t.rel(A, sync.expected), t.rel(A, sync.actual)), (1, 101, 5_001));
        assert_eq!(sync.first_ns, t.now_ns);
        assert!(t.reported(why::SYNC));
    });
}

#[test]
fn a_reset_after_an_offset_finds_the_state_as_it_was() {
    Talk::each_open(|t| {
        quiet!(t.a(data(1, 100, 1)));
        quiet!(t.b(bare(1, 101)));
        shifted(t, 12, |_| 1_000);
        t.a(rst_ack(t.nxt(A), 1));
        assert_eq!(t.sync(A), "desynced offset");
        assert_eq!(t.phase(), "reset");
    });
}

#[test]
fn the_first_divergence_is_remembered() {
    Talk::each_open(|t| {
        quiet!(t.a(data(1, 100, 1)));
        quiet!(t.b(bare(1, 101)));
        shifted(t, 12, |_| 1_000);
        let sync = t.fault(A).sync;
        assert_eq!((t.rel(A, sync.expected), t.rel(A, sync.actual)), (151, 1_151));
        assert!(sync.first_ns < sync.since_ns);
        assert!(sync.hard >= 3);
    });
}

/// S38 from behind the device: from one moment on A's segments carry other numbers, back or ahead, and B repeats itself.
#[test]
fn another_number_space_that_is_refused() {
    for jump in [-123_456_789, 123_456_789] {
        Talk::each_open(|t| {
            t.a(data(1, 1000, 1));
            quiet!(t.b(bare(1, 1001)));
            for _ in 0..80 {
                let at = t.nxt(A);
                quiet!(t.a(data(at, 1000, 1)));
                quiet!(t.b(bare(1, at + 1000)));
            }
            let at = t.nxt(A);
            for wait in [200, 400, 800, 1600] {
                t.wait(wait).a(data(at + jump, 1000, 1));
                t.wait(10).b(bare(1, at));
            }
            assert_eq!((t.sync(A), t.nxt(A)), ("desynced offset_upstream".into(), at), "{jump}");
            assert_eq!(t.sync(B), "in_sync");
        });
    }
}

/// Jumps of a stray speaker beside a stream that goes on.
#[test]
fn another_number_space_beside_progress_is_no_desynchronisation() {
    Talk::each_open(|t| {
        t.a(data(1, 1000, 1));
        quiet!(t.b(bare(1, 1001)));
        for _ in 0..40 {
            let at = t.nxt(A);
            t.a(data(at, 1000, 1));
            t.b(bare(1, at + 1000));
            t.wait(400).a(data(at + 123_456_789, 1000, 1));
            t.wait(10).b(bare(1, at + 1000));
            assert!(!t.sync(A).starts_with("desynced"));
        }
    });
}
