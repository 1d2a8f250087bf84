//! What connections do between their first and their last segment.

use super::talk::{Book, Talk, linux_syn_options};
use super::wire::*;

pub fn all(book: &mut Book) {
    openings(book);
    transfers(book);
    windows(book);
    closes(book);
    resets(book);
    reuse(book);
    wrap(book);
    unsent_acknowledged(book);
    divergences(book);
    odd_flags(book);
    silence(book);
}

fn opened(book: &mut Book) -> Talk<'_> {
    let mut talk = book.talk(Envelope::v4());
    talk.open();
    talk
}

fn openings(book: &mut Book) {
    // Data in the SYN that the server takes only after the handshake.
    let mut talk = book.talk(Envelope::v4());
    let iss = talk.nxt(End::Client);
    talk.raw(End::Client, iss, 0, SYN, &linux_syn_options(7), 100);
    talk.skip(End::Client, 1);
    talk.send(End::Server, SYN | ACK, &linux_syn_options(7), 0);
    talk.data(End::Client, 100);
    talk.ack(End::Server);
    talk.close(End::Client);

    // Simultaneous open (RFC 9293 3.5, figure 7).
    let mut talk = book.talk(Envelope::v4());
    let [client, server] = talk.iss;
    talk.raw(End::Client, client, 0, SYN, &linux_syn_options(7), 0);
    talk.raw(End::Server, server, 0, SYN, &linux_syn_options(7), 0);
    talk.raw(End::Client, client, server.wrapping_add(1), SYN | ACK, &linux_syn_options(7), 0);
    talk.raw(End::Server, server, client.wrapping_add(1), SYN | ACK, &linux_syn_options(7), 0);
    talk.skip(End::Client, 1);
    talk.skip(End::Server, 1);
    talk.exchange();
    talk.close(End::Server);

    // SYN and SYN-ACK retransmitted; an answer that acknowledges something else; another ISS.
    let mut talk = book.talk(Envelope::v4());
    let [client, server] = talk.iss;
    for _ in 0..3 {
        talk.raw(End::Client, client, 0, SYN, &linux_syn_options(7), 0);
        talk.book.wait_ms(1000);
    }
    talk.raw(End::Server, server, client.wrapping_add(77), SYN | ACK, &linux_syn_options(7), 0);
    for iss in [server, server, server.wrapping_add(5000)] {
        talk.raw(End::Server, iss, client.wrapping_add(1), SYN | ACK, &linux_syn_options(7), 0);
        talk.book.wait_ms(10);
    }
    talk.restart(client.wrapping_add(1), server.wrapping_add(5001));
    talk.exchange();
    talk.close(End::Client);

    // Nobody answers; a closed port answers; the client gives up.
    book.talk(Envelope::v4()).send(End::Client, SYN, &linux_syn_options(7), 0);
    let mut talk = book.talk(Envelope::v4());
    talk.send(End::Client, SYN, &linux_syn_options(7), 0);
    let ack = talk.nxt(End::Client);
    talk.raw(End::Server, 0, ack, RST | ACK, &[], 0);
    let mut talk = book.talk(Envelope::v4());
    talk.send(End::Client, SYN, &linux_syn_options(7), 0);
    talk.send(End::Server, SYN | ACK, &linux_syn_options(7), 0);
    talk.reset(End::Client, 0, 0);

    // Picked up in the middle, from either end's side.
    for first in [End::Client, End::Server] {
        let mut talk = book.talk(Envelope::v4());
        talk.data(first, 500);
        talk.ack(first.other());
        talk.exchange();
        talk.close(first);
    }
    // Only one end's segments are seen.
    let mut talk = book.talk(Envelope::v4());
    talk.send(End::Client, SYN, &linux_syn_options(7), 0);
    talk.skip(End::Server, 1);
    talk.ack(End::Client);
    for _ in 0..5 {
        talk.data(End::Client, 500);
        talk.skip(End::Server, 200);
    }
    talk.send(End::Client, FIN | ACK, &[], 0);
}

