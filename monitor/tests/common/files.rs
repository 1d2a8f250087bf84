//! Files of the repository, and programs of others that look at them.

use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::path::PathBuf;
use yaml_rust2::{Yaml, YamlLoader};

pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

pub fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// The documents of a YAML file.
pub fn yaml(path: &str) -> Vec<Value> {
    let documents = YamlLoader::load_from_str(&read(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
    documents.iter().map(value).collect()
}

fn value(yaml: &Yaml) -> Value {
    match yaml {
        Yaml::Real(text) => Value::from(text.parse::<f64>().unwrap()),
        Yaml::Integer(n) => Value::from(*n),
        Yaml::String(text) => Value::from(text.as_str()),
        Yaml::Boolean(b) => Value::from(*b),
        Yaml::Array(items) => items.iter().map(value).collect(),
        Yaml::Hash(map) => {
            let text = |key: &Yaml| key.as_str().expect("keys are strings").to_owned();
            Value::Object(map.iter().map(|(k, v)| (text(k), value(v))).collect::<Map<_, _>>())
        }
        Yaml::Null => Value::Null,
        Yaml::Alias(_) | Yaml::BadValue => panic!("{yaml:?}"),
    }
}

/// Headings of this level of a Markdown text, in order.
pub fn headings(text: &str, level: usize) -> Vec<&str> {
    let prefix = format!("{} ", "#".repeat(level));
    prose(text).filter_map(|l| l.strip_prefix(prefix.as_str())).collect()
}

/// The part below a heading, up to the next of its level or above.
pub fn section<'a>(text: &'a str, heading: &str) -> &'a str {
    let level = heading.chars().take_while(|c| *c == '#').count();
    let start = text.find(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("no section {heading}"));
    let rest = &text[start + 1 + heading.len()..];
    let end = (1..=level).filter_map(|l| rest.find(&format!("\n{} ", "#".repeat(l)))).min();
    &rest[..end.unwrap_or(rest.len())]
}

/// Lines outside of code.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut code = false;
    text.lines().filter(move |l| {
        let fence = l.starts_with("```");
        code ^= fence;
        !code && !fence
    })
}

/// What links to headings of the text are called on the usual forges.
pub fn anchors(text: &str) -> BTreeSet<String> {
    let headings = (1..=4).flat_map(|level| headings(text, level));
    headings
        .map(|h| {
            let kept =
                h.to_lowercase().chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).collect::<String>();
            kept.replace(' ', "-")
        })
        .collect()
}

/// Rows of all tables without their headers: cells without their backticks.
pub fn rows(text: &str) -> Vec<Vec<String>> {
    let cells = |l: &str| Some(l.strip_prefix('|')?.strip_suffix('|')?.split('|').map(cell).collect::<Vec<_>>());
    let cell_rows: Vec<_> = prose(text).map(cells).collect();
    let rules: Vec<_> =
        cell_rows.iter().map(|row| row.as_ref().is_some_and(|r| r[0].starts_with("---"))).chain([false]).collect();
    let keep = cell_rows.into_iter().enumerate().filter(|(i, _)| !rules[*i] && !rules[i + 1]);
    keep.filter_map(|(_, row)| row).collect()
}

fn cell(text: &str) -> String {
    text.trim().replace('`', "")
}

/// A program from the folder that the variable names, or from PATH. Without it the test is skipped, except in CI.
pub fn program(name: &str, folder_variable: &str) -> Option<PathBuf> {
    let folder = std::env::var_os(folder_variable).map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = folder.into_iter().chain(std::env::split_paths(&path)).map(|d| d.join(name)).find(|p| p.is_file());
    if found.is_none() {
        println!("skipped: {name} not found");
        assert!(
            std::env::var_os("CI").is_none(),
            "CI runs everything: install {name}, or name its folder in {folder_variable}"
        );
    }
    found
}

/// Panics with the program's own words if it failed.
pub fn succeeded(command: &mut std::process::Command) -> String {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{command:?}: {}\n{said}", output.status);
    said
}
