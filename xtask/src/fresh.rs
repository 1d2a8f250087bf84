//! `cargo xtask fresh`: the README's commands, run as a stranger would who has just cloned.

use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::place::{self, Scratch};
use crate::process::{command, describe, run as run_command};

pub fn run() -> Result<()> {
    let root = place::root()?;
    let scratch = Scratch::new("fresh")?;
    let clone = scratch.path().join("whyrst");
    run_command(command("git").args(["clone", "--quiet", "--no-hardlinks"]).arg(&root).arg(&clone))?;
    let readme = std::fs::read_to_string(clone.join("README.md")).context("HEAD has no README.md")?;
    let commands = commands(&readme);
    if commands.is_empty() {
        bail!("README.md has no block of shell commands with `cargo xtask` in it");
    }
    for line in commands {
        println!("\n$ {line}");
        let start = Instant::now();
        let mut shell = command("bash");
        shell.args(["-euo", "pipefail", "-c", &line]).current_dir(&clone);
        // What Cargo and rustup told this process is nothing that a stranger has.
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            let of_cargo = text.starts_with("CARGO") && text != "CARGO_HOME";
            if of_cargo || text.starts_with("WHYRST_") || text == "RUSTUP_TOOLCHAIN" || text == "CI" {
                shell.env_remove(&name);
            }
        }
        let status = shell.status().with_context(|| format!("cannot start `{}`", describe(&shell)))?;
        println!("({:.1} s)", start.elapsed().as_secs_f32());
        if !status.success() {
            bail!("`{line}` failed ({status}) in a fresh clone; what is it that only this checkout has?");
        }
    }
    Ok(())
}

/// The commands of the first shell block that uses xtask, without those that only fetch and enter the
/// repository: the clone is there already.
fn commands(readme: &str) -> Vec<String> {
    let blocks = readme.split("```").skip(1).step_by(2);
    let shell = blocks.filter_map(|block| {
        ["sh\n", "bash\n", "console\n", "shell\n"].iter().find_map(|language| block.strip_prefix(language))
    });
    let Some(block) = shell.into_iter().find(|block| block.contains("cargo xtask")) else {
        return Vec::new();
    };
    let lines = block.lines().map(|line| line.trim().trim_start_matches("$ "));
    lines
        .flat_map(|line| line.split(" && "))
        .map(str::trim)
        .filter(|line| {
            !line.is_empty() && !line.starts_with('#') && !line.starts_with("git clone") && !line.starts_with("cd ")
        })
        .map(str::to_string)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_block_with_xtask_is_taken_without_clone_and_cd() {
        let readme = "# x\n```text\ncargo xtask no\n```\n\n```sh\nls\n```\n\n```sh\n# two commands\n\
                      git clone https://example.org/whyrst && cd whyrst\ncargo xtask setup --for demo\n$ cargo xtask demo\n```\n";
        assert_eq!(commands(readme), ["cargo xtask setup --for demo", "cargo xtask demo"]);
        assert!(commands("nothing here").is_empty());
    }
}