fn transfers(book: &mut Book) {
    // Retransmissions: the same, partly old, partly new, joined, acknowledged already.
    let mut talk = opened(book);
    talk.data(End::Client, 500);
    talk.data(End::Client, 500);
    talk.book.wait_ms(200);
    talk.data_at(End::Client, -1000, 500);
    talk.data_at(End::Client, -1000, 1000);
    talk.data_at(End::Client, -200, 700);
    talk.skip(End::Client, 500);
    talk.ack(End::Server);
    talk.data_at(End::Client, -500, 500);
    talk.close(End::Client);

    // Reordered, with duplicate acknowledgements, then filled.
    let mut talk = opened(book);
    talk.data(End::Server, 1000);
    talk.data_at(End::Server, 1000, 1000);
    talk.data_at(End::Server, 2000, 1000);
    for _ in 0..3 {
        talk.ack(End::Client);
    }
    talk.data(End::Server, 1000);
    talk.skip(End::Server, 2000);
    talk.ack(End::Client);
    talk.close(End::Server);

    // Backing off: each retransmission waits twice as long.
    let mut talk = opened(book);
    talk.data(End::Client, 1000);
    let mut pause = 250;
    for _ in 0..5 {
        talk.book.wait_ms(pause);
        talk.data_at(End::Client, -1000, 1000);
        pause *= 2;
    }
    talk.ack(End::Server);
    talk.close(End::Client);

    // A bulk transfer with delayed acknowledgements, in super-packets as hosts with offload send them.
    let mut talk = opened(book);
    talk.window = [501, 2000];
    for _ in 0..6 {
        talk.data(End::Client, 2920);
        talk.ack(End::Server);
    }
    talk.close(End::Client);

    // Missing from the capture: acknowledged, but never seen.
    let mut talk = opened(book);
    for _ in 0..4 {
        talk.data(End::Client, 1000);
        talk.skip(End::Client, 1000);
        talk.ack(End::Server);
    }
    talk.close(End::Client);
}

fn windows(book: &mut Book) {
    // Keep-alive probes without and with a byte, answered and not.
    let mut talk = opened(book);
    talk.exchange();
    talk.book.wait_ms(75_000);
    for byte in [0, 1] {
        talk.book.wait_ms(10_000);
        talk.data_at(End::Client, -1, byte);
        talk.ack(End::Server);
    }
    for _ in 0..4 {
        talk.book.wait_ms(10_000);
        let (seq, ack) = (talk.at(End::Client, -1), talk.nxt(End::Server));
        talk.raw(End::Client, seq, ack, ACK, &[], 0);
    }
    talk.reset(End::Client, 0, ACK);

    // The window closes, is probed (with a byte, and as Linux does), and opens again.
    let mut talk = opened(book);
    talk.data(End::Client, 1000);
    let open = talk.window[1];
    talk.window[1] = 0;
    talk.ack(End::Server);
    for _ in 0..3 {
        talk.book.wait_ms(400);
        talk.data_at(End::Client, 0, 1);
        talk.ack(End::Server);
        talk.data_at(End::Client, -1, 0);
        talk.ack(End::Server);
    }
    talk.window[1] = open;
    talk.ack(End::Server);
    talk.data(End::Client, 1000);
    talk.ack(End::Server);
    talk.close(End::Client);

    // The window shrinks (RFC 9293 3.8.6): the right edge moves back over bytes on their way.
    let mut talk = opened(book);
    talk.data(End::Client, 1000);
    talk.ack(End::Server);
    for _ in 0..8 {
        talk.data(End::Client, 1460);
    }
    talk.window[1] = 10;
    let acked = talk.at(End::Client, -8 * 1460);
    for _ in 0..3 {
        talk.ack_number(End::Server, acked, &[]);
        talk.book.wait_ms(300);
        talk.data_at(End::Client, -8 * 1460, 1460);
    }
    talk.reset(End::Server, 0, ACK);

    // Data that ends, and that starts, beyond the window.
    let mut talk = opened(book);
    talk.window[1] = 4;
    talk.ack(End::Server);
    talk.data_at(End::Client, 0, 2000);
    talk.ack(End::Server);
    for n in 0..4 {
        talk.book.wait_ms(300);
        talk.data_at(End::Client, 5000 + n * 1000, 1000);
        talk.ack(End::Server);
    }
    talk.reset(End::Server, 0, ACK);

    // A scale that somebody on the way did not apply: the window collapses after the handshake.
    let mut talk = book.talk(Envelope::v4());
    talk.window = [1, 1];
    talk.syn_options = [linux_syn_options(0), linux_syn_options(14)];
    talk.open();
    talk.exchange();
    talk.close(End::Client);
}

