//! HTTP/1.1 over any listener, with limits. `axum::serve` has none on slow clients.

use axum::Router;
use axum::serve::Listener;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// What one listener gives its clients.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Served at once; further ones wait in the listener's queue.
    pub connections: usize,
    /// For a request's headers, and for the next request of an idle connection. Off the usual scrape intervals, so
    /// that a connection is not closed in the moment of its next use.
    pub header_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { connections: 64, header_timeout: Duration::from_secs(45) }
    }
}

/// Request line and headers together.
const HEADER_BYTES: usize = 16 << 10;
/// For answers under way when the server stops.
const GRACE: Duration = Duration::from_millis(500);

/// Serves until `stop` resolves, then gives answers under way a moment.
pub async fn serve<L: Listener>(mut listener: L, router: Router, limits: Limits, stop: impl Future<Output = ()>) {
    let permits = Arc::new(Semaphore::new(limits.connections));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(limits.header_timeout).max_buf_size(HEADER_BYTES);
    let mut connections = JoinSet::new();
    tokio::pin!(stop);
    loop {
        let next = async {
            let permit = permits.clone().acquire_owned().await.expect("the semaphore is never closed");
            (permit, listener.accept().await.0)
        };
        let (permit, io) = tokio::select! {
            next = next => next,
            () = &mut stop => break,
        };
        let connection = http.serve_connection(TokioIo::new(io), TowerToHyperService::new(router.clone()));
        connections.spawn(async move {
            // A client that goes away in the middle is its own business.
            let _ = connection.await;
            drop(permit);
        });
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    let _ = tokio::time::timeout(GRACE, async { while connections.join_next().await.is_some() {} }).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    /// A server that never ends an answer, and what stops it.
    async fn server(
        limits: Limits,
    ) -> (std::net::SocketAddr, tokio::sync::oneshot::Sender<()>, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let endless = || async {
            axum::body::Body::from_stream(futures_util::stream::pending::<Result<Vec<u8>, std::convert::Infallible>>())
        };
        let router = Router::new().route("/endless", get(endless));
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let running = tokio::spawn(serve(listener, router, limits, async move { drop(stopped.await) }));
        (address, stop, running)
    }

    #[tokio::test]
    async fn a_client_that_does_not_finish_its_request_is_let_go() {
        let (address, _stop, _) =
            server(Limits { header_timeout: Duration::from_millis(20), ..Limits::default() }).await;
        let mut slow = TcpStream::connect(address).await.unwrap();
        slow.write_all(b"GET /endless HTTP/1.1\r\nHost: ").await.unwrap();
        let mut rest = Vec::new();
        tokio::time::timeout(Duration::from_secs(10), slow.read_to_end(&mut rest)).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn an_answer_without_end_does_not_keep_the_server_from_stopping() {
        let (address, stop, running) = server(Limits::default()).await;
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(b"GET /endless HTTP/1.1\r\nHost: test\r\n\r\n").await.unwrap();
        let mut head = [0; 8];
        client.read_exact(&mut head).await.unwrap();
        stop.send(()).unwrap();
        tokio::time::timeout(Duration::from_secs(10), running).await.unwrap().unwrap();
    }
}
