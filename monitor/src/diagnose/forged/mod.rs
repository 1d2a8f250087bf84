//! Whether a RST comes from whom it claims (DIAGNOSIS 4): tests, each with its weight, its numbers and the look-alikes
//! that it excludes.
//!
//! An injector that copies TTL, ID series and timing on the last hop before its victim cannot be told from the real
//! sender. What a genuine stack, a lossy capture or a reordered one can do must never add up to an accusation: where a
//! test is in doubt it says nothing.

mod identity;
mod pattern;
mod place;
mod race;
mod scene;
mod signature;
mod timing;

use super::shape::ResetView;
use crate::history::{History, Seen};
use monitor_common::Anomaly;
use monitor_common::flow::Direction;
use scene::Scene;

pub use identity::hops;

/// From this score on a RST counts as not its claimed sender's.
pub const INJECTED: u8 = 60;
/// From this score on that is worth a word.
pub const POSSIBLE: u8 = 30;
/// What the look of a genuine RST takes off.
const GENUINE_LOOK: i32 = 40;
/// The score of one RST in the series of its sender's IP-IDs, this far on at most.
const SERIES: u16 = 64;

/// A test that speaks against the claimed sender.
#[derive(Clone, Debug, PartialEq)]
pub struct Hit {
    /// Name of the test; that of an anomaly where there is one.
    pub test: &'static str,
    pub weight: u8,
    pub time_ns: u64,
    /// Whose packet shows it.
    pub speaker: Direction,
    /// The anomaly and its numbers, for tests that are one.
    pub anomaly: Option<(Anomaly, u32, u32)>,
    /// With its numbers.
    pub text: String,
}

/// Where whoever sent the RST stands (DIAGNOSIS 4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// In the path: what provoked it and what came later stopped there.
    Inline,
    /// Beside the path: the real traffic goes on.
    OnPath,
    /// It guesses.
    Blind,
}

impl Variant {
    pub fn name(self) -> &'static str {
        match self {
            Variant::Inline => "inline",
            Variant::OnPath => "on_path",
            Variant::Blind => "blind",
        }
    }
}

/// What the tests say of one RST.
#[derive(Clone, Debug, PartialEq)]
pub struct Assessment {
    /// The heaviest first.
    pub hits: Vec<Hit>,
    /// 0 to 100.
    pub score: u8,
    /// The claimed sender spoke after its RST.
    pub alive: bool,
    pub variant: Variant,
    /// The RST looks like its claimed sender's: continuing IP-IDs and the same TTL.
    pub genuine_look: bool,
    /// Shape of the first packets (DIAGNOSIS 4.3); context.
    pub signature: Option<&'static str>,
}

impl Assessment {
    pub fn has(&self, test: &str) -> bool {
        self.hits.iter().any(|h| h.test == test)
    }

    /// The tests in words, the heaviest first.
    pub fn tests(&self) -> String {
        self.hits.iter().map(|h| h.text.as_str()).collect::<Vec<_>>().join("; ")
    }
}

/// Runs every test. None when nothing speaks against the sender, or when its own kernel owns up to the RST.
pub fn assess(history: &History, reset: &ResetView) -> Option<Assessment> {
    let s = Scene::new(history, reset);
    if history.kernel.iter().any(|f| f.source == "tcp_send_reset" && f.local == reset.sender) {
        return None;
    }
    let life = race::life(&s);
    let mut hits: Vec<Hit> = Vec::new();
    // Two names of one observation count once.
    hits.extend(race::data_after(&s, life.as_ref()).or_else(|| race::live_after(&s, life.as_ref())));
    hits.extend(race::handshake_goes_on(&s, life.as_ref()));
    hits.extend(race::below_data(&s));
    hits.extend(race::number_changes(&s));
    hits.extend(race::ack_changes(&s));
    hits.extend(identity::ttl(&s));
    hits.extend(identity::ip_id(&s));
    hits.extend(identity::options(&s));
    hits.extend(identity::label(&s));
    hits.extend(identity::link(&s));
    let looks_different = !hits.is_empty();
    hits.extend(timing::impossible(&s, looks_different).or_else(|| timing::mismatch(&s)));
    hits.extend(place::no_ingress_twin(&s));
    hits.extend(place::kernel_denial(&s));
    hits.extend(pattern::both_directions(&s));
    hits.extend(pattern::payload_trigger(&s));
    let sweep = pattern::sweep(&s);
    let blind = sweep.is_some();
    hits.extend(sweep);
    if hits.is_empty() {
        return None;
    }
    let genuine_look = identity::genuine(&s, SERIES);
    let sum: i32 = hits.iter().map(|h| i32::from(h.weight)).sum();
    let score = (sum - if genuine_look { GENUINE_LOOK } else { 0 }).clamp(0, 100) as u8;
    hits.sort_by_key(|h| std::cmp::Reverse(h.weight));
    let alive = life.is_some();
    let variant = match (blind, alive) {
        (true, _) => Variant::Blind,
        (_, true) => Variant::OnPath,
        _ => Variant::Inline,
    };
    Some(Assessment { hits, score, alive, variant, genuine_look, signature: signature::of(&s) })
}

/// Silence that a RST ends: the tracker notes it with other segments only.
fn idle_gap(history: &History, reset: &ResetView) -> Option<Seen> {
    let before = |r: &&crate::history::Recorded| r.record.time_ns < reset.record.time_ns;
    let last = history.records.iter().filter(before).map(|r| r.record.time_ns).max()?;
    let long = reset.record.time_ns - last > monitor_common::tracker::IDLE_GAP_NS;
    let number = history.half(reset.sender).snd_nxt.0;
    let seen = crate::derive::seen(Anomaly::IdleGap, reset.sender, reset.record.time_ns, number, reset.record.seq.0);
    long.then_some(seen)
}

/// The tests that are anomalies, for the list of the finding.
pub fn anomalies(history: &History) -> Vec<Seen> {
    let Some(reset) = ResetView::of(history) else { return Vec::new() };
    let mut out: Vec<Seen> = Vec::new();
    out.extend(idle_gap(history, &reset));
    let Some(assessment) = assess(history, &reset) else { return out };
    for hit in &assessment.hits {
        let Some((anomaly, expected, actual)) = hit.anomaly else { continue };
        // RST_SEQ_DATA is LIVE_AFTER_RST with more; both names are listed.
        if anomaly == Anomaly::RstSeqData {
            out.push(crate::derive::seen(Anomaly::LiveAfterRst, hit.speaker, hit.time_ns, expected, actual));
        }
        out.push(crate::derive::seen(anomaly, hit.speaker, hit.time_ns, expected, actual));
    }
    out
}

#[cfg(test)]
mod tests;
