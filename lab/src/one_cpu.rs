//! Keeps what must not happen at the same moment on one CPU. On a veth a packet is received on the CPU that sends it, and a
//! handshake's timer stays where it was set, so that all that follows from this thread's packets stays there, too.

use nix::sched::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};
use nix::unistd::Pid;

use crate::LabError;
use crate::error::During;

const THIS_THREAD: Pid = Pid::from_raw(0);

/// This thread, on the CPU that it is on; dropped, it may go where it could before.
pub struct OneCpu(CpuSet);

impl OneCpu {
    pub fn here() -> Result<OneCpu, LabError> {
        let before = sched_getaffinity(THIS_THREAD).during("learn on which CPUs this thread may run")?;
        let mut here = CpuSet::new();
        here.set(sched_getcpu().during("learn on which CPU this thread runs")?).during("choose a CPU")?;
        sched_setaffinity(THIS_THREAD, &here).during("stay on one CPU")?;
        Ok(OneCpu(before))
    }
}

impl Drop for OneCpu {
    fn drop(&mut self) {
        if let Err(error) = sched_setaffinity(THIS_THREAD, &self.0) {
            eprintln!("lab: this thread stays on one CPU: {error}");
        }
    }
}
