//! Starts that must be refused, with one clear line, exit code 3 and nothing touched; starts after
//! damage; and clean stops while requests wait.

#![allow(
    clippy::disallowed_methods,
    reason = "an address is taken by a plain listener"
)]

mod processes;

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use processes::{Cluster, Wire, quince, run, told, until};
use quince::disk::dir::FsDir;
use quince::disk::log::{Log, Options, Recovery};
use quince::paxos::record::Record;

/// Every file of a directory with its bytes.
fn contents(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(directory).expect("a directory");
    entries
        .map(|entry| entry.expect("an entry"))
        .map(|entry| {
            let name = entry.file_name().into_string().expect("text");
            (name, fs::read(entry.path()).expect("readable"))
        })
        .collect()
}

/// Runs a server that must be refused: exit code 3, and the line that it says.
fn refused(command: &mut Command) -> String {
    let (code, out, err) = told(command.output().expect("quince starts"));
    assert_eq!((code, out.as_str()), (3, ""), "{err}");
    assert_eq!(err.lines().count(), 1, "{err}");
    let line = err.strip_prefix("quince: ").expect("quince: ...");
    line.trim_end().to_owned()
}

/// A server that was stopped, and its data.
fn stopped() -> Cluster {
    let mut cluster = Cluster::start(1, &[]);
    for number in 0..20 {
        assert_eq!(cluster.ask(1, &format!("PUT key{number} {number}")), "OK");
    }
    cluster.stop();
    cluster
}

/// P43, P41: a directory belongs to one server of one cluster with these members.
#[test]
fn a_directory_of_another_server_cluster_or_members_is_refused_and_left_alone() {
    let cluster = stopped();
    let data = cluster.data(1);
    let before = contents(&data);
    let (own, other) = (cluster.peer_address(1), cluster.peer_address(2));
    let three = format!("1={own},2={other},3={}", cluster.peer_address(3));
    let directory = data.to_str().expect("text");
    for (id, flags, found) in [
        (
            "2",
            &["--peers", &format!("2={own}")][..],
            "expected n2 of cluster",
        ),
        (
            "1",
            &["--cluster", "fruit"],
            "expected n1 of cluster \"fruit\"",
        ),
        ("1", &["--peers", &three], "with n1 n2 n3"),
    ] {
        let mut command = quince(&["server", "--id", id, "--listen", &cluster.address(1)]);
        if !flags.contains(&"--peers") {
            command.args(["--peers", &cluster.peers()]);
        }
        let line = refused(command.arg("--data").arg(&data).args(flags));
        let start = format!("{directory} belongs to n1 of cluster \"quince\" with n1; ");
        assert!(line.starts_with(&start) && line.contains(found), "{line}");
        assert!(
            line.ends_with("give each server a directory of its own"),
            "{line}"
        );
        assert_eq!(contents(&data), before);
    }
}

/// P43: two processes never share a directory.
#[test]
fn a_directory_in_use_is_refused_and_its_server_goes_on() {
    let cluster = Cluster::start(1, &[]);
    let data = cluster.data(1);
    let peers = format!("1={}", cluster.peer_address(2));
    let mut second = quince(&["server", "--id", "1", "--peers", &peers]);
    second.args(["--listen", &cluster.address(2)]);
    let line = refused(second.arg("--data").arg(&data));
    let expected = format!(
        "cannot lock {}: is server 1 already running?",
        data.display()
    );
    assert_eq!(line, expected);
    assert_eq!(cluster.ask(1, "PUT key 1"), "OK");
}

/// An address in use leaves no trace in the data directory, not even the directory itself.
#[test]
fn an_address_in_use_is_refused_before_the_data_is_touched() {
    let mut cluster = Cluster::new(1, &[]);
    for (taken, whom) in [
        (cluster.address(1), "clients"),
        (cluster.peer_address(1), "peers"),
    ] {
        let holder = TcpListener::bind(&taken).expect("a free port");
        let line = refused(&mut cluster.command(1));
        let start = format!("cannot listen on {taken} for {whom}: ");
        assert!(line.starts_with(&start), "{line}");
        assert!(!cluster.data(1).exists());
        drop(holder);
    }
    cluster.spawn(1);
    cluster.until_led();
}

/// What the log in a directory says, and what is wrong with it: as a server that starts sees it.
fn opened(data: &Path) -> Recovery {
    let dir = FsDir::open(data).expect("a directory");
    Log::open(dir, Options::default()).expect("a log").1
}

