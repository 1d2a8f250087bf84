//! What holds for every conversation: for any segments at all, for correct ends on a bad path, and for views of them
//! that miss packets.

mod support;

#[path = "support/model.rs"]
mod model;

use model::{Config, Rng, Seen, converse};
use monitor_common::anomaly::Anomaly;
use monitor_common::parse::{self, Glance, Packet, Reason};
use monitor_common::segment::{Segment, flags, opt, packet};
use monitor_common::seq::SeqNum;
use monitor_common::tracker::notes::HARD;
use monitor_common::tracker::state::{Connection, Phase, candidate, half, sync_state};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use support::*;

/// Tells what was seen; gives what was noted, in words and relative numbers.
struct Told {
    talk: Talk,
    /// One line per noted anomaly.
    notes: Vec<String>,
    hard: Vec<String>,
    desynced: bool,
}

fn tell<'a>(seen: impl IntoIterator<Item = &'a Seen>, iss: [u32; 2], a_first: bool) -> Told {
    let mut told = Told { talk: Talk::new(iss, a_first), notes: Vec::new(), hard: Vec::new(), desynced: false };
    for (i, one) in seen.into_iter().enumerate() {
        let talk = &mut told.talk;
        talk.tell(one.who, &one.segment, one.time_ns);
        if talk.notes.count == 0 {
            continue;
        }
        for note in talk.notes.iter() {
            let name = Anomaly::from_number(note.anomaly).expect("a number of the catalogue").name();
            let who = if note.direction == talk.dir_a as u8 { A } else { B };
            let line = format!("{i} {:?}: {who:?} {name}", one.who);
            if note.flags & HARD != 0 {
                told.hard.push(line.clone());
            }
            told.notes.push(line);
        }
        told.desynced |= talk.notes.sync_after.contains(&sync_state::DESYNCED);
    }
    told
}

fn innocent(told: &Told, what: &str) -> Result<(), TestCaseError> {
    prop_assert!(told.hard.is_empty(), "{what}: {:?}", told.hard);
    prop_assert!(!told.desynced, "{what}: desynchronised");
    Ok(())
}

fn configs() -> impl Strategy<Value = Config> {
    let ends = (any::<u64>().no_shrink(), any::<[u32; 2]>(), prop::bool::weighted(0.3), 0..60_000u64, 0..30_000u64);
    let path = (
        [100..20_000u64, 100..20_000u64],
        prop::sample::select(vec![[0, 0], [10, 0], [0, 10], [30, 30], [100, 0], [0, 100], [100, 100]]),
        prop::sample::select(vec![0, 0, 20, 100]),
        prop::sample::select(vec![0, 0, 20]),
    );
    let tcp = (
        prop::sample::select(vec![(4_000, None), (12_000, Some(0)), (60_000, Some(2)), (500_000, Some(7))]),
        any::<[bool; 2]>(),
        prop::bool::weighted(0.15),
        any::<bool>(),
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.15),
        prop::bool::weighted(0.15),
    );
    (ends, path, tcp).prop_map(|((seed, iss, wraps, a, b), (delay, loss, reorder, duplicate), tcp)| {
        let ((buffer, shift), [timestamps, sack], slow_reader, byte_probes, deaf, pause, abort) = tcp;
        let iss = if wraps { [u32::MAX - iss[0] % 50_000, u32::MAX - iss[1] % 20_000] } else { iss };
        Config {
            seed,
            iss,
            bytes: [a, b],
            delay,
            loss,
            reorder,
            duplicate,
            buffer,
            shift,
            timestamps,
            sack,
            slow_reader,
            byte_probes,
            deaf,
            pause,
            abort,
        }
    })
}

/// Drops packets from the view: they went on to their receiver.
fn miss(seen: &[Seen], per_mille: u64, seed: u64) -> Vec<Seen> {
    let mut rng = Rng::new(seed ^ 0x5555);
    seen.iter().filter(|_| !rng.chance(per_mille)).copied().collect()
}

/// The same cases in each run: what fails one time in a million is for the survey to find, not for somebody's build.
fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, rng_seed: RngSeed::Fixed(1), ..ProptestConfig::default() }
}

