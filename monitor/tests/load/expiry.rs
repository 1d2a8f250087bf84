//! Silent connections leave in time, at a bounded cost for each step; a port that is used again begins anew.

use crate::bed;
use crate::frames::{ACK, CLIENT_ISS, FIN, From, PSH, SERVER_ISS, SYN, Segment, establish, handshake, key, play};
use monitor::capture::bed::Bed;
use monitor::capture::loader::Sizes;
use monitor::capture::player::client_of;
use monitor::capture::sweep::{Pressure, Sweep};
use monitor_common::tracker::SECOND;
use monitor_common::tracker::state::{Connection, Phase};
use std::collections::HashMap;

const SIZES: Sizes = Sizes { connections: 20_000, ring_bytes: 1 << 20 };
const OPEN: u16 = 80;
const CLOSED: u16 = 81;
const TRIED: u16 = 82;
/// Few enough that no set is full.
const EACH: u32 = 2_000;

fn close(bed: &mut Bed, port: u16, from: u64, count: u32, (client, server): (u32, u32)) {
    let steps = [
        Segment::new(From::Server, port, FIN | ACK, server, client),
        Segment::new(From::Client, port, FIN | ACK, client, server + 1),
        Segment::new(From::Server, port, ACK, server + 1, client + 1),
    ];
    for s in &steps {
        play(bed, s, from, count);
    }
}

/// Eight walks over the whole table: each entry is looked at.
fn sweep(bed: &Bed, sweep: &mut Sweep, now_ns: u64) -> u64 {
    let mut freed = 0;
    for _ in 0..8 * sweep.steps() {
        let here = sweep.step(&bed.table, now_ns, &mut |_| None, &mut |_, _| Vec::new(), &mut |_| {});
        assert!(here <= (sweep.sets_a_step() * 16) as u64, "{here} in one step");
        freed += here;
    }
    freed
}

fn of_port(bed: &Bed, port: u16) -> Vec<Connection> {
    bed.table.connections().map(|(_, c)| c).filter(|c| c.key.port.contains(&port)).collect()
}

#[test]
fn silent_connections_leave_by_their_timers() {
    let Some(mut bed) = bed(SIZES) else { return };
    establish(&mut bed, OPEN, 0, EACH);
    // Not only a handshake.
    let request =
        Segment { payload: 100, ..Segment::new(From::Client, OPEN, ACK | PSH, CLIENT_ISS + 1, SERVER_ISS + 1) };
    play(&mut bed, &request, 0, EACH);
    play(&mut bed, &Segment::new(From::Server, OPEN, ACK, SERVER_ISS + 1, CLIENT_ISS + 101), 0, EACH);
    establish(&mut bed, CLOSED, 0, EACH);
    close(&mut bed, CLOSED, 0, EACH, (CLIENT_ISS + 1, SERVER_ISS + 1));
    play(&mut bed, &Segment::new(From::Client, TRIED, SYN, CLIENT_ISS, 0), 0, EACH);
    let counts = |bed: &Bed| [OPEN, CLOSED, TRIED].map(|port| of_port(bed, port).len() as u32);
    assert_eq!(counts(&bed), [EACH; 3]);
    assert!(of_port(&bed, CLOSED).iter().all(|c| c.phase() == Phase::TimeWait));

    let (silent_since, mut walk) = (bed.time().unwrap(), Sweep::new(bed.table.set_count()));
    let mut at = |bed: &Bed, seconds: u64| sweep(bed, &mut walk, silent_since + seconds * SECOND);
    assert_eq!(at(&bed, 230), 0, "2 MSL and the transitory timer are four minutes");
    assert_eq!(at(&bed, 250), u64::from(2 * EACH));
    assert_eq!(counts(&bed), [EACH, 0, 0]);
    assert_eq!(at(&bed, 7440), 0, "RFC 5382 REQ-5: 2 h 4 min at least");
    assert_eq!(at(&bed, 23 * 3600), 0);
    assert_eq!(at(&bed, 25 * 3600), u64::from(EACH));
    assert_eq!(counts(&bed), [0; 3]);
    assert_eq!(bed.table.connections().count(), 0);
}

/// A flood fills the table and shortens nobody's time; live connections do.
#[test]
fn pressure_is_what_lives() {
    let Some(mut bed) = bed(SIZES) else { return };
    let mut walk = Sweep::new(bed.table.set_count());
    play(&mut bed, &Segment::new(From::Client, TRIED, SYN, CLIENT_ISS, 0), 0, 200_000);
    assert!(bed.table.connections().count() * 10 > bed.table.capacity() * 9);
    let now = bed.time().unwrap();
    sweep(&bed, &mut walk, now);
    assert_eq!(walk.pressure(), Pressure::None);
    let live = bed.table.capacity() as u32 * 85 / 100;
    establish(&mut bed, OPEN, 0, live);
    for from in [From::Server, From::Client] {
        // Where handshakes pushed each other out the next segments take the connection up.
        let (seq, ack) = if from == From::Client { (CLIENT_ISS, SERVER_ISS) } else { (SERVER_ISS, CLIENT_ISS) };
        play(&mut bed, &Segment::new(from, OPEN, ACK, seq + 1, ack + 1), 0, live);
    }
    let now = bed.time().unwrap();
    sweep(&bed, &mut walk, now);
    assert_eq!(walk.pressure(), Pressure::High);
    assert_eq!(sweep(&bed, &mut walk, now + 5 * SECOND), 0);
    // A quarter of an hour in place of a day.
    let freed = sweep(&bed, &mut walk, now + 901 * SECOND);
    assert!(freed >= u64::from(live / 100 * 95), "{freed} of {live}");
}

#[test]
fn a_port_that_is_used_again_begins_a_new_life() {
    let Some(mut bed) = bed(SIZES) else { return };
    establish(&mut bed, CLOSED, 0, EACH);
    close(&mut bed, CLOSED, 0, EACH, (CLIENT_ISS + 1, SERVER_ISS + 1));
    let first: HashMap<_, _> = of_port(&bed, CLOSED).into_iter().map(|c| (c.key, c)).collect();
    let later = bed.time().unwrap() + SECOND;
    bed.set_time(later).unwrap();
    const NEXT: u32 = 0x8000_0000;
    for mut s in handshake(CLOSED) {
        s.seq = s.seq.wrapping_add(NEXT);
        s.ack = if s.ack == 0 { 0 } else { s.ack.wrapping_add(NEXT) };
        play(&mut bed, &s, 0, EACH);
    }
    let second = of_port(&bed, CLOSED);
    assert_eq!(second.len() as u32, EACH);
    for c in &second {
        assert_eq!((c.phase(), c.incarnation), (Phase::Established, 1));
        assert_eq!(c.created_ns, later);
        assert_eq!((c.half[0].segments + c.half[1].segments, first[&c.key].incarnation), (3, 0));
        assert!(c.half.iter().all(|h| h.iss.0 >= NEXT), "numbers are those of this life");
    }
    assert!(second.iter().any(|c| c.key == key(client_of(0), CLOSED)));
    let c = bed.counters();
    assert_eq!(c.connections_opened, u64::from(2 * EACH));
    assert_eq!(c.anomalies.iter().filter(|(_, n)| *n > 0).count(), 0, "{:?}", c.anomalies);
}
