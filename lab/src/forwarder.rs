//! A device between two links, in user space: it sees every TCP segment that passes and may change,
//! drop, delay, repeat or invent some. Everything else (address resolution) passes as it is.
//!
//! The device stands at the client. What is between it and the server is a time: [`Delay`] holds
//! every frame that goes either way, so that a device can be nearer than the peer it speaks for.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::LabError;
use crate::frame::Segment;
use crate::netns::Namespace;
use crate::packet::Packet;
use crate::packet_socket::{MAX_FRAME, PacketSocket, wait_any};
use crate::scenario::Side;

/// How soon the thread notices that it should end, and how often an idle device may act.
const TICK: Duration = Duration::from_millis(5);
/// More held frames than any scenario needs; a device that loops ends the scenario, not the machine.
const HELD_LIMIT: usize = 65536;

/// From the device to the server, one way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delay(pub Duration);

impl Delay {
    pub const NONE: Self = Self(Duration::ZERO);
    /// Far enough that no honest answer comes at once.
    pub const FAR: Self = Self(Duration::from_millis(20));
}

/// What a device does.
pub trait Device: Send {
    /// A segment from this side. Nothing passes unless it is put out.
    fn pass(&mut self, from: Side, packet: Packet, out: &mut Outbox);

    /// Called every few milliseconds.
    fn tick(&mut self, _out: &mut Outbox) {}
}

/// Passes everything: a long wire.
pub struct Plain;

impl Device for Plain {
    fn pass(&mut self, from: Side, packet: Packet, out: &mut Outbox) {
        out.forward(from, packet);
    }
}

/// A device that is one function.
impl<F: FnMut(Side, Packet, &mut Outbox) + Send> Device for F {
    fn pass(&mut self, from: Side, packet: Packet, out: &mut Outbox) {
        self(from, packet, out);
    }
}

/// What leaves the device.
#[derive(Default)]
pub struct Outbox {
    /// Destination, additional wait, frame.
    frames: Vec<(Side, Duration, Vec<u8>)>,
    /// Hardware addresses of client and server, learnt from what they sent.
    macs: [Option<[u8; 6]>; 2],
}

impl Outbox {
    /// On to the other side, checksums computed anew.
    pub fn forward(&mut self, from: Side, packet: Packet) {
        self.forward_later(from, packet, Duration::ZERO);
    }

    pub fn forward_later(&mut self, from: Side, packet: Packet, wait: Duration) {
        self.frames.push((from.other(), wait, packet.into_frame()));
    }

    /// On to the other side, with the checksum that it came with.
    pub fn forward_damaged(&mut self, from: Side, packet: Packet) {
        self.frames.push((from.other(), Duration::ZERO, packet.into_damaged_frame()));
    }

    /// A segment of the device's own making. It carries the hardware address of the end that it
    /// pretends to come from, as anything does that crosses a bridge.
    pub fn inject(&mut self, to: Side, segment: &Segment) {
        self.inject_later(to, segment, Duration::ZERO);
    }

    pub fn inject_later(&mut self, to: Side, segment: &Segment, wait: Duration) {
        let mac = |side: Side| self.macs[side as usize].unwrap_or([0xff; 6]);
        let frame = segment.to_frame(mac(to.other()), mac(to));
        self.frames.push((to, wait, frame));
    }
}

/// A running device. Dropping it stops it: then nothing passes any more.
pub struct Forwarder<D> {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<D, LabError>>>,
}

impl<D: Device + 'static> Forwarder<D> {
    /// Joins `rc` and `rs` of this namespace.
    pub fn start(namespace: &Namespace, delay: Delay, device: D) -> Result<Self, LabError> {
        let sockets = [PacketSocket::open(namespace, "rc")?, PacketSocket::open(namespace, "rs")?];
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || run(&sockets, delay, device, &stopped));
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl<D> Forwarder<D> {
    /// Stops it and gives the device back, with whatever it counted.
    pub fn stop(mut self) -> Result<D, LabError> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().ok_or_else(|| LabError::Plot("a device was stopped twice".into()))?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl<D> Drop for Forwarder<D> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Errors belong to `stop`; here the scenario has failed already.
            let _ = thread.join();
        }
    }
}

