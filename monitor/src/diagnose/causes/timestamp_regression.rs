//! Timestamps run backwards and the receiver discards everything as old (DIAGNOSIS 3.5 cause 9, RFC 7323 section 5).

use crate::diagnose::desync::further_classes;
use crate::diagnose::view::View;
use crate::diagnose::words::count;
use crate::diagnose::{Basis, Cause, Culprit, Judgement};
use monitor_common::Anomaly;
use monitor_common::tracker::state::kind;

pub const CAUSE: Cause = Cause { name: "timestamp_regression", judge };

const BASE: u8 = 70;

fn judge(view: &View) -> Option<Judgement> {
    let d = view.desync.as_ref().filter(|d| d.kind == kind::PAWS)?;
    // Another path or another host behind the address would explain another clock.
    let moved = [Anomaly::TtlShift, Anomaly::IpidBreak]
        .iter()
        .any(|a| view.history.seen(*a).any(|s| s.speaker == d.data && s.last_ns >= d.first_ns));
    let ticks = d.expected.distance(d.actual);
    Some(Judgement {
        culprit: if moved { Culprit::Middlebox } else { Culprit::End(d.data) },
        further_classes: further_classes(view.history, d),
        summary: format!(
            "The timestamps of {} ran backwards by {ticks} ticks (from {} to {}), so {} discarded {} as old duplicates; \
             {}.",
            view.who(d.data),
            d.expected.0,
            d.actual.0,
            view.who(d.data.other()),
            count(view.fault(d.data).ts_regress_hits.into(), "segment"),
            view.ending(d),
        ),
        advice: "Check whether the flow moved to another machine behind the same address (NAT pool, L4 load balancer, \
                 VM migration); the receiver's counter PAWSEstab confirms."
            .into(),
        decisive: "timestamps that go back on new data".into(),
        ..Judgement::new(Basis::Wire(BASE))
    })
}

#[cfg(test)]
mod tests {
    use crate::diagnose::dialogue::*;

    /// S50: the client's timestamps go back by 100000.
    #[test]
    fn timestamps_that_run_backwards_are_discarded_as_old() {
        everywhere(|d| {
            d.handshake();
            for i in 0..10 {
                d.send(Client, data(1000).tsval(1_000_000 + i)).send(Server, ack());
            }
            let una = d.snd_nxt(Client);
            for i in 0..5 {
                d.wait_ms(600).send_lost(Client, data(1000).tsval(900_000 + i)).send(Server, ack().acking(una));
            }
            d.send(Client, abort().tsval(900_010));
            let v = d.verdict();
            expect(&v, "timestamp_regression", None, "client");
            assert!(v.summary.contains("ran backwards by 1000"), "{}", v.summary);
        });
    }
}
