//! A connection's state as a row for people and programs.

use crate::community_id::community_id;
use crate::finding::Endpoint;
use crate::history::client;
use crate::snapshot::ConnectionRow;
use monitor_common::tracker::state::{Connection, conn, kind, sync_state};

/// Names of [`sync_state`], by number.
pub const SYNC_NAMES: [&str; 4] = ["in_sync", "suspect", "desynced", "recovered"];

/// The worse of the two directions, and its kind when it is out of sync.
pub fn sync(c: &Connection) -> (u8, Option<&'static str>) {
    // Recovered is better than suspect, though its number is higher.
    let weight = |state: u8| match state {
        sync_state::DESYNCED => 3,
        sync_state::SUSPECT => 2,
        sync_state::RECOVERED => 1,
        _ => 0,
    };
    let [a, b] = [&c.fault[0].sync, &c.fault[1].sync];
    let worse = if weight(b.state) > weight(a.state) { b } else { a };
    let kind = (worse.state == sync_state::DESYNCED && worse.kind != kind::NONE).then(|| kind::name(worse.kind));
    (worse.state, kind)
}

/// The row of a connection at `now_ns` of the tracker's clock.
pub fn row(c: &Connection, now_ns: u64) -> ConnectionRow {
    let client = client(c);
    let (a, b) = (&c.half[client.index()], &c.half[client.other().index()]);
    let (state, kind) = sync(c);
    ConnectionRow {
        community_id: community_id(&c.key),
        client: Endpoint::of(&c.key, client),
        server: Endpoint::of(&c.key, client.other()),
        phase: c.phase().name().into(),
        sync: SYNC_NAMES.get(state as usize).copied().unwrap_or("unknown").into(),
        kind: kind.map(str::to_string),
        age_ns: now_ns.saturating_sub(c.created_ns),
        idle_ns: now_ns.saturating_sub(c.last_ns()),
        client_bytes: a.bytes,
        server_bytes: b.bytes,
        client_segments: a.segments,
        server_segments: b.segments,
        retransmissions: u32::from(c.fault[0].rexmits) + u32::from(c.fault[1].rexmits),
        mid_stream: c.flags & conn::MID_STREAM != 0,
        incarnation: c.incarnation,
    }
}
