//! docs/scaling.md: its tables are what this test computes, from the measured costs that the document begins with and from
//! the layout of tables and metrics. `UPDATE_DOCS=1 cargo test -p monitor --test scaling` writes them anew.

mod common;

use common::findings::desynchronised;
use common::source::Fake;
use monitor::capture::loader::Sizes;
use monitor::expose::{View, metrics};
use monitor::finding::{Finding, Similar};
use monitor::store::Store;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

const GIGABITS: [u64; 3] = [10, 25, 100];
/// Ethernet around a frame: preamble, start, check sequence, gap.
const AROUND: f64 = 24.0;
const HOSTS: u64 = 10_000;
/// Seconds between two scrapes.
const SCRAPE: u64 = 15;

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/scaling.md")
}

/// `| name | 123 ns | ... |`: the measured costs by name, nanoseconds.
fn costs(text: &str) -> BTreeMap<String, f64> {
    let table = text.split("<!-- costs -->").nth(1).expect("the document has measured costs");
    let rows = table.lines().filter_map(|l| {
        let mut cells = l.trim_matches('|').split('|').map(str::trim);
        let (name, value) = (cells.next()?, cells.next()?);
        Some((name.to_owned(), value.strip_suffix(" ns")?.parse().ok()?))
    });
    rows.collect()
}

fn table(head: &[&str], rows: Vec<Vec<String>>) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let head: Vec<String> = head.iter().map(ToString::to_string).collect();
    let rule: Vec<String> = head.iter().map(|_| "---".to_owned()).collect();
    let mut out = line(&head) + &line(&rule);
    rows.iter().for_each(|r| out.push_str(&line(r)));
    out
}

/// 1,234,567.
fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

fn bytes(n: f64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let (mut n, mut unit) = (n, 0);
    while n >= 1000.0 && unit + 1 < UNITS.len() {
        n /= 1000.0;
        unit += 1;
    }
    if n < 10.0 { format!("{n:.1} {}", UNITS[unit]) } else { format!("{n:.0} {}", UNITS[unit]) }
}

