//! A bare ACK that answers a SYN, a RST or data outside the window and says where its sender stands (RFC 5961 sections
//! 3 to 5): what a receiver that lives does with what it cannot accept.

use super::seen;
use crate::history::{History, Recorded, Seen};
use monitor_common::Anomaly;
use monitor_common::flow::Direction;
use monitor_common::segment::flags;
use monitor_common::tracker::MS;
use monitor_common::tracker::state::half;

/// A receiver answers at once; the rest is the way.
const PROMPT_NS: u64 = 10 * MS;

/// Expected: the number that the challenger expects; actual: that of the segment that it challenges.
pub fn rule(history: &History, speaker: Direction) -> Option<Seen> {
    let (me, peer) = (history.half(speaker), history.half(speaker.other()));
    if !me.has(half::ACKED) {
        return None;
    }
    let within_ns = PROMPT_NS.max(u64::from(peer.rtt_min_us) * 2_000);
    let mut found: Option<Seen> = None;
    // What followed the reset at hand is there as well, where it was heard.
    let later = history.later.segments.iter().map(|f| Recorded { speaker: f.speaker, record: f.record });
    let all: Vec<Recorded> = history.records.iter().copied().chain(later).collect();
    for (i, r) in all.iter().enumerate() {
        if r.speaker != speaker.other() || !provokes(r) {
            continue;
        }
        let before = all[..i].iter().rev().find(|o| o.speaker == speaker);
        let answer = all[i + 1..].iter().find(|o| o.speaker == speaker);
        let (Some(before), Some(answer)) = (before, answer) else { continue };
        let (old, new) = (&before.record, &answer.record);
        if old.flags & flags::SYN != 0 {
            // The handshake itself.
            continue;
        }
        let bare = new.payload_len == 0 && new.flags & (flags::SYN | flags::FIN | flags::RST) == 0;
        let says_the_same = new.ack == old.ack && new.seq == old.seq.add(old.payload_len + syn_fin(old.flags));
        if bare && says_the_same && new.time_ns.saturating_sub(r.record.time_ns) <= within_ns {
            match &mut found {
                Some(s) => (s.count, s.last_ns) = (s.count + 1, new.time_ns),
                None => {
                    found = Some(seen(Anomaly::ChallengeAck, speaker, new.time_ns, new.ack.0, r.record.seq.0));
                }
            }
        }
    }
    found
}

/// A SYN without ACK or a RST: what must be challenged. A repeated SYN-ACK is, too.
fn provokes(r: &Recorded) -> bool {
    r.record.flags & (flags::SYN | flags::RST) != 0
}

fn syn_fin(f: u16) -> u32 {
    u32::from(f & flags::SYN != 0) + u32::from(f & flags::FIN != 0)
}

#[cfg(test)]
mod tests {
    use crate::diagnose::dialogue::*;
    use crate::history::End;
    use monitor_common::Anomaly;

    /// S35: a RST 100 off is challenged.
    #[test]
    fn a_rst_that_is_not_exact_and_its_challenge_are_noted() {
        everywhere(|d| {
            d.handshake().exchange(Client, 300).exchange(Server, 500).exchange(Server, 500);
            let nxt = d.snd_nxt(Server);
            d.wait_ms(500).send(Server, reply(nxt + 100)).send(Client, ack());
            let h = d.open(End::Open);
            let s = h.seen(Anomaly::ChallengeAck).next().expect("it is noted");
            assert_eq!((s.speaker, s.expected), (d.direction(Client), d.absolute(Server, nxt)));
            assert_eq!(s.actual, d.absolute(Server, nxt + 100));
        });
    }

    #[test]
    fn an_acknowledgement_of_data_or_one_long_after_is_none() {
        everywhere(|d| {
            d.handshake().exchange(Client, 300).exchange(Server, 500);
            let nxt = d.snd_nxt(Server);
            d.send(Server, reply(nxt + 100)).wait_ms(3_000).send(Client, ack());
            d.exchange(Server, 100);
            assert!(!d.open(End::Open).any(Anomaly::ChallengeAck));
        });
    }
}
