//! The floor object, and programs timed by playing packets to them through `BPF_PROG_TEST_RUN`.

use crate::machine;
use crate::traffic::conversation::Conversation;
use crate::traffic::segment::{End, Frame};
use anyhow::{Context, Result, bail, ensure};
use aya::maps::{Array, HashMap, MapData, PerCpuArray, ProgramArray, RingBuf};
use aya::programs::{ProgramFd, SchedClassifier, TestRun, TestRunAttrs, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader};
use monitor::capture::loader;
use monitor::config::defaults;

pub static OBJECT: &[u8] = aya::include_bytes_aligned!("../ebpf/floor.bpf.o");

/// Length of the test buffer: the longest frame and some. The kernel allows one page less its own rooms.
const BUFFER: usize = 1600;
const HEADERS: usize = 128;
/// A call this short is timed by the kernel itself, a longer one by the thread's CPU time: the kernel tells whole
/// nanoseconds, the CPU time includes the system call.
const SHORT: u32 = 200_000;

/// A hook that programs are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Hook {
    Xdp,
    TcIngress,
    TcEgress,
}

impl Hook {
    pub const ALL: [Hook; 3] = [Hook::Xdp, Hook::TcIngress, Hook::TcEgress];

    pub fn name(self) -> &'static str {
        match self {
            Hook::Xdp => "XDP",
            Hook::TcIngress => "TC ingress",
            Hook::TcEgress => "TC egress",
        }
    }

    fn kind(self) -> Kind {
        if self == Hook::Xdp { Kind::Xdp } else { Kind::Tc }
    }
}

/// Programs of one kind can call each other. Floor programs and player exist once per kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Xdp,
    Tc,
}

impl Kind {
    const ALL: [Kind; 2] = [Kind::Xdp, Kind::Tc];

    /// What a program returns that passes the packet on.
    fn pass(self) -> u32 {
        match self {
            Kind::Xdp => 2,
            Kind::Tc => u32::MAX,
        }
    }

    fn program(self, name: &str) -> String {
        match self {
            Kind::Xdp => format!("x_{name}"),
            Kind::Tc => format!("t_{name}"),
        }
    }
}

/// A packet as the player's map has it; `bench-ebpf/src/player.rs` explains the fields.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct PlayerFrame {
    client: u8,
    ip_sum: u8,
    l4_sum: u8,
    seq: u8,
    timestamp: u8,
    sack: u8,
    from_server: u8,
    ident: u8,
    data: [u8; HEADERS],
}

impl PlayerFrame {
    fn new(f: &Frame) -> Result<PlayerFrame> {
        ensure!(f.head.len() <= HEADERS && f.wire <= BUFFER, "a frame of {} bytes is too long to be played", f.wire);
        let offset = |at: usize| u8::try_from(at).context("an offset in a frame's headers is beyond 255");
        let mut data = [0; HEADERS];
        data[..f.head.len()].copy_from_slice(&f.head);
        Ok(PlayerFrame {
            client: offset(f.client)?,
            ip_sum: offset(f.ip_sum)?,
            l4_sum: offset(f.l4_sum)?,
            seq: offset(f.seq)?,
            timestamp: offset(f.timestamp)?,
            sack: offset(f.sack)?,
            from_server: u8::from(f.from == End::Server),
            // Six bytes before the header's checksum.
            ident: offset(f.ip_sum.saturating_sub(6))?,
            data,
        })
    }
}

/// How far a program has come in a conversation; each program has its own.
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct Play {
    count: u64,
    frames: u32,
    lead: u32,
    shift: u32,
    mask: u32,
    salt: u32,
    renew: u32,
    bytes: [u32; 2],
    ticks: u32,
    ids: [u16; 2],
}

impl Play {
    /// `connections` at once, a power of two; with `renew` each pass is as many new ones.
    pub fn new(conversation: &Conversation, connections: u32, renew: bool) -> Play {
        debug_assert!(connections.is_power_of_two());
        Play {
            count: 0,
            frames: conversation.frames.len() as u32,
            lead: conversation.lead as u32,
            shift: connections.trailing_zeros(),
            mask: connections - 1,
            salt: 0,
            renew: renew.into(),
            bytes: conversation.bytes,
            ticks: conversation.ticks,
            ids: [End::Client, End::Server].map(|end| conversation.repeated_by(end)),
        }
    }
}

#[derive(Clone, Copy)]
#[repr(transparent)]
struct Plain<T>(T);
// SAFETY: both are bytemuck Pod.
unsafe impl aya::Pod for Plain<PlayerFrame> {}
// SAFETY: as above.
unsafe impl aya::Pod for Plain<Play> {}