/// P41: an identity without a log is a log that was lost; the next one knows.
#[test]
fn a_log_that_is_gone_is_named_and_starts_as_lost() {
    let cluster = stopped();
    let data = cluster.data(1);
    for name in contents(&data).into_keys() {
        if name.starts_with("log-") {
            fs::remove_file(data.join(name)).expect("it is there");
        }
    }
    let recovery = opened(&data);
    let start = format!(
        "{}/: the log is gone: expected a file such as",
        data.display()
    );
    let damage = recovery.damage[0].to_string();
    assert!(damage.starts_with(&start), "{damage}");
    assert_eq!(recovery.records, [Record::Lost]);
    let again = opened(&data);
    assert_eq!((again.records, again.damage), (vec![Record::Lost], vec![]));
}

#[test]
fn a_directory_of_something_else_is_refused() {
    let cluster = Cluster::new(1, &[]);
    let data = cluster.data(1);
    fs::create_dir(&data).expect("a new directory");
    fs::write(data.join("thesis.txt"), "chapter 1").expect("a new file");
    let before = contents(&data);
    let line = refused(&mut cluster.command(1));
    assert!(
        line.contains("is not a data directory of quince: it has \"thesis.txt\""),
        "{line}"
    );
    assert_eq!(contents(&data), before);
}

/// The segment that holds the records, and where the records end in it.
fn records_of(data: &Path) -> (std::path::PathBuf, Vec<u8>, usize) {
    let file = data.join("log-00000001");
    let bytes = fs::read(&file).expect("a log");
    let end = 1 + bytes.iter().rposition(|&byte| byte != 0).expect("records");
    (file, bytes, end)
}

/// P40: damage with valid records behind it is named, with file, offset and what it means; all else is
/// read, and the log knows of its loss.
#[test]
fn damage_in_the_middle_of_the_log_is_named_and_starts_as_lost() {
    let cluster = stopped();
    let data = cluster.data(1);
    let before = opened(&data).records;
    let (file, mut bytes, _) = records_of(&data);
    let needle = b" put key3 3\n";
    let at = bytes
        .windows(needle.len())
        .position(|window| window == needle);
    let at = at.expect("a record of key3");
    let line_at = 1 + bytes[..at]
        .iter()
        .rposition(|&byte| byte == b'\n')
        .expect("a line before");
    bytes[at + 1] ^= 1;
    fs::write(&file, &bytes).expect("writable");
    let start = format!(
        "{}: damaged record at byte {line_at}: expected record ",
        file.display()
    );
    // `quince log` tells it after all that can be read, and changes nothing.
    let unread = contents(&data);
    let (code, out, err) = run(&["log".as_ref(), data.as_os_str()]);
    assert_eq!(code, 1);
    assert!(
        out.contains(" put key2 2\n") && out.contains(" put key4 4\n"),
        "{out}"
    );
    assert!(err.starts_with(&format!("quince: {start}")), "{err}");
    let check = || run(&["log".as_ref(), data.as_os_str(), "--check".as_ref()]);
    let (code, out, err) = check();
    assert_eq!((code, &*err), (1, ""));
    assert!(
        out.starts_with(&start) && out.ends_with("\n1 damaged place\n"),
        "{out}"
    );
    assert_eq!(contents(&data), unread);
    let recovery = opened(&data);
    let damage = recovery.damage[0].to_string();
    assert!(damage.starts_with(&start), "{damage}");
    assert!(
        damage.contains("it does not vote until a majority"),
        "{damage}"
    );
    assert_eq!(recovery.records.len(), before.len(), "one lost, and `lost`");
    assert_eq!(recovery.records.last(), Some(&Record::Lost));
    let (code, out, _) = check();
    assert_eq!(code, 1);
    assert!(out.starts_with(&format!("known: {start}")), "{out}");
}

/// P39: a torn tail is cut with a warning, and all that was acknowledged before is there.
#[test]
fn a_torn_tail_is_cut_with_a_warning() {
    let mut cluster = Cluster::start(1, &[]);
    assert_eq!(cluster.ask(1, "PUT key 1"), "OK");
    cluster.kill(1);
    let (file, mut bytes, end) = records_of(&cluster.data(1));
    // The beginning of a record whose end never reached the disk.
    let torn = b"f38a1004 99 99 4096 accept b1.1 s9 n1.1.9 put key 2";
    bytes[end..end + torn.len()].copy_from_slice(torn);
    fs::write(&file, &bytes).expect("writable");
    cluster.spawn(1);
    cluster.until_led();
    assert_eq!(cluster.ask(1, "GET key"), "VALUE 1");
    let log = cluster.log(1);
    let warning = log
        .lines()
        .find(|line| line.contains("cut off a torn tail: "));
    let warning = warning.expect("a warning");
    assert!(
        warning.contains(" WARN ") && warning.contains("log-00000001"),
        "{warning}"
    );
    assert_eq!(cluster.ask(1, "PUT key 2"), "OK");
    cluster.kill(1);
    cluster.spawn(1);
    cluster.until_led();
    assert_eq!(cluster.ask(1, "GET key"), "VALUE 2");
}

