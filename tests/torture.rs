//! `quince torture` from outside: each kind of fault does what it says, and the store stands it; and
//! what ends a torture early, by a signal or because something is wrong, ends it in order.

#![allow(
    clippy::disallowed_methods,
    reason = "a real run is waited for by a real clock"
)]

mod processes;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use processes::{alone, node, quince, run, told, until};
use quince::torture::plan::{Kind, Plan, Wave};

/// A run of one wave: the shortest there is.
const ONE_WAVE: &str = "0.001";

/// One of so many seeds begins with a short wave of any three kinds.
const SEEDS_MAX: u64 = 10_000;

/// No wave that is picked lasts longer.
const WAVE_MAX: Duration = Duration::from_secs(3);

/// The first seed whose first wave has each of these kinds, and is over soon.
fn seed_of(kinds: &[Kind]) -> u64 {
    let first = |seed| Plan::new(seed, (1..=5).map(node).collect(), kinds.to_vec()).wave();
    let fits = |wave: &Wave| {
        let over = wave.faults.iter().map(|fault| fault.at + fault.lasts);
        kinds
            .iter()
            .all(|kind| wave.faults.iter().any(|fault| fault.kind == *kind))
            && over.max().is_some_and(|over| over <= WAVE_MAX)
    };
    (1..=SEEDS_MAX)
        .find(|&seed| fits(&first(seed)))
        .expect("a seed")
}

/// How often a kind came, and how often it was felt, as the table has it.
fn times(out: &str, kind: Kind) -> (u64, u64) {
    let name = format!("({})", kind.name());
    let line = out.lines().find(|line| line.contains(&name));
    let line = line.unwrap_or_else(|| panic!("no {name} in {out}"));
    let mut numbers = line.rsplit(' ').filter(|word| !word.is_empty());
    let mut number = || {
        numbers
            .next()
            .and_then(|word| word.parse().ok())
            .expect("a number")
    };
    let felt = number();
    (number(), felt)
}

/// One wave of these kinds: all was well, and each came.
fn one_wave(kinds: &[Kind]) -> String {
    let _alone = alone();
    let names: Vec<_> = kinds.iter().map(|kind| kind.name()).collect();
    let seed = seed_of(kinds).to_string();
    let mut args = vec!["torture", "--minutes", ONE_WAVE, "--seed", &seed];
    let only = names.join(",");
    args.extend(["--only", &only]);
    let (code, out, err) = run(&args);
    eprintln!("{out}");
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.starts_with(&format!("torture: seed {seed}; ")), "{out}");
    assert!(out.contains("\nlinearizable: "), "{out}");
    for &kind in kinds {
        assert!(times(&out, kind).0 >= 1, "{kind}: {out}");
    }
    out
}

/// Each of these did something.
fn assert_felt(out: &str, kinds: &[Kind]) {
    for &kind in kinds {
        assert!(times(out, kind).1 >= 1, "{kind}: {out}");
    }
}

/// The number that stands before these words, where they stand last.
fn number_of(out: &str, words: &str) -> u64 {
    let (before, _) = out
        .rsplit_once(words)
        .unwrap_or_else(|| panic!("no {words} in {out}"));
    let word = before.rsplit([' ', ';']).next().expect("a word");
    word.parse().expect("a number")
}

#[test]
fn servers_killed_and_restarted_lose_nothing() {
    let out = one_wave(&[Kind::KillOne, Kind::KillMinority, Kind::Restart]);
    assert!(
        number_of(&out, " killed") + number_of(&out, " stopped") >= 2,
        "{out}"
    );
    assert!(number_of(&out, " started") >= 5 + 2, "{out}");
}

#[test]
fn all_servers_killed_at_once_lose_nothing() {
    let out = one_wave(&[Kind::KillAll]);
    assert!(number_of(&out, " killed") >= 5, "{out}");
}

#[test]
fn frozen_processes_and_failed_acceptors_cost_time_only() {
    let out = one_wave(&[Kind::FreezeOne, Kind::FreezeMinority]);
    assert!(number_of(&out, " frozen") >= 1, "{out}");
    let out = one_wave(&[Kind::Acceptors]);
    assert!(number_of(&out, " acceptors failed") >= 1, "{out}");
}

#[test]
fn slow_disks_are_felt_and_cost_time_only() {
    let out = one_wave(&[Kind::SlowDisk]);
    assert_felt(&out, &[Kind::SlowDisk]);
}

#[test]
fn partitions_whole_and_in_part_are_felt_and_survived() {
    for kinds in [&[Kind::CutLink, Kind::Split][..], &[Kind::Hub, Kind::Chain]] {
        let out = one_wave(kinds);
        assert_felt(&out, kinds);
    }
}

#[test]
fn links_that_lose_one_way_are_felt_and_survived() {
    let kinds = &[Kind::OneWay, Kind::Mute, Kind::Deaf];
    let out = one_wave(kinds);
    assert_felt(&out, kinds);
    assert!(number_of(&out, " lost") > 0, "{out}");
}

