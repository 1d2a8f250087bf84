//! Facts that several causes ask for, derived once from a history.

use super::desync::{self, DesyncView, OpenHole, open_hole};
use super::forged::{self, Assessment};
use super::kernel_word::NO_REASON;
use super::shape::{self, Mechanism, ResetView, Shape, echo_ns};
use super::silent::{Stuck, stuck, stuck_at_end};
use super::words::{count, duration};
use crate::history::{End, History, KernelFact};
use monitor_common::Anomaly;
use monitor_common::flow::Direction;
use monitor_common::recorder::Record;
use monitor_common::segment::flags;
use monitor_common::seq::SeqNum;
use monitor_common::tracker::SECOND;
use monitor_common::tracker::state::{Fault, Half, conn, half};

/// A history and what follows from it.
pub struct View<'a> {
    pub history: &'a History,
    /// The RST that ended it, effective or not.
    pub reset: Option<ResetView>,
    /// What speaks against the RST's claimed sender.
    pub forged: Option<Assessment>,
    /// The ends had stopped accepting each other's segments.
    pub desync: Option<DesyncView>,
}

impl<'a> View<'a> {
    pub fn new(history: &'a History) -> View<'a> {
        let reset = ResetView::of(history);
        let desync = desync::judge(history, reset.as_ref());
        let forged = reset.as_ref().and_then(|r| forged::assess(history, r));
        View { history, reset, forged, desync }
    }

    pub fn half(&self, speaker: Direction) -> &Half {
        self.history.half(speaker)
    }

    pub fn fault(&self, speaker: Direction) -> &Fault {
        &self.history.connection.fault[speaker.index()]
    }

    pub fn mechanism(&self) -> Mechanism {
        match (&self.reset, self.history.end) {
            (Some(r), _) => r.mechanism,
            (None, End::Silent) => Mechanism::TimeoutNoRst,
            (None, _) => Mechanism::None,
        }
    }

    /// The RST, where it took effect and its sender made it by itself.
    pub fn abort(&self) -> Option<&ResetView> {
        self.reset.as_ref().filter(|r| r.effective && r.mechanism.is_abort())
    }

    /// An abort of the sender of the effective answer, which the other end could not take: behind a hole, or below what it
    /// had just acknowledged, the number of an abort does not fit (RFC 5961 section 3). The answers to what comes after it
    /// do.
    pub fn abort_before(&self) -> Option<ResetView> {
        let reset = self.reply()?;
        let (from, until) = (reset.record.time_ns.saturating_sub(self.echo_ns()), reset.record.time_ns);
        let records = self.history.records.iter().filter(|r| r.speaker == reset.sender).map(|r| r.record);
        let abort = records.rev().find(|r| {
            let both = flags::RST | flags::ACK;
            r.flags & both == both && r.seq != SeqNum(0) && (from..until).contains(&r.time_ns)
        })?;
        // Its own numbers, with its own view of the other end's.
        let me = self.half(reset.sender);
        let own = me.has(half::SEEN) && abort.seq.at_or_before(me.snd_nxt) && abort.ack == me.prev_ack;
        own.then_some(ResetView {
            record: abort,
            shape: Shape::Active,
            mechanism: Mechanism::ActiveAbort,
            trigger: None,
            ..*reset
        })
    }

    /// The RST, where it took effect and answers a segment.
    pub fn reply(&self) -> Option<&ResetView> {
        self.reset.as_ref().filter(|r| r.effective && r.mechanism.is_reply())
    }

    /// The RST, where it took effect.
    pub fn effective(&self) -> Option<&ResetView> {
        self.reset.as_ref().filter(|r| r.effective)
    }

    /// It ended without a RST, and not by a close.
    pub fn fell_silent(&self) -> bool {
        self.reset.is_none() && matches!(self.history.end, End::Silent)
    }

    /// The end that was stuck and gave its connection up: the reset that answers a late segment shows that it has none
    /// any more; without a reset the silence does.
    pub fn gave_up(&self) -> Option<Stuck> {
        let c = &self.history.connection;
        match self.reply() {
            Some(reset) => stuck(c, reset.sender).filter(|_| reset.seq() == self.half(reset.sender.other()).ack),
            None if self.fell_silent() => [Direction::Forward, Direction::Reverse]
                .into_iter()
                .filter_map(|d| stuck(c, d))
                .max_by_key(|s| s.attempts),
            None => None,
        }
    }

    /// The end whose data did not get through, whoever gave up first: it may also be that the other end closed and
    /// refused what came late.
    pub fn held_up(&self) -> Option<Stuck> {
        if !self.fell_silent() && self.effective().is_none() {
            return None;
        }
        [Direction::Forward, Direction::Reverse]
            .into_iter()
            .filter_map(|d| stuck_at_end(self.history, d))
            .max_by_key(|s| s.attempts)
    }

    /// The other end of a stuck sender still spoke while it was stuck: it lives, and the way back works.
    pub fn alive_beside(&self, stuck: &Stuck) -> bool {
        let until_ns = match &self.reset {
            // What the stuck end's own reset answers came after it had given up.
            Some(r) if r.sender == stuck.sender => stuck.last_try_ns,
            _ => u64::MAX,
        };
        self.records(stuck.sender.other()).any(|r| r.time_ns > stuck.since_ns && r.time_ns < until_ns)
    }

    /// The other end of a stuck sender spoke after the first attempt and before the last, so the way back works and the
    /// end lives.
    pub fn heard_meanwhile(&self, stuck: &Stuck) -> bool {
        self.records(stuck.sender.other()).any(|r| r.time_ns > stuck.since_ns && r.time_ns < stuck.last_try_ns)
    }

    /// Both directions are off, each by an amount of its own: one end acknowledges what the other never sent, or disowns
    /// what was seen sent in its name, and so does the other.
    pub fn both_off(&self) -> bool {
        let off = |data: Direction| self.fault(data).shift_hits > 0 || self.fault(data).phantom_hits > 0;
        off(Direction::Forward) && off(Direction::Reverse)
    }

    /// Packets in `speaker`'s name came from elsewhere, from `since_ns` on: another TTL, IP-ID series or hardware address.
    pub fn identity_broke(&self, speaker: Direction, since_ns: u64) -> bool {
        [Anomaly::TtlShift, Anomaly::IpidBreak, Anomaly::L2Shift]
            .into_iter()
            .any(|a| self.history.seen(a).any(|s| s.speaker == speaker && s.last_ns >= since_ns))
    }

    // Words.

    /// `client` or `server`.
    pub fn role(&self, speaker: Direction) -> &'static str {
        self.history.role(speaker)
    }

