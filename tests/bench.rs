//! `quince bench` against real clusters: what it asks for is asked for, and what it tells is so.

mod processes;

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use processes::{Cluster, alone, quince, run, told, until};

/// Exit code, standard output, standard error, of a run of so many seconds against these servers.
fn bench_for(seconds: &str, servers: &str, args: &[&str]) -> (i32, String, String) {
    let all = [
        &["bench", "--servers", servers, "--seconds", seconds],
        &["--warmup", "0.1"][..],
        args,
    ];
    run(&all.concat())
}

fn bench(servers: &str, args: &[&str]) -> (i32, String, String) {
    bench_for("1", servers, args)
}

/// The JSON object of a run that ends well.
fn json(servers: &str, args: &[&str]) -> String {
    json_for("1", servers, args)
}

fn json_for(seconds: &str, servers: &str, args: &[&str]) -> String {
    let args = [&["--json"], args].concat();
    let (code, out, err) = bench_for(seconds, servers, &args);
    assert_eq!((code, out.lines().count()), (0, 1), "{args:?}: {out}{err}");
    out
}

/// The text of a field, up to the comma behind it; of an array or an object, all that is in it.
fn field<'a>(json: &'a str, name: &str) -> &'a str {
    let start = format!("\"{name}\":");
    let (_, rest) = json
        .split_once(&start)
        .unwrap_or_else(|| panic!("{name}: {json}"));
    let mut depth = 0;
    let end = rest.find(|c| {
        let ends = depth == 0 && matches!(c, ',' | '}' | ']');
        depth += i32::from(matches!(c, '[' | '{')) - i32::from(matches!(c, ']' | '}'));
        ends
    });
    &rest[..end.expect("an object ends")]
}

fn number(json: &str, name: &str) -> f64 {
    let text = field(json, name);
    text.parse().unwrap_or_else(|_| panic!("{name}: {text}"))
}

/// How many connections a server has, this one included.
fn connections(cluster: &Cluster, server: u8) -> u32 {
    let mut wire = cluster.open(server);
    wire.send("*2\r\n$4\r\nINFO\r\n$7\r\nclients\r\n");
    until("INFO tells of clients", || {
        let line = wire.line();
        let count = line.trim_end().strip_prefix("connected_clients:")?;
        Some(count.parse().expect("a count"))
    })
}

#[test]
fn every_load_succeeds_in_both_protocols_and_its_history_is_linearizable() {
    let _alone = alone();
    let cluster = Cluster::start(3, &[]);
    let place = tempfile::tempdir().expect("a directory");
    let history = place.path().join("history");
    let history = history.to_str().expect("text");
    let mut rates = Vec::new();
    for op in ["put", "get", "local-get", "mixed", "incr", "cas"] {
        for protocol in ["lines", "resp"] {
            let args = [
                "--op",
                op,
                "--protocol",
                protocol,
                "--clients",
                "4",
                "--keys",
                "50",
                "--pipeline",
                "3",
                "--history",
                history,
            ];
            let json = json(&cluster.list(), &args);
            let what = (field(&json, "op"), field(&json, "protocol"));
            assert_eq!(what, (&*format!("\"{op}\""), &*format!("\"{protocol}\"")));
            assert_eq!(field(&json, "errors"), "{}", "{json}");
            assert!(number(&json, "operations") > 0.0, "{json}");
            rates.push(number(&json, "rate"));
            let (code, out, err) = run(&["check", history]);
            assert_eq!(code, 0, "{op} {protocol}: {out}{err}");
            assert_eq!(out.contains("not judged"), op == "local-get", "{out}");
        }
    }
    assert!(rates.iter().all(|&rate| rate > 10.0), "{rates:?}");
    // Each kind of request has left its mark, and on keys of its own.
    let keys: BTreeSet<String> = run(&["list", "bench-", "--servers", &cluster.list()])
        .1
        .lines()
        .filter_map(|line| line.rsplit_once(' '))
        .map(|(key, _)| key.trim_end_matches(|c: char| c.is_ascii_digit()).into())
        .collect();
    let begins: Vec<&str> = keys.iter().map(String::as_str).collect();
    assert_eq!(begins, ["bench-", "bench-cas-", "bench-count-"]);
}

