//! What a RST looks like and how it therefore came to exist (DIAGNOSIS 3.1).

use crate::history::{End, History, KernelFact};
use monitor_common::flow::Direction;
use monitor_common::recorder::{Record, TIMESTAMPS};
use monitor_common::segment::flags;
use monitor_common::seq::SeqNum;
use monitor_common::tracker::SECOND;
use monitor_common::tracker::close::Effect;
use monitor_common::tracker::state::half;

/// The header of a RST against the numbers of its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// RST+ACK inside what its sender has sent and not had acknowledged: an end's own decision.
    Active,
    /// RST alone whose number an acknowledgement of the other end asked for (RFC 9293 3.10.7.1, ACK bit on).
    ReplyToAck,
    /// RST+ACK with number 0: the answer to a segment without ACK (same section, ACK bit off).
    ReplyToNoAck,
    Other,
}

impl Shape {
    pub fn name(self) -> &'static str {
        match self {
            Shape::Active => "active",
            Shape::ReplyToAck => "reply_to_ack",
            Shape::ReplyToNoAck => "reply_to_noack",
            Shape::Other => "other",
        }
    }

    pub fn is_reply(self) -> bool {
        matches!(self, Shape::ReplyToAck | Shape::ReplyToNoAck)
    }
}

/// How the RST came to exist. Not why: see the head of DIAGNOSIS, decision 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    ActiveAbort,
    ReplyToAck,
    ReplyToNoAck,
    /// An end's own decision, in a form that Linux does not give it.
    ForeignAbort,
    /// A packet filter made it in an end's name.
    NetfilterReject,
    /// It did not come from whom it claims to come from.
    Forged,
    /// The end fell silent.
    TimeoutNoRst,
    /// There was no end yet, or a clean one.
    None,
    Unknown,
}

impl Mechanism {
    pub fn name(self) -> &'static str {
        match self {
            Mechanism::ActiveAbort => "active_abort",
            Mechanism::ReplyToAck => "reply_to_ack",
            Mechanism::ReplyToNoAck => "reply_to_noack",
            Mechanism::ForeignAbort => "foreign_abort",
            Mechanism::NetfilterReject => "netfilter_reject",
            Mechanism::Forged => "forged",
            Mechanism::TimeoutNoRst => "timeout_no_rst",
            Mechanism::None => "none",
            Mechanism::Unknown => "unknown",
        }
    }

    pub fn is_abort(self) -> bool {
        matches!(self, Mechanism::ActiveAbort | Mechanism::ForeignAbort)
    }

    pub fn is_reply(self) -> bool {
        matches!(self, Mechanism::ReplyToAck | Mechanism::ReplyToNoAck)
    }
}

/// How long after a RST another one may be its echo, and how long after its trigger a reply may come: ECHO of
/// DIAGNOSIS 0, max(2 s, 4 RTT).
pub fn echo_ns(history: &History) -> u64 {
    let rtt_us = history.connection.half.iter().map(|h| u64::from(h.rtt_min_us)).max().unwrap_or(0);
    (2 * SECOND).max(4_000 * rtt_us)
}

/// The RST that ended a connection, or tried to.
#[derive(Clone, Copy, Debug)]
pub struct ResetView {
    /// The address that it carries, not necessarily who made it.
    pub sender: Direction,
    pub record: Record,
    pub effect: Effect,
    /// It took the connection down.
    pub effective: bool,
    pub shape: Shape,
    pub mechanism: Mechanism,
    /// The segment of the other end that a reply answers: the latest that acknowledges its number.
    pub trigger: Option<Record>,
}

