//! Traffic that is made inside the kernel, for tests and measurements of the loaded programs.
//!
//! A system call per packet costs more than the packet. Here a small program of a few instructions gives the test's frame
//! the next tuple, sequence number and time, and tail-calls the program under test; one `BPF_PROG_TEST_RUN` repeats that
//! as often as wanted, so that ten million packets take seconds. The program is assembled here: it needs neither a
//! compiler nor an object file, and it may be pointed at a running agent's programs, by their ids.

use std::ffi::CStr;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Which hook the programs under test are made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Xdp,
    Classifier,
}

/// Whose address and port a script changes from packet to packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    Source,
    Destination,
}

/// What changes from packet to packet. The frame is Ethernet, IPv4 without options and TCP.
#[derive(Clone, Copy, Debug, Default)]
pub struct Script {
    /// Gives each packet the client of [`client_of`] its number.
    pub client: Option<Client>,
    /// Added to the sequence number after each packet, which begins at the frame's.
    pub seq_step: u32,
    /// Added to the acknowledgement number.
    pub ack_step: u32,
    /// Added to the clock that a test owns, nanoseconds.
    pub clock_step: u32,
}

/// The client of packet `n`: all are different below 2^32.
pub fn client_of(n: u64) -> (Ipv4Addr, u16) {
    let mixed = (n as u32).wrapping_mul(MIX as u32);
    let port = ((mixed >> 7) ^ n as u32) as u16;
    // The program stores both as they lie in a register, whose first byte is the lowest.
    (Ipv4Addr::from(mixed.to_le_bytes()), u16::from_be_bytes(port.to_le_bytes()))
}

/// Odd, so that multiplying by it is one to one.
const MIX: i32 = 0x9e37_79b1_u32 as i32;

const SOURCE: i16 = 26;
const DESTINATION: i16 = 30;
const SOURCE_PORT: i16 = 34;
const DESTINATION_PORT: i16 = 36;
const SEQ: i16 = 38;
const ACK: i16 = 42;
/// Headers up to and including TCP's.
const HEADERS: i32 = 54;

/// A script that drives one program.
pub struct Player {
    driver: OwnedFd,
    state: OwnedFd,
    _programs: OwnedFd,
}

/// What the driver keeps from packet to packet: the only value of its map.
#[repr(C)]
#[derive(Clone, Copy, Default, bytemuck::Pod, bytemuck::Zeroable)]
struct State {
    number: u64,
    seq: u32,
    ack: u32,
}

impl Player {
    /// Drives `program`. `clock` is the map `CLOCK` of programs whose time is the test's.
    pub fn new(
        kind: Kind,
        script: Script,
        program: BorrowedFd<'_>,
        clock: Option<BorrowedFd<'_>>,
    ) -> io::Result<Player> {
        let state = create_map(sys::ARRAY, size_of::<State>() as u32)?;
        // A tail call needs the same type, use of fragments and, on newer kernels, expected type of attachment.
        let properties: &[(u32, u32)] = match kind {
            Kind::Xdp => &[(sys::XDP_HAS_FRAGS, sys::XDP), (0, sys::XDP), (sys::XDP_HAS_FRAGS, 0), (0, 0)],
            Kind::Classifier => &[(0, 0), (0, sys::TCX_EGRESS), (0, sys::TCX_INGRESS)],
        };
        let mut last = io::Error::from_raw_os_error(libc::EINVAL);
        for (flags, attach) in properties {
            // The map takes on the properties of the first program that uses it.
            let programs = create_map(sys::PROG_ARRAY, 4)?;
            update(&programs, 0, &program.as_raw_fd().to_ne_bytes())?;
            let code = assemble(kind, script, state.as_raw_fd(), programs.as_raw_fd(), clock.map(|c| c.as_raw_fd()));
            match load(kind, &code, *flags, *attach) {
                Ok(driver) => return Ok(Player { driver, state, _programs: programs }),
                Err(e) => last = e,
            }
        }
        Err(last)
    }