    /// `the client 10.0.0.1:40001`.
    pub fn who(&self, speaker: Direction) -> String {
        format!("the {} {}", self.role(speaker), self.history.endpoint(speaker))
    }

    /// As [`View::who`], at the head of a sentence.
    pub fn who_first(&self, speaker: Direction) -> String {
        format!("The {} {}", self.role(speaker), self.history.endpoint(speaker))
    }

    /// `number` of `speaker`'s stream relative to its ISN, as capture tools print it; none without its SYN.
    pub fn relative(&self, speaker: Direction, number: SeqNum) -> Option<u32> {
        let me = self.half(speaker);
        me.has(half::SYN).then(|| number.0.wrapping_sub(me.iss.0))
    }

    /// `relative sequence number 3001 (absolute 189080)`, or `sequence number 189080` without the ISN.
    pub fn number(&self, speaker: Direction, number: SeqNum) -> String {
        match self.relative(speaker, number) {
            Some(n) => format!("relative sequence number {n} (absolute {})", number.0),
            None => format!("sequence number {}", number.0),
        }
    }

    /// The number alone, relative where that is possible.
    pub fn short(&self, speaker: Direction, number: SeqNum) -> u32 {
        self.relative(speaker, number).unwrap_or(number.0)
    }

    /// `The server's application (10.0.0.2:80)`.
    pub fn application(&self, speaker: Direction) -> String {
        format!("The {}'s application ({})", self.role(speaker), self.history.endpoint(speaker))
    }

