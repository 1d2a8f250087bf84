//! Which findings are asked for.

use crate::finding::{Finding, FindingKind};
use std::sync::Arc;

/// All conditions must hold; an empty list holds for everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Not older than this, nanoseconds since the Unix epoch.
    pub since_ns: u64,
    pub kinds: Vec<FindingKind>,
    pub causes: Vec<String>,
    pub culprits: Vec<String>,
    /// The newest so many.
    pub limit: Option<usize>,
}

impl Filter {
    pub fn matches(&self, f: &Finding) -> bool {
        f.time_ns >= self.since_ns
            && (self.kinds.is_empty() || self.kinds.contains(&f.kind))
            && (self.causes.is_empty() || self.causes.contains(&f.cause))
            && (self.culprits.is_empty() || self.culprits.contains(&f.culprit))
    }
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    Id(u64),
    /// The newest finding of that connection.
    CommunityId(String),
    /// The newest one that a user would ask about: resets and degraded connections before ignored RSTs.
    Latest,
}

impl std::str::FromStr for Wanted {
    type Err = String;

    fn from_str(s: &str) -> Result<Wanted, String> {
        if s == "latest" {
            Ok(Wanted::Latest)
        } else if let Ok(id) = s.trim_start_matches('#').parse() {
            Ok(Wanted::Id(id))
        } else if s.starts_with("1:") && s.len() > 2 {
            Ok(Wanted::CommunityId(s.to_owned()))
        } else {
            Err(format!(
                "'{s}' is neither the number of a finding nor a community id such as 1:LQU9qZlK+B5F3KDmev6m5PMibrg="
            ))
        }
    }
}

impl std::fmt::Display for Wanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Wanted::Id(id) => id.fmt(f),
            Wanted::CommunityId(id) => id.fmt(f),
            Wanted::Latest => f.write_str("latest"),
        }
    }
}

/// The first that matters of `newest_first`, else the first.
pub fn latest<'a>(newest_first: impl Iterator<Item = &'a Arc<Finding>>) -> Option<&'a Arc<Finding>> {
    let mut any = None;
    for f in newest_first {
        if f.kind != FindingKind::RstIneffective {
            return Some(f);
        }
        any = any.or(Some(f));
    }
    any
}
