//! One stream of iperf3, each end on a CPU of its own.

use super::pair::{Pair, within};
use crate::namespace::Namespace;
use anyhow::{Context, Result, ensure};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// CPUs of the two ends.
const CLIENT_CPU: &str = "0";
const SERVER_CPU: &str = "1";
const PORT: &str = "5222";

/// A round's figures.
#[derive(Clone, Copy)]
pub struct Transfer {
    pub gbit_per_second: f64,
    pub cpu_ns_per_kb: f64,
}

/// Over the first link, into or out of what is watched.
pub fn transfer(pair: &Pair, into: bool, seconds: u32) -> Result<Transfer> {
    let _server = Server::start(&pair.here)?;
    let (seconds_text, address) = (seconds.to_string(), pair.links[0].here.to_string());
    let mut arguments = vec!["-c", CLIENT_CPU, "iperf3", "-c", &address, "-p", PORT, "-t", &seconds_text, "-J"];
    if !into {
        arguments.push("-R");
    }
    let text = within(&pair.there, "taskset", &arguments)?;
    let report: serde_json::Value = serde_json::from_str(&text).context("iperf3 gave no JSON")?;
    let number = |pointer: &str| report.pointer(pointer).and_then(serde_json::Value::as_f64);
    let bytes = number("/end/sum_received/bytes").context("iperf3 moved nothing")?;
    let took = number("/end/sum_received/seconds").context("iperf3 took no time")?;
    let percent = ["/end/cpu_utilization_percent/host_total", "/end/cpu_utilization_percent/remote_total"];
    let cpus: f64 = percent.into_iter().filter_map(number).sum::<f64>() / 100.0;
    ensure!(bytes > 0.0 && took > 0.0, "iperf3 moved nothing: {text}");
    Ok(Transfer { gbit_per_second: bytes * 8.0 / took / 1e9, cpu_ns_per_kb: cpus * took * 1e9 / (bytes / 1e3) })
}

/// An iperf3 server for one transfer, ended when dropped. nsenter and taskset become it.
struct Server(Child);

impl Server {
    fn start(namespace: &Namespace) -> Result<Server> {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", namespace.path().display()));
        command.args(["taskset", "-c", SERVER_CPU, "iperf3", "-s", "-1", "-p", PORT]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let server = Server(child.context("cannot start iperf3")?);
        // Until it listens; a client that comes too early is refused.
        std::thread::sleep(Duration::from_millis(500));
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has ended by itself, unless something failed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