/// In one word whatever is spoken: a client of neither protocol is worse off in the figures.
#[test]
fn errors_count_alike_in_both_protocols() {
    let mut cluster = Cluster::start(3, &["--deadline", "150ms"]);
    cluster.kill_all(&[1, 2]);
    let servers = cluster.address(3);
    for protocol in ["lines", "resp"] {
        let args = [
            "--json",
            "--protocol",
            protocol,
            "--timeout",
            "5s",
            "--clients",
            "4",
        ];
        let (code, out, err) = bench(&servers, &args);
        assert_eq!(code, 3, "{out}");
        assert!(err.ends_with("quince: not one success\n"), "{err}");
        let errors = field(&out, "errors").trim_matches(['{', '}']);
        let codes: Vec<&str> = errors
            .split(',')
            .filter_map(|one| one.split(':').next())
            .collect();
        assert!(!codes.is_empty(), "{out}");
        for code in codes {
            assert!(["\"NOT_DONE\"", "\"UNKNOWN\""].contains(&code), "{out}");
        }
    }
}

#[test]
fn a_client_that_is_turned_away_is_told_so_in_both_protocols() {
    let cluster = Cluster::start(1, &["--clients-max", "3"]);
    for protocol in ["lines", "resp"] {
        let args = ["--json", "--protocol", protocol, "--clients", "8"];
        let (code, out, err) = bench(&cluster.list(), &args);
        assert_eq!(code, 0, "{out}{err}");
        assert!(number(&out, "NOT_DONE") > 0.0, "{out}");
        assert!(!out.contains("strange"), "{out}");
    }
}

#[test]
fn clients_are_at_the_servers_that_were_chosen() {
    let mut cluster = Cluster::start(3, &[]);
    let leader = cluster.until_led();
    let servers = cluster.list();
    for targets in ["leader", "followers", "all"] {
        let args = ["--servers", &*servers, "--seconds", "60", "--clients", "24"];
        let mut command = quince(&[&["bench", "--json", "--targets", targets], &args[..]].concat());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().expect("quince starts");
        until("its clients are connected", || {
            let counts = [1, 2, 3].map(|n| (n, connections(&cluster, n)));
            // Beside them there are one or two that ask for STATUS, and the one that asks here.
            let is_as_chosen = |&(n, count): &(u8, u32)| match (targets, n == leader) {
                ("all", _) => (8..16).contains(&count),
                ("leader", true) => count >= 24,
                ("followers", false) => (12..24).contains(&count),
                _ => count < 8,
            };
            counts.iter().all(is_as_chosen).then_some(())
        });
        let pid = child.id().to_string();
        let sent = Command::new("kill").args(["-s", "INT", &pid]).status();
        assert!(sent.expect("kill runs").success());
        let (code, out, err) = told(child.wait_with_output().expect("it ends"));
        assert_eq!(code, 3, "{err}");
        assert!(err.ends_with("quince: interrupted\n"), "{err}");
        let names: Vec<String> = match targets {
            "leader" => vec![format!("\"n{leader}\"")],
            "followers" => (1..=3)
                .filter(|&n| n != leader)
                .map(|n| format!("\"n{n}\""))
                .collect(),
            _ => (1..=3).map(|n| format!("\"n{n}\"")).collect(),
        };
        let expected = format!("[{}]", names.join(","));
        assert_eq!(field(&out, "server_names"), expected, "{out}");
    }
}

