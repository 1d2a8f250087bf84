//! What diagnosis reads: everything known of one connection at its end, from any source.

use crate::finding::Endpoint;
use crate::later::Later;
use crate::surroundings::Surroundings;
use monitor_common::event::{Event, FullEvent, why};
use monitor_common::evidence::{Entry, Evidence};
use monitor_common::flow::{Direction, FlowKey};
use monitor_common::recorder::{Record, Recorder};
use monitor_common::tracker::close::Effect;
use monitor_common::tracker::notes::HARD;
use monitor_common::tracker::state::{Connection, Core, Half, Phase, Reach, conn, half};
use monitor_common::{Anomaly, SeqNum};

/// One connection up to its end.
#[derive(Clone, Debug)]
pub struct History {
    pub connection: Connection,
    /// Anomalies by first occurrence, oldest first; one per name and direction.
    pub anomalies: Vec<Seen>,
    /// The last headers of both directions, oldest first.
    pub records: Vec<Recorded>,
    pub end: End,
    /// Phase before the end.
    pub phase: Phase,
    /// Clock of the tracker, nanoseconds.
    pub time_ns: u64,
    /// What this host's kernel said of the connection: within 10 ms of the end, but errors and drops of its whole life.
    pub kernel: Vec<KernelFact>,
    /// Its kernel was listened to at all: tracepoints are attached. Never offline.
    pub kernel_available: bool,
    /// Entry of the connection in the kernel's table.
    pub slot: Option<u32>,
    pub payload: PayloadFacts,
    /// Other connections whose numbers this one continues.
    pub relatives: Vec<Relative>,
    /// Of the RST at hand: how it differs from its claimed sender's other packets
    /// ([`monitor_common::event::identity`]).
    pub identity: u8,
    /// Where the RST at hand was observed ([`monitor_common::tracker::state::Hook`]); 0 without one.
    pub hook: u8,
    /// What followed the first effective RST.
    pub later: Later,
    /// What other connections tell about this one.
    pub surroundings: Surroundings,
    /// Evidence or reports about this connection were lost.
    pub events_lost: bool,
    /// While this connection was watched, entries of the table were removed or reports withheld for want of room.
    pub under_pressure: bool,
    /// The capture ended in damage.
    pub truncated: bool,
}

/// What only whole packets tell. Capture files that hold them do; the kernel programs never read payload, so it is empty
/// live.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PayloadFacts {
    /// By speaker.
    pub side: [PayloadSide; 2],
}

/// The payload of one speaker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PayloadSide {
    /// Data segments whose TCP checksum was right (RFC 9293 section 3.1).
    pub checksum_good: u32,
    /// ... and wrong.
    pub checksum_bad: u32,
    pub bad_first_ns: u64,
    pub bad_last_ns: u64,
    /// Sequence number of the first wrong one.
    pub bad_seq: u32,
    /// Segments that carried other bytes than one before them at the same sequence numbers.
    pub overlaps: u32,
    pub overlap_first_ns: u64,
    pub overlap_last_ns: u64,
    /// Where the first of them differed.
    pub overlap_seq: u32,
}

/// How the connection ended.
#[derive(Clone, Copy, Debug)]
pub enum End {
    Reset {
        sender: Direction,
        record: Record,
        effect: Effect,
        /// Which RST of its sender it is, counted from 1.
        number: u8,
    },
    /// Both FINs acknowledged.
    Closed,
    /// Silent for longer than any of its timers.
    Silent,
    /// Still going on when the observation ended.
    Open,
}

#[derive(Clone, Copy, Debug)]
pub struct Seen {
    pub anomaly: Anomaly,
    /// The speaker at fault.
    pub speaker: Direction,
    pub count: u32,
    pub first_ns: u64,
    pub last_ns: u64,
    pub hard: bool,
    /// Numbers of the first occurrence.
    pub expected: u32,
    pub actual: u32,
}

#[derive(Clone, Copy, Debug)]
pub struct Recorded {
    pub speaker: Direction,
    pub record: Record,
}

