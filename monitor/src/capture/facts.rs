//! Tracepoint reports with names in place of numbers.

use super::btf::{Btf, drop_reason_name, reset_reason_name};
use super::cgroup::Cgroups;
use crate::history::{Dropped, KernelFact};
use crate::pipeline::FactAbout;
use monitor_common::drops::{Drops, REASONS};
use monitor_common::event::{KernelEvent, source};
use monitor_common::flow::{Direction, FlowKey};
use std::collections::HashMap;

/// The kernel's reasons by number; they are renumbered from version to version.
pub struct Names {
    reset: Option<HashMap<u32, String>>,
    drop: Option<HashMap<u32, String>>,
}

/// Reason of a kernel that gives none.
pub const NO_REASON: &str = "none";

/// Reasons for dropping a segment that bear on a verdict (DIAGNOSIS 1.2). Two of its table support nothing and come with
/// every loss, so they stay out: `TCP_OLD_DATA` and `TCP_OFOMERGE`.
const DROPS: [&str; 27] = [
    "TCP_OLD_SEQUENCE",
    "TCP_INVALID_SEQUENCE",
    "TCP_INVALID_END_SEQUENCE",
    "TCP_OVERWINDOW",
    "TCP_ZEROWINDOW",
    "TCP_ACK_UNSENT_DATA",
    "TCP_TOO_OLD_ACK",
    "TCP_RFC7323_PAWS",
    "TCP_RFC7323_PAWS_ACK",
    "TCP_RFC7323_TSECR",
    "TCP_RFC7323_TW_PAWS",
    "TCP_RESET",
    "TCP_INVALID_SYN",
    "TCP_FLAGS",
    "NO_SOCKET",
    "TCP_LISTEN_OVERFLOW",
    "TCP_CSUM",
    "NETFILTER_DROP",
    "XDP",
    "IP_RPFILTER",
    "XFRM_POLICY",
    "SOCKET_FILTER",
    "SOCKET_BACKLOG",
    "SOCKET_RCVBUFF",
    "PROTO_MEM",
    "TCP_OFO_QUEUE_PRUNE",
    "TCP_OFO_DROP",
];
/// Families of such reasons: authentication failures.
const DROP_FAMILIES: [&str; 2] = ["TCP_MD5", "TCP_AO"];

impl Names {
    pub fn of(btf: Option<&Btf>) -> Names {
        Names {
            reset: btf.filter(|b| b.has_reset_reason()).and_then(|b| b.enumerators("sk_rst_reason")),
            drop: btf.filter(|b| b.has_drop_reason()).and_then(|b| b.enumerators("skb_drop_reason")),
        }
    }

    pub fn has_reset_reasons(&self) -> bool {
        self.reset.is_some()
    }

    pub fn has_drop_reasons(&self) -> bool {
        self.drop.is_some()
    }

    /// Numbers of the reasons in [`DROPS`], as far as this kernel has them.
    pub fn wanted_drops(&self) -> impl Iterator<Item = u32> {
        let wanted = |name: &str| DROPS.contains(&name) || DROP_FAMILIES.iter().any(|f| name.starts_with(f));
        self.drop
            .iter()
            .flatten()
            .filter(move |(number, name)| (**number as usize) < REASONS && wanted(drop_reason_name(name)))
            .map(|(number, _)| *number)
    }

    fn reset(&self, number: u32) -> String {
        match self.reset.as_ref().map(|names| names.get(&number)) {
            Some(Some(name)) => reset_reason_name(name).to_string(),
            Some(None) => format!("reason {number}"),
            None => NO_REASON.to_string(),
        }
    }

    /// The report as diagnosis reads it; none when it is about no connection. `cgroups` tells whose it is.
    pub fn fact(&self, e: &KernelEvent, cgroups: Option<&mut Cgroups>) -> Option<FactAbout> {
        // A socket that was disconnected has neither address nor port any more (DIAGNOSIS 3.2, trap h).
        if e.local_port == 0 || e.remote_port == 0 {
            return None;
        }
        let (key, local) = FlowKey::canonical(e.local, e.local_port, e.remote, e.remote_port);
        let (source, reason) = match e.source {
            source::SEND_RESET => ("tcp_send_reset", self.reset(e.reason)),
            source::RECEIVE_RESET => ("tcp_receive_reset", NO_REASON.to_string()),
            source::ERROR_REPORT => ("inet_sk_error_report", errno_name(e.reason)),
            _ => return None,
        };
        // A reply, or what a timer does, runs in whatever process it interrupted.
        let own = e.source == source::SEND_RESET && e.has_trigger == 0 && e.in_process != 0 && e.tgid != 0;
        let cgroup = cgroups.and_then(|c| c.find(e.cgroup));
        let (cgroup, container, unit) = cgroup.map_or((None, None, None), |c| (Some(c.path), c.container, c.unit));
        let fact = KernelFact {
            source,
            reason,
            local,
            has_trigger: e.has_trigger != 0,
            state: e.state,
            netns: e.netns,
            pid: own.then_some(e.tgid),
            command: own.then(|| text(&e.comm)),
            cgroup,
            container,
            unit,
            cookie: (e.cookie != 0).then_some(e.cookie),
            dropped: None,
            time_ns: e.time_ns,
        };
        Some(FactAbout { key, fact })
    }

