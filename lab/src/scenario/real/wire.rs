//! What passes at one interface, so that a scenario can see for itself what happened.

use std::time::{Duration, Instant};

use crate::LabError;
use crate::frame::Segment;
use crate::packet_socket::{MAX_FRAME, PacketSocket};
use crate::topology::{Point, Topology};

pub struct Wire {
    socket: PacketSocket,
    buffer: Vec<u8>,
    seen: Vec<Segment>,
    point: Point,
}

impl Wire {
    /// Everything from now on is seen.
    pub fn open(topology: &Topology, point: Point) -> Result<Self, LabError> {
        let socket = PacketSocket::open(topology.namespace(point), point.interface())?;
        Ok(Self { socket, buffer: vec![0; MAX_FRAME], seen: Vec::new(), point })
    }

    /// All TCP segments so far.
    pub fn segments(&mut self) -> Result<&[Segment], LabError> {
        while self.take(Duration::ZERO)? {}
        Ok(&self.seen)
    }

    /// The first segment, seen already or still to come, that is wanted.
    pub fn wait_for(
        &mut self,
        what: &str,
        limit: Duration,
        wanted: impl Fn(&Segment) -> bool,
    ) -> Result<Segment, LabError> {
        let started = Instant::now();
        let mut looked_at = 0;
        loop {
            if let Some(segment) = self.seen[looked_at..].iter().find(|segment| wanted(segment)) {
                return Ok(segment.clone());
            }
            looked_at = self.seen.len();
            let left = limit.saturating_sub(started.elapsed());
            if !self.take(left)? && left.is_zero() {
                let what = format!("{what} at {}", self.point);
                return Err(LabError::Timeout { what, waited: started.elapsed() });
            }
        }
    }

    /// Whether a frame came.
    fn take(&mut self, wait: Duration) -> Result<bool, LabError> {
        let Some(received) = self.socket.receive(&mut self.buffer, wait)? else { return Ok(false) };
        let frame = &self.buffer[..received.len.min(self.buffer.len())];
        self.seen.extend(Segment::from_frame(frame));
        Ok(true)
    }
}
