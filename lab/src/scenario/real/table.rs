//! What is right to say about these connections, and where.
//!
//! From packets alone nobody can tell why an application aborted, so there the answers of
//! [`ABORTED`] are equally right; where the host's own kernel names its reason there is one answer.

use super::pair::Produced;
use super::{endings, handshake, mptcp, orphans, reject, silence, translation};
use crate::LabError;
use crate::scenario::check::{Answer, View};
use crate::scenario::views::Variation;
use crate::scenario::{Check, Happened, Kind, Scenario, Stage, at, cause};
use crate::topology::Topology;

/// Closed with data unread, or aborted: the same packets (causes 25 and 26).
const ABORTED: [&str; 2] = ["abortive_close", "close_with_unread_data"];

fn play(
    stage: &mut Stage,
    produce: fn(&Topology) -> Result<Produced, LabError>,
    told: &str,
) -> Result<Happened, LabError> {
    let produced = produce(stage.net.routed()?)?;
    let flow = produced.flow;
    stage.keep(produced.kept);
    Ok(Happened { client: flow.client, server: flow.server, told: told.to_owned() })
}

/// How somebody may see less than everything.
const POORER: [Variation; 6] = [
    Variation::From(20),
    Variation::From(50),
    Variation::OnlyClient,
    Variation::OnlyServer,
    Variation::Thinned { percent: 10, seed: 1 },
    Variation::Thinned { percent: 10, seed: 2 },
];

/// The checks, and that whoever sees only a part never takes it for lost agreement.
fn poorer(mut checks: Vec<Check>) -> Vec<Check> {
    for view in [View::Client, View::Server] {
        checks.extend(POORER.map(|variation| at(view).varied(variation).in_step()));
    }
    checks
}

/// A reset, or a silent end, of a connection in which nothing was out of step.
fn benign(view: View) -> Check {
    at(view).sound().alone()
}

/// From packets alone: aborted by this end's application, for a reason that packets do not show.
fn aborted(view: View, by: &'static [&'static str]) -> Check {
    let mut check = benign(view);
    for name in ABORTED {
        check = check.accept(cause(name).culprits(by).mechanisms(&["active_abort"]));
    }
    check
}

/// Aborted by `host`, whose agent has the kernel's reason; others have the packets.
fn aborted_at(host: View, by: &'static [&'static str], answer: Answer, reason: &'static str) -> Vec<Check> {
    let other = if host == View::Client { View::Server } else { View::Client };
    let answer = answer.culprits(by).mechanisms(&["active_abort"]);
    vec![
        benign(host).live().accept(answer).kernel(reason),
        aborted(host, by).capture(),
        aborted(other, by),
        aborted(View::Router, by),
    ]
}