    /// How a connection that had diverged went on.
    pub fn ending(&self, d: &DesyncView) -> String {
        let lead = duration(self.history.time_ns.saturating_sub(d.first_ns));
        match (&self.reset, self.history.end) {
            (Some(r), _) => format!("{} later the connection was reset by {}", lead, self.who(r.sender)),
            (None, End::Silent) => format!("{lead} later the connection fell silent"),
            (None, End::Closed) => format!("it was closed {lead} later"),
            (None, _) => format!("that was {lead} ago and the connection is still open"),
        }
    }

    // Who said what.

    /// Payload of `speaker`, retransmissions included.
    pub fn bytes(&self, speaker: Direction) -> u64 {
        self.half(speaker).bytes
    }

    pub fn no_data(&self) -> bool {
        self.history.connection.half.iter().all(|h| h.bytes == 0)
    }

    pub fn any_fin(&self) -> bool {
        self.history.connection.half.iter().any(|h| h.has(half::FIN))
    }

    /// Both ends have sent data, so no handshake class applies (DIAGNOSIS 3.3 step 6).
    pub fn data_both_ways(&self) -> bool {
        self.history.connection.half.iter().all(|h| h.bytes > 0)
    }

    /// The headers that are still there of one speaker, RSTs excluded, oldest first.
    pub fn records(&self, speaker: Direction) -> impl DoubleEndedIterator<Item = &Record> {
        self.history
            .records
            .iter()
            .filter(move |r| r.speaker == speaker && r.record.flags & flags::RST == 0)
            .map(|r| &r.record)
    }

    /// When `speaker` last sent data, retransmissions included; none if it never did or too long ago to be known.
    pub fn last_data_ns(&self, speaker: Direction) -> Option<u64> {
        let recorded = self.records(speaker).rev().find(|r| r.payload_len > 0).map(|r| r.time_ns);
        let me = self.half(speaker);
        // A FIN moves SND.NXT too, so the tracker's time is that of data only without one.
        recorded.or_else(|| (me.bytes > 0 && !me.has(half::FIN) && me.data_ns != 0).then_some(me.data_ns))
    }

    /// Who sent the last data before the end.
    pub fn last_data_from(&self) -> Option<Direction> {
        let times = [Direction::Forward, Direction::Reverse].map(|d| (self.last_data_ns(d), d));
        times.into_iter().filter_map(|(t, d)| t.map(|t| (t, d))).max_by_key(|(t, _)| *t).map(|(_, d)| d)
    }

    /// The last segment of `speaker` before the end that was no RST.
    pub fn last_heard_ns(&self, speaker: Direction) -> Option<u64> {
        self.records(speaker).next_back().map(|r| r.time_ns)
    }

    /// All data of `speaker` before the RST of the other end was acknowledged, by that RST at the latest.
    pub fn received_all(&self, speaker: Direction) -> bool {
        let by_reset = self.reset.as_ref().is_some_and(|r| {
            r.sender == speaker.other()
                && r.record.flags & flags::ACK != 0
                && r.record.ack == self.half(speaker).snd_nxt
        });
        by_reset || self.history.all_acked(speaker)
    }

    /// Most bytes that the application of `receiver` can have left unread: what came since it last sent data itself.
    /// None when that cannot be told from the headers that are left.
    pub fn unread_at_most(&self, receiver: Direction) -> Option<u32> {
        let sender = receiver.other();
        let nxt = self.half(sender).snd_nxt;
        if self.bytes(receiver) == 0 {
            return self.relative(sender, nxt).map(|n| n.saturating_sub(1));
        }
        let answered = self.records(receiver).rev().find(|r| r.payload_len > 0 && r.flags & flags::ACK != 0)?;
        Some(nxt.distance(answered.ack).max(0) as u32)
    }

    /// When `speaker` sent its FIN: SND.NXT does not move after it.
    pub fn fin_ns(&self, speaker: Direction) -> Option<u64> {
        let me = self.half(speaker);
        me.has(half::FIN).then_some(me.data_ns)
    }

    pub fn fin_acked(&self, speaker: Direction) -> bool {
        self.history.connection.fin_acked(speaker)
    }

