//! Everything around the build: `cargo xtask --help`.
//!
//! xtask may start anything and is imported by nothing. Each verb has a file of its own; the helpers
//! below them ([`process`], [`place`], [`apt`], [`cpio`], ...) know nothing about verbs.

mod apt;
mod bench;
mod cpio;
mod demo;
mod ebpf;
mod fresh;
mod fuzz;
mod hash;
mod initramfs;
mod kernels;
mod lab;
mod libtest;
mod place;
mod process;
mod qemu;
mod rustc_wrapper;
mod setup;
mod stamp;
mod test;
mod toolchain;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about = "Build, test and try whyrst", version)]
struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Find what is missing on this machine and install it, saying what and why first
    Setup(setup::Args),
    /// Build the eBPF object that is committed beside the agent, or check that it is current
    BuildEbpf(ebpf::Args),
    /// Boot the agent and the lab under several Linux kernels in QEMU (no KVM, no root, no network)
    Kernels(kernels::Args),
    /// Build the agent and the lab and show a connection being reset and explained
    Demo(demo::Args),
    /// Perform the scenarios of the laboratory and judge every verdict
    Lab(lab::Args),
    /// Measure what whyrst costs, against floor programs and peers
    #[command(disable_help_flag = true)]
    Bench(bench::Args),
    /// Run every check and test of the project
    Test(test::Args),
    /// Run the fuzz targets for a bounded number of inputs
    Fuzz(fuzz::Args),
    /// Clone HEAD into a temporary folder and run the README's commands there
    Fresh,
}

fn main() -> ExitCode {
    // Cargo calls this same program back as its compiler wrapper while it builds the eBPF object.
    if let Some(code) = rustc_wrapper::run_if_asked() {
        return code;
    }
    let done = match Args::parse().verb {
        Verb::Setup(args) => setup::run(&args),
        Verb::BuildEbpf(args) => ebpf::run(&args),
        Verb::Kernels(args) => kernels::run(&args),
        Verb::Demo(args) => demo::run(&args),
        Verb::Lab(args) => lab::run(&args),
        Verb::Bench(args) => bench::run(&args),
        Verb::Test(args) => test::run(&args),
        Verb::Fuzz(args) => fuzz::run(&args),
        Verb::Fresh => fresh::run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