fn closes(book: &mut Book) {
    // From the server's side; half closed; both at once; a FIN with data; a FIN retransmitted.
    let mut talk = opened(book);
    talk.exchange();
    talk.close(End::Server);

    let mut talk = opened(book);
    talk.send(End::Client, FIN | ACK, &[], 0);
    talk.ack(End::Server);
    for _ in 0..3 {
        talk.data(End::Server, 1000);
        talk.ack(End::Client);
    }
    talk.send(End::Server, FIN | PSH | ACK, &[], 300);
    talk.ack(End::Client);

    let mut talk = opened(book);
    let [client, server] = talk.snd_nxt;
    talk.raw(End::Client, client, server, FIN | ACK, &[], 0);
    talk.raw(End::Server, server, client, FIN | ACK, &[], 0);
    talk.skip(End::Client, 1);
    talk.skip(End::Server, 1);
    talk.ack(End::Client);
    talk.ack(End::Server);

    let mut talk = opened(book);
    talk.send(End::Client, FIN | PSH | ACK, &[], 100);
    for _ in 0..3 {
        talk.book.wait_ms(250);
        let (seq, ack) = (talk.at(End::Client, -101), talk.nxt(End::Server));
        talk.raw(End::Client, seq, ack, FIN | PSH | ACK, &[], 100);
        let (seq, ack) = (talk.at(End::Client, -1), talk.nxt(End::Server));
        talk.raw(End::Client, seq, ack, FIN | ACK, &[], 0);
    }
    talk.send(End::Server, FIN | ACK, &[], 0);
    talk.ack(End::Client);
    // The last acknowledgement was lost: TIME-WAIT answers once more.
    let (seq, ack) = (talk.at(End::Server, -1), talk.nxt(End::Client));
    talk.raw(End::Server, seq, ack, FIN | ACK, &[], 0);
    talk.ack(End::Client);

    // Data after the own FIN, and data to an end that has closed, answered by RST.
    let mut talk = opened(book);
    talk.send(End::Client, FIN | ACK, &[], 0);
    talk.ack(End::Server);
    talk.data_at(End::Client, 0, 100);
    talk.data(End::Server, 1000);
    let (seq, ack) = (talk.nxt(End::Client), 0);
    talk.raw(End::Client, seq, ack, RST, &[], 0);
}

