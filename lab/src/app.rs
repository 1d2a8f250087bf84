//! Applications of stories and scenarios.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::LabError;

/// An application on a thread of its own. Its sockets have timeouts, so the thread ends by itself
/// even when nobody waits for it any more.
pub struct App<T> {
    name: &'static str,
    result: mpsc::Receiver<T>,
}

impl<T: Send + 'static> App<T> {
    pub fn start(name: &'static str, work: impl FnOnce() -> T + Send + 'static) -> Self {
        let (sender, result) = mpsc::channel();
        thread::spawn(move || {
            // Nobody listens any more when the story has failed elsewhere.
            let _ = sender.send(work());
        });
        Self { name, result }
    }

    pub fn finish(&self, limit: Duration) -> Result<T, LabError> {
        self.result
            .recv_timeout(limit)
            .map_err(|_| LabError::Timeout { what: format!("{} to end", self.name), waited: limit })
    }

    pub fn finished(&self) -> Option<T> {
        self.result.try_recv().ok()
    }
}