#[test]
fn a_leader_that_cannot_be_reached_is_an_error_and_its_followers_are_not() {
    let mut cluster = Cluster::start(3, &[]);
    let leader = cluster.until_led();
    let followers: Vec<u8> = (1..=3).filter(|&n| n != leader).collect();
    let addresses: Vec<String> = followers.iter().map(|&n| cluster.address(n)).collect();
    let listed = addresses.join(",");
    let (code, out, err) = bench(&listed, &["--targets", "leader"]);
    let expected = format!(
        "quince: expected the address of the leader n{leader} in --servers, found none of those that \
         answer to be n{leader}\n"
    );
    assert_eq!((code, &*out, &*err), (3, "", &*expected));
    let json = json(&listed, &["--targets", "followers"]);
    assert_eq!(field(&json, "servers"), "2", "{json}");
    assert_eq!(
        field(&json, "costs_whole"),
        "false",
        "n{leader} was not asked"
    );
    let (code, _, err) = bench(&cluster.address(leader), &["--targets", "followers"]);
    let expected =
        format!("quince: expected a follower among --servers, found only the leader n{leader}\n");
    assert_eq!((code, &*err), (3, &*expected));
    cluster.kill_all(&followers);
    until("it leads no more", || {
        let status = cluster.status(leader)?;
        (status["leader"] == "none").then_some(())
    });
    let (code, _, err) = bench(&cluster.list(), &["--targets", "leader"]);
    let silent = addresses.join(", ");
    let expected = format!(
        "quince: no server leads (no answer from {silent}): is a majority of them up? try quince status\n"
    );
    assert_eq!((code, &*err), (3, &*expected));
}

#[test]
fn a_leader_that_changes_during_the_run_is_told_and_so_is_what_it_costs() {
    let _alone = alone();
    let mut cluster = Cluster::start(3, &[]);
    let leader = cluster.until_led();
    let pids: Vec<String> = (1..=3).map(|n| format!("{n}={}", cluster.pid(n))).collect();
    let pids = pids.join(",");
    let args = ["--targets", "followers", "--kill-leader", "--pids", &pids];
    // Time enough for an election on the slowest of machines.
    let json = json_for("4", &cluster.list(), &args);
    assert_eq!(
        field(field(&json, "leader"), "leader"),
        format!("\"n{leader}\""),
        "{json}"
    );
    let after = cluster.until_led();
    let changes = field(&json, "new_leaders");
    assert!(
        changes.contains(&format!("\"leader\":\"n{after}\"")),
        "{json}"
    );
    let costs = field(&json, "costs");
    let dead = format!(
        "{{\"server\":\"n{leader}\",\"cpu_us\":null,\"syncs\":null,\"problem\":\"no answer at the end\"}}"
    );
    assert!(costs.contains(&dead), "{json}");
    assert_eq!(field(&json, "costs_whole"), "false", "{json}");
}

/// A write is on the disks of a majority before it is acknowledged; a read is not.
#[test]
fn writes_cost_syncs_and_everything_costs_time() {
    let _alone = alone();
    let cluster = Cluster::start(3, &[]);
    let cost = |args: &[&str]| {
        let json = json(&cluster.list(), args);
        assert_eq!(field(&json, "costs_whole"), "true", "{json}");
        (number(&json, "cpu_us_each"), number(&json, "syncs_each"))
    };
    // One client: nobody shares its syncs.
    let (write_us, write_syncs) = cost(&["--clients", "1"]);
    let (read_us, read_syncs) = cost(&["--clients", "1", "--op", "get"]);
    assert!(write_us > 0.0 && read_us > 0.0, "{write_us} {read_us}");
    assert!((1.9..10.0).contains(&write_syncs), "{write_syncs}");
    assert!(read_syncs < 0.1, "{read_syncs}");
    let (_, shared) = cost(&["--clients", "8", "--pipeline", "32", "--protocol", "resp"]);
    assert!(shared < write_syncs / 2.0, "{shared}, alone {write_syncs}");
}

