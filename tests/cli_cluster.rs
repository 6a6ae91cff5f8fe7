//! The commands against a running cluster: what they print, and what they exit with.

mod processes;

use std::io::Write as _;
use std::process::Stdio;

use processes::{Cluster, quince, run, told, until};

/// Exit code, standard output, standard error, of a command with `--servers`.
fn ask(servers: &str, args: &[&str]) -> (i32, String, String) {
    run(&[args, &["--servers", servers]].concat())
}

fn out(code: i32, out: &str) -> (i32, String, String) {
    (code, out.into(), String::new())
}

fn err(code: i32, err: &str) -> (i32, String, String) {
    (code, String::new(), err.into())
}

/// As a person feeds it by a pipe.
fn shell(servers: &str, input: &[u8]) -> (i32, String, String) {
    let mut child = quince(&["shell", "--servers", servers])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("quince starts");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(input).expect("it reads");
    drop(stdin);
    told(child.wait_with_output().expect("it ends"))
}

#[test]
fn each_command_prints_its_result_and_exits_with_0_or_1() {
    let cluster = Cluster::start(3, &[]);
    let all = cluster.list();
    let ask = |args: &[&str]| ask(&all, args);
    assert_eq!(ask(&["list"]), out(0, ""));
    assert_eq!(ask(&["put", "apple", "1.25"]), out(0, "OK\n"));
    assert_eq!(ask(&["put", "pear", "2.10 per kilo"]), out(0, "OK\n"));
    assert_eq!(ask(&["put", "empty", ""]), out(0, "OK\n"));
    assert_eq!(ask(&["put", "two lines", "a\nb"]), out(0, "OK\n"));
    assert_eq!(ask(&["get", "pear"]), out(0, "2.10 per kilo\n"));
    assert_eq!(ask(&["get", "empty"]), out(0, "\n"));
    assert_eq!(ask(&["get", "two lines"]), out(0, "a\nb\n"));
    assert_eq!(ask(&["get", "plum"]), err(1, "NOT_FOUND\n"));
    assert_eq!(ask(&["cas", "apple", "1.25", "1.30"]), out(0, "OK\n"));
    assert_eq!(
        ask(&["cas", "apple", "1.25", "1.40"]),
        out(1, "MISMATCH 1.30\n")
    );
    assert_eq!(ask(&["cas", "plum", "1", "2"]), err(1, "NOT_FOUND\n"));
    assert_eq!(ask(&["incr", "visits"]), out(0, "1\n"));
    assert_eq!(ask(&["incr", "visits", "-5"]), out(0, "-4\n"));
    let nan = "quince: NOT_A_NUMBER the value is no 64-bit integer\n";
    assert_eq!(ask(&["incr", "pear"]), err(3, nan));
    let listed = "apple 1.30\nempty \"\"\npear 2.10 per kilo\n\"two lines\" \"a\\nb\"\nvisits -4\n";
    assert_eq!(ask(&["list"]), out(0, listed));
    assert_eq!(ask(&["list", "p"]), out(0, "pear 2.10 per kilo\n"));
    let part = "empty \"\"\npear 2.10 per kilo\n";
    assert_eq!(ask(&["list", "--from", "b", "--limit", "2"]), out(0, part));
    assert_eq!(ask(&["list", "e", "--from", "f"]), out(0, ""));
    assert_eq!(ask(&["delete", "apple"]), out(0, "OK\n"));
    assert_eq!(ask(&["delete", "apple"]), err(1, "NOT_FOUND\n"));
    // What each single server says, stale or not.
    for server in cluster.servers() {
        let one = cluster.address(server);
        assert_eq!(
            run(&["get", "pear", "--servers", &one]),
            out(0, "2.10 per kilo\n")
        );
        let local = ["get", "--local", "pear", "--servers", &one];
        assert_eq!(run(&local), out(0, "2.10 per kilo\n"));
    }
    let mut get = quince(&["get", "visits"]);
    let told = told(
        get.env("QUINCE_SERVERS", &all)
            .output()
            .expect("quince starts"),
    );
    assert_eq!(told, out(0, "-4\n"));
}

