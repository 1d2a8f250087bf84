//! What the agent's programs cost a bulk transfer, told finer than by iperf3's runs. A stream's speed wanders by a
//! quarter from a hundredth of a second to the next, and as much from second to second, because what it copies shares
//! the caches with the neighbours; from millisecond to millisecond it does less. So every configuration has a link and a
//! stream of its own, and they move a few MiB each, by turns.

use super::pair::{Link, Pair};
use super::with::{Attached, Ours, Stand, With};
use crate::agent::Agent;
use crate::machine;
use crate::namespace::Visit;
use crate::statistics::{Mean, Spread};
use anyhow::{Context, Result};
use monitor::capture::interfaces;
use serde::Serialize;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread::Builder;
use std::time::{Duration, Instant};

pub const ROW: &str = "harm-turns";

/// One configuration, one way.
#[derive(Clone, Debug, Serialize)]
pub struct Turns {
    /// Into or out of the interface that is watched.
    pub into: bool,
    pub with: &'static str,
    pub gbit_per_second: Mean,
    /// CPU of both ends' threads, with what the kernel did on their account.
    pub cpu_ns_per_kb: Mean,
    /// Of each turn, to the same turn without any program, and to an empty program at ingress and egress.
    pub to_none: Mean,
    pub to_empty: Mean,
}

const WITH: [With; 4] = [With::Nothing, With::Empty, With::Floor, With::Whyrst];
/// What a stream moves in its turn; a millisecond, so that the wake-ups before and after it do not matter.
const PORTION: usize = 4 << 20;
/// Slow start, and the first use of what was attached just now.
const WARM: usize = 10;
/// Turns of a stream that count.
const TURNS: usize = 50;
const CHUNK: usize = 128 << 10;
const PORT: u16 = 5223;

/// In every block the connections are new, and the links change their configurations: neither where a stream's buffers lie
/// nor the link decides.
pub fn measure(agent: &mut Agent, blocks: u32) -> Result<Vec<Turns>> {
    let pair = Pair::new(WITH.len() as u8)?;
    {
        let _visit = Visit::to(&pair.here)?;
        let all = interfaces::list()?;
        let index = |link: &Link| all.iter().find(|i| i.name == link.watched).map(|i| i.index).context("no interface");
        agent.watch(&pair.links.iter().map(index).collect::<Result<Vec<_>>>()?)?;
    }
    let mut stand = Stand::new(Ours::Programs(agent))?;
    let mut figures: [[Vec<Figures>; WITH.len()]; 2] = Default::default();
    for block in 0..blocks as usize {
        let links: [&Link; WITH.len()] = std::array::from_fn(|which| &pair.links[(which + block) % WITH.len()]);
        let attach = |(which, link): (usize, &&Link)| stand.attach(WITH[which], &pair.here, &link.watched);
        let _attached: Vec<Attached> = links.iter().enumerate().map(attach).collect::<Result<_>>()?;
        for (way, into) in [(0, true), (1, false)] {
            let portions = streams(&pair, &links, into)?;
            for (which, figures) in figures[way].iter_mut().enumerate() {
                figures.push(Figures::of(which, &portions));
            }
        }
        if let Ours::Programs(agent) = &mut stand.ours {
            agent.drain();
        }
    }
    let mut out = Vec::new();
    for (way, into) in [(0, true), (1, false)] {
        for (which, with) in WITH.into_iter().enumerate() {
            let figures = || figures[way][which].iter();
            out.push(Turns {
                into,
                with: with.name(),
                gbit_per_second: Mean::of(figures().map(|f| f.gbit_per_second)),
                cpu_ns_per_kb: Mean::of(figures().map(|f| f.cpu_ns_per_kb)),
                to_none: Mean::of_ratios(figures().map(|f| f.to_none)),
                to_empty: Mean::of_ratios(figures().map(|f| f.to_empty)),
            });
        }
    }
    Ok(out)
}

/// Of one stream, one block: medians, because a turn in which the host took a CPU away tells nothing.
struct Figures {
    gbit_per_second: f64,
    cpu_ns_per_kb: f64,
    to_none: f64,
    to_empty: f64,
}

