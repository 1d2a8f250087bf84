//! `whyrst run`: the agent.
//!
//! Order matters. What can be refused is asked for first (privileges, port, socket), so that a refusal leaves nothing
//! attached. Then the programs are attached and the capabilities dropped, all on the main thread, because threads
//! inherit capabilities and cannot lose another's. Only then the runtime with its threads begins.

use crate::api;
use crate::api::socket::{Socket, SocketError};
use crate::capture::live::{Live, Sink};
use crate::capture::loader::Sizes;
use crate::config::{Config, ConfigError, Ingress, Layer, defaults};
use crate::error::{Exit, Failure};
use crate::expose::text::human;
use crate::expose::{View, http};
use crate::finding::Finding;
use crate::logging::{self, Format, Level};
use crate::notify::notify;
use crate::privileges;
use crate::serve::{Limits, serve};
use crate::snapshot::{Source, Status};
use crate::store::Store;
use anyhow::Context;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing::{info, warn};

#[derive(Debug, Default, clap::Args)]
#[command(after_help = "\
Examples:
  whyrst run -i eth0                            watch one interface until Ctrl-C
  whyrst run -i eth0,eth1 --listen off          two, without metrics
  whyrst run --all --config /etc/whyrst.toml    every suitable one; flags win over the file
  whyrst run -i eth0 --listen 0.0.0.0:18908     metrics for other hosts, too

Needs CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON (root has them); what is not needed any more is dropped after attaching. \
Packets are never changed or dropped. SIGTERM and SIGINT detach; so does SIGKILL, unless --pin.

The file has the flags' names with underscores: interfaces = [\"eth0\"], all, listen, socket, ingress, max_connections, \
ring_bytes, kernel_evidence, all_namespaces, pin, history, log_level, log_format.")]
pub struct RunArgs {
    /// Interfaces to watch; repeat it or separate names by commas
    #[arg(short, long = "interface", value_name = "IFACE", value_delimiter = ',', conflicts_with = "all")]
    pub interfaces: Vec<String>,

    /// Watch every suitable interface
    #[arg(long)]
    pub all: bool,

    /// Settings in TOML
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Where to serve metrics, or `off` [default: 127.0.0.1:18908]
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen: Option<String>,

    /// Where to answer the other commands [default: /run/whyrst/whyrst.sock]
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,

    /// How to take packets at ingress [default: auto]
    #[arg(long, value_enum)]
    pub ingress: Option<Ingress>,

    // What each costs follows from the layout of the tables.
    #[arg(long, value_name = "N", help = format!(
        "Connections tracked at once; about {:.1} kB of kernel memory each [default: {}]",
        f64::from(u32::try_from(Sizes::bytes_per_connection()).unwrap_or(u32::MAX)) / 1000.0,
        defaults::MAX_CONNECTIONS,
    ))]
    pub max_connections: Option<u32>,

    /// Size of the ring buffer for events, a power of two [default: 4194304]
    #[arg(long, value_name = "N")]
    pub ring_bytes: Option<u32>,

    /// Do not attach to tracepoints for the local kernel's own reasons
    #[arg(long)]
    pub no_kernel_evidence: bool,

    /// Believe what sockets of every network namespace say of a tuple, not only those of this one: for containers whose
    /// addresses are seen untranslated here, and unique
    #[arg(long, conflicts_with = "no_kernel_evidence")]
    pub all_namespaces: bool,

    /// Keep programs and tables pinned under this folder of a bpffs, so that they outlive the agent
    #[arg(long, value_name = "DIR")]
    pub pin: Option<PathBuf>,

    /// Findings kept for the other commands [default: 10000]
    #[arg(long, value_name = "N")]
    pub history: Option<usize>,

    /// How much to say on standard error; RUST_LOG refines it [default: info]
    #[arg(long, value_enum, value_name = "LEVEL")]
    pub log_level: Option<Level>,

    /// In which form [default: text]
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub log_format: Option<Format>,
}

impl RunArgs {
    fn layer(self) -> Layer {
        Layer {
            interfaces: (!self.interfaces.is_empty()).then_some(self.interfaces),
            all: self.all.then_some(true),
            listen: self.listen,
            socket: self.socket,
            ingress: self.ingress,
            max_connections: self.max_connections,
            ring_bytes: self.ring_bytes,
            kernel_evidence: self.no_kernel_evidence.then_some(false),
            all_namespaces: self.all_namespaces.then_some(true),
            pin: self.pin,
            history: self.history,
            log_level: self.log_level,
            log_format: self.log_format,
        }
    }
}

pub fn run(args: RunArgs) -> Result<Exit, Failure> {
    let config = configure(args)?;
    logging::init(&config.log_filter, config.log_format).map_err(Failure::Usage)?;
    require_privileges()?;
    let http = config.listen.map(http::listen).transpose().map_err(anyhow::Error::new)?;
    let socket = Socket::bind(&config.socket).map_err(|e| match e {
        SocketError::NotPermitted(_) => Failure::NotPermitted(e.to_string()),
        e => Failure::Failed(e.into()),
    })?;
    let live = Live::attach(&config.live)?;
    let status = live.source().status();
    announce(&config, &status);
    drop_privileges(&status);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.context("cannot start the runtime")?;
    let (listener, file) = socket.split();
    let result = runtime.block_on(serve_until_stopped(live, config, http, listener));
    // First the file: whoever connects now should hear that nobody is there.
    drop(file);
    runtime.shutdown_background();
    result.map(|()| Exit::Done)
}

