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
            _ => ("inet_sk_error_report", errno_name(e.reason)),
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

/// Symbolic name of an error number, as diagnosis compares it. These are what a TCP socket can report: the kernel's own
/// time-outs and resets, and what ICMP messages become (`icmp_err_convert` in net/ipv4/icmp.c, `tab_unreach` in
/// net/ipv6/icmp.c).
fn errno_name(number: u32) -> String {
    const NAMES: [(i32, &str); 26] = [
        (libc::ETIMEDOUT, "ETIMEDOUT"),
        (libc::ECONNRESET, "ECONNRESET"),
        (libc::EPIPE, "EPIPE"),
        (libc::ECONNREFUSED, "ECONNREFUSED"),
        (libc::ECONNABORTED, "ECONNABORTED"),
        (libc::EHOSTUNREACH, "EHOSTUNREACH"),
        (libc::EHOSTDOWN, "EHOSTDOWN"),
        (libc::ENETUNREACH, "ENETUNREACH"),
        (libc::ENETDOWN, "ENETDOWN"),
        (libc::ENONET, "ENONET"),
        (libc::ENOPROTOOPT, "ENOPROTOOPT"),
        (libc::EOPNOTSUPP, "EOPNOTSUPP"),
        (libc::EPROTO, "EPROTO"),
        (libc::EMSGSIZE, "EMSGSIZE"),
        (libc::EACCES, "EACCES"),
        (libc::EPERM, "EPERM"),
        (libc::EADDRNOTAVAIL, "EADDRNOTAVAIL"),
        (libc::ENODEV, "ENODEV"),
        (libc::ENOBUFS, "ENOBUFS"),
        (libc::ENOMEM, "ENOMEM"),
        (libc::EINVAL, "EINVAL"),
        (libc::EAGAIN, "EAGAIN"),
        (libc::EINTR, "EINTR"),
        (libc::ENOTCONN, "ENOTCONN"),
        (libc::ESTALE, "ESTALE"),
        (libc::EBADMSG, "EBADMSG"),
    ];
    match NAMES.iter().find(|(n, _)| i64::from(*n) == i64::from(number)) {
        Some((_, name)) => (*name).to_string(),
        None => format!("errno {number}"),
    }
}

fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::view::View;
    use crate::history::{End, History};
    use monitor_common::evidence::{Evidence, Recorder};
    use monitor_common::flow::v4;
    use monitor_common::tracker::state::Connection;

    fn error_report(errno: u32) -> FactAbout {
        let (local, remote) = (v4(0x0a00_0001), v4(0x0a00_0002));
        let event = KernelEvent {
            source: source::ERROR_REPORT,
            reason: errno,
            local,
            local_port: 40_000,
            remote,
            remote_port: 80,
            ..KernelEvent::default()
        };
        Names::of(None).fact(&event)
    }

    #[test]
    fn an_error_report_is_found_under_the_name_of_its_errno() {
        let about = error_report(110);
        let connection = Connection { key: about.key, ..Connection::default() };
        let mut history = History::from_parts(&connection, &Evidence::default(), &Recorder::default());
        history.end = End::Silent;
        history.kernel.push(about.fact);
        assert!(View::new(&history).socket_error("ETIMEDOUT").is_some(), "{:?}", history.kernel);
        assert!(View::new(&history).socket_error("EHOSTUNREACH").is_none());
    }

    #[test]
    fn an_errno_without_a_name_keeps_its_number() {
        assert_eq!(error_report(104).fact.reason, "ECONNRESET");
        assert_eq!(error_report(9999).fact.reason, "errno 9999");
    }
}