fn resets(book: &mut Book) {
    // Where a receiver with RFC 5961 takes a RST, must challenge it, and must ignore it.
    let offsets: [i64; 9] = [0, 1, 1000, 60_000, -1, -1000, -1_000_000, 100_000_000, 2_000_000_000];
    for offset in offsets {
        for flags in [0, ACK] {
            let mut talk = opened(book);
            talk.exchange();
            talk.reset(End::Server, offset, flags);
            // The challenge (RFC 5961 3.2), which an exact one answers.
            talk.ack(End::Client);
            talk.reset(End::Server, 0, 0);
        }
    }
    // Many ineffective ones before the one that counts.
    let mut talk = opened(book);
    talk.exchange();
    for n in 0..7 {
        talk.reset(End::Server, 1000 + n, 0);
        talk.ack(End::Client);
    }
    talk.reset(End::Server, 0, 0);
    // Repeated, and answered.
    let mut talk = opened(book);
    talk.exchange();
    for _ in 0..3 {
        talk.reset(End::Client, 0, ACK);
    }
    talk.reset(End::Server, 0, 0);
    // With a reason in words (RFC 9293 3.5.3 does not mind), with URG, with a wrong acknowledgement.
    let mut talk = opened(book);
    talk.send(End::Server, RST | ACK, &[], 40);
    let mut talk = opened(book);
    talk.reset(End::Server, 0, ACK | URG | PSH);
    let mut talk = opened(book);
    let seq = talk.nxt(End::Server);
    talk.raw(End::Server, seq, 0x1234_5678, RST | ACK, &[], 0);
    // In the wrong direction: number 0, and a number of the other end.
    let mut talk = opened(book);
    talk.exchange();
    let ack = talk.nxt(End::Client);
    talk.raw(End::Server, 0, ack, RST | ACK, &[], 0);
    talk.raw(End::Server, ack, 0, RST, &[], 0);
    // After both FINs: cleaning up.
    let mut talk = opened(book);
    talk.close(End::Client);
    talk.reset(End::Server, 0, 0);
    // Nothing else is ever seen of the connection.
    book.talk(Envelope::v4()).reset(End::Server, 0, 0);
    book.talk(Envelope::v4()).reset(End::Client, 0, ACK);
    book.talk(Envelope::v6(&[])).reset(End::Client, 0, ACK);
}

/// The same ports for another connection.
fn reuse(book: &mut Book) {
    // After FINs (out of TIME-WAIT) and after a RST, above and below the former numbers.
    for (client, server) in [(200_000, 300_000), (u32::MAX - 50_000, 5)] {
        let mut talk = opened(book);
        talk.exchange();
        talk.close(End::Client);
        talk.book.wait_ms(2000);
        let (client, server) = (talk.at(End::Client, client.into()), talk.at(End::Server, server));
        talk.restart(client, server);
        talk.whole();

        let mut talk = opened(book);
        talk.exchange();
        talk.reset(End::Server, 0, ACK);
        talk.book.wait_ms(50);
        let (client, server) = (talk.at(End::Client, 1_000_000), talk.at(End::Server, 77));
        talk.restart(client, server);
        talk.whole();
    }
    // Other ends: the former server connects.
    let mut talk = opened(book);
    talk.close(End::Server);
    talk.restart(5_000, 6_000);
    talk.send(End::Server, SYN, &linux_syn_options(7), 0);
    talk.send(End::Client, SYN | ACK, &linux_syn_options(7), 0);
    talk.ack(End::Server);
    talk.data(End::Server, 100);
    talk.ack(End::Client);
    // A SYN into the middle: challenged, and the client, which knows nothing, resets (RFC 5961 4.2).
    let mut talk = opened(book);
    talk.exchange();
    let (seq, challenged) = (talk.at(End::Client, 70_000_000), talk.nxt(End::Client));
    talk.raw(End::Client, seq, 0, SYN, &linux_syn_options(7), 0);
    talk.ack(End::Server);
    talk.raw(End::Client, challenged, 0, RST, &[], 0);
    talk.restart(seq, 900_000);
    talk.whole();
    // A SYN-ACK out of nowhere, and out of a connection's middle.
    let mut talk = opened(book);
    talk.exchange();
    let (seq, ack) = (talk.at(End::Server, 1234), talk.nxt(End::Client));
    talk.raw(End::Server, seq, ack, SYN | ACK, &linux_syn_options(7), 0);
    talk.ack(End::Client);
    talk.close(End::Client);
}

