//! More resets than anybody can read.

use crate::bed;
use crate::frames::{ACK, CLIENT_ISS, From, RST, SERVER_ISS, Segment, establish, play};
use monitor::capture::loader::Sizes;
use monitor_common::event::{FullEvent, why};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

const PORT: u16 = 80;
const CONNECTIONS: u32 = 100_000;

/// A hundred thousand connections are reset at once, some of them several times, while nobody reads: each is counted,
/// and what finds no room is counted as that.
#[test]
fn a_storm_of_resets_is_counted_to_the_last_one() {
    let Some(mut bed) = bed(Sizes { connections: CONNECTIONS, ring_bytes: 4 << 20 }) else { return };
    establish(&mut bed, PORT, 0, CONNECTIONS);
    let before = bed.counters();
    let reset = Segment::new(From::Server, PORT, RST | ACK, SERVER_ISS + 1, CLIENT_ISS + 1);
    let ns = play(&mut bed, &reset, 0, CONNECTIONS);
    let c = bed.counters();
    println!("{ns} ns a reset, {} reported, {} lost", c.events_sent, c.events_lost);
    let connections = before.connections_established;
    assert!(connections + 100 >= u64::from(CONNECTIONS));
    assert!(c.resets_effective >= connections);
    assert_eq!(c.resets_effective, c.events_sent + c.events_lost + c.events_withheld);
    let reported = std::iter::from_fn(|| bed.events.next().map(|item| item.len())).count() as u64;
    assert_eq!(reported, c.events_sent);

    // Of a connection that is reset again and again a few are reported.
    let ignored = Segment::new(From::Client, PORT, RST, CLIENT_ISS + 1_000_000_000, 0);
    let again = Segment { port: PORT + 1, ..ignored };
    establish(&mut bed, PORT + 1, 0, 1);
    let player = bed.player(From::Client.kind(), Default::default()).unwrap();
    player.play(&again.frame(monitor::capture::player::client_of(0)), 0, 100_000).unwrap();
    let after = bed.counters();
    assert_eq!(after.resets_ineffective, 100_000);
    let mut resets = 0;
    while let Some(item) = bed.events.next() {
        let full = FullEvent::read(&item).expect("a whole report");
        resets += u32::from(full.event.why & why::RESET != 0);
    }
    assert!((1..=4).contains(&resets), "{resets} reports of one connection");
}

/// The agent looks by itself, rarely while nothing happens. So that a storm does not fill the ring buffer meanwhile, one report
/// in each quarter of it wakes who waits, and no other does.
#[test]
fn a_storm_wakes_the_agent_once_in_each_quarter_of_the_ring_buffer() {
    const RING: u32 = 1 << 20;
    const STORM: u32 = 4_000;
    const BATCH: u32 = 20;
    let Some(mut bed) = bed(Sizes { connections: 16_384, ring_bytes: RING }) else { return };
    establish(&mut bed, PORT, 0, STORM);
    let reset = Segment::new(From::Server, PORT, RST | ACK, SERVER_ISS + 1, CLIENT_ISS + 1);
    let bell = Bell::on(bed.events.as_fd());
    let (mut reports, mut bytes, mut rings) = (0u32, 0, 0u32);
    for first in (0..STORM).step_by(BATCH as usize) {
        play(&mut bed, &reset, first.into(), BATCH);
        rings += u32::from(bell.has_rung());
        while let Some(item) = bed.events.next() {
            reports += 1;
            // With its header.
            bytes += item.len() as u32 + 8;
        }
    }
    println!("{reports} reports of {bytes} bytes, {rings} wake-ups");
    assert!(reports >= STORM - 100);
    let crossed = bytes / (RING / 4);
    assert!((crossed..=crossed + 1).contains(&rings), "{rings} wake-ups for {crossed} quarters");
}

/// Tells of wake-ups only, not of what is there to be read.
struct Bell(OwnedFd);

impl Bell {
    fn on(fd: BorrowedFd) -> Bell {
        let mut wanted = libc::epoll_event { events: (libc::EPOLLIN | libc::EPOLLET) as u32, u64: 0 };
        // SAFETY: a new descriptor, owned by nobody else.
        let epoll = unsafe { OwnedFd::from_raw_fd(libc::epoll_create1(libc::EPOLL_CLOEXEC)) };
        // SAFETY: both descriptors are open.
        let added = unsafe { libc::epoll_ctl(epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, fd.as_raw_fd(), &mut wanted) };
        assert_eq!(added, 0, "{}", std::io::Error::last_os_error());
        Bell(epoll)
    }

    fn has_rung(&self) -> bool {
        let mut event = libc::epoll_event { events: 0, u64: 0 };
        // The wake-up is an interrupt of its own (`irq_work`), which may come a moment later.
        // SAFETY: room for one event.
        let n = unsafe { libc::epoll_wait(self.0.as_raw_fd(), &mut event, 1, 10) };
        assert!(n >= 0, "{}", std::io::Error::last_os_error());
        n == 1
    }
}

/// An acknowledgement that is repeated for ever: what is worth a report is reported once.
#[test]
fn a_storm_of_acknowledgements_makes_no_storm_of_reports() {
    let Some(mut bed) = bed(Sizes { connections: 1024, ring_bytes: 4 << 20 }) else { return };
    establish(&mut bed, PORT, 0, 1);
    let client = monitor::capture::player::client_of(0);
    // Each end acknowledges what the other never sent, and repeats it (an ACK war, RFC 5961 section 7).
    let war = [
        Segment::new(From::Client, PORT, ACK, CLIENT_ISS + 1, SERVER_ISS + 500_000),
        Segment::new(From::Server, PORT, ACK, SERVER_ISS + 1, CLIENT_ISS + 500_000),
    ];
    let script = monitor::capture::player::Script { clock_step: 20_000, ..Default::default() };
    let players = war.map(|s| (bed.player(s.from.kind(), script).unwrap(), s.frame(client)));
    for _ in 0..100 {
        for (player, frame) in &players {
            player.play(frame, 0, 500).unwrap();
        }
    }
    let c = bed.counters();
    println!("{} segments, {} reports", c.received_segments + c.transmitted_segments, c.events_sent);
    assert_eq!(c.received_segments + c.transmitted_segments, 100_003);
    assert!(c.events_sent <= 64, "{} reports", c.events_sent);
    assert_eq!(c.events_lost + c.events_withheld, 0);
}