    /// Plays `count` packets made from `frame`, numbered from `from` on. The time of the program under test includes the
    /// driver's own of some nanoseconds; returns the mean, nanoseconds per packet.
    pub fn play(&self, frame: &[u8], from: u64, count: u32) -> io::Result<u32> {
        let be = |at: i16| {
            let at = at as usize;
            u32::from_be_bytes([frame[at], frame[at + 1], frame[at + 2], frame[at + 3]])
        };
        let state = State { number: from, seq: be(SEQ), ack: be(ACK) };
        update(&self.state, 0, bytemuck::bytes_of(&state))?;
        if count == 0 {
            return Ok(0);
        }
        let run = run(&self.driver, frame, count)?;
        if run.retval == NOT_CALLED {
            return Err(io::Error::other("the tail call failed"));
        }
        let mut after = State::default();
        lookup(&self.state, 0, bytemuck::bytes_of_mut(&mut after))?;
        if after.number != from + count as u64 {
            return Err(io::Error::other(format!("{} of {count} packets were played", after.number - from)));
        }
        Ok(run.duration)
    }
}

/// A program by its id, as the owner of a running agent may have it.
pub fn program_by_id(id: u32) -> io::Result<OwnedFd> {
    let attr = [id, 0, 0];
    sys::bpf_fd(sys::PROG_GET_FD_BY_ID, &attr)
}

/// The type and name of a program.
pub fn describe(program: BorrowedFd<'_>) -> io::Result<(u32, String)> {
    let mut info = [0u8; 256];
    let attr = sys::InfoByFd { fd: program.as_raw_fd() as u32, len: info.len() as u32, info: info.as_mut_ptr() as u64 };
    sys::bpf(sys::OBJ_GET_INFO_BY_FD, &attr)?;
    let kind = u32::from_ne_bytes([info[0], info[1], info[2], info[3]]);
    let name = CStr::from_bytes_until_nul(&info[64..80]).map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    Ok((kind, name))
}

/// Runs `program` on `frame` once, as a system call of its own; returns what it returned.
pub fn run_once(program: BorrowedFd<'_>, frame: &[u8]) -> io::Result<u32> {
    run(program, frame, 1).map(|r| r.retval)
}

/// Returned by the driver when the program under test was not run.
const NOT_CALLED: u32 = 0xbad;

struct Ran {
    retval: u32,
    duration: u32,
}

fn run(program: impl AsFd, frame: &[u8], repeat: u32) -> io::Result<Ran> {
    let mut attr = sys::TestRun {
        fd: program.as_fd().as_raw_fd() as u32,
        data_size_in: frame.len() as u32,
        data_in: frame.as_ptr() as u64,
        repeat,
        ..Default::default()
    };
    sys::bpf_mut(sys::PROG_TEST_RUN, &mut attr)?;
    Ok(Ran { retval: attr.retval, duration: attr.duration })
}

fn create_map(kind: u32, value: u32) -> io::Result<OwnedFd> {
    sys::bpf_fd(sys::MAP_CREATE, &[kind, 4, value, 1])
}

fn update(map: &OwnedFd, key: u32, value: &[u8]) -> io::Result<()> {
    let attr =
        sys::Element { fd: map.as_raw_fd() as u32, pad: 0, key: &raw const key as u64, value: value.as_ptr() as u64 };
    sys::bpf(sys::MAP_UPDATE, &attr).map(drop)
}

fn lookup(map: &OwnedFd, key: u32, value: &mut [u8]) -> io::Result<()> {
    let attr = sys::Element {
        fd: map.as_raw_fd() as u32,
        pad: 0,
        key: &raw const key as u64,
        value: value.as_mut_ptr() as u64,
    };
    sys::bpf(sys::MAP_LOOKUP, &attr).map(drop)
}

fn load(kind: Kind, code: &[Instruction], flags: u32, attach: u32) -> io::Result<OwnedFd> {
    let attr = sys::Load {
        kind: match kind {
            Kind::Xdp => sys::PROG_XDP,
            Kind::Classifier => sys::PROG_CLASSIFIER,
        },
        count: code.len() as u32,
        instructions: code.as_ptr() as u64,
        license: c"Dual MIT/GPL".as_ptr() as u64,
        flags,
        attach,
        ..Default::default()
    };
    sys::bpf_fd(sys::PROG_LOAD, &attr)
}

