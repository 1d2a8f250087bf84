//! The agent's configuration: flags win over the file, the file over the defaults.
//!
//! [`Layer`] is one source, everything optional. [`Config`] is what is left when all are merged and checked.

use crate::capture::ingress::IngressMode;
use crate::capture::live::LiveOptions;
use crate::logging::{Filter, Format, Level};
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// All defaults.
pub mod defaults {
    pub const LISTEN: &str = "127.0.0.1:18908";
    pub const SOCKET: &str = "/run/whyrst/whyrst.sock";
    pub const MAX_CONNECTIONS: u32 = 65_536;
    pub const RING_BYTES: u32 = 4 << 20;
    pub const HISTORY: usize = 10_000;
    pub const LOG_LEVEL: super::Level = super::Level::Info;
    pub const LOG_FORMAT: super::Format = super::Format::Text;
}

/// Bounds, each with its reason in the message that names it.
const MOST_CONNECTIONS: u32 = 16 << 20;
const MOST_HISTORY: usize = 1_000_000;
const LEAST_RING_BYTES: u32 = 64 << 10;
const MOST_RING_BYTES: u32 = 1 << 30;

/// How packets are taken at ingress, as the user says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Ingress {
    /// What costs the host least: XDP in the driver, but TC where that would switch offloads off
    Auto,
    /// XDP in the driver, or fail
    Xdp,
    /// Generic XDP: works on every device, costs more
    XdpGeneric,
    /// Traffic control (tcx, or clsact before Linux 6.6): works on every device
    Tc,
}

impl From<Ingress> for IngressMode {
    fn from(ingress: Ingress) -> IngressMode {
        match ingress {
            Ingress::Auto => IngressMode::Auto,
            Ingress::Xdp => IngressMode::Native,
            Ingress::XdpGeneric => IngressMode::Generic,
            Ingress::Tc => IngressMode::Tc,
        }
    }
}

/// One source of settings: the file, or the flags.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layer {
    pub interfaces: Option<Vec<String>>,
    pub all: Option<bool>,
    pub listen: Option<String>,
    pub socket: Option<PathBuf>,
    pub ingress: Option<Ingress>,
    pub max_connections: Option<u32>,
    pub ring_bytes: Option<u32>,
    pub kernel_evidence: Option<bool>,
    pub all_namespaces: Option<bool>,
    pub pin: Option<PathBuf>,
    pub history: Option<usize>,
    pub log_level: Option<Level>,
    pub log_format: Option<Format>,
}

/// Checked settings.
#[derive(Clone, Debug)]
pub struct Config {
    pub live: LiveOptions,
    /// `None`: no HTTP.
    pub listen: Option<SocketAddr>,
    pub socket: PathBuf,
    pub history: usize,
    pub log_filter: Filter,
    pub log_format: Format,
}

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read the configuration file {path}: {source}; check --config")]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("cannot use the configuration file {path}: {message}")]
    Malformed { path: PathBuf, message: String },
    #[error("{0}")]
    Setting(String),
}

impl Layer {
    pub fn from_file(path: &Path) -> Result<Layer, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        toml::from_str(&text)
            .map_err(|e| ConfigError::Malformed { path: path.to_owned(), message: e.to_string().trim_end().to_owned() })
    }

    /// `self` where it says something, else `lower`. Which interfaces is one setting with two spellings: naming some in
    /// the upper layer overrules `all` in the lower, and the other way round.
    pub fn over(self, lower: Layer) -> Layer {
        let chosen = self.interfaces.is_some() || self.all.is_some();
        let (interfaces, all) = if chosen { (self.interfaces, self.all) } else { (lower.interfaces, lower.all) };
        Layer {
            interfaces,
            all,
            listen: self.listen.or(lower.listen),
            socket: self.socket.or(lower.socket),
            ingress: self.ingress.or(lower.ingress),
            max_connections: self.max_connections.or(lower.max_connections),
            ring_bytes: self.ring_bytes.or(lower.ring_bytes),
            kernel_evidence: self.kernel_evidence.or(lower.kernel_evidence),
            all_namespaces: self.all_namespaces.or(lower.all_namespaces),
            pin: self.pin.or(lower.pin),
            history: self.history.or(lower.history),
            log_level: self.log_level.or(lower.log_level),
            log_format: self.log_format.or(lower.log_format),
        }
    }
}

