//! Where packets are observed, and what a host that forwards them sees.

use crate::quiet;
use crate::support::*;
use monitor_common::engine::{Admission, admit};
use monitor_common::segment::flags;
use monitor_common::tracker::state::{Hook, half};

#[test]
fn a_forwarded_packet_counts_once() {
    let mut t = Talk::new([1, 2], true);
    let s = t.absolute(A, &data(1, 1, 1));
    let dir = t.dir(A);
    assert_eq!(admit(&mut t.c, dir, Hook::Ingress as u8, &s), Admission::Track);
    assert_eq!(admit(&mut t.c, dir, Hook::Forwarded as u8, &s), Admission::Duplicate);
    assert_eq!(admit(&mut t.c, dir, Hook::Ingress as u8, &s), Admission::Track);
    // The host's own packets to itself are not forwarded ones.
    assert_eq!(admit(&mut t.c, dir, Hook::Egress as u8, &s), Admission::Track);
}

#[test]
fn a_packet_that_bypasses_address_translation_is_marked() {
    let mut t = Talk::new([1, 2], true);
    let (plain, reset) = (t.absolute(B, &data(1, 1, 1)), t.absolute(B, &rst(1)));
    let dir = t.dir(B);
    assert_eq!(admit(&mut t.c, dir, Hook::Forwarded as u8, &plain), Admission::Track);
    assert_eq!(admit(&mut t.c, dir, Hook::Ingress as u8, &reset), Admission::Untranslated);
    assert!(t.half(B).has(half::UNTRANSLATED));
    // More than a stray answer: the first packet was only seen late.
    assert_eq!(admit(&mut t.c, dir, Hook::Ingress as u8, &plain), Admission::Track);
    assert_eq!(admit(&mut t.c, dir, Hook::Forwarded as u8, &plain), Admission::Duplicate);
}

#[test]
fn a_ttl_that_changes_is_noted_after_eight_equal_ones() {
    Talk::each_open(|t| {
        for i in 0..8 {
            t.b(data(1 + 10 * i, 10, 1));
        }
        assert_eq!(t.b(data(81, 10, 1).ttl(57)), "B ttl_shift");
    });
}

#[test]
fn an_ip_id_that_breaks_its_run_is_noted() {
    Talk::each_open(|t| {
        for i in 0..10 {
            t.b(data(1 + 10 * i, 10, 1));
        }
        assert_eq!(t.b(data(101, 10, 1).ip_id(3)), "B ipid_break");
    });
}

/// "In a row" means so.
#[test]
fn a_run_of_ip_ids_begins_again_after_a_break() {
    Talk::each_open_with(false, |t| {
        let mut at = 1;
        for id in [40_100, 7, 40_101, 9, 40_102, 11, 40_103, 13, 40_104, 15, 40_105, 40_106, 17, 40_107, 40_108, 19] {
            assert_eq!(t.b(data(at, 10, 1).ip_id(id)), "");
            at += 10;
        }
        assert!(t.half(B).id_run < 2);
    });
}

/// DIAGNOSIS 4.2 asks for three samples before it judges by the round trip; the handshake gives two.
#[test]
fn the_handshake_gives_a_round_trip_each_way() {
    Talk::each(|t| {
        t.a(syn());
        t.wait(30).b(syn_ack());
        t.wait(90).a(bare(1, 1));
        assert_eq!((t.half(A).rtt_min_us, t.half(A).rtt_samples), (40_000, 1));
        assert_eq!((t.half(B).rtt_min_us, t.half(B).rtt_samples), (100_000, 1));
        // A later, shorter one counts; the acknowledgement of what was sampled counts once.
        t.a(data(1, 100, 1));
        t.wait(10).b(bare(1, 101));
        t.b(bare(1, 101).wnd(999));
        assert_eq!((t.half(A).rtt_min_us, t.half(A).rtt_samples), (20_000, 2));
    });
}

