//! The ends, or a device between them, disagree about window scaling (DIAGNOSIS 3.5 cause 4).

use crate::diagnose::desync::further_classes;
use crate::diagnose::view::View;
use crate::diagnose::{Basis, Cause, Culprit, Judgement};
use monitor_common::Anomaly;
use monitor_common::tracker::state::{half, kind};

pub const CAUSE: Cause = Cause { name: "window_scale_fault", judge };

const BASE: u8 = 75;

fn judge(view: &View) -> Option<Judgement> {
    let d = view.desync.as_ref()?;
    let receiver = d.data.other();
    let (me, peer) = (view.half(receiver), view.half(d.data));
    // The receiver's first window equals its SYN's although both should differ by the shift, and data ran beyond it.
    let unscaled = view.history.seen(Anomaly::WindowUnscaledSuspect).any(|s| s.speaker == receiver);
    let collapsed = d.kind == kind::WSCALE;
    let overran = unscaled && d.kind == kind::OVERRUN;
    if !collapsed && !overran {
        return None;
    }
    // A stripped option is missing from one SYN; an altered one is there on both. Seen from beyond the device, the
    // option is there and the end does not scale.
    let both = me.has(half::WSCALE) && peer.has(half::WSCALE);
    let variant = if both && collapsed { "altered" } else { "stripped" };
    let shift = if both { me.wscale } else { 0 };
    Some(Judgement {
        variant: Some(variant),
        culprit: Culprit::Middlebox,
        further_classes: further_classes(view.history, d),
        summary: format!(
            "The ends disagree about window scaling: {} offered {} bytes in its SYN, and its next window, {}<<{shift} \
             as the options seen here say, cannot follow that; {}.",
            view.who(receiver),
            me.syn_wnd,
            me.first_wnd,
            view.ending(d),
        ),
        advice: "Look for a device that removes or changes the window-scale option of SYNs (option clearing, TCP \
                 normaliser, an old firewall), or a path on which the SYN took another way than the data. Compare the \
                 SYN and SYN-ACK options at both ends."
            .into(),
        decisive: "a first window far below that of the SYN".into(),
        ..Judgement::new(Basis::Wire(BASE))
    })
}

#[cfg(test)]
mod tests {
    use crate::diagnose::dialogue::*;

    /// S40 from the client's side: the option is gone from the SYN-ACK, so the server's scaled windows look tiny.
    #[test]
    fn a_stripped_option_makes_the_window_collapse() {
        everywhere(|d| {
            d.send(Client, syn()).send(Server, syn_ack().no_wscale()).send(Client, ack());
            d.send(Client, data(1448)).send(Server, ack().wnd(79));
            for _ in 0..20 {
                d.wait_ms(200).send(Client, data(79)).send(Server, ack().wnd(79));
            }
            d.send(Client, data(79)).send(Client, abort());
            let v = d.verdict();
            expect(&v, "window_scale_fault", Some("stripped"), "middlebox");
        });
    }

    /// Nothing is outstanding: the application may have had enough of a slow connection, or of a finished one.
    #[test]
    fn with_everything_acknowledged_the_reset_is_explained_otherwise() {
        everywhere(|d| {
            d.send(Client, syn()).send(Server, syn_ack().no_wscale()).send(Client, ack());
            d.send(Client, data(1448)).send(Server, ack().wnd(79)).exchange(Server, 10).send(Client, abort());
            assert_eq!(d.verdict().desync, None);
        });
    }
}
