//! The program under test, `whyrst run`, as a child process inside one of our namespaces.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::LabError;
use crate::cleanup::{self, ScratchDirectory};
use crate::error::During;
use crate::netns::Namespace;
use crate::verdict::{self, Verdict};
use crate::{bpf, wait};

/// Any port will do: the loopback interface of the namespace is the agent's alone.
const METRICS_PORT: u16 = 9816;
const READY_LIMIT: Duration = Duration::from_secs(20);
const STOP_LIMIT: Duration = Duration::from_secs(10);
const VERDICT_LIMIT: Duration = Duration::from_secs(10);
const SOCKET: &str = "whyrst.sock";
const MESSAGES: &str = "messages";
/// Even if everything else fails, an agent of ours ends after this.
const LIFETIME_SECONDS: u32 = 300;

/// How an agent is started beyond where it watches.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    /// Further arguments of `run`.
    pub arguments: Vec<String>,
    /// Keep its messages for [`Agent::messages`] instead of passing them to our standard error.
    pub quiet: bool,
}

/// A running agent. Dropping it kills it.
pub struct Agent {
    namespace: Namespace,
    program: PathBuf,
    /// Holds the control socket, and the messages of a quiet agent.
    directory: ScratchDirectory,
    child: Child,
}

impl Agent {
    /// Starts `<program> run -i <interface>... --socket <directory>/whyrst.sock --listen <address>`.
    pub fn spawn(program: &Path, namespace: &Namespace, interfaces: &[&str], setup: &Setup) -> Result<Self, LabError> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let directory = ScratchDirectory::create(&format!("{}-agent-{number}", namespace.name()))?;
        let mut command = namespace.command(program)?;
        command.arg("run");
        for interface in interfaces {
            command.args(["-i", interface]);
        }
        command
            .arg("--socket")
            .arg(directory.path().join(SOCKET))
            .args(&setup.arguments)
            .stdin(Stdio::null())
            // Ctrl-C is for us: we end the agent when its turn has come.
            .process_group(0);
        // A second agent of a namespace needs a port of its own.
        if !setup.arguments.iter().any(|argument| argument == "--listen") {
            command.args(["--listen", &metrics_address().to_string()]);
        }
        if setup.quiet {
            let messages = directory.path().join(MESSAGES);
            let file = File::create(&messages).during(format!("create {}", messages.display()))?;
            let copy = file.try_clone().during("duplicate a file descriptor")?;
            command.stdout(copy).stderr(file);
        }
        limit_lifetime(&mut command, std::process::id());
        let child = cleanup::enter_child(&mut command).during(format!("start {}", program.display()))?;
        Ok(Self { namespace: namespace.clone(), program: program.to_owned(), directory, child })
    }

    /// What a quiet agent has said so far.
    pub fn messages(&self) -> String {
        let text = std::fs::read(self.directory.path().join(MESSAGES)).unwrap_or_default();
        String::from_utf8_lossy(&text).into_owned()
    }

    pub fn socket(&self) -> PathBuf {
        self.directory.path().join(SOCKET)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until `status` answers with success: attached to what was asked.
    pub fn wait_ready(&mut self) -> Result<(), LabError> {
        wait::until("the agent to be attached", READY_LIMIT, || {
            if let Some(status) = cleanup::try_reap(&mut self.child).during("look after the agent")? {
                return Err(LabError::Plot(format!("the agent ended at once ({status})\n{}", self.messages())));
            }
            Ok(self.run_cli(&["status"])?.status.success().then_some(()))
        })
    }

    /// `<program> <arguments> --socket <its socket>`, in the agent's namespace.
    pub fn run_cli(&self, arguments: &[&str]) -> Result<Output, LabError> {
        self.run_cli_in_colour(arguments, false)
    }

    /// The same with colours although nobody sees a terminal, if wanted.
    pub fn run_cli_in_colour(&self, arguments: &[&str], colour: bool) -> Result<Output, LabError> {
        let mut command = self.namespace.command(&self.program)?;
        command.args(arguments).arg("--socket").arg(self.socket()).stdin(Stdio::null());
        command.envs(colour.then_some(("CLICOLOR_FORCE", "1")));
        limit_lifetime(&mut command, std::process::id());
        command.output().during(format!("run {} {}", self.program.display(), arguments.join(" ")))
    }

    /// What `status` answers.
    pub fn status(&self) -> Result<serde_json::Value, LabError> {
        let output = self.run_cli(&["status", "--output", "json"])?;
        serde_json::from_slice(&output.stdout)
            .map_err(|error| LabError::Plot(format!("`whyrst status` is not JSON ({error}): {output:?}")))
    }

    /// How each interface is watched, in words.
    pub fn attached(&self) -> Result<Vec<String>, LabError> {
        let status = self.status()?;
        let text = |value: &serde_json::Value| value.as_str().unwrap_or("?").to_owned();
        let mut lines = Vec::new();
        for interface in status["interfaces"].as_array().into_iter().flatten() {
            let [name, ingress, egress] = ["name", "ingress", "egress"].map(|field| text(&interface[field]));
            lines.push(format!("attached to {name}: ingress {ingress}, egress {egress}"));
        }
        let tracepoints = status["tracepoints"].as_object().into_iter().flatten();
        let evidence: Vec<_> = tracepoints.filter(|(_, state)| *state == "attached").map(|(name, _)| &**name).collect();
        match evidence.is_empty() {
            true => lines.push("no evidence from this host's own kernel".into()),
            false => lines.push(format!("evidence from this host's own kernel: {}", evidence.join(", "))),
        }
        Ok(lines)
    }

    /// What `resets` lists: findings of all types, oldest first.
    pub fn findings(&self) -> Result<Vec<Verdict>, LabError> {
        let output = self.run_cli(&["resets", "--limit", "0", "--output", "json"])?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(LabError::Plot(format!("`whyrst resets` failed ({}): {said}", output.status)));
        }
        verdict::parse_lines(&output.stdout)
    }

    /// Waits until this many resets have a verdict. The agent holds each back for a moment, because
    /// more may be learnt of it, and a connection that is desynchronised is reported before its reset.
    pub fn wait_for_resets(&self, count: usize) -> Result<Vec<Verdict>, LabError> {
        wait::until("the agent's verdict on the reset", VERDICT_LIMIT, || {
            let findings = self.findings()?;
            let resets = findings.iter().filter(|finding| finding.is_reset()).count();
            Ok((resets >= count).then_some(findings))
        })
    }

    /// Ids of the kernel programs that the agent holds, from its open file descriptors.
    pub fn programs(&self) -> Result<BTreeSet<u32>, LabError> {
        bpf::programs_of(self.pid())
    }

    /// The metrics page.
    pub fn metrics(&self) -> Result<String, LabError> {
        const LIMIT: Duration = Duration::from_secs(5);
        let address = metrics_address();
        let mut stream = self
            .namespace
            .run(|| TcpStream::connect_timeout(&address, LIMIT))?
            .during(format!("connect to the agent's metrics at {address}"))?;
        stream.set_read_timeout(Some(LIMIT)).during("set a read timeout")?;
        stream.write_all(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n").during("ask for /metrics")?;
        let mut reply = Vec::new();
        stream.read_to_end(&mut reply).during("read /metrics")?;
        page(&String::from_utf8_lossy(&reply))
    }

    /// SIGTERM, and the exit status; an agent that does not end in time is killed, which is an
    /// error.
    pub fn stop(self) -> Result<ExitStatus, LabError> {
        self.end(Signal::SIGTERM)
    }

    /// As [`Self::stop`], with a signal of choice.
    pub fn end(mut self, signal: Signal) -> Result<ExitStatus, LabError> {
        cleanup::signal(self.child.id(), signal);
        wait::until(&format!("the agent to end after {signal}"), STOP_LIMIT, || {
            cleanup::try_reap(&mut self.child).during("wait for the agent")
        })
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Reaped already, or ended by itself: then this signals nobody, since `kill` of the
        // standard library knows.
        if !matches!(cleanup::try_reap(&mut self.child), Ok(Some(_))) {
            let _ = self.child.kill();
            let _ = wait::until("the agent to end", STOP_LIMIT, || {
                cleanup::try_reap(&mut self.child).during("wait for the agent")
            });
        }
    }
}