/// The same state but for where the numbers begin and which end stands first. What was never set is 0 in both.
fn same_state(one: &Talk, other: &Talk) -> Result<(), TestCaseError> {
    for who in [A, B] {
        let numbers = |t: &Talk| {
            let (h, r, f) = (t.half(who), t.reach(who), t.fault(who));
            let (sent, acks) = (&f.candidates[candidate::BEYOND_WINDOW], &f.candidates[candidate::ACK_UNSENT]);
            let sacks = &f.candidates[candidate::SACK_UNSENT];
            let own = [
                ("snd_nxt", h.snd_nxt),
                ("iss", h.iss),
                ("fin_end", h.fin_end),
                ("prev_seq", h.prev_seq),
                ("rtt_seq", h.rtt_seq),
                ("hole.lo", f.hole.lo),
                ("hole.hi", f.hole.hi),
                ("beyond", sent.actual),
                ("beyond_edge", sent.expected),
                ("entry_nxt", f.sync.entry_nxt),
                ("rto_seq", f.rto_seq),
                ("shadow_end", f.shadow_end),
                ("next_iss", f.next_iss),
                ("rexmit_seq", f.rexmit_seq),
                ("len_max_end", r.len_max_end),
                ("over_raw_end", r.over_raw_end),
                ("scale_from", f.scale_from),
            ];
            let others = [
                ("ack", h.ack),
                ("edge_max", h.edge_max),
                ("edge_cur", h.edge_cur),
                ("prev_ack", h.prev_ack),
                ("ack_unsent", acks.actual),
                ("sack_unsent", sacks.actual),
                ("sack_right", f.sack_right),
                ("shrink_edge", f.shrink_edge),
            ];
            let own = own.map(|(name, n)| (name, n.0, t.rel(who, n)));
            let others = others.map(|(name, n)| (name, n.0, t.rel(who.other(), n)));
            own.into_iter().chain(others).collect::<Vec<_>>()
        };
        for ((name, a, a_rel), (_, b, b_rel)) in numbers(one).into_iter().zip(numbers(other)) {
            prop_assert!(a_rel == b_rel || (a, b) == (0, 0), "{who:?} {name}: {a_rel} and {b_rel}");
        }
        let plain = |t: &Talk| {
            let (h, r, f) = (t.half(who), t.reach(who), t.fault(who));
            let times = (h.last_ns, h.data_ns, h.ack_ns, h.rtt_start_ns, h.bytes, h.flags, h.segments, h.rtt_min_us);
            let windows = (h.wnd_max, h.wnd, r.syn_wnd, r.first_wnd, h.wscale, h.dup_acks, h.len_max, h.rtt_samples);
            let hole = (f.hole.since_ns, f.hole.later, f.hole.rexmit_lo, f.hole.rexmit_hi, f.hole.rounds);
            let sync = (f.sync.state, f.sync.kind, f.sync.hard, f.sync.first_ns, f.sync.since_ns, f.settled);
            let offsets = (f.shift_lo, f.shift_hi, f.sack_shift, f.phantom, f.dsack_shift, f.sack_lo, f.peer_shift);
            let hits = (f.shift_hits, f.ack_unsent_hits, f.sack_hits, f.beyond_hits, f.pingpongs, f.rexmits);
            format!("{times:?} {windows:?} {hole:?} {sync:?} {offsets:?} {hits:?} {} {}", f.gaps_confirmed, f.jump_hits)
        };
        prop_assert_eq!(plain(one), plain(other), "{:?}", who);
    }
    prop_assert_eq!((one.c.flags, one.c.incarnation, one.phase()), (other.c.flags, other.c.incarnation, other.phase()));
    Ok(())
}

