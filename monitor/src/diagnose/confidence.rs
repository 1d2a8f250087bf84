//! How sure a verdict is (DIAGNOSIS 3.4): a base, what speaks for it besides, what speaks against it, and what the
//! observer could not see.

use super::view::View;
use super::{Basis, Judgement};

const KERNEL_AGREES: i32 = 10;
const FURTHER_CLASS: i32 = 5;
/// Classes that count beyond the first.
const FURTHER_CLASSES: u8 = 3;
const SAME_FAULT: i32 = 10;
/// Connections that show the same fault before it counts.
const FLOWS: u32 = 3;
pub const CONTRADICTION: i32 = 30;
const SCALE_INFERRED: i32 = 10;
const MID_STREAM: i32 = 15;
const ONE_WAY: i32 = 25;
const LOSSY: i32 = 20;
const LEAST: i32 = 5;
const MOST: i32 = 99;

pub fn confidence(view: &View, cause: &str, j: &Judgement) -> u8 {
    let (base, seen) = match j.basis {
        Basis::Wire(base) => (base, true),
        Basis::Inherent(base) | Basis::Kernel(base) => (base, false),
    };
    let mut score = i32::from(base);
    score += KERNEL_AGREES * i32::from(j.kernel_agrees);
    score += FURTHER_CLASS * i32::from(j.further_classes.min(FURTHER_CLASSES));
    score += SAME_FAULT * i32::from(is_shared(view, cause, j));
    score -= CONTRADICTION * j.contradictions.len() as i32;
    score -= SCALE_INFERRED * i32::from(j.by_window && view.scale_inferred());
    if seen {
        score -= MID_STREAM * i32::from(view.history.mid_stream());
        score -= ONE_WAY * i32::from(view.history.one_way());
        score -= LOSSY * i32::from(view.lossy());
    }
    score.clamp(LEAST, MOST) as u8
}

/// The same fault on several connections that share a peer, a port or a path.
fn is_shared(view: &View, cause: &str, j: &Judgement) -> bool {
    let same = view.history.surroundings.same_fault.as_ref();
    same.is_some_and(|s| s.flows >= FLOWS && s.cause == cause && s.variant.as_deref() == j.variant)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::dialogue::*;
    use crate::history::History;
    use crate::surroundings::SameFault;
    use monitor_common::tracker::state::conn;

    fn score(history: &History, j: &Judgement) -> u8 {
        confidence(&View::new(history), "abortive_close", j)
    }

    fn aborted(test: impl Fn(&mut History)) {
        everywhere(|d| {
            d.handshake().exchange(Client, 300).exchange(Server, 500).send(Server, abort());
            test(&mut d.history());
        });
    }

    #[test]
    fn what_speaks_for_it_adds_up() {
        aborted(|h| {
            let j =
                |further_classes| Judgement { further_classes, kernel_agrees: true, ..Judgement::new(Basis::Wire(50)) };
            assert_eq!([0, 1, 3, 9].map(|n| score(h, &j(n))), [60, 65, 75, 75]);
        });
    }

    #[test]
    fn contradictions_weigh_most_and_nothing_is_certain() {
        aborted(|h| {
            let against = |n: usize| Judgement {
                contradictions: vec![String::from("x"); n],
                ..Judgement::new(Basis::Kernel(98))
            };
            assert_eq!([0, 1, 2, 9].map(|n| score(h, &against(n))), [98, 68, 38, 5]);
            let j = Judgement { kernel_agrees: true, ..Judgement::new(Basis::Kernel(98)) };
            assert_eq!(score(h, &j), 99);
        });
    }

    #[test]
    fn what_was_not_seen_counts_against_packets_and_not_against_the_kernel() {
        aborted(|h| {
            h.connection.flags |= conn::MID_STREAM | conn::CAPTURE_LOSSY;
            h.connection.half[0].segments = 0;
            assert_eq!(score(h, &Judgement::new(Basis::Wire(80))), 20);
            assert_eq!(score(h, &Judgement::new(Basis::Kernel(80))), 80);
            assert_eq!(score(h, &Judgement::new(Basis::Inherent(80))), 80);
        });
    }

    #[test]
    fn the_same_fault_elsewhere_counts_for_the_same_verdict_only() {
        aborted(|h| {
            let fault = |cause: &str, flows| {
                let (cause, variant) = (cause.to_string(), None);
                Some(SameFault { cause, variant, flows, shared: "peer", since_ns: 0 })
            };
            let j = Judgement::new(Basis::Wire(60));
            h.surroundings.same_fault = fault("abortive_close", 3);
            assert_eq!(score(h, &j), 70);
            assert_eq!(score(h, &Judgement { variant: Some("admin"), ..j.clone() }), 60);
            h.surroundings.same_fault = fault("abortive_close", 2);
            assert_eq!(score(h, &j), 60);
            h.surroundings.same_fault = fault("port_closed", 3);
            assert_eq!(score(h, &j), 60);
        });
    }
}
