//! The fake agent on a socket of its own, and the command run against it.

use super::source::Fake;
use monitor::api::{server, socket::Socket};
use monitor::expose::View;
use monitor::finding::Finding;
use monitor::serve::{Limits, serve};
use monitor::store::Store;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use tempfile::TempDir;

pub struct Agent {
    pub store: Arc<Store>,
    pub view: View,
    // Before the folder: the socket's file goes first.
    runtime: Option<tokio::runtime::Runtime>,
    directory: TempDir,
}

impl Agent {
    pub fn with(findings: impl IntoIterator<Item = Finding>) -> Agent {
        Agent::start(Fake::default(), findings)
    }

    pub fn start(source: Fake, findings: impl IntoIterator<Item = Finding>) -> Agent {
        let directory = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::new(100));
        findings.into_iter().for_each(|f| store.record(f));
        let view = View::new(Arc::new(source), store.clone());
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (listener, file) = Socket::bind(&directory.path().join("whyrst.sock")).unwrap().split();
        let router = server::router(view.clone());
        runtime.spawn(async move {
            let _file = file;
            let listener = tokio::net::UnixListener::from_std(listener).unwrap();
            serve(listener, router, Limits::default(), std::future::pending()).await;
        });
        Agent { store, view, runtime: Some(runtime), directory }
    }

    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("whyrst.sock")
    }

    pub fn runtime(&self) -> &tokio::runtime::Runtime {
        self.runtime.as_ref().expect("taken by stop only")
    }

    /// As if killed: connections break off.
    pub fn stop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = whyrst(arguments);
        command.arg("--socket").arg(self.socket());
        command
    }

    /// Standard output of a run that must succeed without a word on standard error.
    pub fn text(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments);
        assert_eq!(err(&output), "", "{arguments:?}");
        assert!(output.status.success(), "{arguments:?}: {}", output.status);
        out(&output)
    }

    /// The objects of standard output.
    pub fn json(&self, arguments: &[&str]) -> Vec<serde_json::Value> {
        let output = self.output(&[arguments, &["--output", "json"]].concat());
        assert!(output.status.success(), "{arguments:?}: {}{}", output.status, err(&output));
        out(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    pub fn output(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The command under test in an environment without surprises.
pub fn whyrst(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_whyrst"));
    for name in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "RUST_LOG", "NOTIFY_SOCKET"] {
        command.env_remove(name);
    }
    command.env("TZ", "UTC").args(arguments).stdin(Stdio::null());
    command
}

pub fn run(arguments: &[&str]) -> Output {
    whyrst(arguments).output().unwrap()
}

pub fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

pub fn code(output: &Output) -> i32 {
    output.status.code().expect("not killed by a signal")
}