proptest! {
    #![proptest_config(cases(1_500))]

    /// DIAGNOSIS, decision 2: correct ends on a bad path, seen whole.
    #[test]
    fn correct_ends_are_innocent(config in configs()) {
        let seen = converse(&config);
        innocent(&tell(&seen, config.iss, true), "whole")?;
    }

    /// ... seen with gaps in the capture.
    #[test]
    fn correct_ends_are_innocent_in_a_lossy_view(config in configs(), per_mille in prop::sample::select(vec![10, 100])) {
        let seen = miss(&converse(&config), per_mille, config.seed);
        innocent(&tell(&seen, config.iss, true), "lossy")?;
    }

    /// ... from the middle on, and one way only.
    #[test]
    fn correct_ends_are_innocent_in_a_partial_view(config in configs(), from in 0..200usize) {
        let seen = converse(&config);
        innocent(&tell(seen.iter().skip(from), config.iss, true), "middle")?;
        let lossy = miss(&seen, 50, config.seed);
        innocent(&tell(lossy.iter().skip(from), config.iss, true), "lossy middle")?;
        for who in [A, B] {
            innocent(&tell(seen.iter().filter(|s| s.who == who), config.iss, true), "one way")?;
        }
    }

    /// A capture merged of two files, or a mirror port that shows every packet twice.
    #[test]
    fn what_is_seen_twice_is_innocent(config in configs(), lag in 1..40usize) {
        let seen = converse(&config);
        let twice: Vec<Seen> = seen.iter().chain(&seen).copied().collect();
        innocent(&tell(&twice, config.iss, true), "twice")?;
        let mirrored: Vec<Seen> = seen.iter().flat_map(|s| [*s, *s]).collect();
        innocent(&tell(&mirrored, config.iss, true), "mirrored")?;
        // The second copy comes some packets later.
        let mut late = Vec::new();
        for (i, one) in seen.iter().enumerate() {
            late.push(*one);
            if let Some(old) = i.checked_sub(lag).and_then(|j| seen.get(j)) {
                late.push(*old);
            }
        }
        innocent(&tell(&late, config.iss, true), "late copy")?;
    }

    /// Neither where the numbers begin nor which end stands first in the key matters.
    #[test]
    fn numbering_and_key_order_do_not_matter(config in configs(), iss in any::<[u32; 2]>()) {
        let seen = miss(&converse(&config), 30, config.seed);
        let plain = tell(&seen, config.iss, true);
        let swapped = tell(&seen, config.iss, false);
        prop_assert_eq!(&plain.notes, &swapped.notes, "key order");
        same_state(&plain.talk, &swapped.talk)?;
        let mut config = config;
        config.iss = iss;
        let moved = tell(&miss(&converse(&config), 30, config.seed), iss, true);
        prop_assert_eq!(&plain.notes, &moved.notes, "numbering");
        same_state(&plain.talk, &moved.talk)?;
    }

    /// A new incarnation carries nothing over.
    #[test]
    fn a_second_life_is_like_a_first_one(first in configs(), second in configs()) {
        let mut first = first;
        first.abort = true;
        let before = converse(&first);
        let mut after = converse(&second);
        let gap = before.last().map_or(0, |s| s.time_ns) + 1_000_000_000;
        let start = after.first().map_or(0, |s| s.time_ns);
        after.iter_mut().for_each(|s| s.time_ns = s.time_ns - start + gap);
        // A connection that was never seen to end is not what this is about.
        let mut ended = tell(&before, first.iss, true).talk;
        prop_assume!(matches!(ended.c.phase(), Phase::Reset | Phase::TimeWait) && first.iss[0] != second.iss[0]);
        let mut alone = Talk::new(second.iss, true);
        for one in &after {
            ended.tell(one.who, &one.segment, one.time_ns);
            alone.tell(one.who, &one.segment, one.time_ns);
            prop_assert_eq!(ended.words(), alone.words());
            let mut as_first = ended.c;
            as_first.incarnation = alone.c.incarnation;
            let mut expected = alone.c;
            for i in 0..2 {
                expected.half[i].fed_by = as_first.half[i].fed_by;
            }
            prop_assert_eq!(as_first, expected);
        }
    }
}

