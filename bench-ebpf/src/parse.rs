//! Ethernet with at most two VLAN tags, IPv4 with options or IPv6 without extension headers, and TCP's fixed header.

#[derive(Clone, Copy, Default)]
pub struct Headers {
    /// Addresses and ports as they are on the wire.
    pub source: [u32; 4],
    pub destination: [u32; 4],
    pub source_port: u16,
    pub destination_port: u16,
    seq: u32,
    ack: u32,
    payload: u32,
    window: u16,
    flags: u8,
    v6: bool,
}

impl Headers {
    /// Every field that was read, in one number.
    #[inline(always)]
    pub fn sum(&self) -> u32 {
        self.seq
            ^ self.ack
            ^ self.payload
            ^ u32::from(self.window)
            ^ u32::from(self.flags)
            ^ u32::from(self.source_port)
            ^ u32::from(self.destination_port)
            ^ self.source[0]
            ^ self.destination[0]
            ^ u32::from(self.v6)
    }
}

/// One of the packet's values; none if it lies beyond the linear part.
#[inline(always)]
fn read<T: Copy>(at: usize, end: usize) -> Option<T> {
    if at + size_of::<T>() > end {
        return None;
    }
    // SAFETY: inside of the packet, which the verifier makes sure of once more; BPF loads may be unaligned, and every
    // T is made of integers.
    Some(unsafe { *(at as *const T) })
}

#[derive(Clone, Copy)]
#[repr(C, packed)]
struct Ipv4 {
    version_ihl: u8,
    tos: u8,
    total: u16,
    ident: u16,
    fragment: u16,
    ttl: u8,
    protocol: u8,
    sum: u16,
    source: u32,
    destination: u32,
}

#[derive(Clone, Copy)]
#[repr(C, packed)]
struct Ipv6 {
    flow: u32,
    payload: u16,
    next: u8,
    hops: u8,
    source: [u32; 4],
    destination: [u32; 4],
}

#[derive(Clone, Copy)]
#[repr(C, packed)]
struct Tcp {
    source: u16,
    destination: u16,
    seq: u32,
    ack: u32,
    offset: u8,
    flags: u8,
    window: u16,
    sum: u16,
    urgent: u16,
}

const VLAN: u16 = 0x8100u16.to_be();
const QINQ: u16 = 0x88a8u16.to_be();
const IPV4: u16 = 0x0800u16.to_be();
const IPV6: u16 = 0x86ddu16.to_be();
const TCP: u8 = 6;

/// None if the packet is no TCP segment, or a fragment of one.
#[inline(always)]
pub fn tcp(data: usize, end: usize, h: &mut Headers) -> Option<()> {
    let mut kind: u16 = read(data + 12, end)?;
    let mut l3 = data + 14;
    if kind == VLAN || kind == QINQ {
        kind = read(l3 + 2, end)?;
        l3 += 4;
        if kind == VLAN || kind == QINQ {
            kind = read(l3 + 2, end)?;
            l3 += 4;
        }
    }
    let (l4, length) = if kind == IPV4 {
        let ip: &Ipv4 = at(l3, end)?;
        let header = usize::from(ip.version_ihl & 15) * 4;
        if ip.protocol != TCP || header < 20 || ip.fragment & 0x3fffu16.to_be() != 0 {
            return None;
        }
        h.source[0] = ip.source;
        h.destination[0] = ip.destination;
        (l3 + header, u32::from(u16::from_be(ip.total)).wrapping_sub(header as u32))
    } else if kind == IPV6 {
        let ip: &Ipv6 = at(l3, end)?;
        if ip.next != TCP {
            return None;
        }
        h.source = ip.source;
        h.destination = ip.destination;
        h.v6 = true;
        (l3 + size_of::<Ipv6>(), u32::from(u16::from_be(ip.payload)))
    } else {
        return None;
    };
    let tcp: &Tcp = at(l4, end)?;
    h.source_port = tcp.source;
    h.destination_port = tcp.destination;
    h.seq = u32::from_be(tcp.seq);
    h.ack = u32::from_be(tcp.ack);
    h.window = u16::from_be(tcp.window);
    h.flags = tcp.flags;
    h.payload = length.wrapping_sub(u32::from(tcp.offset >> 4) * 4);
    Some(())
}

/// A header in place; only the fields that are used are read.
#[inline(always)]
fn at<T>(at: usize, end: usize) -> Option<&'static T> {
    if at + size_of::<T>() > end {
        return None;
    }
    // SAFETY: as for `read`; the headers are packed, so that no reference to them is unaligned. The packet outlives
    // the program's run, and no reference leaves it.
    Some(unsafe { &*(at as *const T) })
}
