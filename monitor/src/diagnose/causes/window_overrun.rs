//! A sender ignores the window (DIAGNOSIS 3.5 cause 7).

use crate::diagnose::desync::further_classes;
use crate::diagnose::view::View;
use crate::diagnose::words::{bytes, count};
use crate::diagnose::{Basis, Cause, Culprit, Judgement};
use monitor_common::tracker::state::{half, kind};

pub const CAUSE: Cause = Cause { name: "window_overrun", judge };

const BASE: u8 = 65;

fn judge(view: &View) -> Option<Judgement> {
    let d = view.desync.as_ref().filter(|d| d.kind == kind::OVERRUN)?;
    let receiver = d.data.other();
    if !view.history.connection.scale_known() || view.half(receiver).has(half::COLLAPSED) {
        return Some(Judgement::near(30, "certainty about the window scale, which only both SYNs give"));
    }
    Some(Judgement {
        culprit: Culprit::End(d.data),
        by_window: true,
        further_classes: further_classes(view.history, d),
        summary: format!(
            "{} sent {} beyond the window that {} had granted (its edge was {}), {} confirmed; {}.",
            view.who_first(d.data),
            bytes(d.distance.unsigned_abs()),
            view.who(receiver),
            view.number(d.data, d.expected),
            count(view.fault(receiver).beyond_hits.into(), "time"),
            view.ending(d),
        ),
        advice: "Check the sender's stack and offload engine; rule out that a device hides window updates or changes \
                 the window scale between the two."
            .into(),
        decisive: "data beyond the granted window that the receiver refused".into(),
        ..Judgement::new(Basis::Wire(BASE))
    })
}

#[cfg(test)]
mod tests {
    use crate::diagnose::dialogue::*;

    #[test]
    fn data_beyond_the_window_that_is_refused_is_the_senders_fault() {
        everywhere(|d| {
            d.send(Client, syn().no_wscale()).send(Server, syn_ack().no_wscale().wnd(4_000)).send(Client, ack());
            d.send(Client, data(100)).send(Server, ack().wnd(4_000));
            let una = d.snd_nxt(Client);
            d.send_lost(Client, data(1460)).send_lost(Client, data(1460));
            for _ in 0..5 {
                d.wait_ms(300).send_lost(Client, data(1460).seq(una + 20_000));
                d.wait_ms(30).send(Server, ack().acking(una).wnd(4_000));
            }
            d.wait_ms(1_000).send(Server, abort().acking(una));
            let v = d.verdict();
            expect(&v, "window_overrun", None, "client");
        });
    }
}
