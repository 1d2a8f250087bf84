//! ESTABLISHED: windows (RFC 9293 3.8.6, RFC 7323 section 2).

use crate::quiet;
use crate::support::*;

/// Handshake with windows of 64000 bytes in the SYNs and the given shift.
fn open_large(t: &mut Talk, a: Option<u8>, b: Option<u8>) {
    quiet!(t.a(syn().scale(a).wnd(64_000)));
    quiet!(t.b(syn_ack().scale(b).wnd(64_000)));
}

#[test]
fn data_to_the_edge_is_allowed_and_rounding_is_forgiven() {
    Talk::each_open(|t| {
        quiet!(t.a(data(1, 4000, 1)));
        quiet!(t.a(data(4001, 4000, 1)));
        // One unit of the receiver's shift.
        quiet!(t.a(data(8001, 8, 1)));
        assert_eq!(t.nxt(A), 8009);
    });
}

#[test]
fn data_beyond_the_window_moves_nothing_and_is_a_candidate() {
    Talk::each_open(|t| {
        quiet!(t.a(data(1, 4000, 1)));
        assert_eq!(t.a(data(4001, 6000, 1)), "A data_beyond_window");
        assert_eq!(t.nxt(A), 4001);
        // The receiver repeats itself: the segment was not accepted.
        quiet!(t.b(bare(1, 4001).wnd(500)));
        assert_eq!(t.wait(50).b(bare(1, 4001).wnd(500)), "A data_beyond_window!");
        assert_eq!(t.sync(A), "suspect");
    });
}

#[test]
fn a_lenient_receiver_takes_it_back() {
    Talk::each_open(|t| {
        quiet!(t.a(data(1, 4000, 1)));
        assert_eq!(t.a(data(4001, 6000, 1)), "A data_beyond_window");
        quiet!(t.b(bare(1, 10_001)));
        quiet!(t.a(data(10_001, 1000, 1)));
        quiet!(t.wait(50).b(bare(1, 11_001)));
        assert_eq!((t.hard, t.nxt(A)), (0, 11_001));
    });
}

/// The update that opened the window was missed, or had not arrived here.
#[test]
fn a_window_that_turns_out_to_be_open_takes_it_back() {
    Talk::each_open(|t| {
        quiet!(t.a(data(1, 4000, 1)));
        assert_eq!(t.a(data(4001, 6000, 1)), "A data_beyond_window");
        quiet!(t.b(bare(1, 4001)));
        assert_eq!(t.wait(50).b(bare(1, 4001)), "");
        assert_eq!((t.hard, t.fault(B).beyond_hits), (0, 0));
    });
}

#[test]
fn less_than_a_segment_too_much_stays_soft() {
    Talk::each_open(|t| {
        quiet!(t.a(data(1, 4000, 1)));
        assert_eq!(t.a(data(4001, 5000, 1)), "A data_beyond_window");
        quiet!(t.b(bare(1, 4001).wnd(500)));
        assert_eq!(t.wait(50).b(bare(1, 4001).wnd(500)), "A data_beyond_window");
        assert_eq!((t.hard, t.sync(A)), (0, "in_sync".into()));
    });
}

#[test]
fn a_segment_wholly_beyond_the_window() {
    Talk::each_open(|t| {
        assert_eq!(t.a(data(20_001, 1000, 1)), "A seq_beyond_window");
        assert_eq!(t.a(data(2_000_001, 1000, 1)), "A seq_jump");
        assert_eq!(t.nxt(A), 1);
        quiet!(t.a(data(1, 1000, 1)));
    });
}

#[test]
fn three_overruns_and_a_stall_are_a_desynchronisation() {
    Talk::each_open(|t| {
        quiet!(t.a(data(1, 4000, 1)));
        quiet!(t.b(bare(1, 4001)));
        for _ in 0..8 {
            t.wait(400).a(data(20_001, 4000, 1));
            t.wait(50).b(bare(1, 4001));
        }
        assert_eq!(t.sync(A), "desynced overrun");
    });
}

/// RFC 9293 3.8.6: a shrunk window is discouraged, but only stranded data makes it a fault.
#[test]
fn a_window_that_shrinks_without_data_in_flight_is_soft() {
    Talk::each_open(|t| {
        quiet!(t.b(bare(1, 1)));
        quiet!(t.a(data(1, 1000, 1)));
        assert_eq!(t.b(bare(1, 1001).wnd(100)), "B window_shrink");
        assert_eq!(t.wait(100).b(bare(1, 1001).wnd(100)), "B window_shrink");
        assert_eq!((t.hard, t.sync(A)), (0, "in_sync".into()));
    });
}

