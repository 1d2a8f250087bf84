//! `--group`: findings that are alike, one line each.

use super::human;
use super::look::{Look, Tone};
use super::table::{Align, Table};
use crate::groups::Group;

pub fn groups(groups: &[Group], look: &Look) -> String {
    if groups.is_empty() {
        return String::new();
    }
    let mut table = Table::new(&[
        ("COUNT", Align::Right),
        ("CAUSE", Align::Left),
        ("SERVER", Align::Left),
        ("CLIENTS", Align::Right),
        ("SHARED", Align::Left),
        ("FIRST", Align::Left),
        ("LAST", Align::Left),
        ("EXAMPLE", Align::Right),
    ]);
    for g in groups {
        let cause = match &g.variant {
            Some(variant) => format!("{} ({variant})", g.cause),
            None => g.cause.clone(),
        };
        let tone = if g.culprit == "none" { Tone::Good } else { Tone::Name };
        table.row(vec![
            (human::count(g.count), None),
            (cause, Some(tone)),
            (server(g), None),
            (human::count(g.clients), None),
            (shared(g), Some(Tone::Dim)),
            (look.time(g.first_ns), Some(Tone::Dim)),
            (look.time(g.last_ns), Some(Tone::Dim)),
            (format!("#{}", g.example_id), Some(Tone::Heading)),
        ]);
    }
    table.render(look)
}

fn server(g: &Group) -> String {
    format!("{} port {}", g.server_network, g.server_port)
}

/// What makes them one fault, beyond the names.
fn shared(g: &Group) -> String {
    let distance = g.distance_bytes.map(|d| format!("{d:+} bytes"));
    let idle = g.idle_seconds.map(|s| format!("idle {}", human::duration(s * 1_000_000_000)));
    distance.into_iter().chain(idle).collect::<Vec<_>>().join(", ")
}