/// A frame that waits: for the device when it came from the server, else for its way out.
struct Held {
    due: Instant,
    /// Keeps frames of the same instant in order.
    number: u64,
    step: Step,
    frame: Vec<u8>,
}

#[derive(Clone, Copy)]
enum Step {
    Arrive(Side),
    Leave(Side),
}

impl PartialEq for Held {
    fn eq(&self, other: &Self) -> bool {
        (self.due, self.number) == (other.due, other.number)
    }
}
impl Eq for Held {}
impl PartialOrd for Held {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Held {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.due, self.number).cmp(&(other.due, other.number))
    }
}

struct Wires<'a> {
    sockets: &'a [PacketSocket; 2],
    delay: Duration,
    held: BinaryHeap<Reverse<Held>>,
    number: u64,
}

fn run<D: Device>(sockets: &[PacketSocket; 2], delay: Delay, mut device: D, stop: &AtomicBool) -> Result<D, LabError> {
    let mut wires = Wires { sockets, delay: delay.0, held: BinaryHeap::new(), number: 0 };
    let mut out = Outbox::default();
    let mut buffer = vec![0; MAX_FRAME];
    let mut ticked = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let next = wires.held.peek().map_or(TICK, |held| held.0.due.saturating_duration_since(Instant::now()));
        wait_any(sockets, next.min(TICK))?;
        for side in [Side::Client, Side::Server] {
            while let Some(received) = sockets[side as usize].receive(&mut buffer, Duration::ZERO)? {
                if !received.outgoing {
                    wires.take(side, &buffer[..received.len.min(MAX_FRAME)], &mut device, &mut out)?;
                }
            }
        }
        wires.release(&mut device, &mut out)?;
        if ticked.elapsed() >= TICK {
            ticked = Instant::now();
            device.tick(&mut out);
            wires.emit(&mut out)?;
        }
    }
    Ok(device)
}

impl Wires<'_> {
    /// A frame from the link of this side.
    fn take(&mut self, side: Side, frame: &[u8], device: &mut impl Device, out: &mut Outbox) -> Result<(), LabError> {
        match side {
            Side::Server if !self.delay.is_zero() => self.hold(self.delay, Step::Arrive(side), frame.to_vec()),
            _ => self.arrive(side, frame, device, out),
        }
    }

    fn arrive(&mut self, side: Side, frame: &[u8], device: &mut impl Device, out: &mut Outbox) -> Result<(), LabError> {
        if let Some(mac) = frame.get(6..12).and_then(|mac| mac.try_into().ok()) {
            out.macs[side as usize] = Some(mac);
        }
        match Packet::new(frame) {
            Some(packet) => device.pass(side, packet, out),
            None => out.frames.push((side.other(), Duration::ZERO, frame.to_vec())),
        }
        self.emit(out)
    }

    fn emit(&mut self, out: &mut Outbox) -> Result<(), LabError> {
        for (to, wait, frame) in out.frames.drain(..) {
            let wait = if to == Side::Server { wait + self.delay } else { wait };
            if wait.is_zero() {
                self.sockets[to as usize].send(&frame)?;
            } else {
                self.hold(wait, Step::Leave(to), frame)?;
            }
        }
        Ok(())
    }

    fn hold(&mut self, wait: Duration, step: Step, frame: Vec<u8>) -> Result<(), LabError> {
        if self.held.len() >= HELD_LIMIT {
            return Err(LabError::Plot(format!("the device holds {HELD_LIMIT} frames: it loops")));
        }
        self.number += 1;
        self.held.push(Reverse(Held { due: Instant::now() + wait, number: self.number, step, frame }));
        Ok(())
    }

    fn release(&mut self, device: &mut impl Device, out: &mut Outbox) -> Result<(), LabError> {
        while let Some(Reverse(held)) = self.held.pop() {
            if held.due > Instant::now() {
                self.held.push(Reverse(held));
                break;
            }
            match held.step {
                Step::Arrive(side) => self.arrive(side, &held.frame, device, out)?,
                Step::Leave(to) => self.sockets[to as usize].send(&held.frame)?,
            }
        }
        Ok(())
    }
}
