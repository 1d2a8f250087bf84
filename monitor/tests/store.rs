//! The history of findings: bounded, by id, followed without a gap.

mod common;

use common::findings::{NOON, degraded, desynchronised, endpoint, ineffective, unread};
use monitor::finding::Finding;
use monitor::store::{FEED, Filter, Store, VerdictKey, Wanted};
use std::time::{Duration, Instant};
use tokio::sync::broadcast::error::TryRecvError;

fn ids(store: &Store) -> Vec<u64> {
    store.select(&Filter::default()).findings.iter().map(|f| f.id).collect()
}

#[test]
fn a_full_history_drops_the_oldest_and_forgets_its_id() {
    let store = Store::new(3);
    (1..=5).for_each(|id| store.record(unread(id)));
    assert_eq!(ids(&store), [3, 4, 5]);
    assert!(store.find(&Wanted::Id(2)).is_none());
    assert_eq!(store.find(&Wanted::Id(3)).unwrap().id, 3);
    assert_eq!(store.totals().reset_count(), 5, "totals are of all, not of those held");
}

#[test]
fn a_later_finding_with_the_same_id_replaces_the_former_in_its_place() {
    let store = Store::new(10);
    (1..=3).for_each(|id| store.record(unread(id)));
    store.record(Finding { confidence: 99, ..unread(2) });
    assert_eq!(ids(&store), [1, 2, 3]);
    assert_eq!(store.find(&Wanted::Id(2)).unwrap().confidence, 99);
    assert_eq!((store.totals().reset_count(), store.totals().revised), (3, 0));
}

#[test]
fn replacing_still_finds_the_place_after_the_history_has_moved_on() {
    let store = Store::new(2);
    (1..=4).for_each(|id| store.record(unread(id)));
    store.record(Finding { echoes: 7, ..unread(4) });
    assert_eq!(ids(&store), [3, 4]);
    assert_eq!(store.find(&Wanted::Id(4)).unwrap().echoes, 7);
}

#[test]
fn a_changed_verdict_is_counted_as_revised_because_a_counter_cannot_take_back() {
    let store = Store::new(10);
    store.record(unread(1));
    store.record(Finding { cause: "abortive_close".into(), ..unread(1) });
    let totals = store.totals();
    assert_eq!((totals.reset_count(), totals.revised), (1, 1));
    let key =
        VerdictKey { cause: "close_with_unread_data".into(), culprit: "server".into(), phase: "established".into() };
    assert_eq!(totals.resets[&key], 1);
}

#[test]
fn a_degraded_connection_that_is_reset_in_the_end_counts_as_both() {
    let store = Store::new(10);
    store.record(degraded(1));
    store.record(desynchronised(1));
    let totals = store.totals();
    assert_eq!((totals.degraded_count(), totals.reset_count(), totals.revised), (1, 1, 0));
}

#[test]
fn findings_are_counted_by_what_they_are() {
    let store = Store::new(10);
    [desynchronised(1), desynchronised(2), ineffective(3), degraded(4), unread(5)]
        .into_iter()
        .for_each(|f| store.record(f));
    let totals = store.totals();
    assert_eq!((totals.reset_count(), totals.degraded_count()), (3, 1));
    assert_eq!(totals.ineffective["out_of_window"], 1);
    assert_eq!(totals.lead.count, 2, "only resets after a desynchronisation have a lead time");
    assert!((totals.lead.sum_seconds - 26.204).abs() < 1e-9);
    assert_eq!(totals.lead.counts[5], 2, "13.1 s is in the bucket up to 30 s");
}

#[test]
fn names_from_outside_of_the_catalogue_cannot_grow_the_totals_without_bound() {
    let store = Store::new(1);
    (0..3000).for_each(|id| store.record(Finding { cause: format!("cause_{id}"), ..unread(id) }));
    let totals = store.totals();
    assert!(totals.resets.len() <= 1025, "{}", totals.resets.len());
    assert_eq!(totals.reset_count(), 3000);
}

#[test]
fn a_community_id_finds_the_newest_of_its_connection() {
    let store = Store::new(10);
    let same = |id| Finding { community_id: "1:same=".into(), ..unread(id) };
    [same(1), same(2), unread(3)].into_iter().for_each(|f| store.record(f));
    assert_eq!(store.find(&Wanted::CommunityId("1:same=".into())).unwrap().id, 2);
    assert_eq!(store.find(&Wanted::Latest).unwrap().id, 3);
}

#[test]
fn a_follower_gets_history_and_feed_without_gap_or_repetition() {
    let store = Store::new(10);
    store.record(unread(1));
    let (past, mut feed) = store.follow(&Filter::default());
    store.record(unread(2));
    assert_eq!(past.findings.iter().map(|f| f.id).collect::<Vec<_>>(), [1]);
    assert_eq!(feed.try_recv().unwrap().id, 2);
    assert_eq!(feed.try_recv().unwrap_err(), TryRecvError::Empty);
}

