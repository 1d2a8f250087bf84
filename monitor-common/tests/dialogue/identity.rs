//! In what a RST differs from its claimed sender's other packets (DIAGNOSIS 4.2), and what follows it (4.1).

use crate::quiet;
use crate::support::*;
use monitor_common::event::{identity, why};
use monitor_common::segment::{opt, packet};
use monitor_common::tracker::state::Hook;

/// B speaks eight times with IDs 40002 to 40009, from one address, with DF.
fn acquainted(t: &mut Talk) {
    for i in 0..8 {
        quiet!(t.b(data(1 + 10 * i, 10, 1).packet(packet::DF).l2(7)));
    }
    quiet!(t.a(bare(1, 81)));
}

/// What B's RST differs in, after `acquainted`.
fn bits(reset: Seg) -> u8 {
    let seen = std::cell::RefCell::new(Vec::new());
    Talk::each_open(|t| {
        acquainted(t);
        t.b(reset);
        seen.borrow_mut().push(t.notes.identity);
    });
    let seen = seen.into_inner();
    assert!(seen.windows(2).all(|w| w[0] == w[1]), "{seen:?}");
    seen[0]
}

/// An aborting socket goes on in its own series.
fn genuine() -> Seg {
    rst_ack(81, 1).packet(packet::DF).l2(7)
}

#[test]
fn a_reset_in_its_senders_series_differs_in_nothing() {
    assert_eq!(bits(genuine()), 0);
    // A segmentation-offload packet uses many IDs.
    assert_eq!(bits(genuine().ip_id(40_009 + 45)), 0);
}

#[test]
fn a_ttl_that_was_stable_differs_by_one() {
    assert_eq!(bits(genuine().ttl(63)), identity::TTL_DIFFERS);
    assert_eq!(bits(genuine().ttl(101)), identity::TTL_DIFFERS);
    Talk::each_open(|t| {
        quiet!(t.b(data(1, 10, 1)));
        t.b(rst_ack(11, 1).ttl(63));
        assert_eq!(t.notes.identity & identity::TTL_DIFFERS, 0, "one hop, on the strength of two packets");
        t.b(rst_ack(11, 1).ttl(62));
        assert_eq!(t.notes.identity & identity::TTL_DIFFERS, identity::TTL_DIFFERS);
    });
}

/// Linux sends a reply RST, and a SYN-ACK, with ID 0 and DF; an aborting socket uses its counter.
#[test]
fn an_id_of_zero_is_a_break_only_where_the_counter_should_go_on() {
    assert_eq!(bits(genuine().ip_id(0)), identity::ID_BREAK);
    assert_eq!(bits(genuine().ip_id(54_321)), identity::ID_BREAK);
    assert_eq!(bits(genuine().ip_id(40_009)), identity::ID_BREAK, "the last one's again");
    assert_eq!(bits(rst(81).packet(packet::DF).l2(7).ip_id(0)), 0);
    assert_eq!(bits(rst(81).packet(packet::DF).l2(7).ip_id(54_321)), identity::ID_BREAK);
}

/// Random IDs break no series.
#[test]
fn a_sender_whose_ids_do_not_increment_has_no_series() {
    Talk::each_open(|t| {
        for (i, id) in [9_000, 100, 30_000, 7, 50_000].into_iter().enumerate() {
            quiet!(t.b(data(1 + 10 * i as i64, 10, 1).ip_id(id)));
        }
        t.b(rst_ack(51, 1).ip_id(20_000));
        assert_eq!(t.notes.identity & identity::ID_BREAK, 0);
    });
}

#[test]
fn another_hardware_address_is_told() {
    assert_eq!(bits(genuine().l2(8)), identity::L2_DIFFERS);
    assert_eq!(bits(genuine().l2(0)), 0, "unknown here");
}

#[test]
fn df_tos_and_flow_label_belong_to_a_socket() {
    assert_eq!(bits(genuine().packet(0)), identity::LABEL_DIFFERS);
    assert_eq!(bits(genuine().tos(0x10)), identity::LABEL_DIFFERS);
    assert_eq!(bits(genuine().flow_label(0x12345)), identity::LABEL_DIFFERS);
    // ECN bits change from packet to packet (RFC 3168 section 5).
    assert_eq!(bits(genuine().tos(0x02)), 0);
    // A reply copies the TOS of what it answers, and has a flow label of its own.
    assert_eq!(bits(rst(81).packet(packet::DF).l2(7).tos(0x10).flow_label(9)), 0);
    assert_eq!(bits(rst(81).l2(7)), identity::LABEL_DIFFERS, "without DF");
}

/// A firewall on this host answers in the name of an end whose packets come in here.
#[test]
fn a_reset_that_never_came_in_was_made_here() {
    for (through, twin) in [(Hook::Egress, identity::NO_INGRESS_TWIN), (Hook::Forwarded, 0), (Hook::Ingress, 0)] {
        for fed_by in [Hook::Ingress, Hook::Forwarded, Hook::Egress] {
            Talk::each(|t| {
                t.hook[B as usize] = fed_by;
                t.open();
                quiet!(t.b(data(1, 10, 1)));
                t.hook[B as usize] = through;
                let reset = t.absolute(B, &rst_ack(11, 1));
                let dir = t.dir(B);
                let admitted = monitor_common::engine::admit(&mut t.c.clone(), dir, through as u8, &reset);
                if admitted != monitor_common::engine::Admission::Track {
                    return;
                }
                t.b(rst_ack(11, 1));
                let own = fed_by == Hook::Egress;
                assert_eq!(t.notes.identity & identity::NO_INGRESS_TWIN, if own { 0 } else { twin });
            });
        }
    }
}

