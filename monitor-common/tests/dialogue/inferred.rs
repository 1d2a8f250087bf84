//! Without the handshake: the window scale is inferred from accepted data (DIAGNOSIS 1.3), and all that is said of
//! windows then stays soft.

use crate::quiet;
use crate::support::*;
use monitor_common::tracker::state::{conn, half};

/// A sends `rounds` flights of `flight` bytes into a window field of `wnd`, each acknowledged; from `at` on.
fn bulk(t: &mut Talk, at: i64, rounds: i64, flight: i64, wnd: u16) -> i64 {
    for i in 0..rounds {
        for j in 0..flight / 1000 {
            let said = t.a(data(at + i * flight + j * 1000, 1000, 1));
            assert!(!said.contains('!'), "{said}");
        }
        let said = t.b(bare(1, at + (i + 1) * flight).wnd(wnd));
        assert!(!said.contains('!'), "{said}");
    }
    at + rounds * flight
}

/// What was inferred of B's windows; nothing yet.
fn shift(t: &Talk) -> Option<u8> {
    t.half(A).has(half::SCALE_INFERRED).then(|| t.fault(A).peer_shift - 1)
}

fn middle(t: &mut Talk) {
    quiet!(t.b(bare(1, 70_001).wnd(500)));
    quiet!(t.a(bare(70_001, 1)));
}

#[test]
fn three_windows_of_data_give_the_smallest_shift_that_fits() {
    Talk::each(|t| {
        middle(t);
        // 30000 bytes in flight into a field of 500: a shift of 6 is the first that holds them.
        let at = bulk(t, 70_001, 2, 30_000, 500);
        assert_eq!(shift(t), None, "three windows are 96000 bytes");
        bulk(t, at, 4, 30_000, 500);
        assert_eq!((shift(t), t.half(B).wnd_max, t.hard), (Some(6), 32_000, 0));
        assert!(t.half(B).has(half::EDGE));
        assert_ne!(t.c.flags & conn::SCALE_INFERRED, 0);
        assert!(!t.c.scale_known());
    });
}

#[test]
fn a_larger_flight_raises_it_and_it_has_to_be_earned_again() {
    Talk::each(|t| {
        middle(t);
        let at = bulk(t, 70_001, 8, 4_000, 500);
        assert_eq!(shift(t), Some(3));
        let at = bulk(t, at, 1, 60_000, 500);
        assert_eq!(shift(t), None);
        quiet!(t.b(bare(1, at).wnd(500)));
        assert!(!t.half(B).has(half::EDGE), "edges of the smaller scale are gone");
        bulk(t, at, 6, 60_000, 500);
        assert_eq!((shift(t), t.hard), (Some(7), 0));
    });
}

/// No shift above 14 (RFC 7323 section 2.3).
#[test]
fn what_no_scale_explains_is_beyond_the_window_but_soft() {
    Talk::each(|t| {
        middle(t);
        let at = bulk(t, 70_001, 8, 4_000, 500);
        // The window closes; 3000 bytes of data into it are no probe.
        assert_eq!(t.b(bare(1, at).wnd(0)), "B window_shrink, B zero_window");
        let said = t.a(data(at + 8_000, 3_000, 1));
        assert!(said.contains("beyond_window") && !said.contains('!'), "{said}");
        t.wait(100).b(bare(1, at).wnd(0));
        let said = t.wait(300).b(bare(1, at).wnd(0));
        assert!(!said.contains('!'), "{said}");
        assert_eq!((t.hard, t.sync(A)), (0, "in_sync".into()));
    });
}

#[test]
fn a_window_withdrawn_is_soft_where_its_scale_is_inferred() {
    Talk::each(|t| {
        middle(t);
        let at = bulk(t, 70_001, 8, 4_000, 500);
        for i in 0..4 {
            quiet!(t.a(data(at + i * 1000, 1000, 1)));
        }
        for i in 0..3 {
            assert_eq!(t.b(bare(1, at + i).wnd(1)), "B window_shrink");
        }
        assert_eq!((t.hard, t.sync(A)), (0, "in_sync".into()));
    });
}

/// Zero is zero under any scale.
#[test]
fn a_closed_window_needs_no_scale() {
    Talk::each(|t| {
        middle(t);
        quiet!(t.a(data(70_001, 1000, 1)));
        assert_eq!(t.b(bare(1, 71_001).wnd(0)), "B zero_window");
        assert_eq!(t.wait(500).a(bare(71_000, 1)), "A zero_window_probe");
        quiet!(t.b(bare(1, 71_001).wnd(0)));
        t.wait(2500).a(bare(71_000, 1));
        assert_eq!(t.b(bare(1, 71_001).wnd(0)), "B zero_window_stall");
        quiet!(t.b(bare(1, 71_001).wnd(500)));
        assert!(!t.half(B).has(half::ZERO_WINDOW));
    });
}

/// The scale is a lower bound: what it says of SACK blocks and of old acknowledgements would be wrong.
#[test]
fn a_sack_block_far_ahead_is_innocent_where_the_scale_is_inferred() {
    Talk::each(|t| {
        middle(t);
        let at = bulk(t, 70_001, 8, 4_000, 500);
        assert_eq!(shift(t), Some(3));
        let said = t.b(bare(1, at).wnd(500).sack(at + 40_000, at + 41_000));
        assert!(!said.contains("own_window"), "{said}");
        assert_eq!(t.b(bare(1, at - 30_000).wnd(500)), "B ack_old");
        assert_eq!(t.hard, 0);
    });
}

/// A handshake that is seen tells the scale; nothing is inferred beside it.
#[test]
fn nothing_is_inferred_where_the_handshake_was_seen() {
    Talk::each_open(|t| {
        bulk(t, 1, 10, 4_000, 1000);
        assert_eq!((shift(t), t.fault(A).peer_shift), (None, 0));
        assert_eq!(t.c.flags & conn::SCALE_INFERRED, 0);
    });
}
