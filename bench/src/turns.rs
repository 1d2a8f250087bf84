//! What the agent's programs cost a bulk transfer, told finer than by iperf3's runs: hundreds of short streams, the
//! configurations by turns. A stream's throughput wanders by a quarter, over hundredths of a second as over
//! seconds, so that a long stream is no better a sample than a short one, and many short ones tell more.

use crate::agent::Agent;
use crate::harm::{self, Pair, WATCHED};
use crate::machine;
use crate::namespace::{Namespace, Visit};
use crate::statistics::Mean;
use anyhow::{Context, Result, ensure};
use monitor::capture::classifier::{Classifier, Side};
use monitor::capture::interfaces;
use serde::Serialize;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::thread::Builder;
use std::time::{Duration, Instant};

pub const ROW: &str = "harm-turns";
/// The agent's programs at the hooks that they have on a veth by default. The agent itself was shown to cost a stream nothing.
pub const WHYRST: &str = "whyrst's TC programs";

/// One configuration, one way.
#[derive(Clone, Debug, Serialize)]
pub struct Turns {
    /// Into or out of the interface that is watched.
    pub into: bool,
    pub with: &'static str,
    pub gbit_per_second: Mean,
    /// CPU of both ends' threads, with what the kernel did on their account.
    pub cpu_ns_per_kb: Mean,
    /// Of each round, to the same round without any program, and to an empty program at ingress and egress.
    pub to_none: Mean,
    pub to_empty: Mean,
}

const WITH: [With; 4] = [With::Nothing, With::Empty, With::Floor, With::Agent];

#[derive(Clone, Copy, PartialEq, Eq)]
enum With {
    Nothing,
    Empty,
    Floor,
    Agent,
}

impl With {
    const fn name(self) -> &'static str {
        match self {
            With::Nothing => "no program",
            With::Empty => "empty TC programs",
            With::Floor => "floor TC programs",
            With::Agent => WHYRST,
        }
    }
}

/// Slow start, and the first use of what was attached just now.
const WARM: Duration = Duration::from_millis(10);
const MEASURED: Duration = Duration::from_millis(20);
const CHUNK: usize = 128 << 10;
const PORT: u16 = 5223;

pub fn measure(agent: &mut Agent, rounds: u32) -> Result<Vec<Turns>> {
    let pair = Pair::new()?;
    let mut floors = harm::floors(65_536)?;
    {
        let _visit = Visit::to(&pair.here)?;
        let all = interfaces::list()?;
        let watched = all.iter().find(|i| i.name == WATCHED).context("no interface")?;
        agent.watch(&[watched.index])?;
    }
    let mut figures: [[Vec<Window>; WITH.len()]; 2] = Default::default();
    for round in 0..rounds as usize {
        for (way, into) in [(0, true), (1, false)] {
            for n in 0..WITH.len() {
                let which = (n + round) % WITH.len();
                let _attached = attached(WITH[which], &pair.here, &mut floors, agent)?;
                figures[way][which].push(stream(&pair, into)?);
                agent.drain();
            }
        }
    }
    let mut out = Vec::new();
    for (way, into) in [(0, true), (1, false)] {
        let speed = |which: usize| figures[way][which].iter().map(Window::gbit_per_second);
        for (which, with) in WITH.into_iter().enumerate() {
            let ratio = |to: usize| Mean::of_ratios(speed(which).zip(speed(to)).map(|(a, b)| a / b));
            out.push(Turns {
                into,
                with: with.name(),
                gbit_per_second: Mean::of(speed(which)),
                cpu_ns_per_kb: Mean::of(figures[way][which].iter().map(Window::cpu_ns_per_kb)),
                to_none: ratio(0),
                to_empty: ratio(1),
            });
        }
    }
    Ok(out)
}

