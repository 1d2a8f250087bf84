//! The end of `analyze`.

use super::human::{count, counted};
use super::look::{Look, Tone};
use super::wrap::wrap;
use crate::capture::replay::Summary;
use monitor_common::parse::Reason;
use std::collections::BTreeMap;

pub fn summary(s: &Summary, look: &Look) -> String {
    let text = format!(
        "{}: {}, {}, {}, {}, {}.",
        counted(s.files, "file", "files"),
        counted(s.packets, "packet", "packets"),
        counted(s.segments, "TCP segment", "TCP segments"),
        counted(s.connections, "connection", "connections"),
        counted(s.resets, "RST", "RSTs"),
        counted(s.findings, "finding", "findings"),
    );
    let mut out = look.paint(Tone::Heading, "Summary") + "\n" + &wrap(&text, look.width, "  ", "  ");
    let ours = |name: &str| Reason::ALL.iter().any(|r| r.name() == name && !r.is_failure());
    let (other, unreadable): (BTreeMap<_, _>, BTreeMap<_, _>) = s.unreadable.iter().partition(|(name, _)| ours(name));
    for (title, reasons) in [("Not TCP, or later fragments", other), ("Unreadable", unreadable)] {
        if !reasons.is_empty() {
            let list: Vec<_> = reasons.iter().map(|(name, n)| format!("{name} {}", count(**n))).collect();
            out.push_str(&wrap(&format!("{title}: {}.", list.join(", ")), look.width, "  ", "  "));
        }
    }
    if s.evicted > 0 {
        let text = format!(
            "{} made room for others before the end: more than --max-connections were tracked at once.",
            counted(s.evicted, "connection", "connections")
        );
        out.push_str(&wrap(&text, look.width, "  ", "  "));
    }
    if s.unsearched > 0 {
        let text = format!(
            "{}: not looked for connections that carry on under another address.",
            counted(s.unsearched, "reset", "resets")
        );
        out.push_str(&wrap(&text, look.width, "  ", "  "));
    }
    if s.damaged > 0 {
        let files = counted(s.damaged, "file", "files");
        out.push_str(&format!("  {}\n", look.paint(Tone::Bad, &format!("{files} could not be read to the end."))));
    }
    out
}
