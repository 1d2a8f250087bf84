//! The flight recorder: the headers of a connection's last packets.

use crate::flow::Direction;
use crate::segment::{Segment, opt};
use crate::seq::SeqNum;
use crate::tracker::state::{Core, Half, staged};
use bytemuck::{Pod, Zeroable};

/// Records kept per speaker.
pub const RECORDS: usize = 8;

/// Bit of [`Record::options`]: timestamps (RFC 7323).
pub const TIMESTAMPS: u8 = 1 << 0;
/// Bit of [`Record::options`]: MP_TCPRST or MP_FASTCLOSE (RFC 8684 sections 3.5 and 3.6).
pub const MPTCP_RESET: u8 = 1 << 1;

/// One packet's header in the flight recorder; 32 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Record {
    pub time_ns: u64,
    pub seq: SeqNum,
    pub ack: SeqNum,
    pub payload_len: u32,
    pub tsval: u32,
    pub wnd: u16,
    pub flags: u16,
    pub ip_id: u16,
    pub ttl: u8,
    /// [`TIMESTAMPS`], [`MPTCP_RESET`]; bits 4 to 6: number of SACK blocks.
    pub options: u8,
}

/// The last headers of a connection, [`RECORDS`] of each speaker. The slot of the next record follows from the
/// speaker's segment count, so the recorder needs no index of its own. One of each may still be with the state: see
/// [`Recorder::settle`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Recorder {
    pub record: [[Record; RECORDS]; 2],
}

impl Record {
    #[inline(always)]
    pub fn fill(&mut self, segment: &Segment, now_ns: u64) {
        self.time_ns = now_ns;
        self.seq = segment.seq;
        self.ack = segment.ack;
        self.payload_len = segment.payload_len;
        self.tsval = segment.tsval;
        self.wnd = segment.wnd;
        self.flags = segment.flags;
        self.ip_id = segment.ip_id;
        self.ttl = segment.ttl;
        let stamped = segment.has_option(opt::TIMESTAMPS) as u8 * TIMESTAMPS;
        let subflow = segment.has_option(opt::MPTCP_RESET) as u8 * MPTCP_RESET;
        self.options = stamped | subflow | (segment.sack_count << 4);
    }
}

/// Whether the state and the staged fields tell all of the segment's header, once the state has taken it.
#[inline(always)]
fn may_wait(me: &Half, s: &Segment, now_ns: u64) -> bool {
    let unstamped = (s.has_option(opt::TIMESTAMPS) as u32).wrapping_sub(1);
    // One comparison, not a branch each.
    let more =
        (s.payload_len >> 16) | (s.flags & !staged::CONTROL_BITS) as u32 | s.sack_count as u32 | (s.tsval & unstamped);
    more == 0 && now_ns >= me.last_ns
}

impl Recorder {
    /// Records a segment that header prediction takes, before `me` has taken it.
    ///
    /// Of two that share a cache line the first stays with the state, most of which it is anyway, until the second comes: a line
    /// costs a cache miss where there are many connections, and is written once then.
    #[inline(always)]
    pub fn take(&mut self, speaker: Direction, me: &mut Half, segment: &Segment, now_ns: u64) {
        let number = me.segments;
        if number & 1 != 0 {
            self.settle(speaker, me);
        } else if may_wait(me, segment, now_ns) {
            let stamped = segment.has_option(opt::TIMESTAMPS) as u16 * staged::TIMESTAMPS;
            me.staged_len = segment.payload_len as u16;
            me.staged = segment.flags | staged::YES | stamped;
            me.staged_id = segment.ip_id;
            return;
        }
        self.put(speaker, number, segment, now_ns);
    }

    /// Writes the header that stayed with the state.
    #[inline(always)]
    pub fn settle(&mut self, speaker: Direction, me: &mut Half) {
        if me.staged == 0 {
            return;
        }
        let stamped = (me.staged & staged::TIMESTAMPS != 0) as u32;
        let last = me.segments.wrapping_sub(1) as usize & (RECORDS - 1);
        self.record[speaker.index()][last] = Record {
            time_ns: me.last_ns,
            seq: me.prev_seq,
            ack: me.prev_ack,
            payload_len: me.staged_len as u32,
            tsval: me.ts_hi & stamped.wrapping_neg(),
            wnd: me.wnd,
            flags: me.staged & staged::CONTROL_BITS,
            ip_id: me.staged_id,
            ttl: me.ttl,
            options: stamped as u8 * TIMESTAMPS,
        };
        (me.staged_len, me.staged, me.staged_id) = (0, 0, 0);
    }

    /// The same for both speakers.
    #[inline(always)]
    pub fn settle_all(&mut self, c: &mut Core) {
        self.settle(Direction::Forward, &mut c.half[0]);
        self.settle(Direction::Reverse, &mut c.half[1]);
    }

    /// The last of `count` records of the speaker.
    #[inline(always)]
    pub fn last(&self, speaker: Direction, count: u32) -> &Record {
        &self.record[speaker.index()][count.wrapping_sub(1) as usize & (RECORDS - 1)]
    }

    /// Records `segment`, the `number`-th of its speaker.
    #[inline(always)]
    pub fn put(&mut self, speaker: Direction, number: u32, segment: &Segment, now_ns: u64) {
        self.record[speaker.index()][number as usize & (RECORDS - 1)].fill(segment, now_ns);
    }
}
