//! `/metrics`, `/healthz`, `/readyz` and a landing page. No lists of connections: those are on the socket only.

use super::metrics;
use super::view::View;
use crate::snapshot::Status;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use std::net::{SocketAddr, TcpListener};

/// Prometheus 3 refuses a page without it.
const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error(
        "cannot listen on {0}: the port is in use; is another agent running? choose another with --listen ADDR:PORT, or --listen off"
    )]
    InUse(SocketAddr),
    #[error(
        "cannot listen on {0}: ports below 1024 need CAP_NET_BIND_SERVICE; choose a higher one with --listen ADDR:PORT"
    )]
    Privileged(SocketAddr),
    #[error("cannot listen on {0}: {1}; choose an address of this host with --listen ADDR:PORT, or --listen off")]
    Other(SocketAddr, std::io::Error),
}

/// Outside of any runtime, so that a port in use is found before anything is attached.
pub fn listen(address: SocketAddr) -> Result<TcpListener, ListenError> {
    let listener = TcpListener::bind(address).and_then(|l| l.set_nonblocking(true).map(|()| l));
    listener.map_err(|e| match e.kind() {
        std::io::ErrorKind::AddrInUse => ListenError::InUse(address),
        std::io::ErrorKind::PermissionDenied => ListenError::Privileged(address),
        _ => ListenError::Other(address, e),
    })
}

pub fn router(view: View) -> Router {
    Router::new()
        .route("/", get(landing))
        .route("/metrics", get(page))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .fallback(|| async { (StatusCode::NOT_FOUND, "not found; the metrics are at /metrics\n") })
        .with_state(view)
}

async fn page(State(view): State<View>) -> Response {
    match metrics::render(&view).await {
        Ok(text) => ([(header::CONTENT_TYPE, TEXT_FORMAT)], text).into_response(),
        Err(e) => (StatusCode::SERVICE_UNAVAILABLE, format!("{e}\n")).into_response(),
    }
}

async fn ready(State(view): State<View>) -> Response {
    match unready(&view.status()) {
        None => "ready\n".into_response(),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}

/// Why the agent does not see what it was asked to see.
fn unready(status: &Status) -> Option<String> {
    if status.interfaces.is_empty() {
        return Some("not attached to any interface".into());
    }
    let reasons: Vec<_> = status
        .interfaces
        .iter()
        // On loopback one hook sees both directions, so one is enough.
        .filter(|i| i.ingress == "none" && i.egress == "none")
        .map(|i| match &i.note {
            Some(note) => format!("{}: not attached: {note}", i.name),
            None => format!("{}: not attached", i.name),
        })
        .collect();
    (!reasons.is_empty()).then(|| reasons.join("\n"))
}

async fn landing(State(view): State<View>) -> Html<String> {
    let version = view.status().version;
    Html(format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>whyrst</title></head><body>\n\
         <h1>whyrst {}</h1>\n<p>Tells why a TCP connection was reset.</p>\n\
         <ul><li><a href=\"/metrics\">Metrics</a></li><li><a href=\"/healthz\">Alive</a></li>\
         <li><a href=\"/readyz\">Attached to what was asked for</a></li></ul>\n\
         <p>Findings and connections: <code>whyrst resets</code>, <code>whyrst explain</code>, <code>whyrst conns</code> \
         on this host.</p>\n</body></html>\n",
        escape(&version)
    ))
}

fn escape(s: &str) -> String {
    s.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::Attached;

    fn attached(ingress: &str, egress: &str, note: Option<&str>) -> Status {
        let interface = Attached {
            name: "eth0".into(),
            ifindex: 2,
            ingress: ingress.into(),
            egress: egress.into(),
            note: note.map(Into::into),
        };
        Status { interfaces: vec![interface], ..Status::default() }
    }

    #[test]
    fn readiness_names_the_interface_that_is_not_attached_and_why() {
        assert_eq!(unready(&attached("xdp_native", "tcx", None)), None);
        assert_eq!(unready(&attached("xdp_generic", "none", Some("loopback"))), None);
        assert_eq!(unready(&Status::default()).unwrap(), "not attached to any interface");
        let reason = unready(&attached("none", "none", Some("it was deleted"))).unwrap();
        assert_eq!(reason, "eth0: not attached: it was deleted");
    }

    #[test]
    fn a_port_in_use_is_an_error_that_says_what_to_do() {
        let held = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let e = listen(held.local_addr().unwrap()).unwrap_err().to_string();
        assert!(e.contains("in use") && e.contains("--listen"), "{e}");
    }
}
