//! What other connections tell about one: passed to the diagnosis as facts, so that it stays pure.

/// Facts from around a connection; empty when there are none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Surroundings {
    /// The TTL with which the RST's claimed sender reaches the observer in other connections.
    pub ttl: Option<KnownTtl>,
    /// The same fault on other connections (DIAGNOSIS 3.4).
    pub same_fault: Option<SameFault>,
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
    /// What they have in common: `peer`, `port` or `path`.
    pub shared: &'static str,
    /// The first of them, tracker clock.
    pub since_ns: u64,
}
