//! The documentation says what the program does: verbs, options, exit codes, metrics, JSON fields.

mod common;

use clap::CommandFactory;
use common::agent::{Agent, out, run};
use common::findings::{degraded, desynchronised, endpoint, unread};
use common::source::Fake;
use monitor::api::rows::ConnectionReport;
use monitor::api::status::StatusReport;
use monitor::capture::replay::{ConnectionLine, SegmentLine, Summary};
use monitor::cli::Cli;
use monitor::cli::names::{CAUSES, CULPRITS};
use monitor::error::Exit;
use monitor::expose::metrics;
use monitor::finding::{Finding, Similar};
use monitor::groups::{Group, Groups};
use monitor_common::Anomaly;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

const CLI: &str = include_str!("../../docs/cli.md");
const JSON: &str = include_str!("../../docs/json.md");
const METRICS: &str = include_str!("../../docs/metrics.md");

/// Rows of all tables: cells without their backticks.
fn rows(text: &str) -> Vec<Vec<String>> {
    let lines = text.lines().filter_map(|l| l.strip_prefix('|')?.strip_suffix('|'));
    let cells = |l: &str| l.split('|').map(|cell| cell.trim().replace('`', "")).collect::<Vec<_>>();
    lines.map(cells).filter(|row| !row[0].starts_with("---")).collect()
}

/// The part below a heading of the second level.
fn section<'a>(text: &'a str, heading: &str) -> &'a str {
    let start = text.find(&format!("\n## {heading}\n")).unwrap_or_else(|| panic!("no section {heading}"));
    let rest = &text[start + 4..];
    &rest[..rest.find("\n## ").unwrap_or(rest.len())]
}

#[test]
fn every_verb_and_option_is_documented_and_none_that_is_not_there() {
    let mut command = Cli::command();
    command.build();
    let verbs: BTreeSet<_> = command.get_subcommands().map(|c| c.get_name().to_owned()).collect();
    let headings = CLI.lines().filter_map(|l| l.strip_prefix("## `whyrst ")?.strip_suffix('`'));
    assert_eq!(headings.map(str::to_owned).collect::<BTreeSet<_>>(), verbs);
    for verb in command.get_subcommands() {
        let part = section(CLI, &format!("`whyrst {}`", verb.get_name()));
        let documented: BTreeSet<_> = rows(part)
            .iter()
            .flat_map(|row| row[0].split(", ").map(str::to_owned).collect::<Vec<_>>())
            .filter(|name| name.starts_with("--"))
            .collect();
        let known = verb.get_arguments().filter(|a| !a.is_global_set()).filter_map(|a| a.get_long());
        let known = known.filter(|name| !["help", "version"].contains(name));
        assert_eq!(documented, known.map(|name| format!("--{name}")).collect(), "{}", verb.get_name());
    }
}

#[test]
fn exit_codes_are_the_same_in_documentation_help_and_program() {
    let documented: BTreeMap<_, _> =
        rows(section(CLI, "Exit codes")).into_iter().map(|r| (r[0].clone(), r[1].clone())).collect();
    let help = out(&run(&["--help"]));
    for exit in Exit::ALL {
        let code = (exit as u8).to_string();
        assert_eq!(documented.get(&code).map(String::as_str), Some(exit.meaning()));
        assert!(help.contains(&format!("  {code}  {}\n", exit.meaning())), "{help}");
    }
    // And the row of the headings.
    assert_eq!(documented.keys().filter(|k| k.parse::<u8>().is_ok()).count(), Exit::ALL.len());
}

#[test]
fn every_metric_is_documented_with_its_type_and_labels_and_none_that_is_not_there() {
    let table = rows(METRICS);
    let documented: BTreeMap<_, _> = table
        .iter()
        .filter(|r| r[0].starts_with("whyrst_"))
        .map(|r| {
            let labels: Vec<_> = r[2].split(", ").filter(|l| !l.is_empty()).map(str::to_owned).collect();
            (r[0].clone(), (r[1].clone(), labels))
        })
        .collect();
    let known: BTreeMap<_, _> = metrics::FAMILIES
        .iter()
        .map(|f| {
            let labels = f.labels.iter().map(|l| (*l).to_owned()).collect();
            (f.name.to_owned(), (format!("{:?}", f.kind).to_lowercase(), labels))
        })
        .collect();
    assert_eq!(documented, known);
}

