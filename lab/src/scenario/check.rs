//! What may be said about a scenario, from where, and what must not be.
//!
//! ```text
//! at(View::Client)
//!     .accept(cause("seq_translation_fault").culprits(&["middlebox"]))
//!     .desync("offset", 1000)
//!     .shows(&["sack_unsent", "dsack_shifted"])
//! ```

use std::fmt;

use super::views::Variation;
use crate::topology::Point;

/// Where somebody watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum View {
    /// On the client's host: an agent on `c0`, a capture there.
    Client,
    /// On the server's host: an agent on `s0`, a capture there.
    Server,
    /// On the router or device: an agent on both of its ports. Live only.
    Router,
    /// One port of the router or device. Captures only.
    RouterToClient,
    RouterToServer,
}

impl View {
    /// Interfaces of an agent there; none where there is only a capture.
    pub fn agent_points(self) -> &'static [Point] {
        match self {
            Self::Client => &[Point::Client],
            Self::Server => &[Point::Server],
            Self::Router => &[Point::RouterToClient, Point::RouterToServer],
            Self::RouterToClient | Self::RouterToServer => &[],
        }
    }

    pub fn capture_point(self) -> Option<Point> {
        match self {
            Self::Client => Some(Point::Client),
            Self::Server => Some(Point::Server),
            Self::Router => None,
            Self::RouterToClient => Some(Point::RouterToClient),
            Self::RouterToServer => Some(Point::RouterToServer),
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
            Self::Router => "router",
            Self::RouterToClient => "router to client",
            Self::RouterToServer => "router to server",
        }
    }
}

/// Which of the two programs is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    Both,
    /// Only the agent: what depends on the kernel's own evidence, or on more than one interface.
    Live,
    /// Only `whyrst analyze`.
    Capture,
}

/// One acceptable verdict. Empty lists accept anything.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    pub cause: &'static str,
    pub variants: &'static [&'static str],
    pub culprits: &'static [&'static str],
    pub mechanisms: &'static [&'static str],
}

pub fn cause(cause: &'static str) -> Answer {
    Answer { cause, variants: &[], culprits: &[], mechanisms: &[] }
}

impl Answer {
    pub fn variants(self, variants: &'static [&'static str]) -> Self {
        Self { variants, ..self }
    }

    pub fn culprits(self, culprits: &'static [&'static str]) -> Self {
        Self { culprits, ..self }
    }

    pub fn mechanisms(self, mechanisms: &'static [&'static str]) -> Self {
        Self { mechanisms, ..self }
    }
}

/// How far the numbers are apart. The sign says which way and is part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Distance {
    pub kind: &'static str,
    /// `None`: this row gives no number.
    pub bytes: Option<i64>,
    /// What is told may fall short of it by so much: some numbers are lower bounds.
    pub short: i64,
}

#[derive(Clone, Debug)]
pub struct Check {
    pub view: View,
    pub ask: Ask,
    /// The capture is changed in this way before it is analysed.
    pub variation: Variation,
    pub expect: Expect,
    /// Anomalies of the finding, or what its evidence tells of.
    pub shows: &'static [&'static str],
    /// One of each of these groups.
    pub shows_one_of: Vec<&'static [&'static str]>,
    pub shows_not: &'static [&'static str],
    /// Named as the cause, or among those considered.
    pub considers: Option<&'static str>,
    /// None of the anomalies may be weighed as a fault.
    pub sound: bool,
}

#[derive(Clone, Debug)]
pub enum Expect {
    /// No finding about any connection, and no hard anomaly.
    Nothing,
    /// Findings or none, but no hard anomaly, and nobody has lost agreement: the least that may be said
    /// of a benign connection by somebody who sees only a part of it.
    InStep,
    Finding {
        /// Types of the JSON contract: `reset`, `degraded`, `rst_ineffective`.
        kinds: &'static [&'static str],
        answers: Vec<Answer>,
        desync: Option<Distance>,
        /// The local kernel's reason; asked of the agent only.
        kernel: Option<&'static str>,
        /// Least confidence from packets alone, and with a kernel's reason.
        least: (u8, u8),
        /// The address that the RST carries: `client` or `server`.
        sender: Option<&'static str>,
        /// In this connection there is no finding of any other type.
        alone: bool,
    },
}

/// From packets alone, and where the kernel names a reason.
const LEAST: (u8, u8) = (55, 80);