/// Karn: which of two SYNs the SYN-ACK answers is not known.
#[test]
fn a_retransmitted_syn_gives_no_round_trip() {
    Talk::each(|t| {
        t.a(syn());
        assert_eq!(t.wait(1000).a(syn()), "A rexmit");
        t.b(syn_ack());
        assert_eq!(t.half(A).rtt_samples, 0);
        assert_eq!(t.b(syn_ack()), "B rexmit");
        t.a(bare(1, 1));
        assert_eq!(t.half(B).rtt_samples, 0);
        // The first data sent once gives one.
        t.a(data(1, 100, 1));
        t.b(bare(1, 101));
        assert_eq!((t.half(A).rtt_min_us, t.half(A).rtt_samples), (10_000, 1));
    });
}

#[test]
fn a_retransmission_gives_no_round_trip() {
    Talk::each_open(|t| {
        t.a(data(1, 100, 1));
        assert_eq!(t.wait(300).a(data(1, 100, 1)), "A rexmit");
        t.b(bare(1, 101));
        assert_eq!((t.half(A).rtt_samples, t.half(B).rtt_samples), (1, 1));
    });
}

#[test]
fn the_largest_segment_is_known_and_whether_it_arrived() {
    Talk::each_open(|t| {
        t.a(data(1, 100, 1));
        t.a(data(101, 500, 1));
        t.b(bare(1, 601));
        let small = (t.half(A).len_max, t.reach(A).len_max_before, t.rel(A, t.reach(A).len_max_end));
        assert_eq!(small, (500, 100, 601));
        // 1400 bytes never arrive: the acknowledgement stays below their end, all that arrived had at most 500.
        t.a(data(601, 1400, 1));
        t.a(data(2001, 1400, 1));
        t.b(bare(1, 601));
        t.wait(300).a(data(601, 1400, 1));
        let large = (t.half(A).len_max, t.reach(A).len_max_before, t.rel(A, t.reach(A).len_max_end));
        assert_eq!(large, (1400, 500, 2001));
        assert!(t.half(B).ack.before(t.reach(A).len_max_end));
        assert_eq!(t.half(B).len_max, 0);
    });
}

/// Windows of 1000 units of 8 bytes: an unscaled reading ends 1000 bytes beyond the acknowledgement.
#[test]
fn data_beyond_the_unscaled_window_is_known_to_arrive() {
    Talk::each_open(|t| {
        quiet!(t.b(bare(1, 1)));
        quiet!(t.a(data(1, 1000, 1)));
        quiet!(t.b(bare(1, 1001)));
        assert!(!t.c.acked_over_raw(t.dir(A)), "it ended at the limit");
        quiet!(t.a(data(1001, 1001, 1)));
        assert!(!t.c.acked_over_raw(t.dir(A)), "not acknowledged yet");
        quiet!(t.b(bare(1, 2002)));
        assert!(t.c.acked_over_raw(t.dir(A)) && !t.c.acked_over_raw(t.dir(B)));
        quiet!(t.a(data(2002, 10, 1)));
        assert!(t.half(A).has(half::ACKED_OVER_RAW));
    });
}

/// The retransmission may have been within the limit: nothing is learnt from it.
#[test]
fn a_retransmission_beyond_the_unscaled_window_tells_nothing() {
    Talk::each_open(|t| {
        quiet!(t.b(bare(1, 1)));
        quiet!(t.a(data(1, 900, 1)));
        quiet!(t.a(data(901, 900, 1)));
        quiet!(t.b(bare(1, 901)));
        assert_eq!(t.wait(300).a(data(901, 900, 1)), "A rexmit");
        quiet!(t.b(bare(1, 1801)));
        assert!(!t.c.acked_over_raw(t.dir(A)));
    });
}

/// Header prediction is for what makes up nearly all of a transfer: each `send` checks that it gives the same as the full
/// checks, here it has to be taken as well.
#[test]
fn all_of_a_transfer_is_predicted_from_the_first_segment_on() {
    for timestamps in [false, true] {
        let mut t = Talk::new([u32::MAX - 40_000, 7], true);
        t.timestamps = timestamps;
        t.open();
        for i in 0..400 {
            quiet!(t.send(A, data(1 + 1000 * i, 1000, 1 + 10 * i)));
            quiet!(t.send(B, data(1 + 10 * i, 10, 1001 + 1000 * i)));
        }
        assert_eq!(t.predicted, 3 + 2 * 400);
        // All but each end's first data: it is a first of its kind.
        assert_eq!(t.settled, (400 - 1) + (400 - 1));
    }
}