fn segments() -> impl Strategy<Value = (bool, Segment, i64)> {
    // Numbers near each other, near the wrap, and anywhere.
    let number = || {
        prop_oneof![
            4 => 0..5_000u32,
            2 => (0..5_000u32).prop_map(|n| n.wrapping_sub(2_500)),
            1 => (0..200_000u32).prop_map(|n| n.wrapping_add(0x7fff_0000)),
            1 => any::<u32>(),
        ]
        .prop_map(SeqNum)
    };
    let control = prop_oneof![
        6 => Just(flags::ACK),
        3 => Just(flags::ACK | flags::PSH),
        1 => Just(flags::SYN),
        1 => Just(flags::SYN | flags::ACK),
        1 => Just(flags::FIN | flags::ACK),
        1 => Just(flags::RST),
        1 => Just(flags::RST | flags::ACK),
        1 => 0..4096u16,
    ];
    let length = prop_oneof![4 => Just(0u32), 2 => 1..2_000u32, 1 => Just(1u32), 1 => any::<u32>()];
    let time = prop_oneof![6 => 0..50_000_000i64, 1 => -1_000_000_000..10_000_000_000i64, 1 => any::<i64>()];
    let numbers = (any::<bool>(), number(), number(), length, control, any::<u16>(), time);
    let options = (any::<[u32; 2]>(), 0..=4u8, prop::array::uniform4([number(), number()]), 0..=14u8, 0..1024u16);
    let around = (any::<u16>(), 60..66u8, prop::sample::select(vec![0, packet::IPV6, packet::FIRST_FRAGMENT]));
    (numbers, options, around).prop_map(|(n, o, p)| {
        let (who, seq, ack, payload_len, flags, wnd, time) = n;
        let ([tsval, tsecr], sack_count, sack, wscale, options) = o;
        let (ip_id, ttl, packet) = p;
        let s = Segment {
            seq,
            ack,
            payload_len,
            tsval: tsval % 100_000,
            tsecr,
            sack,
            wnd,
            flags,
            options,
            packet,
            mss: 1460,
            ip_id: ip_id % 50,
            ttl,
            wscale,
            sack_count,
            ..Segment::default()
        };
        (who, s, time)
    })
}

/// Counters that only grow within one life.
fn counters(c: &Connection) -> Vec<u64> {
    let mut all = Vec::new();
    for i in 0..2 {
        let (h, f) = (&c.half[i], &c.fault[i]);
        all.extend([u64::from(h.segments), u64::from(h.rst_count), h.last_ns]);
        all.extend([f.ack_unsent_hits, f.sack_hits, f.beyond_hits, f.rexmits, f.gaps_confirmed].map(u64::from));
        all.extend([h.rtt_samples, f.after_reset, f.jump_hits].map(u64::from));
        all.extend([u64::from(h.len_max), c.reach[i].rst_ns, u64::from(h.has(half::ACKED_OVER_RAW))]);
        all.extend([f.phantom_hits.min(1), f.ts_regress_hits, f.shrink_hits, f.probes].map(u64::from));
    }
    all
}