    /// What was dropped of a connection, one fact for each reason and speaker, the first dropped first.
    pub fn drops(&self, d: &Drops, netns: u32) -> Vec<KernelFact> {
        let name = |number: u16| match self.drop.as_ref().and_then(|names| names.get(&u32::from(number))) {
            Some(name) => drop_reason_name(name).to_string(),
            None => format!("reason {number}"),
        };
        let mut out: Vec<KernelFact> = d
            .taken()
            .map(|p| {
                let speaker = Direction::from_index(p.speaker);
                let leaving = p.leaving != 0;
                let dropped =
                    Dropped { speaker, count: p.count, first_ns: p.first_ns, seq: p.seq, flags: p.flags, leaving };
                KernelFact {
                    source: "kfree_skb",
                    reason: name(p.reason),
                    local: if leaving { speaker } else { speaker.other() },
                    has_trigger: false,
                    state: 0,
                    netns,
                    pid: None,
                    command: None,
                    cgroup: None,
                    container: None,
                    unit: None,
                    cookie: None,
                    dropped: Some(dropped),
                    time_ns: p.last_ns,
                }
            })
            .collect();
        out.sort_by_key(|f| f.dropped.map(|d| d.first_ns));
        out
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
    use monitor_common::SeqNum;
    use monitor_common::drops::Segment;
    use monitor_common::evidence::Evidence;
    use monitor_common::flow::v4;
    use monitor_common::recorder::Recorder;
    use monitor_common::tracker::state::{Connection, Core};

    fn event(source: u8) -> KernelEvent {
        let (local, remote) = (v4(0x0a00_0001), v4(0x0a00_0002));
        KernelEvent { source, local, local_port: 40_000, remote, remote_port: 80, ..KernelEvent::default() }
    }

    fn fact(event: &KernelEvent) -> Option<FactAbout> {
        Names::of(None).fact(event, None)
    }

    fn error_report(errno: u32) -> FactAbout {
        fact(&KernelEvent { reason: errno, ..event(source::ERROR_REPORT) }).expect("a whole tuple")
    }

    #[test]
    fn an_error_report_is_found_under_the_name_of_its_errno() {
        let about = error_report(110);
        let core = Core { key: about.key, ..Core::default() };
        let connection = Connection { core, ..Connection::default() };
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

    #[test]
    fn a_disconnected_sockets_report_is_about_no_connection() {
        assert!(fact(&KernelEvent { remote_port: 0, ..event(source::ERROR_REPORT) }).is_none());
        assert!(fact(&KernelEvent { local_port: 0, ..event(source::ERROR_REPORT) }).is_none());
    }

    #[test]
    fn only_who_held_the_socket_is_named() {
        let named = |has_trigger, in_process, source| {
            let e = KernelEvent {
                has_trigger,
                in_process,
                tgid: 7,
                comm: *b"app\0\0\0\0\0\0\0\0\0\0\0\0\0",
                ..event(source)
            };
            let fact = fact(&e).expect("a whole tuple").fact;
            assert_eq!(fact.pid.is_some(), fact.command.is_some());
            fact.command
        };
        assert_eq!(named(0, 1, source::SEND_RESET).as_deref(), Some("app"));
        // A keepalive timer, a reply, and what is said of an error run in anybody's context.
        assert_eq!(named(0, 0, source::SEND_RESET), None);
        assert_eq!(named(1, 0, source::SEND_RESET), None);
        assert_eq!(named(1, 1, source::SEND_RESET), None);
        assert_eq!(named(0, 1, source::ERROR_REPORT), None);
    }

    fn with_drops() -> Names {
        let names = [(16, "SKB_DROP_REASON_TCP_INVALID_SEQUENCE"), (8, "SKB_DROP_REASON_NETFILTER_DROP")];
        let others =
            [(3, "SKB_DROP_REASON_NO_SOCKET"), (9, "SKB_DROP_REASON_OTHERHOST"), (70, "SKB_DROP_REASON_TCP_AOFAILURE")];
        let all = names.into_iter().chain(others).chain([(0xffff_0000, "SKB_DROP_REASON_SUBSYS_MASK")]);
        Names { reset: None, drop: Some(all.map(|(n, name)| (n, name.to_string())).collect()) }
    }

    #[test]
    fn reasons_are_asked_for_by_name() {
        let mut wanted: Vec<_> = with_drops().wanted_drops().collect();
        wanted.sort_unstable();
        assert_eq!(wanted, [3, 8, 16, 70]);
        assert_eq!(Names::of(None).wanted_drops().count(), 0);
    }

    #[test]
    fn drops_become_facts_about_who_was_not_heard() {
        let mut d = Drops::default();
        let segment = |reason, leaving, seq| Segment { reason, speaker: 1, flags: 0x18, leaving, seq: SeqNum(seq) };
        d.enter(&segment(16, 0, 100), 10);
        d.enter(&segment(8, 1, 150), 20);
        d.enter(&segment(16, 0, 200), 30);
        let facts = with_drops().drops(&d, 4_026_531_840);
        let reasons: Vec<_> = facts.iter().map(|f| (f.source, f.reason.as_str())).collect();
        assert_eq!(reasons, [("kfree_skb", "TCP_INVALID_SEQUENCE"), ("kfree_skb", "NETFILTER_DROP")]);
        let first = facts[0].dropped.expect("a drop");
        assert_eq!((first.count, first.first_ns, facts[0].time_ns, first.seq), (2, 10, 30, SeqNum(200)));
        assert_eq!((first.speaker, facts[0].local), (Direction::Reverse, Direction::Forward));
        // What the host was about to send is its own end's.
        assert_eq!((facts[1].local, facts[1].netns), (Direction::Reverse, 4_026_531_840));
    }

    #[test]
    fn the_running_kernel_has_most_of_the_reasons() {
        let Ok(btf) = Btf::of_kernel() else {
            println!("skipped: this kernel has no BTF");
            return;
        };
        let names = Names::of(Some(&btf));
        if names.has_drop_reasons() {
            // 5.17, the first with reasons, has three of them.
            assert!(names.wanted_drops().count() >= 3);
        }
    }
}