/// Everything once more where the numbers wrap.
fn wrap(book: &mut Book) {
    for (client, server) in
        [(u32::MAX, u32::MAX), (u32::MAX - 50, u32::MAX - 500), (u32::MAX - 100, 0), (0x7fff_ffff, 0x8000_0000)]
    {
        let mut talk = book.talk(Envelope::v4());
        talk.restart(client, server);
        talk.open();
        talk.exchange();
        talk.data(End::Client, 100);
        talk.data_at(End::Client, -100, 100);
        talk.data_at(End::Client, 200, 100);
        let (hole, right) = (talk.nxt(End::Client), talk.at(End::Client, 300));
        let left = talk.at(End::Client, 200);
        let block = [&[option::NOP; 2][..], &option::sack(&[(left, right)])].concat();
        talk.ack_number(End::Server, hole, &block);
        talk.data(End::Client, 200);
        talk.skip(End::Client, 100);
        talk.ack(End::Server);
        talk.reset(End::Server, 1, 0);
        talk.close(End::Server);
    }
}

/// Acknowledgements of what was never seen sent: the capture's fault, or theirs.
fn unsent_acknowledged(book: &mut Book) {
    // Confirmed: the bytes were sent, but the capture saw them late.
    let mut talk = opened(book);
    talk.exchange();
    let ack = talk.at(End::Server, 500);
    talk.ack_number(End::Client, ack, &[]);
    talk.data(End::Server, 500);
    talk.ack(End::Client);
    talk.data(End::Server, 500);
    talk.ack(End::Client);
    talk.close(End::Client);
    // Confirmed by what follows only: the bytes themselves never appear.
    let mut talk = opened(book);
    talk.exchange();
    talk.skip(End::Server, 2000);
    talk.ack(End::Client);
    talk.data(End::Server, 500);
    talk.ack(End::Client);
    talk.close(End::Client);
    // Retracted: the next acknowledgement is back where it should be.
    let mut talk = opened(book);
    talk.exchange();
    for ahead in [300, 70_000, 10_000_000] {
        let ack = talk.at(End::Server, ahead);
        talk.ack_number(End::Client, ack, &[]);
        // RFC 5961 5: answered with an acknowledgement, nothing else.
        talk.ack(End::Server);
        talk.ack(End::Client);
        talk.data(End::Server, 100);
        talk.ack(End::Client);
    }
    talk.close(End::Client);
    // Insisted on until one of them gives up.
    let mut talk = opened(book);
    talk.exchange();
    let ack = talk.at(End::Server, 4000);
    for _ in 0..12 {
        talk.ack_number(End::Client, ack, &[]);
        talk.ack(End::Server);
        talk.book.wait_ms(200);
    }
    talk.reset(End::Server, 0, ACK);
    // Far too old.
    let mut talk = opened(book);
    for _ in 0..3 {
        talk.data(End::Server, 3000);
        talk.ack(End::Client);
    }
    for behind in [-3000, -9000, -3_000_000] {
        let ack = talk.at(End::Server, behind);
        talk.ack_number(End::Client, ack, &[]);
    }
    talk.close(End::Client);
}

