//! What a shell (kernel program or offline reader) does with a parsed packet, in its order:
//!
//! 0. [`predict`]: instead of 1 to 3, if the segment is what comes next on a connection with which nothing is wrong: first
//!    [`settled`], which takes most, then the general prediction.
//! 1. [`admit`]: is this the observation of the speaker that counts?
//! 2. [`starts_new_life`]: report the old connection, keep [`Former`], zero the entry, [`restart`].
//! 3. [`track`]: tracker and flight recorder; fills the [`Notes`].
//! 4. with notes: [`crate::evidence::Evidence::enter`]; marks first occurrences.
//! 5. [`why`]: is there anything to report?
//!
//! The shell owns memory, clock and output; every decision is made here.

use crate::anomaly::Anomaly;
use crate::event::why;
use crate::flow::{Direction, FlowKey};
use crate::icmp::Quote;
use crate::recorder::Recorder;
use crate::segment::{Segment, flags, packet};
use crate::seq::SeqNum;
use crate::tracker::notes::{NO_RESET, Notes};
use crate::tracker::state::{Core, Half, Hook, Parts, Phase, Sync, half, sync_state};
use crate::tracker::{self, close, handshake, identity, predict, settled};

/// Whether an observation is tracked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    Track,
    /// The egress of a forwarded packet whose ingress was tracked under the same tuple.
    Duplicate,
    /// It arrived under a tuple that this speaker reaches only through this host's address translation, so it was
    /// never translated: the mark stays with the connection, the copy at egress is tracked.
    Untranslated,
}

/// `hook` is a [`Hook`]. Each speaker is observed at one place: the first that saw it. A forwarded packet passes two hooks, but under one
/// tuple only without address translation; with it, either tuple sees the packet once.
#[inline(always)]
pub fn admit(c: &mut Core, dir: Direction, hook: u8, s: &Segment) -> Admission {
    let me = &mut c.half[dir.index()];
    if me.fed_by == hook {
        return Admission::Track;
    }
    if me.fed_by == 0 {
        me.fed_by = hook;
        return Admission::Track;
    }
    if hook == Hook::Forwarded as u8 && me.fed_by == Hook::Ingress as u8 {
        return Admission::Duplicate;
    }
    if hook == Hook::Ingress as u8 && me.fed_by == Hook::Forwarded as u8 {
        if s.has(flags::RST) {
            me.flags |= half::UNTRANSLATED;
            return Admission::Untranslated;
        }
        // More than a stray answer comes this way: there is no translation, the first packet was only seen late.
        me.fed_by = hook;
    }
    Admission::Track
}

/// Whether the segment begins a new life of the flow.
#[inline(always)]
pub fn starts_new_life(c: &Parts, dir: Direction, s: &Segment) -> bool {
    s.has(flags::SYN) && !s.has(flags::RST) && handshake::starts_new_life(c, dir, s)
}

/// What the next life of a flow takes over from the one before.
#[derive(Clone, Copy, Debug)]
pub struct Former {
    key: FlowKey,
    incarnation: u16,
    fed_by: [u8; 2],
    next_iss: SeqNum,
}

impl Former {
    /// Before the entry is zeroed; what it holds of the recorder's is written. `dir` sent the segment that begins the next
    /// life.
    #[inline(always)]
    pub fn of(c: &mut Parts, recorder: &mut Recorder, dir: Direction) -> Former {
        recorder.settle_all(c.core);
        Former {
            key: c.core.key,
            incarnation: c.core.incarnation,
            fed_by: [c.core.half[0].fed_by, c.core.half[1].fed_by],
            next_iss: c.fault[dir.other().index()].next_iss,
        }
    }
}

/// Begins the next life of the flow in the same entry, which the caller has zeroed.
#[inline(always)]
pub fn restart(c: &mut Parts, former: &Former, dir: Direction, s: &Segment, now_ns: u64) {
    tracker::begin(c.core, &former.key, s, former.incarnation.wrapping_add(1), now_ns);
    c.core.half[0].fed_by = former.fed_by[0];
    c.core.half[1].fed_by = former.fed_by[1];
    if s.has(flags::ACK) {
        handshake::adopt_forgotten_syn(c.core, dir, former.next_iss);
    }
}