/// Packets a second at line rate, by what goes over the wire.
fn traffic() -> [(&'static str, f64); 4] {
    // A frame's size includes its check sequence: 1518 bytes for an MTU of 1500.
    let wire = |frame: f64| frame - 4.0 + AROUND;
    [
        ("64-byte frames", wire(64.0)),
        ("512-byte frames", wire(512.0)),
        ("MTU frames", wire(1518.0)),
        // Two full frames and their acknowledgement on the way back: three packets for two frames' time.
        ("MTU frames, an ACK back for two", 2.0 * wire(1518.0) / 3.0),
    ]
}

/// Cores that a line rate keeps busy, for each measured cost of a packet.
fn line_rates(costs: &BTreeMap<String, f64>) -> String {
    let kinds = ["known, 1 connection", "known, 65,536 connections"];
    let mut rows = Vec::new();
    for (what, wire) in traffic() {
        for gigabits in GIGABITS {
            let pps = gigabits as f64 * 1e9 / 8.0 / wire;
            let mut row = vec![
                what.to_owned(),
                format!("{gigabits} GbE"),
                format!("{:.2} M", pps / 1e6),
                format!("{:.0} ns", 1e9 / pps),
            ];
            row.extend(kinds.iter().map(|k| format!("{:.2}", pps * costs[*k] / 1e9)));
            rows.push(row);
        }
    }
    table(&["traffic", "line", "packets/s", "one core has", "cores: 1 connection", "cores: 65,536 connections"], rows)
}

/// Share of connections that find `capacity` others in their slots, when slots are filled at random to `mean`.
fn without_room(mean: f64, capacity: u32) -> f64 {
    let mut p = (-mean).exp();
    let mut over = 0.0;
    for k in 1..capacity + 400 {
        p *= mean / f64::from(k);
        if k > capacity {
            over += f64::from(k - capacity) * p;
        }
    }
    over / mean
}

fn memory() -> String {
    let rows = [65_536u32, 262_144, 1_000_000, 4_000_000, 16 << 20].map(|connections| {
        let sizes = Sizes { connections, ring_bytes: 4 << 20 };
        let mean = f64::from(connections) / f64::from(sizes.slots()) * 64.0;
        vec![
            count(connections.into()),
            format!("{} MiB", count(sizes.bytes() >> 20)),
            count(sizes.slots().into()),
            format!("{:.0} in a million", without_room(mean, 64) * 1e6),
        ]
    });
    table(&["`--max-connections`", "kernel memory", "slots", "find no room, all of them in use"], rows.into())
}

/// How long a handshake that nobody answers stays in the table.
fn floods() -> String {
    let mut rows = Vec::new();
    for connections in [65_536u32, 1_000_000] {
        for share in [10u32, 50, 100] {
            let sizes = Sizes { connections, ring_bytes: 4 << 20 };
            let free = f64::from(sizes.slots()) - f64::from(connections) * f64::from(share) / 100.0;
            let mut row = vec![count(connections.into()), format!("{share} %")];
            row.extend([10e3, 100e3, 1e6, 14.88e6].map(|rate| {
                let ms = free / rate * 1000.0;
                if ms >= 1000.0 { format!("{:.1} s", ms / 1000.0) } else { format!("{ms:.0} ms") }
            }));
            rows.push(row);
        }
    }
    table(&["`--max-connections`", "live", "10,000 SYN/s", "100,000", "1 M", "14.88 M (10 GbE)"], rows)
}

/// Series of a fresh agent's page, and their labels' bytes as remote write repeats them.
fn series() -> (u64, u64) {
    let view = View::new(Arc::new(Fake::default()), Arc::new(Store::new(1)));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let page = runtime.block_on(metrics::render(&view)).unwrap();
    let lines: Vec<&str> = page.lines().filter(|l| !l.starts_with('#') && !l.is_empty()).collect();
    // Names and values of labels, two length bytes and two tags each (prometheus.WriteRequest), job and instance added;
    // a sample is a double and a varint of six bytes with their tags, in a message with a tag and a length.
    let labels = |l: &str| {
        let name = l.split(['{', ' ']).next().unwrap_or("").len() + "__name__".len() + 6;
        let pairs = l.split_once('{').and_then(|(_, rest)| rest.rsplit_once('}')).map_or("", |(inner, _)| inner);
        let own: usize = pairs.split("\",").filter(|p| !p.is_empty()).map(|p| p.len() - 1 + 6).sum();
        name + own + "job".len() + "whyrst".len() + 6 + "instance".len() + "host-00001.example:18908".len() + 6
    };
    (lines.len() as u64, lines.iter().map(|l| labels(l) as u64 + 18 + 4).sum())
}

fn monitoring() -> String {
    let (series, written) = series();
    let per_second = |n: u64| n as f64 / SCRAPE as f64;
    let row = |what: &str, one: String, all: String| vec![what.to_owned(), one, all];
    let day = 86_400.0;
    let rows = vec![
        row("series", count(series), count(series * HOSTS)),
        row("samples a second", format!("{:.0}", per_second(series)), count(per_second(series * HOSTS).round() as u64)),
        row(
            "remote write a second, before compression",
            bytes(per_second(written)),
            bytes(per_second(written) * HOSTS as f64),
        ),
        row(
            "Prometheus' disk a day, at 2 bytes a sample",
            bytes(per_second(series) * 2.0 * day),
            bytes(per_second(series) * 2.0 * day * HOSTS as f64),
        ),
    ];
    table(&["", "a host", "10,000 hosts"], rows)
}

/// Findings as JSON lines, for one who follows all of them.
fn findings() -> String {
    let similar =
        Some(Similar { count: 4212, first_ns: 1_763_884_807_226_000_000, last_ns: 1_763_884_811_226_000_000 });
    let line = serde_json::to_vec(&Finding { similar, ..desynchronised(1) }).unwrap().len() as f64 + 1.0;
    let rows = [
        ("1 reset a minute", 1.0 / 60.0),
        ("1 reset a second, all different", 1.0),
        ("20 alike a second: the most that is listed one by one", 20.0),
        // One example in a window of a minute, told once more each second while it counts.
        ("a storm of 100,000 alike a second", 1.0 + 1.0 / 60.0),
    ]
    .map(|(what, lines)| {
        let a_day = lines * line * 86_400.0;
        vec![what.to_owned(), format!("{lines:.2}"), bytes(a_day), bytes(a_day * HOSTS as f64)]
    });
    let head = ["what happens on a host", "lines a second", "a day, a host", "a day, 10,000 hosts"];
    format!("A finding is about {} as a line of JSON.\n\n{}", bytes(line), table(&head, rows.into()))
}

#[test]
fn the_tables_are_what_they_are_computed_from() {
    let old = std::fs::read_to_string(path()).expect("docs/scaling.md is there");
    let costs = costs(&old);
    let mut text = old.clone();
    for (name, block) in [
        ("line rates", line_rates(&costs)),
        ("memory", memory()),
        ("floods", floods()),
        ("monitoring", monitoring()),
        ("findings", findings()),
    ] {
        let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->"));
        let (head, rest) = text.split_once(&begin).unwrap_or_else(|| panic!("no block {name}"));
        let (_, tail) = rest.split_once(&end).unwrap_or_else(|| panic!("block {name} has no end"));
        text = format!("{head}{begin}{block}{end}{tail}");
    }
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path(), &text).unwrap();
    } else if text != old {
        let line = text.lines().zip(old.lines()).find(|(new, old)| new != old);
        panic!("docs/scaling.md is out of date: UPDATE_DOCS=1 cargo test -p monitor --test scaling\n{line:#?}");
    }
}

#[test]
fn what_finds_no_room_is_what_filling_at_random_gives() {
    // Simulated: balls into bins of 64, 1.5 slots for each.
    let (groups, balls) = (20_000usize, 20_000 * 64 * 2 / 3);
    let mut filled = vec![0u32; groups];
    let mut x = 0x9e37_79b9_7f4a_7c15u64;
    let mut over = 0u32;
    for _ in 0..balls {
        x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let group = ((x >> 33) as usize) % groups;
        filled[group] += 1;
        over += u32::from(filled[group] > 64);
    }
    let simulated = f64::from(over) / balls as f64;
    let computed = without_room(64.0 / 1.5, 64);
    assert!((computed / simulated - 1.0).abs() < 0.5, "{computed} computed, {simulated} simulated");
}