/// `struct bpf_insn`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Instruction {
    code: u8,
    /// Destination in the low, source in the high half.
    registers: u8,
    offset: i16,
    immediate: i32,
}

fn assemble(kind: Kind, script: Script, state: RawFd, programs: RawFd, clock: Option<RawFd>) -> Vec<Instruction> {
    let mut out: Vec<Instruction> = Vec::new();
    let i =
        |code, dst: u8, src: u8, offset, immediate| Instruction { code, registers: src << 4 | dst, offset, immediate };
    // Registers: 6 context, 7 frame, 8 state; 2 to 5 at will.
    const LOAD_WORD: u8 = 0x61;
    const LOAD_DOUBLE: u8 = 0x79;
    const STORE_HALF: u8 = 0x6b;
    const STORE_WORD: u8 = 0x63;
    const STORE_DOUBLE: u8 = 0x7b;
    const MOVE: u8 = 0xbf;
    const MOVE_32: u8 = 0xbc;
    const ADD: u8 = 0x07;
    const ADD_32: u8 = 0x04;
    const MULTIPLY_32: u8 = 0x24;
    const SHIFT_RIGHT_32: u8 = 0x74;
    const XOR_32: u8 = 0xac;
    const TO_BIG_ENDIAN: u8 = 0xdc;
    const GREATER: u8 = 0x2d;
    // `struct xdp_md` and `struct __sk_buff`.
    let (data, end) = match kind {
        Kind::Xdp => (0, 4),
        Kind::Classifier => (76, 80),
    };
    let address = |register: u8, pseudo: u8, fd: RawFd| [i(0x18, register, pseudo, 0, fd), i(0, 0, 0, 0, 0)];
    out.push(i(MOVE, 6, 1, 0, 0));
    out.push(i(LOAD_WORD, 7, 6, data, 0));
    out.push(i(LOAD_WORD, 2, 6, end, 0));
    out.push(i(MOVE, 3, 7, 0, 0));
    out.push(i(ADD, 3, 0, 0, HEADERS));
    let too_short = out.len();
    out.push(i(GREATER, 3, 2, 0, 0));
    out.extend(address(8, sys::PSEUDO_MAP_VALUE, state));
    out.push(i(LOAD_DOUBLE, 3, 8, 0, 0));
    if let Some(client) = script.client {
        let (addr, port) = match client {
            Client::Source => (SOURCE, SOURCE_PORT),
            Client::Destination => (DESTINATION, DESTINATION_PORT),
        };
        out.push(i(MOVE_32, 4, 3, 0, 0));
        out.push(i(MULTIPLY_32, 4, 0, 0, MIX));
        out.push(i(STORE_WORD, 7, 4, addr, 0));
        out.push(i(SHIFT_RIGHT_32, 4, 0, 0, 7));
        out.push(i(XOR_32, 4, 3, 0, 0));
        out.push(i(STORE_HALF, 7, 4, port, 0));
    }
    out.push(i(ADD, 3, 0, 0, 1));
    out.push(i(STORE_DOUBLE, 8, 3, 0, 0));
    for (step, kept, field) in [(script.seq_step, 8, SEQ), (script.ack_step, 12, ACK)] {
        if step != 0 {
            out.push(i(LOAD_WORD, 4, 8, kept, 0));
            out.push(i(MOVE_32, 5, 4, 0, 0));
            out.push(i(TO_BIG_ENDIAN, 5, 0, 0, 32));
            out.push(i(STORE_WORD, 7, 5, field, 0));
            out.push(i(ADD_32, 4, 0, 0, step as i32));
            out.push(i(STORE_WORD, 8, 4, kept, 0));
        }
    }
    if let Some(clock) = clock
        && script.clock_step != 0
    {
        out.extend(address(9, sys::PSEUDO_MAP_VALUE, clock));
        out.push(i(LOAD_DOUBLE, 4, 9, 0, 0));
        out.push(i(ADD, 4, 0, 0, script.clock_step as i32));
        out.push(i(STORE_DOUBLE, 9, 4, 0, 0));
    }
    out.push(i(MOVE, 1, 6, 0, 0));
    out.extend(address(2, sys::PSEUDO_MAP_FD, programs));
    out.push(i(0xb7, 3, 0, 0, 0));
    out.push(i(0x85, 0, 0, 0, sys::TAIL_CALL));
    out[too_short].offset = (out.len() - too_short - 1) as i16;
    out.push(i(0xb7, 0, 0, 0, NOT_CALLED as i32));
    out.push(i(0x95, 0, 0, 0, 0));
    out
}

