//! What ends within the window field taken without its scale is acknowledged, what ends beyond never (RFC 7323 section
//! 2.3): something on the path drops by the unscaled window.

use super::seen;
use crate::diagnose::silent::{ATTEMPTS, stuck_at_end};
use crate::history::{History, Seen};
use monitor_common::Anomaly;
use monitor_common::flow::Direction;
use monitor_common::tracker::state::half;

/// Expected: the unscaled right edge; actual: the end of what is sent again and again.
pub fn rule(history: &History, speaker: Direction) -> Option<Seen> {
    let stuck = stuck_at_end(history, speaker).filter(|s| s.attempts >= ATTEMPTS)?;
    let (me, peer) = (history.half(speaker), history.half(speaker.other()));
    let fault = &history.connection.fault[speaker.index()];
    let scaled = history.connection.scale_known() && me.has(half::WSCALE) && peer.has(half::WSCALE) && peer.wscale > 0;
    if !scaled || history.connection.acked_over_raw(speaker) || me.has(half::END_UNCERTAIN) {
        return None;
    }
    // The SYN's window is not scaled anyway, so a window field that was never told another way proves nothing.
    let raw_edge = peer.ack.add(u32::from(peer.wnd));
    let end = peer.ack.add(fault.rexmit_len);
    let beyond = fault.rexmit_seq == peer.ack && end.after(raw_edge);
    // Something passed: the path itself was open.
    let passed = peer.ack.after(me.iss.add(1));
    (beyond && passed && peer.wnd > 0)
        .then(|| seen(Anomaly::WindowDependentLoss, speaker, stuck.last_try_ns, raw_edge.0, end.0))
}

#[cfg(test)]
mod tests {
    use crate::diagnose::dialogue::*;
    use crate::history::End;
    use monitor_common::Anomaly;

    /// S42: a window field of 79 and shift 7; ten writes of 20 bytes, of which three end within 79.
    pub fn small_writes(d: &mut Dialogue) {
        d.handshake();
        d.send(Client, data(1)).send(Server, ack().wnd(79));
        let una = d.snd_nxt(Client);
        for n in 0..10 {
            if n < 3 {
                d.send(Client, data(20));
            } else {
                d.send_lost(Client, data(20));
            }
        }
        d.send(Server, ack().wnd(79));
        // Linux sends the rest again as one segment.
        for gap in [200, 400, 800, 1600] {
            d.wait_ms(gap).send_lost(Client, data(140).seq(una + 60));
        }
    }

    #[test]
    fn what_ends_beyond_the_unscaled_window_and_never_arrives_is_noted() {
        everywhere(|d| {
            small_writes(d);
            let h = d.open(End::Silent);
            let s = h.seen(Anomaly::WindowDependentLoss).next().expect("it is noted");
            assert_eq!(s.speaker, d.direction(Client));
            assert_eq!(s.actual.wrapping_sub(s.expected), 140 - 79);
            assert!(!h.any(Anomaly::SizeDependentLoss));
        });
    }

    #[test]
    fn data_beyond_it_that_was_acknowledged_acquits_the_window() {
        everywhere(|d| {
            d.handshake().exchange(Client, 1);
            d.send(Server, ack().wnd(79)).exchange(Client, 1448).send(Server, ack().wnd(79)).exchange(Client, 10);
            let at = d.snd_nxt(Client);
            d.send_lost(Client, data(1448));
            for gap in [200, 400, 800, 1600] {
                d.wait_ms(gap).send_lost(Client, data(1448).seq(at));
            }
            assert!(!d.open(End::Silent).any(Anomaly::WindowDependentLoss));
        });
    }

    #[test]
    fn without_scaling_there_is_no_other_window() {
        everywhere(|d| {
            d.send(Client, syn().no_wscale()).send(Server, syn_ack().no_wscale()).send(Client, ack());
            d.send(Client, data(1)).send(Server, ack().wnd(79));
            let at = d.snd_nxt(Client);
            d.send_lost(Client, data(1448));
            for gap in [200, 400, 800, 1600] {
                d.wait_ms(gap).send_lost(Client, data(1448).seq(at));
            }
            assert!(!d.open(End::Silent).any(Anomaly::WindowDependentLoss));
        });
    }
}
