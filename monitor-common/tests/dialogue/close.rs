//! FIN-WAIT to TIME-WAIT (RFC 9293 3.6).

use crate::quiet;
use crate::support::*;
use monitor_common::engine;
use monitor_common::event::{Ended, why};
use monitor_common::segment::flags;
use monitor_common::tracker::state::half;

#[test]
fn an_orderly_close() {
    Talk::each_open(|t| {
        quiet!(t.a(data(1, 100, 1)));
        quiet!(t.b(bare(1, 101)));
        quiet!(t.a(fin(101, 1)));
        assert_eq!(t.phase(), "fin_wait");
        quiet!(t.b(bare(1, 102)));
        quiet!(t.b(fin(1, 102)));
        assert_eq!(t.phase(), "closing");
        quiet!(t.a(bare(102, 2)));
        assert_eq!(t.phase(), "time_wait");
        assert!(t.reported(why::CLOSE));
        assert_eq!(t.hard, 0);
    });
}

/// The report of an end in good order holds nothing of the connection but its TTLs; of one with which something was wrong, or that somebody
/// tried to reset, the whole state.
#[test]
fn only_an_end_in_good_order_is_told_by_itself() {
    let close = |t: &mut Talk| {
        t.a(fin(301, 1));
        t.b(fin(1, 302));
        t.a(bare(302, 2));
        assert!(t.reported(why::CLOSE));
        engine::ended_well(&t.c)
    };
    type Before = fn(&mut Talk);
    let cases: [(&str, bool, Before); 4] = [
        ("nothing wrong", true, |t| {
            quiet!(t.a(data(1, 300, 1)));
        }),
        ("a loss that was made good", true, |t| {
            t.a(data(1, 100, 1));
            t.a(data(201, 100, 1));
            t.b(bare(1, 101));
            t.wait(300).a(data(101, 100, 1));
            t.b(bare(1, 301));
        }),
        ("a RST out of the window", false, |t| {
            quiet!(t.a(data(1, 300, 1)));
            t.b(rst(900_000));
            assert_eq!(t.effect(), "out_of_window");
        }),
        ("bytes that nobody saw", false, |t| {
            t.a(data(1, 100, 1));
            t.a(data(201, 100, 1));
        }),
    ];
    for (what, in_order, before) in cases {
        Talk::each_open(|t| {
            before(t);
            assert_eq!(close(t), in_order, "{what}");
            let ended = Ended::of(&t.c, t.now_ns);
            let (dir, ttl) = (t.dir(A), t.half(A).ttl);
            assert_eq!((ended.key, ended.time_ns, ended.ttl[dir.index()]), (t.c.key, t.now_ns, ttl), "{what}");
            assert_eq!(ended.ttl_run, [t.c.half[0].ttl_run, t.c.half[1].ttl_run]);
        });
    }
}

#[test]
fn a_simultaneous_close() {
    Talk::each_open(|t| {
        quiet!(t.a(fin(1, 1)));
        quiet!(t.b(fin(1, 1)));
        quiet!(t.a(bare(2, 2)));
        quiet!(t.b(bare(2, 2)));
        assert_eq!(t.phase(), "time_wait");
    });
}

/// Data after the other end's FIN is legal.
#[test]
fn a_half_closed_connection_goes_on() {
    Talk::each_open(|t| {
        quiet!(t.a(fin(1, 1)));
        quiet!(t.b(bare(1, 2)));
        for i in 0..10 {
            quiet!(t.b(data(1 + 100 * i, 100, 2)));
            quiet!(t.a(bare(2, 101 + 100 * i)));
        }
        quiet!(t.b(fin(1001, 2)));
        quiet!(t.a(bare(2, 1002)));
        assert_eq!(t.phase(), "time_wait");
    });
}

#[test]
fn data_after_the_own_fin_proves_itself() {
    for seq in [1, 2, 50] {
        Talk::each_open(|t| {
            quiet!(t.a(fin(1, 1)));
            assert_eq!(t.a(data(seq, 100, 1)), "A data_after_own_fin!", "{seq}");
            assert_eq!(t.nxt(A), 2);
        });
    }
}

#[test]
fn data_retransmitted_together_with_the_fin_is_fine() {
    Talk::each_open(|t| {
        quiet!(t.a(data(1, 100, 1)));
        quiet!(t.a(fin(101, 1)));
        assert_eq!(t.wait(300).a(data(1, 100, 1).flags(flags::ACK | flags::FIN)), "A rexmit");
        quiet!(t.b(bare(1, 102)));
        assert_eq!(t.phase(), "fin_wait");
    });
}

/// The data before the FIN is lost: the FIN counts all the same.
#[test]
fn a_fin_behind_a_hole_is_a_fin() {
    Talk::each_open(|t| {
        quiet!(t.a(data(1, 100, 1)));
        assert_eq!(t.a(fin(201, 1)), "A seq_gap");
        assert_eq!(t.phase(), "fin_wait");
        quiet!(t.b(bare(1, 101)));
        assert_eq!(t.a(data(101, 100, 1)), "A rexmit");
        quiet!(t.b(bare(1, 202)));
        quiet!(t.b(fin(1, 202)));
        quiet!(t.a(bare(202, 2)));
        assert_eq!(t.phase(), "time_wait");
    });
}

#[test]
fn a_fin_far_outside_the_window_is_not_taken() {
    Talk::each_open(|t| {
        t.a(fin(900_001, 1));
        assert_eq!((t.phase(), t.nxt(A)), ("established", 1));
        quiet!(t.a(data(1, 100, 1)));
        t.a(fin(-900_000, 1));
        assert_eq!((t.phase(), t.nxt(A)), ("established", 101));
    });
}

/// A bare ACK between FIN and its acknowledgement may carry the FIN's number or the one after.
#[test]
fn bare_acks_after_the_own_fin() {
    Talk::each_open(|t| {
        quiet!(t.a(fin(1, 1)));
        for i in 0..5 {
            quiet!(t.b(data(1 + 100 * i, 100, 1)));
            quiet!(t.a(bare(1, 101 + 100 * i)));
            quiet!(t.a(bare(2, 101 + 100 * i)));
        }
        assert!(t.half(A).has(half::FIN));
        assert_eq!(t.hard, 0);
    });
}

/// Without its SYN the next connection on the same ports looks like that.
#[test]
fn data_after_the_own_fin_is_soft_in_the_middle_of_a_stream() {
    Talk::each(|t| {
        quiet!(t.a(data(1, 100, 1)));
        quiet!(t.b(bare(1, 101)));
        quiet!(t.a(fin(101, 1)));
        quiet!(t.b(fin(1, 102)));
        quiet!(t.a(bare(102, 2)));
        assert_eq!(t.a(data(2_001, 100, 1_002)), "A data_after_own_fin");
        assert_eq!(t.hard, 0);
    });
}
