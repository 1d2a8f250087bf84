//! A collapse of the window after the handshake that is told by the state alone, where the anomalies are not at hand: the
//! report of a close in order carries none.

use super::seen;
use crate::diagnose::silent::trickles;
use crate::history::{History, Seen};
use monitor_common::Anomaly;
use monitor_common::flow::Direction;

/// Expected: the SYN's window; actual: the first one after it, scaled as the options seen here say.
pub fn rule(history: &History, speaker: Direction) -> Option<Seen> {
    let known = history.seen(Anomaly::WindowCollapsePostsyn).any(|s| s.speaker == speaker);
    if known || !trickles(&history.connection, speaker) {
        return None;
    }
    let scaled = history.first_window(speaker);
    let at_ns = history.connection.created_ns;
    Some(seen(Anomaly::WindowCollapsePostsyn, speaker, at_ns, history.reach(speaker).syn_wnd.into(), scaled))
}

#[cfg(test)]
mod tests {
    use crate::diagnose::dialogue::*;
    use crate::history::{End, History};
    use monitor_common::Anomaly;
    use monitor_common::evidence::Evidence;
    use monitor_common::recorder::Recorder;

    /// As a report without evidence gives it.
    fn brief(d: &Dialogue) -> History {
        let mut h = History::from_parts(d.connection(), &Evidence::default(), &Recorder::default());
        h.end = End::Closed;
        crate::derive::anomalies(&mut h);
        h
    }

    fn talk(d: &mut Dialogue, window: u16) {
        d.send(Client, syn()).send(Server, syn_ack().no_wscale().wnd(4_000)).send(Client, ack());
        for _ in 0..100 {
            d.send(Client, data(window.min(1448).into())).send(Server, ack().wnd(window));
        }
    }

    #[test]
    fn a_trickle_is_told_without_its_evidence() {
        everywhere(|d| {
            talk(d, 79);
            let h = brief(d);
            let s = h.seen(Anomaly::WindowCollapsePostsyn).next().expect("it is noted");
            assert_eq!((s.speaker, s.expected, s.actual, s.hard), (d.direction(Server), 4_000, 79, true));
        });
    }

    #[test]
    fn a_window_that_stays_wide_is_none() {
        everywhere(|d| {
            talk(d, 3_900);
            assert!(!brief(d).any(Anomaly::WindowCollapsePostsyn));
        });
    }
}
