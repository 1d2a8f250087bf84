//! A RST that its receiver must challenge or ignore (RFC 5961 section 3.2): not the end of the connection, and no
//! cause of one. Whether somebody tried to end it is for the tests of DIAGNOSIS 4.

use super::Verdict;
use super::forged::{INJECTED, Variant};
use super::shape::ResetView;
use super::view::View;
use super::words::bytes;
use crate::finding::{Considered, band};
use monitor_common::segment::flags;
use monitor_common::tracker::close::Effect;
use monitor_common::tracker::state::{Phase, half};

pub const NAME: &str = "rst_ineffective";
/// That it took no effect follows from the numbers seen both ways.
const BASE: u8 = 90;
/// A stray number alone is weak evidence of an attempt; a late or duplicated RST looks the same.
const ATTEMPT: u8 = 30;
/// A sweep shows that somebody guesses, not who.
const BLIND: u8 = 60;

pub fn verdict(view: &View, reset: &ResetView) -> Verdict {
    let receiver = reset.sender.other();
    let expected = view.half(receiver).ack;
    let off = reset.seq().distance(expected);
    let known = view.half(receiver).has(half::ACKED);
    let place = match off {
        _ if !known => "where its receiver cannot expect it".to_string(),
        0.. => format!("{} beyond what {} expects next", bytes(off as u64), view.who(receiver)),
        _ => format!("{} below what {} expects next", bytes(u64::from(off.unsigned_abs())), view.who(receiver)),
    };
    let fate = match reset.effect {
        Effect::InWindow => "inside the window but not exact, so a conforming receiver answers with a challenge ACK",
        _ => "outside the window, so a conforming receiver ignores it",
    };
    let mut confidence = BASE;
    if view.lossy() || view.history.mid_stream() {
        confidence -= 20;
    }
    // A closed socket answers what was under way with the numbers of that moment; the other end has moved on since.
    let closing = matches!(view.history.phase, Phase::FinWait | Phase::Closing | Phase::TimeWait);
    let late_answer = closing && reset.record.flags & flags::ACK == 0;
    let (consequence, advice) = if late_answer {
        ("The connection is being closed anyway: the RST answers a segment that crossed the close.", "Nothing to do.")
    } else {
        (
            "The connection goes on.",
            "Nothing broke. Repeated ones with scattered numbers are a blind attack or a device with a stale idea of the \
             connection: compare the RST's TTL and IP-ID with those of its claimed sender.",
        )
    };
    let tests = view.forged.as_ref();
    let blind = tests.is_some_and(|a| a.variant == Variant::Blind);
    let attempt = match tests {
        Some(a) => Considered {
            cause: "rst_injected".into(),
            confidence: a.score.max(ATTEMPT),
            why_not: format!("it took no effect; that somebody tried is shown by this: {}", a.tests()),
        },
        None => Considered {
            cause: "rst_injected".into(),
            confidence: ATTEMPT,
            why_not:
                "one stray number is no proof: several scattered ones, another TTL or IP-ID series, or data of the \
                      claimed sender afterwards would be"
                    .into(),
        },
    };
    let not_its_own = tests.is_some_and(|a| a.score >= INJECTED);
    let (variant, culprit, culprit_confidence) = match () {
        () if blind => (Some("blind"), "third_party", BLIND.min(confidence)),
        () if not_its_own => (tests.map(|a| a.variant.name()), "middlebox", BLIND.min(confidence)),
        () if late_answer => (None, "none", confidence),
        () => (None, "unknown", 5),
    };
    let attempted = match tests.filter(|_| blind || not_its_own) {
        Some(a) => format!(" It is an attempt of somebody else: {}.", a.tests()),
        None => String::new(),
    };
    Verdict {
        cause: NAME,
        variant,
        culprit,
        culprit_confidence,
        confidence,
        band: band(confidence),
        mechanism: view.mechanism(),
        desync: view.desync,
        also_considered: if late_answer && tests.is_none() { Vec::new() } else { vec![attempt] },
        contradictions: Vec::new(),
        summary: format!(
            "A RST that claims to come from {} carries {}, {place}: {fate} (RFC 5961 section 3.2). {consequence}{attempted}",
            view.who(reset.sender),
            view.number(reset.sender, reset.seq()),
        ),
        advice: advice.into(),
    }
}

#[cfg(test)]
mod tests {
    use crate::diagnose::diagnose;
    use crate::diagnose::dialogue::*;

    /// S35: five RSTs 100 off.
    #[test]
    fn a_rst_inside_the_window_but_not_exact_is_challenged() {
        everywhere(|d| {
            d.handshake().exchange(Client, 300).exchange(Server, 500);
            let at = d.snd_nxt(Server) + 100;
            for _ in 0..5 {
                d.wait_ms(40).send(Server, reply(at));
            }
            for history in &d.histories {
                let v = diagnose(history);
                expect(&v, "rst_ineffective", Some("blind"), "third_party");
                assert!(v.summary.contains("100 bytes beyond"), "{}", v.summary);
                assert_eq!(v.desync, None);
            }
            // The connection lives on and may end as any other.
            d.exchange(Client, 100).send(Server, abort());
            assert_eq!(d.verdict().cause, "close_with_unread_data");
        });
    }

    /// S53: a stale RST, 4552 below.
    #[test]
    fn a_stale_rst_is_ignored() {
        everywhere(|d| {
            d.handshake().exchange(Client, 300);
            for _ in 0..10 {
                d.exchange(Server, 1448);
            }
            let at = d.snd_nxt(Server) - 4552;
            d.send(Server, reply(at));
            let v = d.verdict();
            expect(&v, "rst_ineffective", None, "unknown");
            assert!(v.summary.contains("4552 bytes below"), "{}", v.summary);
        });
    }

    /// The receiver's kernel knows better than the numbers seen here.
    #[test]
    fn a_rst_that_the_receivers_kernel_took_is_effective() {
        everywhere(|d| {
            d.handshake().exchange(Client, 300).exchange(Server, 500);
            d.send(Server, abort().seq(d_nxt(d) + 100));
            let mut history = d.history();
            assert_eq!(diagnose(&history).cause, "rst_ineffective");
            history.kernel.push(d.fact("tcp_receive_reset", Client, "none", false, 1));
            assert_ne!(diagnose(&history).cause, "rst_ineffective");
            // On the sender's own host the tracepoint means nothing (trap b).
            history.kernel[0].local = d.direction(Server);
            assert_eq!(diagnose(&history).cause, "rst_ineffective");
        });
    }

    fn d_nxt(d: &Dialogue) -> u32 {
        d.snd_nxt(Server)
    }
}
