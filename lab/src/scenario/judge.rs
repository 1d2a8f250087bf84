//! Holds what was said against a check.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use super::Happened;
use super::check::{Answer, Check, Distance, Expect};
use crate::verdict::Verdict;

/// What one program said at one place.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub findings: Vec<Verdict>,
    /// How often segments showed an anomaly that was weighed as a fault, or why a connection that
    /// has no finding is not taken for healthy.
    pub faults: BTreeMap<String, u64>,
}

/// Every statement that is not as it should be; empty if all is right.
pub fn differences(check: &Check, happened: &Happened, seen: &Seen, live: bool) -> Vec<String> {
    match &check.expect {
        Expect::Nothing => of_nothing(seen),
        Expect::InStep => of_step(seen),
        Expect::Finding { .. } => of_finding(check, happened, seen, live),
    }
}

/// What was said about the connection in question, for people.
pub fn in_short(check: &Check, happened: &Happened, seen: &Seen) -> String {
    let kinds = match check.expect {
        Expect::Finding { kinds, .. } => kinds,
        Expect::Nothing | Expect::InStep => &[],
    };
    let own = of_connection(&seen.findings, happened);
    match own.iter().find(|finding| kinds.contains(&finding.kind.as_str())).or(own.first()) {
        Some(finding) => describe(finding),
        None if seen.findings.is_empty() => "no finding".into(),
        None => format!("about others only: {}", seen.findings.iter().map(describe).collect::<Vec<_>>().join("; ")),
    }
}

fn describe(finding: &Verdict) -> String {
    let distance = match &finding.desync {
        Some(desync) => format!("; {} of {}", desync.kind, desync.distance_bytes),
        None => String::new(),
    };
    format!(
        "{}: {}{} by {} as {}, {}{distance}",
        finding.kind,
        finding.cause,
        finding.variant.as_ref().map(|variant| format!(":{variant}")).unwrap_or_default(),
        finding.culprit,
        finding.mechanism,
        finding.confidence,
    )
}

fn of_nothing(seen: &Seen) -> Vec<String> {
    let findings = seen.findings.iter().map(|finding| format!("expected no finding, got {}", describe(finding)));
    let faults = seen.faults.iter().map(|(name, count)| format!("expected nothing hard, got {name} x{count}"));
    findings.chain(faults).collect()
}

/// Causes that say that the ends lost agreement (section "desync-preceded" of the handbook).
const DESYNC: [&str; 10] = [
    "seq_translation_fault",
    "payload_rewrite_fault",
    "sack_translation_fault",
    "window_scale_fault",
    "data_injection_desync",
    "endpoint_sequence_fault",
    "window_overrun",
    "window_shrink_stranding",
    "timestamp_regression",
    "desync_unattributed",
];

fn of_step(seen: &Seen) -> Vec<String> {
    let lost = |finding: &&Verdict| finding.desync.is_some() || DESYNC.contains(&finding.cause.as_str());
    let findings = seen.findings.iter().filter(lost);
    let findings = findings.map(|finding| format!("expected no desynchronisation, got {}", describe(finding)));
    let faults = seen.faults.iter().map(|(name, count)| format!("expected nothing hard, got {name} x{count}"));
    findings.chain(faults).collect()
}

fn of_connection<'a>(findings: &'a [Verdict], happened: &Happened) -> Vec<&'a Verdict> {
    let wanted = [happened.client, happened.server];
    let ends = |finding: &Verdict| [finding.client, finding.server].map(|end| SocketAddr::new(end.addr, end.port));
    findings.iter().filter(|finding| ends(finding) == wanted || ends(finding) == [wanted[1], wanted[0]]).collect()
}

