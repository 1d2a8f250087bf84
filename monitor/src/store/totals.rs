//! Counts of all findings since the start. They only grow, because they become Prometheus counters.

use crate::finding::{Finding, FindingKind};
use std::collections::BTreeMap;

/// Upper bounds of the histogram of desync-to-reset lead times.
pub const LEAD_BUCKETS_SECONDS: [f64; 12] = [0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0];

/// Different (cause, culprit, phase) held apart. The catalogue allows for some hundreds; a name from outside of it
/// must not let the metrics page grow.
const MOST_KEYS: usize = 1024;
/// Where the rest is counted.
const OTHER: &str = "other";

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VerdictKey {
    pub cause: String,
    pub culprit: String,
    pub phase: String,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Totals {
    /// Effective resets with a verdict.
    pub resets: BTreeMap<VerdictKey, u64>,
    /// Findings about RSTs that changed nothing, by `effect`.
    pub ineffective: BTreeMap<String, u64>,
    /// Connections that ended desynchronised without an effective reset, by cause.
    pub degraded: BTreeMap<String, u64>,
    /// Findings of storms that are not listed but counted with one like them.
    pub folded: u64,
    /// Findings whose cause, culprit or phase changed after they were counted.
    pub revised: u64,
    pub lead: LeadTimes,
}

/// A histogram, not cumulative.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LeadTimes {
    pub counts: [u64; LEAD_BUCKETS_SECONDS.len()],
    pub sum_seconds: f64,
    pub count: u64,
}

/// What a finding was counted as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    kind: FindingKind,
    verdict: VerdictKey,
}

impl Told {
    pub fn of(finding: &Finding) -> Told {
        Told { kind: finding.kind, verdict: VerdictKey::of(finding) }
    }
}

impl VerdictKey {
    fn of(f: &Finding) -> VerdictKey {
        VerdictKey { cause: f.cause.clone(), culprit: f.culprit.clone(), phase: f.phase.clone() }
    }
}

impl Totals {
    /// Counts a finding, or notices that it replaces `former`.
    ///
    /// A counter cannot take back: what was counted under the first verdict stays there, and the change is counted
    /// in `revised`. A finding that becomes another kind (degraded, later reset) is counted as that too.
    pub fn add(&mut self, finding: &Finding, former: Option<&Told>) {
        if let Some(former) = former
            && former.kind == finding.kind
        {
            self.revised += u64::from(*former != Told::of(finding));
            return;
        }
        match finding.kind {
            FindingKind::Reset => {
                let key = VerdictKey::of(finding);
                let other = || VerdictKey { cause: OTHER.into(), culprit: OTHER.into(), phase: OTHER.into() };
                bump(&mut self.resets, key, other);
                if let Some(desync) = &finding.desync {
                    self.lead.observe(desync.lead_ns as f64 / 1e9);
                }
            }
            FindingKind::RstIneffective => {
                let effect = finding.reset.as_ref().map_or("unverified", |r| r.effect.as_str());
                bump(&mut self.ineffective, effect.to_owned(), || OTHER.into());
            }
            FindingKind::Degraded => bump(&mut self.degraded, finding.cause.clone(), || OTHER.into()),
        }
    }

    pub fn reset_count(&self) -> u64 {
        self.resets.values().sum()
    }

    pub fn ineffective_count(&self) -> u64 {
        self.ineffective.values().sum()
    }

    pub fn degraded_count(&self) -> u64 {
        self.degraded.values().sum()
    }
}

fn bump<K: Ord>(map: &mut BTreeMap<K, u64>, key: K, other: impl FnOnce() -> K) {
    let key = if map.len() < MOST_KEYS || map.contains_key(&key) { key } else { other() };
    *map.entry(key).or_default() += 1;
}

impl LeadTimes {
    fn observe(&mut self, seconds: f64) {
        self.sum_seconds += seconds;
        self.count += 1;
        if let Some(i) = LEAD_BUCKETS_SECONDS.iter().position(|bound| seconds <= *bound) {
            self.counts[i] += 1;
        }
    }
}
