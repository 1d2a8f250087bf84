//! Captures that are made to hurt: more connections than are tracked, and what they cost the real ones among them.

use super::*;
use crate::finding::FindingKind;
use monitor_common::flow::v4;

const MS: u64 = 1_000_000;
const CLIENT: u32 = 0x0a00_0001;
const SERVER: u32 = 0x0a00_0002;
const RAW: u16 = 101;

/// An IPv4 packet without options; its checksum is right.
struct Frame {
    src: (u32, u16),
    dst: (u32, u16),
    seq: u32,
    ack: u32,
    flags: u16,
    payload: &'static [u8],
}

impl Frame {
    fn bytes(&self) -> Vec<u8> {
        let total = (40 + self.payload.len()) as u16;
        let mut ip = vec![0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, 6, 0, 0];
        ip[2..4].copy_from_slice(&total.to_be_bytes());
        ip.extend(self.src.0.to_be_bytes());
        ip.extend(self.dst.0.to_be_bytes());
        ip.extend(self.src.1.to_be_bytes());
        ip.extend(self.dst.1.to_be_bytes());
        ip.extend(self.seq.to_be_bytes());
        ip.extend(self.ack.to_be_bytes());
        ip.extend([0x50, self.flags as u8, 0xff, 0xff, 0, 0, 0, 0]);
        ip.extend(self.payload);
        // RFC 9293 section 3.1: pseudo header, header, data.
        let mut sum = 6 + u32::from(total) - 20;
        for pair in ip[12..].chunks(2) {
            sum += u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |b| u32::from(*b));
        }
        sum = (sum & 0xffff) + (sum >> 16);
        sum = (sum & 0xffff) + (sum >> 16);
        ip[36..38].copy_from_slice(&(!(sum as u16)).to_be_bytes());
        ip
    }
}

/// A replay with what it told.
struct Run {
    replay: Replay,
    summary: Summary,
    findings: Vec<Finding>,
    now_ns: u64,
    most: usize,
    /// Most connections that were tracked at once.
    peak: usize,
}

impl Run {
    fn new(most: usize) -> Run {
        let options = ReplayOptions { most_connections: most, ..ReplayOptions::default() };
        let replay = Replay::new(options, "flood.pcap", 1);
        Run { replay, summary: Summary::default(), findings: Vec::new(), now_ns: 1_000 * MS, most, peak: 0 }
    }

    fn hear(&mut self, frame: &Frame) {
        let data = &frame.bytes();
        self.now_ns += MS / 100;
        let (frame, wire_len) = (self.summary.packets + 1, data.len() as u32);
        let packet = capture_file::Packet { frame, time_ns: self.now_ns, link_type: RAW, interface: 0, wire_len, data };
        let mut sink = take(&mut self.findings);
        self.replay.on_packet(&packet, &mut self.summary, &mut sink).unwrap();
        drop(sink);
        self.peak = self.peak.max(self.replay.engine.len());
    }

    /// Conversation `n` goes on: a handshake, then a request and its answer a round; at last the server resets.
    fn talk(&mut self, n: u16, round: u32, last: bool) {
        let (c, s) = ((CLIENT, 20_000 + n), (SERVER, 443));
        let (iss, irs) = (1_000_000 * u32::from(n), 7_000_000 * u32::from(n));
        let mut say = |from_client: bool, seq: u32, ack: u32, flags: u16, payload: &'static [u8]| {
            let (src, dst) = if from_client { (c, s) } else { (s, c) };
            self.hear(&Frame { src, dst, seq, ack, flags, payload });
        };
        if round == 0 {
            say(true, iss, 0, flags::SYN, b"");
            say(false, irs, iss + 1, flags::SYN | flags::ACK, b"");
            say(true, iss + 1, irs + 1, flags::ACK, b"");
            return;
        }
        let (seq, ack) = (iss + 1 + 4 * (round - 1), irs + 1 + 6 * (round - 1));
        say(true, seq, ack, flags::ACK | flags::PSH, b"ping");
        if last {
            say(false, ack, 0, flags::RST, b"");
        } else {
            say(false, ack, seq + 4, flags::ACK | flags::PSH, b"answer");
        }
    }

    fn finish(mut self) -> Run {
        let mut sink = take(&mut self.findings);
        self.replay.finish(false, &mut self.summary, &mut sink).unwrap();
        drop(sink);
        self
    }

    /// What was said of the real connections.
    fn told(&self) -> Vec<(FindingKind, String, u8, Endpoint)> {
        let real = |f: &&Finding| f.client.port >= 20_000 && f.client.addr == std::net::IpAddr::from([10, 0, 0, 1]);
        let mut told: Vec<_> =
            self.findings.iter().filter(real).map(|f| (f.kind, f.cause.clone(), f.confidence, f.client)).collect();
        told.sort_by_key(|t| t.3.port);
        told
    }
}