/// Asks both programs at one place; by default for a reset.
pub fn at(view: View) -> Check {
    Check {
        view,
        ask: match view {
            View::Router => Ask::Live,
            View::RouterToClient | View::RouterToServer => Ask::Capture,
            View::Client | View::Server => Ask::Both,
        },
        variation: Variation::Whole,
        expect: Expect::Finding {
            kinds: &["reset"],
            answers: Vec::new(),
            desync: None,
            kernel: None,
            least: LEAST,
            sender: None,
            alone: false,
        },
        shows: &[],
        shows_one_of: Vec::new(),
        shows_not: &[],
        considers: None,
        sound: false,
    }
}

impl Check {
    pub fn live(self) -> Self {
        Self { ask: Ask::Live, ..self }
    }

    pub fn capture(self) -> Self {
        Self { ask: Ask::Capture, ..self }
    }

    /// Analyses a changed copy of the capture.
    pub fn varied(self, variation: Variation) -> Self {
        Self { variation, ask: Ask::Capture, ..self }
    }

    pub fn nothing(self) -> Self {
        Self { expect: Expect::Nothing, ..self }
    }

    pub fn in_step(self) -> Self {
        Self { expect: Expect::InStep, ..self }
    }

    pub fn kinds(mut self, wanted: &'static [&'static str]) -> Self {
        if let Expect::Finding { kinds, .. } = &mut self.expect {
            *kinds = wanted;
        }
        self
    }

    /// One more acceptable verdict.
    pub fn accept(mut self, answer: Answer) -> Self {
        if let Expect::Finding { answers, .. } = &mut self.expect {
            answers.push(answer);
        }
        self
    }

    pub fn desync(mut self, kind: &'static str, bytes: impl Into<Option<i64>>) -> Self {
        if let Expect::Finding { desync, .. } = &mut self.expect {
            *desync = Some(Distance { kind, bytes: bytes.into(), short: 0 });
        }
        self
    }

    /// A lower bound of `bytes`, which was `short` below them at most.
    pub fn desync_bound(self, kind: &'static str, bytes: i64, short: i64) -> Self {
        let mut check = self.desync(kind, bytes);
        if let Expect::Finding { desync: Some(distance), .. } = &mut check.expect {
            distance.short = short;
        }
        check
    }

    /// The agent must give this reason of its own kernel (or one of several, `A|B`), and be surer for it.
    pub fn kernel(mut self, reason: &'static str) -> Self {
        if let Expect::Finding { kernel, .. } = &mut self.expect {
            *kernel = Some(reason);
        }
        self
    }

    /// Least confidence, where the row says otherwise than 55 and 80.
    pub fn least(mut self, packets: u8, with_kernel: u8) -> Self {
        if let Expect::Finding { least, .. } = &mut self.expect {
            *least = (packets, with_kernel);
        }
        self
    }

    pub fn sent_by(mut self, who: &'static str) -> Self {
        if let Expect::Finding { sender, .. } = &mut self.expect {
            *sender = Some(who);
        }
        self
    }

    pub fn alone(mut self) -> Self {
        if let Expect::Finding { alone, .. } = &mut self.expect {
            *alone = true;
        }
        self
    }

    pub fn shows(self, shows: &'static [&'static str]) -> Self {
        Self { shows, ..self }
    }

    /// Says that it may have been this, where that cannot be known.
    pub fn considers(self, cause: &'static str) -> Self {
        Self { considers: Some(cause), ..self }
    }

    /// Nothing was ever out of step: whatever shows must be soft.
    pub fn sound(self) -> Self {
        Self { sound: true, ..self }
    }

    /// At least one of these.
    pub fn shows_one_of(mut self, group: &'static [&'static str]) -> Self {
        self.shows_one_of.push(group);
        self
    }

    pub fn shows_not(self, shows_not: &'static [&'static str]) -> Self {
        Self { shows_not, ..self }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.cause)?;
        for (what, list) in [("", self.variants), (" by ", self.culprits), (" as ", self.mechanisms)] {
            match list {
                [] => {}
                _ if what.is_empty() => write!(f, ":{}", list.join("|"))?,
                _ => write!(f, "{what}{}", list.join("|"))?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Expect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("no finding, nothing hard"),
            Self::InStep => f.write_str("no desynchronisation, nothing hard"),
            Self::Finding { kinds, answers, desync, .. } => {
                let answers: Vec<_> = answers.iter().map(ToString::to_string).collect();
                write!(f, "{}: {}", kinds.join("|"), answers.join(", or "))?;
                match desync {
                    Some(Distance { kind, bytes: Some(bytes), short: 0 }) => write!(f, "; {kind} of {bytes}"),
                    Some(Distance { kind, bytes: Some(bytes), short }) => {
                        write!(f, "; {kind} of {bytes}, or up to {short} less")
                    }
                    Some(Distance { kind, bytes: None, .. }) => write!(f, "; {kind}"),
                    None => Ok(()),
                }
            }
        }
    }
}