/// What a tracepoint of the local kernel said about this 4-tuple.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelFact {
    /// `tcp_send_reset`, `tcp_receive_reset`, `inet_sk_error_report`, `kfree_skb`.
    pub source: &'static str,
    /// Name of the reason without its prefix (`TCP_ABORT_ON_CLOSE`, `NETFILTER_DROP`), of an errno (`ETIMEDOUT`), or
    /// `none` on a kernel without reset reasons.
    pub reason: String,
    /// The socket's own end. Of a drop: the end that did not get the segment, or the one that wanted to send it; its
    /// socket need not be on this host, which may only forward.
    pub local: Direction,
    /// The reset answers a segment.
    pub has_trigger: bool,
    /// `include/net/tcp_states.h`; 0 without a socket.
    pub state: u8,
    pub netns: u32,
    /// The process that did it, where it was a process and not a timer or the receive path.
    pub pid: Option<u32>,
    pub command: Option<String>,
    /// Path of the cgroup: of that process, else the one that the socket was made in.
    pub cgroup: Option<String>,
    /// Identifier of the container, and systemd's unit, by that path.
    pub container: Option<String>,
    pub unit: Option<String>,
    /// Socket cookie, where the socket has one already.
    pub cookie: Option<u64>,
    /// Only of `kfree_skb`: what was dropped for this reason.
    pub dropped: Option<Dropped>,
    /// Of a drop: the last one.
    pub time_ns: u64,
}

/// Segments of one end that the local kernel dropped for one reason, since the connection began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dropped {
    pub speaker: Direction,
    pub count: u32,
    pub first_ns: u64,
    /// Of the last one: sequence number, TCP flags, and whether this host was about to send it.
    pub seq: SeqNum,
    pub flags: u8,
    pub leaving: bool,
}

/// Another connection with an endpoint in common, whose sequence space this one carries on.
#[derive(Clone, Copy, Debug)]
pub struct Relative {
    pub key: FlowKey,
    /// The endpoint that both have.
    pub shared: Endpoint,
    /// The endpoint of the other connection that stands where this one has another.
    pub translated: Endpoint,
    /// The endpoint of this connection in its place.
    pub untranslated: Endpoint,
    /// The acknowledgement (or sequence) number of this connection's first segment, and where the other one stood.
    pub number: u32,
    pub other: u32,
    /// Sequence and acknowledgement both fit.
    pub exact: bool,
    /// The shared endpoint is the client. Known from the other connection's SYN; without it, a translator that keeps the
    /// address and changes the port is one in front of clients. None: neither tells.
    pub shared_is_client: Option<bool>,
}

impl History {
    /// From a report with everything.
    pub fn from_full(report: &FullEvent) -> History {
        let mut h = History::from_parts(&report.event.connection, &report.evidence, &report.recorder);
        h.take_event(&report.event);
        h
    }

    /// From a report without evidence: a close that nothing hard preceded.
    pub fn from_brief(event: &Event) -> History {
        let mut h = History::from_parts(&event.connection, &Evidence::default(), &Recorder::default());
        h.take_event(event);
        h
    }

    /// From the tables, for a connection that is silent or still open. `evidence` of another life is not taken.
    pub fn from_parts(c: &Connection, evidence: &Evidence, recorder: &Recorder) -> History {
        let anomalies = if evidence.created_ns == c.created_ns { merge(evidence) } else { Vec::new() };
        let events_lost = evidence.ledger.iter().any(|l| l.lost > 0);
        History {
            connection: *c,
            anomalies,
            records: in_order(recorder, c),
            end: End::Open,
            phase: c.phase_without_reset(),
            time_ns: c.last_ns(),
            kernel: Vec::new(),
            kernel_available: false,
            slot: None,
            payload: PayloadFacts::default(),
            relatives: Vec::new(),
            identity: 0,
            hook: 0,
            later: Later::default(),
            surroundings: Surroundings::default(),
            events_lost,
            under_pressure: false,
            truncated: false,
        }
    }

    fn take_event(&mut self, event: &Event) {
        self.time_ns = event.time_ns;
        self.slot = Some(event.slot);
        self.events_lost |= event.evidence_lost != 0;
        if event.why & why::RESET != 0 {
            let sender = Direction::from_index(event.direction);
            self.identity = event.identity;
            self.hook = event.hook;
            self.end = End::Reset {
                sender,
                record: event.record,
                effect: Effect::from_number(event.effect),
                number: self.connection.half[sender.index()].rst_count,
            };
        } else if event.why & why::CLOSE != 0 {
            self.end = End::Closed;
        }
    }

    /// Direction of what the client sends: from the SYN, from the connection that this one carries on, else the lower
    /// port is taken for the server's. A translator may choose any port.
    pub fn client(&self) -> Direction {
        if self.connection.flags & conn::INITIATOR == 0
            && let Some((shared, client)) = self.relatives.iter().find_map(|r| Some((r.shared, r.shared_is_client?)))
        {
            let shared =
                if self.endpoint(Direction::Forward) == shared { Direction::Forward } else { Direction::Reverse };
            return if client { shared } else { shared.other() };
        }
        client(&self.connection)
    }

    pub fn is_client(&self, speaker: Direction) -> bool {
        self.client() == speaker
    }