proptest! {
    #![proptest_config(cases(3_000))]

    /// Any segments in any order, at times that run backwards: no panic (overflow checks are on here), and the
    /// discipline that the tracker's description promises.
    #[test]
    fn anything_may_come(list in prop::collection::vec(segments(), 1..60), a_first in any::<bool>()) {
        let mut talk = Talk::new([0, 0], a_first);
        let mut now = START_NS as i64;
        for (is_a, s, step) in list {
            now = now.wrapping_add(step).max(0);
            let who = if is_a { A } else { B };
            let (me, peer) = (talk.dir(who).index(), talk.dir(who.other()).index());
            let (before, lives) = (talk.c, talk.lives);
            talk.tell(who, &s, now as u64);
            if talk.lives != lives {
                continue;
            }
            for (old, new) in counters(&before).iter().zip(counters(&talk.c)) {
                prop_assert!(*old <= new || *old >= 255, "{old} {new}: {s:?}");
            }
            let (half_before, half_now) = (&before.half[me], &talk.c.half[me]);
            let (peer_before, peer_now) = (&before.half[peer], &talk.c.half[peer]);
            // A segment writes what its speaker sent; of the other end only the sample of the round trip.
            prop_assert_eq!(peer_before.snd_nxt, peer_now.snd_nxt);
            prop_assert_eq!((peer_before.ack, peer_before.edge_max), (peer_now.ack, peer_now.edge_max));
            prop_assert_eq!(half_now.segments, half_before.segments.wrapping_add(1));
            if s.has(flags::RST) {
                prop_assert_eq!(half_before.snd_nxt, half_now.snd_nxt);
                prop_assert_eq!((half_before.ack, half_before.edge_max), (half_now.ack, half_now.edge_max));
                continue;
            }
            // But what was seen beyond the window may have been taken by a lenient receiver.
            let lenient = peer_before.has(half::SHADOW | half::END_UNCERTAIN);
            let unsent = peer_before.has(half::SEEN) && (2..1 << 30).contains(&s.ack.distance(peer_before.snd_nxt)) && !lenient;
            let unsent = unsent && s.has(flags::ACK);
            if unsent && half_before.has(half::ACKED) {
                prop_assert_eq!((half_before.ack, half_before.edge_max), (half_now.ack, half_now.edge_max), "{:?}", s);
            }
            // Wholly beyond the window, by more than rounding and more than a missed datagram.
            let beyond = peer_before.has(half::EDGE)
                && (65_535 + 16_384..1 << 30).contains(&s.seq.distance(peer_before.edge_max))
                && (-(1 << 30)..=0).contains(&half_before.snd_nxt.distance(peer_before.edge_max));
            let lifted = half_now.snd_nxt == half_before.snd_nxt
                || peer_before.has(half::ACKED) && half_now.snd_nxt == peer_before.ack
                || talk.noted(Anomaly::CaptureGap).is_some();
            if beyond && s.seq_len() > 0 && s.seq_len() < 1 << 30 && !s.has(flags::SYN) && half_before.has(half::SEEN) {
                prop_assert!(lifted, "{:?} -> {:?}: {s:?}", half_before.snd_nxt, half_now.snd_nxt);
            }
        }
    }

    /// A frame that is plain but for a few bytes: whoever takes it, reads the same.
    #[test]
    fn a_glance_tells_what_the_general_way_tells(
        with_timestamps in any::<bool>(),
        addresses in prop::array::uniform8(any::<u8>()),
        ports in prop::array::uniform4(0..3u8),
        rest in prop::collection::vec(any::<u8>(), 0..60),
        changes in prop::collection::vec((0..70usize, any::<u8>()), 0..3),
        wire in 0..3_000u32,
    ) {
        let mut bytes = vec![2; 66];
        bytes[12..14].copy_from_slice(&[0x08, 0x00]);
        bytes[14..24].copy_from_slice(&[0x45, 0, 0, 100, 0, 1, 0x40, 0, 64, 6]);
        bytes[26..34].copy_from_slice(&addresses);
        bytes[34..38].copy_from_slice(&ports);
        bytes[46] = if with_timestamps { 0x80 } else { 0x50 };
        bytes[54..58].copy_from_slice(&[1, 1, 8, 10]);
        bytes.extend(rest);
        for (at, byte) in changes {
            if let Some(b) = bytes.get_mut(at) {
                *b = byte;
            }
        }
        for wire_len in [0, bytes.len() as u32, wire] {
            let (mut glanced, mut general) = (Packet::default(), Packet::default());
            let parsed = parse::ethernet_in_general(&bytes[..], wire_len, &mut general);
            match parse::glance(&bytes[..], wire_len, &mut glanced) {
                Glance::Segment => prop_assert_eq!((parsed, general), (Ok(()), glanced)),
                Glance::Other => prop_assert_eq!(parsed, Err(Reason::NotTcp)),
                Glance::Unclear => {}
            }
        }
    }

    /// No bytes make the parser panic, nor read as longer than they are.
    #[test]
    fn any_bytes_may_come(mut bytes in prop::collection::vec(any::<u8>(), 0..200), kind in 0..6u8, wire in 0..3_000u32) {
        // Mostly something that looks like IP and TCP.
        let ethertype: &[u8] = match kind {
            0 | 1 => &[0x08, 0x00, 0x45],
            2 | 3 => &[0x86, 0xdd, 0x60],
            4 => &[0x81, 0x00],
            _ => &[],
        };
        for (to, from) in bytes.iter_mut().skip(12).zip(ethertype) {
            *to = *from;
        }
        if kind < 4 {
            let at = if kind < 2 { 14 + 9 } else { 14 + 6 };
            if let Some(b) = bytes.get_mut(at).filter(|_| kind % 2 == 0) {
                *b = 6;
            }
        }
        let mut out = Packet::default();
        for wire_len in [0, bytes.len() as u32, wire] {
            if parse::ethernet(&bytes[..], wire_len, &mut out).is_ok() && wire_len > 0 {
                prop_assert!(out.segment.payload_len <= wire_len.max(65_535));
                prop_assert!(out.segment.sack_count <= 4 && out.segment.wscale <= 14);
            }
            let _ = parse::ip(&bytes[..], (wire_len % 64) as usize, wire_len, &mut out);
            let _ = parse::has_headers(&bytes[..]);
        }
    }
}