/// What is attached to the watched end; dropped, it is gone.
enum Attached {
    Nothing,
    Floors(#[expect(unused)] harm::Attached),
    Agent(#[expect(unused)] [Classifier; 2]),
}

fn attached(with: With, here: &Namespace, floors: &mut aya::Ebpf, agent: &mut Agent) -> Result<Attached> {
    Ok(match with {
        With::Nothing => Attached::Nothing,
        With::Empty => Attached::Floors(harm::both_ways(floors, here, "t_empty")?),
        With::Floor => Attached::Floors(harm::both_ways(floors, here, "t_floor")?),
        With::Agent => {
            let _visit = Visit::to(here)?;
            Attached::Agent([agent.attach(WATCHED, Side::Ingress)?, agent.attach(WATCHED, Side::Egress)?])
        }
    })
}

/// What one stream did in its measured time.
#[derive(Clone, Copy)]
struct Window {
    bytes: u64,
    took: Duration,
    cpu: Duration,
}

impl Window {
    fn gbit_per_second(&self) -> f64 {
        self.bytes as f64 * 8.0 / self.took.as_secs_f64() / 1e9
    }

    fn cpu_ns_per_kb(&self) -> f64 {
        self.cpu.as_nanos() as f64 / (self.bytes as f64 / 1e3)
    }
}

/// One connection that sends as much as it can, each end on a CPU of its own.
fn stream(pair: &Pair, into: bool) -> Result<Window> {
    let (from, to, address) = match into {
        true => (&pair.there, &pair.here, harm::ADDRESSES[0]),
        false => (&pair.here, &pair.there, harm::ADDRESSES[1]),
    };
    let listener = to.inside(|| TcpListener::bind((address, PORT)))??;
    let mut sending = from.inside(|| TcpStream::connect((address, PORT)))??;
    let (mut receiving, _) = listener.accept()?;
    drop(listener);
    let received = AtomicU64::new(0);
    let threads = [AtomicI32::new(0), AtomicI32::new(0)];
    // Before the scope waits for the sender, whatever happens.
    let stop = Stop(sending.try_clone()?);
    std::thread::scope(|scope| -> Result<Window> {
        let stop = stop;
        let (received, threads) = (&received, &threads);
        let began = |end: usize, cpu: usize| -> std::io::Result<()> {
            machine::pin(cpu).map_err(std::io::Error::other)?;
            // SAFETY: no arguments.
            threads[end].store(unsafe { libc::gettid() }, Ordering::Relaxed);
            Ok(())
        };
        let sender = Builder::new().spawn_scoped(scope, move || -> std::io::Result<()> {
            began(0, 0)?;
            let chunk = vec![0; CHUNK];
            // Until it is shut down.
            while sending.write_all(&chunk).is_ok() {}
            Ok(())
        })?;
        let receiver = Builder::new().spawn_scoped(scope, move || -> std::io::Result<()> {
            began(1, 1)?;
            let mut chunk = vec![0; CHUNK];
            loop {
                match receiving.read(&mut chunk)? {
                    0 => return Ok(()),
                    n => received.fetch_add(n as u64, Ordering::Relaxed),
                };
            }
        })?;
        let patience = Instant::now() + Duration::from_secs(5);
        while received.load(Ordering::Relaxed) == 0 {
            ensure!(Instant::now() < patience, "a stream moved nothing");
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(WARM);
        let cpu = || threads.iter().map(|t| cpu_of(t.load(Ordering::Relaxed))).sum::<Duration>();
        let (start, bytes, spent) = (Instant::now(), received.load(Ordering::Relaxed), cpu());
        std::thread::sleep(MEASURED);
        let (took, bytes, spent) = (start.elapsed(), received.load(Ordering::Relaxed) - bytes, cpu() - spent);
        drop(stop);
        for thread in [sender, receiver] {
            thread.join().map_err(|_| anyhow::anyhow!("one end of a stream panicked"))??;
        }
        ensure!(bytes > 0, "a stream moved nothing");
        Ok(Window { bytes, took, cpu: spent })
    })
}

/// Ends a stream when dropped.
struct Stop(TcpStream);

impl Drop for Stop {
    fn drop(&mut self) {
        // The other end may have ended it.
        let _ = self.0.shutdown(std::net::Shutdown::Both);
    }
}

/// CPU time of a thread of this process.
fn cpu_of(thread: i32) -> Duration {
    // `CPUCLOCK_SCHED` of one thread (include/linux/posix-timers_types.h).
    let clock = (!thread << 3) | 6;
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a live value of the right type.
    unsafe { libc::clock_gettime(clock, &mut t) };
    Duration::new(t.tv_sec as u64, t.tv_nsec as u32)
}