/// States worth a report when they change: a suspicion without a hard anomaly is none.
#[inline(always)]
fn sync_states(c: &Parts) -> [u8; 2] {
    [reported_state(&c.fault[0].sync), reported_state(&c.fault[1].sync)]
}

#[inline(always)]
fn reported_state(sync: &Sync) -> u8 {
    if sync.state == sync_state::SUSPECT && sync.hard == 0 { sync_state::IN_SYNC } else { sync.state }
}

/// What [`predict`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Predicted {
    /// Nothing: the segment needs [`admit`] and [`track`].
    No,
    /// All that they would have done. There is nothing to note, count or report.
    Yes,
    /// The same; it was a RST, or the phase is another one that is counted: the notes say which, and the shell goes on as after
    /// [`track`].
    Moved,
}

/// Tracks and records the segment if it is one of the many in which there is nothing to find: exactly as [`admit`] and
/// [`track`] would.
#[inline(always)]
pub fn predict(
    c: &mut Parts,
    recorder: &mut Recorder,
    dir: Direction,
    hook: u8,
    s: &Segment,
    now_ns: u64,
    notes: &mut Notes,
) -> Predicted {
    if settled::on_segment(c.core, recorder, dir, hook, s, now_ns) {
        return Predicted::Yes;
    }
    predict_unsettled(c, recorder, dir, hook, s, now_ns, notes)
}

/// As [`predict`], of a segment that [`settled::on_segment`] has not taken.
#[inline(always)]
pub fn predict_unsettled(
    c: &mut Parts,
    recorder: &mut Recorder,
    dir: Direction,
    hook: u8,
    s: &Segment,
    now_ns: u64,
    notes: &mut Notes,
) -> Predicted {
    if s.has(flags::RST) {
        return predict_reset(c, recorder, dir, hook, s, now_ns, notes);
    }
    let (me, peer) = (&c.core.half[dir.index()], &c.core.half[dir.other().index()]);
    let (number, fed_by) = (me.segments, me.fed_by);
    // Whether the phase depends on this segment.
    let moves = !me.has(half::ACKED) || s.has(flags::FIN) || (me.flags | peer.flags) & half::FIN != 0;
    let before = if moves { c.core.phase() } else { Phase::Established };
    if fed_by == hook {
        if !predict::on_segment(c, recorder, dir, s, now_ns) {
            return Predicted::No;
        }
    } else {
        let opens = fed_by == 0 && s.has(flags::SYN);
        let answers = s.has(flags::ACK);
        let taken = opens
            && if answers {
                predict::on_answer(c.core, dir, s, now_ns)
            } else {
                predict::on_opening(c.core, dir, s, now_ns)
            };
        if !taken {
            return Predicted::No;
        }
        c.core.half[dir.index()].fed_by = hook;
        recorder.put(dir, number, s, now_ns);
    }
    if !moves {
        return Predicted::Yes;
    }
    let after = c.core.phase();
    // FINs that are not both acknowledged yet: nothing counts that, and the entry stays as live as it was.
    let closes = before as u8 >= Phase::Established as u8 && matches!(after, Phase::FinWait | Phase::Closing);
    if after as u8 == before as u8 || closes {
        return Predicted::Yes;
    }
    notes.clear();
    (notes.before, notes.after) = (before as u8, after as u8);
    Predicted::Moved
}

/// A RST on a connection with which nothing was wrong until then: there is nothing to note of it but itself. One that may be
/// a copy of another is left to [`is_copy`], which reads a fault.
#[inline(always)]
fn predict_reset(
    c: &mut Parts,
    recorder: &mut Recorder,
    dir: Direction,
    hook: u8,
    s: &Segment,
    now_ns: u64,
    notes: &mut Notes,
) -> Predicted {
    let me = &c.core.half[dir.index()];
    if me.fed_by != 0 && me.fed_by != hook || maybe_copy(me, s) || !predict::is_undisturbed(c.core) {
        return Predicted::No;
    }
    notes.clear();
    notes.before = c.core.phase() as u8;
    notes.identity = identity::of(me, hook, s);
    let me = &mut c.core.half[dir.index()];
    recorder.settle(dir, me);
    recorder.put(dir, me.segments, s, now_ns);
    me.fed_by = hook;
    notes.effect = close::on_rst(c, dir, s, now_ns) as u8;
    c.core.steady[dir.index()] = predict::how_steady(c.core, true);
    notes.after = c.core.phase() as u8;
    Predicted::Moved
}

