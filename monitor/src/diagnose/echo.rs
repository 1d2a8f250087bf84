//! Whether a RST is the consequence of an earlier one (DIAGNOSIS 3.3 step 2).

use super::shape::{self, echo_ns};
use crate::history::{End, History};
use monitor_common::flow::Direction;
use monitor_common::seq::SeqNum;

/// The first accepted RST of a connection, as much of it as telling its echoes needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FirstReset {
    pub sender: Direction,
    pub seq: SeqNum,
    pub time_ns: u64,
}

impl FirstReset {
    /// Of the history of the first RST that took effect; none for any other end.
    pub fn of(history: &History) -> Option<FirstReset> {
        let reset = super::shape::ResetView::of(history).filter(|r| r.effective)?;
        Some(FirstReset { sender: reset.sender, seq: reset.seq(), time_ns: reset.record.time_ns })
    }
}

/// Whether the RST that ends `history` belongs to `first` rather than being a finding of its own: the same number
/// again from the same sender, at any time; or an answer to what was still under way, from either end, within
/// max(2 s, 4 RTT). A dead socket answers each late segment (79 times in one observed flow), and the end that
/// aborted answers what the other sent before it knew.
pub fn is_echo(history: &History, first: &FirstReset) -> bool {
    let End::Reset { sender, record, .. } = history.end else { return false };
    if sender == first.sender && record.seq == first.seq {
        return true;
    }
    let soon = record.time_ns.saturating_sub(first.time_ns) <= echo_ns(history);
    soon && shape::shape(history, sender, &record).is_reply()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::dialogue::*;

    fn is_echo_of_first(d: &Dialogue) -> bool {
        let first = FirstReset::of(&d.first_history()).expect("the first RST is effective");
        is_echo(&d.history(), &first)
    }

    /// The server aborts; the client's data that was under way meets no socket.
    #[test]
    fn answers_to_data_under_way_are_echoes_of_the_abort() {
        everywhere(|d| {
            d.handshake().exchange(Client, 300).exchange(Server, 500).send(Server, abort());
            let acked = d.snd_nxt(Server);
            for _ in 0..3 {
                d.send(Client, data(1000).acking(acked)).send(Server, reply(acked));
                assert!(is_echo_of_first(d));
            }
        });
    }

    /// A victim of a forged RST answers what its real peer goes on sending (79 times in S51).
    #[test]
    fn answers_of_the_other_end_are_echoes() {
        everywhere(|d| {
            d.handshake().exchange(Client, 300).exchange(Server, 500).send(Server, abort());
            let acked = d.snd_nxt(Client);
            d.send(Server, data(1000)).send(Client, reply(acked));
            assert!(is_echo_of_first(d));
        });
    }

    #[test]
    fn the_same_number_again_is_an_echo_at_any_time() {
        everywhere(|d| {
            d.handshake().exchange(Client, 300).exchange(Server, 500).send(Server, abort());
            d.wait_ms(30_000).send(Server, abort());
            assert!(is_echo_of_first(d));
        });
    }

    #[test]
    fn another_ends_own_abort_or_a_late_answer_is_none() {
        everywhere(|d| {
            d.handshake().exchange(Client, 300).exchange(Server, 500).send(Server, abort()).send(Client, abort());
            assert!(!is_echo_of_first(d));
        });
        everywhere(|d| {
            d.handshake().exchange(Client, 300).exchange(Server, 500).send(Server, abort());
            let acked = d.snd_nxt(Client);
            d.wait_ms(60_000).send(Server, data(1000)).send(Client, reply(acked));
            assert!(!is_echo_of_first(d));
        });
    }

    #[test]
    fn a_close_is_no_first_reset_and_no_echo() {
        everywhere(|d| {
            d.handshake().exchange(Client, 300);
            d.send(Server, fin()).send(Client, fin()).send(Server, ack());
            assert_eq!(FirstReset::of(&d.history()), None);
            let first = FirstReset { sender: d.direction(Client), seq: SeqNum(0), time_ns: 0 };
            assert!(!is_echo(&d.history(), &first));
        });
    }
}
