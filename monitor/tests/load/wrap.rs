//! Sequence numbers that wrap, several times over.

use crate::bed;
use crate::frames::{ACK, CLIENT_ISS, From, PSH, RST, SERVER_ISS, Segment, handshake};
use monitor::capture::host::Engine;
use monitor::capture::loader::Sizes;
use monitor::capture::player::{Kind, client_of};
use monitor_common::parse::{self, Packet};
use monitor_common::tracker::state::{Hook, Phase, sync_state};

const SIZES: Sizes = Sizes { connections: 1024, ring_bytes: 1 << 20 };
const PORT: u16 = 80;
/// As segmentation offload hands them over.
const PAYLOAD: u16 = 64_000;
const WRAPS: u64 = 3;

/// More than 12 GiB from the client, acknowledged as they come: kernel and host agree to the last field, count every
/// byte, find nothing wrong, and know the one number that a reset must have.
#[test]
fn a_transfer_that_wraps_three_times_is_in_sync_to_the_end() {
    let Some(mut bed) = bed(SIZES) else { return };
    let mut host = Engine::new();
    let client = client_of(1);
    let mut now = bed.time().unwrap();
    let mut play = |frame: &[u8], step_ns: u64| {
        now += step_ns;
        bed.set_time(now).unwrap();
        bed.frame(Kind::Xdp, frame).unwrap();
        let mut packet = Packet::default();
        parse::ethernet(frame, 0, &mut packet).unwrap();
        host.on_packet(&packet, Hook::Ingress, now);
    };
    for segment in handshake(PORT) {
        play(&segment.frame(client), 1_000_000);
    }
    let mut data =
        Segment { payload: PAYLOAD, ..Segment::new(From::Client, PORT, ACK | PSH, 0, SERVER_ISS + 1) }.frame(client);
    let mut acknowledgement = Segment::new(From::Server, PORT, ACK, SERVER_ISS + 1, 0).frame(client);
    let number = |n: u64| (u64::from(CLIENT_ISS) + 1 + n) as u32;
    let mut sent = 0u64;
    while sent < (WRAPS << 32) + (1 << 30) {
        data[38..42].copy_from_slice(&number(sent).to_be_bytes());
        play(&data, 5_000);
        sent += u64::from(PAYLOAD);
        acknowledgement[42..46].copy_from_slice(&number(sent).to_be_bytes());
        play(&acknowledgement, 5_000);
    }
    // A number of the wrap before is none that the receiver takes.
    let reset = |seq| Segment::new(From::Client, PORT, RST, seq, 0).frame(client);
    play(&reset(number(sent).wrapping_sub(1 << 31)), 1_000_000);
    let ignored = bed.counters();
    assert_eq!((ignored.resets_effective, ignored.resets_ineffective), (0, 1));
    let (_, alive) = bed.table.connections().next().unwrap();
    assert_eq!(alive.phase(), Phase::Established);
    let c = bed.counters();
    assert_eq!(c.anomalies.iter().filter(|(_, n)| *n > 0).count(), 0, "{:?}", c.anomalies);

    let mut packet = Packet::default();
    let last = reset(number(sent));
    parse::ethernet(&last[..], 0, &mut packet).unwrap();
    now += 1_000_000;
    bed.set_time(now).unwrap();
    bed.frame(Kind::Xdp, &last).unwrap();
    host.on_packet(&packet, Hook::Ingress, now);
    assert_eq!(bed.counters().resets_effective, 1);

    let kernel: Vec<_> = bed.table.connections().collect();
    assert_eq!(kernel.len(), 1);
    let (slot, connection) = kernel[0];
    let on_host = host.iter().next().unwrap();
    assert_eq!(connection, on_host.connection);
    assert_eq!(bed.table.recorder(slot), on_host.recorder);
    assert_eq!(connection.half[0].bytes + connection.half[1].bytes, sent);
    assert!(connection.fault.iter().all(|f| f.sync.state == sync_state::IN_SYNC));
    assert_eq!(connection.phase(), Phase::Reset);
    assert_eq!(bed.table.connections().count(), 1);
}
