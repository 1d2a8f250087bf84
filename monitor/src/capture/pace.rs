//! When the agent looks into the ring buffer, and how far it sweeps the table meanwhile.

use std::io::PipeReader;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

/// Between looks while reports come.
const QUICK: Duration = Duration::from_millis(5);
/// Between looks while none do. A look costs a busy host 150 us of a CPU, because its caches hold other things by then.
const SLOW: Duration = Duration::from_millis(250);
/// One step of the sweep is due this often, however often the agent looks.
const STEP: Duration = Duration::from_millis(5);
/// An agent that was stopped for a while does not make up for all of it at once.
const MOST_STEPS: usize = 100;

/// A report does not wake the agent, because a wake-up costs the packet path a hundred times the report: the agent comes
/// and looks, and is woken only while it looks rarely and the ring buffer fills.
pub struct Pace {
    pause: Duration,
    looked: Instant,
    /// Steps up to here are done.
    swept: Instant,
}

impl Pace {
    pub fn new(now: Instant) -> Pace {
        Pace { pause: QUICK, looked: now, swept: now }
    }

    /// After a look that began at `now`; `heard`: whether it found reports.
    pub fn looked(&mut self, now: Instant, heard: bool) {
        self.looked = now;
        self.pause = if heard { QUICK } else { (self.pause * 2).min(SLOW) };
    }

    /// Waits until the next look is due, which counts from the beginning of the last: in a storm, that is at once. False: the
    /// other end of `stop` was closed.
    pub fn wait(&self, stop: &PipeReader, ring: &impl AsRawFd) -> bool {
        let on = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        // Of reports that come one after the other each would end a wait: poll looks by itself when it is called.
        let ring = if self.pause > QUICK { ring.as_raw_fd() } else { -1 };
        let mut fds = [on(stop.as_raw_fd()), on(ring)];
        let left = self.pause.saturating_sub(self.looked.elapsed());
        // SAFETY: an array of as many pollfds as are told of. An error (a signal) is as good as a time-out.
        unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, left.as_millis() as libc::c_int) };
        fds[0].revents == 0
    }

    /// Steps of the sweep that are due.
    pub fn steps(&mut self, now: Instant) -> usize {
        let due = (now.saturating_duration_since(self.swept).as_nanos() / STEP.as_nanos()) as usize;
        if due > MOST_STEPS {
            self.swept = now;
            return MOST_STEPS;
        }
        self.swept += STEP * due as u32;
        due
    }
}

/// What is done now and then.
pub struct Every {
    period: Duration,
    last: Instant,
}

impl Every {
    pub fn new(period: Duration, now: Instant) -> Every {
        Every { period, last: now }
    }

    pub fn is_due(&mut self, now: Instant) -> bool {
        let due = now.saturating_duration_since(self.last) >= self.period;
        if due {
            self.last = now;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_become_rare_while_nothing_comes_and_frequent_with_the_first_report() {
        let mut pace = Pace::new(Instant::now());
        let mut after = |heard| {
            pace.looked(Instant::now(), heard);
            pace.pause.as_millis()
        };
        assert_eq!(after(true), 5);
        assert_eq!([(); 7].map(|()| after(false)), [10, 20, 40, 80, 160, 250, 250]);
        assert_eq!(after(true), 5);
    }

    #[test]
    fn a_wait_ends_with_the_pause_or_with_the_agent() {
        let (stop, agent) = std::io::pipe().expect("a pipe");
        let (ring, filling) = std::io::pipe().expect("a pipe");
        let mut pace = Pace::new(Instant::now());
        assert!(pace.wait(&stop, &ring));
        // What lies in the ring buffer ends a long wait, and does not shorten a short one.
        std::io::Write::write_all(&mut &filling, b"report").expect("room in the pipe");
        let began = Instant::now();
        pace.looked(began, true);
        assert!(pace.wait(&stop, &ring));
        assert!(began.elapsed() >= QUICK - Duration::from_millis(1));
        pace.pause = Duration::from_secs(3600);
        assert!(pace.wait(&stop, &ring));
        drop(agent);
        assert!(!pace.wait(&stop, &ring));
    }

    #[test]
    fn as_many_steps_are_swept_at_any_pace() {
        let start = Instant::now();
        for pause in [5, 7, 250] {
            let mut pace = Pace::new(start);
            let looks = (pause..=7_000).step_by(pause as usize).map(|ms| start + Duration::from_millis(ms));
            assert_eq!(looks.map(|now| pace.steps(now)).sum::<usize>(), 1_400, "looks {pause} ms apart");
        }
    }

    #[test]
    fn what_is_due_is_due_once_a_period() {
        let start = Instant::now();
        let mut every = Every::new(Duration::from_millis(500), start);
        let due: Vec<u64> =
            (0..2_000).step_by(100).filter(|ms| every.is_due(start + Duration::from_millis(*ms))).collect();
        assert_eq!(due, [500, 1_000, 1_500]);
        assert!(!every.is_due(start), "clocks of other CPUs may be behind");
    }

    #[test]
    fn a_pause_of_an_hour_is_not_made_up_for() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        let later = start + Duration::from_secs(3600);
        assert_eq!(pace.steps(later), MOST_STEPS);
        assert_eq!(pace.steps(later), 0);
        assert_eq!(pace.steps(later + STEP), 1);
        assert_eq!(pace.steps(start), 0, "clocks of other CPUs may be behind");
    }
}
