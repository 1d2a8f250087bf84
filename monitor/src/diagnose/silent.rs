//! Connections that end without a RST: a sender retransmits, or probes a closed window, until its kernel gives up
//! (RFC 9293 3.8.3, RFC 6298 section 5). Linux says nothing on the wire then; only the silence tells.
//!
//! What is still going on is no end. A capture that merely stops while a retransmission is due must not be taken for
//! one, so the bar is what came after the last attempt, or so many attempts that nobody waits any more.

use crate::history::History;
use monitor_common::Anomaly;
use monitor_common::flow::Direction;
use monitor_common::tracker::state::{Connection, Phase, half, sync_state};
use monitor_common::tracker::{MS, SECOND, stall_ns};

/// Retransmissions of one left edge that are more than bad luck.
pub const ATTEMPTS: u8 = 3;
/// So many that a user has given up, if not the stack: the fifth comes six seconds after the first at the earliest.
pub const MANY_ATTEMPTS: u8 = 5;
/// Probes of a closed window that show a sender waiting.
const PROBES: u8 = 2;
/// Linux' longest time-out, TCP_RTO_MAX, and some more: the next probe would have come by then.
const LONGEST_WAIT_NS: u64 = 130 * SECOND;
/// A window that has stayed this far below the SYN's, and data that trickles through it.
const TRICKLE: u32 = 4;
/// Segments before the size of an average one means anything.
const ENOUGH_SEGMENTS: u32 = 16;

/// A sender whose oldest byte is never acknowledged, however often it sends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stuck {
    pub sender: Direction,
    /// Retransmissions at growing intervals.
    pub attempts: u8,
    /// When it last sent something new.
    pub since_ns: u64,
    pub last_try_ns: u64,
}

/// Whether `sender` is stuck at the end.
pub fn stuck(c: &Connection, sender: Direction) -> Option<Stuck> {
    let (me, peer) = (&c.half[sender.index()], &c.half[sender.other().index()]);
    let fault = &c.fault[sender.index()];
    let at_una = peer.has(half::ACKED) && peer.ack == fault.rto_seq && me.snd_nxt.after(peer.ack);
    (fault.rto_streak > 0 && at_una).then_some(Stuck {
        sender,
        attempts: fault.rto_streak,
        since_ns: me.data_ns,
        last_try_ns: fault.rto_ns,
    })
}

/// As [`stuck`], also where the sender has new data to send meanwhile: what it sends late does not free it.
pub fn stuck_at_end(history: &History, sender: Direction) -> Option<Stuck> {
    let c = &history.connection;
    let (me, peer) = (&c.half[sender.index()], &c.half[sender.other().index()]);
    let fault = &c.fault[sender.index()];
    let una = peer.ack;
    if !peer.has(half::ACKED) || fault.rto_seq != una || !me.snd_nxt.after(una) {
        return None;
    }
    let backoff = history.seen(Anomaly::RtoBackoff).find(|s| s.speaker == sender && s.expected == una.0);
    match (stuck(c, sender), backoff) {
        (Some(s), _) if s.since_ns <= s.last_try_ns => Some(s),
        // The first note is of the third retransmission.
        (_, Some(b)) => Some(Stuck {
            sender,
            attempts: b.count.saturating_add(2).min(u32::from(u8::MAX)) as u8,
            since_ns: b.first_ns.min(fault.rto_ns),
            last_try_ns: fault.rto_ns,
        }),
        (s, None) => s,
    }
}

/// Whether `receiver`'s window is closed and the other end asks again and again.
pub fn closed_window(c: &Connection, receiver: Direction) -> bool {
    c.half[receiver.index()].has(half::ZERO_WINDOW) && c.fault[receiver.other().index()].probes >= PROBES
}

/// Whether `receiver`'s window collapsed after the handshake, stayed so, and the data trickled ever since: the scale is
/// wrong, and the connection lives with it (RFC 7323 section 2.2).
pub fn trickles(c: &Connection, receiver: Direction) -> bool {
    let (me, peer) = (&c.half[receiver.index()], &c.half[receiver.other().index()]);
    let said = &c.reach[receiver.index()];
    if !me.has(half::COLLAPSED) || !me.has(half::ACKED) {
        return false;
    }
    let window = me.edge_cur.distance(me.ack).max(0) as u32;
    let average = peer.bytes / u64::from(peer.segments.max(1));
    let mss = u64::from(said.mss.max(536));
    window < u32::from(said.syn_wnd) / TRICKLE
        && peer.segments >= ENOUGH_SEGMENTS
        && average < mss / u64::from(TRICKLE)
        && peer.bytes > 4 * mss
}

