//! Alerts and dashboard speak of metrics, labels and values that the agent has, and Prometheus agrees with them.

mod common;

use common::files::{anchors, program, read, root, succeeded, yaml};
use common::findings::{degraded, desynchronised, ineffective, unread};
use common::source::Fake;
use monitor::cli::names::{CAUSES, CULPRITS};
use monitor::diagnose::{UNKNOWN, causes};
use monitor::expose::{View, metrics};
use monitor::store::Store;
use monitor_common::tracker::state::{Phase, kind};
use promql_parser::label::{MatchOp, Matcher};
use promql_parser::parser::{self, Expr, VectorSelector};
use promql_parser::util::{ExprVisitor, walk_expr};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::sync::Arc;

const ALERTS: &str = "deploy/prometheus/alerts.yaml";
const ALERT_TESTS: &str = "deploy/prometheus/alerts.test.yaml";
const DASHBOARD: &str = "deploy/grafana/whyrst.json";
const RUNBOOK: &str = "docs/diagnosis.md";
const PROMETHEUS: &str = "WHYRST_PROMETHEUS_DIR";

/// Labels that a scrape adds.
const TARGET_LABELS: [&str; 2] = ["instance", "job"];

/// Names of samples on the real page, with their labels and the values these have there.
type Page = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

fn page() -> Page {
    let store = Store::new(10);
    [desynchronised(1), ineffective(2), degraded(3), unread(4)].into_iter().for_each(|f| store.record(f));
    let view = View::new(Arc::new(Fake::default()), Arc::new(store));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let text = runtime.block_on(metrics::render(&view)).unwrap();
    let mut page = Page::new();
    for line in text.lines().filter(|l| !l.starts_with('#')) {
        let (name, labels) = match line.split_once('{') {
            Some((name, rest)) => (name, rest.split_once('}').unwrap().0),
            None => (line.split_once(' ').unwrap().0, ""),
        };
        let known = page.entry(name.to_owned()).or_default();
        for pair in labels.split("\",").filter(|p| !p.is_empty()) {
            let (label, value) = pair.split_once("=\"").unwrap();
            known.entry(label.to_owned()).or_default().insert(value.trim_end_matches('"').to_owned());
        }
    }
    // Values that exist before they occur.
    let registered = causes::ALL.iter().map(|c| c.name).chain([UNKNOWN]);
    for (name, labels) in &mut page {
        if let Some(values) = labels.get_mut("cause") {
            values.extend(registered.clone().map(str::to_owned));
            assert!(values.iter().all(|v| CAUSES.contains(&v.as_str())), "{name}");
        }
        if let Some(values) = labels.get_mut("culprit") {
            values.extend(CULPRITS.map(str::to_owned));
        }
        if let Some(values) = labels.get_mut("phase") {
            values.extend(Phase::ALL.map(|p| p.name().to_owned()));
        }
        if name == "whyrst_interface_attached" {
            labels
                .get_mut("ingress")
                .unwrap()
                .extend(["xdp_native", "xdp_generic", "tcx", "clsact", "none"].map(str::to_owned));
            labels.get_mut("egress").unwrap().extend(["tcx", "clsact", "none"].map(str::to_owned));
        }
    }
    page.insert("up".into(), BTreeMap::new());
    page
}

/// Checks selectors against a page, and collects their names.
struct Checker<'a> {
    page: &'a Page,
    expression: &'a str,
    names: BTreeSet<String>,
    labels: BTreeSet<String>,
    grouped: BTreeSet<String>,
}

impl Checker<'_> {
    fn selector(&mut self, selector: &VectorSelector) {
        let name = selector.name.as_ref().unwrap_or_else(|| panic!("a selector without a name in {}", self.expression));
        let labels = self.page.get(name).unwrap_or_else(|| panic!("no metric {name}: {}", self.expression));
        self.names.insert(name.clone());
        self.labels.extend(labels.keys().cloned().chain(TARGET_LABELS.map(str::to_owned)));
        for matcher in &selector.matchers.matchers {
            self.matcher(name, labels, matcher);
        }
    }

    fn matcher(&self, name: &str, labels: &BTreeMap<String, BTreeSet<String>>, matcher: &Matcher) {
        if TARGET_LABELS.contains(&matcher.name.as_str()) {
            return;
        }
        let expression = self.expression;
        let known = labels.get(&matcher.name).unwrap_or_else(|| panic!("{name} has no {}: {expression}", matcher.name));
        let values: Vec<_> = match matcher.op {
            MatchOp::Equal | MatchOp::NotEqual => vec![matcher.value.as_str()],
            MatchOp::Re(_) | MatchOp::NotRe(_) => matcher.value.split('|').collect(),
        };
        // An interface's name is free.
        for value in values.into_iter().filter(|_| matcher.name != "interface") {
            assert!(known.contains(value), "{name} has no {}={value}: {expression}", matcher.name);
        }
    }
}