#[derive(Clone, Copy)]
#[repr(transparent)]
struct Key([u8; 40]);
// SAFETY: bytes.
unsafe impl aya::Pod for Key {}
#[derive(Clone, Copy)]
#[repr(transparent)]
struct State([u8; 128]);
// SAFETY: bytes.
unsafe impl aya::Pod for State {}
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Long([u8; 136]);
// SAFETY: bytes.
unsafe impl aya::Pod for Long {}

/// The floor programs with a table of their own, and the player.
pub struct Player {
    ebpf: Ebpf,
    table: HashMap<MapData, Key, State>,
    long_table: HashMap<MapData, Key, Long>,
    counts: PerCpuArray<MapData, u64>,
    ring: RingBuf<MapData>,
    frames: Array<MapData, Plain<PlayerFrame>>,
    play: Array<MapData, Plain<Play>>,
    next: [ProgramArray<MapData>; 2],
    room: u32,
    /// Of the conversation's frames: what a test run takes for the socket buffer's protocol.
    ethertype: [u8; 2],
}

/// The floor with an empty event; with one as long as that of a close; and `recorded` with one as long as that of a reset.
pub const EVENTS: [&str; 3] = ["event", "event_close", "event_reset"];

/// The longest conversation, in packets.
const ROOM: u32 = 4096;

impl Player {
    /// `slots`: connections that the floor's table takes; `long_slots`: those of the floor that also keeps last headers.
    pub fn load(slots: u32, long_slots: u32) -> Result<Player> {
        let mut ebpf = EbpfLoader::new()
            .map_max_entries("TABLE", slots)
            .map_max_entries("LONG_TABLE", long_slots)
            .map_max_entries("AREAS", long_slots)
            .map_max_entries("RING", defaults::RING_BYTES)
            .map_max_entries("FRAMES", ROOM)
            .load(OBJECT)
            .context("cannot load the floor object")?;
        for kind in Kind::ALL {
            let events = if kind == Kind::Tc { &EVENTS[..] } else { &[] };
            for name in ["empty", "parse", "floor", "recorded", "play"].iter().chain(events) {
                let name = kind.program(name);
                let program = ebpf.program_mut(&name).with_context(|| format!("no program {name}"))?;
                let loaded = match kind {
                    Kind::Xdp => <&mut Xdp>::try_from(program)?.load(),
                    Kind::Tc => <&mut SchedClassifier>::try_from(program)?.load(),
                };
                loaded
                    .with_context(|| format!("the kernel refuses {name}; the benchmark needs Linux 5.18 or later"))?;
            }
        }
        let mut take = |name: &str| ebpf.take_map(name).with_context(|| format!("no map {name}"));
        Ok(Player {
            table: take("TABLE")?.try_into()?,
            long_table: take("LONG_TABLE")?.try_into()?,
            counts: take("COUNTS")?.try_into()?,
            ring: take("RING")?.try_into()?,
            frames: take("FRAMES")?.try_into()?,
            play: take("PLAY")?.try_into()?,
            next: [take("X_NEXT")?.try_into()?, take("T_NEXT")?.try_into()?],
            room: ROOM,
            ethertype: [0; 2],
            ebpf,
        })
    }

    /// One of the floor programs: `empty`, `parse`, `floor`, `recorded`, which also keeps each connection's last headers, or, at TC,
    /// one of [`EVENTS`].
    pub fn floor(&self, hook: Hook, name: &str) -> Result<ProgramFd> {
        let name = hook.kind().program(name);
        let program = self.ebpf.program(&name).with_context(|| format!("no program {name}"))?;
        Ok(program.fd()?.try_clone()?)
    }

    /// What is played from here on.
    pub fn conversation(&mut self, conversation: &Conversation) -> Result<()> {
        if conversation.frames.len() > self.room as usize {
            bail!("a conversation of {} packets is too long", conversation.frames.len());
        }
        self.ethertype.copy_from_slice(&conversation.frames[0].head[12..14]);
        for (i, frame) in conversation.frames.iter().enumerate() {
            self.frames.set(i as u32, Plain(PlayerFrame::new(frame)?), 0)?;
        }
        Ok(())
    }

    /// Forgets the floor's connections.
    pub fn clear(&mut self) -> Result<()> {
        empty(&mut self.table)?;
        empty(&mut self.long_table)
    }

    /// Takes the floor's events out of its ring buffer.
    pub fn drain(&mut self) {
        while self.ring.next().is_some() {}
    }