/// The ends stop agreeing.
fn divergences(book: &mut Book) {
    // A hole that is never filled, asked for with SACK and without; the story of the demo in small.
    for with_sack in [true, false] {
        let mut talk = opened(book);
        talk.exchange();
        let hole = talk.nxt(End::Client);
        talk.skip(End::Client, 3000);
        let left = talk.nxt(End::Client);
        for _ in 0..10 {
            talk.data(End::Client, 500);
            let block = [&[option::NOP; 2][..], &option::sack(&[(left, talk.nxt(End::Client))])].concat();
            talk.ack_number(End::Server, hole, if with_sack { &block } else { &[] });
            talk.book.wait_ms(300);
            talk.data_at(End::Client, -500, 500);
        }
        talk.reset(End::Client, 0, ACK);
    }
    // All numbers of one direction shifted by a constant, as a broken translator does.
    let mut talk = opened(book);
    talk.exchange();
    let expected = talk.nxt(End::Client);
    talk.skip(End::Client, 1_000_000);
    for _ in 0..8 {
        talk.data_at(End::Client, 0, 500);
        talk.ack_number(End::Server, expected, &[]);
        talk.book.wait_ms(400);
    }
    talk.reset(End::Server, 0, ACK);
    // Two ends that answer each other's bare acknowledgements for ever (an ACK war).
    let mut talk = opened(book);
    talk.exchange();
    for _ in 0..60 {
        let (seq, ack) = (talk.at(End::Client, 100_000), talk.at(End::Server, -500));
        talk.raw(End::Client, seq, ack, ACK, &[], 0);
        talk.ack(End::Server);
    }
    talk.reset(End::Server, 0, ACK);
    // A sender that falls back behind what it has sent, and a segment of another number space.
    let mut talk = opened(book);
    for _ in 0..4 {
        talk.data(End::Client, 1000);
        talk.ack(End::Server);
    }
    let (seq, ack) = (talk.at(End::Client, -2000), talk.nxt(End::Server));
    talk.raw(End::Client, seq, ack, ACK, &[], 0);
    talk.data_at(End::Client, 900_000_000, 100);
    talk.ack(End::Server);
    talk.data_at(End::Client, -1_000_000_000, 100);
    talk.ack(End::Server);
    talk.data(End::Client, 100);
    talk.ack(End::Server);
    talk.close(End::Client);
    // A replaced translation: SACK blocks in numbers that the other end does not know.
    let mut talk = opened(book);
    talk.exchange();
    for n in 0..6 {
        talk.data(End::Client, 500);
        let base = talk.at(End::Client, 77_000_000 + n);
        let block = [&[option::NOP; 2][..], &option::sack(&[(base, base.wrapping_add(500))])].concat();
        let ack = talk.at(End::Client, -500);
        talk.ack_number(End::Server, ack, &block);
        talk.book.wait_ms(300);
    }
    talk.reset(End::Client, 0, ACK);
}

/// Flag bits in all combinations that make no sense, and the reserved ones.
fn odd_flags(book: &mut Book) {
    let combinations = [
        0,
        FIN,
        PSH,
        URG,
        SYN | FIN,
        SYN | RST,
        SYN | PSH,
        SYN | FIN | RST | PSH | ACK | URG | ECE | CWR,
        FIN | RST,
        FIN | PSH | URG,
        0xfff,
        0x100 | ACK,
        0xe00 | ACK,
    ];
    for flags in combinations {
        // As the first segment of all, and in the middle.
        let mut talk = book.talk(Envelope::v4());
        talk.send(End::Client, flags, &[], 0);
        let mut talk = opened(book);
        talk.exchange();
        let (seq, ack) = (talk.nxt(End::Client), talk.nxt(End::Server));
        talk.raw(End::Client, seq, ack, flags, &[], 10);
        talk.close(End::Server);
    }
    // Congestion notification agreed (RFC 3168) and used.
    let mut talk = book.talk(Envelope::v4());
    talk.send(End::Client, SYN | ECE | CWR, &linux_syn_options(7), 0);
    talk.send(End::Server, SYN | ACK | ECE, &linux_syn_options(7), 0);
    talk.send(End::Client, ACK | CWR, &[], 100);
    talk.send(End::Server, ACK | ECE, &[], 0);
    talk.close(End::Client);
    // Ports that look alike from both ends.
    let mut talk = book.talk(Envelope::v4());
    talk.server_port = talk.client_port;
    talk.whole();
    // Another TTL and another identification in the middle: somebody else speaks.
    let mut talk = opened(book);
    talk.exchange();
    let tcp = talk.tcp(End::Server, talk.nxt(End::Server), 0, RST, &[], 0);
    let mut frame = talk.envelope.around(End::Server, TCP, &tcp.bytes(End::Server, &talk.envelope));
    frame[18..20].copy_from_slice(&[0x12, 0x34]);
    frame[22] = 255;
    set_ipv4_checksum(&mut frame[14..]);
    talk.book.frame(frame);
}

/// Long times without anything.
fn silence(book: &mut Book) {
    let mut talk = opened(book);
    talk.exchange();
    for minutes in [2, 60, 24 * 60] {
        talk.book.wait_ms(minutes * 60_000);
        talk.exchange();
    }
    talk.close(End::Client);
}