/// Not a test: how often views of correct conversations are blamed, by anomaly.
#[test]
#[ignore = "a survey, to be read"]
fn survey() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::default();
    let mut found = std::collections::BTreeMap::<String, (u32, String)>::new();
    let rounds = std::env::var("ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(3_000);
    let mut segments = 0;
    for _ in 0..rounds {
        let config = configs().new_tree(&mut runner).expect("a configuration").current();
        let seen = converse(&config);
        segments += seen.len();
        let views: [(&str, Vec<Seen>); 6] = [
            ("whole", seen.clone()),
            ("miss 1 %", miss(&seen, 10, config.seed)),
            ("miss 10 %", miss(&seen, 100, config.seed)),
            ("middle", miss(&seen, 50, config.seed).into_iter().skip(20).collect()),
            ("one way", seen.iter().filter(|s| s.who == A).copied().collect()),
            ("twice", seen.iter().chain(&seen).copied().collect()),
        ];
        for (name, view) in views {
            let told = tell(&view, config.iss, true);
            let mut kinds: Vec<&str> = told.hard.iter().filter_map(|l| l.rsplit(' ').next()).collect();
            kinds.dedup();
            kinds.extend(told.desynced.then_some("DESYNCED"));
            for kind in kinds {
                let entry = found.entry(format!("{name}: {kind}")).or_default();
                entry.0 += 1;
                if entry.1.is_empty() {
                    entry.1 = format!("{:?}\n        {config:?}", told.hard.first());
                }
            }
        }
    }
    println!("{rounds} conversations, {segments} segments");
    for (what, (count, example)) in found {
        println!("{count:6} {what}: {example}");
    }
}

/// One change to a segment that would be next.
#[derive(Clone, Copy, Debug)]
enum Change {
    Nothing,
    Seq(i32),
    Ack(i32),
    Wnd(u16),
    Flags(u16),
    Options(u16),
    Packet(u16),
    Sacks(u8),
    Tsval(i32),
    Tsecr(i32),
    Ttl(u8),
    L2(u16),
    Tos(u8),
    FlowLabel(u32),
    IpId(u16),
    Len(u32),
}

fn changes() -> impl Strategy<Value = Change> {
    let near = || prop_oneof![-3..=3i32, -3000..3000i32, any::<i32>()];
    prop_oneof![
        20 => Just(Change::Nothing),
        2 => near().prop_map(Change::Seq),
        2 => near().prop_map(Change::Ack),
        2 => prop_oneof![0..3u16, any::<u16>()].prop_map(Change::Wnd),
        1 => prop::sample::select(vec![0x18u16, 0x11, 0x14, 0x12, 0x30, 0xd0, 0x00, 0xf10]).prop_map(Change::Flags),
        1 => (0..1024u16).prop_map(Change::Options),
        1 => (0..16u16).prop_map(Change::Packet),
        1 => (0..5u8).prop_map(Change::Sacks),
        1 => near().prop_map(Change::Tsval),
        1 => prop_oneof![0..3000i32, any::<i32>()].prop_map(Change::Tsecr),
        1 => any::<u8>().prop_map(Change::Ttl),
        1 => (0..3u16).prop_map(Change::L2),
        1 => any::<u8>().prop_map(Change::Tos),
        1 => (0..1u32 << 20).prop_map(Change::FlowLabel),
        1 => prop_oneof![0..3u16, any::<u16>()].prop_map(Change::IpId),
        1 => prop_oneof![0..3u32, 0..70_000u32].prop_map(Change::Len),
    ]
}