/// Without a leader nothing was handed on: what waits is surely not done, and told so at once.
#[test]
fn a_stop_refuses_what_is_queued_and_exits_with_0() {
    for signal in ["TERM", "INT"] {
        let mut cluster = Cluster::new(3, &[]);
        cluster.spawn(1);
        let mut write = until("it takes connections", || {
            Wire::open(&cluster.address(1)).ok()
        });
        let mut read = cluster.open(1);
        let mut idle = cluster.open(1);
        write.send("PUT a 1\nINCR b\nGET a\n");
        read.send("GET a\n");
        assert_eq!(idle.ask("PING"), "PONG");
        // Both have arrived once a later connection's line is answered by the same core.
        until("the requests wait", || {
            cluster
                .status(1)
                .filter(|status| status["leader"] == "none")
        });
        cluster.signal(1, signal);
        let refusal = "ERROR NOT_DONE this server is shutting down";
        assert_eq!(write.lines(3), [refusal; 3], "{signal}");
        assert_eq!(read.line(), refusal);
        for mut wire in [write, read, idle] {
            wire.assert_closed();
        }
        assert_eq!(cluster.until_ended(1).code(), Some(0), "{signal}");
        let log = cluster.log(1);
        assert!(
            log.contains("stopping: ") && log.ends_with("stopped\n"),
            "{log}"
        );
    }
}

/// What was handed on may still be done: `UNKNOWN`; and here, once the majority is back, it is.
#[test]
fn a_stop_tells_the_truth_about_what_was_handed_on() {
    for signal in ["TERM", "INT"] {
        let mut cluster = Cluster::start(3, &["--allow-fail", "--log-level", "debug"]);
        let leader = cluster.until_led();
        let follower = 1 + leader % 3;
        assert_eq!(cluster.ask(follower, "PUT a 0"), "OK");
        for server in cluster.servers() {
            assert_eq!(cluster.ask(server, "FAIL"), "OK");
        }
        let mut write = cluster.open(follower);
        let mut read = cluster.open(follower);
        write.send("PUT a 1\n");
        read.send("GET a\n");
        let mut later = cluster.open(leader);
        later.send("GET a\n");
        until("the leader has the write", || {
            let heard = format!("<- n{follower} propose ");
            let log = cluster.log(leader);
            log.lines()
                .any(|line| line.contains(&heard) && line.ends_with(" put a 1"))
                .then_some(())
        });
        cluster.signal(follower, signal);
        assert_eq!(read.line(), "ERROR NOT_DONE this server is shutting down");
        let reply = write.line();
        assert!(reply.starts_with("ERROR UNKNOWN "), "{reply}");
        write.assert_closed();
        assert_eq!(cluster.until_ended(follower).code(), Some(0));
        for server in cluster.servers() {
            if cluster.runs(server) {
                assert_eq!(cluster.ask(server, "RECOVER"), "OK");
            }
        }
        assert!(["VALUE 0", "VALUE 1"].contains(&&*later.line()));
        cluster.spawn(follower);
        cluster.until_led();
        assert_eq!(cluster.ask(follower, "GET a"), "VALUE 1");
        cluster.stop();
    }
}

/// A client that takes no replies, or is in the middle of a line, does not keep a server from
/// stopping.
#[test]
fn no_client_keeps_a_server_from_stopping() {
    let mut cluster = Cluster::start(1, &[]);
    let mut half = cluster.open(1);
    half.send("PUT half li");
    let mut deaf = cluster.open(1);
    let value = "x".repeat(1_000_000);
    assert_eq!(deaf.ask(format!("PUT big {value}")), "OK");
    // 100 MB of replies fill every buffer between here and there.
    deaf.send("GET big\n".repeat(100));
    assert_eq!(cluster.ask(1, "PING"), "PONG");
    cluster.signal(1, "TERM");
    assert_eq!(cluster.until_ended(1).code(), Some(0));
    half.assert_closed();
    cluster.spawn(1);
    cluster.until_led();
    assert_eq!(cluster.ask(1, "GET half"), "NOT_FOUND", "P48");
}
