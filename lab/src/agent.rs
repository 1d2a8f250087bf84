//! The program under test, `whyrst run`, as a child process inside one of our namespaces.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::LabError;
use crate::cleanup::{self, ScratchDirectory};
use crate::error::During;
use crate::netns::Namespace;
use crate::wait;

/// Any port will do: the loopback interface of the namespace is the agent's alone.
const METRICS_PORT: u16 = 9816;
const READY_LIMIT: Duration = Duration::from_secs(20);
const STOP_LIMIT: Duration = Duration::from_secs(10);
/// Even if everything else fails, an agent of ours ends after this.
const LIFETIME_SECONDS: u32 = 300;

/// A running agent. Dropping it kills it.
pub struct Agent {
    namespace: Namespace,
    program: PathBuf,
    /// Holds the control socket.
    directory: ScratchDirectory,
    child: Child,
}

impl Agent {
    /// Starts `<program> run -i <interface>... --socket <directory>/whyrst.sock --listen <address>`.
    /// Its messages go to our standard error.
    pub fn spawn(program: &Path, namespace: &Namespace, interfaces: &[&str]) -> Result<Self, LabError> {
        let directory = ScratchDirectory::create(&format!("{}-agent", namespace.name()))?;
        let mut command = namespace.command(program)?;
        command.arg("run");
        for interface in interfaces {
            command.args(["-i", interface]);
        }
        command
            .arg("--socket")
            .arg(directory.path().join("whyrst.sock"))
            .args(["--listen", &metrics_address().to_string()])
            .stdin(Stdio::null());
        limit_lifetime(&mut command);
        let child = command.spawn().during(format!("start {}", program.display()))?;
        cleanup::enter_child(&child);
        Ok(Self { namespace: namespace.clone(), program: program.to_owned(), directory, child })
    }

    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("whyrst.sock")
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until `status` answers with success: attached to what was asked.
    pub fn wait_ready(&mut self) -> Result<(), LabError> {
        wait::until("the agent to be attached", READY_LIMIT, || {
            if let Some(status) = cleanup::try_reap(&mut self.child).during("look after the agent")? {
                return Err(LabError::Plot(format!("the agent ended at once ({status}); its messages are above")));
            }
            Ok(self.run_cli(&["status"])?.status.success().then_some(()))
        })
    }

    /// `<program> <arguments> --socket <its socket>`, in the agent's namespace.
    pub fn run_cli(&self, arguments: &[&str]) -> Result<Output, LabError> {
        let mut command = self.namespace.command(&self.program)?;
        command.args(arguments).arg("--socket").arg(self.socket()).stdin(Stdio::null());
        limit_lifetime(&mut command);
        command.output().during(format!("run {} {}", self.program.display(), arguments.join(" ")))
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
    pub fn stop(mut self) -> Result<ExitStatus, LabError> {
        cleanup::signal(self.child.id(), Signal::SIGTERM);
        wait::until("the agent to end after SIGTERM", STOP_LIMIT, || {
            cleanup::try_reap(&mut self.child).during("wait for the agent")
        })
    }

    /// SIGKILL: what a crash would look like to its surroundings.
    pub fn kill(mut self) -> Result<ExitStatus, LabError> {
        self.child.kill().during("kill the agent")?;
        wait::until("the agent to end after SIGKILL", STOP_LIMIT, || {
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

/// The alarm survives exec, and its default action ends the process.
fn limit_lifetime(command: &mut Command) {
    use std::os::unix::process::CommandExt;
    let set_alarm = || {
        // SAFETY: alarm() is async-signal-safe and has no other requirements.
        unsafe { libc::alarm(LIFETIME_SECONDS) };
        Ok(())
    };
    // SAFETY: between fork and exec the closure makes one system call.
    unsafe { command.pre_exec(set_alarm) };
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
