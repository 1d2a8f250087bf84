//! The ends stopped accepting each other's segments, and it cannot be told from here which party is at fault
//! (DIAGNOSIS 3.5 cause 10).

use crate::diagnose::desync::further_classes;
use crate::diagnose::view::View;
use crate::diagnose::words::count;
use crate::diagnose::{Basis, Cause, Culprit, Judgement};
use monitor_common::tracker::state::kind;

pub const CAUSE: Cause = Cause { name: "desync_unattributed", judge };

const BASE: u8 = 55;

fn judge(view: &View) -> Option<Judgement> {
    let d = view.desync.as_ref()?;
    Some(Judgement {
        culprit: Culprit::NetworkOrPeer,
        further_classes: further_classes(view.history, d),
        summary: format!(
            "The ends stopped accepting each other's segments ({}, {} confirmed about what {} sends); {}. Which party is \
             at fault cannot be told from here.",
            kind::name(d.kind),
            count(d.hard.into(), "fault"),
            view.who(d.data),
            view.ending(d),
        ),
        advice: "Take a second capture on the other side of the path: the side on which the numbers are still \
                 consistent exonerates everything up to it."
            .into(),
        // Any cause that names the fault says more.
        listed: false,
        ..Judgement::new(Basis::Wire(BASE))
    })
}

#[cfg(test)]
mod tests {
    use crate::diagnose::diagnose;
    use crate::diagnose::dialogue::*;
    use crate::history::{End, Seen};
    use monitor_common::Anomaly;
    use monitor_common::tracker::MS;
    use monitor_common::tracker::state::{kind, sync_state};

    /// Keepalives answer each other by the minute; nobody may take that for mutual rejection.
    #[test]
    fn idle_keepalives_are_no_war() {
        everywhere(|d| {
            d.handshake().exchange(Client, 300).exchange(Server, 500);
            let below = d.snd_nxt(Client) - 1;
            for _ in 0..20 {
                d.wait_ms(1_000).send(Client, ack().seq(below)).send(Server, ack());
            }
            assert_eq!(diagnose(&d.open(End::Open)).cause, crate::diagnose::NOTHING);
        });
    }

    /// What the tracker leaves behind when bare acknowledgements answer each other and nothing else is known.
    #[test]
    fn mutual_rejection_without_more_is_not_attributed() {
        everywhere(|d| {
            d.handshake().exchange(Client, 300).exchange(Server, 500).send_lost(Client, data(50)).wait_ms(10_000);
            d.send(Server, abort().acking(301));
            let mut history = d.history();
            let data = d.direction(Client);
            let sync = &mut history.connection.fault[data.index()].sync;
            sync.state = sync_state::DESYNCED;
            sync.kind = kind::ACK_WAR;
            sync.hard = 3;
            sync.first_ns = history.time_ns - 9_000 * MS;
            sync.last_hard_ns = history.time_ns - MS;
            history.anomalies.push(Seen {
                anomaly: Anomaly::AckPingpong,
                speaker: data,
                count: 3,
                first_ns: sync.first_ns,
                last_ns: sync.last_hard_ns,
                hard: true,
                expected: 1,
                actual: 2,
            });
            let v = diagnose(&history);
            expect(&v, "desync_unattributed", None, "network_or_peer");
            assert_eq!(v.desync.unwrap().kind, kind::ACK_WAR);
        });
    }
}