/// Whether a look at the record is needed to tell the segment from its speaker's last, see [`is_copy`].
#[inline(always)]
fn maybe_copy(me: &Half, s: &Segment) -> bool {
    // A RST's ID is not the speaker's last.
    let repeats = s.ip_id == me.ip_id || s.has(flags::RST) && me.rst_count > 0;
    repeats && s.ip_id != 0 && me.segments > 0 && s.packet & packet::IPV6 == 0
}

/// Whether this is the speaker's last packet once more, as a mirror port of both directions shows each, a capture of two
/// interfaces, or a network that doubles: the same IPv4 ID and header, at once. A sender that repeats itself counts its ID
/// on. It was counted once, and tells nothing.
#[inline(always)]
fn is_copy(c: &mut Parts, recorder: &Recorder, dir: Direction, s: &Segment, now_ns: u64) -> bool {
    let me = &c.core.half[dir.index()];
    if !maybe_copy(me, s) {
        return false;
    }
    let last = recorder.last(dir, me.segments);
    let soon = now_ns <= last.time_ns.saturating_add(tracker::reorder_ns(me));
    // verifier: one comparison, not a branch each.
    let numbers = (last.seq.0 ^ s.seq.0) | (last.ack.0 ^ s.ack.0) | (last.payload_len ^ s.payload_len);
    let fields = (last.flags ^ s.flags) | (last.wnd ^ s.wnd) | (last.ip_id ^ s.ip_id);
    let same = numbers | (last.tsval ^ s.tsval) | fields as u32 == 0;
    let fault = &mut c.fault[dir.index()];
    if same {
        return soon && fault.same_id == 0;
    }
    // Two packets with one ID: this sender does not count, so its ID says nothing.
    fault.same_id |= (last.ip_id == s.ip_id) as u8;
    false
}

/// Tracks the segment and records its header; `notes` tells what it did.
#[inline(always)]
pub fn track(
    c: &mut Parts,
    recorder: &mut Recorder,
    dir: Direction,
    hook: u8,
    s: &Segment,
    now_ns: u64,
    notes: &mut Notes,
) {
    notes.clear();
    notes.before = c.core.phase() as u8;
    notes.sync_before = sync_states(c);
    recorder.settle(dir, &mut c.core.half[dir.index()]);
    if is_copy(c, recorder, dir, s, now_ns) {
        notes.after = notes.before;
        notes.sync_after = notes.sync_before;
        return;
    }
    if s.has(flags::RST) || c.core.half[dir.index()].has(half::RST) {
        notes.identity = identity::of(&c.core.half[dir.index()], hook, s);
    }
    recorder.put(dir, c.core.half[dir.index()].segments, s, now_ns);
    tracker::on_segment(c, dir, s, now_ns, notes);
    notes.after = c.core.phase() as u8;
    notes.sync_after = sync_states(c);
}

/// Notes what an ICMP message says about a segment of a tracked connection. It counts if the segment is outstanding
/// (RFC 5927 section 4.1), changes nothing, and enters the ledger of the quoted speaker's other end, from whose side such
/// messages come.
#[inline(always)]
pub fn on_quote(c: &Core, quote: &Quote, notes: &mut Notes) {
    notes.clear();
    let speaker = Direction::from_index(quote.speaker);
    let me = &c.half[speaker.index()];
    let peer = &c.half[speaker.other().index()];
    let from = if peer.has(half::ACKED) { peer.ack } else { me.iss };
    let known = me.has(half::SEEN) && (peer.has(half::ACKED) || me.has(half::SYN));
    if !known || quote.seq.before(from) || quote.seq.at_or_after(me.snd_nxt) {
        return;
    }
    let too_big = quote.anomaly == Anomaly::IcmpFragNeeded as u8;
    let anomaly = if too_big { Anomaly::IcmpFragNeeded } else { Anomaly::IcmpUnreach };
    notes.push(anomaly, speaker, quote.seq, SeqNum(quote.value));
}