proptest! {
    #![proptest_config(cases(3000))]

    /// Near what a settled connection says next: whatever is taken by a short cut gives what the full checks give, which each
    /// segment that is told checks.
    #[test]
    fn short_cuts_are_exact_near_what_comes_next(
        iss in any::<[u32; 2]>(),
        (a_first, timestamps, v6) in any::<(bool, bool, bool)>(),
        scale in prop::option::of(0..15u8),
        quiet in 0..24usize,
        steps in prop::collection::vec((any::<bool>(), 0..1500u32, 0..5_000u64, changes()), 1..60),
    ) {
        let mut t = Talk::new(iss, a_first);
        t.timestamps = timestamps;
        let v6 = if v6 { packet::IPV6 } else { 0 };
        for (who, s) in [(A, syn().scale(scale)), (B, syn_ack().scale(scale)), (A, bare(1, 1))] {
            t.send(who, s.packet(v6));
        }
        let before = (0..quiet).map(|i| (i % 2 == 0, 700 * (i as u32 % 4 / 2), 20, Change::Nothing));
        for (by_a, len, ms, change) in before.chain(steps) {
            let who = if by_a { A } else { B };
            t.wait(ms);
            let (me, peer) = (*t.half(who), *t.half(who.other()));
            let mut s = t.absolute(who, &data(1, len, 1).packet(v6));
            (s.seq, s.ack) = (me.snd_nxt, peer.snd_nxt);
            if me.segments > 2 {
                s.wnd = if me.wnd == 0 { 500 } else { me.wnd };
            }
            if timestamps {
                s.tsecr = peer.ts_hi;
            }
            match change {
                Change::Nothing => {}
                Change::Seq(d) => s.seq = s.seq.add(d as u32),
                Change::Ack(d) => s.ack = s.ack.add(d as u32),
                Change::Wnd(wnd) => s.wnd = wnd,
                Change::Flags(flags) => s.flags = flags,
                Change::Options(options) => s.options = options,
                Change::Packet(packet) => s.packet = packet,
                Change::Sacks(count) => {
                    s.sack_count = count;
                    s.options |= opt::SACK;
                }
                Change::Tsval(d) => s.tsval = s.tsval.wrapping_add(d as u32),
                Change::Tsecr(d) => s.tsecr = s.tsecr.wrapping_add(d as u32),
                Change::Ttl(ttl) => s.ttl = ttl,
                Change::L2(l2) => s.l2 = l2,
                Change::Tos(tos) => s.tos = tos,
                Change::FlowLabel(label) => s.flow_label = label,
                Change::IpId(id) => s.ip_id = id,
                Change::Len(len) => s.payload_len = len,
            }
            let now_ns = t.now_ns;
            t.tell(who, &s, now_ns);
        }
        // Of the quiet ones at least each without data but the server's first, where the windows are not smaller than the SYNs'.
        let bare = (quiet / 2).saturating_sub(1) as u32;
        prop_assert!(t.settled >= if scale >= Some(3) { bare } else { 0 }, "{} of {}", t.settled, t.predicted);
    }
}

/// The model is worth something: conversations end, and what the properties are about does happen.
#[test]
fn the_model_converses() {
    let config = Config {
        seed: 7,
        iss: [1, 2],
        bytes: [50_000, 20_000],
        delay: [5_000, 5_000],
        loss: [30, 30],
        reorder: 20,
        duplicate: 10,
        buffer: 60_000,
        shift: Some(2),
        timestamps: true,
        sack: true,
        slow_reader: false,
        byte_probes: false,
        deaf: false,
        pause: false,
        abort: false,
    };
    let told = tell(&converse(&config), config.iss, true);
    assert_eq!(told.talk.phase(), "time_wait");
    assert_eq!((told.talk.half(A).bytes > 50_000, told.talk.half(B).bytes >= 20_000), (true, true));
    let all = told.notes.join("\n");
    for expected in ["seq_gap", "A rexmit", "dup_ack", "dsack"] {
        assert!(all.contains(expected), "{expected} in {all}");
    }
    let slow = Config { slow_reader: true, loss: [0, 0], buffer: 4_000, shift: None, ..config.clone() };
    let all = tell(&converse(&slow), slow.iss, true).notes.join("\n");
    assert!(all.contains("zero_window") && all.contains("zero_window_probe"), "{all}");
    let lossy = miss(&converse(&config), 100, 1);
    assert!(tell(&lossy, config.iss, true).notes.join("\n").contains("capture_gap"));
    let deaf = Config { deaf: true, bytes: [2_000_000, 0], ..config.clone() };
    assert!(tell(&converse(&deaf), deaf.iss, true).notes.join("\n").contains("rexmit_acked"));
    let pause = Config { pause: true, loss: [0, 0], ..config };
    assert!(tell(&converse(&pause), pause.iss, true).notes.join("\n").contains("keepalive_probe"));
}
