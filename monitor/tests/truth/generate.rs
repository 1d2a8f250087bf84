//! Conversations between two correct TCP ends over a bad path, as many as wanted and the same in each run: loss,
//! reordering, duplicates, slow readers (closed and full windows), probes, keep-alives, aborts, and one 4-tuple used
//! again and again.

use crate::model::{Config, Rng, Seen, converse};
use crate::support::Who::{A, B};
use crate::wire::{End, Record, packet};
use monitor_common::segment::{Segment, flags, opt};
use std::net::Ipv4Addr;

/// One conversation's settings, drawn from `rng`.
pub fn config(rng: &mut Rng) -> Config {
    let pick = |rng: &mut Rng, from: &[u64]| from[rng.below(from.len() as u64) as usize];
    let (buffer, shift) =
        [(4_000, None), (12_000, Some(0)), (60_000, Some(2)), (500_000, Some(7)), (2_000_000, Some(14))]
            [rng.below(5) as usize];
    let near_wrap = rng.chance(300);
    let mut iss = [rng.next() as u32, rng.next() as u32];
    if near_wrap {
        iss = [u32::MAX - iss[0] % 50_000, u32::MAX - iss[1] % 20_000];
    }
    let loss = [[0, 0], [0, 0], [10, 0], [0, 10], [30, 30], [100, 0], [0, 100]][rng.below(7) as usize];
    Config {
        seed: rng.next(),
        iss,
        bytes: [rng.below(60_000), rng.below(30_000)],
        delay: [100 + rng.below(20_000), 100 + rng.below(20_000)],
        loss,
        reorder: pick(rng, &[0, 0, 20, 100]),
        duplicate: pick(rng, &[0, 0, 0, 20]),
        buffer,
        shift,
        timestamps: rng.chance(500),
        sack: rng.chance(500),
        slow_reader: rng.chance(200),
        byte_probes: rng.chance(500),
        deaf: rng.chance(100),
        pause: rng.chance(200),
        abort: rng.chance(200),
    }
}

/// `count` conversations, one behind the other in time; every fifth uses the 4-tuple of the one before.
pub fn capture(seed: u64, count: u16) -> Vec<Record> {
    let mut rng = Rng::new(seed);
    let mut records = Vec::new();
    let mut start_ns = 0;
    let mut port = 20_000;
    for n in 0..count {
        if n % 5 != 4 {
            port += 1;
        }
        let config = config(&mut rng);
        let seen: Vec<Seen> = converse(&config);
        let ends =
            [End { addr: Ipv4Addr::new(192, 0, 2, 1), port }, End { addr: Ipv4Addr::new(198, 51, 100, 7), port: 80 }];
        let first = seen.first().map_or(0, |s| s.time_ns);
        for one in &seen {
            let time_ns = 1_700_000_000_000_000_000 + start_ns + (one.time_ns - first);
            records.push(Record { time_ns, ..record(one, ends) });
        }
        start_ns += seen.last().map_or(0, |s| s.time_ns) - first + 1_000_000_000;
    }
    records
}

/// One conversation that nobody resets.
pub fn clean(seed: u64) -> Vec<Record> {
    let mut config = config(&mut Rng::new(1_000 + seed));
    config.abort = false;
    let ends = [
        End { addr: Ipv4Addr::new(192, 0, 2, 1), port: 40_000 },
        End { addr: Ipv4Addr::new(198, 51, 100, 7), port: 443 },
    ];
    converse(&config).iter().map(|one| record(one, ends)).collect()
}

fn record(one: &Seen, ends: [End; 2]) -> Record {
    let from = one.who as usize;
    let bytes = packet(ends[from], ends[1 - from], &one.segment);
    Record { time_ns: one.time_ns, wire_len: bytes.len() as u32, bytes }
}

/// One conversation with a fault of number `n`'s kind from its middle on, and a reset at its end. Made by rewriting
/// what passes the observer, as a device between observer and server (or client) would.
pub fn faulty(rng: &mut Rng, n: usize) -> (String, Vec<Record>) {
    type Fault = (&'static str, fn(&mut Seen, bool));
    const FAULTS: [Fault; 10] = [
        ("acks moved", |s, late| {
            if late && s.who == B {
                s.segment.ack = s.segment.ack.add(1_000);
            }
        }),
        ("acks moved far", |s, late| {
            if late && s.who == B {
                s.segment.ack = s.segment.ack.add(123_456_789);
            }
        }),
        ("numbers moved", |s, late| {
            if late && s.who == A {
                s.segment.seq = s.segment.seq.add(3_000);
            }
        }),
        ("sack moved", |s, late| {
            if late && s.who == B {
                s.segment.sack.iter_mut().flatten().for_each(|edge| *edge = edge.add(40_000_000));
            }
        }),
        ("scale lost", |s, _| {
            if s.who == B && s.segment.has(flags::SYN) {
                s.segment.options &= !opt::WSCALE;
            }
        }),
        ("window withdrawn", |s, late| {
            if late && s.who == B {
                s.segment.wnd /= 16;
            }
        }),
        ("clock set back", |s, late| {
            if late && s.who == A && s.segment.has_option(opt::TIMESTAMPS) {
                s.segment.tsval = s.segment.tsval.wrapping_sub(100_000);
            }
        }),
        ("hop missing", |s, late| {
            if late && s.who == B {
                s.segment.ttl = 57;
            }
        }),
        ("nothing", |_, _| {}),
        ("ids moved", |s, late| {
            if late && s.who == B {
                s.segment.ip_id = s.segment.ip_id.wrapping_mul(17);
            }
        }),
    ];
    let (name, fault) = FAULTS[n % FAULTS.len()];
    let mut config = config(rng);
    config.abort = true;
    config.timestamps |= name == "clock set back";
    config.sack |= name == "sack moved";
    config.bytes = [20_000 + rng.below(60_000), rng.below(5_000)];
    let mut seen = converse(&config);
    let middle = seen.len() / 2;
    for (i, one) in seen.iter_mut().enumerate() {
        fault(one, i >= middle);
    }
    // A reset from out of the middle of the path, too.
    if n.is_multiple_of(3) && seen.len() > 20 {
        let template = seen[middle..].iter().find(|s| s.who == B && !s.segment.has(flags::SYN)).copied();
        if let Some(mut reset) = template {
            let at = seen.len() - 5;
            reset.time_ns = seen[at].time_ns;
            reset.segment = Segment {
                flags: flags::RST | flags::ACK,
                ttl: 50,
                ip_id: 54_321,
                options: 0,
                sack_count: 0,
                payload_len: 0,
                ..reset.segment
            };
            seen.insert(at, reset);
        }
    }
    let ends = [
        End { addr: Ipv4Addr::new(192, 0, 2, 1), port: 40_000 + n as u16 },
        End { addr: Ipv4Addr::new(198, 51, 100, 7), port: 443 },
    ];
    let records = seen.iter().map(|one| record(one, ends));
    (format!("{name} {n}"), records.collect())
}
