//! What a server takes of its system, and what it does about signals: files, SIGHUP, and life as the first
//! process of a container.
#![cfg(target_os = "linux")]
#![allow(
    clippy::disallowed_methods,
    reason = "processes are started under limits, and waited for"
)]

mod processes;

use std::fs;
use std::io::Read as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, Stdio};

use processes::{Cluster, Wire, until};

/// Processes that do not outlive their test.
struct Kept(Vec<Child>);

impl Drop for Kept {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Has a command run with at most so many open files.
fn with_files(command: &Command, files: u32) -> Command {
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -n \"$1\"; shift; exec \"$@\"", "sh"]);
    limited.arg(files.to_string()).arg(command.get_program());
    limited.args(command.get_args()).stdin(Stdio::null());
    limited
}

/// Idle clients at every server, far more than there are files; and writes that begin new segments, take
/// snapshots and remove old ones.
#[test]
fn clients_leave_the_files_that_voting_and_the_disk_need() {
    const FILES: u32 = 320;
    const IDLE: usize = 340;
    let cluster = Cluster::new(3, &["--log-mib", "1"]);
    let servers = cluster
        .servers()
        .into_iter()
        .map(|server| {
            let mut command = with_files(&cluster.command(server), FILES);
            command.spawn().expect("sh starts")
        })
        .collect();
    let mut servers = Kept(servers);
    let mut writers: Vec<Wire> = cluster
        .servers()
        .into_iter()
        .map(|server| {
            until("it serves", || {
                let mut wire = Wire::open(&cluster.address(server)).ok()?;
                (wire.try_ask("PUT first 1").ok()? == "OK").then_some(wire)
            })
        })
        .collect();
    let idle: Vec<Vec<Wire>> = cluster
        .servers()
        .into_iter()
        .map(|server| {
            let open = || Wire::open(&cluster.address(server)).ok();
            (0..IDLE).filter_map(|_| open()).collect()
        })
        .collect();
    let value = "v".repeat(100_000);
    for number in 0..60 {
        for writer in &mut writers {
            let reply = writer.ask(format!("PUT key{number} {value}"));
            assert_eq!(reply, "OK", "all servers go on");
        }
    }
    for (server, child) in cluster.servers().into_iter().zip(&mut servers.0) {
        assert!(child.try_wait().expect("a child").is_none(), "n{server}");
        let log = cluster.log(server);
        let said = |text: &str| log.lines().filter(|line| line.contains(text)).count();
        assert_eq!(
            said("the system allows 320 open files: at most"),
            1,
            "{log}"
        );
        // Told once in a while, not once for each of hundreds.
        let turned_away = said("turning a client away");
        assert!((1..=10).contains(&turned_away), "{turned_away}: {log}");
        assert_eq!(said("cannot accept"), 0, "{log}");
    }
    drop(idle);
}

#[test]
fn too_few_files_are_refused_at_the_start_with_what_to_do() {
    let cluster = Cluster::new(1, &[]);
    let mut limited = with_files(&cluster.command(1), 200);
    let child = limited.stderr(Stdio::piped()).spawn().expect("sh starts");
    let mut server = Kept(vec![child]);
    let status = until("it ends", || server.0[0].try_wait().expect("a child"));
    assert!(!status.success());
    let mut err = String::new();
    let stderr = server.0[0].stderr.as_mut().expect("a pipe");
    stderr.read_to_string(&mut err).expect("text");
    assert_eq!(err.lines().count(), 1, "{err}");
    for text in [
        "expected a limit of at least ",
        " open files, found 200: raise it to ",
        "ulimit -n",
    ] {
        assert!(err.contains(text), "{err}");
    }
    assert!(!cluster.data(1).exists(), "nothing was touched");
}

/// As logrotate does: the file is moved away, and the server is told by SIGHUP.
#[test]
fn after_sighup_a_server_goes_on_with_its_log_opened_anew() {
    let mut cluster = Cluster::start(1, &[]);
    let before = cluster.log(1);
    cluster.move_log(1, "old.log");
    cluster.signal(1, "HUP");
    until("the log is opened anew", || {
        cluster
            .log(1)
            .contains("SIGHUP: going on, with this log opened anew")
            .then_some(())
    });
    assert_eq!(cluster.ask(1, "PUT a 1"), "OK");
    assert!(!cluster.log(1).contains("recovered from"), "a new file");
    cluster.signal(1, "HUP");
    cluster.signal(1, "TERM");
    assert_eq!(cluster.until_ended(1).code(), Some(0));
    let after = cluster.log(1);
    assert!(after.contains("SIGTERM: stopping"), "{after}");
    assert!(before.contains("serving clients"), "{before}");
}

/// Whether this machine lets a test make a process the first of its kind.
fn can_unshare() -> bool {
    let done = Command::new("unshare")
        .args([
            "--user",
            "--map-root-user",
            "--pid",
            "--fork",
            "--mount-proc",
            "true",
        ])
        .status();
    done.is_ok_and(|status| status.success())
}

/// As in a container, where the first process has no default for any signal.
#[test]
fn every_long_command_ends_by_sigterm_as_the_first_process() {
    if !can_unshare() {
        eprintln!("this machine does not allow it: nothing was tested");
        return;
    }
    let cluster = Cluster::start(1, &[]);
    let place = tempfile::tempdir().expect("a directory");
    let pipe = place.path().join("history");
    let made = Command::new("mkfifo").arg(&pipe).status();
    assert!(made.expect("mkfifo runs").success());
    let (servers, pipe) = (cluster.list(), pipe.to_str().expect("text"));
    for (args, code) in [
        (&["shell", "--servers", &servers][..], 143),
        (&["simulate", "--seeds", "1..1000000"], 143),
        // It waits for who writes the history.
        (&["check", pipe], 143),
        (&["bench", "--servers", &servers, "--seconds", "600"], 1),
        (
            &[
                "demo",
                "--servers",
                &servers,
                "--rounds",
                "1000",
                "--no-kill",
            ],
            1,
        ),
    ] {
        let mut command = Command::new("unshare");
        command
            .args([
                "--user",
                "--map-root-user",
                "--pid",
                "--fork",
                "--kill-child",
                "--mount-proc",
            ])
            .arg(env!("CARGO_BIN_EXE_quince"))
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut outer = Kept(vec![command.spawn().expect("unshare starts")]);
        let children = format!("/proc/{0}/task/{0}/children", outer.0[0].id());
        let inner = until("the first process runs", || {
            let pid = fs::read_to_string(&children).ok()?.trim().to_owned();
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
            // It catches signals from here on.
            let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            let caught = status
                .lines()
                .find_map(|line| line.strip_prefix("SigCgt:"))?;
            let caught = u64::from_str_radix(caught.trim(), 16).ok()?;
            (name.trim() == "quince" && caught >> 14 & 1 == 1).then_some(pid)
        });
        let sent = Command::new("kill").args(["-s", "TERM", &inner]).status();
        assert!(sent.expect("kill runs").success());
        let status = until(&format!("{args:?} ends"), || {
            outer.0[0].try_wait().expect("a child")
        });
        // Who has something to clean up ends as interrupted, which is a failure.
        match (code, status.code()) {
            (143, ended) => assert_eq!(ended, Some(143), "{args:?} {status}"),
            (_, ended) => assert!(
                status.signal().is_none() && ended != Some(0),
                "{args:?} {status}"
            ),
        }
    }
}