    /// Keys that the floor did not find, and connections that its table did not take.
    pub fn counts(&self) -> Result<[u64; 2]> {
        Ok([self.count(0)?, self.count(1)?])
    }

    /// Events of the floor's that found no room in its ring buffer.
    pub fn lost_events(&self) -> Result<u64> {
        self.count(2)
    }

    fn count(&self, index: u32) -> Result<u64> {
        Ok(self.counts.get(&index, 0)?.iter().sum())
    }

    /// Plays the next `packets` packets to a program; nanoseconds of CPU per packet.
    pub fn run(&mut self, hook: Hook, program: &ProgramFd, play: &mut Play, packets: u32) -> Result<f64> {
        self.played(hook, program, play, packets, None)
    }

    /// The same; the last packet is left in `last`.
    fn played(
        &mut self,
        hook: Hook,
        program: &ProgramFd,
        play: &mut Play,
        packets: u32,
        mut last: Option<&mut [u8]>,
    ) -> Result<f64> {
        let kind = hook.kind();
        self.next[kind as usize].set(0, program, 0).with_context(|| {
            format!("the {} player cannot call this program: it was not loaded in the same way", hook.name())
        })?;
        self.play.set(0, Plain(*play), 0)?;
        let mut buffer = [0u8; BUFFER];
        buffer[12..14].copy_from_slice(&self.ethertype);
        let name = kind.program("play");
        let player = self.ebpf.program(&name).with_context(|| format!("no program {name}"))?;
        let expected = play.count + u64::from(packets);
        let before = machine::cpu_of_this_thread();
        let mut interrupted = false;
        let result = loop {
            let left = expected - play.count;
            let data_out = last.as_deref_mut();
            let options =
                TestRunOptions { data_in: Some(&buffer), data_out, repeat: left as u32, ..TestRunOptions::new() };
            let result = match kind {
                Kind::Xdp => <&Xdp>::try_from(player)?.test_run(options),
                Kind::Tc => <&SchedClassifier>::try_from(player)?.test_run(options),
            };
            *play = self.play.get(&0, 0)?.0;
            match result {
                // A signal, also one that is ignored or stops the process for a while, ends a test run early.
                Err(e) if loader::errno(&e) == Some(libc::EINTR) && play.count < expected => interrupted = true,
                result => break result.context("test run")?,
            }
        };
        let spent = machine::cpu_of_this_thread() - before;
        ensure!(result.return_value == kind.pass(), "a packet was not passed on: {}", result.return_value);
        ensure!(play.count == expected, "the player played {} packets, not {expected}", play.count);
        Ok(if packets <= SHORT && !interrupted {
            // The kernel's figure is cut to whole nanoseconds.
            result.duration.as_nanos() as f64 + 0.5
        } else {
            spent.as_nanos() as f64 / f64::from(packets)
        })
    }
}

impl Player {
    /// Plays packets into the stack of this thread's network namespace as if they came in at an interface with these
    /// numbers, after `program` has passed them; nanoseconds per packet until each was handled.
    pub fn inject(&mut self, program: &ProgramFd, play: &mut Play, packets: u32, ifindex: u32) -> Result<f64> {
        self.next[Kind::Xdp as usize]
            .set(0, program, 0)
            .context("the XDP player cannot call this program: it was not loaded in the same way")?;
        self.play.set(0, Plain(*play), 0)?;
        let buffer = [0u8; HEADERS];
        // struct xdp_md: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
        let context = [0, HEADERS as u32, 0, ifindex, 0, 0];
        let options = TestRunOptions {
            data_in: Some(&buffer),
            ctx_in: Some(bytemuck::bytes_of(&context)),
            repeat: packets,
            attrs: TestRunAttrs::new().xdp_live_frames(64),
            ..TestRunOptions::new()
        };
        let name = Kind::Xdp.program("play");
        let player = self.ebpf.program(&name).with_context(|| format!("no program {name}"))?;
        let result = <&Xdp>::try_from(player)?.test_run(options).context("live test run")?;
        *play = self.play.get(&0, 0)?.0;
        Ok(result.duration.as_nanos() as f64)
    }
}

fn empty<V: aya::Pod>(table: &mut HashMap<MapData, Key, V>) -> Result<()> {
    let keys: Vec<Key> = table.keys().collect::<Result<_, _>>()?;
    for key in keys {
        table.remove(&key)?;
    }
    Ok(())
}