    /// `client` or `server`.
    pub fn role(&self, speaker: Direction) -> &'static str {
        if self.is_client(speaker) { "client" } else { "server" }
    }

    /// `client_to_server` or `server_to_client`.
    pub fn direction_name(&self, speaker: Direction) -> &'static str {
        if self.is_client(speaker) { "client_to_server" } else { "server_to_client" }
    }

    pub fn half(&self, speaker: Direction) -> &Half {
        &self.connection.half[speaker.index()]
    }

    pub fn reach(&self, speaker: Direction) -> &Reach {
        &self.connection.reach[speaker.index()]
    }

    pub fn endpoint(&self, speaker: Direction) -> Endpoint {
        Endpoint::of(&self.connection.key, speaker)
    }

    /// Only one end's segments were seen. A RST counts: an end whose only word is a reset was heard.
    pub fn one_way(&self) -> bool {
        self.connection.half.iter().any(|h| h.segments == 0)
    }

    pub fn mid_stream(&self) -> bool {
        self.connection.flags & conn::MID_STREAM != 0
    }

    /// Packets are proven missing from the observation.
    pub fn capture_lossy(&self) -> bool {
        self.connection.flags & conn::CAPTURE_LOSSY != 0
    }

    /// The first window of `speaker` after its SYN in bytes, by the options seen here.
    pub fn first_window(&self, speaker: Direction) -> u32 {
        let scaling = self.connection.half.iter().all(|h| h.has(half::WSCALE));
        let me = self.half(speaker);
        u32::from(self.reach(speaker).first_wnd) << if scaling { me.wscale & 15 } else { 0 }
    }

    /// All data that `speaker` sent was acknowledged.
    pub fn all_acked(&self, speaker: Direction) -> bool {
        let peer = self.half(speaker.other());
        peer.has(half::ACKED) && peer.ack.at_or_after(self.half(speaker).snd_nxt)
    }

    /// Segments that this host's kernel dropped for the reason of this name, by speaker.
    pub fn dropped(&self, reason: &str) -> impl Iterator<Item = (&KernelFact, Dropped)> {
        self.kernel.iter().filter(move |f| f.reason == reason).filter_map(|f| Some((f, f.dropped?)))
    }

    pub fn seen(&self, anomaly: Anomaly) -> impl Iterator<Item = &Seen> {
        self.anomalies.iter().filter(move |s| s.anomaly == anomaly)
    }

    pub fn any(&self, anomaly: Anomaly) -> bool {
        self.seen(anomaly).next().is_some()
    }
}

/// See [`History::client`].
pub fn client(c: &Core) -> Direction {
    if c.flags & conn::INITIATOR != 0 {
        Direction::from_index(c.initiator)
    } else if c.key.port[0] >= c.key.port[1] {
        Direction::Forward
    } else {
        Direction::Reverse
    }
}

/// Entries of both writers, one per anomaly and speaker.
fn merge(evidence: &Evidence) -> Vec<Seen> {
    let mut out: Vec<Seen> = Vec::new();
    for e in evidence.entries() {
        let Some(anomaly) = Anomaly::from_number(e.anomaly) else { continue };
        let new = seen(e, anomaly);
        match out.iter_mut().find(|s| s.anomaly == new.anomaly && s.speaker == new.speaker) {
            Some(old) => {
                if new.first_ns < old.first_ns {
                    (old.first_ns, old.expected, old.actual) = (new.first_ns, new.expected, new.actual);
                }
                old.last_ns = old.last_ns.max(new.last_ns);
                old.count = old.count.wrapping_add(new.count);
                old.hard |= new.hard;
            }
            None => out.push(new),
        }
    }
    out.sort_by_key(|s| (s.first_ns, s.anomaly as u8, s.speaker as u8));
    out
}

fn seen(e: &Entry, anomaly: Anomaly) -> Seen {
    Seen {
        anomaly,
        speaker: Direction::from_index(e.direction),
        count: e.count,
        first_ns: e.first_ns,
        last_ns: e.last_ns,
        hard: e.flags & HARD != 0,
        expected: e.expected.0,
        actual: e.actual.0,
    }
}

/// Records of this life, by time. The recorder's slots are reused by the next life without being cleared.
pub fn in_order(recorder: &Recorder, c: &Connection) -> Vec<Recorded> {
    let (mut recorder, mut core) = (*recorder, c.core);
    recorder.settle_all(&mut core);
    let mut out: Vec<Recorded> = [Direction::Forward, Direction::Reverse]
        .into_iter()
        .flat_map(|speaker| {
            recorder.record[speaker.index()].iter().map(move |record| Recorded { speaker, record: *record })
        })
        .filter(|r| r.record.time_ns != 0 && r.record.time_ns >= c.created_ns)
        .collect();
    out.sort_by_key(|r| r.record.time_ns);
    out
}
