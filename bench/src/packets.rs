//! Nanoseconds per packet: the agent's program, the floor and the empty program on the same packets, by turns.

use crate::agent::Agent;
use crate::player::{Hook, Play, Player};
use crate::statistics::Spread;
use crate::traffic::conversation::Conversation;
use crate::traffic::conversation::Ending;
use crate::traffic::segment::Link;
use anyhow::{Result, ensure};
use aya::programs::ProgramFd;
use monitor_common::event::{Ended, FaultlessRecorded};
use serde::Serialize;

/// What is played.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    pub name: &'static str,
    pub connections: u32,
    make: fn() -> Conversation,
    /// Each pass is new connections.
    renew: bool,
    /// Both tables are emptied, and the conversation starts anew, before each round: connections are born in it.
    born: bool,
    /// The conversation starts anew before each round, on the same connections.
    restart: bool,
    /// The floor's table alone is emptied before each round: it has no way to make room.
    floor_forgets: bool,
    /// The program of [`Player::floor`] that ratios are to.
    against: &'static str,
    /// The floor that keeps last headers takes its turn, too: memory decides here.
    recorded: bool,
    /// Packets of a round, at most.
    packets: u32,
    /// As many times the rounds.
    times: u32,
    /// Packets between two emptyings of the agent's ring buffer, which holds some thousand events.
    call: u32,
}

const ESTABLISHED: Row = Row {
    name: "",
    connections: 1,
    make: || Conversation::steady(Link::Ipv4),
    renew: false,
    born: false,
    restart: false,
    floor_forgets: false,
    against: "floor",
    recorded: false,
    packets: u32::MAX,
    times: 1,
    call: u32::MAX,
};

/// The rows, in the order of the report.
pub const ROWS: &[Row] = &[
    Row { name: "established-1", ..ESTABLISHED },
    Row { name: "established-4096", connections: 4096, recorded: true, ..ESTABLISHED },
    Row { name: "established-65536", connections: 65_536, recorded: true, ..ESTABLISHED },
    Row { name: "established-1M", connections: 1 << 20, ..ESTABLISHED },
    Row { name: "conversation-1", make: || Conversation::whole(Link::Ipv4), renew: true, ..ESTABLISHED },
    Row {
        name: "born",
        connections: 65_536,
        make: Conversation::beginning,
        born: true,
        recorded: true,
        packets: 30 * 65_536,
        ..ESTABLISHED
    },
    Row { name: "short-256", connections: 256, recorded: true, packets: 200_000, ..SHORT },
    Row { name: "short", connections: 1024, recorded: true, ..SHORT },
    Row {
        name: "syn-flood",
        make: Conversation::syn,
        renew: true,
        floor_forgets: true,
        packets: 100_000,
        ..ESTABLISHED
    },
    Row { name: "sack", connections: 4096, make: Conversation::sack, ..ESTABLISHED },
    Row { name: "ipv6", connections: 4096, make: || Conversation::steady(Link::Ipv6), ..ESTABLISHED },
    Row { name: "vlan", connections: 4096, make: || Conversation::steady(Link::Vlan), ..ESTABLISHED },
    // Of a few nanoseconds nine rounds do not tell the ratio.
    Row { name: "non-tcp", make: Conversation::datagrams, against: "parse", times: 5, ..ESTABLISHED },
];

/// What the guard measures: few connections, in a table that the processor's own caches hold. With more, the ratio is that
/// of two places in memory, and of what the neighbours leave of the caches between.
pub const GUARDED: &[Row] = &[
    Row { name: "established-1", ..ESTABLISHED },
    Row { name: "established-128", connections: 128, ..ESTABLISHED },
    // As many as the floor's table has room for.
    Row { name: "short-16", connections: 16, packets: 20_000, ..SHORT },
];

const SHORT: Row =
    Row { name: "", make: Conversation::short, renew: true, floor_forgets: true, call: 50_000, ..ESTABLISHED };

/// A whole conversation that begins anew in each round, on the same connections: mostly what looks like repetitions.
/// Only to be compared with other runners, which can do no better.
pub const REPLAYED: &[Row] = &[
    Row { name: "replayed-1", restart: true, ..WHOLE },
    Row { name: "replayed-4096", connections: 4096, restart: true, ..WHOLE },
    Row { name: "replayed-65536", connections: 65_536, restart: true, ..WHOLE },
];

const WHOLE: Row = Row { name: "conversation-1", make: || Conversation::whole(Link::Ipv4), ..ESTABLISHED };

/// Figures of one row at one hook. Nanoseconds per packet, net of the empty program of the same round.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    pub row: &'static str,
    pub hook: Hook,
    pub connections: u32,
    /// The empty program with the player, gross.
    pub empty: Spread,
    pub floor: Spread,
    pub agent: Spread,
    /// Of each round.
    pub ratio: Spread,
    /// To the floor that keeps last headers, likewise, where that was measured; and what that floor takes.
    pub recorded: Option<[Spread; 2]>,
    /// What the agent's program counted, per packet.
    pub anomalies: f64,
    pub events: f64,
    pub notes: Vec<String>,
}

