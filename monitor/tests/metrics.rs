//! The metrics page: complete, clean by promtool's rules, scraped by a real Prometheus.

mod common;

use common::findings::{degraded, desynchronised, ineffective, unread};
use common::source::Fake;
use common::wait_for;
use monitor::expose::{View, http, metrics};
use monitor::serve::{Limits, serve};
use monitor::snapshot::Counters;
use monitor::store::Store;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

/// Metrics over HTTP, as the agent serves them.
struct Page {
    runtime: tokio::runtime::Runtime,
    address: SocketAddr,
    view: View,
}

impl Page {
    fn new(source: Fake) -> Page {
        let store = Store::new(10);
        [desynchronised(1), ineffective(2), degraded(3), unread(4)].into_iter().for_each(|f| store.record(f));
        store.record_lost(3);
        let view = View::new(Arc::new(source), Arc::new(store));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = http::listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let router = http::router(view.clone());
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            serve(listener, router, Limits::default(), std::future::pending()).await;
        });
        Page { runtime, address, view }
    }

    fn text(&self) -> String {
        self.runtime.block_on(metrics::render(&self.view)).unwrap()
    }

    fn get(&self, path: &str) -> (String, String) {
        get(self.address, path).unwrap()
    }
}

/// Head and body of an answer.
fn get(address: SocketAddr, path: &str) -> std::io::Result<(String, String)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    Ok((head.to_owned(), body.to_owned()))
}

fn samples(text: &str) -> BTreeMap<&str, f64> {
    let lines = text.lines().filter(|l| !l.starts_with('#'));
    lines.map(|l| l.rsplit_once(' ').unwrap()).map(|(name, value)| (name, value.parse().unwrap())).collect()
}

#[test]
fn the_page_has_every_family_with_help_and_type() {
    let text = Page::new(Fake::default()).text();
    for family in metrics::FAMILIES {
        let kind = format!("{:?}", family.kind).to_lowercase();
        assert!(text.contains(&format!("# HELP {} {}\n", family.name, family.help)), "{}", family.name);
        assert!(text.contains(&format!("# TYPE {} {kind}\n", family.name)), "{}", family.name);
    }
    assert!(text.contains("# TYPE process_resident_memory_bytes gauge\n"));
}

#[test]
fn values_come_from_the_capture_and_the_findings() {
    let text = Page::new(Fake::default()).text();
    let samples = samples(&text);
    for (name, value) in [
        ("whyrst_received_segments_total", 1_234_000.0),
        ("whyrst_connections{state=\"established\"}", 2.0),
        ("whyrst_anomalies_total{anomaly=\"rexmit\"}", 26.0),
        ("whyrst_desynchronised_connections{kind=\"gap\"}", 1.0),
        ("whyrst_resets_total{cause=\"endpoint_sequence_fault\",culprit=\"client\",phase=\"established\"}", 1.0),
        ("whyrst_resets_total{cause=\"close_with_unread_data\",culprit=\"server\",phase=\"established\"}", 1.0),
        ("whyrst_resets_observed_total{effect=\"ineffective\"}", 2.0),
        ("whyrst_degraded_connections_total{cause=\"sack_translation_fault\"}", 1.0),
        ("whyrst_desync_to_reset_seconds_bucket{le=\"10\"}", 0.0),
        ("whyrst_desync_to_reset_seconds_bucket{le=\"30\"}", 1.0),
        ("whyrst_desync_to_reset_seconds_count", 1.0),
        ("whyrst_parse_failures_total{reason=\"truncated_tcp_header\"}", 2.0),
        ("whyrst_ignored_packets_total{reason=\"not_ip\"}", 9.0),
        ("whyrst_events_lost_total{stage=\"ring_buffer\"}", 5.0),
        ("whyrst_events_lost_total{stage=\"agent\"}", 3.0),
        ("whyrst_program_run_seconds_total{program=\"ingress\"}", 1.25),
        ("whyrst_interface_attached{interface=\"wlan0\",ingress=\"xdp_generic\",egress=\"clsact\"}", 1.0),
        ("whyrst_build_info{version=\"0.1.0\",object=\"0123456789ab\",kernel=\"6.1.0-49-amd64\"}", 1.0),
    ] {
        assert_eq!(samples.get(name), Some(&value), "{name}");
    }
}

#[test]
fn closed_label_sets_are_complete_from_the_start_so_that_rates_work() {
    let source = Fake { counters: Counters::default(), ..Fake::default() };
    let text = Page::new(source).text();
    let samples = samples(&text);
    for name in [
        "whyrst_connections{state=\"fin_wait\"}",
        "whyrst_anomalies_total{anomaly=\"ack_storm\"}",
        "whyrst_desynchronisations_total{kind=\"paws\"}",
        "whyrst_parse_failures_total{reason=\"bad_ip_header\"}",
        "whyrst_ignored_packets_total{reason=\"fragment\"}",
        "whyrst_evictions_total{reason=\"half_open\"}",
        "whyrst_table_rejected_segments_total{reason=\"full\"}",
    ] {
        assert_eq!(samples.get(name), Some(&0.0), "{name}");
    }
    assert!(!text.contains("reason=\"other\""));
}

