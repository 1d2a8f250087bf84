//! What is said on a connection, from the handshake to the end.

use super::segment::End::{Client, Server};
use super::segment::{ACK, Connection, End, FIN, Frame, Link, MSS, PSH, RST, SYN};
use std::collections::VecDeque;

/// A conversation for the player.
#[derive(Clone, Debug)]
pub struct Conversation {
    pub frames: Vec<Frame>,
    /// Where it goes on after its last frame.
    pub lead: usize,
    /// What client and server have sent between the loop point and the end, bytes.
    pub bytes: [u32; 2],
    /// What the time stamps have moved on by.
    pub ticks: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Close,
    Reset,
}

const REQUESTS: u32 = 50;
const BULK: u32 = 1_000_000;

impl Conversation {
    /// Packets that an end sends between the loop point and the end.
    pub fn repeated_by(&self, end: End) -> u16 {
        self.frames[self.lead..].iter().filter(|f| f.from == end).count() as u16
    }

    /// One that ends, or whose next pass is another connection.
    fn once(frames: Vec<Frame>) -> Conversation {
        Conversation { frames, lead: 0, bytes: [0; 2], ticks: 0 }
    }

    /// Handshake, 50 requests and answers, 1 MB, FINs.
    pub fn whole(link: Link) -> Conversation {
        Conversation::once(spoken(0, link, REQUESTS, BULK).collect())
    }

    /// 30 packets: handshake, 3 requests and answers, 10 full segments, FINs.
    pub fn short() -> Conversation {
        Conversation::once(spoken(0, Link::Ipv4, 3, 10 * MSS).collect())
    }

    /// The first 30 packets of [`Conversation::whole`].
    pub fn beginning() -> Conversation {
        Conversation::once(spoken(0, Link::Ipv4, REQUESTS, BULK).take(30).collect())
    }

    /// A handshake and the first exchange, then for ever requests that are answered with a header and 20 kB: what an
    /// established connection carries, and nothing else. Each pass is 50 requests and 1 MB.
    pub fn steady(link: Link) -> Conversation {
        Conversation::endless(link, |c, frames| {
            for _ in 0..REQUESTS {
                exchange(c, frames, 0);
                let mut left = BULK / REQUESTS;
                while left > 0 {
                    transfer(c, frames, &mut left, 0);
                }
            }
        })
    }

    /// As [`Conversation::steady`], but of each five segments the first arrives last, so that of the acknowledgements
    /// two thirds carry a SACK block.
    pub fn sack() -> Conversation {
        Conversation::endless(Link::Ipv4, |c, frames| {
            for _ in 0..100 {
                let first = c.seq[Server as usize];
                let at = |n: u32| first.wrapping_add(n * MSS);
                let client = c.seq[Client as usize];
                for n in 1..5 {
                    frames.push(c.frame(Server, ACK, at(n), client, MSS, 0, None));
                    frames.push(c.frame(Client, ACK, client, first, 0, 0, Some([at(1), at(n + 1)])));
                }
                frames.push(c.frame(Server, ACK, first, client, MSS, 0, None));
                c.seq[Server as usize] = at(5);
                frames.push(c.segment(Client, ACK, 0, 0));
            }
        })
    }

    /// A SYN.
    pub fn syn() -> Conversation {
        Conversation::once(vec![Connection::new(0, Link::Ipv4).segment(Client, SYN, 0, 0)])
    }

    /// Handshake, a segment of data and its acknowledgement, then what ends the connection and is reported: FINs, or a
    /// reset.
    pub fn reported(ending: Ending) -> Conversation {
        let mut c = Connection::new(0, Link::Ipv4);
        let mut frames = Vec::new();
        handshake(&mut c, &mut frames);
        frames.extend([c.segment(Server, ACK, MSS, 0), c.segment(Client, ACK, 0, 0)]);
        match ending {
            Ending::Close => end(&mut c, &mut frames, 0),
            Ending::Reset => frames.push(c.segment(Client, RST | ACK, 0, 0)),
        }
        Conversation::once(frames)
    }

