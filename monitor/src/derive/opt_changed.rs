//! The options of a handshake as seen here contradict what the end does afterwards: a device changed them on the way
//! (RFC 7323 sections 2.2 and 3.2, RFC 2018 section 2).

use super::seen;
use crate::history::{History, Seen};
use monitor_common::Anomaly;
use monitor_common::flow::Direction;
use monitor_common::tracker::state::{Half, half};

/// Segments without the option that was agreed: one may come from elsewhere.
const MISSING: u32 = 3;

/// Expected and actual: those of the contradiction. `speaker` is the end that does not do what its SYN, as seen here,
/// says.
pub fn rule(history: &History, speaker: Direction) -> Option<Seen> {
    if !history.connection.scale_known() {
        return None;
    }
    let me = history.half(speaker);
    let contradiction = [Anomaly::WindowCollapsePostsyn, Anomaly::TsMissing].into_iter().find_map(|a| {
        history.seen(a).find(|s| s.speaker == speaker && (a != Anomaly::TsMissing || s.count >= MISSING))
    });
    if let Some(s) = contradiction {
        return Some(seen(Anomaly::OptChanged, speaker, s.first_ns, s.expected, s.actual));
    }
    // It selects what the other end never said it would understand.
    let peer: &Half = history.half(speaker.other());
    let unasked = me.has(half::SACK_RIGHT) && !peer.has(half::SACK_PERMITTED);
    let fault = &history.connection.fault[speaker.index()];
    unasked.then(|| seen(Anomaly::OptChanged, speaker, me.ack_ns, me.ack.0, fault.sack_right.0))
}

#[cfg(test)]
mod tests {
    use crate::diagnose::dialogue::*;
    use crate::history::End;
    use monitor_common::Anomaly;

    #[test]
    fn a_window_that_collapses_after_the_handshake_contradicts_its_options() {
        everywhere(|d| {
            d.send(Client, syn()).send(Server, syn_ack().no_wscale()).send(Client, ack());
            d.send(Client, data(1448)).send(Server, ack().wnd(79));
            let h = d.open(End::Open);
            let of_server = |s: &&crate::history::Seen| s.speaker == d.direction(Server);
            let s = h.seen(Anomaly::OptChanged).find(of_server).expect("it is noted");
            assert_eq!((s.expected, s.actual, s.hard), (64_240, 79, false));
        });
    }

    #[test]
    fn an_end_that_keeps_to_its_options_is_in_order() {
        everywhere(|d| {
            d.handshake().exchange(Client, 1000).exchange(Server, 1000);
            assert!(!d.open(End::Open).any(Anomaly::OptChanged));
        });
    }
}