#[test]
fn a_follower_that_is_too_slow_learns_how_many_it_missed() {
    let store = Store::new(1);
    let (_, mut feed) = store.follow(&Filter::default());
    let more = 5;
    (0..FEED as u64 + more).for_each(|id| store.record(unread(id)));
    assert_eq!(feed.try_recv().unwrap_err(), TryRecvError::Lagged(more));
    assert_eq!(feed.try_recv().unwrap().id, more);
}

/// Two thousand resets a second for a minute: shown by a few, counted to the last one, and a rare finding stays.
#[test]
fn a_storm_is_told_by_a_few_examples_that_count_the_rest() {
    let store = Store::counting_storms(1000);
    let start = Instant::now();
    store.record_at(desynchronised(1), start);
    let (_, mut feed) = store.follow(&Filter::default());
    let mut id = 2;
    let (seconds, rate) = (60u64, 2_000u64);
    for second in 0..seconds {
        for n in 0..rate {
            let at = second * 1_000_000_000 + n * 1_000_000_000 / rate;
            store.record_at(Finding { time_ns: NOON + at, ..unread(id) }, start + Duration::from_nanos(at));
            id += 1;
        }
    }
    store.settle_at(start + Duration::from_secs(seconds + 1));
    let all = store.select(&Filter::default()).findings;
    let shown = all.iter().filter(|f| f.cause == "close_with_unread_data").count() as u64;
    let counted: u64 = all.iter().filter_map(|f| f.similar).map(|s| s.count).sum();
    assert_eq!(shown + counted, seconds * rate);
    assert!(shown <= 30, "{shown} shown one by one");
    assert_eq!(store.totals().folded, counted);
    assert_eq!(store.totals().reset_count(), seconds * rate + 1);
    assert_eq!(all[0].id, 1, "the one that is not of the storm is still there");
    let last = all.last().unwrap().similar.unwrap();
    assert!(last.first_ns > NOON && last.last_ns > last.first_ns);
    // A follower hears the examples, and each once more a second while it counts.
    let mut heard = 0;
    while feed.try_recv().is_ok() {
        heard += 1;
    }
    assert!((shown..=shown + seconds + 2).contains(&heard), "{heard}");
}

#[test]
fn after_a_storm_findings_are_shown_one_by_one_again() {
    let store = Store::counting_storms(1000);
    let start = Instant::now();
    (1..=500).for_each(|id| store.record_at(unread(id), start));
    assert!(store.occupancy().held <= 20);
    let later = start + Duration::from_secs(300);
    store.settle_at(later);
    let held = store.occupancy().held;
    (501..=505).for_each(|id| store.record_at(unread(id), later + Duration::from_secs(id)));
    assert_eq!(store.occupancy().held, held + 5);
}

#[test]
fn a_storm_from_many_networks_is_one_storm() {
    let store = Store::counting_storms(100_000);
    let start = Instant::now();
    for id in 1..=20_000u64 {
        let server = endpoint(&format!("10.{}.{}.1:80", id >> 8 & 0xff, id & 0xff));
        store.record_at(Finding { server, ..unread(id) }, start);
    }
    store.settle_at(start + Duration::from_secs(2));
    let all = store.select(&Filter::default()).findings;
    assert!(all.len() <= 100, "{}", all.len());
    let counted: u64 = all.iter().filter_map(|f| f.similar).map(|s| s.count).sum();
    assert_eq!(all.len() as u64 + counted, 20_000);
}

/// One example may stand for its network and for all of its cause: it counts both.
#[test]
fn an_example_of_two_kinds_counts_both() {
    let store = Store::counting_storms(1000);
    let start = Instant::now();
    let server = |n: u64| endpoint(&format!("10.0.{n}.1:80"));
    // Five networks fill what is shown of the cause; a sixth is counted with the last one shown, and so is the rest of the
    // fifth.
    let storm = (0..120).map(|i| i / 20).chain(std::iter::repeat_n(4, 50));
    for (id, network) in (1..).zip(storm) {
        store.record_at(Finding { server: server(network), ..unread(id) }, start);
    }
    store.settle_at(start + Duration::from_secs(1));
    let all = store.select(&Filter::default()).findings;
    assert_eq!(all.len(), 100);
    assert_eq!(all.last().unwrap().similar.unwrap().count, 20 + 50);
    assert_eq!(store.totals().folded, 70);
}

/// A finding is told again when more is known of it; one that was only counted stays counted once.
#[test]
fn a_counted_finding_that_is_revised_is_not_counted_twice() {
    let store = Store::counting_storms(1000);
    let start = Instant::now();
    (1..=500).for_each(|id| store.record_at(unread(id), start));
    store.record_at(Finding { echoes: 3, ..unread(500) }, start);
    store.record_at(Finding { cause: "abortive_close".into(), ..unread(499) }, start);
    let totals = store.totals();
    assert_eq!((totals.reset_count(), totals.revised), (500, 1));
    // An example keeps its count when it is revised.
    store.settle_at(start + Duration::from_secs(2));
    let example = store.select(&Filter::default()).findings.into_iter().find(|f| f.similar.is_some()).unwrap();
    store.record_at(Finding { echoes: 9, ..unread(example.id) }, start + Duration::from_secs(2));
    let again = store.find(&Wanted::Id(example.id)).unwrap();
    assert_eq!((again.echoes, again.similar), (9, example.similar));
}
