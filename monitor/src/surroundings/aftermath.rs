//! One fault, two 4-tuples: when translation of an address changes in mid-connection, the stray packets are one
//! connection and what their resets broke is another. Each finding names the other.

use super::Bounded;
use crate::community_id::community_id;
use crate::finding::{Endpoint, Finding, Related};
use crate::history::{History, Relative, client};
use monitor_common::flow::{Direction, FlowKey};
use monitor_common::tracker::SECOND;
use monitor_common::tracker::state::Core;

/// Tuples remembered.
const KEPT: usize = 4096;
/// The broken connection shows it when one of its ends next speaks.
const WINDOW_NS: u64 = 600 * SECOND;

/// Findings of address translation, by the tuples that they touched.
pub struct Aftermath(Bounded<FlowKey, Option<Touched>>);

/// The finding of the stray packets.
#[derive(Clone)]
struct Touched {
    time_ns: u64,
    of: Related,
}

impl Default for Aftermath {
    fn default() -> Aftermath {
        Aftermath(Bounded::new(KEPT))
    }
}

impl Aftermath {
    /// The other tuple's findings, and remembers this one for the other's.
    pub fn related(&mut self, history: &History, finding: &Finding) -> Vec<Related> {
        let key = history.connection.key;
        if let Some(Some(touched)) = self.0.get(&key)
            && touched.time_ns.abs_diff(history.time_ns) <= WINDOW_NS
            && touched.of.id != Some(finding.id)
        {
            return vec![touched.of.clone()];
        }
        let Some(relative) = history.relatives.first().filter(|_| finding.cause == "nat_state_fault") else {
            return Vec::new();
        };
        let by = format!("nat_{}", finding.variant.as_deref().unwrap_or("change"));
        let of = Related {
            community_id: finding.community_id.clone(),
            client: finding.client,
            server: finding.server,
            id: Some(finding.id),
            by: by.clone(),
        };
        *self.0.entry(relative.key) = Some(Touched { time_ns: history.time_ns, of });
        vec![other(relative, by)]
    }
}

fn other(relative: &Relative, by: String) -> Related {
    let key = &relative.key;
    let shared =
        if Endpoint::of(key, Direction::Forward) == relative.shared { Direction::Forward } else { Direction::Reverse };
    let client = match relative.shared_is_client {
        Some(true) => shared,
        Some(false) => shared.other(),
        // Its own state is not at hand.
        None => client(&Core { key: *key, ..Core::default() }),
    };
    Related {
        community_id: community_id(key),
        client: Endpoint::of(key, client),
        server: Endpoint::of(key, client.other()),
        id: None,
        by,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::dialogue::*;
    use crate::report;
    use monitor_common::flow::v4;

    /// Packets that strayed past a translator are reset, by which the connection that they were part of breaks: each finding
    /// names the other, for as long as one can be the other's doing.
    #[test]
    fn stray_packets_and_the_connection_that_they_broke_name_each_other() {
        everywhere(|d| {
            d.handshake().exchange(Client, 300).send(Server, abort());
            let mut strays = d.history();
            let told = |h: &History, id| report::finding(h, &|t| t, id, None).expect("a reset is told");
            let another_cause = told(&strays, 1);
            let shared = strays.endpoint(d.direction(Server));
            // The client as the server knows it when translated.
            let server = d.direction(Server).index();
            let (addr, port) = (strays.connection.key.addr[server], strays.connection.key.port[server]);
            let (key, from_client) = FlowKey::canonical(v4(0x0a00_00fe), 61_000, addr, port);
            let translated = Endpoint::of(&key, from_client);
            strays.relatives = vec![Relative {
                key,
                shared,
                translated,
                untranslated: strays.endpoint(d.direction(Client)),
                number: 1,
                other: 1,
                exact: true,
                shared_is_client: Some(false),
            }];
            let mut after = Aftermath::default();
            assert_eq!(after.related(&strays, &another_cause), [], "no fault of address translation");
            let found = told(&strays, 1);
            assert_eq!((found.cause.as_str(), found.variant.as_deref()), ("nat_state_fault", Some("rebind")));
            let named = after.related(&strays, &found);
            assert_eq!(named.len(), 1);
            assert_eq!((named[0].client, named[0].server, named[0].id), (translated, shared, None));
            assert_eq!((&named[0].community_id, named[0].by.as_str()), (&community_id(&key), "nat_rebind"));

            let mut broken = d.history();
            broken.connection.key = key;
            broken.time_ns += WINDOW_NS;
            let other = told(&broken, 2);
            let named = after.related(&broken, &other);
            assert_eq!(named.len(), 1);
            assert_eq!((named[0].id, &named[0].community_id), (Some(1), &found.community_id));
            assert_eq!((named[0].client, named[0].server), (found.client, found.server));
            broken.time_ns += 1;
            assert_eq!(after.related(&broken, &other), [], "too late to be its doing");
        });
    }
}
