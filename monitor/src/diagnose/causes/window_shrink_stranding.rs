//! A receiver takes back window that is already in use (DIAGNOSIS 3.5 cause 8).

use crate::diagnose::desync::{flight_size, further_classes};
use crate::diagnose::view::View;
use crate::diagnose::words::bytes;
use crate::diagnose::{Basis, Cause, Culprit, Judgement};
use monitor_common::tracker::state::kind;

pub const CAUSE: Cause = Cause { name: "window_shrink_stranding", judge };

const BASE: u8 = 65;

fn judge(view: &View) -> Option<Judgement> {
    let d = view.desync.as_ref().filter(|d| d.kind == kind::SHRINK)?;
    let receiver = d.data.other();
    Some(Judgement {
        culprit: Culprit::End(receiver),
        by_window: true,
        further_classes: further_classes(view.history, d),
        summary: format!(
            "{} took back {} of window: its right edge went from {} to {} with {} in flight, and the data beyond became \
             unacceptable; {}.",
            view.who_first(receiver),
            bytes(d.distance.unsigned_abs()),
            view.number(d.data, d.expected),
            view.short(d.data, d.actual),
            bytes(flight_size(view.half(d.data), view.half(receiver)).into()),
            view.ending(d),
        ),
        advice: "Check the receiver: buffer tuning at run time, memory pressure (drop reasons PROTO_MEM and \
                 TCP_ZEROWINDOW), or a proxy that resizes windows (RFC 9293 section 3.8.6 forbids shrinking)."
            .into(),
        decisive: "a right edge that moved back below data in flight".into(),
        ..Judgement::new(Basis::Wire(BASE))
    })
}

#[cfg(test)]
mod tests {
    use crate::diagnose::dialogue::*;

    /// S49: window 20000 -> 2000 with 14600 in flight, and a reset 1.6 s later.
    #[test]
    fn a_window_taken_back_strands_data_in_flight() {
        everywhere(|d| {
            d.send(Client, syn().no_wscale()).send(Server, syn_ack().no_wscale()).send(Client, ack());
            d.send(Client, data(100)).send(Server, ack().wnd(20_000));
            let una = d.snd_nxt(Client);
            for _ in 0..10 {
                d.send_lost(Client, data(1460));
            }
            d.send(Server, ack().acking(una + 1460).wnd(2_000)).send(Server, ack().acking(una + 1460).wnd(2_000));
            for gap in [200, 400, 800] {
                d.wait_ms(gap).send_lost(Client, data(1460).seq(una + 1460));
                d.send(Server, ack().acking(una + 1460).wnd(2_000));
            }
            d.wait_ms(200).send(Server, abort().acking(una + 1460));
            let v = d.verdict();
            expect(&v, "window_shrink_stranding", None, "server");
            assert!(v.confidence >= 55);
        });
    }
}
