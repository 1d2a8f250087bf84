//! What other connections tell about one: passed to the diagnosis as facts, so that it stays pure.

pub mod aftermath;
pub mod flows;
pub mod ttl;

/// Facts from around a connection; empty when there are none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Surroundings {
    /// The TTL with which the RST's claimed sender reaches the observer in other connections.
    pub ttl: Option<KnownTtl>,
    /// The same fault on other connections (DIAGNOSIS 3.4).
    pub same_fault: Option<SameFault>,
    /// The local kernel's resets are traced, so that silence about one means something.
    pub kernel_watched: bool,
    /// The address of the RST's claimed sender is one of this host's own; none where that is not known.
    pub sender_is_local: Option<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownTtl {
    pub ttl: u8,
    /// Other connections of that address that came with it, and none since with another.
    pub connections: u32,
}

/// A fault that several connections of ten minutes share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SameFault {
    /// The fault: it counts for the same verdict only.
    pub cause: String,
    pub variant: Option<String>,
    /// Connections with it, this one included.
    pub flows: u32,
    /// What they have in common: `path`, `peer` or `port`.
    pub shared: &'static str,
    /// The first of them, tracker clock.
    pub since_ns: u64,
}

/// A map that forgets its oldest entry when it is full.
struct Bounded<K, V> {
    entries: std::collections::HashMap<K, V>,
    order: std::collections::VecDeque<K>,
    most: usize,
}

impl<K: Clone + Eq + std::hash::Hash, V: Default> Bounded<K, V> {
    fn new(most: usize) -> Bounded<K, V> {
        Bounded { entries: std::collections::HashMap::new(), order: std::collections::VecDeque::new(), most }
    }

    fn get(&self, key: &K) -> Option<&V> {
        self.entries.get(key)
    }

    /// The entry, an empty one if there was none.
    fn entry(&mut self, key: K) -> &mut V {
        if !self.entries.contains_key(&key) {
            if self.order.len() == self.most
                && let Some(oldest) = self.order.pop_front()
            {
                self.entries.remove(&oldest);
            }
            self.order.push_back(key.clone());
        }
        self.entries.entry(key).or_default()
    }
}