#[test]
fn the_share_of_reads_is_told_and_all_reads_make_no_writes() {
    let _alone = alone();
    let cluster = Cluster::start(1, &[]);
    let reads = json(&cluster.list(), &["--reads", "100"]);
    assert_eq!(
        (field(&reads, "op"), field(&reads, "reads_percent")),
        ("\"mixed\"", "100")
    );
    assert_eq!(field(&reads, "gap_of"), "\"reads\"");
    assert!(number(&reads, "gap_ms") < 900.0, "{reads}");
    let writes = json(&cluster.list(), &["--reads", "0"]);
    assert_eq!(field(&writes, "gap_of"), "\"writes\"");
    assert!(
        number(&writes, "syncs_each") > number(&reads, "syncs_each"),
        "{writes}"
    );
}

/// Names and texts for who reads them line by line; the picture for who asks for it.
#[test]
fn a_pipe_gets_a_line_a_figure_and_the_picture_on_demand() {
    let cluster = Cluster::start(1, &[]);
    let names = |out: &str| -> Vec<String> {
        let names = out.lines().skip(1).map(|line| line[..13].trim_end().into());
        names
            .filter(|name: &String| !name.starts_with(' '))
            .collect()
    };
    let figures = [
        "servers",
        "rate",
        "latency",
        "errors",
        "longest gap",
        "cpu",
        "syncs",
    ];
    let (code, out, err) = bench(&cluster.list(), &["--reads", "20", "--keys", "9"]);
    assert_eq!(code, 0, "{err}");
    assert!(
        out.starts_with("mixed, 20 % reads, lines: 16 clients, 1 server, pipeline 1, 9 keys, "),
        "{out}"
    );
    assert_eq!(names(&out), figures, "{out}");
    assert_eq!(out.lines().count(), 8, "{out}");
    let (code, out, err) = bench(&cluster.list(), &["--histogram"]);
    assert_eq!(code, 0, "{err}");
    assert_eq!(names(&out), figures, "{out}");
    let picture: Vec<&str> = out.lines().filter(|line| line.starts_with("  ")).collect();
    assert!(picture.iter().any(|row| row.contains("####")), "{out}");
    for mark in ["p50 ", "p90 ", "p99 ", "p99.9 ", "max "] {
        let marked = picture.iter().filter(|row| row.contains(mark)).count();
        assert_eq!(marked, 1, "{mark}: {out}");
    }
}

#[test]
fn wrong_arguments_are_told_before_anything_is_tried() {
    for (args, expected) in [
        (
            &["--protocol", "http"][..],
            "invalid value 'http' for '--protocol <PROTOCOL>'",
        ),
        (
            &["--targets", "leaders"],
            "invalid value 'leaders' for '--targets <TARGETS>'",
        ),
        (
            &["--reads", "101"],
            "invalid value '101' for '--reads <PERCENT>'",
        ),
        (&["--reads", "-1"], "unexpected argument '-1' found"),
        (
            &["--reads", "50", "--op", "incr"],
            "expected --reads with --op mixed, found --op incr",
        ),
        (
            &["--warmup", "soon"],
            "invalid value 'soon' for '--warm-up <S>': expected seconds or a duration",
        ),
        (
            &["--op", "cas", "--value-bytes", "0"],
            "expected --value-bytes of at least 1 with --op cas, found 0",
        ),
        (
            &["--targets", "leader", "--kill-leader", "--pids", "1=4711"],
            "expected --targets all or followers when the leader is killed or frozen",
        ),
        (
            &["--histogram", "--json"],
            "the argument '--histogram' cannot be used with '--json'",
        ),
    ] {
        let (code, out, err) = run(&[&["bench"], args].concat());
        assert_eq!((code, &*out), (2, ""), "{args:?}: {err}");
        assert!(
            err.starts_with(&format!("quince: {expected}")),
            "{args:?}: {err}"
        );
        assert_eq!(err.lines().count(), 1, "{err}");
    }
}