fn of_finding(check: &Check, happened: &Happened, seen: &Seen, live: bool) -> Vec<String> {
    let Expect::Finding { kinds, answers, desync, kernel, least, sender, alone } = &check.expect else {
        return Vec::new();
    };
    let own = of_connection(&seen.findings, happened);
    let Some(finding) = own.iter().find(|finding| kinds.contains(&finding.kind.as_str())) else {
        let got = in_short(check, happened, seen);
        return vec![format!(
            "expected a {} of {} -> {}, got {got}",
            kinds.join("|"),
            happened.client,
            happened.server
        )];
    };
    let mut wrong = Vec::new();
    if !answers.iter().any(|answer| accepts(answer, finding)) {
        let wanted: Vec<_> = answers.iter().map(ToString::to_string).collect();
        wrong.push(format!("expected {}, got {}", wanted.join(", or "), describe(finding)));
    }
    if let Some(distance) = desync {
        wrong.extend(of_distance(*distance, finding));
    }
    if let (Some(reason), true) = (kernel, live) {
        let got = finding.kernel.as_ref().map(|kernel| kernel.reason.as_str());
        if !got.is_some_and(|got| reason.split('|').any(|one| one == got)) {
            wrong.push(format!("expected the kernel's reason {reason}, got {}", got.unwrap_or("none")));
        }
    }
    let least = if kernel.is_some() && live { least.1 } else { least.0 };
    if finding.confidence < least {
        wrong.push(format!("expected a confidence of at least {least}, got {}", finding.confidence));
    }
    if let (Some(sender), Some(reset)) = (sender, &finding.reset)
        && reset.sender != *sender
    {
        wrong.push(format!("expected a RST of the {sender}, got one of the {}", reset.sender));
    }
    if *alone {
        let others = own.iter().filter(|other| !kinds.contains(&other.kind.as_str()));
        wrong.extend(others.map(|other| format!("expected nothing else about it, got {}", describe(other))));
    }
    if let Some(cause) = check.considers
        && finding.cause != cause
        && !finding.also_considered.iter().any(|considered| considered.cause == cause)
    {
        let others: Vec<_> = finding.also_considered.iter().map(|considered| considered.cause.as_str()).collect();
        wrong.push(format!("expected {cause} to be considered, got [{}]", others.join(", ")));
    }
    wrong.extend(of_anomalies(check, finding));
    wrong
}

fn accepts(answer: &Answer, finding: &Verdict) -> bool {
    let among = |list: &[&str], value: &str| list.is_empty() || list.contains(&value);
    answer.cause == finding.cause
        && among(answer.variants, finding.variant.as_deref().unwrap_or("none"))
        && among(answer.culprits, &finding.culprit)
        && among(answer.mechanisms, &finding.mechanism)
}

fn of_distance(wanted: Distance, finding: &Verdict) -> Option<String> {
    let Some(got) = &finding.desync else {
        return Some(format!("expected a desynchronisation of kind {}, got none", wanted.kind));
    };
    // The sign depends on who is taken to be right.
    let near = |bytes: i64| (0..=wanted.short).contains(&(bytes.abs() - got.distance_bytes.abs()));
    let right = got.kind == wanted.kind && wanted.bytes.is_none_or(near);
    let bytes = wanted.bytes.map(|bytes| format!(" of {bytes}")).unwrap_or_default();
    (!right).then(|| format!("expected {}{bytes}, got {} of {}", wanted.kind, got.kind, got.distance_bytes))
}

