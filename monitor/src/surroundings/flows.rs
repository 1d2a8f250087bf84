//! The same fault on several connections of the last ten minutes: the cheapest way to be surer of one (DIAGNOSIS 3.4).

use super::{Bounded, SameFault};
use crate::diagnose::Verdict;
use crate::diagnose::view::View;
use crate::finding::ip;
use crate::history::History;
use monitor_common::flow::FlowKey;
use monitor_common::tracker::SECOND;
use std::collections::VecDeque;
use std::net::IpAddr;

const WINDOW_NS: u64 = 600 * SECOND;
/// Connections that make a fault a shared one.
const SHARED: usize = 3;
/// Groups kept, and connections of each: more than this many say nothing more.
const GROUPS: usize = 4096;
const MEMBERS: usize = 256;

/// Causes whose repetition is evidence: something on the path or in a stack does it again. That three clients close with
/// unread data says nothing about any one of them.
const REPEATABLE: [&str; 17] = [
    "seq_translation_fault",
    "payload_rewrite_fault",
    "sack_translation_fault",
    "window_scale_fault",
    "data_injection_desync",
    "endpoint_sequence_fault",
    "window_overrun",
    "window_shrink_stranding",
    "timestamp_regression",
    "desync_unattributed",
    "rst_injected",
    "policy_reset",
    "middlebox_idle_timeout",
    "nat_state_fault",
    "path_blackhole",
    "pmtu_blackhole",
    "segment_corruption",
];

/// What connections may have in common, the most telling first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Shared {
    Path(IpAddr, IpAddr),
    Peer(IpAddr),
    Port(u16),
}

impl Shared {
    fn name(self) -> &'static str {
        match self {
            Shared::Path(..) => "path",
            Shared::Peer(_) => "peer",
            Shared::Port(_) => "port",
        }
    }
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Group {
    shared: Shared,
    cause: &'static str,
    variant: Option<&'static str>,
    /// Distance of the numbers, or step of the silence: see [`bucket`].
    bucket: i64,
}

#[derive(Default)]
struct Members(VecDeque<(u64, FlowKey)>);

/// Faults of the last ten minutes by what their connections share.
pub struct Flows(Bounded<Group, Members>);

impl Default for Flows {
    fn default() -> Flows {
        Flows(Bounded::new(GROUPS))
    }
}

impl Flows {
    /// Enters a verdict, and tells whether it has company.
    pub fn note(&mut self, history: &History, verdict: &Verdict) -> Option<SameFault> {
        if !REPEATABLE.contains(&verdict.cause) {
            return None;
        }
        let mut found = None;
        for shared in shared(history) {
            let group =
                Group { shared, cause: verdict.cause, variant: verdict.variant, bucket: bucket(history, verdict) };
            let members = &mut self.0.entry(group).0;
            let (now_ns, key) = (history.time_ns, history.connection.key);
            members.retain(|(time_ns, _)| time_ns.abs_diff(now_ns) <= WINDOW_NS);
            if !members.iter().any(|(_, k)| *k == key) {
                if members.len() == MEMBERS {
                    members.pop_front();
                }
                members.push_back((now_ns, key));
            }
            if found.is_none() && members.len() >= SHARED {
                found = Some(SameFault {
                    cause: verdict.cause.into(),
                    variant: verdict.variant.map(Into::into),
                    flows: members.len() as u32,
                    shared: shared.name(),
                    since_ns: members.iter().map(|(t, _)| *t).min().unwrap_or(now_ns),
                });
            }
        }
        found
    }
}

fn shared(history: &History) -> [Shared; 3] {
    let key = &history.connection.key;
    let client = history.client();
    let [c, s] = [client, client.other()].map(|d| prefix(ip(key.addr[d.index()])));
    [Shared::Path(c, s), Shared::Peer(s), Shared::Port(key.port[client.other().index()])]
}

/// The network that an address stands for: /24, or /64 of IPv6.
pub fn prefix(addr: IpAddr) -> IpAddr {
    match addr {
        IpAddr::V4(a) => IpAddr::V4((a.to_bits() & 0xffff_ff00).into()),
        IpAddr::V6(a) => IpAddr::V6((a.to_bits() & !u128::from(u64::MAX)).into()),
    }
}

