//! The CLI's end of the socket.

use super::{MATCHED_HEADER, TOTAL_HEADER};
use crate::error::Failure;
use anyhow::{Context, anyhow, bail};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::HOST;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::UnixStream;

const CONNECT: Duration = Duration::from_secs(5);
/// More than the agent takes for a walk before it gives up itself.
const ANSWER: Duration = Duration::from_secs(30);
/// One object; findings have some kilobytes.
const LINE_BYTES: usize = 1 << 20;

pub struct Client {
    socket: PathBuf,
}

/// A list, line by line.
pub struct Lines {
    body: Incoming,
    buffer: Vec<u8>,
    /// Bytes of `buffer` that hold no newline.
    searched: usize,
    pub matched: Option<u64>,
    pub total: Option<u64>,
}

impl Client {
    pub fn new(socket: &Path) -> Client {
        Client { socket: socket.to_owned() }
    }

    /// One object, as the agent wrote it.
    pub async fn object(&self, path: &str) -> Result<Vec<u8>, Failure> {
        let response = self.get(path).await?;
        let body = Limited::new(response.into_body(), LINE_BYTES).collect();
        let body = tokio::time::timeout(ANSWER, body).await.map_err(|_| self.silent())?;
        Ok(body.map_err(|e| anyhow!("cannot read the agent's answer: {e}"))?.to_bytes().to_vec())
    }

    pub async fn lines(&self, path: &str, query: &impl Serialize) -> Result<Lines, Failure> {
        let query = encode(query)?;
        let response = self.get(&format!("{path}?{query}")).await?;
        let number = |name| response.headers().get(name)?.to_str().ok()?.parse().ok();
        let (matched, total) = (number(MATCHED_HEADER), number(TOTAL_HEADER));
        Ok(Lines { body: response.into_body(), buffer: Vec::new(), searched: 0, matched, total })
    }

    async fn get(&self, path: &str) -> Result<Response<Incoming>, Failure> {
        let stream = match tokio::time::timeout(CONNECT, UnixStream::connect(&self.socket)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(e)) => return Err(self.refused(&e)),
            Err(_) => return Err(self.silent()),
        };
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .with_context(|| format!("cannot talk to {}", self.socket.display()))?;
        // Errors come out of the request or the body.
        tokio::spawn(connection);
        let request = Request::get(path).header(HOST, "agent").body(Empty::<Bytes>::new());
        let request = request.context("cannot make the request")?;
        let response = tokio::time::timeout(ANSWER, sender.send_request(request)).await.map_err(|_| self.silent())?;
        let response = response.map_err(|e| {
            Failure::Unreachable(format!(
                "{} does not speak our protocol: {e}; is it the agent's?",
                self.socket.display()
            ))
        })?;
        if response.status() == StatusCode::OK { Ok(response) } else { Err(said(response).await.into()) }
    }

    fn refused(&self, e: &std::io::Error) -> Failure {
        let socket = self.socket.display();
        match e.kind() {
            ErrorKind::PermissionDenied => Failure::NotPermitted(format!(
                "cannot connect to {socket}: permission denied; run as root or as a member of the socket's group"
            )),
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => Failure::Unreachable(format!(
                "cannot connect to {socket}: {}; is the agent running? start it with `whyrst run -i IFACE`, or name its socket with --socket",
                if e.kind() == ErrorKind::NotFound { "there is no such socket" } else { "nobody listens on it" }
            )),
            _ => {
                Failure::Unreachable(format!("cannot connect to {socket}: {e}; name the agent's socket with --socket"))
            }
        }
    }

    fn silent(&self) -> Failure {
        Failure::Unreachable(format!(
            "the agent at {} does not answer; is it stopped or overloaded?",
            self.socket.display()
        ))
    }
}

impl Lines {
    /// The next object, without its newline.
    pub async fn next(&mut self) -> anyhow::Result<Option<Vec<u8>>> {
        loop {
            if let Some(i) = self.buffer[self.searched..].iter().position(|b| *b == b'\n') {
                let mut line: Vec<u8> = self.buffer.drain(..=self.searched + i).collect();
                line.pop();
                self.searched = 0;
                return Ok(Some(line));
            }
            self.searched = self.buffer.len();
            if self.buffer.len() > LINE_BYTES {
                bail!("the agent sent an object of more than {LINE_BYTES} bytes");
            }
            match self.body.frame().await {
                Some(frame) => {
                    let frame = frame.context("the agent's answer broke off")?;
                    if let Some(data) = frame.data_ref() {
                        self.buffer.extend_from_slice(data);
                    }
                }
                None if self.buffer.is_empty() => return Ok(None),
                None => bail!("the agent's answer broke off"),
            }
        }
    }
}

/// What the agent says where it refuses.
async fn said(response: Response<Incoming>) -> anyhow::Error {
    let status = response.status();
    let body = tokio::time::timeout(ANSWER, Limited::new(response.into_body(), LINE_BYTES).collect()).await;
    let text = body.ok().and_then(Result::ok).map(|b| b.to_bytes()).unwrap_or_default();
    let message = serde_json::from_slice::<serde_json::Value>(&text).ok();
    match message.as_ref().and_then(|m| m["error"].as_str()) {
        Some(message) => anyhow!("{message}"),
        None => anyhow!("the agent answered {status}"),
    }
}

/// A URL query of the fields that are set.
fn encode(query: &impl Serialize) -> anyhow::Result<String> {
    let value = serde_json::to_value(query).context("cannot encode the query")?;
    let mut out = form_urlencoded::Serializer::new(String::new());
    for (key, value) in value.as_object().into_iter().flatten() {
        match value {
            serde_json::Value::Null => {}
            serde_json::Value::String(s) => drop(out.append_pair(key, s)),
            other => drop(out.append_pair(key, &other.to_string())),
        }
    }
    Ok(out.finish())
}

/// One segment of a path.
pub fn escape(segment: &str) -> String {
    form_urlencoded::byte_serialize(segment.as_bytes()).collect()
}
