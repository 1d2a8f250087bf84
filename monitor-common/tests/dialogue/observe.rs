//! Where packets are observed, and what a host that forwards them sees.

use crate::support::*;
use monitor_common::engine::{Admission, admit};
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
