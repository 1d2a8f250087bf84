//! What the kernel of a namespace has counted: the independent witness of what happened in it.

use std::collections::BTreeMap;

use crate::LabError;
use crate::error::During;
use crate::netns::Namespace;

/// Counters of `/proc/net/netstat` and `/proc/net/snmp`, all from zero since every scenario has
/// namespaces of its own.
pub struct Counters(BTreeMap<String, i64>);

impl Counters {
    pub fn read(namespace: &Namespace) -> Result<Self, LabError> {
        let mut counters = BTreeMap::new();
        for table in ["netstat", "snmp"] {
            let path = format!("/proc/thread-self/net/{table}");
            let text = namespace.run(|| std::fs::read_to_string(&path))?.during(format!("read {path}"))?;
            counters.extend(parse(&text));
        }
        Ok(Self(counters))
    }

    /// By the name that `nstat` shows, for instance `TcpExtTCPAbortOnClose` or `TcpOutRsts`.
    pub fn get(&self, name: &str) -> Result<i64, LabError> {
        let missing = || LabError::Plot(format!("this kernel has no counter {name}"));
        self.0.get(name).copied().ok_or_else(missing)
    }

    /// Fails if a counter of the namespace is not what the scenario needs.
    pub fn expect(namespace: &Namespace, wanted: &[(&str, i64)]) -> Result<(), LabError> {
        Self::check(namespace, wanted, "", |found, value| found == value)
    }

    /// The same where more may come of it.
    pub fn at_least(namespace: &Namespace, wanted: &[(&str, i64)]) -> Result<(), LabError> {
        Self::check(namespace, wanted, "at least ", |found, value| found >= value)
    }

    fn check(
        namespace: &Namespace,
        wanted: &[(&str, i64)],
        words: &str,
        right: impl Fn(i64, i64) -> bool,
    ) -> Result<(), LabError> {
        let counters = Self::read(namespace)?;
        for &(name, value) in wanted {
            let found = counters.get(name)?;
            if !right(found, value) {
                let place = namespace.name();
                return Err(LabError::Plot(format!("{place} counts {found} for {name} instead of {words}{value}")));
            }
        }
        Ok(())
    }
}

/// Pairs of lines: a line of names and a line of values, both after the same prefix.
fn parse(text: &str) -> BTreeMap<String, i64> {
    let mut counters = BTreeMap::new();
    let mut lines = text.lines();
    while let (Some(names), Some(values)) = (lines.next(), lines.next()) {
        let mut names = names.split_whitespace();
        let Some(prefix) = names.next().and_then(|word| word.strip_suffix(':')) else { continue };
        for (name, value) in names.zip(values.split_whitespace().skip(1)) {
            if let Ok(value) = value.parse() {
                counters.insert(format!("{prefix}{name}"), value);
            }
        }
    }
    counters
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_come_in_pairs_of_lines() {
        let text =
            "TcpExt: SyncookiesSent TCPAbortOnClose\nTcpExt: 0 7\nIpExt: InOctets\nIpExt: 12\nTcp: MaxConn\nTcp: -1\n";
        let counters = parse(text);
        assert_eq!(counters.len(), 4);
        assert_eq!(counters["TcpExtTCPAbortOnClose"], 7);
        assert_eq!(counters["IpExtInOctets"], 12);
        assert_eq!(counters["TcpMaxConn"], -1);
    }
}
