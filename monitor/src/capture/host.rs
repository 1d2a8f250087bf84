//! The kernel programs' work on the host: the same engine over a hash table. Used for capture files and for the test
//! that compares both.
//!
//! Memory is bounded: [`Engine::make_room`] takes connections out of a full table, those first whose time would be up
//! first by the limits of the live sweep. Half-open and closed ones go long before those that talk, so a flood in a
//! capture costs the real connections in it nothing.

use super::payload::Payload;
use super::sweep::{Pressure, limit_ns};
use crate::diagnose::silent;
use foldhash::quality::RandomState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use monitor_common::engine::{self, Admission, Former, Predicted};
use monitor_common::event::{Ended, Event, FullEvent, tag, why};
use monitor_common::evidence::Evidence;
use monitor_common::flow::{Direction, FlowKey};
use monitor_common::icmp::Quote;
use monitor_common::parse::Packet;
use monitor_common::recorder::{Record, Recorder};
use monitor_common::tracker::notes::Notes;
use monitor_common::tracker::state::{Connection, Hook, half};
use monitor_common::tracker::{self, SECOND};
use std::hash::{BuildHasher, Hasher};

/// One tracked connection.
#[derive(Clone, Debug, Default)]
pub struct Slot {
    pub connection: Connection,
    /// Only for connections that have any.
    pub evidence: Option<Box<Evidence>>,
    pub recorder: Recorder,
    /// Only for connections whose packets were captured whole.
    pub payload: Option<Box<Payload>>,
    /// Counts the connections of the table.
    number: u64,
}

/// Connections tracked at a time, unless told otherwise; each takes about 1.5 KiB, one with anomalies 2.8 KiB.
pub const MOST_CONNECTIONS: usize = 500_000;
/// What was never answered, SYN or not, waits no longer than what ended: a flood of ACKs, which might belong to connections,
/// must not outlive the handshakes that begin in it.
const UNANSWERED_NS: u64 = 60 * SECOND;
/// This part of a full table leaves at once, so that few walks are needed.
const LEAVE_AT_ONCE: usize = 4;
/// Payload is kept of so many connections at a time.
const MOST_PAYLOADS: usize = 65_536;

/// What one packet gave.
#[derive(Debug)]
pub enum Report {
    /// Nothing to report.
    None,
    Ended(Ended),
    Brief(Box<Event>),
    Full(Box<FullEvent>),
}

/// The connection table of a capture.
pub struct Engine {
    slots: HashTable<Box<Slot>>,
    /// Drawn anew for each table: who wrote the capture cannot choose tuples that collide.
    hasher: RandomState,
    notes: Notes,
    most: usize,
    payloads: usize,
    /// Connections begun, lives of a reused 4-tuple counted one by one.
    pub opened: u64,
}

/// What a packet did, for the caller.
#[derive(Debug)]
pub struct Tracked {
    /// The former life of the 4-tuple ended with this packet; its evidence and last headers go with it.
    pub ended: Option<Box<Slot>>,
    pub report: Report,
    /// Set when the packet was not tracked: another hook's observation counts.
    pub passed_over: bool,
}

impl Default for Engine {
    fn default() -> Engine {
        Engine::with_room_for(MOST_CONNECTIONS)
    }
}

impl Engine {
    pub fn new() -> Engine {
        Engine::default()
    }

    /// A table that is full with `most` connections.
    pub fn with_room_for(most: usize) -> Engine {
        Engine {
            slots: HashTable::new(),
            hasher: RandomState::default(),
            notes: Notes::default(),
            most: most.max(1),
            payloads: 0,
            opened: 0,
        }
    }

    /// Tracks a parsed packet, exactly as `monitor-ebpf/src/hook.rs` does.
    pub fn on_packet(&mut self, packet: &Packet, hook: Hook, now_ns: u64) -> Tracked {
        self.track(packet, hook, now_ns, |_| {})
    }