/// One of the programs that take turns.
struct Turn {
    program: ProgramFd,
    play: Play,
    figures: Vec<f64>,
}

/// Plays as many packets; the mean cost of one.
fn play(player: &mut Player, agent: &mut Agent, row: &Row, hook: Hook, turn: &mut Turn, packets: u32) -> Result<f64> {
    let mut left = packets;
    let mut sum = 0.0;
    while left > 0 {
        let call = left.min(row.call);
        sum += player.run(hook, &turn.program, &mut turn.play, call)? * f64::from(call);
        agent.drain();
        left -= call;
    }
    Ok(sum / f64::from(packets))
}

/// How long it is measured.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    pub rounds: u32,
    /// Packets of a round.
    pub packets: u32,
}

pub fn measure(player: &mut Player, agent: &mut Agent, row: &Row, hook: Hook, effort: Effort) -> Result<Figures> {
    let rounds = effort.rounds * row.times;
    let conversation = (row.make)();
    player.conversation(&conversation)?;
    player.clear()?;
    agent.clear()?;
    agent.spread_for(row.connections)?;
    let start = Play::new(&conversation, row.connections, row.renew);
    let turn = |program| Turn { program, play: start, figures: Vec::new() };
    const FLOOR: usize = 1;
    const AGENT: usize = 2;
    const RECORDED: usize = 3;
    let mut turns =
        vec![turn(player.floor(hook, "empty")?), turn(player.floor(hook, row.against)?), turn(agent.program(hook)?)];
    if row.recorded {
        turns.push(turn(player.floor(hook, "recorded")?));
    }

    let packets = if row.born { row.packets } else { effort.packets.max(row.connections).min(row.packets) };
    if !row.born {
        // Until the connections are established, and a round more, so that caches hold what they will hold.
        let lead = (conversation.lead as u32 * row.connections).next_multiple_of(packets.max(1));
        let warm = lead + packets;
        for turn in &mut turns {
            play(player, agent, row, hook, turn, warm)?;
        }
    }
    agent.drain();
    let (before, refused) = (agent.counters()?, player.counts()?[1]);
    for round in 0..rounds as usize {
        for i in 0..turns.len() {
            let which = (i + round) % turns.len();
            let is_floor = which == FLOOR || which == RECORDED;
            if row.born || (row.floor_forgets && is_floor) {
                match which {
                    FLOOR | RECORDED => player.clear()?,
                    AGENT => agent.clear()?,
                    _ => {}
                }
            }
            let turn = &mut turns[which];
            if row.born || row.restart {
                turn.play = start;
            }
            let figure = play(player, agent, row, hook, turn, packets)?;
            turn.figures.push(figure);
        }
    }
    let (after, refused) = (agent.counters()?, player.counts()?[1] - refused);

    let figures = |i: usize| turns[i].figures.iter();
    let net = |i: usize| -> Vec<f64> { figures(i).zip(figures(0)).map(|(f, e)| f - e).collect() };
    let (floor, ours) = (net(FLOOR), net(AGENT));
    let to = |floor: &[f64]| Spread::of(ours.iter().zip(floor).map(|(a, f)| a / f));
    let recorded = row.recorded.then(|| net(RECORDED)).map(|floor| [to(&floor), Spread::of(floor)]);
    let (ratio, empty) = (to(&floor), Spread::of(figures(0).copied()));
    let played = f64::from(packets) * f64::from(rounds);
    let sum = |of: &[(String, u64)]| of.iter().map(|(_, n)| n).sum::<u64>();
    let seen = (after.received_packets + after.transmitted_packets)
        .wrapping_sub(before.received_packets + before.transmitted_packets);
    let mut notes = Vec::new();
    let mut note = |n: u64, what: &str| {
        if n > 0 {
            notes.push(format!("{n} {what}"));
        }
    };
    note(refused, "connections that the floor's table refused");
    note(after.table_full - before.table_full, "packets without room in the agent's table");
    note(after.events_lost - before.events_lost, "events lost");
    note(after.evidence_full - before.evidence_full, "observations without room");
    note((played as u64).abs_diff(seen), "packets that the agent's program did not count");
    for ((name, after), (_, before)) in after.anomalies.iter().zip(&before.anomalies) {
        note(after - before, &format!("times {name}"));
    }
    Ok(Figures {
        row: row.name,
        hook,
        connections: row.connections,
        ratio,
        recorded,
        empty,
        floor: Spread::of(floor),
        agent: Spread::of(ours),
        anomalies: (sum(&after.anomalies) - sum(&before.anomalies)) as f64 / played,
        events: (after.events_sent - before.events_sent) as f64 / played,
        notes,
    })
}

