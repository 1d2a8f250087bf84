//! Any segments in any order through the engine: nothing panics, edges only advance, counters never wrap backwards, and
//! nothing of one life is left in the next.

use monitor_common::SeqNum;
use monitor_common::engine::{self, Admission, Former, Predicted};
use monitor_common::event::why;
use monitor_common::evidence::{ENTRIES, Evidence};
use monitor_common::flow::{Direction, FlowKey, v4};
use monitor_common::recorder::Recorder;
use monitor_common::segment::{Segment, flags, opt};
use monitor_common::tracker;
use monitor_common::tracker::notes::{MAX_NOTES, Notes};
use monitor_common::tracker::state::{Connection, Core, Fault, Hook, Phase, half, sync_state};

/// Bytes of input that make one segment.
const STEP: usize = 20;

pub fn run(data: &[u8]) {
    let key = FlowKey::canonical(v4(1), 40_000, v4(2), 80).0;
    let mut c = Connection { core: Core { key, ..Core::default() }, ..Connection::default() };
    let (mut recorder, mut evidence, mut notes) = (Recorder::default(), Evidence::default(), Notes::default());
    let mut now_ns = 1_000_000;
    // The same with header prediction, and whether all segments so far were predicted.
    let (mut live, mut live_recorder, mut bare) = (c, recorder, true);
    // Numbers near one another are what makes the tracker think; wholly random ones are all out of the window.
    let mut next = [SeqNum(u32::MAX - 3_000), SeqNum(70_000)];
    for bytes in data.chunks_exact(STEP) {
        let (dir, hook, s, pause_ns) = segment(bytes, &next);
        now_ns += pause_ns;
        if c.created_ns == 0 {
            tracker::begin(&mut c.core, &key, &s, 0, now_ns);
            live = c;
        }
        let (former, former_recorder, mut moved) = (live, live_recorder, Notes::default());
        let predicted = engine::predict(&mut live.parts(), &mut live_recorder, dir, hook, &s, now_ns, &mut moved);
        assert!(
            predicted != Predicted::No || (live, live_recorder) == (former, former_recorder),
            "what is not predicted is left alone"
        );
        if bare {
            // The kernel's table holds the faults of some former connection then.
            let fault: [Fault; 2] = bytemuck::pod_read_unaligned(&[0xa5; size_of::<[Fault; 2]>()]);
            let (mut other, mut kept, mut noted) = (Connection { fault, ..former }, former_recorder, Notes::default());
            let again = engine::predict(&mut other.parts(), &mut kept, dir, hook, &s, now_ns, &mut noted);
            assert_eq!((again, other.core, kept, noted), (predicted, live.core, live_recorder, moved), "bare: {s:?}");
            assert_eq!(other.fault, fault, "bare: {s:?}");
        }
        bare &= predicted != Predicted::No;
        if engine::admit(&mut c, dir, hook, &s) != Admission::Track {
            assert_eq!(predicted, Predicted::No, "a segment that does not count was predicted");
            engine::admit(&mut live, dir, hook, &s);
            continue;
        }
        if predicted == Predicted::No {
            engine::admit(&mut live, dir, hook, &s);
            if engine::starts_new_life(&live.parts(), dir, &s) {
                let former = Former::of(&mut live.parts(), &mut live_recorder, dir);
                live = Connection::default();
                engine::restart(&mut live.parts(), &former, dir, &s, now_ns);
            }
            engine::track(&mut live.parts(), &mut live_recorder, dir, hook, &s, now_ns, &mut moved);
        }
        if engine::starts_new_life(&c.parts(), dir, &s) {
            let former = Former::of(&mut c.parts(), &mut recorder, dir);
            let lives = c.incarnation;
            c = Connection::default();
            engine::restart(&mut c.parts(), &former, dir, &s, now_ns);
            evidence = Evidence { created_ns: c.created_ns, ..Evidence::default() };
            assert_eq!(c.incarnation, lives.wrapping_add(1));
            assert_eq!([c.half[0].segments, c.half[1].segments], [0, 0]);
            assert_eq!([c.half[0].bytes, c.half[1].bytes], [0, 0]);
        }
        let before = c;
        engine::track(&mut c.parts(), &mut recorder, dir, hook, &s, now_ns, &mut notes);
        evidence.enter(dir, &mut notes, now_ns);
        let why = engine::why(&c, dir, &notes);
        if predicted != Predicted::No {
            if predicted == Predicted::Yes {
                moved.clear();
                let closing = [Phase::FinWait as u8, Phase::Closing as u8].contains(&notes.after);
                let live = notes.before >= Phase::Established as u8;
                assert!(notes.before == notes.after || closing && live, "predicted: {s:?}");
                (moved.before, moved.after) = (notes.before, notes.after);
            }
            moved.note = notes.note;
            assert_eq!(moved, notes, "predicted: {s:?}");
            let reported = why & !why::RESET;
            assert!(reported == 0 || !engine::needs_evidence(reported, &notes), "predicted: {s:?}");
        }
        if engine::ended_well(&c) {
            let sound = |f: &Fault| f.sync.state == sync_state::IN_SYNC;
            assert!(c.fault.iter().all(sound) && c.half.iter().all(|h| !h.has(half::COLLAPSED)), "{s:?}");
        }
        // The full checks record at once.
        let (mut settled, mut settled_recorder) = (live, live_recorder);
        settled_recorder.settle_all(&mut settled);
        assert_eq!((settled, settled_recorder), (c, recorder), "{s:?}");
        check(&before, &c, dir, &s, &notes, &evidence);
        let me = &c.half[dir.index()];
        if me.has(half::SEEN) {
            next[dir.index()] = me.snd_nxt;
        }
    }
}