impl Figures {
    fn of(which: usize, turns: &[[Portion; WITH.len()]]) -> Figures {
        let median = |f: &dyn Fn(&[Portion; WITH.len()]) -> f64| Spread::of(turns.iter().map(f)).median;
        let speed_to = |other: usize| median(&|turn| turn[other].took.as_secs_f64() / turn[which].took.as_secs_f64());
        Figures {
            gbit_per_second: median(&|turn| PORTION as f64 * 8.0 / turn[which].took.as_secs_f64() / 1e9),
            cpu_ns_per_kb: median(&|turn| turn[which].cpu.as_nanos() as f64 / (PORTION as f64 / 1e3)),
            to_none: speed_to(0),
            to_empty: speed_to(1),
        }
    }
}

#[derive(Clone, Copy, Default)]
struct Portion {
    /// From the first write until everything was read.
    took: Duration,
    cpu: Duration,
}

/// A stream over each link, by turns, the two ends on a CPU each.
fn streams(pair: &Pair, links: &[&Link; WITH.len()], into: bool) -> Result<Vec<[Portion; WITH.len()]>> {
    let (from, to) = if into { (&pair.there, &pair.here) } else { (&pair.here, &pair.there) };
    let (mut sending, mut receiving) = (Vec::new(), Vec::new());
    for link in links {
        let address = if into { link.here } else { link.there };
        let listener = to.inside(|| TcpListener::bind((address, PORT)))??;
        sending.push(from.inside(|| TcpStream::connect((address, PORT)))??);
        receiving.push(listener.accept()?.0);
    }
    for stream in sending.iter().chain(&receiving) {
        // A stream that is stuck is an error, and no end of the benchmark.
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.set_write_timeout(Some(Duration::from_secs(5)))?;
    }
    let (arrived, arrivals) = mpsc::channel();
    std::thread::scope(|scope| {
        let receiver = Builder::new().spawn_scoped(scope, move || receive(&mut receiving, &arrived))?;
        let sender = Builder::new().spawn_scoped(scope, move || send(&mut sending, &arrivals))?;
        let portions = sender.join().map_err(|_| anyhow::anyhow!("the sender panicked"))?;
        let received = receiver.join().map_err(|_| anyhow::anyhow!("the receiver panicked"))?;
        // Of the two the receiver knows why, if both have failed.
        received.and(portions)
    })
}

/// Streams of all turns in order, those that do not count too. Who begins changes, lest one be always after the same.
fn order() -> impl Iterator<Item = (usize, usize)> {
    (0..WARM + TURNS).flat_map(|turn| (0..WITH.len()).map(move |n| (turn, (n + turn) % WITH.len())))
}

fn send(streams: &mut [TcpStream], arrivals: &mpsc::Receiver<Arrival>) -> Result<Vec<[Portion; WITH.len()]>> {
    machine::pin(0)?;
    let chunk = vec![0; CHUNK];
    let mut out = vec![[Portion::default(); WITH.len()]; WARM + TURNS];
    for (turn, which) in order() {
        let (start, spent) = (Instant::now(), machine::cpu_of_this_thread());
        for _ in 0..PORTION / CHUNK {
            streams[which].write_all(&chunk).context("a stream cannot be sent")?;
        }
        let arrival = arrivals.recv().context("the receiver has ended")?;
        let cpu = machine::cpu_of_this_thread() - spent + arrival.cpu;
        out[turn][which] = Portion { took: arrival.at - start, cpu };
    }
    Ok(out.split_off(WARM))
}

/// The end of a portion.
struct Arrival {
    at: Instant,
    /// Of the receiver, for this portion.
    cpu: Duration,
}

fn receive(streams: &mut [TcpStream], arrived: &mpsc::Sender<Arrival>) -> Result<()> {
    machine::pin(1)?;
    let mut chunk = vec![0; CHUNK];
    for (_, which) in order() {
        let spent = machine::cpu_of_this_thread();
        for _ in 0..PORTION / CHUNK {
            streams[which].read_exact(&mut chunk).context("a stream does not arrive")?;
        }
        let arrival = Arrival { at: Instant::now(), cpu: machine::cpu_of_this_thread() - spent };
        // A sender that has failed says so itself.
        if arrived.send(arrival).is_err() {
            break;
        }
    }
    Ok(())
}