impl Config {
    /// Merges and checks. `rust_log` is the environment variable, which ranks between the flag and the file.
    pub fn resolve(flags: Layer, file: Layer, rust_log: Option<String>) -> Result<Config, ConfigError> {
        let log_filter = match (flags.log_level, rust_log.filter(|s| !s.is_empty())) {
            (Some(level), _) => Filter::Level(level),
            (None, Some(directives)) => Filter::Directives(directives),
            (None, None) => Filter::Level(file.log_level.unwrap_or(defaults::LOG_LEVEL)),
        };
        let merged = flags.over(file);
        let all = merged.all.unwrap_or(false);
        let interfaces = interfaces(merged.interfaces.unwrap_or_default(), all)?;
        Ok(Config {
            live: LiveOptions {
                interfaces,
                all,
                ingress: merged.ingress.unwrap_or(Ingress::Auto).into(),
                max_connections: max_connections(merged.max_connections.unwrap_or(defaults::MAX_CONNECTIONS))?,
                ring_bytes: ring_bytes(merged.ring_bytes.unwrap_or(defaults::RING_BYTES))?,
                kernel_evidence: merged.kernel_evidence.unwrap_or(true),
                all_namespaces: merged.all_namespaces.unwrap_or(false),
                pin: merged.pin,
            },
            listen: listen(merged.listen.as_deref().unwrap_or(defaults::LISTEN))?,
            socket: merged.socket.unwrap_or_else(|| defaults::SOCKET.into()),
            history: history(merged.history.unwrap_or(defaults::HISTORY))?,
            log_filter,
            log_format: merged.log_format.unwrap_or(defaults::LOG_FORMAT),
        })
    }
}

/// Without repetitions, in the order given.
fn interfaces(named: Vec<String>, all: bool) -> Result<Vec<String>, ConfigError> {
    let mut out: Vec<String> = Vec::new();
    for name in named {
        if name.is_empty() {
            return setting("an interface name is empty; name interfaces as `ip link` shows them");
        }
        if !out.contains(&name) {
            out.push(name);
        }
    }
    match (out.is_empty(), all) {
        (true, false) => {
            setting("which interfaces? name them with -i IFACE[,IFACE...], or take every suitable one with --all")
        }
        (false, true) => setting("interfaces are named and all are asked for; use one of -i and --all"),
        _ => Ok(out),
    }
}

fn listen(text: &str) -> Result<Option<SocketAddr>, ConfigError> {
    if text == "off" {
        return Ok(None);
    }
    text.parse().map(Some).or_else(|_| {
        setting(format!("cannot listen on '{text}': give an address and a port such as {}, or off", defaults::LISTEN))
    })
}

fn max_connections(n: u32) -> Result<u32, ConfigError> {
    if (1..=MOST_CONNECTIONS).contains(&n) {
        return Ok(n);
    }
    setting(format!("max-connections is {n}; the table holds between 1 and {MOST_CONNECTIONS} connections"))
}

fn ring_bytes(n: u32) -> Result<u32, ConfigError> {
    if n.is_power_of_two() && (LEAST_RING_BYTES..=MOST_RING_BYTES).contains(&n) {
        return Ok(n);
    }
    setting(format!(
        "ring-bytes is {n}; the kernel takes powers of two, and between {LEAST_RING_BYTES} and {MOST_RING_BYTES} makes sense"
    ))
}

fn history(n: usize) -> Result<usize, ConfigError> {
    if (1..=MOST_HISTORY).contains(&n) {
        return Ok(n);
    }
    setting(format!("history is {n}; the agent keeps between 1 and {MOST_HISTORY} findings"))
}