/// As [`trickles`], for so much data that it matters also where nobody gave up.
pub fn lives_with_it(c: &Connection, receiver: Direction) -> bool {
    trickles(c, receiver) && c.half[receiver.other().index()].bytes > u64::from(c.reach[receiver.index()].syn_wnd)
}

/// Whether a connection that leaves the observer's sight without a RST is worth a look: it is out of sync, or somebody
/// waits for something.
pub fn is_worth_an_end(c: &Connection) -> bool {
    if c.half.iter().any(|h| h.has(half::RST)) || c.phase() == Phase::TimeWait {
        // Reported when it happened.
        return false;
    }
    let both = [Direction::Forward, Direction::Reverse];
    let unsound = |s: u8| s == sync_state::DESYNCED || s == sync_state::SUSPECT;
    c.fault.iter().any(|f| unsound(f.sync.state))
        || both
            .into_iter()
            .any(|d| stuck(c, d).is_some_and(|s| s.attempts >= ATTEMPTS) || closed_window(c, d) || lives_with_it(c, d))
}

/// Whether it is over, as far as an observer can tell that watched until `until_ns`.
pub fn is_over(c: &Connection, until_ns: u64) -> bool {
    let quiet_ns = until_ns.saturating_sub(c.last_ns());
    let given_up = |d: Direction| {
        let waiting = stuck(c, d).is_some_and(|s| {
            let next_ns = 2 * u64::from(c.fault[d.index()].rto_gap_us) * (MS / 1_000) + SECOND;
            s.attempts >= MANY_ATTEMPTS || s.attempts >= ATTEMPTS && quiet_ns > next_ns
        });
        let parted =
            c.fault[d.index()].sync.state == sync_state::DESYNCED && quiet_ns > 2 * stall_ns(&c.half[d.index()]);
        waiting || parted
    };
    given_up(Direction::Forward) || given_up(Direction::Reverse) || quiet_ns > LONGEST_WAIT_NS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::dialogue::*;

    /// `n` retransmissions at Linux' intervals; returns the last interval.
    fn retransmit(d: &mut Dialogue, n: u32) -> u64 {
        d.handshake().exchange(Server, 500).exchange(Client, 300);
        let at = d.snd_nxt(Client);
        d.send_lost(Client, data(600));
        let mut gap = 200;
        for _ in 0..n {
            d.wait_ms(gap).send_lost(Client, data(600).seq(at));
            gap *= 2;
        }
        gap / 2
    }

    #[test]
    fn one_or_two_retransmissions_are_nothing() {
        everywhere(|d| {
            retransmit(d, 2);
            assert!(!is_worth_an_end(d.connection()));
        });
    }

    #[test]
    fn a_capture_that_stops_while_one_is_due_shows_no_end() {
        everywhere(|d| {
            let last = retransmit(d, 3);
            assert!(is_worth_an_end(d.connection()));
            assert!(!is_over(d.connection(), d.now_ns()));
            assert!(!is_over(d.connection(), d.now_ns() + 2 * last * MS));
            assert!(is_over(d.connection(), d.now_ns() + 2 * last * MS + 1_500 * MS));
        });
    }

    #[test]
    fn after_many_nobody_waits() {
        everywhere(|d| {
            retransmit(d, 5);
            assert!(is_over(d.connection(), d.now_ns()));
        });
    }

    #[test]
    fn an_acknowledgement_frees_the_sender() {
        everywhere(|d| {
            retransmit(d, 5);
            let all = d.snd_nxt(Client);
            d.send(Server, ack().acking(all));
            assert!(!is_worth_an_end(d.connection()));
        });
    }

    /// An idle connection in order never ends this way, however long the silence.
    #[test]
    fn silence_alone_is_not_worth_a_look() {
        everywhere(|d| {
            d.handshake().exchange(Client, 300).exchange(Server, 500).wait_ms(10_000_000);
            assert!(!is_worth_an_end(d.connection()));
        });
    }

    #[test]
    fn a_clean_close_was_reported_when_it_happened() {
        everywhere(|d| {
            d.handshake().exchange(Client, 300);
            d.send(Server, fin()).send(Client, fin()).send(Server, ack());
            assert!(!is_worth_an_end(d.connection()));
        });
    }
}