/// What makes two faults of one cause the same: the distance of the numbers where there is one, else how long the silence
/// before lasted.
fn bucket(history: &History, verdict: &Verdict) -> i64 {
    match (&verdict.desync, verdict.cause) {
        (Some(d), "seq_translation_fault" | "payload_rewrite_fault" | "data_injection_desync") => d.distance,
        (_, "middlebox_idle_timeout") => age(View::new(history).idle_before_end_ns()) as i64,
        _ => 0,
    }
}

/// Idle times that devices are known to use, seconds.
const TIMERS: [u64; 8] = [60, 240, 300, 350, 600, 900, 1800, 3600];

/// The usual limit that a silence meets within a twentieth, seconds.
pub fn usual_timer(ns: u64) -> Option<u64> {
    let seconds = ns / SECOND;
    TIMERS.into_iter().find(|t| seconds.abs_diff(*t) * 20 <= *t)
}

/// What a silence counts as, seconds: a usual limit, else the nearest step of a scale that grows by a tenth.
pub fn age(ns: u64) -> u64 {
    let seconds = (ns as f64 / SECOND as f64).max(1.0);
    usual_timer(ns).unwrap_or_else(|| 1.1f64.powf((seconds.ln() / 1.1f64.ln()).round()).round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::diagnose;
    use crate::diagnose::dialogue::*;
    use monitor_common::flow::v4;

    /// A bypassed translation, as the router sees it, of the `n`-th client.
    fn fault(n: u32, at_ns: u64) -> (History, Verdict) {
        let mut d = Dialogue::new(SETUPS[0]);
        d.handshake().exchange(Client, 300).send(Server, abort());
        let mut history = d.history();
        let key = FlowKey::canonical(v4(0x0a00_0001), 40_000 + n as u16, v4(0x0a00_0002), 9_000).0;
        history.connection.key = key;
        history.time_ns = at_ns;
        let mut verdict = diagnose(&history);
        (verdict.cause, verdict.variant) = ("path_blackhole", None);
        (history, verdict)
    }

    fn note(flows: &mut Flows, n: u32, at_ns: u64) -> Option<SameFault> {
        let (history, verdict) = fault(n, at_ns);
        flows.note(&history, &verdict)
    }

    #[test]
    fn the_third_connection_has_company_and_the_same_one_twice_has_not() {
        let mut flows = Flows::default();
        assert_eq!(note(&mut flows, 1, SECOND), None);
        assert_eq!(note(&mut flows, 1, 2 * SECOND), None);
        assert_eq!(note(&mut flows, 2, 3 * SECOND), None);
        let same = note(&mut flows, 3, 4 * SECOND).expect("the third");
        assert_eq!((same.flows, same.shared, same.since_ns), (3, "path", SECOND));
    }

    #[test]
    fn ten_minutes_later_it_is_alone_again() {
        let mut flows = Flows::default();
        (1..=3).for_each(|n| drop(note(&mut flows, n, SECOND)));
        assert_eq!(note(&mut flows, 4, 700 * SECOND), None);
    }

    #[test]
    fn what_an_application_does_is_not_counted() {
        let mut flows = Flows::default();
        for n in 0..5 {
            let (history, mut verdict) = fault(n, SECOND);
            verdict.cause = "close_with_unread_data";
            assert_eq!(flows.note(&history, &verdict), None);
        }
    }

    #[test]
    fn it_is_bounded() {
        let mut flows = Flows::default();
        for n in 0..3_000u32 {
            let (mut history, verdict) = fault(n, SECOND);
            history.connection.key = FlowKey::canonical(v4(0x0b00_0001 + n * 256), 40_000, v4(0x0a00_0002), 80).0;
            flows.note(&history, &verdict);
        }
        assert!(flows.0.entries.len() <= GROUPS);
        assert!(flows.0.entries.values().all(|m| m.0.len() <= MEMBERS));
    }

    #[test]
    fn silences_of_one_timer_fall_together() {
        assert_eq!((age(350 * SECOND), age(352 * SECOND), age(242 * SECOND)), (350, 350, 240));
        assert_eq!(age(95 * SECOND), age(100 * SECOND));
        assert_eq!(age(0), 1);
    }

    #[test]
    fn a_prefix_is_the_network() {
        assert_eq!(prefix("10.1.2.3".parse().unwrap()).to_string(), "10.1.2.0");
        assert_eq!(prefix("2001:db8:1:2:3::4".parse().unwrap()).to_string(), "2001:db8:1:2::");
    }
}