/// One segment, and how long after the one before it comes.
fn segment(bytes: &[u8], next: &[SeqNum; 2]) -> (Direction, u8, Segment, u64) {
    let dir = Direction::from_index(bytes[0] & 1);
    let hook = [Hook::Ingress, Hook::Ingress, Hook::Egress, Hook::Forwarded][usize::from((bytes[0] >> 1) & 3)] as u8;
    let word = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
    // Up to 32 KiB either way, or anywhere.
    let near = |base: SeqNum, at: usize| match bytes[at] >> 5 {
        7 => SeqNum((u32::from(word(at)) << 16) | u32::from(word(at))),
        0..=2 => base,
        _ => base.add(i32::from(word(at) as i16) as u32),
    };
    let s = Segment {
        seq: near(next[dir.index()], 2),
        ack: near(next[dir.other().index()], 4),
        payload_len: if bytes[6] & 1 == 0 { 0 } else { u32::from(word(6)) },
        tsval: u32::from(word(8)) << ((bytes[0] >> 4) & 3),
        tsecr: u32::from(word(8)),
        wnd: word(10),
        flags: u16::from(bytes[12]) & (flags::FIN | flags::SYN | flags::RST | flags::PSH | flags::ACK),
        options: u16::from(bytes[13]) | (u16::from(bytes[0] >> 7) * opt::AUTH),
        packet: u16::from(bytes[14]) & 0xf,
        mss: 1460,
        ip_id: word(14),
        ttl: bytes[16],
        wscale: bytes[17] & 15,
        sack_count: (bytes[17] >> 4) & 3,
        ..Segment::default()
    };
    let mut s = Segment { wscale: s.wscale.min(14), ..s };
    // As the parser has it: blocks come with their option.
    if s.sack_count > 0 {
        s.options |= opt::SACK;
    }
    for i in 0..usize::from(s.sack_count) {
        let left = s.ack.add(u32::from(word(18)) * (i as u32 + 1));
        s.sack[i] = [left, left.add(u32::from(bytes[16]) << i)];
    }
    (dir, hook, s, u64::from(bytes[1]) << ((bytes[0] >> 3) & 31))
}

fn check(before: &Connection, after: &Connection, dir: Direction, s: &Segment, notes: &Notes, evidence: &Evidence) {
    assert!(usize::from(notes.count) <= MAX_NOTES && notes.hard <= notes.count);
    assert!(evidence.ledger.iter().all(|l| l.used as usize <= ENTRIES));
    assert!(after.last_ns() >= before.last_ns());
    for d in [Direction::Forward, Direction::Reverse] {
        let (old, new) = (&before.half[d.index()], &after.half[d.index()]);
        assert!(new.segments.wrapping_sub(old.segments) <= u32::from(d == dir), "segments of {d:?}");
        assert!(new.bytes.wrapping_sub(old.bytes) <= u64::from(s.payload_len));
        assert!(new.rst_count >= old.rst_count && new.last_ns >= old.last_ns);
        // An acknowledgement, once accepted, is not taken back.
        if old.has(half::ACKED) {
            assert!(new.has(half::ACKED) && new.ack.at_or_after(old.ack), "ack of {d:?} moved back");
        }
        let (old, new) = (&before.fault[d.index()], &after.fault[d.index()]);
        assert!(new.ack_unsent_hits >= old.ack_unsent_hits && new.gaps_confirmed >= old.gaps_confirmed);
        assert!(new.sack_hits >= old.sack_hits && new.beyond_hits >= old.beyond_hits);
    }
    if s.has(flags::RST) {
        let (old, new) = (before, after);
        assert_eq!([old.half[0].snd_nxt, old.half[1].snd_nxt], [new.half[0].snd_nxt, new.half[1].snd_nxt]);
        assert_eq!([old.half[0].ack, old.half[1].ack], [new.half[0].ack, new.half[1].ack]);
    }
}