/// The system call bpf(2), as far as it is needed here (include/uapi/linux/bpf.h).
mod sys {
    use super::{FromRawFd, OwnedFd, io};

    pub const MAP_CREATE: i32 = 0;
    pub const MAP_LOOKUP: i32 = 1;
    pub const MAP_UPDATE: i32 = 2;
    pub const PROG_LOAD: i32 = 5;
    pub const PROG_TEST_RUN: i32 = 10;
    pub const PROG_GET_FD_BY_ID: i32 = 13;
    pub const OBJ_GET_INFO_BY_FD: i32 = 15;

    pub const ARRAY: u32 = 2;
    pub const PROG_ARRAY: u32 = 3;
    pub const PROG_CLASSIFIER: u32 = 3;
    pub const PROG_XDP: u32 = 6;
    /// `BPF_F_XDP_HAS_FRAGS`.
    pub const XDP_HAS_FRAGS: u32 = 1 << 5;
    /// `BPF_XDP`, `BPF_TCX_INGRESS`, `BPF_TCX_EGRESS` of `enum bpf_attach_type`.
    pub const XDP: u32 = 37;
    pub const TCX_INGRESS: u32 = 46;
    pub const TCX_EGRESS: u32 = 47;
    pub const PSEUDO_MAP_FD: u8 = 1;
    pub const PSEUDO_MAP_VALUE: u8 = 2;
    /// `bpf_tail_call`.
    pub const TAIL_CALL: i32 = 12;

    #[repr(C)]
    pub struct Element {
        pub fd: u32,
        pub pad: u32,
        pub key: u64,
        pub value: u64,
    }

    #[repr(C)]
    #[derive(Default)]
    pub struct Load {
        pub kind: u32,
        pub count: u32,
        pub instructions: u64,
        pub license: u64,
        pub log_level: u32,
        pub log_size: u32,
        pub log: u64,
        pub kernel: u32,
        pub flags: u32,
        pub name: [u8; 16],
        pub ifindex: u32,
        pub attach: u32,
    }

    #[repr(C)]
    #[derive(Default)]
    pub struct TestRun {
        pub fd: u32,
        pub retval: u32,
        pub data_size_in: u32,
        pub data_size_out: u32,
        pub data_in: u64,
        pub data_out: u64,
        pub repeat: u32,
        pub duration: u32,
    }

    #[repr(C)]
    pub struct InfoByFd {
        pub fd: u32,
        pub len: u32,
        pub info: u64,
    }

    pub fn bpf<T>(command: i32, attr: &T) -> io::Result<i32> {
        // SAFETY: a structure that begins as the command's part of `union bpf_attr` does; the kernel takes what is missing
        // for zeroes, and reads from it only.
        let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attr), size_of::<T>()) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
    }

    pub fn bpf_mut<T>(command: i32, attr: &mut T) -> io::Result<()> {
        // SAFETY: as above; the kernel writes its answers into fields of integers.
        let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>()) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    pub fn bpf_fd<T>(command: i32, attr: &T) -> io::Result<OwnedFd> {
        let fd = bpf(command, attr)?;
        // SAFETY: a descriptor that the kernel has just made for us.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn clients_differ() {
        let all: HashSet<_> = (0..200_000u64).map(client_of).collect();
        assert_eq!(all.len(), 200_000);
        assert_ne!(client_of(1).1, client_of(2).1, "ports, too");
    }
}
