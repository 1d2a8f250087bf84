//! Filtering and sorting of connections, and their JSON object.

use super::query::{ConnectionQuery, Sort, list};
use crate::finding::VERSION;
use crate::snapshot::ConnectionRow;
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;

/// One line of `conns --output json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConnectionReport {
    #[serde(rename = "type")]
    pub kind: String,
    pub version: u32,
    #[serde(flatten)]
    pub row: ConnectionRow,
}

impl From<ConnectionRow> for ConnectionReport {
    fn from(row: ConnectionRow) -> ConnectionReport {
        ConnectionReport { kind: "connection".into(), version: VERSION, row }
    }
}

/// Of rows that are at hand those that match, sorted, at most the query's limit; and how many match in all.
pub fn select(mut rows: Vec<ConnectionRow>, query: &ConnectionQuery) -> (Vec<ConnectionRow>, usize) {
    let (states, syncs) = (list(&query.state), list(&query.sync));
    rows.retain(|r| {
        (states.is_empty() || states.contains(&r.phase.as_str()))
            && (syncs.is_empty() || syncs.contains(&r.sync.as_str()))
            && query.client.is_none_or(|p| p.contains(r.client.addr))
            && query.server.is_none_or(|p| p.contains(r.server.addr))
            && query.port.is_none_or(|p| r.client.port == p || r.server.port == p)
    });
    let matched = rows.len();
    let key = |r: &ConnectionRow| match query.sort.unwrap_or_default() {
        Sort::Bytes => r.client_bytes.saturating_add(r.server_bytes),
        Sort::Age => r.age_ns,
        Sort::Idle => r.idle_ns,
        Sort::Retransmissions => u64::from(r.retransmissions),
    };
    // Addresses make the order the same from call to call.
    rows.sort_by_cached_key(|r| (Reverse(key(r)), r.client.addr, r.client.port, r.server.addr, r.server.port));
    rows.truncate(query.limit.unwrap_or(usize::MAX));
    (rows, matched)
}