    /// A handshake and some data of the server's, then for ever the client's acknowledgement of it.
    pub fn acknowledgements() -> Conversation {
        let mut c = Connection::new(0, Link::Ipv4);
        let mut frames = Vec::new();
        handshake(&mut c, &mut frames);
        for _ in 0..2 {
            frames.extend([c.segment(Server, ACK, MSS, 0), c.segment(Client, ACK, 0, 0)]);
        }
        frames.push(c.segment(Client, ACK, 0, 0));
        let lead = frames.len() - 1;
        // The server says nothing more, so there is no later clock of its to echo.
        Conversation { frames, lead, bytes: [0; 2], ticks: 0 }
    }

    /// A UDP datagram each way.
    pub fn datagrams() -> Conversation {
        let mut c = Connection::new(0, Link::Ipv4);
        Conversation::once(vec![c.datagram(Client, 100), c.datagram(Server, 400)])
    }

    fn endless(link: Link, body: impl Fn(&mut Connection, &mut Vec<Frame>)) -> Conversation {
        let mut c = Connection::new(0, link);
        let mut frames = Vec::new();
        handshake(&mut c, &mut frames);
        begin(&mut c, &mut frames);
        let (lead, start) = (frames.len(), c.seq);
        body(&mut c, &mut frames);
        let bytes = [0, 1].map(|end| c.seq[end].wrapping_sub(start[end]));
        Conversation { frames, lead, bytes, ticks: 1 }
    }
}

fn handshake(c: &mut Connection, frames: &mut impl Extend<Frame>) {
    frames.extend([c.segment(Client, SYN, 0, 0), c.segment(Server, SYN | ACK, 0, 0), c.segment(Client, ACK, 0, 0)]);
}

fn exchange(c: &mut Connection, frames: &mut impl Extend<Frame>, now_ms: u32) {
    frames.extend([
        c.segment(Client, PSH | ACK, 100, now_ms),
        c.segment(Server, PSH | ACK, 400, now_ms),
        c.segment(Client, ACK, 0, now_ms),
    ]);
}

/// What each end says for the first time: with a million connections a round is one step of each, and a dozen rounds would
/// time first steps only.
fn begin(c: &mut Connection, frames: &mut impl Extend<Frame>) {
    exchange(c, frames, 0);
    let mut left = 4 * MSS;
    while left > 0 {
        transfer(c, frames, &mut left, 0);
    }
}

/// At most two full segments of what is `left`, and their acknowledgement.
fn transfer(c: &mut Connection, frames: &mut impl Extend<Frame>, left: &mut u32, now_ms: u32) {
    for _ in 0..2 {
        let size = (*left).min(MSS);
        if size > 0 {
            frames.extend([c.segment(Server, ACK, size, now_ms)]);
            *left -= size;
        }
    }
    frames.extend([c.segment(Client, ACK, 0, now_ms)]);
}

fn end(c: &mut Connection, frames: &mut impl Extend<Frame>, now_ms: u32) {
    frames.extend([
        c.segment(Server, FIN | ACK, 0, now_ms),
        c.segment(Client, FIN | ACK, 0, now_ms),
        c.segment(Server, ACK, 0, now_ms),
    ]);
}

/// The frames of a connection, made as they are taken.
pub struct Spoken {
    connection: Connection,
    ready: VecDeque<Frame>,
    requests: u32,
    bulk: u32,
    now_ms: u32,
    ended: bool,
}

/// All frames of the `n`-th connection: handshake, requests with answers, a transfer from the server, FINs.
pub fn spoken(n: u32, link: Link, requests: u32, bulk: u32) -> Spoken {
    let mut connection = Connection::new(n, link);
    let mut ready = VecDeque::new();
    handshake(&mut connection, &mut ready);
    Spoken { connection, ready, requests, bulk, now_ms: 0, ended: false }
}

impl Iterator for Spoken {
    type Item = Frame;

    fn next(&mut self) -> Option<Frame> {
        if let Some(frame) = self.ready.pop_front() {
            return Some(frame);
        }
        let (c, ready) = (&mut self.connection, &mut self.ready);
        if self.requests > 0 {
            self.requests -= 1;
            self.now_ms += 1;
            exchange(c, ready, self.now_ms);
        } else if self.bulk > 0 {
            self.now_ms += 1;
            transfer(c, ready, &mut self.bulk, self.now_ms);
        } else if !self.ended {
            self.ended = true;
            end(c, ready, self.now_ms);
        }
        self.ready.pop_front()
    }
}