fn of_anomalies(check: &Check, finding: &Verdict) -> Vec<String> {
    let anomalies = finding.anomalies.iter().map(|anomaly| anomaly.name.as_str());
    let evidence = finding.evidence.iter().map(|evidence| evidence.what.as_str());
    let shown: BTreeSet<_> = anomalies.chain(evidence).collect();
    let got =
        || if shown.is_empty() { "none".to_owned() } else { shown.iter().copied().collect::<Vec<_>>().join(", ") };
    let missing = check.shows.iter().filter(|name| !shown.contains(*name));
    let groups = check.shows_one_of.iter().filter(|group| !group.iter().any(|name| shown.contains(name)));
    let extra = check.shows_not.iter().filter(|name| shown.contains(*name));
    let hard = finding.anomalies.iter().filter(|anomaly| check.sound && anomaly.hard);
    missing
        .map(|name| format!("expected anomaly {name}, got {}", got()))
        .chain(groups.map(|group| format!("expected one of {}, got {}", group.join(", "), got())))
        .chain(extra.map(|name| format!("expected no anomaly {name}, but it is there")))
        .chain(hard.map(|anomaly| format!("expected nothing hard, got {} x{}", anomaly.name, anomaly.count)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::check::{View, at, cause};
    use crate::verdict;

    const LINE: &str = r#"{"type":"reset","version":1,"id":3,"client":{"addr":"10.0.0.1","port":1},"server":{"addr":"10.0.0.2","port":2},"reset":{"sender":"client","seq":9,"ack":0,"flags":"RST","shape":"other","effect":"exact"},"mechanism":"reply_to_ack","cause":"c","variant":"v","culprit":"client","confidence":60,"desync":{"kind":"offset","direction":"client_to_server","lead_ns":1,"expected":1,"actual":2,"distance_bytes":-7},"kernel":{"reason":"TCP_STATE","source":"x"},"anomalies":[{"name":"rexmit","direction":"client_to_server","count":1,"hard":false}],"also_considered":[{"cause":"d","confidence":35,"why_not":"w"}],"summary":"s","advice":"a"}"#;

    fn happened() -> Happened {
        let [client, server] = ["10.0.0.1:1", "10.0.0.2:2"].map(|end| end.parse().unwrap());
        Happened { client, server, told: String::new() }
    }

    fn seen() -> Seen {
        Seen { findings: verdict::parse_lines(LINE.as_bytes()).unwrap(), faults: BTreeMap::new() }
    }

    fn judged(check: Check, live: bool) -> Vec<String> {
        differences(&check, &happened(), &seen(), live)
    }

    #[test]
    fn a_right_verdict_has_no_differences() {
        let answer = cause("c").variants(&["v"]).culprits(&["client", "server"]).mechanisms(&["reply_to_ack"]);
        let check = at(View::Client)
            .accept(cause("other"))
            .accept(answer)
            .desync("offset", 7)
            .shows(&["rexmit"])
            .shows_one_of(&["x", "rexmit"])
            .shows_not(&["ack_storm"])
            .sent_by("client")
            .alone();
        assert!(judged(check, false).is_empty());
    }

    #[test]
    fn a_lower_bound_is_never_above_and_not_far_below() {
        let bound = |bytes, short| {
            let check = at(View::Client).accept(cause("c")).desync_bound("offset", bytes, short);
            judged(check, false).iter().filter(|d| d.contains("offset of")).count()
        };
        assert_eq!([bound(7, 0), bound(9, 2), bound(-9, 2)], [0, 0, 0]);
        assert_eq!([bound(10, 2), bound(6, 2)], [1, 1]);
    }

    #[test]
    fn every_wrong_statement_is_named() {
        let answer = cause("c").variants(&["w"]);
        let check = at(View::Client)
            .accept(answer)
            .desync("offset", 8)
            .kernel("NO_SOCKET")
            .shows(&["sack_unsent"])
            .shows_one_of(&["a", "b"])
            .shows_not(&["rexmit"])
            .sent_by("server");
        let wrong = judged(check.clone(), true);
        for part in [
            "c:w",
            "offset of 8",
            "NO_SOCKET",
            "at least 80",
            "sack_unsent",
            "a, b",
            "no anomaly rexmit",
            "RST of the server",
        ] {
            assert!(wrong.iter().any(|line| line.contains(part)), "{part} is missing in {wrong:#?}");
        }
        // From packets alone nobody can name a reason of the kernel.
        assert!(!judged(check, false).iter().any(|line| line.contains("NO_SOCKET") || line.contains("at least")));
    }

    #[test]
    fn a_sound_connection_may_show_soft_anomalies_only() {
        let check = at(View::Client).accept(cause("c")).sound();
        assert!(judged(check.clone(), false).is_empty());
        let mut seen = seen();
        seen.findings[0].anomalies[0].hard = true;
        assert_eq!(differences(&check, &happened(), &seen, false), ["expected nothing hard, got rexmit x1"]);
    }

    #[test]
    fn nothing_means_nothing() {
        let check = at(View::Client).nothing();
        assert_eq!(judged(check.clone(), true).len(), 1);
        let hard = Seen { findings: Vec::new(), faults: BTreeMap::from([("ack_unsent".to_owned(), 2)]) };
        assert_eq!(differences(&check, &happened(), &hard, true), ["expected nothing hard, got ack_unsent x2"]);
        assert!(differences(&check, &happened(), &Seen::default(), false).is_empty());
    }

    #[test]
    fn to_be_in_step_allows_every_cause_but_those_of_lost_agreement() {
        let check = at(View::Client).in_step();
        assert_eq!(judged(check.clone(), false).len(), 1, "it has a desync");
        let mut seen = seen();
        seen.findings[0].desync = None;
        assert!(differences(&check, &happened(), &seen, false).is_empty());
        seen.findings[0].cause = "window_overrun".into();
        assert_eq!(differences(&check, &happened(), &seen, false).len(), 1);
    }

    #[test]
    fn a_cause_is_considered_as_the_verdict_or_beside_it() {
        let check = at(View::Client).accept(cause("c"));
        assert!(judged(check.clone().considers("c"), false).is_empty());
        assert!(judged(check.clone().considers("d"), false).is_empty());
        assert_eq!(judged(check.considers("e"), false), ["expected e to be considered, got [d]"]);
    }

    #[test]
    fn another_connection_is_not_this_one() {
        let other = Happened { client: "10.0.0.9:1".parse().unwrap(), ..happened() };
        let wrong = differences(&at(View::Client).accept(cause("c")), &other, &seen(), false);
        assert!(wrong[0].contains("about others only"), "{wrong:?}");
    }
}