#[test]
fn a_window_withdrawn_from_data_in_flight_strands_it() {
    Talk::each_open(|t| {
        for i in 0..8 {
            quiet!(t.a(data(1 + 1000 * i, 1000, 1)));
        }
        assert_eq!(t.b(bare(1, 1001).wnd(100)), "B window_shrink");
        assert_eq!(t.b(bare(1, 2001).wnd(1)), "B window_shrink!");
        assert_eq!(t.sync(A), "suspect");
        for wait in [300, 600, 1200, 2400] {
            t.wait(wait).a(data(2001, 1000, 1));
            t.b(bare(1, 2001).wnd(1));
        }
        assert_eq!(t.sync(A), "desynced shrink");
    });
}

/// S04, S17: a full receiver closes its window below the edge that it had granted, and opens it again.
#[test]
fn a_window_that_closes_below_its_edge_is_soft() {
    Talk::each_open(|t| {
        for i in 0..8 {
            quiet!(t.a(data(1 + 1000 * i, 1000, 1)));
        }
        assert_eq!(t.b(bare(1, 2001).wnd(0)), "B window_shrink, B zero_window");
        for wait in [300, 600, 1200, 2400] {
            t.wait(wait).a(data(2001, 1000, 1));
            let said = t.b(bare(1, 2001).wnd(0));
            assert!(said.contains("B window_shrink") && !said.contains('!'), "{said}");
        }
        assert_eq!((t.hard, t.fault(B).shrink_hits), (0, 0));
        quiet!(t.b(bare(1, 8001)));
        assert_eq!(t.sync(A), "in_sync");
    });
}

#[test]
fn a_window_that_is_given_back_was_reordered() {
    Talk::each_open(|t| {
        for i in 0..8 {
            quiet!(t.a(data(1 + 1000 * i, 1000, 1)));
        }
        assert_eq!(t.b(bare(1, 1001).wnd(100)), "B window_shrink");
        quiet!(t.b(bare(1, 1001).wnd(1000)));
        assert_eq!(t.b(bare(1, 1001).wnd(100)), "B window_shrink");
        quiet!(t.b(bare(1, 2001).wnd(1000)));
        assert_eq!((t.hard, t.sync(A)), (0, "in_sync".into()));
    });
}

/// RFC 7323 2.4: the edge may retract by less than one unit of the shift.
#[test]
fn rounding_of_the_scale_is_no_shrinking() {
    Talk::each_open(|t| {
        quiet!(t.a(data(1, 1000, 1)));
        quiet!(t.b(bare(1, 1)));
        quiet!(t.b(bare(1, 8).wnd(999)));
        assert_eq!(t.edge(B), 8001);
    });
}

/// S40: the window scale was stripped from the SYN-ACK on its way; A does not scale, B believes that it does.
#[test]
fn a_window_that_collapses_after_the_syn() {
    Talk::each(|t| {
        open_large(t, Some(7), None);
        assert_eq!(t.a(bare(1, 1).wnd(502)), "A window_collapse_postsyn!");
        quiet!(t.a(bare(1, 1).wnd(502)));
        quiet!(t.b(data(1, 400, 1).wnd(64_000)));
        assert_eq!(t.sync(B), "desynced wscale");
        assert_eq!(t.edge(A), 503);
    });
}

#[test]
fn a_window_that_was_filled_did_not_collapse() {
    Talk::each(|t| {
        open_large(t, Some(0), Some(0));
        quiet!(t.b(data(1, 60_000, 1).wnd(64_000)));
        let said = t.a(bare(1, 60_001).wnd(4_000));
        assert!(!said.contains("collapse"), "{said}");
        assert_eq!(t.hard, 0);
    });
}

#[test]
fn no_collapse_without_the_option() {
    Talk::each(|t| {
        open_large(t, None, None);
        let said = t.a(bare(1, 1).wnd(502));
        assert!(!said.contains("collapse"), "{said}");
    });
}

#[test]
fn a_window_that_looks_unscaled_is_only_suspected() {
    Talk::each(|t| {
        open_large(t, Some(7), Some(7));
        assert_eq!(t.a(bare(1, 1).wnd(64_000)), "A window_unscaled_suspect");
        assert_eq!(t.hard, 0);
    });
}