#[test]
fn status_has_a_row_a_server_and_exits_with_1_when_one_is_down() {
    let mut cluster = Cluster::start(3, &[]);
    assert_eq!(ask(&cluster.list(), &["put", "a", "1"]).0, 0);
    cluster.until_agreed();
    until("all links are up", || {
        cluster
            .servers()
            .into_iter()
            .all(|n| {
                cluster
                    .status(n)
                    .is_some_and(|s| s.values().all(|v| v != "down"))
            })
            .then_some(())
    });
    let leader = cluster.until_led();
    let (code, table, errors) = ask(&cluster.list(), &["status"]);
    assert_eq!((code, errors.as_str()), (0, ""), "{table}");
    let rows: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split(' ').collect())
        .collect();
    let heading = "id address role leader ballot decided applied hash acceptor uptime links";
    assert_eq!(rows[0].join(" "), heading);
    let status = cluster.status(1).expect("it runs");
    for (server, row) in cluster.servers().into_iter().zip(&rows[1..]) {
        let role = if server == leader {
            "leader"
        } else {
            "follower"
        };
        assert_eq!(
            row[..3],
            [&*format!("n{server}"), &*cluster.address(server), role]
        );
        assert_eq!(row[3], format!("n{leader}"));
        let fields = ["ballot", "decided", "applied", "hash", "acceptor"];
        assert_eq!(row[4..9], fields.map(|field| &*status[field]));
        let links = row[10..].join(" ");
        let expected: Vec<String> = (1..=3)
            .filter(|&n| n != server)
            .map(|n| format!("{n}+"))
            .collect();
        assert_eq!(links, expected.join(" "));
    }
    let down = 1 + leader % 3;
    cluster.kill(down);
    until("the others miss it", || {
        let status = cluster.status(leader)?;
        (status[&format!("peer n{down}")] == "down").then_some(())
    });
    let (code, table, errors) = ask(&cluster.list(), &["status"]);
    assert_eq!(
        (code, errors.as_str()),
        (1, "quince: 1 of 3 servers did not answer\n")
    );
    let missing = format!(
        "- {} unreachable: connection refused",
        cluster.address(down)
    );
    assert!(table.lines().any(|line| line == missing), "{table}");
    assert_eq!(table.lines().count(), 4, "{table}");
    assert!(table.contains(&format!("{down}-")), "{table}");
}

#[test]
fn a_command_moves_on_when_a_server_is_down() {
    let mut cluster = Cluster::start(3, &[]);
    let all = cluster.list();
    for victim in [1, 2, 3] {
        cluster.kill(victim);
        let value = victim.to_string();
        assert_eq!(ask(&all, &["put", "key", &value]), out(0, "OK\n"));
        assert_eq!(ask(&all, &["get", "key"]), out(0, &format!("{value}\n")));
        cluster.spawn(victim);
    }
    cluster.until_led();
    // Without a majority: told what is known, within the time asked for.
    cluster.kill(1);
    cluster.kill(2);
    let (code, out, err) = ask(&all, &["put", "key", "4", "--timeout", "500ms"]);
    assert_eq!((code, out.as_str()), (3, ""));
    let text = err.strip_prefix("quince: ").expect("quince: ...");
    assert!(
        text.starts_with("in doubt after ") || text.starts_with("gave up after "),
        "{err}"
    );
    let (code, out, err) = ask(&all, &["get", "key", "--timeout", "500ms"]);
    assert_eq!((code, out.as_str()), (3, ""));
    assert!(err.contains("nothing was done"), "{err}");
    // But what this server has learned can be told.
    assert_eq!(ask(&all, &["get", "--local", "key"]).0, 0);
    cluster.kill(3);
    let tried = cluster.addresses().join(", ");
    let (code, _, err) = ask(&all, &["get", "key", "--timeout", "100ms"]);
    assert_eq!(code, 3);
    assert!(
        err.starts_with(&format!("quince: no server answered (tried {tried}): ")),
        "{err}"
    );
}