/// RSTs of one speaker that are reported one by one; further ones are counted in its half.
pub const REPORTED_RESETS: u8 = 4;

/// Segments of a speaker after its effective RST that are reported one by one.
pub const REPORTED_AFTER_RESET: u8 = 3;

/// Bits of [`why`]; 0 when there is nothing to report. After `Evidence::enter`.
#[inline(always)]
pub fn why(c: &Core, dir: Direction, notes: &Notes) -> u8 {
    let mut bits = 0;
    // The one that ends the connection is reported however many ineffective ones came before it.
    let ended = notes.after == Phase::Reset as u8 && notes.before != Phase::Reset as u8;
    if notes.effect != NO_RESET && (ended || c.half[dir.index()].rst_count <= REPORTED_RESETS) {
        bits |= why::RESET;
    }
    if notes.after_reset != 0 {
        bits |= why::AFTER_RESET;
    }
    if notes.sync_before != notes.sync_after {
        bits |= why::SYNC;
    }
    if notes.after == Phase::TimeWait as u8 && notes.before != Phase::TimeWait as u8 {
        bits |= why::CLOSE;
    }
    if notes.first_hard != 0 {
        bits |= why::HARD_ANOMALY;
    }
    bits
}

/// Whether the report needs the evidence: everything but the close of a connection that was always in sync.
#[inline(always)]
pub fn needs_evidence(why: u8, notes: &Notes) -> bool {
    why != why::CLOSE || notes.sync_after != [0, 0]
}

/// Whether nothing is left to be judged of a life that ends, so that an [`Ended`](crate::event::Ended) tells all of its close: no
/// direction is out of sync, no window collapsed, nobody tried to reset it.
#[inline(always)]
pub fn ended_well(c: &Core) -> bool {
    predict::is_undisturbed(c) && c.half[0].rst_count | c.half[1].rst_count == 0
}