const NOBODY: &[&str] = &["none"];
const CLIENT: &[&str] = &["client"];
const SERVER: &[&str] = &["server"];
const MIDDLEBOX: &[&str] = &["middlebox"];
const REPLY: &[&str] = &["reply_to_ack"];
/// The reset is a late packet's answer, after an end had given up in silence.
const LATE: &[&str] = &["timeout_no_rst", "reply_to_ack"];

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        id: "S01",
        title: "nobody listens on the port",
        topology: Kind::Routed,
        run: |stage| play(stage, handshake::port_closed, "ECONNREFUSED; the server's kernel sent one RST"),
        checks: || {
            let closed = || cause("port_closed").culprits(NOBODY).mechanisms(&["reply_to_noack"]);
            poorer(vec![
                benign(View::Client).accept(closed()),
                benign(View::Router).accept(closed()),
                benign(View::Server).accept(closed()).kernel("NO_SOCKET"),
            ])
        },
    },
    Scenario {
        id: "S02",
        title: "the server closes with 1000 bytes unread",
        topology: Kind::Routed,
        run: |stage| play(stage, endings::unread_data, "the client got ECONNRESET; TCPAbortOnClose 1 at the server"),
        checks: || poorer(aborted_at(View::Server, SERVER, cause("close_with_unread_data"), "TCP_ABORT_ON_CLOSE")),
    },
    Scenario {
        id: "S03",
        title: "the client has its response and closes with SO_LINGER 0",
        topology: Kind::Routed,
        run: |stage| play(stage, endings::linger_after_response, "the server got ECONNRESET after a whole exchange"),
        checks: || poorer(aborted_at(View::Client, CLIENT, cause("abortive_close"), "TCP_STATE")),
    },
    Scenario {
        id: "S04",
        title: "the client closes with SO_LINGER 0 while its data waits behind a closed window",
        topology: Kind::Routed,
        run: |stage| {
            play(stage, endings::linger_behind_closed_window, "the server got ECONNRESET before the end of the data")
        },
        checks: || {
            // The server has sent no data that could lie unread.
            let answer = || cause("abortive_close").culprits(CLIENT).mechanisms(&["active_abort"]);
            poorer(vec![
                benign(View::Client).accept(answer()).kernel("TCP_STATE").shows(&["zero_window"]),
                benign(View::Server).accept(answer()).shows(&["zero_window"]),
                benign(View::Router).accept(answer()),
            ])
        },
    },
    Scenario {
        id: "S05",
        title: "the server closes, and 0.2 s later the client sends",
        topology: Kind::Routed,
        run: |stage| play(stage, endings::data_after_close, "the client got EPIPE; the server's kernel sent one RST"),
        checks: || {
            let answer = || cause("data_after_close").culprits(NOBODY).mechanisms(REPLY);
            poorer(vec![
                benign(View::Client).accept(answer()),
                benign(View::Router).accept(answer()),
                benign(View::Server).accept(answer()).kernel("TCP_TIMEWAIT_SOCKET"),
            ])
        },
    },
    Scenario {
        id: "S06",
        title: "the server closes with its FIN queued behind a closed window, and the client sends",
        topology: Kind::Routed,
        run: |stage| {
            play(stage, endings::data_after_close_unsent, "the client got ECONNRESET; TCPAbortOnData 1 at the server")
        },
        checks: || {
            let known = || cause("data_after_close").culprits(NOBODY).mechanisms(REPLY);
            // No FIN can be seen.
            let unknown = || cause("peer_lost_state").culprits(SERVER).mechanisms(REPLY);
            poorer(vec![
                benign(View::Server).live().accept(known()).kernel("TCP_ABORT_ON_DATA").shows(&["zero_window"]),
                benign(View::Server).capture().accept(known()).accept(unknown()).shows(&["zero_window"]),
                benign(View::Client).accept(known()).accept(unknown()).shows(&["zero_window"]),
            ])
        },
    },
    Scenario {
        id: "S07",
        title: "the server forgets the connection, and nobody listens any more",
        topology: Kind::Routed,
        run: |stage| play(stage, endings::vanished, "the client got ECONNRESET for its next request"),
        checks: || poorer(lost("NO_SOCKET")),
    },
    Scenario {
        id: "S08",
        title: "the server forgets the connection, and listens again",
        topology: Kind::Routed,
        run: |stage| play(stage, endings::vanished_with_listener, "the client got ECONNRESET for its next request"),
        checks: || poorer(lost("TCP_FLAGS")),
    },
    Scenario {
        id: "S09",
        title: "an administrator destroys the server's socket",
        topology: Kind::Routed,
        run: |stage| play(stage, endings::destroyed, "ss --kill: the client got ECONNRESET, the server ECONNABORTED"),
        checks: || poorer(aborted_at(View::Server, SERVER, cause("abortive_close").variants(&["admin"]), "TCP_STATE")),
    },
    Scenario {
        id: "S10",
        title: "the server sends FIN and closes with TCP_LINGER2 -1",
        topology: Kind::Routed,
        run: |stage| play(stage, endings::linger2, "the client got EPIPE; TCPAbortOnLinger 1 at the server"),
        checks: || poorer(aborted_at(View::Server, SERVER, cause("abortive_close"), "TCP_ABORT_ON_LINGER")),
    },
    Scenario {
        id: "S11",
        title: "the listener closes before the connection is accepted",
        topology: Kind::Routed,
        run: |stage| play(stage, endings::listener_closed, "the client got ECONNRESET"),
        checks: || {
            poorer(aborted_at(View::Server, SERVER, cause("abortive_close").variants(&["listener"]), "TCP_STATE"))
        },
    },
    Scenario {
        id: "S12",
        title: "the accept queue overflows with tcp_abort_on_overflow",
        topology: Kind::Routed,
        run: |stage| {
            play(stage, handshake::accept_queue_reset, "three of seven clients got ECONNRESET; ListenOverflows 3")
        },
        checks: || {
            let answer = || cause("accept_queue_overflow").culprits(SERVER).mechanisms(REPLY);
            poorer(vec![
                benign(View::Client).accept(answer()),
                benign(View::Server).accept(answer()).kernel("INVALID_SYN"),
            ])
        },
    },
    Scenario {
        id: "S13",
        title: "the accept queue overflows with the default setting: silence",
        topology: Kind::Routed,
        run: |stage| {
            play(stage, handshake::accept_queue_silence, "three of seven clients got ETIMEDOUT; the server sent no RST")
        },
        checks: || {
            let answer = || cause("accept_queue_overflow").culprits(SERVER).mechanisms(LATE);
            // The server never knew a connection: its agent would report it minutes later, when it
            // forgets it, unless another SYN-ACK of its kernel meets a client that has given up.
            poorer(vec![
                benign(View::Client).kinds(SILENT_TOO).accept(answer()).shows(&["rto_backoff"]),
                benign(View::Server).capture().kinds(SILENT_TOO).accept(answer()).shows(&["rto_backoff"]),
            ])
        },
    },
    Scenario {
        id: "S14",
        title: "keepalive without an answer: 1 s, two probes",
        topology: Kind::Routed,
        run: |stage| play(stage, silence::keepalive, "the client got ETIMEDOUT after two probes and sent one RST"),
        checks: || {
            let answer = || cause("keepalive_timeout").culprits(&["network_or_peer"]).mechanisms(&["active_abort"]);
            let probes = &["keepalive_probe", "keepalive_probe_unanswered"];
            poorer(vec![
                benign(View::Client).accept(answer()).kernel("TCP_KEEPALIVE_TIMEOUT").shows(probes),
                benign(View::Router).accept(answer()).shows(probes),
                at(View::Server).nothing(),
            ])
        },
    },
    Scenario {
        id: "S15",
        title: "retransmissions without an answer (tcp_retries2 3, not 15, for time); later the server sends",
        topology: Kind::Routed,
        run: |stage| play(stage, silence::retransmissions_exhausted, "the client got ETIMEDOUT and sent no RST before"),
        checks: || poorer(blackhole()),
    },
    Scenario {
        id: "S16",
        title: "the same with TCP_USER_TIMEOUT 1.5 s",
        topology: Kind::Routed,
        run: |stage| play(stage, silence::user_timeout, "the client got ETIMEDOUT and sent no RST before"),
        checks: || poorer(blackhole()),
    },
    Scenario {
        id: "S17",
        title: "TCP_USER_TIMEOUT (3.5 s) while the server does not read; then it does",
        topology: Kind::Routed,
        run: |stage| play(stage, silence::zero_window, "the client got ETIMEDOUT; the server ECONNRESET when it read"),
        checks: || {
            let answer = || cause("zero_window_timeout").culprits(SERVER).mechanisms(LATE);
            poorer(vec![
                benign(View::Client)
                    .kinds(SILENT_TOO)
                    .accept(answer())
                    .shows(&["zero_window_stall"])
                    .shows_not(&["ack_pingpong"]),
                benign(View::Server).accept(answer()).shows(&["zero_window_stall"]),
            ])
        },
    },
    Scenario {
        id: "S18",
        title: "the router refuses a payload with a reset",
        topology: Kind::Routed,
        run: |stage| play(stage, reject::payload, "the client got ECONNRESET; the server's connection is still up"),
        checks: || {
            poorer(vec![
                benign(View::Router).accept(refused_by_router()).shows(&["no_ingress_twin"]),
                // Not to be told apart on a path this short.
                benign(View::Client)
                    .accept(cause("policy_reset").culprits(MIDDLEBOX))
                    .accept(forgotten(SERVER))
                    .considers("policy_reset")
                    .shows(&["ttl_delta"]),
                at(View::Server).nothing(),
            ])
        },
    },
    Scenario {
        id: "S19",
        title: "the router refuses a SYN with a reset",
        topology: Kind::Routed,
        run: |stage| play(stage, reject::syn, "ECONNREFUSED; the server sent nothing"),
        checks: || {
            poorer(vec![
                benign(View::Router).accept(refused_by_router()),
                benign(View::Client)
                    .accept(cause("port_closed"))
                    .accept(cause("policy_reset").culprits(MIDDLEBOX))
                    .considers("policy_reset"),
                at(View::Server).nothing(),
            ])
        },
    },
    Scenario {
        id: "S19T",
        title: "the same, when other connections have shown how far away the server is",
        topology: Kind::Routed,
        run: |stage| play(stage, reject::syn_of_known_server, "ECONNREFUSED; the server sent no RST"),
        checks: || {
            poorer(vec![
                benign(View::Router).accept(refused_by_router()),
                benign(View::Client).accept(cause("policy_reset").culprits(MIDDLEBOX)),
                at(View::Server).nothing(),
            ])
        },
    },
    Scenario {
        id: "S20",
        title: "the server's own firewall refuses a SYN with a reset",
        topology: Kind::Routed,
        run: |stage| play(stage, reject::own_firewall, "ECONNREFUSED; the rule counted one packet"),
        checks: || {
            let answer = cause("policy_reset")
                .variants(&["local"])
                .culprits(&["local_host_policy"])
                .mechanisms(&["netfilter_reject"]);
            poorer(vec![
                benign(View::Server).live().accept(answer).kernel("NETFILTER_DROP"),
                // Exactly what a closed port looks like.
                benign(View::Server).capture().accept(cause("port_closed")).accept(cause("policy_reset")),
                benign(View::Client)
                    .accept(cause("port_closed"))
                    .accept(cause("policy_reset"))
                    .considers("policy_reset"),
            ])
        },
    },
    Scenario {
        id: "S21",
        title: "a SYN-ACK comes again after the client has withdrawn",
        topology: Kind::Routed,
        run: |stage| play(stage, handshake::late_syn_ack, "the client's kernel answered the second SYN-ACK with RST"),
        checks: || {
            let answer = || cause("handshake_abandoned").culprits(&["none", "client"]).mechanisms(REPLY);
            poorer(vec![
                benign(View::Client).accept(answer()).kernel("NO_SOCKET"),
                benign(View::Server).accept(answer()),
                benign(View::Router).accept(answer()),
            ])
        },
    },
    Scenario {
        id: "S22",
        title: "a health check: SYN, SYN-ACK, RST",
        topology: Kind::Routed,
        run: |stage| play(stage, handshake::health_check, "three segments: SYN, SYN-ACK, RST-ACK"),
        checks: || {
            let answer = || {
                cause("handshake_abandoned")
                    .variants(&["health_check"])
                    .culprits(&["none", "client"])
                    .mechanisms(&["active_abort"])
            };
            poorer(vec![
                benign(View::Client).accept(answer()).kernel("TCP_STATE"),
                benign(View::Server).accept(answer()),
                benign(View::Router).accept(answer()),
            ])
        },
    },
    Scenario {
        id: "S23",
        title: "the server's process is killed with data unread",
        topology: Kind::Routed,
        run: |stage| {
            play(stage, endings::killed, "SIGKILL; the client got ECONNRESET; TCPAbortOnClose 1 at the server")
        },
        checks: || poorer(aborted_at(View::Server, SERVER, cause("close_with_unread_data"), "TCP_ABORT_ON_CLOSE")),
    },
    Scenario {
        id: "S24",
        title: "the server has answered and closed; the client closes without reading",
        topology: Kind::Routed,
        run: |stage| play(stage, endings::closed_without_reading, "TCPAbortOnClose 1 at the client"),
        checks: || {
            let answer = || cause("post_close_cleanup").culprits(NOBODY).mechanisms(&["active_abort"]);
            poorer(vec![
                benign(View::Client).accept(answer()).kernel("TCP_ABORT_ON_CLOSE"),
                benign(View::Server).accept(answer()),
                benign(View::Router).accept(answer()),
            ])
        },
    },
    Scenario {
        id: "S25",
        title: "both ends have closed, data waits behind a closed window, the server disconnects",
        topology: Kind::Routed,
        run: |stage| {
            play(stage, endings::disconnected_in_last_ack, "the client got ECONNRESET before the end of the data")
        },
        checks: || {
            let answer = || cause("abortive_close").culprits(SERVER).mechanisms(&["active_abort"]);
            poorer(vec![
                benign(View::Server).accept(answer()).kernel("TCP_DISCONNECT_WITH_DATA"),
                benign(View::Client).accept(answer()),
            ])
        },
    },
    Scenario {
        id: "S26",
        title: "a stateful firewall forgets the connection after 50 s of silence and refuses what comes then",
        topology: Kind::Routed,
        run: |stage| {
            play(
                stage,
                translation::idle_timeout,
                "53 s of silence; ECONNRESET, sent one hop away; the server is still up",
            )
        },
        checks: || {
            let answer = || cause("middlebox_idle_timeout").culprits(MIDDLEBOX);
            poorer(vec![
                benign(View::Router).accept(answer()).shows(&["idle_gap"]),
                benign(View::Client)
                    .accept(answer())
                    .accept(forgotten(SERVER))
                    .considers("middlebox_idle_timeout")
                    .shows(&["idle_gap"]),
                at(View::Server).nothing(),
            ])
        },
    },
    Scenario {
        id: "S27",
        title: "a masquerading router forgets and chooses another port, as the server sees it",
        topology: Kind::Routed,
        run: |stage| {
            play(
                stage,
                translation::rebind,
                "the client got ECONNRESET; the server saw another port with the old numbers",
            )
        },
        checks: || {
            let answer = || cause("nat_state_fault").variants(&["rebind"]).culprits(MIDDLEBOX).mechanisms(REPLY);
            poorer(vec![
                benign(View::Server).accept(answer()).kernel("TCP_FLAGS"),
                benign(View::RouterToServer).accept(answer()),
            ])
        },
    },
    Scenario {
        id: "S27C",
        title: "the same as the client sees it",
        topology: Kind::Routed,
        run: |stage| play(stage, translation::rebind_unseen, "the client got ECONNRESET; the server saw another port"),
        // From here it is a server that does not know the connection, which is even true.
        checks: || poorer(vec![benign(View::Client).accept(forgotten(SERVER)).accept(cause("nat_state_fault"))]),
    },
    Scenario {
        id: "S28",
        title: "translation is removed, and the server's FIN reaches the client untranslated",
        topology: Kind::Routed,
        run: |stage| play(stage, translation::bypass, "the FIN came from the inner address; the server got ECONNRESET"),
        checks: || {
            let answer = || cause("nat_state_fault").variants(&["bypass"]).culprits(MIDDLEBOX).mechanisms(REPLY);
            poorer(vec![
                benign(View::Client).accept(answer()).kernel("NO_SOCKET"),
                benign(View::RouterToClient).accept(answer()),
                // The server's host sees one and the same connection all the time.
                benign(View::Server).accept(answer()).accept(forgotten(CLIENT)).accept(cause("post_close_cleanup")),
            ])
        },
    },
    Scenario {
        id: "S58",
        title: "a second MPTCP subflow is refused with MP_TCPRST",
        topology: Kind::Routed,
        run: |stage| play(stage, mptcp::subflow_refused, "MPJoinRejected 1; the first subflow carried on"),
        checks: || {
            let answer = || cause("mptcp_subflow_reset").culprits(SERVER);
            poorer(vec![
                benign(View::Server).accept(answer()).kernel("MPTCP_RST_EPROHIBIT"),
                benign(View::Client).accept(answer()),
            ])
        },
    },
    Scenario {
        id: "S58E",
        title: "MPTCP options are stripped from an established subflow, and the server resets it",
        topology: Kind::Routed,
        run: |stage| play(stage, mptcp::subflow_stripped, "MPRstTx 1; the data arrived over the first subflow"),
        checks: || {
            // The kernel's reason is MPTCP_RST_EMIDDLEBOX, RFC 8684 3.6: a mapping is missing. That
            // is not a rewritten payload.
            let by = &["server", "middlebox"];
            let answer = || cause("mptcp_subflow_reset").culprits(by).mechanisms(&["active_abort"]);
            poorer(vec![
                benign(View::Server).live().accept(answer()).least(80, 80),
                benign(View::Server).capture().accept(answer()),
                benign(View::Client).accept(answer()),
            ])
        },
    },
];