fn metrics_address() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, METRICS_PORT))
}

/// The alarm survives exec, and its default action ends the process. If we are killed so hard that
/// nothing can run, the kernel asks the process to end.
fn limit_lifetime(command: &mut Command, parent: u32) {
    let enter = move || {
        // SAFETY: alarm() and prctl() are async-signal-safe and have no other requirements.
        unsafe {
            libc::alarm(LIFETIME_SECONDS);
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM);
        }
        // Died before the kernel knew whom to watch?
        // SAFETY: getppid() cannot fail.
        match u32::try_from(unsafe { libc::getppid() }) {
            Ok(now) if now == parent => Ok(()),
            _ => Err(std::io::Error::from_raw_os_error(libc::ESRCH)),
        }
    };
    // SAFETY: between fork and exec the closure makes three system calls.
    unsafe { command.pre_exec(enter) };
}

fn page(reply: &str) -> Result<String, LabError> {
    match reply.split_once("\r\n\r\n") {
        Some((head, body)) if head.split_whitespace().nth(1) == Some("200") => Ok(body.to_owned()),
        _ => Err(LabError::Plot(format!(
            "the agent answered /metrics with: {}",
            reply.lines().next().unwrap_or("nothing")
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_page_with_status_200_counts() {
        let good = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nup 1\n";
        assert_eq!(page(good).unwrap(), "up 1\n");
        assert!(page("HTTP/1.1 503 Unavailable\r\n\r\nnot attached").is_err());
        assert!(page("").is_err());
    }
}