fn take(findings: &mut Vec<Finding>) -> impl FnMut(Output) -> std::io::Result<()> {
    |output| {
        if let Output::Finding(f) = output {
            findings.push(*f);
        }
        Ok(())
    }
}

/// A packet of a tuple that occurs once.
fn stranger(n: u32, flags: u16, payload: &'static [u8]) -> Frame {
    let src = (0x0b00_0000 + n, 1_024 + (n % 60_000) as u16);
    Frame { src, dst: (SERVER, 80), seq: n.wrapping_mul(0x9e37_79b1), ack: n, flags, payload }
}

/// 20 conversations of 12 rounds, half of which are reset, and `kinds.len()` strangers in turn for each of their packets.
fn capture(most: usize, kinds: &[u16], each: u32) -> Run {
    let mut run = Run::new(most);
    let mut strangers = 0;
    for round in 0..12 {
        for n in 0..20 {
            run.talk(n, round, round == 11 && n % 2 == 0);
            for _ in 0..each {
                strangers += 1;
                run.hear(&stranger(strangers, kinds[strangers as usize % kinds.len()], b""));
            }
        }
    }
    run.finish()
}

#[test]
fn floods_evict_one_another_and_no_connection_that_talks() {
    let alone = capture(1_000, &[0], 0);
    assert_eq!(alone.told().len(), 10);
    assert_eq!((alone.summary.connections, alone.summary.evicted), (20, 0));
    for kinds in [&[flags::SYN][..], &[flags::RST], &[flags::ACK], &[flags::SYN, flags::RST, flags::ACK]] {
        let flooded = capture(200, kinds, 40);
        assert!(flooded.peak <= flooded.most, "{} tracked at once", flooded.peak);
        assert_eq!(flooded.told(), alone.told(), "flood of {kinds:x?}");
        let (all, left) = (20 + 12 * 20 * 40, 200);
        assert_eq!(flooded.summary.connections, all, "none of the real ones was met twice");
        assert!(flooded.summary.evicted >= all - left && flooded.summary.evicted < all);
    }
}

/// Those without a time of their own leave in the order in which they came.
#[test]
fn a_capture_without_times_is_bounded_too() {
    let mut run = Run::new(64);
    for n in 0..1_000 {
        run.hear(&stranger(n, flags::SYN, b""));
        run.now_ns = 0;
    }
    assert!(run.peak <= 64);
    let newest = run.replay.engine.iter().map(|s| s.connection.key.addr[1]).filter(|a| *a > v4(0x0b00_0000 + 990));
    assert_eq!(newest.count(), 9);
}

#[test]
fn kept_payload_is_bounded_and_that_of_a_connection_that_talks_stays() {
    let mut run = Run::new(MOST_CONNECTIONS);
    run.talk(1, 0, false);
    for n in 0..70_000 {
        run.hear(&stranger(n, flags::ACK, b"data"));
        if n % 10_000 == 0 {
            run.talk(1, 1 + n / 10_000, false);
        }
    }
    let kept = run.replay.engine.iter().filter(|s| s.payload.is_some()).count();
    assert!((30_000..=65_536).contains(&kept), "{kept}");
    let key = FlowKey::canonical(v4(CLIENT), 20_001, v4(SERVER), 443).0;
    let facts = payload::facts(&run.replay.engine.get(&key).unwrap().payload);
    assert_eq!(facts.side.map(|s| (s.checksum_good, s.checksum_bad)), [(7, 0), (7, 0)]);
    assert_eq!(run.summary.evicted, 0);
}

/// Each such reset asks for a walk over all connections: what they may cost together is bounded, and what was left out
/// is told.
#[test]
fn resets_of_strangers_do_not_take_time_squared() {
    let mut run = Run::new(MOST_CONNECTIONS);
    run.replay.visits = 0;
    for n in 0..1_000 {
        run.hear(&stranger(n, flags::ACK, b""));
        let to = stranger(n, 0, b"");
        run.hear(&Frame { src: to.dst, dst: to.src, seq: n, ack: 0, flags: flags::RST, payload: b"" });
    }
    // A pair of packets earns 128 visits, and the n-th asks for n of them. So all are looked for up to the 256th, where
    // n^2 / 2 meets 128 n, then 128 of n: 744 - 128 ln(1000 / 256) are left out.
    assert!(run.summary.unsearched.abs_diff(570) < 20, "{}", run.summary.unsearched);
    assert!(run.replay.visits < 1_128);
}