#[test]
fn an_ordinary_segment_is_not_compared() {
    Talk::each_open(|t| {
        acquainted(t);
        t.b(data(81, 10, 1).ttl(9).l2(8));
        assert_eq!(t.notes.identity, 0);
    });
}

#[test]
fn another_hardware_address_is_noted_after_eight_equal_ones() {
    Talk::each_open(|t| {
        acquainted(t);
        assert_eq!(t.b(data(81, 10, 1).packet(packet::DF).l2(8)), "B l2_shift");
        quiet!(t.b(data(91, 10, 1).packet(packet::DF).l2(8)));
        // Two ways by turns, as bonding does, is no shift from anything.
        for i in 0..20 {
            quiet!(t.b(data(101 + 10 * i, 10, 1).packet(packet::DF).l2(7 + (i % 2) as u16)));
        }
        assert_eq!(t.hard, 0);
    });
}

/// A socket that sent a RST is gone; who speaks in its name then is the socket, and the RST was another's.
#[test]
fn the_first_three_segments_after_a_reset_are_reported() {
    Talk::each_open(|t| {
        acquainted(t);
        t.b(genuine().ttl(101).ip_id(1));
        assert_eq!((t.effect(), t.reset_reported()), ("exact", true));
        for i in 0..5 {
            t.wait(100).b(data(81 + 10 * i, 10, 1).packet(packet::DF).l2(7));
            assert_eq!(t.reported(why::AFTER_RESET), i < 3, "{i}");
            assert_eq!(t.notes.identity, 0, "in its own series");
            assert_eq!(t.notes.after_reset, u8::from(i < 3));
        }
        // Of the other end, which sent no RST, nothing of the kind.
        t.a(bare(1, 131));
        assert!(!t.reported(why::AFTER_RESET));
        // A RST among them is no sign of life.
        t.b(rst(131));
        assert!(!t.reported(why::AFTER_RESET));
    });
}

#[test]
fn what_comes_long_after_a_reset_is_not_reported_as_its_sequel() {
    Talk::each_open(|t| {
        acquainted(t);
        t.b(genuine());
        t.wait(2_000).b(data(81, 10, 1));
        assert!(!t.reported(why::AFTER_RESET));
    });
}

#[test]
fn an_ineffective_reset_has_no_sequel() {
    Talk::each_open(|t| {
        acquainted(t);
        t.b(rst(1_000_081));
        assert_eq!(t.effect(), "out_of_window");
        t.b(data(81, 10, 1));
        assert!(!t.reported(why::AFTER_RESET));
    });
}

/// A SYN of the same end is the next life.
#[test]
fn a_new_life_has_no_reset_behind_it() {
    Talk::each_open(|t| {
        acquainted(t);
        t.b(genuine());
        t.iss[1] = t.iss[1].wrapping_add(1_000_000);
        t.b(syn());
        assert_eq!((t.lives, t.reported(why::AFTER_RESET)), (2, false));
        assert_eq!(t.reach(B).rst_ns, 0);
    });
}

/// RFC 2385 section 2, RFC 5925 section 7.4: who has a key for the other end takes nothing unsigned.
#[test]
fn an_unsigned_reset_of_a_signed_connection_is_ignored() {
    Talk::each(|t| {
        quiet!(t.a(syn().options(opt::AUTH)));
        quiet!(t.b(syn_ack().options(opt::AUTH)));
        quiet!(t.a(bare(1, 1).options(opt::AUTH)));
        quiet!(t.b(data(1, 100, 1).options(opt::AUTH)));
        quiet!(t.b(rst_ack(101, 1)));
        assert_eq!((t.effect(), t.phase()), ("unsigned", "established"));
        assert!(t.reset_reported());
        quiet!(t.b(rst_ack(101, 1).options(opt::AUTH)));
        assert_eq!((t.effect(), t.phase()), ("exact", "reset"));
    });
}

/// A closed port has no key to sign its RST with (Linux `tcp_v4_send_reset`), so the attempt times out.
#[test]
fn an_unsigned_refusal_of_a_signed_syn_is_ignored() {
    Talk::each(|t| {
        quiet!(t.a(syn().options(opt::AUTH)));
        quiet!(t.b(Seg { seq: -(t.iss[1] as i64), ..rst_ack(0, 1) }));
        assert_eq!((t.effect(), t.phase()), ("unsigned", "syn_sent"));
    });
}

/// Only the sender's view is there: its own signature says that the other end has the key, too.
#[test]
fn a_reset_is_not_unsigned_where_its_receiver_does_not_sign() {
    Talk::each_open(|t| {
        quiet!(t.b(data(1, 100, 1)));
        quiet!(t.a(bare(1, 101)));
        quiet!(t.b(rst_ack(101, 1)));
        assert_eq!(t.effect(), "exact");
    });
}
