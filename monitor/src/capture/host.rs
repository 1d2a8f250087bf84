//! The kernel programs' work on the host: the same engine over a hash map. Used for capture files and for the test
//! that compares both.

use monitor_common::engine::{self, Admission, Former};
use monitor_common::event::{Event, FullEvent, tag, why};
use monitor_common::evidence::{Evidence, Record, Recorder};
use monitor_common::flow::{Direction, FlowKey};
use monitor_common::icmp::Quote;
use monitor_common::parse::Packet;
use monitor_common::tracker;
use monitor_common::tracker::notes::Notes;
use monitor_common::tracker::state::{Connection, Hook};
use std::collections::HashMap;

/// One tracked connection.
#[derive(Clone, Debug, Default)]
pub struct Slot {
    pub connection: Connection,
    /// Only for connections that have any.
    pub evidence: Option<Box<Evidence>>,
    pub recorder: Recorder,
}

/// What one packet gave.
#[derive(Debug)]
pub enum Report {
    /// Nothing to report.
    None,
    Brief(Box<Event>),
    Full(Box<FullEvent>),
}

/// The connection table of a capture.
#[derive(Default)]
pub struct Engine {
    slots: HashMap<FlowKey, Box<Slot>>,
    notes: Notes,
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

impl Engine {
    pub fn new() -> Engine {
        Engine::default()
    }

    /// Tracks a parsed packet, exactly as `monitor-ebpf/src/hook.rs` does.
    pub fn on_packet(&mut self, packet: &Packet, hook: Hook, now_ns: u64) -> Tracked {
        let dir = packet.direction();
        let segment = &packet.segment;
        let opened = &mut self.opened;
        let slot = self.slots.entry(packet.key).or_insert_with(|| {
            *opened += 1;
            let mut slot = Box::<Slot>::default();
            tracker::begin(&mut slot.connection, &packet.key, segment, 0, now_ns);
            slot
        });
        if engine::admit(&mut slot.connection, dir, hook as u8, segment) != Admission::Track {
            return Tracked { ended: None, report: Report::None, passed_over: true };
        }
        let ended = engine::starts_new_life(&slot.connection, dir, segment).then(|| {
            let former = slot.clone();
            let carried = Former::of(&slot.connection, dir);
            slot.connection = Connection::default();
            engine::restart(&mut slot.connection, &carried, dir, segment, now_ns);
            slot.evidence = None;
            self.opened += 1;
            former
        });
        let notes = &mut self.notes;
        engine::track(&mut slot.connection, &mut slot.recorder, dir, hook as u8, segment, now_ns, notes);
        if notes.count > 0 {
            enter(slot, dir, notes, now_ns);
        }
        let why = engine::why(&slot.connection, dir, notes);
        let report = if why == 0 {
            Report::None
        } else if engine::needs_evidence(why, notes) {
            Report::Full(Box::new(FullEvent {
                event: event(slot, packet, notes, hook, why, tag::FULL, now_ns),
                evidence: slot.evidence.as_deref().copied().unwrap_or_default(),
                recorder: slot.recorder,
            }))
        } else {
            Report::Brief(Box::new(event(slot, packet, notes, hook, why, tag::BRIEF, now_ns)))
        };
        Tracked { ended, report, passed_over: false }
    }

    /// Notes what an ICMP message quotes, exactly as `monitor-ebpf/src/hook.rs` does.
    pub fn on_quote(&mut self, quote: &Quote, now_ns: u64) {
        let Some(slot) = self.slots.get_mut(&quote.key) else { return };
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
        self.slots.get(key).map(|s| &**s)
    }

    pub fn remove(&mut self, key: &FlowKey) -> Option<Box<Slot>> {
        self.slots.remove(key)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Slot> {
        self.slots.values().map(|s| &**s)
    }

    pub fn len(&self) -> usize {
        self.slots.len()
    }

    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Takes out connections that nothing was seen of since `before_ns`.
    pub fn take_idle(&mut self, before_ns: u64) -> Vec<Box<Slot>> {
        let idle: Vec<FlowKey> =
            self.slots.iter().filter(|(_, s)| s.connection.last_ns() < before_ns).map(|(k, _)| *k).collect();
        idle.iter().filter_map(|k| self.slots.remove(k)).collect()
    }
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
pub fn reused(former: &Slot, packet: &Packet, hook: Hook, now_ns: u64) -> Event {
    let mut notes = Notes::default();
    notes.clear();
    let mut e = event(former, packet, &notes, hook, why::REUSED, tag::BRIEF, now_ns);
    e.phase = former.connection.phase() as u8;
    e
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
