//! README, docs/architecture.md and docs/diagnosis.md say what the program does and has.

mod common;

use clap::Parser;
use common::agent::whyrst;
use common::files::{anchors, headings, read, root, rows, section};
use monitor::cli::Cli;
use monitor::cli::names::{CAUSES, KINDS};
use monitor::diagnose::{UNKNOWN, causes};
use monitor_common::Anomaly;
use monitor_common::anomaly::Level;
use monitor_common::parse::Reason;
use monitor_common::tracker::state::kind;
use std::collections::BTreeSet;

const README: &str = "README.md";
const ARCHITECTURE: &str = "docs/architecture.md";
const DIAGNOSIS: &str = "docs/diagnosis.md";

/// Words in backticks.
fn quoted(text: &str) -> BTreeSet<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

fn registry() -> Vec<&'static str> {
    causes::ALL.iter().map(|c| c.name).collect()
}

#[test]
fn every_cause_has_its_section_in_order_of_precedence_and_no_other_has() {
    let text = read(DIAGNOSIS);
    let causes: Vec<_> = registry().into_iter().chain([UNKNOWN]).collect();
    assert_eq!(headings(section(&text, "## Causes"), 3), causes);
    for cause in causes {
        let part = section(&text, &format!("### {cause}"));
        for item in ["* **Looks like**: ", "* **Means**: ", "* **Check**: "] {
            assert!(part.contains(item), "{cause}: {item}");
        }
    }
    assert!(text.contains(&format!("`{}`", KINDS[1])));
}

/// The item of a section that begins so, up to the next.
fn item<'a>(section: &'a str, begin: &str) -> Option<&'a str> {
    let rest = section.split_once(begin)?.1;
    Some(rest.split("\n* **").next().unwrap())
}

#[test]
fn every_variant_is_explained_in_the_section_of_its_cause_and_no_other_is() {
    let text = read(DIAGNOSIS);
    for cause in registry().into_iter().chain([UNKNOWN]) {
        let part = section(&text, &format!("### {cause}"));
        let named = item(part, "* **Variants**: ").map(quoted).unwrap_or_default();
        let known = causes::VARIANTS.iter().find(|(name, _)| *name == cause).map_or(&[][..], |(_, v)| *v);
        assert_eq!(named, known.iter().copied().collect(), "{cause}");
    }
}

#[test]
fn every_cause_of_the_contract_has_a_rule_and_the_readme_names_them() {
    let known = registry();
    let contract: BTreeSet<_> = CAUSES.into_iter().filter(|c| *c != UNKNOWN).collect();
    assert_eq!(known.iter().copied().collect::<BTreeSet<_>>(), contract);
    let readme = read(README);
    let limits = section(&readme, "## Limits");
    let first = limits.trim_start().split("\n* ").next().unwrap();
    assert_eq!(quoted(first), known.iter().copied().collect());
    assert!(first.starts_with(&format!("* {} causes ", known.len())), "{first}");
}

#[test]
fn every_kind_of_desynchronisation_has_its_section() {
    let text = read(DIAGNOSIS);
    assert_eq!(headings(section(&text, "## Kinds of desynchronisation"), 3), kind::NAMES[1..]);
}

#[test]
fn the_table_of_anomalies_is_the_catalogue() {
    let level = |a: &Anomaly| match a.level() {
        Level::Soft => "soft",
        Level::Hard => "hard",
        Level::Meta => "meta",
    };
    let text = read(DIAGNOSIS);
    let table = rows(section(&text, "## Anomalies"));
    let documented: Vec<_> = table.iter().map(|r| (r[0].as_str(), r[1].as_str())).collect();
    assert_eq!(documented, Anomaly::ALL.iter().map(|a| (a.name(), level(a))).collect::<Vec<_>>());
    assert!(table.iter().all(|r| !r[2].is_empty()));
}

#[test]
fn reasons_of_unreadable_packets_are_named() {
    let text = read(DIAGNOSIS);
    let part = section(&text, "### Packets cannot be read");
    let names = quoted(part);
    for reason in Reason::ALL.iter().filter(|r| r.is_failure()).map(|r| r.name()) {
        let covered = names.iter().any(|n| n.strip_suffix('*').map_or(*n == reason, |start| reason.starts_with(start)));
        assert!(covered, "{reason}");
    }
}

/// The statics of the kernel programs with `#[btf_map]`, in order.
fn maps() -> Vec<String> {
    let source = read("monitor-ebpf/src/maps.rs");
    let after = source.split("#[btf_map]\n").skip(1);
    after.map(|s| s.trim_start_matches("pub static ").split(':').next().unwrap().to_owned()).collect()
}

