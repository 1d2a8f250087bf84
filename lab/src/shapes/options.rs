//! TCP options: every kind, every layout that stacks use, and every way to get them wrong.

use super::talk::Book;
use super::wire::*;
use option::{END, NOP, mss, other, sack, sack_permitted, timestamps, wscale};

const FAST_OPEN: u8 = 34;
const MPTCP: u8 = 30;
const MD5: u8 = 19;
const AUTHENTICATION: u8 = 29;
const USER_TIMEOUT: u8 = 28;
const EXPERIMENT: u8 = 254;

pub fn all(book: &mut Book) {
    handshakes(book);
    selective_acknowledgements(book);
    timestamp_layouts(book);
    extensions(book);
    malformed(book);
}

fn joined(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

/// What SYNs offer: alone, all together, in other stacks' orders; agreed to or not.
fn handshakes(book: &mut Book) {
    let scale = |shift| joined(&[&mss(1460), &wscale(shift), &[NOP]]);
    let offers: [[Vec<u8>; 2]; 14] = [
        [vec![], vec![]],
        [mss(1460), mss(536)],
        [mss(0), mss(65535)],
        [scale(0), scale(14)],
        // Above 14 counts as 14 (RFC 7323 2.3).
        [scale(15), scale(255)],
        // Offered by one end only: no scaling at all.
        [scale(7), mss(1460)],
        [mss(1460), scale(7)],
        [joined(&[&mss(1460), &sack_permitted(), &[NOP, NOP]]), joined(&[&mss(1460), &sack_permitted(), &[NOP, NOP]])],
        // Linux.
        [
            joined(&[&mss(1460), &sack_permitted(), &timestamps(7, 0), &[NOP], &wscale(7)]),
            joined(&[&mss(1460), &sack_permitted(), &timestamps(9, 7), &[NOP], &wscale(7)]),
        ],
        // Windows.
        [
            joined(&[&mss(1460), &[NOP], &wscale(8), &[NOP, NOP], &sack_permitted()]),
            joined(&[&mss(1440), &[NOP], &wscale(8), &sack_permitted(), &timestamps(9, 0), &[END]]),
        ],
        // macOS.
        [
            joined(&[&mss(1460), &[NOP], &wscale(6), &[NOP, NOP], &timestamps(7, 0), &sack_permitted(), &[END, END]]),
            joined(&[&mss(1460), &[NOP], &wscale(6), &[NOP, NOP], &timestamps(9, 7), &sack_permitted(), &[END, END]]),
        ],
        // All forty bytes.
        [
            joined(&[
                &mss(1460),
                &sack_permitted(),
                &timestamps(7, 0),
                &[NOP],
                &wscale(7),
                &other(FAST_OPEN, 18, 0xc0),
                &[NOP, NOP],
            ]),
            joined(&[&mss(1460), &sack_permitted(), &timestamps(9, 7), &[NOP], &wscale(7), &other(MPTCP, 20, 0)]),
        ],
        // The same kind twice: the last one counts, as it does for stacks.
        [joined(&[&mss(1460), &mss(500), &wscale(2), &wscale(9), &[NOP, NOP]]), scale(7)],
        // What stands behind the end of the list does not count.
        [joined(&[&mss(1460), &[END, END, END, END], &wscale(9), &[END]]), scale(7)],
    ];
    for offer in offers {
        let mut talk = book.talk(Envelope::v4());
        talk.syn_options = offer;
        talk.whole();
    }
}

/// One to four blocks, beside timestamps, and duplicates reported by D-SACK (RFC 2883).
fn selective_acknowledgements(book: &mut Book) {
    let mut talk = book.talk(Envelope::v4());
    talk.open();
    talk.data(End::Client, 100);
    let hole = talk.nxt(End::Client);
    // Nine segments of which every second one is lost on the way to the server, but not to us.
    for _ in 0..9 {
        talk.data(End::Client, 100);
    }
    let block = |n: u32| (hole.wrapping_add(100 + 200 * n), hole.wrapping_add(200 + 200 * n));
    for blocks in [
        &[block(0)][..],
        &[block(1), block(0)],
        &[block(2), block(1), block(0)],
        &[block(3), block(2), block(1), block(0)],
    ] {
        for layout in [vec![NOP, NOP], vec![]] {
            talk.ack_number(End::Server, hole, &joined(&[&layout, &sack(blocks)]));
        }
    }
    // Retransmissions fill the holes one by one.
    for n in 0..4u32 {
        let offset = -900 + i64::from(n) * 200;
        talk.data_at(End::Client, offset, 100);
    }
    talk.ack(End::Server);
    // Sent again although it was acknowledged: the duplicate is reported, below the acknowledgement...
    talk.data_at(End::Client, -900, 100);
    let duplicate = (talk.at(End::Client, -900), talk.at(End::Client, -800));
    talk.ack_with(End::Server, &joined(&[&[NOP, NOP], &sack(&[duplicate])]));
    // ... and within a block above it.
    talk.data(End::Client, 100);
    talk.data(End::Client, 100);
    let above = (talk.at(End::Client, -100), talk.nxt(End::Client));
    let ack = talk.at(End::Client, -200);
    talk.data_at(End::Client, -100, 100);
    talk.ack_number(End::Server, ack, &joined(&[&[NOP, NOP], &sack(&[above, above])]));
    talk.ack(End::Server);
    talk.close(End::Client);

    // With timestamps there is room for three.
    let mut talk = book.talk(Envelope::v4());
    talk.clocks = Some([100, 900]);
    talk.syn_options = [joined(&[&mss(1460), &sack_permitted(), &[NOP], &wscale(7), &[NOP, NOP]]), vec![]];
    talk.syn_options[1] = talk.syn_options[0].clone();
    talk.open();
    let hole = talk.nxt(End::Client);
    for _ in 0..6 {
        talk.data(End::Client, 100);
    }
    let block = |n: u32| (hole.wrapping_add(100 + 200 * n), hole.wrapping_add(200 + 200 * n));
    talk.ack_number(End::Server, hole, &joined(&[&[NOP, NOP], &sack(&[block(2), block(1), block(0)])]));
    talk.close(End::Client);

    // Blocks that cannot be: inverted, empty, over what was never sent, beyond the own window.
    let mut talk = book.talk(Envelope::v4());
    talk.open();
    talk.data(End::Client, 1000);
    let next = talk.nxt(End::Client);
    for (left, right) in [(-100, -500), (-100, -100), (500, 900), (40_000_000, 40_000_900), (-700, 300)] {
        let block = (next.wrapping_add(left as u32), next.wrapping_add(right as u32));
        talk.ack_number(End::Server, next.wrapping_sub(1000), &joined(&[&[NOP, NOP], &sack(&[block])]));
    }
    talk.reset(End::Client, 0, ACK);
}

/// The aligned layout has a fast path; the others do not.
fn timestamp_layouts(book: &mut Book) {
    type Layout<'a> = &'a dyn Fn(&[u8]) -> Vec<u8>;
    let layouts: [Layout<'_>; 5] = [
        &|stamp| joined(&[&[NOP, NOP], stamp]),
        &|stamp| joined(&[stamp, &[NOP, NOP]]),
        &|stamp| joined(&[stamp, &[END]]),
        &|stamp| joined(&[&[NOP], stamp, &[NOP]]),
        &|stamp| joined(&[&[NOP, NOP], stamp, &[NOP, NOP, NOP, NOP]]),
    ];
    let mut talk = book.talk(Envelope::v4());
    let offer = joined(&[&mss(1460), &sack_permitted(), &timestamps(1000, 0), &[NOP], &wscale(7)]);
    talk.syn_options = [offer.clone(), offer];
    talk.open();
    let mut clock = 1000;
    for layout in layouts {
        clock += 10;
        talk.send(End::Client, PSH | ACK, &layout(&timestamps(clock, clock - 1)), 100);
        talk.ack_with(End::Server, &layout(&timestamps(clock, clock)));
    }
    // Missing where they were agreed (RFC 7323 3.2), back in time (PAWS), and past their wrap.
    talk.data(End::Client, 100);
    talk.ack(End::Server);
    for value in [clock - 5, clock.wrapping_sub(5000), clock.wrapping_add(1 << 31), u32::MAX, 3] {
        talk.send(End::Client, PSH | ACK, &joined(&[&[NOP, NOP], &timestamps(value, clock)]), 100);
        talk.ack_with(End::Server, &joined(&[&[NOP, NOP], &timestamps(clock, value)]));
    }
    talk.close(End::Client);
}

/// Fast open, MPTCP, MD5, TCP-AO and what is only skipped.
fn extensions(book: &mut Book) {
    let syn = |more: &[u8]| joined(&[&mss(1460), &sack_permitted(), &[NOP], &wscale(7), &[NOP, NOP], more]);
    // A cookie is asked for and given; then data comes with the SYN (RFC 7413).
    let mut talk = book.talk(Envelope::v4());
    talk.syn_options = [syn(&other(FAST_OPEN, 2, 0)), syn(&other(FAST_OPEN, 10, 0xc0))];
    talk.whole();
    let mut talk = book.talk(Envelope::v4());
    talk.send(End::Client, SYN, &syn(&other(FAST_OPEN, 10, 0xc0)), 200);
    talk.send(End::Server, SYN | ACK, &syn(&[]), 0);
    talk.data(End::Server, 500);
    talk.ack(End::Client);
    talk.close(End::Server);
    // The experimental kind of it.
    let mut talk = book.talk(Envelope::v4());
    talk.syn_options = [syn(&[EXPERIMENT, 4, 0xf9, 0x89]), syn(&[])];
    talk.whole();
    // MP_CAPABLE, DSS, then MP_FASTCLOSE and MP_TCPRST (RFC 8684 3.5, 3.6).
    for (subtype, len, flags) in [(0x70, 12, RST | ACK), (0x80, 4, RST | ACK), (0x80, 4, RST)] {
        let mut talk = book.talk(Envelope::v4());
        talk.syn_options = [syn(&[MPTCP, 4, 0x01, 0x81]), syn(&other(MPTCP, 12, 0))];
        talk.open();
        talk.send(End::Client, PSH | ACK, &other(MPTCP, 20, 0x20), 100);
        talk.ack_with(End::Server, &other(MPTCP, 12, 0x20));
        let (seq, ack) = (talk.nxt(End::Server), talk.nxt(End::Client));
        talk.raw(End::Server, seq, ack, flags, &other(MPTCP, len, subtype), 0);
    }
    // Signed connections: an unsigned RST does nothing (RFC 2385, RFC 5925).
    for (kind, len) in [(MD5, 18), (AUTHENTICATION, 16)] {
        let signature = other(kind, len, 0x5a);
        let mut talk = book.talk(Envelope::v4());
        talk.syn_options = [syn(&signature), syn(&signature)];
        talk.send(End::Client, SYN, &syn(&signature), 0);
        talk.send(End::Server, SYN | ACK, &syn(&signature), 0);
        talk.ack_with(End::Client, &signature);
        talk.send(End::Client, PSH | ACK, &signature, 100);
        talk.ack_with(End::Server, &signature);
        talk.reset(End::Client, 0, 0);
        talk.send(End::Client, PSH | ACK, &signature, 100);
        let seq = talk.nxt(End::Server);
        talk.raw(End::Server, seq, 0, RST, &signature, 0);
    }
    let mut talk = book.talk(Envelope::v4());
    talk.syn_options = [syn(&other(USER_TIMEOUT, 4, 1)), syn(&joined(&[&other(99, 7, 0xee), &other(77, 2, 0)]))];
    talk.whole();
}

/// Options that no stack should send, in a SYN and in later segments.
fn malformed(book: &mut Book) {
    let bad: [Vec<u8>; 34] = [
        // Lengths that do not suit the kind.
        vec![2, 3, 5, NOP],
        vec![2, 2, NOP, NOP],
        vec![2, 5, 5, 180, 0, NOP, NOP, NOP],
        vec![3, 2, NOP, NOP],
        vec![3, 4, 7, 7],
        vec![4, 3, 0, NOP],
        vec![8, 8, 0, 0, 0, 1, 0, 0],
        vec![8, 11, 0, 0, 0, 1, 0, 0, 0, 0, 0, NOP],
        vec![5, 2, NOP, NOP],
        vec![5, 9, 0, 0, 0, 1, 0, 0, 0, NOP, NOP, NOP],
        other(5, 33, 1),
        // A length of zero and one: an endless walk for the careless.
        vec![7, 0, NOP, NOP],
        vec![7, 1, NOP, NOP],
        vec![8, 0, 0, 0, 0, 0, 0, 0],
        // Beyond the header, by one byte and by many.
        vec![2, 4, 5, 180, 8, 10, 0, 0],
        vec![NOP, NOP, NOP, 8, 10, 0, 0, 0, 1, 0, 0, 0],
        vec![3, 255, 0, 0],
        vec![5, 34, 0, 0],
        vec![5, 10, 0, 0, 0, 1, 0, 0],
        other(99, 40, 0),
        joined(&[&other(99, 36, 0), &[99, 5, 0, 0]]),
        joined(&[&other(99, 38, 0), &[NOP, 99]]),
        // The option at the very last byte: a kind without a length.
        vec![NOP, NOP, NOP, 2],
        vec![NOP, NOP, NOP, 8],
        vec![NOP, NOP, NOP, 255],
        vec![2, 4, 5, 180, NOP, NOP, NOP, 3],
        joined(&[&[NOP; 39], &[8]]),
        // The end and fillers there, which is right.
        vec![NOP, NOP, NOP, END],
        vec![NOP, NOP, NOP, NOP],
        vec![END, 2, 4, 5],
        // More fillers than anybody needs, with something behind them.
        vec![NOP; 12],
        vec![NOP; 16],
        joined(&[&[NOP; 36], &mss(1460)]),
        joined(&[&[NOP; 10], &timestamps(1, 2)]),
    ];
    for options in &bad {
        let mut talk = book.talk(Envelope::v4());
        talk.syn_options[0] = options.clone();
        talk.open();
        talk.send(End::Client, PSH | ACK, options, 100);
        talk.ack_with(End::Server, options);
        // At the very end of the packet: nothing is captured behind the option.
        talk.envelope.padded_to = 0;
        talk.ack_with(End::Client, options);
        talk.reset(End::Server, 0, ACK);
    }
}
