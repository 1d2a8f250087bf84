//! Findings of a running agent: the newest ones, totals of all, and a feed for those who follow.
//!
//! Everything is bounded: the ring by its capacity, the feed by [`FEED`], the totals by their closed sets of names.
//! Ids come with the findings; a finding with an id that is held replaces the former.

mod filter;
mod ring;
mod totals;

pub use filter::{Filter, Wanted};
pub use totals::{LEAD_BUCKETS_SECONDS, LeadTimes, Totals, VerdictKey};

use crate::finding::Finding;
use ring::Ring;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::broadcast;

/// Findings that a follower may be behind before it misses some.
pub const FEED: usize = 1024;

/// Shared by the capture, which records, and everything that shows.
pub struct Store {
    inner: Mutex<Inner>,
    feed: broadcast::Sender<Arc<Finding>>,
    lost_in_agent: AtomicU64,
}

struct Inner {
    ring: Ring,
    totals: Totals,
}

/// What [`Store::select`] found.
pub struct Selection {
    /// Oldest first, at most the filter's limit: the newest of those that match.
    pub findings: Vec<Arc<Finding>>,
    /// How many match, shown or not.
    pub matched: usize,
}

/// How full the history is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Occupancy {
    pub held: usize,
    pub capacity: usize,
}

impl Store {
    /// Keeps the newest `capacity` findings, at least one.
    pub fn new(capacity: usize) -> Store {
        Store {
            inner: Mutex::new(Inner { ring: Ring::new(capacity.max(1)), totals: Totals::default() }),
            feed: broadcast::Sender::new(FEED),
            lost_in_agent: AtomicU64::new(0),
        }
    }

    pub fn record(&self, finding: Finding) {
        let finding = Arc::new(finding);
        let mut inner = self.lock();
        let former = inner.ring.put(finding.clone());
        inner.totals.add(&finding, former.as_deref());
        // Under the lock, so that a follower sees each finding exactly once: in the history that it starts from or
        // in the feed. No receiver is no error.
        let _ = self.feed.send(finding);
    }

    /// Counts events that the agent took from the kernel but could not use.
    pub fn record_lost(&self, events: u64) {
        self.lost_in_agent.fetch_add(events, Ordering::Relaxed);
    }

    pub fn lost_in_agent(&self) -> u64 {
        self.lost_in_agent.load(Ordering::Relaxed)
    }

    pub fn find(&self, wanted: &Wanted) -> Option<Arc<Finding>> {
        let inner = self.lock();
        match wanted {
            Wanted::Id(id) => inner.ring.by_id(*id),
            Wanted::CommunityId(id) => inner.ring.newest_first().find(|f| f.community_id == *id).cloned(),
            Wanted::Latest => filter::latest(inner.ring.newest_first()).cloned(),
        }
    }

    pub fn select(&self, filter: &Filter) -> Selection {
        select(&self.lock().ring, filter)
    }

    /// What matches now, and a feed of everything recorded after it.
    pub fn follow(&self, filter: &Filter) -> (Selection, broadcast::Receiver<Arc<Finding>>) {
        let inner = self.lock();
        (select(&inner.ring, filter), self.feed.subscribe())
    }

    pub fn followers(&self) -> usize {
        self.feed.receiver_count()
    }

    pub fn totals(&self) -> Totals {
        self.lock().totals.clone()
    }

    pub fn occupancy(&self) -> Occupancy {
        let inner = self.lock();
        Occupancy { held: inner.ring.len(), capacity: inner.ring.capacity() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic while holding the lock leaves counts that are at worst one short.
        self.inner.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

fn select(ring: &Ring, filter: &Filter) -> Selection {
    let mut findings = Vec::new();
    let mut matched = 0;
    for f in ring.newest_first().filter(|f| filter.matches(f)) {
        matched += 1;
        if findings.len() < filter.limit.unwrap_or(usize::MAX) {
            findings.push(f.clone());
        }
    }
    findings.reverse();
    Selection { findings, matched }
}