#[test]
fn the_process_metrics_of_the_page_are_documented() {
    let agent = Agent::with([desynchronised(1), degraded(2)]);
    let page = agent.runtime().block_on(metrics::render(&agent.view)).unwrap();
    let names: Vec<_> = page.lines().filter_map(|l| l.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    for name in &names {
        assert!(METRICS.contains(&format!("`{name}`")), "{name}");
    }
    assert_eq!(names.iter().filter(|n| n.starts_with("whyrst_")).count(), metrics::FAMILIES.len());
}

/// The examples of the documentation by their type.
fn examples() -> BTreeMap<String, Value> {
    let blocks = JSON.split("```json\n").skip(1).map(|b| b.split("```").next().unwrap());
    let objects = blocks.map(|b| serde_json::from_str::<Value>(b).unwrap_or_else(|e| panic!("{e} in {b}")));
    objects.map(|o| (o["type"].as_str().unwrap().to_owned(), o)).collect()
}

/// Names of fields, nested ones as `reset.seq`; keys of maps from names to counts are data.
fn fields(value: &Value) -> BTreeSet<String> {
    const MAPS: [&str; 7] =
        ["unreadable", "by_phase", "by_sync", "desynchronised", "unparsed", "evictions", "tracepoints"];
    let mut out = BTreeSet::new();
    match value {
        Value::Object(map) => {
            for (key, inner) in map {
                out.insert(key.clone());
                if !MAPS.contains(&key.as_str()) {
                    out.extend(fields(inner).iter().map(|f| format!("{key}.{f}")));
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| out.extend(fields(item))),
        _ => {}
    }
    out
}

/// One object of each type as the program writes it, with everything present.
fn written() -> BTreeMap<&'static str, Value> {
    let agent = Agent::with([unread(1)]);
    let similar = Some(Similar { count: 1, first_ns: 1, last_ns: 1 });
    let finding = Finding { file: Some("x".into()), kernel: unread(1).kernel, similar, ..desynchronised(1) };
    let row = Fake::default().rows.remove(0);
    let segment = SegmentLine {
        kind: "segment",
        version: 1,
        frame: 1,
        time_ns: 1,
        src: endpoint("1.1.1.1:1"),
        dst: endpoint("1.1.1.1:2"),
        seq: 1,
        ack: 1,
        len: 1,
        flags: 1,
        window: 1,
        anomalies: vec![],
        hard: Default::default(),
    };
    let connection = ConnectionLine { kind: "connection", version: 1, first_ns: 1, last_ns: 1, row };
    let doctor: Value = serde_json::from_str(&out(&run(&["doctor", "-o", "json"]))).unwrap();
    [
        ("reset", json!(finding)),
        ("group", json!(group())),
        ("connection", json!(connection)),
        ("segment", json!(segment)),
        ("summary", json!(Summary::default())),
        ("status", agent.json(&["status"]).remove(0)),
        ("doctor", doctor),
        ("lost", json!({ "type": "lost", "version": 1, "findings": 1 })),
    ]
    .into()
}

fn group() -> Group {
    let mut groups = Groups::default();
    groups.add(&Finding { file: Some("x".into()), ..desynchronised(1) });
    groups.finish().remove(0)
}

#[test]
fn examples_have_exactly_the_fields_that_the_program_writes() {
    let (examples, written) = (examples(), written());
    assert_eq!(examples.keys().collect::<Vec<_>>(), written.keys().collect::<Vec<_>>());
    for (name, object) in &written {
        assert_eq!(fields(&examples[*name]), fields(object), "{name}");
    }
}

#[test]
fn every_field_is_explained_in_the_section_of_its_object() {
    for (name, object) in written() {
        let heading =
            if name == "reset" { "`reset`, `rst_ineffective`, `degraded`".into() } else { format!("`{name}`") };
        let part = section(JSON, &heading);
        let prose = part.split("```json").next().unwrap().to_owned() + part.split("```").last().unwrap();
        for field in fields(&object) {
            let own = field.rsplit('.').next().unwrap();
            // What every object has, or what another section explains.
            let common = ["type", "version", "client", "server", "addr", "port", "community_id"].contains(&own);
            assert!(
                common || prose.contains(&format!("`{own}`")) || prose.contains(&format!("`{own}")),
                "{name}: {field}"
            );
        }
    }
}

#[test]
fn examples_can_be_read_back() {
    let examples = examples();
    let read = |name: &str| examples[name].clone();
    serde_json::from_value::<Finding>(read("reset")).unwrap();
    serde_json::from_value::<Group>(read("group")).unwrap();
    serde_json::from_value::<ConnectionReport>(read("connection")).unwrap();
    serde_json::from_value::<StatusReport>(read("status")).unwrap();
}

#[test]
fn every_cause_culprit_and_anomaly_is_named() {
    let names = CAUSES.into_iter().chain(CULPRITS).chain(Anomaly::ALL.iter().map(|a| a.name()));
    for name in names {
        assert!(JSON.contains(&format!("`{name}`")), "{name}");
    }
}