impl ExprVisitor for Checker<'_> {
    type Error = ();

    fn pre_visit(&mut self, expr: &Expr) -> Result<bool, ()> {
        match expr {
            Expr::VectorSelector(selector) => self.selector(selector),
            Expr::MatrixSelector(matrix) => self.selector(&matrix.vs),
            Expr::Aggregate(aggregate) => {
                self.grouped.extend(aggregate.modifier.iter().flat_map(|m| m.labels().labels.clone()));
            }
            Expr::Binary(binary) => {
                let matching = binary.modifier.iter().filter_map(|m| m.matching.as_ref());
                self.grouped.extend(matching.flat_map(|m| m.labels().labels.clone()));
            }
            _ => {}
        }
        Ok(true)
    }
}

/// Names of the metrics in an expression; panics about what the page does not have. The second value are the labels
/// of these metrics.
fn checked(page: &Page, expression: &str) -> (BTreeSet<String>, BTreeSet<String>) {
    let parsed = parser::parse(expression).unwrap_or_else(|e| panic!("{e}: {expression}"));
    let mut checker =
        Checker { page, expression, names: BTreeSet::new(), labels: BTreeSet::new(), grouped: BTreeSet::new() };
    walk_expr(&mut checker, &parsed).unwrap();
    for label in &checker.grouped {
        assert!(checker.labels.contains(label), "no metric here has the label {label}: {expression}");
    }
    (checker.names, checker.labels)
}

fn rules() -> Vec<Value> {
    let groups = yaml(ALERTS).remove(0);
    groups["groups"].as_array().unwrap().iter().flat_map(|g| g["rules"].as_array().unwrap().clone()).collect()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("no {key} in {value}"))
}

/// The page with the recorded rules, and for each alert its expression's labels.
fn checked_rules() -> (Page, Vec<(Value, BTreeSet<String>)>) {
    let mut page = page();
    let mut alerts = Vec::new();
    for rule in rules() {
        let (names, labels) = checked(&page, text(&rule, "expr"));
        if let Some(recorded) = rule["record"].as_str() {
            let source = page[names.first().unwrap()].clone();
            page.insert(recorded.to_owned(), source);
        } else {
            alerts.push((rule, labels));
        }
    }
    (page, alerts)
}

#[test]
fn alerts_use_metrics_labels_and_values_that_exist() {
    let (_, alerts) = checked_rules();
    assert!(alerts.len() > 10);
    for (alert, labels) in &alerts {
        let annotations = &alert["annotations"];
        assert!(["info", "warning", "critical"].contains(&text(&alert["labels"], "severity")), "{alert}");
        for key in ["summary", "description", "runbook_url"] {
            for used in text(annotations, key).split("$labels.").skip(1) {
                let label: String = used.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                let absent = text(alert, "expr").starts_with("absent(");
                assert!(labels.contains(&label) && !absent, "{label} in {key} of {}", text(alert, "alert"));
            }
        }
    }
}

#[test]
fn every_alert_leads_to_a_section_of_the_runbook() {
    let (page, alerts) = checked_rules();
    let anchors = anchors(&read(RUNBOOK));
    let workspace: toml::Table = read("Cargo.toml").parse().unwrap();
    let repository = workspace["workspace"]["package"]["repository"].as_str().unwrap();
    let base = format!("{repository}/blob/main/{RUNBOOK}#");
    for (alert, _) in alerts {
        let url = text(&alert["annotations"], "runbook_url");
        let anchor = url.strip_prefix(&base).unwrap_or_else(|| panic!("{url}"));
        let expression = text(&alert, "expr");
        let targets: Vec<String> = match anchor {
            "{{ $labels.kind }}" => kind::NAMES[1..].iter().map(|k| (*k).to_owned()).collect(),
            "{{ $labels.cause }}" => match expression.split("cause=~\"").nth(1) {
                Some(rest) => rest.split('"').next().unwrap().split('|').map(str::to_owned).collect(),
                // Every cause of a desynchronisation may be reported as degraded, and no cause is without a section.
                None => page["whyrst_resets_total"]["cause"].iter().cloned().collect(),
            },
            fixed => vec![fixed.to_owned()],
        };
        for target in targets {
            assert!(anchors.contains(&target), "{}: {target}", text(&alert, "alert"));
        }
    }
}

#[test]
fn every_alert_is_tested_firing_and_silent() {
    let tests = yaml(ALERT_TESTS).remove(0);
    let (mut firing, mut silent) = (BTreeSet::new(), BTreeSet::new());
    for case in tests["tests"].as_array().unwrap().iter().flat_map(|t| t["alert_rule_test"].as_array().unwrap()) {
        let set = if case["exp_alerts"].as_array().unwrap().is_empty() { &mut silent } else { &mut firing };
        set.insert(text(case, "alertname").to_owned());
    }
    let known: BTreeSet<_> = rules().iter().filter_map(|r| Some(r["alert"].as_str()?.to_owned())).collect();
    assert_eq!(firing, known);
    assert_eq!(silent, known);
    // With series that the agent could give.
    let page = page();
    for series in tests["tests"].as_array().unwrap().iter().flat_map(|t| t["input_series"].as_array().unwrap()) {
        let series = text(series, "series");
        if !series.starts_with("up{") && !series.starts_with("whyrst_build_info{") {
            checked(&page, series);
        }
    }
}

