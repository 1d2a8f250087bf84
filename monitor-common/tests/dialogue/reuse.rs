//! One 4-tuple, several connections (RFC 9293 3.6.1, RFC 6191, RFC 5961 section 4).

use crate::quiet;
use crate::support::*;

const NEXT: i64 = 900_000;

fn next_syn() -> Seg {
    Seg { seq: NEXT, ..syn() }
}

/// The next life of the flow: numbers of A from 900000, of B from 700000.
fn next_life(t: &mut Talk) {
    quiet!(t.b(Seg { seq: 700_000, ack: NEXT + 1, ..syn_ack() }));
    quiet!(t.a(bare(NEXT + 1, 700_001)));
    for i in 0..3 {
        quiet!(t.a(data(NEXT + 1 + 100 * i, 100, 700_001)));
        quiet!(t.b(bare(700_001, NEXT + 101 + 100 * i)));
    }
    assert_eq!((t.phase(), t.c.incarnation, t.nxt(B)), ("established", t.lives as u16 - 1, 700_001));
    assert_eq!((t.sync(A), t.sync(B)), ("in_sync".into(), "in_sync".into()));
}

fn use_it(t: &mut Talk) {
    quiet!(t.a(data(1, 500, 1)));
    quiet!(t.b(data(1, 500, 501)));
    quiet!(t.a(bare(501, 501)));
}

#[test]
fn after_an_orderly_close() {
    Talk::each_open(|t| {
        use_it(t);
        quiet!(t.a(fin(501, 501)));
        quiet!(t.b(fin(501, 502)));
        quiet!(t.a(bare(502, 502)));
        assert_eq!(t.phase(), "time_wait");
        quiet!(t.wait(5000).a(next_syn()));
        assert_eq!((t.lives, t.phase()), (2, "syn_sent"));
        next_life(t);
        assert!(t.c.scale_known());
    });
}

#[test]
fn after_a_reset() {
    Talk::each_open(|t| {
        use_it(t);
        quiet!(t.b(rst(501)));
        quiet!(t.a(next_syn()));
        assert_eq!(t.lives, 2);
        next_life(t);
        assert!(t.c.scale_known());
    });
}

#[test]
fn opened_by_the_other_end_the_second_time() {
    Talk::each_open(|t| {
        use_it(t);
        quiet!(t.b(rst(501)));
        quiet!(t.b(next_syn()));
        quiet!(t.a(Seg { seq: 700_000, ack: NEXT + 1, ..syn_ack() }));
        quiet!(t.b(bare(NEXT + 1, 700_001)));
        assert_eq!((t.phase(), t.lives, t.c.initiator), ("established", 2, t.dir(B) as u8));
    });
}

/// The other end has forgotten the old connection (restart), so it answers.
#[test]
fn in_established_and_answered() {
    Talk::each_open(|t| {
        use_it(t);
        assert_eq!(t.a(next_syn()), "A syn_in_established");
        assert_eq!(t.lives, 1);
        next_life(t);
        assert_eq!(t.lives, 2);
    });
}

/// S29: the other end still holds it: challenge ACK, RST at that number, another SYN.
#[test]
fn in_established_and_challenged() {
    Talk::each_open(|t| {
        use_it(t);
        assert_eq!(t.a(next_syn()), "A syn_in_established");
        quiet!(t.b(bare(501, 501)));
        assert_eq!((t.nxt(A), t.phase()), (501, "established"));
        quiet!(t.a(rst(501)));
        assert_eq!((t.effect(), t.phase(), t.lives), ("exact", "reset", 1));
        quiet!(t.wait(1000).a(next_syn()));
        assert_eq!(t.lives, 2);
        next_life(t);
    });
}

/// An injected or late SYN must not disturb the connection.
#[test]
fn in_established_and_ignored() {
    Talk::each_open(|t| {
        use_it(t);
        assert_eq!(t.a(next_syn()), "A syn_in_established");
        quiet!(t.b(bare(501, 501)));
        quiet!(t.a(data(501, 100, 501)));
        quiet!(t.b(data(501, 100, 601)));
        quiet!(t.a(bare(601, 601)));
        assert_eq!((t.lives, t.nxt(A), t.nxt(B)), (1, 601, 601));
    });
}

#[test]
fn a_syn_ack_that_answers_nothing_begins_nothing() {
    Talk::each_open(|t| {
        use_it(t);
        t.b(Seg { seq: 700_000, ack: NEXT + 1, ..syn_ack() });
        assert_eq!((t.lives, t.nxt(B), t.hard), (1, 501, 0));
    });
}

/// DIAGNOSIS 0: without it port reuse gave false `ack_too_old` and `ts_missing`.
#[test]
fn nothing_is_carried_over() {
    Talk::each_open(|t| {
        use_it(t);
        // Candidates, holes, a suspicion.
        quiet!(t.b(bare(501, 50_001)));
        t.a(data(1_001, 100, 501));
        t.b(bare(501, 501).sack(9, 5));
        quiet!(t.a(rst(501)));
        t.timestamps = false;
        quiet!(t.wait(100).a(Seg { seq: NEXT, ..next_syn() }));
        let mut fresh = Talk::new(t.iss, t.dir_a as u8 == 0);
        fresh.timestamps = false;
        fresh.now_ns = t.now_ns - 10 * MS;
        quiet!(fresh.a(next_syn()));
        fresh.c.incarnation = 1;
        // But where each end is observed.
        fresh.c.half[t.dir(B).index()].fed_by = 1;
        fresh.c.half[t.dir(A).index()].ip_id = t.half(A).ip_id;
        assert_eq!(t.c, fresh.c);
    });
}