fn configure(args: RunArgs) -> Result<Config, Failure> {
    let file = args.config.as_deref().map(Layer::from_file).transpose();
    let file = file.map_err(|e| match e {
        ConfigError::Unreadable { .. } => Failure::Failed(e.into()),
        e => Failure::Usage(e.to_string()),
    })?;
    let rust_log = std::env::var("RUST_LOG").ok();
    Config::resolve(args.layer(), file.unwrap_or_default(), rust_log).map_err(|e| Failure::Usage(e.to_string()))
}

fn require_privileges() -> Result<(), Failure> {
    let missing = privileges::missing_for_attach();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Failure::NotPermitted(format!(
        "cannot attach: this process lacks {}; run it as root, or give it CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON \
         (`whyrst doctor` says what is missing; `whyrst analyze` needs none of them)",
        missing.join(", ")
    )))
}

fn announce(config: &Config, status: &Status) {
    for i in &status.interfaces {
        info!(interface = i.name, ingress = i.ingress, egress = i.egress, note = i.note, "attached");
    }
    for note in &status.notes {
        warn!("{note}");
    }
    info!(capacity = status.table_capacity, memory = human::bytes(status.table_bytes), "connection table ready");
    info!("answering on {}", config.socket.display());
    if let Some(address) = config.listen {
        info!("metrics on http://{address}/metrics");
        if !address.ip().is_loopback() {
            warn!("metrics can be read by every host that reaches {address}; they hold counts, no addresses");
        }
    }
}

/// An agent that keeps its capabilities works as well, so this is no reason to stop.
fn drop_privileges(status: &Status) {
    match privileges::drop_after_attach(&privileges::needed_after_attach(status)) {
        Ok(dropped) => info!(kept = dropped.kept.join(","), "dropped capabilities"),
        Err(e) => warn!("{e}; going on with all of them"),
    }
}

async fn serve_until_stopped(
    mut live: Live,
    config: Config,
    http: Option<TcpListener>,
    socket: UnixListener,
) -> Result<(), Failure> {
    let started = Instant::now();
    let source = live.source();
    let store = Arc::new(Store::counting_storms(config.history));
    let view = View::new(source.clone(), store.clone());
    let (stop, stopped) = watch::channel(false);
    let mut servers = tokio::task::JoinSet::new();
    let until = |mut stopped: watch::Receiver<bool>| async move { drop(stopped.wait_for(|s| *s).await) };
    let listener = tokio::net::UnixListener::from_std(socket).context("cannot serve the socket")?;
    servers.spawn(serve(listener, api::server::router(view.clone()), Limits::default(), until(stopped.clone())));
    if let Some(http) = http {
        let listener = tokio::net::TcpListener::from_std(http).context("cannot serve metrics")?;
        servers.spawn(serve(listener, http::router(view), Limits::default(), until(stopped)));
    }
    let signals = stop_signal().context("cannot listen for signals")?;
    notify("READY=1");
    let (reading_stopped, stop_reading) = std::io::pipe().context("cannot make a pipe")?;
    let mut recording = Recording(store.clone());
    let mut reader = tokio::task::spawn_blocking(move || {
        live.run(&mut recording, &reading_stopped);
        live
    });
    let broke = tokio::select! {
        () = signals => None,
        broke = &mut reader => Some(broke),
    };
    drop(stop_reading);
    let live = match broke {
        Some(broke) => broke,
        None => reader.await,
    };
    notify("STOPPING=1");
    stop.send_replace(true);
    servers.join_all().await;
    let summary = summary(&*source, &store, started);
    // Detached before it says that it has stopped.
    let live = live.context("the thread that reads the programs' reports broke").map(drop);
    match config.log_format {
        // Not as a message of some level: who ends the agent wants to read it.
        Format::Text => eprintln!("whyrst: {summary}"),
        Format::Json => info!("{summary}"),
    }
    Ok(live?)
}

/// The store, and once a second what a storm's examples stand for, also when it is over.
struct Recording(Arc<Store>);

impl Sink for Recording {
    fn record(&mut self, finding: Finding) {
        self.0.record(finding);
    }

    fn settle(&mut self) {
        self.0.settle();
    }
}

fn stop_signal() -> std::io::Result<impl Future<Output = ()> + Send> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    // A terminal that is closed ends the agent as cleanly as Ctrl-C.
    let mut hang_up = signal(SignalKind::hangup())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = hang_up.recv() => {}
        }
    })
}

/// What it saw and what it missed.
fn summary(source: &dyn Source, store: &Store, started: Instant) -> String {
    let (c, t) = (source.counters(), store.totals());
    let mut out = format!(
        "stopped after {}: {} of {}, {}, {} without effect, {} degraded; {} taken",
        human::duration(started.elapsed().as_nanos() as u64),
        human::counted(c.received_segments + c.transmitted_segments, "TCP segment", "TCP segments"),
        human::counted(c.connections_opened, "connection", "connections"),
        human::counted(t.reset_count(), "reset", "resets"),
        human::count(t.ineffective_count()),
        human::count(t.degraded_count()),
        human::counted(c.events_sent, "event", "events"),
    );
    let lost = c.events_lost + store.lost_in_agent();
    let untracked = c.table_full + c.table_busy;
    match (lost, untracked) {
        (0, 0) => out.push_str(", none lost"),
        _ => out.push_str(&format!(
            ", {} lost, {} not tracked",
            human::count(lost),
            human::counted(untracked, "segment", "segments")
        )),
    }
    out
}
