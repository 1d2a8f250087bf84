//! Performs every story on this kernel. Needs root; without it the tests say so and are skipped,
//! except under CI, where a skipped test would be a silent gap.

mod common;

use common::permitted;
use whyrst_lab::LabError;
use whyrst_lab::capture::HEADERS_ONLY;
use whyrst_lab::cleanup::ScratchDirectory;
use whyrst_lab::frame::Segment;
use whyrst_lab::story::{self, Ending, Facts, Kind, Narrator, Options, Outcome, nat, sequence};
use whyrst_lab::topology::Point;

fn perform(kind: Kind, options: &Options) -> Result<Outcome, LabError> {
    story::prepare(kind, options)?.tell(&mut Narrator::silent())
}

fn sequence_facts(options: &Options) -> sequence::Facts {
    let outcome = perform(Kind::Sequence, options).unwrap();
    assert_eq!(outcome.server_saw, Ending::Reset);
    assert_eq!(outcome.client_saw, Ending::OwnDoing);
    let Facts::Sequence(facts) = outcome.facts else {
        panic!("facts of another story: {:?}", outcome.facts);
    };
    assert_eq!(facts.hole_end.distance(facts.hole_start), 3000);
    assert!(facts.duplicate_acks >= 10, "{facts:?}");
    assert!(facts.retransmissions_above_hole >= 10, "{facts:?}");
    assert!(facts.stalled_for.as_secs_f64() >= 4.0, "{facts:?}");
    assert!(facts.rst_seq.after(facts.hole_end), "{facts:?}");
    assert_eq!(facts.retransmissions_before_hole, 0, "veth loses nothing: {facts:?}");
    facts
}

#[test]
fn a_sender_that_skips_bytes_ends_in_a_reset() {
    if permitted() {
        sequence_facts(&Options::default());
    }
}

#[test]
fn the_hole_may_contain_the_wrap() {
    if permitted() {
        let sequence = sequence::Options::wrap_inside_hole(false);
        let facts = sequence_facts(&Options { sequence, ..Options::default() });
        assert!(facts.hole_start.0 > facts.hole_end.0, "{facts:?}");
    }
}

#[test]
fn the_hole_may_follow_the_wrap() {
    if permitted() {
        let sequence = sequence::Options::wrap_before_hole();
        let facts = sequence_facts(&Options { sequence, ..Options::default() });
        assert!(facts.iss.0 > facts.hole_start.0, "{facts:?}");
        assert!(facts.hole_start.0 < facts.hole_end.0, "{facts:?}");
    }
}

#[test]
fn the_sequence_story_happens_over_ipv6() {
    if permitted() {
        sequence_facts(&Options { ipv6: true, ..Options::default() });
    }
}

#[test]
fn an_untranslated_segment_kills_a_healthy_connection() {
    if !permitted() {
        return;
    }
    for ipv6 in [false, true] {
        let outcome = perform(Kind::Nat, &Options { ipv6, ..Options::default() }).unwrap();
        assert_eq!((outcome.client_saw, outcome.server_saw), (Ending::Reset, Ending::Reset));
        let Facts::Nat(facts) = outcome.facts else {
            panic!("facts of another story: {:?}", outcome.facts);
        };
        assert!(facts.seen_untranslated);
        assert_eq!(facts.rst_seq, facts.stray_ack);
        // The stray segment and the RST that answers it.
        assert!(facts.invalid_packets >= 2, "{facts:?}");
    }
}

#[test]
fn unread_data_resets_the_client() {
    if !permitted() {
        return;
    }
    for ipv6 in [false, true] {
        let outcome = perform(Kind::Unread, &Options { ipv6, ..Options::default() }).unwrap();
        assert_eq!(outcome.client_saw, Ending::Reset);
        assert_eq!(outcome.server_saw, Ending::OwnDoing);
    }
}

/// The capture files of one story hold what the story says.
#[test]
fn captures_hold_the_whole_story() {
    if !permitted() {
        return;
    }
    let directory = ScratchDirectory::create(&format!("whyrst-{}-captures", std::process::id())).unwrap();
    let story = story::prepare(Kind::Nat, &Options::default()).unwrap();
    let captures = story::start_captures(Kind::Nat, &*story, directory.path(), HEADERS_ONLY).unwrap();
    let outcome = story.tell(&mut Narrator::silent()).unwrap();
    let summaries = story::stop_captures(captures).unwrap();
    let Facts::Nat(facts) = outcome.facts else {
        panic!("facts of another story: {:?}", outcome.facts);
    };
    assert_eq!(summaries.len(), Point::ALL.len());
    for (path, summary) in summaries {
        let bytes = std::fs::read(&path).unwrap();
        assert!(bytes.len() < 300_000, "{} is too large to be committed", path.display());
        let frames = frames_of(&bytes);
        assert_eq!(frames.len() as u64, summary.packets);
        let segments: Vec<_> = frames.iter().filter_map(|frame| Segment::from_frame(frame)).collect();
        let syns = segments.iter().filter(|segment| segment.flags.syn).count();
        assert_eq!(syns, 2, "{}", path.display());
        // Untranslated at every point, which is the fault.
        let stray = segments.iter().find(|segment| segment.seq == facts.stray_seq).unwrap();
        assert_eq!((stray.source, stray.destination), (facts.server, facts.client));
        let rst = segments.iter().find(|segment| segment.flags.rst).unwrap();
        assert_eq!((rst.source, rst.destination, rst.seq), (facts.client, facts.server, facts.stray_ack));
    }
}

#[test]
fn a_late_duplicate_is_translated_or_kills_but_nothing_else() {
    if !permitted() {
        return;
    }
    let nat = nat::Options { stray: nat::Stray::Late };
    match perform(Kind::Nat, &Options { nat, ..Options::default() }) {
        Ok(outcome) => assert_eq!(outcome.server_saw, Ending::Reset),
        Err(LabError::Plot(text)) => assert!(text.contains("not seen untranslated"), "{text}"),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn nothing_is_left_behind() {
    if !permitted() {
        return;
    }
    let story = story::prepare(Kind::Unread, &Options::default()).unwrap();
    let path = story.topology().router.path();
    assert!(path.exists());
    drop(story);
    assert!(!path.exists());
}

/// Records of a classic pcap, little-endian. Cut frames get their length back, filled with zeros,
/// since only headers are looked at.
fn frames_of(pcap: &[u8]) -> Vec<Vec<u8>> {
    let word = |at: usize| u32::from_le_bytes(pcap[at..at + 4].try_into().unwrap()) as usize;
    let mut frames = Vec::new();
    let mut at = 24;
    while at < pcap.len() {
        let (kept, len) = (word(at + 8), word(at + 12));
        let mut frame = pcap[at + 16..at + 16 + kept].to_vec();
        frame.resize(len, 0);
        frames.push(frame);
        at += 16 + kept;
    }
    frames
}
