//! With which TTL an address reaches the observer. A connection that was refused at its SYN has no packet of its own to
//! compare the RST with; the host's other connections have.

use super::{Bounded, KnownTtl};
use monitor_common::event::Ended;
use monitor_common::flow::Addr;

/// Addresses remembered.
const KEPT: usize = 16_384;
/// Packets in a row with one TTL that make it the address'.
const STABLE: u8 = 3;

/// TTLs by address. One life of a flow is learned once, at its end.
pub struct Ttls(Bounded<Addr, Entry>);

#[derive(Clone, Copy, Default)]
struct Entry {
    ttl: u8,
    connections: u32,
}

impl Default for Ttls {
    fn default() -> Ttls {
        Ttls(Bounded::new(KEPT))
    }
}

impl Ttls {
    pub fn learn(&mut self, life: &Ended) {
        for ((addr, ttl), run) in life.key.addr.into_iter().zip(life.ttl).zip(life.ttl_run) {
            if run < STABLE {
                continue;
            }
            let entry = self.0.entry(addr);
            if entry.ttl == ttl {
                entry.connections = entry.connections.saturating_add(1);
            } else {
                *entry = Entry { ttl, connections: 1 };
            }
        }
    }

    pub fn of(&self, addr: &Addr) -> Option<KnownTtl> {
        self.0.get(addr).map(|e| KnownTtl { ttl: e.ttl, connections: e.connections })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use monitor_common::flow::{FlowKey, v4};
    use monitor_common::tracker::state::{Core, half};

    fn life(ttl: u8, run: u8) -> Ended {
        let mut c = Core { key: FlowKey::canonical(v4(1), 40_000, v4(2), 80).0, ..Core::default() };
        for h in &mut c.half {
            (h.flags, h.ttl, h.ttl_run) = (half::SEEN, ttl, run);
        }
        Ended::of(&c, 0)
    }

    #[test]
    fn a_ttl_is_known_from_packets_in_a_row_and_forgotten_when_it_changes() {
        let mut ttls = Ttls::default();
        ttls.learn(&life(63, STABLE - 1));
        assert_eq!(ttls.of(&v4(2)), None);
        ttls.learn(&life(63, STABLE));
        ttls.learn(&life(63, 200));
        assert_eq!(ttls.of(&v4(2)), Some(KnownTtl { ttl: 63, connections: 2 }));
        ttls.learn(&life(57, 200));
        assert_eq!(ttls.of(&v4(2)), Some(KnownTtl { ttl: 57, connections: 1 }));
    }

    #[test]
    fn it_is_bounded() {
        let mut ttls = Ttls::default();
        for n in 0..KEPT as u32 + 10 {
            let mut l = life(64, 9);
            l.key.addr = [v4(0x0a00_0000), v4(0x0b00_0000 + n)];
            ttls.learn(&l);
        }
        assert_eq!(ttls.0.entries.len(), KEPT);
        assert_eq!(ttls.0.order.len(), KEPT);
    }
}