#[test]
fn links_that_are_slow_held_or_closed_are_felt_and_survived() {
    let kinds = &[Kind::Delay, Kind::Close, Kind::Hold];
    let out = one_wave(kinds);
    assert_felt(&out, kinds);
    assert!(number_of(&out, " kept waiting") > 0, "{out}");
}

#[test]
fn an_emptied_directory_is_filled_by_the_others() {
    let out = one_wave(&[Kind::Wipe]);
    assert_felt(&out, &[Kind::Wipe]);
}

#[test]
fn a_flipped_byte_in_the_log_is_named_and_what_it_cost_is_recalled() {
    let out = one_wave(&[Kind::Flip]);
    assert_felt(&out, &[Kind::Flip]);
}

/// Longer than one wave, since the first one comes before there is a snapshot.
#[test]
fn a_flipped_byte_in_a_snapshot_is_named_and_the_state_is_fetched() {
    let _alone = alone();
    let (code, out, err) = run(&[
        "torture",
        "--minutes",
        "0.5",
        "--seed",
        "3",
        "--rate",
        "2000",
        "--only",
        "flip-snapshot",
    ]);
    eprintln!("{out}");
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert_felt(&out, &[Kind::FlipSnapshot]);
    assert!(number_of(&out, " written") >= 1, "{out}");
}

/// The command lines of servers whose data is in `place`, each behind its process id.
fn servers_in(place: &Path) -> Vec<String> {
    let output = Command::new("ps").args(["-A", "-o", "pid=,args="]).output();
    let output = String::from_utf8_lossy(&output.expect("ps runs").stdout).into_owned();
    let place = format!("--data {}/", place.display());
    let servers = output.lines().filter(|line| line.contains(&place));
    servers.map(|line| line.trim().to_owned()).collect()
}

/// A long run with its data in `place`, when its servers have begun to serve.
fn long_run(place: &Path) -> Child {
    let place_text = place.to_str().expect("text");
    let child = quince(&[
        "torture",
        "--minutes",
        "10",
        "--dir",
        place_text,
        "--only",
        "delay",
    ])
    .stdout(Stdio::piped())
    .stderr(Stdio::piped())
    .spawn()
    .expect("quince starts");
    until("the first calm is over", || {
        let journal = std::fs::read_to_string(place.join("journal")).ok()?;
        journal.contains("all agree").then_some(())
    });
    child
}

fn signal(pid: &str, name: &str) {
    let sent = Command::new("kill").args(["-s", name, pid]).status();
    assert!(sent.expect("kill runs").success());
}

#[test]
fn an_interrupted_torture_ends_its_servers_and_judges_what_it_has() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().canonicalize().unwrap();
    let child = long_run(&place);
    assert_eq!(servers_in(&place).len(), 5);
    signal(&child.id().to_string(), "INT");
    let (code, out, err) = told(child.wait_with_output().unwrap());
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert!(
        out.contains("\ninterrupted; judged as far as it came\nlinearizable: "),
        "{out}"
    );
    assert_eq!(servers_in(&place), Vec::<String>::new());
    // The history is kept where the user wanted it, for a second opinion.
    let history = place.join("history");
    let (code, out, _) = run(&["check", "--from-empty", history.to_str().unwrap()]);
    assert_eq!(code, 0, "{out}");
}

/// What is not of the plan is a failure, told in one line, with all that is needed to look for it.
#[test]
fn a_server_that_dies_by_itself_is_found_and_everything_is_kept() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().canonicalize().unwrap();
    let child = long_run(&place);
    let servers = servers_in(&place);
    let third = servers
        .iter()
        .find(|line| line.contains("--id 3 "))
        .expect("n3 runs");
    signal(third.split(' ').next().expect("a process id"), "ABRT");
    let (code, out, err) = told(child.wait_with_output().unwrap());
    assert_eq!(code, 1, "{out}");
    assert!(
        err.starts_with("quince: n3 ended by itself (signal: 6"),
        "{err}"
    );
    assert_eq!(err.lines().count(), 1, "{err}");
    let kept = format!("logs, data and history are in {}", place.display());
    assert!(
        out.contains(&kept) && out.contains("\nlinearizable: "),
        "{out}"
    );
    assert_eq!(servers_in(&place), Vec::<String>::new());
    assert!(place.join("server-3.log").exists());
}

#[test]
fn a_wrong_command_line_touches_nothing() {
    for (args, says) in [
        (&["--servers", "4"][..], "expected 3, 5, 7 or 9 servers"),
        (&["--minutes", "0"], "expected minutes"),
        (&["--only", "kill-none"], "kill-none"),
    ] {
        let mut all = vec!["torture"];
        all.extend(args);
        let (code, out, err) = run(&all);
        assert_eq!((code, out.as_str()), (2, ""), "{err}");
        assert!(err.contains(says), "{err}");
    }
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("thesis.txt"), "chapter 1").unwrap();
    let (code, _, err) = run(&["torture", "--dir", dir.path().to_str().unwrap()]);
    assert_eq!(code, 3);
    assert!(err.contains("expected an empty directory"), "{err}");
}
