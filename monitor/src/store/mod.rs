//! Findings of a running agent: the newest ones, totals of all, and a feed for those who follow.
//!
//! Everything is bounded: the ring by its capacity, the feed by [`FEED`], the totals by their closed sets of names.
//! Ids come with the findings; a finding with an id that is held replaces the former.

mod filter;
mod ring;
mod similar;
mod totals;

pub use filter::{Filter, Wanted};
pub use totals::{LEAD_BUCKETS_SECONDS, LeadTimes, Totals, VerdictKey};

use crate::finding::Finding;
use ring::Ring;
use similar::{Storms, Verdict};
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;
use tokio::sync::broadcast;
use totals::Told;

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
    /// Counts what is alike, if wanted.
    storms: Option<Storms>,
    /// What was said of findings that were counted only, should they be revised.
    folded: HashMap<u64, Told>,
    order: VecDeque<u64>,
}

/// Counted findings whose verdict is remembered.
const KEPT_FOLDED: usize = 16_384;

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
        Store::with(capacity, None)
    }

    /// The same, but of a storm of findings that are alike only a few are kept and fed, the rest is counted with them
    /// ([`Finding::similar`]). Totals count all. Needs [`Store::settle`] once a second.
    pub fn counting_storms(capacity: usize) -> Store {
        Store::with(capacity, Some(Storms::default()))
    }

    fn with(capacity: usize, storms: Option<Storms>) -> Store {
        let inner = Inner {
            ring: Ring::new(capacity.max(1)),
            totals: Totals::default(),
            storms,
            folded: HashMap::new(),
            order: VecDeque::new(),
        };
        Store { inner: Mutex::new(inner), feed: broadcast::Sender::new(FEED), lost_in_agent: AtomicU64::new(0) }
    }

    pub fn record(&self, finding: Finding) {
        self.record_at(finding, Instant::now());
    }

    /// [`Store::record`] at a time of choice.
    pub fn record_at(&self, mut finding: Finding, now: Instant) {
        let mut inner = self.lock();
        if let Some(former) = inner.ring.by_id(finding.id) {
            finding.similar = former.similar;
            inner.totals.add(&finding, Some(&Told::of(&former)));
            self.tell(&mut inner, finding);
            return;
        }
        if let Some(former) = inner.folded.get(&finding.id).cloned() {
            inner.totals.add(&finding, Some(&former));
            inner.folded.insert(finding.id, Told::of(&finding));
            return;
        }
        inner.totals.add(&finding, None);
        if inner.storms.as_mut().is_some_and(|s| s.admit(&finding, now) == Verdict::Fold) {
            inner.totals.folded += 1;
            inner.remember_folded(&finding);
            self.settle_if_due(&mut inner, now);
            return;
        }
        self.tell(&mut inner, finding);
        self.settle_if_due(&mut inner, now);
    }

    fn tell(&self, inner: &mut Inner, finding: Finding) {
        let finding = Arc::new(finding);
        inner.ring.put(finding.clone());
        // Under the lock, so that a follower sees each finding exactly once: in the history that it starts from or
        // in the feed. No receiver is no error.
        let _ = self.feed.send(finding);
    }

    /// Enters what was counted into the findings that stand for it, and feeds these once more.
    pub fn settle(&self) {
        self.settle_at(Instant::now());
    }

    /// [`Store::settle`] at a time of choice.
    pub fn settle_at(&self, now: Instant) {
        self.settle_if_due(&mut self.lock(), now);
    }

    fn settle_if_due(&self, inner: &mut Inner, now: Instant) {
        let Some(storms) = inner.storms.as_mut().filter(|s| s.is_due(now)) else { return };
        for (id, similar) in storms.settle(now) {
            // An example that has left the history takes its count along; the totals have it.
            if let Some(example) = inner.ring.by_id(id) {
                let similar = example.similar.unwrap_or_default().and(similar);
                self.tell(inner, Finding { similar: Some(similar), ..(*example).clone() });
            }
        }
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

impl Inner {
    fn remember_folded(&mut self, finding: &Finding) {
        if self.order.len() == KEPT_FOLDED
            && let Some(oldest) = self.order.pop_front()
        {
            self.folded.remove(&oldest);
        }
        self.folded.insert(finding.id, Told::of(finding));
        self.order.push_back(finding.id);
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