/// Whether a life that ends because the next one begins was broken off: it was neither reset nor closed, which was told when it
/// happened, so that what there is to say of it is said now, with its evidence.
#[inline(always)]
pub fn is_broken_off(c: &Core) -> bool {
    let (a, b) = (c.half[0].flags, c.half[1].flags);
    a & b & half::SEEN != 0 && (a | b) & half::RST == 0 && c.phase() != Phase::TimeWait
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::FlowKey;
    use crate::flow::v4;
    use crate::segment::opt;
    use crate::seq::SeqNum;
    use crate::tracker::MS;
    use crate::tracker::close::Effect;
    use crate::tracker::state::Connection;

    const CLIENT: Direction = Direction::Forward;
    const SERVER: Direction = Direction::Reverse;
    const ISS: [SeqNum; 2] = [SeqNum(u32::MAX - 50), SeqNum(7_000)];

    struct Talk {
        connection: Connection,
        recorder: Recorder,
        notes: Notes,
        now_ns: u64,
    }

    fn talk() -> Talk {
        let key = FlowKey::canonical(v4(1), 40_000, v4(2), 80).0;
        let connection = Connection { core: Core { key, ..Core::default() }, ..Connection::default() };
        Talk { connection, recorder: Recorder::default(), notes: Notes::default(), now_ns: MS }
    }

    /// Numbers relative to each end's ISS; a window of 500 unscaled bytes, no options.
    fn segment(speaker: Direction, flags: u16, seq: u32, ack: u32, payload_len: u32) -> Segment {
        let (me, peer) = (ISS[speaker.index()], ISS[speaker.other().index()]);
        let ack = if flags & flags::ACK != 0 { peer.add(ack) } else { SeqNum(0) };
        Segment { seq: me.add(seq), ack, payload_len, wnd: 50_000, flags, ..Segment::default() }
    }

    impl Talk {
        fn hear(&mut self, speaker: Direction, s: &Segment) -> u8 {
            if self.connection.created_ns == 0 {
                let key = self.connection.key;
                tracker::begin(&mut self.connection, &key, s, 0, self.now_ns);
            }
            self.now_ns += MS;
            let hook = Hook::Ingress as u8;
            track(&mut self.connection.parts(), &mut self.recorder, speaker, hook, s, self.now_ns, &mut self.notes);
            why(&self.connection, speaker, &self.notes)
        }

        fn say(&mut self, speaker: Direction, flags: u16, seq: u32, ack: u32, payload_len: u32) -> u8 {
            self.hear(speaker, &segment(speaker, flags, seq, ack, payload_len))
        }

        fn handshake(&mut self) {
            self.say(CLIENT, flags::SYN, 0, 0, 0);
            self.say(SERVER, flags::SYN | flags::ACK, 0, 1, 0);
            self.say(CLIENT, flags::ACK, 1, 1, 0);
        }
    }

    #[test]
    fn the_reset_that_ends_a_connection_is_reported_after_many_that_did_not() {
        let mut t = talk();
        t.handshake();
        for n in 0..10 {
            let reported = t.say(SERVER, flags::RST, 100, 0, 0) & why::RESET != 0;
            assert_eq!(reported, n < REPORTED_RESETS as u32);
        }
        assert_ne!(t.say(SERVER, flags::RST, 1, 0, 0) & why::RESET, 0);
        assert_eq!(t.notes.effect, Effect::Exact as u8);
        assert_eq!(t.say(SERVER, flags::RST, 1, 0, 0) & why::RESET, 0);
    }

    /// A host that still holds an old connection answers a SYN with that one's numbers (RFC 9293 3.5.1); the RST at
    /// the number that it acknowledged kills it, whatever this view makes of that number.
    #[test]
    fn a_reset_at_the_last_acknowledgement_is_exact_where_that_one_seems_impossible() {
        for old in [1_000_000, 0u32.wrapping_sub(1_000_000)] {
            let mut t = talk();
            t.say(CLIENT, flags::SYN, 0, 0, 0);
            t.say(SERVER, flags::ACK, 500, old, 0);
            t.say(CLIENT, flags::RST, old, 0, 0);
            assert_eq!(t.notes.effect, Effect::Exact as u8);
        }
    }

    #[test]
    fn without_the_scale_option_a_small_first_window_is_no_collapse() {
        for with_option in [false, true] {
            let mut t = talk();
            let mut syn = segment(CLIENT, flags::SYN, 0, 0, 0);
            if with_option {
                (syn.options, syn.wscale) = (opt::WSCALE, 7);
            }
            t.hear(CLIENT, &syn);
            t.say(SERVER, flags::SYN | flags::ACK, 0, 1, 0);
            t.say(CLIENT, flags::ACK, 1, 1, 0);
            let mut small = segment(SERVER, flags::ACK, 1, 1, 0);
            small.wnd = 100;
            t.hear(SERVER, &small);
            assert_eq!(t.connection.half[SERVER.index()].has(half::COLLAPSED), with_option);
        }
    }

    /// The window of a receiver that keeps out-of-order data changes with each acknowledgement (RFC 6675 section 2).
    #[test]
    fn with_sack_a_duplicate_acknowledgement_may_change_the_window() {
        let mut t = talk();
        t.handshake();
        t.say(CLIENT, flags::ACK, 1, 1, 100);
        t.say(SERVER, flags::ACK, 1, 101, 0);
        t.say(CLIENT, flags::ACK, 201, 1, 100);
        for n in 0..3u16 {
            let mut dup = segment(SERVER, flags::ACK, 1, 101, 0);
            dup.wnd -= n * 100;
            dup.sack[0] = [ISS[CLIENT.index()].add(201), ISS[CLIENT.index()].add(301)];
            dup.sack_count = 1;
            t.hear(SERVER, &dup);
        }
        assert_eq!(t.connection.half[SERVER.index()].dup_acks, 3);
    }
}