    pub fn hole(&self, data: Direction) -> Option<OpenHole> {
        open_hole(self.history, data)
    }

    /// ECHO of DIAGNOSIS 0.
    pub fn echo_ns(&self) -> u64 {
        echo_ns(self.history)
    }

    /// Silence both ways before the segment that provoked the RST, or before the RST.
    pub fn idle_before_end_ns(&self) -> u64 {
        let Some(reset) = &self.reset else { return 0 };
        let end = reset.trigger.map_or(reset.record.time_ns, |t| t.time_ns);
        let before = self.history.records.iter().map(|r| r.record.time_ns).filter(|t| *t < end).max().unwrap_or(end);
        end - before
    }

    // What the kernel said.

    /// `tcp_send_reset` on the host that sent the RST.
    pub fn send_reset(&self) -> Option<&KernelFact> {
        let reset = self.reset.as_ref()?;
        shape::said(self.history, reset.sender, &reset.record)
    }

    /// Its reason; none where this kernel has none to give.
    pub fn reason(&self) -> Option<&str> {
        let reason = self.send_reset()?.reason.as_str();
        (!matches!(reason, "" | NO_REASON | "NOT_SPECIFIED" | "ERROR")).then_some(reason)
    }

    pub fn reason_is(&self, names: &[&str]) -> bool {
        self.reason().is_some_and(|r| names.contains(&r))
    }

    /// The kernel gave a reason, and it is none of these.
    pub fn reason_is_not(&self, names: &[&str]) -> bool {
        self.reason().is_some_and(|r| !names.contains(&r))
    }

    /// A socket of this host reported an error of this name.
    pub fn socket_error(&self, name: &str) -> Option<&KernelFact> {
        self.history.kernel.iter().find(|f| f.source == "inet_sk_error_report" && f.reason == name)
    }

    /// The kernel of an end gave up: no answer for longer than it waits (ETIMEDOUT).
    pub fn timed_out(&self) -> Option<&KernelFact> {
        self.socket_error("ETIMEDOUT")
    }

    /// The kernel of a host dropped segments of this connection for this reason.
    pub fn dropped(&self, reason: &str) -> Option<&KernelFact> {
        self.history.kernel.iter().find(|f| f.source == "kfree_skb" && f.reason == reason)
    }

    /// The end that is a socket of the observer's own host, as its kernel's words show.
    pub fn local_end(&self) -> Option<Direction> {
        self.history.kernel.iter().find(|f| f.dropped.is_none()).map(|f| f.local)
    }

    /// ` (process 4242, nginx)` or nothing.
    pub fn process(&self) -> String {
        let Some(fact) = self.send_reset() else { return String::new() };
        match (fact.pid, fact.command.as_deref()) {
            (Some(pid), Some(command)) => format!(" (process {pid}, {command})"),
            (Some(pid), None) => format!(" (process {pid})"),
            _ => String::new(),
        }
    }

    // What the view lacks.

    pub fn lossy(&self) -> bool {
        self.history.capture_lossy()
    }

    /// The window scale was inferred from what the receiver took, not read from the SYNs.
    pub fn scale_inferred(&self) -> bool {
        self.history.connection.flags & conn::SCALE_INFERRED != 0
    }

    /// What is wrong with this vantage point, in words; empty when nothing is.
    pub fn limits(&self) -> Vec<String> {
        let mut out = Vec::new();
        if self.history.mid_stream() {
            out.push("the handshake was not seen".into());
        }
        if self.history.one_way() {
            out.push("only one end was heard".into());
        }
        if self.lossy() {
            let missed = self.history.connection.fault.iter().map(|f| u64::from(f.gaps_confirmed)).sum();
            out.push(format!("packets are missing from the observation ({})", count(missed, "proven gap")));
        }
        out
    }

    /// Seconds-long silence of an idle time-out or a dead peer: the shortest idle time-out known of a device is a
    /// minute, the tracker's bar 50 s.
    pub fn idled(&self) -> bool {
        self.idle_before_end_ns() >= 50 * SECOND
    }
}