/// Scenarios that change the whole kernel, not only a namespace.
pub const OF_A_WHOLE_KERNEL: &[Scenario] = &[Scenario {
    id: "S59",
    title: "the server's kernel has no room for another orphaned connection",
    topology: Kind::Routed,
    run: |stage| play(stage, orphans::exhausted, "TCPAbortOnMemory 1 at the server"),
    checks: || {
        let answer = cause("resource_abort").culprits(SERVER).mechanisms(&["active_abort"]);
        poorer(vec![
            benign(View::Server).live().accept(answer).kernel("TCP_ABORT_ON_MEMORY"),
            aborted(View::Server, SERVER).accept(answer).capture(),
            aborted(View::Client, SERVER).accept(answer),
        ])
    },
}];

/// A reset, or a silent end that is told before it.
const SILENT_TOO: &[&str] = &["reset", "degraded"];

/// This end does not know the connection any more.
fn forgotten(by: &'static [&'static str]) -> Answer {
    cause("peer_lost_state").culprits(by).mechanisms(REPLY)
}

/// To the ends it is a device between them; to an agent on it, whose kernel tells of the drop, its own host.
fn refused_by_router() -> Answer {
    cause("policy_reset").culprits(&["middlebox", "local_host_policy"]).mechanisms(&["netfilter_reject"])
}

fn lost(reason: &'static str) -> Vec<Check> {
    vec![
        benign(View::Client).accept(forgotten(SERVER)),
        benign(View::Router).accept(forgotten(SERVER)),
        benign(View::Server).accept(forgotten(SERVER)).kernel(reason),
    ]
}

/// The client's retransmissions go unanswered; the server sends when the client has given up.
fn blackhole() -> Vec<Check> {
    let answer = || cause("path_blackhole").culprits(&["network"]).mechanisms(LATE);
    vec![
        // ETIMEDOUT is what the client's kernel says.
        benign(View::Client).live().kinds(SILENT_TOO).accept(answer()).least(80, 80).shows(&["rto_backoff"]),
        benign(View::Client).capture().accept(answer()).shows(&["rto_backoff"]),
        benign(View::Router).accept(answer()).shows(&["rto_backoff"]),
        // Nothing of all this came here.
        benign(View::Server).accept(answer()).accept(forgotten(CLIENT)),
    ]
}
