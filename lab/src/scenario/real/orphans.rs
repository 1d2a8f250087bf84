//! A kernel that has no room for another connection whose application has closed it.
//!
//! `tcp_max_orphans`, `tcp_mem` and the counts that they limit belong to the whole kernel and not to a
//! network namespace: to reach the limit is to abort other people's connections. So this scenario
//! exists only where the kernel is ours alone, in one of the machines of `cargo xtask kernels`, and
//! whoever runs it there says so with [`PERMISSION`]:
//!
//! ```text
//! cargo xtask kernels newest --command "WHYRST_LAB_OWNS_KERNEL=1 whyrst-lab scenario S59 --agent /bin/whyrst"
//! ```

use std::thread;
use std::time::Duration;

use super::counters::Counters;
use super::pair::{self, Before, Pair, Produced};
use crate::LabError;
use crate::error::During;
use crate::topology::Topology;

/// Set in the environment where the whole kernel may be changed.
pub const PERMISSION: &str = "WHYRST_LAB_OWNS_KERNEL";
const LIMIT: &str = "/proc/sys/net/ipv4/tcp_max_orphans";
const SMALL_BUFFER: i32 = 65536;
/// The kernel looks at its count of orphans every 100 ms (`tcp_orphan_update`).
const COUNTED: Duration = Duration::from_millis(300);

/// Whether the whole kernel may be changed.
pub fn owns_kernel() -> bool {
    std::env::var_os(PERMISSION).is_some()
}

/// S59: the server closes a connection whose data and FIN still wait, which makes it an orphan, while
/// the kernel has one orphan already and may have none.
pub fn exhausted(topology: &Topology) -> Result<Produced, LabError> {
    if !owns_kernel() {
        return Err(LabError::Plot(format!("it changes the whole kernel; {PERMISSION} permits it where that is ours")));
    }
    let small = Before { client_buffer: Some(SMALL_BUFFER), ..Before::default() };
    let mut first = Pair::connect_with(topology, small)?;
    let mut second = first.another(topology, small)?;
    pair::fill(&mut first.server)?;
    pair::fill(&mut second.server)?;
    drop(first.server);
    thread::sleep(COUNTED);
    let restore = Restore(std::fs::read_to_string(LIMIT).during(format!("read {LIMIT}"))?);
    std::fs::write(LIMIT, "0").during(format!("write {LIMIT}"))?;
    drop(second.server);
    drop(restore);
    let mut client = second.client;
    pair::ends_with("the client", &mut client, libc::ECONNRESET)?;
    Counters::expect(&topology.server, &[("TcpExtTCPAbortOnMemory", 1), ("TcpOutRsts", 1)])?;
    Ok(Produced::one(second.flow, (client, first.client, first.listener)))
}

/// Puts the limit back.
struct Restore(String);

impl Drop for Restore {
    fn drop(&mut self) {
        // Without permission to write nothing was changed either.
        let _ = std::fs::write(LIMIT, &self.0);
    }
}
