//! An end's kernel ran out of TCP memory or of orphan slots (DIAGNOSIS 3.5 cause 30). Only that kernel can tell.

use crate::diagnose::view::View;
use crate::diagnose::{Basis, Cause, Culprit, Judgement};
use monitor_common::tracker::state::half;

pub const CAUSE: Cause = Cause { name: "resource_abort", judge };

const BY_KERNEL: u8 = 95;
const REASON: &str = "TCP_ABORT_ON_MEMORY";

fn judge(view: &View) -> Option<Judgement> {
    let reset = view.abort()?;
    let sender = reset.sender;
    if !view.reason_is(&[REASON]) {
        // An orphan has closed and still has something to send or to hear: the wire shows nothing else.
        let orphan = view.half(sender).has(half::FIN) && !view.half(sender.other()).has(half::FIN);
        return (orphan && view.reason().is_none())
            .then(|| Judgement::near(20, format!("the reason {REASON} of the {}'s kernel", view.role(sender))));
    }
    Some(Judgement {
        culprit: Culprit::End(sender),
        summary: format!(
            "{} ran out of TCP memory or of slots for closed sockets that still had work to do, and its kernel cut this \
             one off{} (reason {REASON}).",
            view.who_first(sender),
            view.process(),
        ),
        advice: format!(
            "On the {}: `nstat -az TcpExtTCPAbortOnMemory`, `cat /proc/net/sockstat` (orphan and mem) against \
             net.ipv4.tcp_max_orphans and net.ipv4.tcp_mem. Many orphans come from peers that never take what was sent to \
             them.",
            view.role(sender)
        ),
        decisive: format!("the kernel's reason {REASON}"),
        ..Judgement::new(Basis::Kernel(BY_KERNEL))
    })
}

#[cfg(test)]
mod tests {
    use crate::diagnose::dialogue::*;

    /// S59: the server has closed with data queued; its socket is an orphan too many.
    fn orphan(d: &mut Dialogue) {
        d.handshake().exchange(Client, 300).exchange(Server, 500).send_lost(Server, data(1000)).send(Server, abort());
    }

    #[test]
    fn only_the_kernel_can_tell() {
        everywhere(|d| {
            orphan(d);
            let v = d.verdict_with_reason(Server, "TCP_ABORT_ON_MEMORY", false, 4);
            expect(&v, "resource_abort", None, "server");
            assert_eq!((v.confidence, v.mechanism.name()), (95, "active_abort"));
            assert_eq!(d.verdict().cause, "abortive_close");
        });
    }

    #[test]
    fn an_orphan_that_is_reset_makes_it_a_hypothesis() {
        everywhere(|d| {
            d.handshake().exchange(Client, 300).send(Server, fin()).send(Client, ack()).wait_ms(100);
            d.send_lost(Client, data(10)).send(Server, abort());
            let v = d.verdict();
            assert_ne!(v.cause, "resource_abort");
            assert!(v.also_considered.iter().any(|c| c.cause == "resource_abort"), "{v:#?}");
        });
    }
}