#[test]
fn a_name_outside_of_its_set_is_counted_as_other_and_not_lost() {
    let mut source = Fake::default();
    source.counters.evictions.push(("by_magic".into(), 7));
    let text = Page::new(source).text();
    assert_eq!(samples(&text)["whyrst_evictions_total{reason=\"other\"}"], 7.0);
}

#[test]
fn no_label_holds_an_address_or_a_port() {
    let fake = Fake::default();
    let addresses: Vec<_> = fake.rows.iter().flat_map(|r| [r.client.addr, r.server.addr]).collect();
    let text = Page::new(fake).text();
    for address in addresses {
        assert!(!text.contains(&address.to_string()), "{address}");
    }
    let names: Vec<_> = metrics::FAMILIES.iter().flat_map(|f| f.labels).collect();
    assert!(names.iter().all(|n| !n.contains("addr") && !n.contains("port") && **n != "type"), "{names:?}");
}

#[test]
fn pages_beside_the_metrics_answer_as_probes_and_people_expect() {
    let page = Page::new(Fake::default());
    let (head, body) = page.get("/metrics");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(head.to_lowercase().contains("content-type: text/plain; version=0.0.4; charset=utf-8"), "{head}");
    assert!(body.contains("whyrst_build_info{"));
    assert_eq!(page.get("/healthz").1, "ok\n");
    assert_eq!(page.get("/readyz").1, "ready\n");
    let (head, body) = page.get("/");
    assert!(head.to_lowercase().contains("text/html") && body.contains("href=\"/metrics\""), "{head}");
    assert!(page.get("/v1/connections").0.starts_with("HTTP/1.1 404"), "no lists of connections over TCP");
    let mut detached = Fake::default();
    detached.status.interfaces.truncate(1);
    detached.status.interfaces[0].ingress = "none".into();
    detached.status.interfaces[0].egress = "none".into();
    let (head, body) = Page::new(detached).get("/readyz");
    assert!(head.starts_with("HTTP/1.1 503") && body == "eth0: not attached\n", "{head} {body}");
}

#[test]
fn promtool_finds_nothing_to_complain_about() {
    let Some(promtool) = prometheus_program("promtool") else { return };
    let text = Page::new(Fake::default()).text();
    let mut child = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success() && said.is_empty(), "{}: {}", output.status, String::from_utf8_lossy(&said));
}

#[test]
fn a_real_prometheus_scrapes_the_page() {
    let Some(prometheus) = prometheus_program("prometheus") else { return };
    let page = Page::new(Fake::default());
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("prometheus.yml");
    let text = format!(
        "global:\n  scrape_interval: 1s\nscrape_configs:\n  - job_name: whyrst\n    static_configs:\n      - targets: ['{}']\n",
        page.address
    );
    std::fs::write(&config, text).unwrap();
    let server = free_address();
    let child = Command::new(prometheus)
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
        .arg(format!("--web.listen-address={server}"))
        .arg("--log.level=error")
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let mut child = Killed(child);
    let query = |expression: &str| -> Option<serde_json::Value> {
        let escaped: String = form_urlencoded::byte_serialize(expression.as_bytes()).collect();
        let (_, body) = get(server, &format!("/api/v1/query?query={escaped}")).ok()?;
        // Chunked transfer: the JSON is between the chunk's length and its end.
        let json = body.get(body.find('{')?..=body.rfind('}')?)?;
        serde_json::from_str::<serde_json::Value>(json).ok()
    };
    let value = |expression: &str| -> Option<f64> {
        query(expression)?["data"]["result"][0]["value"][1].as_str()?.parse().ok()
    };
    // The first scrape comes about 6 s after the start.
    wait_for("the first scrape", || {
        assert!(child.0.try_wait().unwrap().is_none(), "prometheus ended");
        (value("up{job=\"whyrst\"}") == Some(1.0)).then_some(())
    });
    assert_eq!(value("whyrst_received_segments_total"), Some(1_234_000.0));
    assert_eq!(value("sum by (cause) (whyrst_resets_total{cause=\"endpoint_sequence_fault\"})"), Some(1.0));
    assert_eq!(value("histogram_quantile(0.5, sum by (le) (whyrst_desync_to_reset_seconds_bucket))"), Some(20.0));
    assert_eq!(value("count(count by (__name__) ({__name__=~\"whyrst_.*\",__name__!~\".*_(bucket|sum|count)\"}))"), {
        // The histogram has no series of its own name.
        Some((metrics::FAMILIES.len() - 1) as f64)
    });
}

/// Ended in any case.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// From the folder that WHYRST_PROMETHEUS_DIR names, or from PATH. Without it the test is skipped, except in CI.
fn prometheus_program(name: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("WHYRST_PROMETHEUS_DIR").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = folder.into_iter().chain(std::env::split_paths(&path)).map(|d| d.join(name)).find(|p| p.is_file());
    if found.is_none() {
        println!("skipped: prometheus not found");
        assert!(
            std::env::var_os("CI").is_none(),
            "CI runs everything: install prometheus, or name its folder in WHYRST_PROMETHEUS_DIR"
        );
    }
    found
}