#[test]
fn the_shell_takes_every_line_from_a_pipe() {
    let mut cluster = Cluster::start(3, &[]);
    let all = cluster.list();
    let input = b"PUT:kiwi:0.55\nGET:kiwi\nCAS kiwi 0.55 \"0.60 each\"\nLIST\nINCR n 5\n\
                  APPEND kiwi , organic\nMGET kiwi plum n\nlocal mget plum\n\
                  LOCAL GET plum\nDELETE:kiwi\nGET:kiwi\nfly\nPING\nexit\nPUT never 1\n";
    let (code, out, err) = shell(&all, input);
    assert_eq!((code, err.as_str()), (3, ""), "one is an ERROR");
    let mut lines: Vec<&str> = out.lines().collect();
    let wrong = lines.remove(16);
    assert!(wrong.starts_with("ERROR BAD_REQUEST "), "{out}");
    assert_eq!(
        lines,
        [
            "OK",
            "VALUE 0.55",
            "OK",
            "COUNT 1",
            "kiwi 0.60 each",
            "VALUE 5",
            "VALUE 18",
            "COUNT 3",
            "VALUE 0.60 each, organic",
            "NOT_FOUND",
            "VALUE 5",
            "COUNT 1",
            "NOT_FOUND",
            "NOT_FOUND",
            "OK",
            "NOT_FOUND",
            "PONG",
            "BYE",
        ]
    );
    assert_eq!(cluster.ask(2, "LIST"), "COUNT 1");
    // One server after another dies under it: each write is done once all the same.
    let mut child = quince(&["shell", "--servers", &all])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("quince starts");
    let mut stdin = child.stdin.take().expect("piped");
    for number in 6..36 {
        stdin.write_all(b"INCR n\n").expect("it reads");
        if number % 10 == 0 {
            let victim = u8::try_from(number / 10).expect("small");
            until("the shell has come so far", || {
                let value = cluster.ask(3, "GET n");
                let value: i32 = value.strip_prefix("VALUE ")?.parse().ok()?;
                (value >= number).then_some(())
            });
            if victim < 3 {
                cluster.kill(victim);
                cluster.spawn(victim);
                cluster.until_led();
            }
        }
    }
    drop(stdin);
    let (code, out, err) = told(child.wait_with_output().expect("it ends"));
    assert_eq!((code, err.as_str()), (0, ""));
    let expected: Vec<String> = (6..36).map(|number| format!("VALUE {number}")).collect();
    assert_eq!(out.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn the_log_is_printed_beside_a_running_server_and_after_it() {
    let mut cluster = Cluster::start(1, &[]);
    assert_eq!(cluster.ask(1, "PUT pear 2.10 per kilo"), "OK");
    let data = cluster.data(1);
    let args = ["log".as_ref(), data.as_os_str()];
    for _ in 0..2 {
        let (code, out, _) = run(&args);
        assert_eq!(code, 0);
        let bodies: Vec<&str> = out
            .lines()
            .filter_map(|line| line.splitn(4, ' ').nth(3))
            .filter(|body| !body.starts_with("peer "))
            .collect();
        let expected = [
            "segment 2 1 0",
            "start 1",
            "sound s0",
            "ballot b1.1",
            "promise b1.1",
        ];
        assert_eq!(bodies[..5], expected, "{out}");
        // The time of day stands before the command.
        let accept = bodies[5].strip_prefix("accept b1.1 s1 at ").expect(&out);
        let (_, command) = accept.split_once(" ; ").expect(&out);
        assert_eq!(command, "n1.1.1 put pear \"2.10 per kilo\"");
        for (number, line) in (1..).zip(out.lines()) {
            let mut words = line.split(' ');
            assert_eq!(words.next(), Some("log-00000001"));
            assert!(
                words
                    .next()
                    .is_some_and(|offset| offset.parse::<u64>().is_ok()),
                "{line}"
            );
            assert_eq!(words.next(), Some(&*format!("{number}")));
        }
        if cluster.runs(1) {
            cluster.stop();
        }
    }
    let mut cut = quince(&["log", "--width", "20"]);
    let (code, out, err) = told(cut.arg(&data).output().expect("quince starts"));
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(
        out.lines()
            .any(|line| line.ends_with(" accept b1.1 s1 at...")),
        "{out}"
    );
}

/// Preloaded once, by the first leader of an empty log; a restart with another file changes nothing.
#[test]
fn a_preload_is_taken_once() {
    let place = tempfile::tempdir().expect("a directory");
    let file = place.path().join("fruits.csv");
    std::fs::write(&file, "apple,1.25\npear,2.10 per kilo\n").expect("a new file");
    let mut cluster = Cluster::start(3, &["--preload", file.to_str().expect("text")]);
    let all = cluster.list();
    let listed = out(0, "apple 1.25\npear 2.10 per kilo\n");
    assert_eq!(ask(&all, &["list"]), listed);
    assert_eq!(ask(&all, &["delete", "apple"]), out(0, "OK\n"));
    std::fs::write(&file, "apple,7\nplum,8\n").expect("writable");
    for server in cluster.servers() {
        cluster.kill(server);
    }
    for server in cluster.servers() {
        cluster.spawn(server);
    }
    cluster.until_led();
    assert_eq!(ask(&all, &["list"]), out(0, "pear 2.10 per kilo\n"));
}
