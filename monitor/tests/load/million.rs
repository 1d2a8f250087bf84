//! A million connections at once.

use crate::bed;
use crate::frames::{self, ACK, CLIENT_ISS, From, PSH, SERVER_ISS, Segment, establish, play};
use monitor::api::query::ConnectionQuery;
use monitor::capture::counters;
use monitor::capture::listing;
use monitor::capture::loader::Sizes;
use monitor::capture::player::client_of;
use monitor::snapshot::Listing;
use monitor_common::tracker::state::Phase;
use std::collections::HashSet;

const MILLION: u32 = 1_000_000;
const PORT: u16 = 80;

#[test]
fn a_million_connections_are_tracked_at_once_and_found_again() {
    let sizes = Sizes { connections: MILLION, ring_bytes: 1 << 20 };
    let Some(mut bed) = bed(sizes) else { return };
    println!("{} MiB, {} bytes a connection", sizes.bytes() >> 20, Sizes::bytes_per_connection());
    establish(&mut bed, PORT, 0, MILLION);
    // A request of 100 bytes and its answer.
    let request =
        Segment { payload: 100, ..Segment::new(From::Client, PORT, ACK | PSH, CLIENT_ISS + 1, SERVER_ISS + 1) };
    let answer =
        Segment { payload: 200, ..Segment::new(From::Server, PORT, ACK | PSH, SERVER_ISS + 1, CLIENT_ISS + 101) };
    play(&mut bed, &request, 0, MILLION);
    play(&mut bed, &answer, 0, MILLION);
    let before = bed.counters();
    println!("evicted {:?}, rejected {}, busy {}", before.evictions, before.table_full, before.table_busy);
    assert_eq!(before.table_busy, 0);
    // One in 20,000 finds all four sets that it may be in full of others; those are counted.
    assert!(before.table_full <= 400, "{} segments were not tracked", before.table_full);

    // Each is found again: an acknowledgement opens nothing new, and is counted where it belongs.
    let acknowledgement = Segment::new(From::Client, PORT, ACK, CLIENT_ISS + 101, SERVER_ISS + 201);
    let ns = play(&mut bed, &acknowledgement, 0, MILLION);
    let after = bed.counters();
    println!("{ns} ns a packet with a million connections known; evicted {:?}", after.evictions);
    let again = after.connections_opened - before.connections_opened;
    assert!(again <= 100, "{again} connections had to be taken up again");

    // What is listed is made into rows, nothing else; counting them all is a walk.
    let began = std::time::Instant::now();
    let query = ConnectionQuery { limit: Some(100), ..ConnectionQuery::default() };
    let Listing { rows, matched, total } = listing::connections(&bed.table, &query, bed.time().unwrap());
    let rows: Vec<_> = rows.collect();
    let listed = began.elapsed();
    assert_eq!((rows.len(), matched), (100, total));
    assert!(total + 100 >= MILLION as usize);
    let population = counters::population(bed.table.connections().map(|(_, c)| c));
    assert_eq!(population.entries, total as u64);
    println!("100 of {total} listed in {listed:?}, all counted in {:?}", began.elapsed() - listed);

    let (mut seen, mut whole) = (HashSet::new(), 0);
    for (_, connection) in bed.table.connections() {
        assert_eq!(connection.phase(), Phase::Established);
        assert!(seen.insert(connection.key), "{:?} is in the table twice", connection.key);
        let bytes = connection.half[0].bytes + connection.half[1].bytes;
        let segments = connection.half[0].segments + connection.half[1].segments;
        whole += u32::from((bytes, segments) == (300, 6));
    }
    let known = (0..MILLION as u64).filter(|n| seen.contains(&frames::key(client_of(*n), PORT))).count();
    println!("{known} of a million found, {whole} with every segment");
    assert_eq!(known, seen.len(), "nothing else is in the table");
    assert!(known + 100 >= MILLION as usize);
    // Where a set is almost full of live connections, handshakes push each other out; the traffic brings them back.
    assert!(whole + 3_000 >= MILLION, "{whole} have all their segments");
    assert_eq!(after.events_lost + after.evidence_full, 0);
}