/// A transfer one way, with acknowledgements that carry nothing and windows that do not move while the reader sleeps.
#[test]
fn a_transfer_one_way_is_settled() {
    Talk::each_open(|t| {
        for i in 0..100 {
            quiet!(t.send(A, data(1 + 2000 * i, 1000, 1)));
            quiet!(t.send(A, data(1001 + 2000 * i, 1000, 1)));
            quiet!(t.send(B, bare(1, 2001 + 2000 * i)));
        }
        // Not A's first data, the second, which is the first beyond the unscaled window, and the third, which learns that it
        // arrived; nor B's first window.
        assert_eq!(t.settled, (200 - 3) + (100 - 1));
    });
}

/// What makes a connection unsettled is left to the general prediction or to the full checks, and it settles again.
#[test]
fn what_is_new_is_not_settled() {
    let settle = |t: &mut Talk| {
        for i in 0..20 {
            quiet!(t.send(A, data(1 + 100 * i, 100, 1 + 100 * i)));
            quiet!(t.send(B, data(1 + 100 * i, 100, 101 + 100 * i)));
        }
    };
    type Change = fn(Seg) -> Seg;
    let cases: [(&str, Change); 10] = [
        ("a longer segment", |s| Seg { len: 101, ..s }),
        ("FIN", |s| s.flags(flags::ACK | flags::FIN)),
        ("RST", |s| s.flags(flags::ACK | flags::RST)),
        ("another TTL", |s| s.ttl(63)),
        ("another source", |s| s.l2(7)),
        ("another TOS", |s| s.tos(0x40)),
        ("a zero window", |s| s.wnd(0)),
        ("a window that shrinks", |s| s.wnd(900)),
        ("an IPv4 ID that does not count", |s| s.ip_id(9)),
        ("a repetition", |s| Seg { seq: s.seq - 100, ..s }),
    ];
    for (what, change) in cases {
        Talk::each_open(|t| {
            settle(t);
            let before = t.settled;
            t.a(change(data(2001, 100, 2001)));
            assert_eq!(t.settled, before, "{what}");
        });
    }
    // A counter of IPv4 IDs that goes round.
    Talk::each_open(|t| {
        for i in 0..5u32 {
            quiet!(t.send(A, data(1 + 100 * i as i64, 100, 1).ip_id((65_533 + i) as u16)));
        }
        assert_eq!(t.settled, 5 - 2, "all but the first data and the one with zero");
    });
    // Zero as ever, which is what RFC 6864 allows.
    Talk::each(|t| {
        for (who, s) in [(A, syn()), (B, syn_ack()), (A, bare(1, 1))] {
            quiet!(t.send(who, s.ip_id(0)));
        }
        for i in 0..5 {
            quiet!(t.send(A, data(1 + 100 * i, 100, 1 + 100 * i).ip_id(0)));
            quiet!(t.send(B, data(1 + 100 * i, 100, 101 + 100 * i).ip_id(0)));
        }
        assert_eq!(t.settled, (5 - 1) + (5 - 1));
    });
    // Acknowledgements that repeat themselves and cannot be accepted leave a mark, which the next segment takes away.
    for seq in [1990, -100_000] {
        Talk::each_open(|t| {
            settle(t);
            t.wait(5_000).a(bare(seq, 2001));
            t.wait(5_000).a(bare(seq, 2001));
            assert!(t.half(A).has(half::REPEATED_BARE_ACK), "{seq}");
            t.wait(5_000).a(data(2001, 100, 2001));
            assert!(!t.half(A).has(half::REPEATED_BARE_ACK), "{seq}");
        });
    }
    Talk::each_open(|t| {
        settle(t);
        let before = t.settled;
        quiet!(t.a(data(2001, 100, 2001)));
        assert_eq!(t.settled, before + 1, "the same without a change");
        assert_eq!(t.wait(4_000_000).b(data(2001, 100, 2101)), "B idle_gap");
        assert_eq!(t.settled, before + 1, "after a long silence");
    });
}

