//! Stories: each builds its hosts in `prepare`, and lets it happen in [`Story::tell`].
//!
//! Between the two the caller attaches whatever should watch: nothing has been sent yet. After
//! `tell` the hosts are still up until the story is dropped, so that a watcher can be asked.

pub mod nat;
pub mod sequence;
pub mod unread;

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::LabError;
use crate::app::App;
use crate::capture::{self, Capture};
use crate::error::During;
use crate::seq::SeqNum;
use crate::topology::{Point, Topology, Wiring};

/// No single wait of a story is longer; applications give up after this, too.
pub const PATIENCE: Duration = Duration::from_secs(15);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One stack loses its place in its own sequence during a bulk transfer.
    Sequence,
    /// A segment that connection tracking calls invalid slips past address translation.
    Nat,
    /// Benign: a server closes without having read everything.
    Unread,
}

impl Kind {
    pub const ALL: [Self; 3] = [Self::Sequence, Self::Nat, Self::Unread];

    pub fn name(self) -> &'static str {
        match self {
            Self::Sequence => "sequence",
            Self::Nat => "nat",
            Self::Unread => "unread",
        }
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    pub ipv6: bool,
    /// VLAN tag between router and server.
    pub vlan: Option<u16>,
    pub sequence: sequence::Options,
    pub nat: nat::Options,
}

impl Options {
    fn wiring(&self) -> Wiring {
        Wiring { ipv6: self.ipv6, vlan: self.vlan }
    }
}

pub trait Story {
    fn topology(&self) -> &Topology;

    /// Where an agent belongs: interfaces of one host.
    fn agent_points(&self) -> &'static [Point];

    /// Where captures show the story.
    fn capture_points(&self) -> &'static [Point];

    /// Lets it happen. An error means that it did not happen as it should.
    fn tell(&self, narrator: &mut Narrator) -> Result<Outcome, LabError>;
}

/// Builds the hosts of a story; nothing is sent yet.
pub fn prepare(kind: Kind, options: &Options) -> Result<Box<dyn Story>, LabError> {
    Ok(match kind {
        Kind::Sequence => Box::new(sequence::prepare(options)?),
        Kind::Nat => Box::new(nat::prepare(options)?),
        Kind::Unread => Box::new(unread::prepare(options)?),
    })
}

/// Starts a capture at every capture point: `<directory>/story-<name>-<point>.pcap`.
pub fn start_captures(kind: Kind, story: &dyn Story, directory: &Path, snaplen: u32) -> Result<Vec<Capture>, LabError> {
    std::fs::create_dir_all(directory).during(format!("create {}", directory.display()))?;
    let start = |&point: &Point| {
        let path = capture_path(kind, point, directory);
        Capture::start(story.topology().namespace(point), point.interface(), &path, snaplen)
    };
    story.capture_points().iter().map(start).collect()
}

/// Where [`start_captures`] writes.
pub fn capture_path(kind: Kind, point: Point, directory: &Path) -> PathBuf {
    directory.join(format!("story-{}-{point}.pcap", kind.name()))
}

/// Ends captures; a capture with losses is an error, since it would accuse the wrong one.
pub fn stop_captures(captures: Vec<Capture>) -> Result<Vec<(PathBuf, capture::Summary)>, LabError> {
    let mut summaries = Vec::new();
    for capture in captures {
        let path = capture.path().to_owned();
        let summary = capture.stop()?;
        if summary.dropped > 0 {
            return Err(LabError::Plot(format!(
                "{} lost {} frames; run it again on a less busy machine",
                path.display(),
                summary.dropped
            )));
        }
        summaries.push((path, summary));
    }
    Ok(summaries)
}

/// What happened, in words and in numbers.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub steps: Vec<Step>,
    /// What each application got from its socket.
    pub client_saw: Ending,
    pub server_saw: Ending,
    pub facts: Facts,
}

#[derive(Clone, Debug)]
pub enum Facts {
    Sequence(sequence::Facts),
    Nat(nat::Facts),
    Unread(unread::Facts),
}

/// How a connection ended for one side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// ECONNRESET.
    Reset,
    /// This side ended it itself.
    OwnDoing,
}

#[derive(Clone, Debug)]
pub struct Step {
    /// Since the first step.
    pub at: Duration,
    pub text: String,
}

/// Writes down what happens, and passes each step on while it happens.
pub struct Narrator<'a> {
    started: Option<Instant>,
    steps: Vec<Step>,
    listener: Box<dyn FnMut(&Step) + 'a>,
}

impl<'a> Narrator<'a> {
    pub fn new(listener: impl FnMut(&Step) + 'a) -> Self {
        Self { started: None, steps: Vec::new(), listener: Box::new(listener) }
    }

    pub fn silent() -> Self {
        Self::new(|_| {})
    }

    fn step(&mut self, text: impl Into<String>) {
        let started = *self.started.get_or_insert_with(Instant::now);
        let step = Step { at: started.elapsed(), text: text.into() };
        (self.listener)(&step);
        self.steps.push(step);
    }

    fn take_steps(&mut self) -> Vec<Step> {
        std::mem::take(&mut self.steps)
    }
}

/// The story must end with ECONNRESET; anything else is a different story.
fn expect_reset(who: &str, error: &io::Error) -> Result<Ending, LabError> {
    match error.raw_os_error() {
        Some(libc::ECONNRESET) => Ok(Ending::Reset),
        _ => Err(LabError::Plot(format!("{who} was not reset, but got: {error}"))),
    }
}

/// Where a socket of either family listens on all addresses.
fn any_address(ipv6: bool) -> std::net::IpAddr {
    if ipv6 { std::net::Ipv6Addr::UNSPECIFIED.into() } else { std::net::Ipv4Addr::UNSPECIFIED.into() }
}

/// Relative to an initial sequence number, as most tools print it.
fn relative(seq: SeqNum, iss: SeqNum) -> u32 {
    seq.0.wrapping_sub(iss.0)
}