#[test]
fn both_tables_of_maps_are_those_of_the_kernel_programs() {
    let maps = maps();
    assert!(maps.len() > 5, "{maps:?}");
    let names = |text: &str| rows(text).into_iter().map(|r| r[0].clone()).collect::<Vec<_>>();
    let (architecture, readme) = (read(ARCHITECTURE), read(README));
    assert_eq!(names(section(&architecture, "## Maps")), maps);
    let named: Vec<_> = names(section(&readme, "## How it works"));
    assert_eq!(named, maps);
}

#[test]
fn the_table_of_crates_is_the_workspace() {
    let text = read(ARCHITECTURE);
    let named: BTreeSet<_> = rows(section(&text, "## Crates")).into_iter().map(|r| r[0].clone()).collect();
    let workspace: toml::Table = read("Cargo.toml").parse().unwrap();
    let members = workspace["workspace"]["members"].as_array().unwrap();
    let known = members
        .iter()
        .map(|m| m.as_str().unwrap().to_owned())
        .chain(["monitor-ebpf".to_owned(), "bench-ebpf".to_owned()]);
    assert_eq!(named, known.collect());
}

/// Targets of `[text](target)`.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap())
}

#[test]
fn links_between_the_files_lead_somewhere() {
    for path in [README, ARCHITECTURE, DIAGNOSIS, "docs/cli.md", "docs/json.md", "docs/metrics.md"] {
        let text = read(path);
        for link in links(&text).filter(|l| !l.starts_with("http")) {
            let (file, anchor) = link.split_once('#').map_or((link, None), |(f, a)| (f, Some(a)));
            let folder = root().join(path).parent().unwrap().to_owned();
            let target = if file.is_empty() { root().join(path) } else { folder.join(file) };
            assert!(target.exists(), "{path}: {link}");
            if let Some(anchor) = anchor {
                assert!(anchors(&std::fs::read_to_string(&target).unwrap()).contains(anchor), "{path}: {link}");
            }
        }
    }
}

#[test]
fn paths_in_the_architecture_exist() {
    let text = read(ARCHITECTURE);
    let bases = ["", "monitor-common/src/", "monitor/src/"];
    for path in quoted(&text).into_iter().filter(|w| w.ends_with(".rs") || w.ends_with(".o") || w.ends_with('/')) {
        assert!(bases.iter().any(|base| root().join(base).join(path).exists()), "{path}");
    }
}

/// Code blocks of one language.
fn blocks<'a>(text: &'a str, language: &str) -> Vec<&'a str> {
    let fence = format!("```{language}\n");
    text.split(fence.as_str()).skip(1).map(|b| b.split("```").next().unwrap()).collect()
}

#[test]
fn the_first_commands_are_the_two_that_do_everything_and_the_others_parse() {
    let readme = read(README);
    let shell = blocks(&readme, "sh");
    assert_eq!(shell[0], "cargo xtask demo\ncargo xtask test\n");
    let lines = shell[1..].iter().flat_map(|b| b.lines()).map(|l| l.split(" #").next().unwrap().trim().to_owned());
    let inline = quoted(&readme).into_iter().filter(|w| w.starts_with("whyrst ")).map(str::to_owned);
    let commands: Vec<_> = lines.chain(inline).filter(|l| l.starts_with("whyrst ")).collect();
    assert!(commands.len() >= 6, "{commands:?}");
    for command in commands {
        let parsed = Cli::try_parse_from(command.split(' '));
        assert!(parsed.is_ok(), "{command}: {}", parsed.unwrap_err());
    }
}

/// Every line of the sample is a line of the real output, in order; `...` stands for what was left out.
#[test]
fn the_sample_is_real_output() {
    let readme = read(README);
    let sample = blocks(&readme, "text")[0];
    let (command, sample) = sample.strip_prefix("$ whyrst ").unwrap().split_once('\n').unwrap();
    let arguments: Vec<_> = command.split(' ').collect();
    let output = whyrst(&arguments).current_dir(root()).env("COLUMNS", "100").output().unwrap();
    let real = String::from_utf8(output.stdout).unwrap();
    let mut rest = real.lines();
    let mut left_out = false;
    for line in sample.lines() {
        if line == "..." {
            left_out = true;
            continue;
        }
        let found = if left_out { rest.find(|l| *l == line) } else { rest.next() };
        assert_eq!(found, Some(line), "the README's sample is not (any more) what the command prints:\n{real}");
        left_out = false;
    }
}