#[test]
fn promtool_accepts_the_alerts_and_their_tests() {
    let Some(promtool) = program("promtool", PROMETHEUS) else { return };
    let folder = root().join("deploy/prometheus");
    let check = ["check", "rules", "--lint=all", "--lint-fatal", "alerts.yaml"];
    succeeded(Command::new(&promtool).args(check).current_dir(&folder));
    let said = succeeded(Command::new(&promtool).args(["test", "rules", "alerts.test.yaml"]).current_dir(&folder));
    assert!(said.contains("SUCCESS"), "{said}");
}

fn dashboard() -> Value {
    serde_json::from_str(&read(DASHBOARD)).unwrap()
}

fn panels(dashboard: &Value) -> &Vec<Value> {
    dashboard["panels"].as_array().unwrap()
}

/// Expressions with Grafana's variables filled in.
fn expressions(dashboard: &Value) -> Vec<String> {
    let targets = panels(dashboard).iter().filter_map(|p| p["targets"].as_array()).flatten();
    let filled = |t: &Value| {
        let expression = text(t, "expr").replace("$__rate_interval", "5m").replace("$job", "whyrst");
        let expression = expression.replace("$instance", ".+");
        assert!(!expression.contains('$'), "{expression}");
        expression
    };
    targets.map(filled).collect()
}

#[test]
fn the_dashboard_shows_every_metric_and_none_that_does_not_exist() {
    let page = page();
    let mut shown = BTreeSet::new();
    for expression in expressions(&dashboard()) {
        shown.extend(checked(&page, &expression).0);
    }
    for family in metrics::FAMILIES {
        let name = family.name;
        assert!(shown.contains(name) || shown.contains(&format!("{name}_bucket")), "{name} is not shown");
    }
}

#[test]
fn legends_of_the_dashboard_use_labels_that_are_left() {
    let dashboard = dashboard();
    let page = page();
    for target in panels(&dashboard).iter().filter_map(|p| p["targets"].as_array()).flatten() {
        let expression = text(target, "expr").replace("$__rate_interval", "5m");
        let (_, labels) = checked(&page, &expression);
        for label in text(target, "legendFormat").split("{{").skip(1).map(|l| l.split("}}").next().unwrap()) {
            assert!(labels.contains(label), "{label}: {expression}");
            let grouped = expression.contains(" by (");
            let lists = expression.split(" by (").skip(1).map(|l| l.split(')').next().unwrap());
            let kept: BTreeSet<_> = lists.flat_map(|l| l.split(", ")).collect();
            assert!(!grouped || kept.contains(label), "{label} is summed away: {expression}");
        }
    }
}

#[test]
fn prometheus_itself_parses_the_dashboard() {
    let Some(promtool) = program("promtool", PROMETHEUS) else { return };
    let rules = expressions(&dashboard()).into_iter().enumerate();
    let rules: Vec<_> = rules.map(|(i, e)| serde_json::json!({ "record": format!("panel:{i}"), "expr": e })).collect();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rules.yaml");
    // JSON is YAML.
    let groups = serde_json::json!({ "groups": [{ "name": "dashboard", "rules": rules }] });
    std::fs::write(&path, groups.to_string()).unwrap();
    succeeded(Command::new(&promtool).args(["check", "rules"]).arg(&path));
}

#[test]
fn the_dashboard_is_laid_out_and_can_be_imported() {
    let dashboard = dashboard();
    assert_eq!(dashboard["uid"], "whyrst");
    assert_eq!(dashboard["id"], Value::Null);
    // Grafana 10 and later; older ones are migrated forwards on import.
    assert!((36..=41).contains(&dashboard["schemaVersion"].as_u64().unwrap()));
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    let names: Vec<_> = variables.iter().map(|v| text(v, "name")).collect();
    assert_eq!(names, ["datasource", "job", "instance"]);
    assert_eq!((text(&variables[0], "type"), text(&variables[0], "query")), ("datasource", "prometheus"));
    let panels = panels(&dashboard);
    let ids: BTreeSet<_> = panels.iter().map(|p| p["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len());
    let rows: Vec<_> = panels.iter().filter(|p| p["type"] == "row").map(|p| text(p, "title")).collect();
    assert_eq!(rows, ["Overview", "Resets", "Desynchronisation", "Connections", "Traffic", "Agent"]);
    let mut taken = BTreeSet::new();
    for panel in panels {
        let at = |key: &str| panel["gridPos"][key].as_u64().unwrap();
        for (x, y) in (0..at("w")).flat_map(|x| (0..at("h")).map(move |y| (x, y))) {
            assert!(taken.insert((at("x") + x, at("y") + y)) && at("x") + x < 24, "{} overlaps", panel["title"]);
        }
        for target in panel["targets"].as_array().into_iter().flatten() {
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{}", panel["title"]);
        }
    }
}