    /// The same; `look` sees the connection as the packet left it, and may add what the payload tells.
    pub fn track(&mut self, packet: &Packet, hook: Hook, now_ns: u64, look: impl FnOnce(&mut Slot)) -> Tracked {
        let dir = packet.direction();
        let segment = &packet.segment;
        let opened = &mut self.opened;
        let hasher = &self.hasher;
        let entry = self.slots.entry(
            hash(hasher, &packet.key),
            |s| s.connection.key.is(&packet.key),
            |s| hash(hasher, &s.connection.key),
        );
        let slot = match entry {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                *opened += 1;
                let mut slot = Box::new(Slot { number: *opened, ..Slot::default() });
                tracker::begin(&mut slot.connection.core, &packet.key, segment, 0, now_ns);
                entry.insert(slot).into_mut()
            }
        };
        let notes = &mut self.notes;
        let (mut c, recorder, hook_number) = (slot.connection.parts(), &mut slot.recorder, hook as u8);
        let predicted = engine::predict(&mut c, recorder, dir, hook_number, segment, now_ns, notes);
        let mut ended = None;
        match predicted {
            Predicted::Yes => notes.clear(),
            Predicted::Moved => {}
            Predicted::No => {
                if engine::admit(c.core, dir, hook_number, segment) != Admission::Track {
                    return Tracked { ended: None, report: Report::None, passed_over: true };
                }
                if engine::starts_new_life(&c, dir, segment) {
                    let carried = Former::of(&mut c, &mut slot.recorder, dir);
                    ended = Some(slot.clone());
                    slot.connection = Connection::default();
                    engine::restart(&mut slot.connection.parts(), &carried, dir, segment, now_ns);
                    slot.evidence = None;
                    *opened += 1;
                }
                let mut c = slot.connection.parts();
                engine::track(&mut c, &mut slot.recorder, dir, hook_number, segment, now_ns, notes);
                if notes.count > 0 {
                    enter(slot, dir, notes, now_ns);
                }
            }
        }
        let had_payload = slot.payload.is_some();
        look(slot);
        self.payloads = self.payloads + usize::from(slot.payload.is_some()) - usize::from(had_payload);
        if predicted == Predicted::Yes {
            return Tracked { ended: None, report: Report::None, passed_over: false };
        }
        let c = &slot.connection;
        debug_assert!(!engine::ended_well(c) || !silent::is_worth_an_end(c), "{c:?}");
        let why = engine::why(c, dir, notes);
        let report = if why == 0 {
            Report::None
        } else if engine::needs_evidence(why, notes) {
            full(slot, event(slot, packet, notes, hook, why, tag::FULL, now_ns))
        } else if engine::ended_well(&slot.connection) {
            Report::Ended(Ended::of(&slot.connection, now_ns))
        } else {
            Report::Brief(Box::new(event(slot, packet, notes, hook, why, tag::BRIEF, now_ns)))
        };
        Tracked { ended, report, passed_over: false }
    }

    /// Notes what an ICMP message quotes, exactly as `monitor-ebpf/src/hook.rs` does.
    pub fn on_quote(&mut self, quote: &Quote, now_ns: u64) {
        let hash = hash(&self.hasher, &quote.key);
        let Some(slot) = self.slots.find_mut(hash, |s| s.connection.key.is(&quote.key)) else { return };
        let notes = &mut self.notes;
        engine::on_quote(&slot.connection, quote, notes);
        if notes.count > 0 {
            enter(slot, Direction::from_index(quote.speaker).other(), notes, now_ns);
        }
    }

    /// Notes of the last packet.
    pub fn notes(&self) -> &Notes {
        &self.notes
    }

    pub fn get(&self, key: &FlowKey) -> Option<&Slot> {
        self.slots.find(hash(&self.hasher, key), |s| s.connection.key.is(key)).map(|s| &**s)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Slot> {
        self.slots.iter().map(|s| &**s)
    }

    pub fn len(&self) -> usize {
        self.slots.len()
    }

    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Whether it is time to [make room](Self::make_room).
    pub fn is_full(&self) -> bool {
        self.slots.len() >= self.most || self.payloads >= MOST_PAYLOADS
    }

    /// Takes connections out of a full table, oldest first; out of one that is full of payload only the payload. The
    /// walk over the table is paid by the connections that then find room.
    pub fn make_room(&mut self) -> Vec<Box<Slot>> {
        let mut leaving = Vec::new();
        if self.slots.len() >= self.most {
            for (turn, hash) in self.first_to_go(|_| true) {
                if let Ok(entry) = self.slots.find_entry(hash, |s| s.number == turn.1) {
                    leaving.push(entry.remove().0);
                }
            }
            leaving.sort_unstable_by_key(|s| s.number);
        }
        self.payloads -= leaving.iter().filter(|s| s.payload.is_some()).count();
        if self.payloads >= MOST_PAYLOADS {
            for (turn, hash) in self.first_to_go(|s| s.payload.is_some()) {
                if let Some(slot) = self.slots.find_mut(hash, |s| s.number == turn.1) {
                    slot.payload = None;
                    self.payloads -= 1;
                }
            }
        }
        leaving
    }

    /// Turns and hashes of those of `which` that leave: one in [`LEAVE_AT_ONCE`]. Each entry is a miss of the cache, so
    /// one walk has to do.
    fn first_to_go(&self, which: impl Fn(&Slot) -> bool) -> Vec<(Turn, u64)> {
        let among = self.iter().filter(|s| which(s));
        let mut turns: Vec<_> = among.map(|s| (turn(s), hash(&self.hasher, &s.connection.key))).collect();
        let last = turns.len() / LEAVE_AT_ONCE;
        turns.select_nth_unstable(last);
        turns.truncate(last + 1);
        turns
    }
}

/// When a connection's time is up if it stays silent, and its number, by which no two have the same turn.
type Turn = (u64, u64);

