/// Loading programs needs root; says so where it is missing, and fails in CI.
pub fn privileged() -> bool {
    // SAFETY: no arguments, cannot fail.
    let root = unsafe { libc::geteuid() } == 0;
    if !root {
        println!("skipped: needs root to load eBPF programs");
        assert!(std::env::var_os("CI").is_none(), "CI must run this as root");
    }
    root
}