fn setting<T>(message: impl Into<String>) -> Result<T, ConfigError> {
    Err(ConfigError::Setting(message.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(text: &str) -> Layer {
        toml::from_str(text).unwrap()
    }

    fn resolve(flags: &str, file: &str) -> Result<Config, String> {
        Config::resolve(layer(flags), layer(file), None).map_err(|e| e.to_string())
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_defaults() {
        let c = resolve("max_connections = 10\ninterfaces = ['a']", "max_connections = 20\nhistory = 7").unwrap();
        assert_eq!(c.live.max_connections, 10);
        assert_eq!(c.history, 7);
        assert_eq!(c.live.ring_bytes, defaults::RING_BYTES);
        assert_eq!(c.listen, Some(defaults::LISTEN.parse().unwrap()));
        assert!(c.live.kernel_evidence && !c.live.all_namespaces);
    }

    #[test]
    fn interfaces_on_the_command_line_overrule_all_in_the_file_and_the_reverse() {
        let named = resolve("interfaces = ['eth0']", "all = true").unwrap();
        assert_eq!((named.live.interfaces, named.live.all), (vec!["eth0".to_owned()], false));
        let all = resolve("all = true", "interfaces = ['eth0']").unwrap();
        assert_eq!((all.live.interfaces, all.live.all), (vec![], true));
    }

    #[test]
    fn repeated_interfaces_count_once_and_none_or_both_is_refused() {
        assert_eq!(resolve("interfaces = ['b', 'a', 'b']", "").unwrap().live.interfaces, ["b", "a"]);
        assert!(resolve("", "").unwrap_err().contains("-i IFACE"));
        assert!(resolve("all = true\ninterfaces = ['a']", "").unwrap_err().contains("one of"));
    }

    #[test]
    fn listening_can_be_switched_off_and_nonsense_is_explained() {
        assert_eq!(resolve("all = true", "listen = 'off'").unwrap().listen, None);
        let e = resolve("all = true\nlisten = 'localhost'", "").unwrap_err();
        assert!(e.contains("localhost") && e.contains("127.0.0.1:18908"), "{e}");
    }

    #[test]
    fn sizes_out_of_range_name_the_range() {
        assert!(resolve("all = true\nring_bytes = 5000", "").unwrap_err().contains("powers of two"));
        assert!(resolve("all = true\nmax_connections = 0", "").unwrap_err().contains("between 1 and"));
        assert!(resolve("all = true\nhistory = 0", "").unwrap_err().contains("between 1 and"));
    }

    #[test]
    fn rust_log_ranks_between_the_flag_and_the_file() {
        let with = |flags: &str, file: &str, env: Option<&str>| {
            Config::resolve(layer(flags), layer(file), env.map(Into::into)).unwrap().log_filter
        };
        let (all, debug) = ("all = true", "all = true\nlog_level = 'debug'");
        assert_eq!(with(debug, "log_level = 'error'", Some("trace")), Filter::Level(Level::Debug));
        assert_eq!(with(all, "log_level = 'error'", Some("trace")), Filter::Directives("trace".into()));
        assert_eq!(with(all, "log_level = 'error'", None), Filter::Level(Level::Error));
        assert_eq!(with(all, "", Some("")), Filter::Level(Level::Info));
    }

    #[test]
    fn an_unknown_key_in_the_file_is_named_with_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.toml");
        std::fs::write(&path, "all = true\nlisten_on = 'x'\n").unwrap();
        let e = Layer::from_file(&path).unwrap_err().to_string();
        assert!(e.contains("listen_on") && e.contains("line 2") && e.contains("c.toml"), "{e}");
        let e = Layer::from_file(&dir.path().join("absent.toml")).unwrap_err().to_string();
        assert!(e.contains("absent.toml") && e.contains("--config"), "{e}");
    }
}