/// Also of one whose handshake was not seen, before its scale is inferred and after; what changes what is known of it is
/// left to the full checks.
#[test]
fn nearly_all_of_a_transfer_seen_in_mid_stream_is_predicted() {
    for wnd in [500, 60_000] {
        let mut t = Talk::new([u32::MAX - 40_000, 7], true);
        t.timestamps = true;
        for i in 0..250 {
            quiet!(t.send(A, data(1 + 2000 * i, 1000, 1 + 10 * i)));
            quiet!(t.send(A, data(1001 + 2000 * i, 1000, 1 + 10 * i)));
            quiet!(t.send(B, data(1 + 10 * i, 10, 2001 + 2000 * i).wnd(wnd)));
            if i == 120 {
                t.predicted = 0;
            }
        }
        assert!(t.half(A).has(half::SCALE_INFERRED), "{wnd}");
        assert_eq!(t.predicted, 3 * 129);
    }
}

/// A mirror port shows each packet twice: the copy has the ID of the first and comes at once.
#[test]
fn the_same_packet_again_counts_once() {
    Talk::each_open(|t| {
        let say = |t: &mut Talk, who, s: Seg| {
            let first = t.send(who, s);
            let before = (t.c, t.recorder, t.hard);
            let segment = t.absolute(who, &s);
            t.tell(who, &segment, t.now_ns);
            assert!(t.notes.count == 0 && t.why == 0, "{:?}", t.notes);
            t.tell(who, &segment, t.now_ns + MS);
            assert_eq!((t.c, t.recorder, t.hard), before);
            first
        };
        assert_eq!(say(t, A, data(1, 100, 1).ip_id(500)), "");
        assert_eq!(say(t, B, bare(1, 101).ip_id(900)), "");
        assert_eq!(say(t, A, data(101, 100, 1).ip_id(501)), "");
        assert_eq!(say(t, A, data(101, 100, 1).ip_id(502)), "A rexmit");
        assert_eq!(say(t, B, bare(1, 101).ip_id(901)), "B dup_ack");
        let reset = t.send(B, rst_ack(1, 201).ip_id(902));
        let count = t.half(B).rst_count;
        let segment = t.absolute(B, &rst_ack(1, 201).ip_id(902));
        t.tell(B, &segment, t.now_ns);
        assert_eq!((reset, t.half(B).rst_count, t.why), (String::new(), count, 0));
    });
}

/// Later it is a repetition that the network kept, with another ID the sender's own, and where all packets have one ID
/// that one says nothing.
#[test]
fn what_is_not_the_same_packet_at_once_is_a_repetition() {
    Talk::each_open(|t| {
        quiet!(t.a(data(1, 100, 1).ip_id(500)));
        assert_eq!(t.wait(500).a(data(1, 100, 1).ip_id(500)), "A rexmit");
    });
    Talk::each_open(|t| {
        quiet!(t.a(data(1, 100, 1).ip_id(77)));
        quiet!(t.a(data(101, 100, 1).ip_id(77)));
        let segment = t.absolute(A, &data(101, 100, 1).ip_id(77));
        t.tell(A, &segment, t.now_ns);
        assert_eq!(t.words(), "A rexmit");
    });
    Talk::each_open(|t| {
        quiet!(t.a(data(1, 100, 1).ip_id(0)));
        let segment = t.absolute(A, &data(1, 100, 1).ip_id(0));
        t.tell(A, &segment, t.now_ns);
        assert_eq!(t.words(), "A rexmit");
    });
}

/// Of two headers that share a cache line of the recorder the first waits with the state; whatever the second is, both are in
/// it then. Each `send` checks that nothing is lost.
#[test]
fn of_two_headers_the_first_waits_with_the_state() {
    let seconds = [data(101, 50, 1), data(1, 100, 1), rst(101), rst(5_000), syn()];
    for second in seconds {
        Talk::each_open(|t| {
            let a = t.dir_a.index();
            // After SYN and acknowledgement.
            quiet!(t.a(data(1, 100, 1)));
            let first = t.live.recorder.record[a][2];
            assert!(t.live.c.half[a].staged != 0 && first.time_ns == 0);
            let (seq, now_ns) = (t.half(A).prev_seq, t.now_ns);
            t.a(second);
            let first = t.live.recorder.record[a][2];
            assert_eq!((t.live.c.half[a].staged, first.time_ns), (0, now_ns));
            assert_eq!((first.seq, first.payload_len, first.flags), (seq, 100, flags::ACK | flags::PSH));
            assert_eq!(t.live.recorder.record[a][3].time_ns, t.now_ns);
        });
    }
}
