//! Simulated cluster lives: the production code under every fault that the plan knows, checked at
//! every step; and that the checks can fail.
//!
//! `quince simulate` lives many more. A seed that fails here prints the command that replays it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use quince::check::{self, Begins};
use quince::sim::{Counts, Mistake, Profile, Seen, Settings, live};

/// How many threads live lives, in each test.
const THREADS: usize = 2;

/// Lives the seeds from 1 to `seeds`. Fails at the lowest seed that does.
fn lives(profile: Profile, seeds: u64) -> Counts {
    let next = AtomicU64::new(1);
    let counts = Mutex::new(Counts::default());
    let failed = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed > seeds || !failed.lock().is_empty() {
                        return;
                    }
                    let settings = Settings::new(seed, profile);
                    let life = live(&settings);
                    counts.lock().add(&life.counts);
                    if let Some(failure) = life.failure {
                        failed.lock().insert(seed, (settings, failure));
                    }
                }
            });
        }
    });
    if let Some((seed, (settings, failure))) = failed.into_inner().pop_first() {
        panic!(
            "seed {seed} failed at step {}, {} us: {}\nreplay it: {}",
            failure.step,
            failure.at,
            failure.text,
            settings.command()
        );
    }
    let counts = counts.into_inner();
    let broken = profile.broken_promises(&counts, seeds);
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    assert!(counts.of(Seen::Operations) >= 200 * seeds, "\n{counts}");
    // The clients' own clocks have judged all but LOCAL reads and SESSION, and could tell.
    assert!(counts.of(Seen::Judged) >= 180 * seeds, "\n{counts}");
    assert_eq!(counts.of(Seen::Undecided), 0);
    counts
}

#[test]
fn five_hundred_lives_under_all_faults_keep_the_invariants_and_go_on() {
    lives(Profile::All, 500);
}

#[test]
fn calm_lives_have_no_faults_and_every_request_is_done() {
    let counts = lives(Profile::Calm, 20);
    for seen in [Seen::WritesNotDone, Seen::WritesUnknown, Seen::Unanswered] {
        assert_eq!(counts.of(seen), 0, "{}", seen.text());
    }
}

#[test]
fn lossy_lives_keep_the_invariants_and_go_on() {
    lives(Profile::Lossy, 40);
}

#[test]
fn crashy_lives_keep_the_invariants_and_go_on() {
    lives(Profile::Crashy, 40);
}

#[test]
fn partitioned_lives_keep_the_invariants_and_go_on() {
    lives(Profile::Partitions, 40);
}

#[test]
fn lives_with_broken_disks_keep_the_invariants_and_go_on() {
    lives(Profile::Disks, 60);
}

/// Equal on every run and, as nothing else goes in, on every machine.
#[test]
fn the_same_seed_is_the_same_life_byte_for_byte() {
    for (seed, profile) in [(1, Profile::All), (2, Profile::Disks), (3, Profile::Lossy)] {
        let mut settings = Settings::new(seed, profile);
        settings.trace = true;
        let (one, other) = (live(&settings), live(&settings));
        assert!(one.trace.len() > 10_000, "a life is told");
        assert!(one.trace == other.trace, "seed {seed} of {profile}");
        assert_eq!(one.counts, other.counts);
        // To tell a life does not change it.
        settings.trace = false;
        assert_eq!(live(&settings).counts, one.counts);
    }
}

/// Within how many seeds of `all` a mistake is found, and by what.
fn found(mistake: Mistake, profile: Profile, seeds: u64) -> String {
    for seed in 1..=seeds {
        let mut settings = Settings::new(seed, profile);
        settings.mistake = Some(mistake);
        if let Some(failure) = live(&settings).failure {
            println!("{mistake:?} found by seed {seed}: {}", failure.text);
            return failure.text;
        }
    }
    panic!("{mistake:?} was not found in {seeds} seeds");
}

/// P1, P2.
#[test]
fn votes_that_leave_before_the_sync_are_found() {
    let text = found(Mistake::VotesBeforeSync, Profile::Crashy, 20);
    assert!(text.contains("not on its disk"), "{text}");
}

/// P1.
#[test]
fn promises_forgotten_in_a_restart_are_found() {
    let text = found(Mistake::PromisesForgotten, Profile::All, 500);
    assert!(text.starts_with('I') || text.starts_with('P'), "{text}");
}

/// P6.
#[test]
fn ballots_forgotten_in_a_restart_are_found() {
    let text = found(Mistake::BallotsForgotten, Profile::All, 500);
    assert!(
        text.starts_with('I') || text.starts_with('P') || text.contains("alarms"),
        "{text}"
    );
}

/// D11, P28.
#[test]
fn reads_without_a_probe_are_found() {
    let text = found(Mistake::ReadsUnprobed, Profile::Partitions, 100);
    assert!(text.starts_with("linearizability"), "{text}");
}

/// D11, P28: what clients saw is enough; no look at the log or at a slot is needed.
#[test]
fn reads_without_a_probe_are_found_by_the_clients_clocks_alone() {
    let found = (1..=200).find_map(|seed| {
        let mut settings = Settings::new(seed, Profile::Partitions);
        settings.mistake = Some(Mistake::ReadsUnprobed);
        let history = live(&settings).history();
        let violation = check::check(&history, Begins::Empty, check::STATES_MAX).violation?;
        println!("found by seed {seed}:\n{violation}");
        Some(violation.to_string())
    });
    let text = found.expect("a stale read in 200 lives");
    assert!(text.starts_with("not linearizable: key "), "{text}");
    assert!(text.contains("<- cannot be"), "{text}");
}