impl ResetView {
    pub fn of(history: &History) -> Option<ResetView> {
        let End::Reset { sender, record, effect, number } = history.end else { return None };
        let shape = shape(history, sender, &record);
        let trigger = triggers(history, sender, &record).last();
        // The receiver's kernel took it, whatever the numbers look like from here, unless an earlier RST did it.
        // The same tracepoint fires on a host that sends a RST itself (DIAGNOSIS 3.2, trap b): only the receiver's counts.
        let received = history.kernel.iter().any(|f| f.source == "tcp_receive_reset" && f.local == sender.other());
        let first = number <= 1 && !history.half(sender.other()).has(half::RST);
        let effective = effect.is_effective() || received && first;
        let mechanism = mechanism(history, sender, &record, shape);
        Some(ResetView { sender, record, effect, effective, shape, mechanism, trigger })
    }

    pub fn seq(&self) -> SeqNum {
        self.record.seq
    }
}

/// Segments of the other end that a RST alone may answer, oldest first.
pub fn triggers(history: &History, sender: Direction, rst: &Record) -> impl Iterator<Item = Record> {
    let window = echo_ns(history);
    let (seq, at, alone) = (rst.seq, rst.time_ns, rst.flags & flags::ACK == 0);
    history.records.iter().filter(move |r| r.speaker == sender.other()).map(|r| r.record).filter(move |r| {
        r.flags & (flags::RST | flags::ACK) == flags::ACK
            && alone
            && r.ack == seq
            && r.time_ns <= at
            && at - r.time_ns <= window
    })
}

pub fn shape(history: &History, sender: Direction, rst: &Record) -> Shape {
    let me = history.half(sender);
    let peer = history.half(sender.other());
    if rst.flags & flags::ACK == 0 {
        return if triggers(history, sender, rst).next().is_some() { Shape::ReplyToAck } else { Shape::Other };
    }
    let knows_own = me.has(half::SEEN);
    if rst.seq == SeqNum(0) && !(knows_own && me.snd_nxt == SeqNum(0)) {
        return Shape::ReplyToNoAck;
    }
    if !knows_own {
        return Shape::Other;
    }
    // Linux numbers an active RST with SND.NXT, or with the edge when the window was withdrawn (tcp_acceptable_seq);
    // other stacks use SND.UNA. What lies between is this sender's own in any case.
    let from = if peer.has(half::ACKED) { peer.ack } else { me.snd_nxt };
    if rst.seq.at_or_after(from) && rst.seq.at_or_before(me.snd_nxt) { Shape::Active } else { Shape::Other }
}

/// What the sender's own kernel said of this RST. An abort may meet segments that were under way, and each draws an answer:
/// the tracepoint of that may even fire first, because Linux traces an abort after it was sent. Only an answer has a
/// trigger segment.
pub fn said<'a>(history: &'a History, sender: Direction, rst: &Record) -> Option<&'a KernelFact> {
    let answers = rst.flags & flags::ACK == 0 || rst.seq == SeqNum(0);
    let of_sender = || history.kernel.iter().filter(|f| f.source == "tcp_send_reset" && f.local == sender);
    of_sender().find(|f| f.has_trigger == answers).or_else(|| of_sender().next())
}