/// What a packet costs that the agent hears of.
#[derive(Clone, Debug, Serialize)]
pub struct EventFigures {
    pub row: &'static str,
    pub hook: Hook,
    /// An acknowledgement, without an event: the floor's and the agent's nanoseconds, net of the empty program.
    pub floor: Spread,
    pub quiet: Spread,
    /// The packet with the event, likewise.
    pub event: Spread,
    /// What the event adds, in floors.
    pub ratio: Spread,
    /// What an empty entry in a ring buffer adds to the floor, in floors: no event can add less.
    pub least: Spread,
    /// What an entry adds that holds as many bytes: for a reset of the floor with last headers, which are in it.
    pub as_long: Spread,
    pub notes: Vec<String>,
}

/// A row of events: what is played, and the programs of [`Player::floor`] whose difference is what as long an entry adds.
#[derive(Clone, Copy, Debug)]
pub struct EventRow {
    pub name: &'static str,
    ending: Ending,
    as_long: [&'static str; 2],
}

pub const EVENT_ROWS: [EventRow; 2] = [
    EventRow { name: "event-close", ending: Ending::Close, as_long: ["floor", "event_close"] },
    EventRow { name: "event-reset", ending: Ending::Reset, as_long: ["recorded", "event_reset"] },
];

// As long as the reports: see the events in bench-ebpf/src/floor.rs.
const _: () = assert!(size_of::<Ended>() == 7 * 8 && size_of::<FaultlessRecorded>() == 131 * 8);

/// Plays a short conversation step by step, each step a call of its own: the step of an acknowledgement without an
/// event is compared with the last one, which has one.
///
/// For TC only: before and after each call the kernel changes its XDP dispatcher and sleeps (bpf_prog_change_xdp in
/// kernel/bpf/dispatcher.c), after which caches are cold. What is added is the same code at all hooks.
pub fn event(
    player: &mut Player,
    agent: &mut Agent,
    row: &EventRow,
    hook: Hook,
    effort: Effort,
) -> Result<EventFigures> {
    /// Of one step all events fit into the ring buffer.
    const CONNECTIONS: u32 = 512;
    /// The acknowledgement, in [`Conversation::reported`].
    const QUIET: usize = 4;
    let conversation = Conversation::reported(row.ending);
    let last = conversation.frames.len() - 1;
    player.conversation(&conversation)?;
    player.clear()?;
    agent.clear()?;
    let start = Play::new(&conversation, CONNECTIONS, true);
    let floor = |name| player.floor(hook, name);
    let [without, with] = row.as_long;
    // What plays the last step, and what plays those before it: the rooms in a ring buffer are then as long unused, and as
    // far from all caches, as ours are.
    let programs = [
        [floor("empty")?, floor("empty")?],
        [floor("floor")?, floor("floor")?],
        [agent.program(hook)?, agent.program(hook)?],
        [floor("event")?, floor("floor")?],
        [floor(without)?, floor(without)?],
        [floor(with)?, floor(without)?],
    ];
    let mut plays = [start; 6];
    let passes = effort.rounds as usize * 8;
    let mut steps = vec![[[0.0; 6]; 2]; passes];
    let mut seen = 0;
    for pass in &mut steps {
        for (i, (program, play)) in programs.iter().zip(&mut plays).enumerate() {
            for step in 0..=last {
                agent.drain();
                player.drain();
                let figure = player.run(hook, &program[usize::from(step < last)], play, CONNECTIONS)?;
                if step == QUIET {
                    pass[0][i] = figure;
                }
                if step == last {
                    pass[1][i] = figure;
                    seen += agent.drain();
                }
            }
        }
        player.clear()?;
    }
    ensure!(player.lost_events()? == 0, "the floor's ring buffer is too small for what is compared");
    let net = |step: usize, program: usize| steps.iter().map(move |p| p[step][program] - p[step][0]);
    let ratio =
        steps.iter().map(|[quiet, event]| ((event[2] - event[0]) - (quiet[2] - quiet[0])) / (quiet[1] - quiet[0]));
    let adds = |with: usize, without: usize| {
        Spread::of(steps.iter().map(move |[quiet, event]| (event[with] - event[without]) / (quiet[1] - quiet[0])))
    };
    let expected = u64::from(CONNECTIONS) * passes as u64;
    let notes = if seen == expected { vec![] } else { vec![format!("{seen} events for {expected} packets")] };
    Ok(EventFigures {
        row: row.name,
        hook,
        floor: Spread::of(net(0, 1)),
        quiet: Spread::of(net(0, 2)),
        event: Spread::of(net(1, 2)),
        ratio: Spread::of(ratio),
        least: adds(3, 1),
        as_long: adds(5, 4),
        notes,
    })
}
