//! `conns`: one connection a line.

use super::human;
use super::look::{Look, Tone};
use super::table::{Align, Table};
use crate::snapshot::ConnectionRow;

pub fn connections(rows: &[ConnectionRow], look: &Look) -> String {
    let mut table = Table::new(&[
        ("CLIENT", Align::Left),
        ("SERVER", Align::Left),
        ("STATE", Align::Left),
        ("SYNC", Align::Left),
        ("AGE", Align::Right),
        ("IDLE", Align::Right),
        ("TO SERVER", Align::Right),
        ("TO CLIENT", Align::Right),
        ("REXMIT", Align::Right),
        ("", Align::Left),
    ]);
    for r in rows {
        let sync = match &r.kind {
            Some(kind) => format!("{} ({kind})", r.sync),
            None => r.sync.clone(),
        };
        table.row(vec![
            (r.client.to_string(), None),
            (r.server.to_string(), None),
            (r.phase.clone(), None),
            (sync, sync_tone(&r.sync)),
            (human::duration(r.age_ns), None),
            (human::duration(r.idle_ns), None),
            (human::bytes(r.client_bytes), None),
            (human::bytes(r.server_bytes), None),
            (human::count(r.retransmissions.into()), (r.retransmissions > 0).then_some(Tone::Warn)),
            (remarks(r), Some(Tone::Dim)),
        ]);
    }
    table.render(look)
}

fn sync_tone(sync: &str) -> Option<Tone> {
    match sync {
        "desynced" => Some(Tone::Bad),
        "suspect" => Some(Tone::Warn),
        "recovered" => Some(Tone::Dim),
        _ => None,
    }
}

fn remarks(r: &ConnectionRow) -> String {
    let reused = (r.incarnation > 0).then(|| format!("life {}", u32::from(r.incarnation) + 1));
    [r.mid_stream.then(|| "mid-stream".to_owned()), reused].into_iter().flatten().collect::<Vec<_>>().join(", ")
}
