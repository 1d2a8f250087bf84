//! A list of connections out of a table of a million: what is not shown is never made into a row.

use super::table::Table;
use crate::api::query::{ConnectionQuery, Sort, list};
use crate::finding::Endpoint;
use crate::history::client;
use crate::rows::{self, SYNC_NAMES};
use crate::snapshot::Listing;
use monitor_common::tracker::state::Connection;
use std::cmp::Reverse;
use std::net::IpAddr;
use std::sync::Arc;

/// Candidates kept at least, so that thinning them out is rare.
const KEPT: usize = 1024;

/// What a connection is sorted by, and where it is. 72 bytes each, for as many as are asked for.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    rank: Reverse<u64>,
    // Addresses make the order the same from call to call.
    ends: (IpAddr, u16, IpAddr, u16),
    created_ns: u64,
    slot: u32,
}

/// One walk over the table.
pub fn connections(table: &Arc<Table>, query: &ConnectionQuery, now_ns: u64) -> Listing {
    let wanted = Wanted { query, states: list(&query.state), syncs: list(&query.sync) };
    let most = query.limit.unwrap_or(usize::MAX);
    let (mut total, mut matched) = (0, 0);
    let mut kept: Vec<Candidate> = Vec::new();
    for (slot, c) in table.connections() {
        total += 1;
        let Some(candidate) = wanted.candidate(slot, &c, now_ns) else { continue };
        matched += 1;
        kept.push(candidate);
        if kept.len() >= most.saturating_mul(2).max(KEPT) && kept.len() > most {
            kept.select_nth_unstable(most);
            kept.truncate(most);
        }
    }
    kept.sort_unstable();
    kept.truncate(most);
    let table = table.clone();
    let rows = kept.into_iter().filter_map(move |k| {
        let c = table.connection(k.slot);
        // Others may have taken its place since.
        (c.created_ns == k.created_ns).then(|| rows::row(&c, now_ns))
    });
    Listing { rows: Box::new(rows), matched, total }
}

struct Wanted<'a> {
    query: &'a ConnectionQuery,
    states: Vec<&'a str>,
    syncs: Vec<&'a str>,
}

impl Wanted<'_> {
    fn candidate(&self, slot: u32, c: &Connection, now_ns: u64) -> Option<Candidate> {
        let q = self.query;
        let sync = || SYNC_NAMES.get(rows::sync(c).0 as usize).copied().unwrap_or("unknown");
        let by_state = self.states.is_empty() || self.states.contains(&c.phase().name());
        let by_sync = self.syncs.is_empty() || self.syncs.contains(&sync());
        let side = client(c);
        let (from, to) = (Endpoint::of(&c.key, side), Endpoint::of(&c.key, side.other()));
        let by_ends = q.client.is_none_or(|p| p.contains(from.addr))
            && q.server.is_none_or(|p| p.contains(to.addr))
            && q.port.is_none_or(|p| from.port == p || to.port == p);
        (by_state && by_sync && by_ends).then(|| Candidate {
            rank: Reverse(rank(c, q.sort.unwrap_or_default(), now_ns)),
            ends: (from.addr, from.port, to.addr, to.port),
            created_ns: c.created_ns,
            slot,
        })
    }
}

fn rank(c: &Connection, sort: Sort, now_ns: u64) -> u64 {
    match sort {
        Sort::Bytes => c.half[0].bytes.saturating_add(c.half[1].bytes),
        Sort::Age => now_ns.saturating_sub(c.created_ns),
        Sort::Idle => now_ns.saturating_sub(c.last_ns()),
        Sort::Retransmissions => u64::from(c.fault[0].rexmits) + u64::from(c.fault[1].rexmits),
    }
}