#[test]
fn a_slow_reader_is_no_fault() {
    Talk::each_open(|t| {
        let mut at = 1;
        for _ in 0..5 {
            for i in 0..8 {
                quiet!(t.a(data(at + 1000 * i, 1000, 1)));
                let left = 7000 - 1000 * i;
                let said = t.b(bare(1, at + 1000 * (i + 1)).wnd((left / 8) as u16));
                assert_eq!(said, if left == 0 { "B zero_window" } else { "" });
            }
            at += 8000;
            assert_eq!(t.wait(3000).b(bare(1, at).wnd(0)), "B zero_window_stall");
            quiet!(t.wait(1000).b(bare(1, at)));
        }
        assert_eq!((t.hard, t.sync(A)), (0, "in_sync".into()));
    });
}

#[test]
fn a_segment_wholly_beyond_the_window_is_confirmed_as_such() {
    for (at, name) in [(20_001, "A seq_beyond_window"), (2_000_001, "A seq_jump")] {
        Talk::each_open(|t| {
            quiet!(t.a(data(1, 1000, 1)));
            quiet!(t.b(bare(1, 1001)));
            assert_eq!(t.a(data(at, 1000, 1)), name);
            assert_eq!(t.wait(50).b(bare(1, 1001)), format!("{name}!"));
            assert_eq!((t.sync(A), t.nxt(A)), ("suspect".into(), 1001));
        });
    }
}

/// A sender that goes on far below what was acknowledged: fresh by its timestamp or ID, so no copy of the network's.
#[test]
fn a_jump_far_down_is_another_number_space_where_it_is_fresh() {
    Talk::each_open(|t| {
        let mut at = 1;
        for _ in 0..30 {
            quiet!(t.a(data(at, 8_000, 1)));
            at += 8_000;
            quiet!(t.b(bare(1, at)));
        }
        assert_eq!(t.a(data(1, 1000, 1)), "A seq_jump!");
        assert_eq!((t.nxt(A), t.acked(B), t.sync(A)), (at, at, "suspect".into()));
    });
}

#[test]
fn a_copy_that_comes_late_is_soft() {
    Talk::each_open(|t| {
        let (mut at, first_ms) = (1, ((t.now_ns - START_NS) / MS) as u32 + 10);
        let id = if t.dir_a as u8 == t.dir(A) as u8 { 102 } else { 0 };
        for _ in 0..30 {
            quiet!(t.a(data(at, 8_000, 1)));
            at += 8_000;
            quiet!(t.b(bare(1, at)));
        }
        let said = t.a(data(1, 8_000, 1).ts(first_ms).ip_id(id));
        assert!(said.ends_with("A seq_jump") || said.contains("A seq_jump,"), "{said}");
        assert_eq!((t.hard, t.sync(A)), (0, "in_sync".into()));
    });
}

/// A's SYN-ACK lost its scale on the way to it: A does not scale, B (where this is seen) believes that it does. A's window
/// closes as its buffer fills, which taken with the scale is a retreat of megabytes (RFC 7323 section 2.2).
#[test]
fn a_suspected_window_that_falls_by_far_was_not_scaled() {
    Talk::each(|t| {
        open_large(t, Some(7), Some(7));
        assert_eq!(t.a(bare(1, 1).wnd(64_000)), "A window_unscaled_suspect");
        quiet!(t.b(data(1, 30_000, 1).wnd(63_000)));
        quiet!(t.b(data(30_001, 30_000, 1).wnd(63_000)));
        assert_eq!(t.a(bare(1, 30_001).wnd(4_000)), "A window_shrink");
        assert_eq!(t.a(bare(1, 60_001).wnd(2_000)), "A window_unscaled_suspect!");
        assert_eq!(t.sync(B), "desynced wscale");
        // Once; the edge is rebased.
        quiet!(t.a(bare(1, 60_001).wnd(1_900)));
    });
}

/// Equal by chance: a scaled window does not retreat when its buffer fills.
#[test]
fn a_suspected_window_that_moves_with_the_data_stays_soft() {
    Talk::each(|t| {
        open_large(t, Some(2), Some(2));
        assert_eq!(t.a(bare(1, 1).wnd(64_000)), "A window_unscaled_suspect");
        for i in 0..6 {
            quiet!(t.b(data(1 + 40_000 * i, 40_000, 1).wnd(63_000)));
            quiet!(t.a(bare(1, 1 + 40_000 * (i + 1)).wnd(64_000 - 10_000 * (i as u16 + 1))));
        }
        assert_eq!((t.hard, t.sync(B)), (0, "in_sync".into()));
    });
}
