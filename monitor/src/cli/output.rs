//! Standard output: buffered, flushed at the end or per line, a closed pipe told apart from failures.

use crate::error::Failure;
use serde::Serialize;
use std::io::{BufWriter, ErrorKind, Stdout, Write};

/// Standard output, except in tests.
pub struct Out<W: Write = Stdout> {
    writer: BufWriter<W>,
}

impl Default for Out {
    fn default() -> Out {
        Out::to(std::io::stdout())
    }
}

impl<W: Write> Out<W> {
    pub fn to(writer: W) -> Out<W> {
        Out { writer: BufWriter::with_capacity(64 << 10, writer) }
    }

    pub fn text(&mut self, text: &str) -> Result<(), Failure> {
        self.writer.write_all(text.as_bytes()).map_err(failure)
    }

    /// One object, one line.
    pub fn json(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        self.bytes(&serde_json::to_vec(value).map_err(|e| Failure::Failed(e.into()))?)
    }

    /// An object that is JSON already.
    pub fn bytes(&mut self, line: &[u8]) -> Result<(), Failure> {
        self.writer.write_all(line).and_then(|()| self.writer.write_all(b"\n")).map_err(failure)
    }

    pub fn flush(&mut self) -> Result<(), Failure> {
        self.writer.flush().map_err(failure)
    }
}

fn failure(e: std::io::Error) -> Failure {
    if e.kind() == ErrorKind::BrokenPipe {
        Failure::ClosedPipe
    } else {
        Failure::Failed(anyhow::Error::new(e).context("cannot write to standard output"))
    }
}