/// Memory of the floor's table (htab_map_alloc in kernel/bpf/hashtab.c): elements of a 48-byte head, key and value, and
/// a bucket of 16 bytes for each, their number rounded up to a power of two.
pub fn table_bytes(slots: u32) -> u64 {
    u64::from(slots) * (48 + 40 + 128) + u64::from(slots.next_power_of_two()) * 16
}

/// The kernel's number of a program.
pub fn program_id(program: &ProgramFd) -> Result<u32> {
    use std::os::fd::{AsFd, AsRawFd};
    // The descriptor's own information tells it (bpf_prog_show_fdinfo in kernel/bpf/syscall.c).
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", program.as_fd().as_raw_fd()))?;
    let line = text.lines().find_map(|line| line.strip_prefix("prog_id:")).context("no prog_id")?;
    Ok(line.trim().parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::segment::Link;
    use monitor_common::parse::{self, Packet};
    use monitor_common::seq::SeqNum;
    use std::collections::HashMap;

    /// Loading programs needs root; says so where it is missing, and fails in CI.
    fn privileged() -> bool {
        // SAFETY: no arguments, cannot fail.
        let root = unsafe { libc::geteuid() } == 0;
        if !root {
            println!("skipped: needs root to load eBPF programs");
            assert!(std::env::var_os("CI").is_none(), "CI must run this as root");
        }
        root
    }

    /// The Internet checksum of bytes that hold theirs.
    fn sum(bytes: &[u8], start: u32) -> u32 {
        let words = bytes.chunks(2).map(|c| u32::from(c[0]) << 8 | c.get(1).copied().map_or(0, u32::from));
        let mut sum = words.sum::<u32>() + start;
        while sum >> 16 != 0 {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum
    }

    /// What is played is what was meant: right checksums, and on every connection data that continues without a gap,
    /// beyond the end of the first pass.
    #[test]
    fn played_connections_are_whole() {
        if !privileged() {
            return;
        }
        const CONNECTIONS: u32 = 4;
        for (hook, link) in [(Hook::Xdp, Link::Ipv4), (Hook::TcEgress, Link::Vlan), (Hook::Xdp, Link::Ipv6)] {
            let conversation = Conversation::steady(link);
            let mut player = Player::load(64, 1).unwrap();
            player.conversation(&conversation).unwrap();
            let program = player.floor(hook, "floor").unwrap();
            let mut play = Play::new(&conversation, CONNECTIONS, false);
            let mut next: HashMap<_, [Option<SeqNum>; 2]> = HashMap::new();
            let (mut frame, mut packet) = ([0; BUFFER], Packet::default());
            for n in 0..CONNECTIONS * (2 * conversation.frames.len() as u32 + 50) {
                player.played(hook, &program, &mut play, 1, Some(&mut frame)).unwrap();
                assert!(parse::ethernet(&frame[..], BUFFER as u32, &mut packet).is_ok(), "packet {n}");
                let ip = if link == Link::Vlan { 18 } else { 14 };
                let (addresses, length) = match link {
                    Link::Ipv6 => {
                        (&frame[ip + 8..ip + 40], usize::from(u16::from_be_bytes([frame[ip + 4], frame[ip + 5]])))
                    }
                    _ => {
                        assert_eq!(sum(&frame[ip..ip + 20], 0), 0xffff, "IPv4 checksum of packet {n}");
                        (&frame[ip + 12..ip + 20], usize::from(u16::from_be_bytes([frame[ip + 2], frame[ip + 3]])) - 20)
                    }
                };
                let tcp = ip + if link == Link::Ipv6 { 40 } else { 20 };
                let pseudo = sum(addresses, length as u32 + 6);
                assert_eq!(sum(&frame[tcp..tcp + length], pseudo), 0xffff, "TCP checksum of packet {n}");

                let (d, s) = (packet.direction().index(), &packet.segment);
                let [own, other] = {
                    let ends = next.entry(packet.key).or_default();
                    [ends[d], ends[1 - d]]
                };
                assert!(own.is_none_or(|own| own == s.seq), "packet {n} continues where its sender was");
                assert!(other.is_none_or(|other| other == s.ack), "packet {n} acknowledges all");
                let syn = u32::from(s.flags & u16::from(crate::traffic::segment::SYN) != 0);
                next.get_mut(&packet.key).unwrap()[d] = Some(s.seq.add(s.payload_len + syn));
            }
            assert_eq!(next.len(), CONNECTIONS as usize);
            // Of the floor's table, too: found but for the first packet of each.
            assert_eq!(player.counts().unwrap(), [u64::from(CONNECTIONS), 0]);
        }
    }
}