fn mechanism(history: &History, sender: Direction, rst: &Record, shape: Shape) -> Mechanism {
    // The sender's own kernel knows. Without a trigger segment it decided by itself.
    let said = said(history, sender, rst);
    if said.is_some_and(|f| !f.has_trigger) && rst.flags & flags::ACK != 0 {
        return Mechanism::ActiveAbort;
    }
    let me = history.half(sender);
    match shape {
        Shape::ReplyToAck => Mechanism::ReplyToAck,
        Shape::ReplyToNoAck => Mechanism::ReplyToNoAck,
        Shape::Active => {
            let both_stamp = history.connection.half.iter().all(|h| h.has(half::TIMESTAMPS));
            let stamp_missing = both_stamp && rst.options & TIMESTAMPS == 0;
            let window_gone = rst.wnd == 0 && me.wnd != 0;
            if window_gone && (stamp_missing || !both_stamp) { Mechanism::ForeignAbort } else { Mechanism::ActiveAbort }
        }
        // A RST alone at its sender's own SND.NXT that nothing provoked.
        Shape::Other if me.has(half::SEEN) && rst.seq == me.snd_nxt => Mechanism::ForeignAbort,
        Shape::Other => Mechanism::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::dialogue::*;

    fn reset(d: &Dialogue) -> ResetView {
        ResetView::of(&d.history()).expect("it ends with a RST")
    }

    #[test]
    fn an_abort_is_active() {
        everywhere(|d| {
            d.handshake().exchange(Client, 300).send(Server, abort());
            let r = reset(d);
            assert_eq!((r.shape, r.mechanism, r.effective), (Shape::Active, Mechanism::ActiveAbort, true));
        });
    }

    /// DIAGNOSIS 3.1: with the window withdrawn the number is the edge, not SND.NXT.
    #[test]
    fn an_abort_at_a_withdrawn_edge_is_active() {
        everywhere(|d| {
            d.handshake().send(Client, data(1000));
            let una = d.snd_nxt(Client);
            d.send(Server, ack()).send_lost(Client, data(1000)).send_lost(Client, data(1000));
            d.send(Client, abort().seq(una + 1000));
            assert_eq!(reset(d).shape, Shape::Active);
        });
    }

    #[test]
    fn an_answer_carries_what_was_acknowledged() {
        everywhere(|d| {
            d.handshake().exchange(Client, 300).exchange(Server, 500);
            let expected = d.snd_nxt(Server);
            d.send(Client, data(7)).send(Server, reply(expected));
            let r = reset(d);
            assert_eq!((r.shape, r.mechanism), (Shape::ReplyToAck, Mechanism::ReplyToAck));
            assert_eq!(r.trigger.unwrap().payload_len, 7);
        });
    }

    /// Nothing provoked it: some stacks abort with a RST alone.
    #[test]
    fn a_lone_rst_long_after_the_last_segment_is_a_foreign_abort() {
        everywhere(|d| {
            d.handshake().exchange(Client, 300).exchange(Server, 500).wait_ms(30_000);
            let nxt = d.snd_nxt(Server);
            d.send(Server, reply(nxt));
            let r = reset(d);
            assert_eq!((r.shape, r.mechanism), (Shape::Other, Mechanism::ForeignAbort));
        });
    }

    /// S04: what was under way when the client aborted draws an answer, which its kernel may trace first.
    #[test]
    fn of_two_reasons_the_one_that_fits_the_shape_counts() {
        everywhere(|d| {
            d.handshake().exchange(Server, 500).exchange(Client, 300).send(Client, abort());
            for order in [[0, 1], [1, 0]] {
                let mut history = d.history();
                let facts = [
                    d.fact("tcp_send_reset", Client, "NO_SOCKET", true, 0),
                    d.fact("tcp_send_reset", Client, "TCP_STATE", false, 7),
                ];
                history.kernel.extend(order.map(|i: usize| facts[i].clone()));
                let v = crate::diagnose::diagnose(&history);
                expect(&v, "abortive_close", None, "client");
                assert_eq!((v.confidence, v.mechanism), (95, Mechanism::ActiveAbort));
            }
        });
    }

    #[test]
    fn a_refusal_has_number_zero() {
        everywhere(|d| {
            d.send(Client, syn()).send(Server, refuse());
            assert_eq!(reset(d).shape, Shape::ReplyToNoAck);
        });
    }

    #[test]
    fn the_kernel_says_whether_there_was_a_trigger() {
        everywhere(|d| {
            d.handshake().exchange(Client, 300).send(Server, abort().wnd(0).seq(5));
            let mut history = d.history();
            assert_eq!(ResetView::of(&history).unwrap().mechanism, Mechanism::Unknown);
            history.kernel.push(d.fact("tcp_send_reset", Server, "TCP_STATE", false, 7));
            assert_eq!(ResetView::of(&history).unwrap().mechanism, Mechanism::ActiveAbort);
        });
    }
}
