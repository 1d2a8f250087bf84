//! What is attached to an interface while a stream goes through it.

use crate::agent::Agent;
use crate::namespace::{Namespace, Visit};
use crate::player::OBJECT;
use crate::process;
use anyhow::{Context, Result, bail};
use aya::programs::links::FdLink;
use aya::programs::tc::TcAttachOptions;
use aya::programs::{LinkOrder, SchedClassifier, TcAttachType};
use aya::{Ebpf, EbpfLoader};
use monitor::capture::classifier::{Classifier, Side};
use std::path::Path;
use std::time::Duration;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum With {
    Nothing,
    Empty,
    Floor,
    /// With the ingress hook of its choice, which on a veth is TC.
    Whyrst,
    WhyrstNative,
}

impl With {
    pub const fn name(self) -> &'static str {
        match self {
            With::Nothing => "no program",
            With::Empty => "empty TC programs",
            With::Floor => "floor TC programs",
            With::Whyrst => "whyrst",
            With::WhyrstNative => "whyrst --ingress xdp",
        }
    }
}

/// What stands for whyrst.
pub enum Ours<'a> {
    /// The running agent.
    Process { whyrst: &'a Path, folder: &'a Path },
    /// Its programs at the hooks that it would choose. A stream does not see the difference, and they are there in no time.
    Programs(&'a mut Agent),
}

/// All that can be attached.
pub struct Stand<'a> {
    floors: Ebpf,
    pub ours: Ours<'a>,
}

impl<'a> Stand<'a> {
    pub fn new(ours: Ours<'a>) -> Result<Stand<'a>> {
        Ok(Stand { floors: floors(65_536)?, ours })
    }

    pub fn attach(&mut self, with: With, here: &Namespace, interface: &str) -> Result<Attached> {
        match with {
            With::Nothing => Ok(Attached::default()),
            With::Empty => self.floor("t_empty", here, interface),
            With::Floor => self.floor("t_floor", here, interface),
            With::Whyrst => self.whyrst(here, interface, &[]),
            With::WhyrstNative => self.whyrst(here, interface, &["--ingress", "xdp"]),
        }
    }

    /// A program of the floor object at both TC hooks. Both are one program with one table: what one way writes the
    /// other reads, as the agent's do.
    fn floor(&mut self, name: &str, here: &Namespace, interface: &str) -> Result<Attached> {
        let program = self.floors.program_mut(name).context("a program is missing")?;
        let program: &mut SchedClassifier = program.try_into()?;
        if program.fd().is_err() {
            program.load()?;
        }
        let mut out = Attached { programs: vec![program.info()?.id()], ..Attached::default() };
        let _visit = Visit::to(here)?;
        for hook in [TcAttachType::Ingress, TcAttachType::Egress] {
            let id = program.attach_with_options(interface, hook, TcAttachOptions::TcxOrder(LinkOrder::default()))?;
            out._links.push(program.take_link(id)?.try_into()?);
        }
        Ok(out)
    }

    fn whyrst(&mut self, here: &Namespace, interface: &str, arguments: &[&str]) -> Result<Attached> {
        let mut out = Attached::default();
        match &mut self.ours {
            Ours::Process { whyrst, folder } => {
                out._agent = Some(process::start(here, interface, whyrst, &folder.join("harm.sock"), arguments)?);
                out.programs.extend(["tc_in", "tc_out"].into_iter().filter_map(newest));
            }
            Ours::Programs(agent) if arguments.is_empty() => {
                let _visit = Visit::to(here)?;
                for side in [Side::Ingress, Side::Egress] {
                    out._classifiers.push(agent.attach(interface, side)?);
                }
            }
            Ours::Programs(_) => bail!("only the agent attaches as it is told"),
        }
        Ok(out)
    }
}

/// What is attached; dropped, it is gone.
#[derive(Default)]
pub struct Attached {
    _links: Vec<FdLink>,
    _classifiers: Vec<Classifier>,
    _agent: Option<process::Agent>,
    /// Numbers of the programs, where they are known.
    programs: Vec<u32>,
}

impl Attached {
    /// Time and number of all runs.
    pub fn runs(&self) -> (Duration, u64) {
        let ours = aya::programs::loaded_programs().flatten().filter(|p| self.programs.contains(&p.id()));
        ours.fold((Duration::ZERO, 0), |(time, count), p| (time + p.run_time(), count + p.run_count()))
    }
}

/// Number of the program of this name that was loaded last.
fn newest(name: &str) -> Option<u32> {
    let loaded = aya::programs::loaded_programs().flatten();
    loaded.filter(|p| p.name_as_str() == Some(name)).map(|p| p.id()).max()
}

/// The floor object, with nothing loaded yet.
pub fn floors(connections: u32) -> Result<Ebpf> {
    Ok(EbpfLoader::new().map_max_entries("TABLE", connections).map_max_entries("FRAMES", 16).load(OBJECT)?)
}