fn hash(state: &RandomState, key: &FlowKey) -> u64 {
    let mut hasher = state.build_hasher();
    let [[a, b], [c, d]] = key.addr;
    for word in [a, b, c, d] {
        hasher.write_u64(word);
    }
    hasher.write_u64(u64::from(key.port[0]) << 48 | u64::from(key.port[1]) << 32 | u64::from(key.zone));
    hasher.finish()
}

fn turn(slot: &Slot) -> Turn {
    let c = &slot.connection;
    let one_sided = c.half.iter().any(|h| !h.has(half::SEEN));
    let limit_ns = if one_sided { UNANSWERED_NS } else { limit_ns(c, Pressure::High) };
    (c.last_ns().saturating_add(limit_ns), slot.number)
}

/// Enters notes into the connection's evidence, which begins with the first.
fn enter(slot: &mut Slot, writer: Direction, notes: &mut Notes, now_ns: u64) {
    let created_ns = slot.connection.created_ns;
    let evidence = slot.evidence.get_or_insert_with(|| {
        let mut e = Box::<Evidence>::default();
        e.created_ns = created_ns;
        e
    });
    evidence.enter(writer, notes, now_ns);
}

/// The report of the former life of a reused 4-tuple, as the kernel gives it.
pub fn reused(former: &Slot, packet: &Packet, hook: Hook, now_ns: u64) -> Report {
    if engine::ended_well(&former.connection) {
        return Report::None;
    }
    let mut notes = Notes::default();
    notes.clear();
    let broken_off = engine::is_broken_off(&former.connection);
    let tag = if broken_off { tag::FULL } else { tag::BRIEF };
    let mut event = event(former, packet, &notes, hook, why::REUSED, tag, now_ns);
    event.phase = former.connection.phase() as u8;
    if broken_off { full(former, event) } else { Report::Brief(Box::new(event)) }
}

fn full(slot: &Slot, event: Event) -> Report {
    let evidence = slot.evidence.as_deref().copied().unwrap_or_default();
    Report::Full(Box::new(FullEvent { event, evidence, recorder: slot.recorder }))
}

fn event(slot: &Slot, packet: &Packet, notes: &Notes, hook: Hook, why: u8, tag: u32, now_ns: u64) -> Event {
    let mut record = Record::default();
    record.fill(&packet.segment, now_ns);
    Event {
        tag,
        slot: 0,
        time_ns: now_ns,
        why,
        direction: packet.direction,
        hook: hook as u8,
        effect: notes.effect,
        phase: notes.before,
        first: notes.first,
        evidence_lost: 0,
        identity: notes.identity,
        record,
        notes: *notes,
        connection: slot.connection,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use monitor_common::flow::v4;
    use monitor_common::segment::{Segment, flags};
    use monitor_common::seq::SeqNum;

    /// A connection with which nothing is wrong is predicted from its first segment to its last; its payload is what a
    /// later overlap is compared with.
    #[test]
    fn every_tracked_packet_is_looked_at_and_a_clean_close_is_reported() {
        let mut engine = Engine::new();
        let (mut nxt, mut looks, mut closes) = ([SeqNum(100), SeqNum(u32::MAX)], 0, 0);
        let mut say = |client: bool, flags: u16, len: u32| {
            let (from, to) = if client { ((v4(1), 40_000), (v4(2), 80)) } else { ((v4(2), 80), (v4(1), 40_000)) };
            let (key, direction) = FlowKey::canonical(from.0, from.1, to.0, to.1);
            let [me, peer] = [usize::from(!client), usize::from(client)];
            let ack = if flags == flags::SYN { SeqNum(0) } else { nxt[peer] };
            let segment = Segment { seq: nxt[me], ack, flags, payload_len: len, wnd: 60_000, ..Segment::default() };
            nxt[me] = segment.end();
            let packet = Packet { key, segment, direction: direction as u8, pad: [0; 3] };
            looks += 1;
            let mut looked = false;
            let tracked = engine.track(&packet, Hook::Ingress, looks * 1_000_000, |_| looked = true);
            assert!(looked, "packet {looks}");
            match tracked.report {
                Report::None => {}
                Report::Ended(life) => {
                    assert_eq!((life.key, life.time_ns), (key, looks * 1_000_000));
                    closes += 1;
                }
                other => panic!("{other:?}"),
            }
        };
        say(true, flags::SYN, 0);
        say(false, flags::SYN | flags::ACK, 0);
        say(true, flags::ACK, 0);
        for _ in 0..10 {
            say(true, flags::ACK, 100);
            say(false, flags::ACK, 1000);
        }
        say(false, flags::ACK | flags::FIN, 0);
        say(true, flags::ACK | flags::FIN, 0);
        say(false, flags::ACK, 0);
        assert_eq!((looks, closes), (26, 1));
    }
}
