//! Tracepoint reports with names in place of numbers.

use super::btf::{Btf, reset_reason_name};
use crate::history::KernelFact;
use crate::pipeline::FactAbout;
use monitor_common::event::{KernelEvent, source};
use monitor_common::flow::FlowKey;
use std::collections::HashMap;

/// The kernel's reset reasons by number; they are renumbered from version to version.
pub struct Names {
    reset: Option<HashMap<u32, String>>,
}

/// Reason of a kernel that gives none.
pub const NO_REASON: &str = "none";

impl Names {
    pub fn of(btf: Option<&Btf>) -> Names {
        Names { reset: btf.filter(|b| b.has_reset_reason()).and_then(|b| b.enumerators("sk_rst_reason")) }
    }

    pub fn has_reset_reasons(&self) -> bool {
        self.reset.is_some()
    }

    fn reset(&self, number: u32) -> String {
        match self.reset.as_ref().map(|names| names.get(&number)) {
            Some(Some(name)) => reset_reason_name(name).to_string(),
            Some(None) => format!("reason {number}"),
            None => NO_REASON.to_string(),
        }
    }

    /// The report as diagnosis reads it.
    pub fn fact(&self, e: &KernelEvent) -> FactAbout {
        let (key, local) = FlowKey::canonical(e.local, e.local_port, e.remote, e.remote_port);
        let (source, reason) = match e.source {
            source::SEND_RESET => ("tcp_send_reset", self.reset(e.reason)),
            source::RECEIVE_RESET => ("tcp_receive_reset", NO_REASON.to_string()),
            _ => ("inet_sk_error_report", std::io::Error::from_raw_os_error(e.reason as i32).to_string()),
        };
        // A reply runs in whatever process the packet interrupted; only an active reset is the process' own.
        let own = e.source == source::SEND_RESET && e.has_trigger == 0 && e.tgid != 0;
        FactAbout {
            key,
            fact: KernelFact {
                source,
                reason,
                local,
                has_trigger: e.has_trigger != 0,
                state: e.state,
                netns: e.netns,
                pid: own.then_some(e.tgid),
                command: own.then(|| text(&e.comm)),
                time_ns: e.time_ns,
            },
        }
    }
}

fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}
