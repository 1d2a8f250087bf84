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
