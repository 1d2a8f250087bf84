//! The running agent as those see it who only read: the capture's [`Source`] and the [`Store`].

use crate::api::query::ConnectionQuery;
use crate::snapshot::{Counters, Listing, Population, Source, Status};
use crate::store::Store;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// Walks over the connection table at once. They cost CPU and memory; a second client waits.
const WALKS: usize = 1;
/// For a walk's turn and the walk.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Clone)]
pub struct View {
    source: Arc<dyn Source>,
    store: Arc<Store>,
    walks: Arc<Semaphore>,
}

#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    #[error("the connection table could not be read within {} s; the agent is busy, try again", PATIENCE.as_secs())]
    Busy,
    #[error("reading the connection table failed; see the agent's messages")]
    Failed,
}

/// Everything that a scrape or `status` shows.
pub struct Snapshot {
    pub status: Status,
    pub counters: Counters,
    pub population: Population,
}

impl View {
    pub fn new(source: Arc<dyn Source>, store: Arc<Store>) -> View {
        View { source, store, walks: Arc::new(Semaphore::new(WALKS)) }
    }

    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Small and without a walk.
    pub fn status(&self) -> Status {
        self.source.status()
    }

    pub async fn connections(&self, query: ConnectionQuery) -> Result<Listing, ViewError> {
        self.read(move |source| source.connections(&query)).await
    }

    pub async fn snapshot(&self) -> Result<Snapshot, ViewError> {
        self.read(|source| Snapshot {
            status: source.status(),
            counters: source.counters(),
            population: source.population(),
        })
        .await
    }

    /// Runs a walk where it blocks nobody else. One that takes too long is not waited for, but holds its turn to its
    /// end, so that impatient clients cannot pile up walks.
    async fn read<T: Send + 'static>(
        &self,
        walk: impl FnOnce(&dyn Source) -> T + Send + 'static,
    ) -> Result<T, ViewError> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let turn = tokio::time::timeout_at(deadline, self.walks.clone().acquire_owned())
            .await
            .map_err(|_| ViewError::Busy)?
            .map_err(|_| ViewError::Failed)?;
        let source = self.source.clone();
        let walk = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            walk(&*source)
        });
        tokio::time::timeout_at(deadline, walk).await.map_err(|_| ViewError::Busy)?.map_err(|_| ViewError::Failed)
    }
}
