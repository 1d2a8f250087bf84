//! Programs on an interface's traffic control hooks: a tcx link where the kernel has it (6.6), else a clsact filter.

use super::loader::{LoadError, program};
use aya::Ebpf;
use aya::programs::links::FdLink;
use aya::programs::tc::{NlOptions, SchedClassifierLink, TcAttachOptions};
use aya::programs::{LinkOrder, SchedClassifier, TcAttachType, tc};

/// One of the two hooks, and what is attached there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// First of all programs: what came in is seen before another's policy drops, redirects or rewrites it, as by XDP.
    /// Which of them answers by a verdict ends the chain, so a later place could see nothing at all.
    Ingress,
    /// Last: what the others rewrote is what goes out.
    Egress,
}

impl Side {
    const fn program(self) -> &'static str {
        match self {
            Side::Ingress => "tc_in",
            Side::Egress => "tc_out",
        }
    }

    const fn hook(self) -> TcAttachType {
        match self {
            Side::Ingress => TcAttachType::Ingress,
            Side::Egress => TcAttachType::Egress,
        }
    }

    const fn tcx(self) -> &'static str {
        match self {
            Side::Ingress => "tcx ingress",
            Side::Egress => "tcx egress",
        }
    }

    const fn clsact(self) -> &'static str {
        match self {
            Side::Ingress => "clsact ingress",
            Side::Egress => "clsact egress",
        }
    }

    /// Of our clsact filter; the lowest number runs first. A priority belongs to one kind of filter, so the first may be
    /// refused.
    const fn priorities(self) -> &'static [u16] {
        match self {
            Side::Ingress => &[1, LATE],
            Side::Egress => &[LATE],
        }
    }
}

/// After what administrators number by hand.
const LATE: u16 = 0x7773;

/// An attached classifier: dropped, it is gone.
pub enum Classifier {
    Tcx(FdLink),
    /// Before Linux 6.6.
    Clsact(Filter),
}

impl Classifier {
    pub const fn name(&self) -> &'static str {
        match self {
            Classifier::Tcx(_) => "tcx",
            Classifier::Clsact(_) => "clsact",
        }
    }
}

/// A netlink filter, which the kernel keeps until somebody removes it: dropped, it is removed.
pub struct Filter {
    link: Option<SchedClassifierLink>,
    interface: String,
    side: Side,
}

impl Drop for Filter {
    fn drop(&mut self) {
        if let Some(link) = self.link.take()
            && let Err(e) = aya::programs::links::Link::detach(link)
        {
            tracing::warn!("cannot remove the {} filter of {}: {e}", self.side.clsact(), self.interface);
        }
    }
}

fn has_tcx() -> bool {
    aya::util::KernelVersion::current().is_ok_and(|v| v >= aya::util::KernelVersion::new(6, 6, 0))
}

pub fn load(ebpf: &mut Ebpf, side: Side) -> Result<&'static str, LoadError> {
    let name = side.program();
    program::<SchedClassifier>(ebpf, name)?.load().map_err(|source| LoadError::Program { name, source })?;
    Ok(name)
}

/// Attaches the loaded program of that side.
pub fn attach(ebpf: &mut Ebpf, interface: &str, side: Side) -> Result<Classifier, LoadError> {
    let failed = |hook| move |source| LoadError::Attach { interface: interface.into(), hook, source };
    let classifier = program::<SchedClassifier>(ebpf, side.program())?;
    if has_tcx() {
        let order = match side {
            Side::Ingress => LinkOrder::first(),
            Side::Egress => LinkOrder::default(),
        };
        let options = TcAttachOptions::TcxOrder(order);
        let id = classifier.attach_with_options(interface, side.hook(), options).map_err(failed(side.tcx()))?;
        let link = classifier.take_link(id).map_err(failed(side.tcx()))?;
        let link = FdLink::try_from(link).map_err(|_| LoadError::Interface {
            interface: interface.into(),
            text: "the kernel gave a filter where a tcx link was asked for".into(),
        })?;
        return Ok(Classifier::Tcx(link));
    }
    // The qdisc may be there already, ours or another's: it is left in place either way.
    if let Err(e) = tc::qdisc_add_clsact(interface) {
        tracing::debug!("clsact on {interface}: {e}");
    }
    let mut refused = None;
    for &priority in side.priorities() {
        let options = TcAttachOptions::Netlink(NlOptions { priority, ..NlOptions::default() });
        match classifier.attach_with_options(interface, side.hook(), options) {
            Ok(id) => {
                let link = classifier.take_link(id).map_err(failed(side.clsact()))?;
                return Ok(Classifier::Clsact(Filter { link: Some(link), interface: interface.into(), side }));
            }
            Err(e) => refused = Some(e),
        }
    }
    Err(match refused {
        Some(source) => failed(side.clsact())(source),
        None => LoadError::Interface { interface: interface.into(), text: "no priority for a filter".into() },
    })
}

/// Removes the filters that a killed agent left, at both hooks, whichever this run will use. A tcx link never stays.
pub fn remove_leftovers(interface: &str) {
    if has_tcx() {
        return;
    }
    for side in [Side::Ingress, Side::Egress] {
        match tc::qdisc_detach_program(interface, side.hook(), side.program()) {
            Ok(()) => tracing::info!("removed the {} filter that an earlier run left on {interface}", side.clsact()),
            Err(e) => tracing::debug!("no {} leftover on {interface}: {e}", side.clsact()),
        }
    }
}
