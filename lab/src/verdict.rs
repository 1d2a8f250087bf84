//! What the program under test says, read from its JSON contract (`docs/json.md`), and what it should say.
//!
//! Written down here anew rather than taken from the program's own types: the contract is what we judge.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde::Deserialize;

use crate::LabError;
use crate::seq::SeqNum;
use crate::story::{Facts, Outcome};

/// The version of the contract that is understood here.
const VERSION: u32 = 1;

/// A finding, as far as the stories can judge it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Verdict {
    #[serde(rename = "type")]
    pub kind: String,
    pub version: u32,
    pub id: u64,
    pub client: Endpoint,
    pub server: Endpoint,
    pub reset: Option<Reset>,
    #[serde(default)]
    pub mechanism: String,
    pub cause: String,
    pub variant: Option<String>,
    pub culprit: String,
    pub confidence: u8,
    pub desync: Option<Desync>,
    pub kernel: Option<Kernel>,
    #[serde(default)]
    pub anomalies: Vec<Anomaly>,
    #[serde(default)]
    pub also_considered: Vec<Considered>,
    #[serde(default)]
    pub evidence: Vec<Evidence>,
    pub summary: String,
    pub advice: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Endpoint {
    pub addr: IpAddr,
    pub port: u16,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Reset {
    pub sender: String,
    pub seq: u32,
    pub ack: u32,
    pub flags: String,
    pub shape: String,
    pub effect: String,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Desync {
    pub kind: String,
    pub direction: String,
    pub lead_ns: u64,
    pub expected: u32,
    pub actual: u32,
    pub distance_bytes: i64,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Kernel {
    pub reason: String,
    pub source: String,
}

/// One item of the chain; `what` is an anomaly or a test of forged resets, among others.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Evidence {
    pub what: String,
    pub text: String,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Considered {
    pub cause: String,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Anomaly {
    pub name: String,
    pub direction: String,
    pub count: u32,
    pub hard: bool,
}

/// Findings among the JSON Lines of `resets` or `analyze`; other objects are passed over.
pub fn parse_lines(text: &[u8]) -> Result<Vec<Verdict>, LabError> {
    let odd = |error: serde_json::Error| LabError::Plot(format!("output that is not the JSON contract: {error}"));
    let mut verdicts = Vec::new();
    for line in text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
        let value: serde_json::Value = serde_json::from_slice(line).map_err(odd)?;
        if value["version"] != VERSION {
            return Err(LabError::Plot(format!("an object of version {}, not {VERSION}", value["version"])));
        }
        if matches!(value["type"].as_str(), Some("reset" | "rst_ineffective" | "degraded")) {
            verdicts.push(serde_json::from_value(value).map_err(odd)?);
        }
    }
    Ok(verdicts)
}

impl Verdict {
    pub fn is_reset(&self) -> bool {
        self.kind == "reset"
    }

    /// `cause (variant), culprit x`
    pub fn in_short(&self) -> String {
        short(&self.cause, self.variant.as_deref(), &self.culprit)
    }

    /// Where two verdicts on one reset disagree about what happened. Confidence may differ: they are
    /// given in different places.
    pub fn disagreements(&self, other: &Self) -> Vec<Difference> {
        let numbers = |verdict: &Self| {
            verdict
                .desync
                .as_ref()
                .map(|d| (d.kind.clone(), d.direction.clone(), d.expected, d.actual, d.distance_bytes))
        };
        let reset = |verdict: &Self| verdict.reset.as_ref().map(|r| (r.sender.clone(), r.seq, r.flags.clone()));
        let mut found = Differences::default();
        found.compare("type", &self.kind, &other.kind);
        found.compare("client", &self.client, &other.client);
        found.compare("server", &self.server, &other.server);
        found.compare("cause", &self.cause, &other.cause);
        found.compare("variant", &self.variant, &other.variant);
        found.compare("culprit", &self.culprit, &other.culprit);
        found.compare("desync", &numbers(self), &numbers(other));
        found.compare("reset", &reset(self), &reset(other));
        found.0
    }
}

fn short(cause: &str, variant: Option<&str>, culprit: &str) -> String {
    match variant {
        Some(variant) => format!("{cause} ({variant}), culprit {culprit}"),
        None => format!("{cause}, culprit {culprit}"),
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        SocketAddr::new(self.addr, self.port).fmt(f)
    }
}

/// One statement that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    pub what: &'static str,
    pub expected: String,
    pub got: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: expected {}, got {}", self.what, self.expected, self.got)
    }
}

#[derive(Default)]
struct Differences(Vec<Difference>);

impl Differences {
    fn compare<T: PartialEq + fmt::Debug>(&mut self, what: &'static str, expected: &T, got: &T) {
        if expected != got {
            self.0.push(Difference { what, expected: format!("{expected:?}"), got: format!("{got:?}") });
        }
    }
}

/// The right answer, from what the story knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    pub client: SocketAddr,
    pub server: SocketAddr,
    pub cause: &'static str,
    pub variant: Option<&'static str>,
    pub culprit: &'static str,
    /// Who sent the RST, and its sequence number where the story knows it.
    pub sender: &'static str,
    pub rst_seq: Option<SeqNum>,
    pub desync: Option<ExpectedDesync>,
    /// Resets in this story, all of them; the first is the one in question, others follow from it.
    pub resets: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpectedDesync {
    pub kind: &'static str,
    pub direction: &'static str,
    pub expected: SeqNum,
    pub actual: SeqNum,
}

impl Expected {
    pub fn of(outcome: &Outcome) -> Self {
        match &outcome.facts {
            Facts::Sequence(facts) => Self {
                client: facts.client,
                server: facts.server,
                cause: "endpoint_sequence_fault",
                variant: Some("gap_never_sent"),
                culprit: "client",
                sender: "client",
                rst_seq: Some(facts.rst_seq),
                desync: Some(ExpectedDesync {
                    kind: "gap",
                    direction: "client_to_server",
                    expected: facts.hole_start,
                    actual: facts.hole_end,
                }),
                resets: 1,
            },
            Facts::Nat(facts) => Self {
                client: facts.client,
                server: facts.server,
                cause: "nat_state_fault",
                variant: Some("bypass"),
                culprit: "middlebox",
                sender: "client",
                rst_seq: Some(facts.rst_seq),
                desync: None,
                // The second one tells the client, when it asks, that its server is gone.
                resets: 2,
            },
            Facts::Unread(facts) => Self {
                client: facts.client,
                server: facts.server,
                cause: "close_with_unread_data",
                variant: None,
                culprit: "server",
                sender: "server",
                rst_seq: None,
                desync: None,
                resets: 1,
            },
        }
    }

    pub fn in_short(&self) -> String {
        short(self.cause, self.variant, self.culprit)
    }

    /// The verdict on the reset in question: the first reset between these two.
    pub fn find<'a>(&self, verdicts: &'a [Verdict]) -> Result<&'a Verdict, LabError> {
        let ends = |verdict: &Verdict| [verdict.client, verdict.server].map(|end| SocketAddr::new(end.addr, end.port));
        let between = |verdict: &Verdict| {
            ends(verdict) == [self.client, self.server] || ends(verdict) == [self.server, self.client]
        };
        verdicts.iter().find(|verdict| verdict.is_reset() && between(verdict)).ok_or_else(|| {
            let found: Vec<_> = verdicts.iter().map(|v| format!("{} {}", v.kind, v.in_short())).collect();
            LabError::Plot(format!(
                "no verdict on a reset between {} and {}; there are: [{}]",
                self.client,
                self.server,
                found.join("; ")
            ))
        })
    }

    /// Where the verdict is wrong.
    pub fn differences(&self, verdict: &Verdict) -> Vec<Difference> {
        let mut found = Differences::default();
        let text = |name: &str| name.to_owned();
        found.compare("client", &self.client.to_string(), &verdict.client.to_string());
        found.compare("server", &self.server.to_string(), &verdict.server.to_string());
        found.compare("cause", &text(self.cause), &verdict.cause);
        found.compare("variant", &self.variant.map(text), &verdict.variant);
        found.compare("culprit", &text(self.culprit), &verdict.culprit);
        if let Some(reset) = &verdict.reset {
            found.compare("sender of the RST", &text(self.sender), &reset.sender);
            let seq = self.rst_seq.map_or(reset.seq, |seq| seq.0);
            found.compare("sequence number of the RST", &seq, &reset.seq);
            found.compare("effect of the RST", &text("exact"), &reset.effect);
        }
        let numbers = |kind: &str, direction: &str, expected, actual, distance: i64| {
            (text(kind), text(direction), expected, actual, distance)
        };
        let expected = self.desync.as_ref().map(|d| {
            let distance = i64::from(d.actual.distance(d.expected));
            numbers(d.kind, d.direction, d.expected.0, d.actual.0, distance)
        });
        let got =
            verdict.desync.as_ref().map(|d| numbers(&d.kind, &d.direction, d.expected, d.actual, d.distance_bytes));
        found.compare("desync (kind, direction, expected, actual, distance)", &expected, &got);
        found.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"{"type":"reset","version":1,"id":3,"client":{"addr":"10.0.0.1","port":1},
        "server":{"addr":"10.0.0.2","port":2},"reset":{"sender":"client","seq":9,"ack":0,"flags":"RST",
        "shape":"other","effect":"exact","new_field":1},"cause":"c","variant":null,"culprit":"client",
        "confidence":60,"desync":null,"kernel":null,"summary":"s","advice":"a"}"#;

    fn line() -> String {
        LINE.replace('\n', "")
    }

    #[test]
    fn findings_are_read_and_other_objects_passed_over() {
        let text = format!("{}\n{}\n", line(), r#"{"type":"summary","version":1,"packets":4}"#);
        let verdicts = parse_lines(text.as_bytes()).unwrap();
        assert_eq!(verdicts.len(), 1);
        assert!(verdicts[0].is_reset());
        assert_eq!(verdicts[0].in_short(), "c, culprit client");
    }

    #[test]
    fn another_version_of_the_contract_is_refused() {
        let text = line().replace("\"version\":1", "\"version\":2");
        assert!(parse_lines(text.as_bytes()).is_err());
        assert!(parse_lines(b"{").is_err());
    }

    #[test]
    fn a_wrong_verdict_is_shown_with_both_values() {
        let verdict = &parse_lines(line().as_bytes()).unwrap()[0];
        let expected = Expected {
            client: "10.0.0.1:1".parse().unwrap(),
            server: "10.0.0.2:2".parse().unwrap(),
            cause: "d",
            variant: None,
            culprit: "client",
            sender: "client",
            rst_seq: Some(SeqNum(8)),
            desync: None,
            resets: 1,
        };
        let found: Vec<_> = expected.differences(verdict).iter().map(Difference::to_string).collect();
        let cause = r#"cause: expected "d", got "c""#;
        assert_eq!(found, [cause, "sequence number of the RST: expected 8, got 9"]);
        assert_eq!(expected.find(&parse_lines(line().as_bytes()).unwrap()).unwrap().id, 3);
    }

    #[test]
    fn equal_verdicts_do_not_disagree() {
        let first = parse_lines(line().as_bytes()).unwrap().remove(0);
        let mut second = first.clone();
        second.confidence = 80;
        assert_eq!(first.disagreements(&second), []);
        second.culprit = "server".into();
        assert_eq!(first.disagreements(&second)[0].what, "culprit");
    }
}
