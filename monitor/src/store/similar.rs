//! A storm of findings that are alike is told by a few of them: further ones are counted with the last one shown.
//!
//! What is alike has the same type, cause, variant and culprit and, as long as there are not too many of these, the same
//! network and port of the server. The first ones are shown one by one. Where it goes on, one is shown for each window
//! of time, and windows grow while the storm lasts, so that the history keeps its room for the rest.

use crate::finding::{Finding, FindingKind, Similar};
use crate::groups;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Shown one by one in the first window, of one network and port, and of one cause.
const ALIKE: u32 = 20;
const SAME_CAUSE: u32 = 100;
const FIRST_WINDOW: Duration = Duration::from_secs(1);
const LONGEST_WINDOW: Duration = Duration::from_secs(60);
/// Networks and ports told apart; others go by their cause alone.
const MOST_KEYS: usize = 4096;

#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    kind: FindingKind,
    cause: String,
    variant: Option<String>,
    culprit: String,
    server: Option<(String, u16)>,
}

struct Window {
    began: Instant,
    length: Duration,
    quota: u32,
    shown: u32,
    /// The last one shown.
    example: u64,
    /// It had more than it could show.
    overflowed: bool,
    /// Counted since it was told last.
    untold: Similar,
}

/// What to do with a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Show,
    /// Count it.
    Fold,
}

#[derive(Default)]
pub struct Storms {
    windows: HashMap<Key, Window>,
    settled: Option<Instant>,
}

impl Storms {
    pub fn admit(&mut self, f: &Finding, now: Instant) -> Verdict {
        let by_cause = Key {
            kind: f.kind,
            cause: f.cause.clone(),
            variant: f.variant.clone(),
            culprit: f.culprit.clone(),
            server: None,
        };
        let alike = Key { server: Some((groups::network(f.server.addr), f.server.port)), ..by_cause.clone() };
        let known = self.windows.contains_key(&alike);
        let alike = if known || self.windows.len() < MOST_KEYS { Some(alike) } else { None };
        let room = self.window(&by_cause, SAME_CAUSE, now).has_room();
        if let Some(alike) = &alike {
            let window = self.window(alike, ALIKE, now);
            if !window.has_room() || !room && window.shown > 0 {
                window.fold(f);
                return Verdict::Fold;
            }
            if room {
                window.show(f);
            }
        }
        let window = self.window(&by_cause, SAME_CAUSE, now);
        if room {
            window.show(f);
            Verdict::Show
        } else {
            window.fold(f);
            Verdict::Fold
        }
    }

    fn window(&mut self, key: &Key, quota: u32, now: Instant) -> &mut Window {
        let window = self.windows.entry(key.clone()).or_insert_with(|| Window::new(now, quota));
        window.renew(now, quota);
        window
    }

    /// Whether a second has passed since [`Storms::settle`].
    pub fn is_due(&self, now: Instant) -> bool {
        self.settled.is_none_or(|t| now.duration_since(t) >= FIRST_WINDOW)
    }

    /// The findings that stand for more, by id, and for how many more than the last time; one may stand for those of its
    /// network and for others of its cause, and then is given twice. Forgets what has calmed down.
    pub fn settle(&mut self, now: Instant) -> Vec<(u64, Similar)> {
        self.settled = Some(now);
        let mut changed = Vec::new();
        for window in self.windows.values_mut().filter(|w| w.untold.count > 0) {
            changed.push((window.example, std::mem::take(&mut window.untold)));
        }
        self.windows.retain(|_, w| !w.is_forgotten(now));
        changed
    }
}

impl Window {
    fn new(now: Instant, quota: u32) -> Window {
        Window {
            began: now,
            length: FIRST_WINDOW,
            quota,
            shown: 0,
            example: 0,
            overflowed: false,
            untold: Similar::default(),
        }
    }

    fn is_over(&self, now: Instant) -> bool {
        now.duration_since(self.began) >= self.length
    }

    /// As long again it is known whether a storm goes on.
    fn is_forgotten(&self, now: Instant) -> bool {
        now.duration_since(self.began) >= self.length * 2
    }

    /// A window that had more than it could show is followed by a longer one for a single example.
    fn renew(&mut self, now: Instant, quota: u32) {
        // What was counted is told first, by the next `settle`.
        if !self.is_over(now) || self.untold.count > 0 {
            return;
        }
        let (length, quota) = if self.overflowed && !self.is_forgotten(now) {
            ((self.length * 2).min(LONGEST_WINDOW), 1)
        } else {
            (FIRST_WINDOW, quota)
        };
        *self = Window { length, ..Window::new(now, quota) };
    }

    fn has_room(&self) -> bool {
        self.shown < self.quota
    }

    fn show(&mut self, f: &Finding) {
        self.shown += 1;
        self.example = f.id;
    }

    fn fold(&mut self, f: &Finding) {
        self.untold = self.untold.and(Similar { count: 1, first_ns: f.time_ns, last_ns: f.time_ns });
        self.overflowed = true;
    }
}
