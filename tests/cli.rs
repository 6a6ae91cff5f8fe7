//! The command line from outside: exit codes, what stands on which output, and in which words.

mod fake;

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Output, Stdio};

use fake::{Act, Fake, Refusing, say};

fn quince(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quince"));
    command.args(args).env_remove("QUINCE_SERVERS");
    command.stdin(Stdio::null());
    command
}

/// Exit code, standard output, standard error.
fn run(args: &[&str]) -> (i32, String, String) {
    told(quince(args).output().expect("quince starts"))
}

fn told(output: Output) -> (i32, String, String) {
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (
        output.status.code().expect("an exit code"),
        text(output.stdout),
        text(output.stderr),
    )
}

/// As [`run`], with `input` on standard input.
fn run_with(args: &[&str], input: &[u8]) -> (i32, String, String) {
    let mut child = quince(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("quince starts");
    // One that leaves early has read enough.
    let _ = child.stdin.take().expect("piped").write_all(input);
    told(child.wait_with_output().expect("quince ends"))
}

/// A server that keeps sessions and answers every other line by `reply`.
fn server(mut reply: impl FnMut(&str) -> String + Send + 'static) -> Fake {
    Fake::start(move |line| match line {
        "SESSION" => say("SESSION 7"),
        line => say(reply(line)),
    })
}

const COMMANDS: [&str; 11] = [
    "server", "shell", "put", "get", "delete", "cas", "incr", "list", "status", "log", "check",
];

#[test]
fn help_is_on_standard_output_with_exit_code_0() {
    for args in [&["--help"][..], &["help"], &["--version"]] {
        let (code, out, err) = run(args);
        assert_eq!((code, err.as_str()), (0, ""), "{args:?}");
        assert!(out.contains("quince"), "{out}");
    }
    let (_, overview, _) = run(&["--help"]);
    for command in COMMANDS {
        assert!(
            overview.contains(&format!("\n  {command}")),
            "{command}: {overview}"
        );
        let (code, out, err) = run(&[command, "--help"]);
        assert_eq!((code, err.as_str()), (0, ""), "{command}");
        assert!(
            out.contains("Example") || out.contains("Lines:"),
            "{command}: {out}"
        );
    }
}

#[test]
fn a_wrong_command_line_is_one_line_and_exit_code_2() {
    let long_key = "k".repeat(1_025);
    for (args, text) in [
        (&["fetch"][..], "unrecognized subcommand 'fetch'"),
        (
            &["put", "apple"],
            "required arguments were not provided: <VALUE>; see 'quince put --help'",
        ),
        (&["get", "a", "b"], "unexpected argument 'b' found"),
        (&["get", ""], "expected a key of at least one byte"),
        (
            &["get", &long_key],
            "expected a key of at most 1024 bytes, found 1025 bytes",
        ),
        (&["incr", "a", "1.5"], "invalid value '1.5' for '[BY]'"),
        (
            &["get", "a", "--timeout", "10"],
            "such as 500ms, 10s or 2m (up to 24h), found '10'",
        ),
        (
            &["get", "a", "--timeout", "0s"],
            "expected a duration above zero",
        ),
        (&["get", "a", "--servers", "nowhere"], "expected HOST:PORT"),
        (&["status", "--servers", ""], "expected HOST:PORT"),
        (&["server"], "not provided: --id <N>"),
        (
            &["server", "--id", "6"],
            "expected --id to be one of --peers, found 6",
        ),
        (
            &["server", "--id", "1", "--peers", "1=a:1,2=b:1"],
            "expected 1, 3, 5, 7 or 9 peers",
        ),
        (
            &["server", "--id", "1", "--peers", "1=a:x"],
            "expected HOST:PORT",
        ),
        (
            &["server", "--id", "1", "--fail-every", "4s..2s"],
            "from the shorter to the longer",
        ),
        (
            &["server", "--id", "1", "--recover-after", "1s"],
            "--fail-every",
        ),
        (
            &["server", "--id", "1", "--deadline", "soon"],
            "expected a duration with its unit",
        ),
    ] {
        let (code, out, err) = run(args);
        assert_eq!((code, out.as_str()), (2, ""), "{args:?}: {err}");
        assert!(
            err.starts_with("quince: ") && err.contains(text),
            "{args:?}: {err}"
        );
        assert_eq!(err.lines().count(), 1, "{args:?}: {err}");
    }
}

#[test]
fn no_command_shows_the_help_with_exit_code_2() {
    let (code, out, err) = run(&[]);
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(err.contains("Usage: quince"), "{err}");
}

#[test]
fn nobody_there_is_exit_code_3_and_says_what_was_tried() {
    let refusing = Refusing::bind();
    for command in [
        &["put", "a", "1"][..],
        &["get", "a"],
        &["list"],
        &["incr", "a", "-1"],
    ] {
        let args = [
            command,
            &["--servers", &refusing.address, "--timeout", "100ms"],
        ]
        .concat();
        let (code, out, err) = run(&args);
        let text = format!(
            "quince: no server answered (tried {}): is the cluster running? try ./run.sh\n",
            refusing.address
        );
        assert_eq!((code, out, err), (3, String::new(), text));
    }
}

#[test]
fn a_write_prints_its_reply_and_sends_exact_bytes() {
    let server = server(|line| {
        let reply = match line {
            "ONCE 7 1 INCR stock -5" => "VALUE 37",
            "ONCE 7 1 CAS apple 1 2" => "MISMATCH 1.25",
            "ONCE 7 1 DELETE nothing" => "NOT_FOUND",
            "ONCE 7 1 INCR apple 1" | "ONCE 7 1 INCR apple" => "ERROR NOT_A_NUMBER it is a pear",
            _ => "OK",
        };
        reply.into()
    });
    let run = |args: &[&str]| run(&[args, &["--servers", &server.address]].concat());
    let told = |code, out: &str, err: &str| (code, out.to_owned(), err.to_owned());
    assert_eq!(run(&["put", "apple", "1.25"]), told(0, "OK\n", ""));
    assert_eq!(run(&["put", "a b", " x\ty\n"]), told(0, "OK\n", ""));
    assert_eq!(run(&["put", "temperature", "-5"]), told(0, "OK\n", ""));
    assert_eq!(run(&["put", "empty", ""]), told(0, "OK\n", ""));
    assert_eq!(run(&["incr", "stock", "-5"]), told(0, "37\n", ""));
    assert_eq!(
        run(&["cas", "apple", "1", "2"]),
        told(1, "MISMATCH 1.25\n", "")
    );
    assert_eq!(run(&["delete", "nothing"]), told(1, "", "NOT_FOUND\n"));
    assert_eq!(
        run(&["incr", "apple"]),
        told(3, "", "quince: NOT_A_NUMBER it is a pear\n")
    );
    let received = server.received();
    for line in [
        "ONCE 7 1 PUT apple 1.25",
        r#"ONCE 7 1 PUT "a b" " x\ty\n""#,
        "ONCE 7 1 PUT temperature -5",
        r#"ONCE 7 1 PUT empty """#,
    ] {
        assert!(
            received.iter().any(|got| got == line),
            "{line}: {received:?}"
        );
    }
}

#[test]
fn a_read_prints_bytes_or_lines() {
    let server = server(|line| {
        let reply = match line {
            "GET apple" | "LOCAL GET apple" => r#"VALUE " 1\n\xff""#,
            "LIST" => "COUNT 2\n\"a b\" 1\npear 2.10 per kilo",
            "LIST nothing" => "COUNT 0",
            _ => "NOT_FOUND",
        };
        reply.into()
    });
    let raw = |args: &[&str]| {
        let output = quince(&[args, &["--servers", &server.address]].concat()).output();
        let output = output.expect("quince starts");
        (output.status.code(), output.stdout, output.stderr)
    };
    assert_eq!(
        raw(&["get", "apple"]),
        (Some(0), b" 1\n\xff\n".to_vec(), vec![])
    );
    assert_eq!(raw(&["get", "--local", "apple"]).0, Some(0));
    assert_eq!(
        raw(&["get", "x"]),
        (Some(1), vec![], b"NOT_FOUND\n".to_vec())
    );
    let lines = b"\"a b\" 1\npear 2.10 per kilo\n".to_vec();
    assert_eq!(raw(&["list"]), (Some(0), lines, vec![]));
    assert_eq!(raw(&["list", "nothing"]), (Some(0), vec![], vec![]));
}

#[test]
fn servers_come_from_the_environment_too() {
    let server = server(|_| "VALUE 1.25".into());
    let mut get = quince(&["get", "apple"]);
    let output = get.env("QUINCE_SERVERS", &server.address).output();
    assert_eq!(told(output.unwrap()), (0, "1.25\n".into(), String::new()));
}

#[test]
fn a_reader_that_goes_away_ends_a_command_without_a_word() {
    // Far more than a pipe holds, so that the command must meet the closed end.
    let server = server(|_| format!("COUNT 20000{}", "\nsome_key some value".repeat(20_000)));
    let mut child = quince(&["list", "--servers", &server.address])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    assert_eq!(
        told(child.wait_with_output().unwrap()),
        (0, String::new(), String::new())
    );
}

/// However long a list is, it is printed as it comes and never held: this one has no end.
#[test]
fn a_list_without_end_is_printed_for_as_long_as_someone_reads() {
    let server = Fake::start(|_| {
        let pairs = "some_key some value\n".repeat(1_000);
        Act::Pour(format!("COUNT {}\n", u64::MAX), pairs)
    });
    let args = [
        "list",
        "so",
        "--from",
        "some",
        "--limit",
        "7",
        "--servers",
        &server.address,
    ];
    let mut child = quince(&args)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for _ in 0..100_000 {
        assert_eq!(lines.next().unwrap().unwrap(), "some_key some value");
    }
    drop(lines);
    assert_eq!(
        told(child.wait_with_output().unwrap()),
        (0, String::new(), String::new())
    );
    assert_eq!(server.received(), ["LIST so FROM some LIMIT 7"]);
}

#[test]
fn status_has_a_row_for_each_server_and_tells_who_is_missing() {
    let status = "COUNT 11\nid n1\nrole leader\nleader n1\nballot b7.1\ndecided s9\napplied s9\n\
                  hash 00ab\nacceptor failed\nuptime_s 75\npeer n2 up\npeer n3 down";
    let (server, refusing) = (server(move |_| status.into()), Refusing::bind());
    let row = format!(
        "id address role leader ballot decided applied hash acceptor uptime links\n\
         n1 {} leader n1 b7.1 s9 s9 00ab failed 1m15s 2+ 3-\n",
        server.address
    );
    let all = run(&["status", "--servers", &server.address]);
    assert_eq!(all, (0, row.clone(), String::new()));
    let both = format!("{},{}", server.address, refusing.address);
    let (code, out, err) = run(&["status", "--servers", &both]);
    let missing = format!("- {} unreachable: connection refused\n", refusing.address);
    assert_eq!((code, out), (1, row + &missing));
    assert_eq!(err, "quince: 1 of 2 servers did not answer\n");
    let (code, _, err) = run(&["status", "--servers", &refusing.address]);
    assert_eq!(
        (code, &*err),
        (3, "quince: 1 of 1 servers did not answer\n")
    );
}

#[test]
fn a_script_of_lines_ends_with_3_where_one_was_answered_with_an_error() {
    let server = server(|line| match line {
        "GET kiwi" => "NOT_FOUND".into(),
        _ => "ERROR NOT_A_NUMBER it is a pear".into(),
    });
    for (lines, expected) in [
        ("GET kiwi\n", 0),
        ("BOGUS x\n", 3),
        ("BOGUS x\nGET kiwi\n", 3),
        ("GET kiwi\nINCR pear\nexit\n", 3),
    ] {
        let shell = ["shell", "--servers", &server.address];
        let (code, _, err) = run_with(&shell, lines.as_bytes());
        assert_eq!((code, &*err), (expected, ""), "{lines}");
    }
}

#[test]
fn a_program_of_any_name_says_its_own_name_where_it_says_where_to_read_on() {
    let place = tempfile::tempdir().unwrap();
    for name in ["quince-0.1", "Q_1", "my quince"] {
        let path = place.path().join(name);
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_quince"), &path).unwrap();
        let (code, _, err) = told(Command::new(&path).args(["put", "apple"]).output().unwrap());
        assert_eq!(code, 2, "{err}");
        assert!(
            err.ends_with(&format!("; see '{name} put --help'\n")),
            "{err}"
        );
    }
}

#[test]
fn the_shell_prints_only_replies_into_a_pipe() {
    let mut seq = 0;
    let server = server(move |line| match line {
        "GET kiwi" => "VALUE 0.55".into(),
        "LIST" => "COUNT 1\nkiwi 0.55".into(),
        once => {
            seq += 1;
            let expected = [
                "ONCE 7 1 PUT kiwi 0.55",
                "ONCE 7 2 DELETE kiwi",
                "ONCE 3 9 PUT kiwi 1",
            ];
            assert_eq!(once, expected[seq - 1]);
            "OK".into()
        }
    });
    let input = b"PUT:kiwi:0.55\r\n\n  \nGET:kiwi\nlist\nDELETE:kiwi\nONCE 3 9 PUT kiwi 1\n\
                  fly me\nexit\nGET:kiwi\n";
    let (code, out, err) = run_with(&["shell", "--servers", &server.address], input);
    assert_eq!((code, err.as_str()), (3, ""), "an ERROR is among them");
    let expected = "OK\nVALUE 0.55\nCOUNT 1\nkiwi 0.55\nOK\nOK\nERROR BAD_REQUEST ";
    assert!(
        out.starts_with(expected) && out.ends_with("\nBYE\n"),
        "{out}"
    );
    assert_eq!(
        server
            .received()
            .iter()
            .filter(|line| *line == "GET kiwi")
            .count(),
        1
    );
}

#[test]
fn the_shell_leaves_with_0_at_the_end_of_its_input() {
    let server = server(|_| "NOT_FOUND".into());
    let shell = ["shell", "--servers", &server.address];
    assert_eq!(run_with(&shell, b""), (0, String::new(), String::new()));
    // A last line without its end is one too.
    let told = run_with(&shell, b"GET:kiwi");
    assert_eq!(told, (0, "NOT_FOUND\n".into(), String::new()));
}

#[test]
fn the_shell_goes_on_with_another_server_and_writes_once() {
    let first = Fake::script(vec![say("SESSION 7"), Act::Die]);
    let second = Fake::start(|_| say("OK"));
    let both = format!("{},{}", first.address, second.address);
    let told = run_with(&["shell", "--servers", &both], b"PUT a 1\nPUT a 2\n");
    assert_eq!(told, (0, "OK\nOK\n".into(), String::new()));
    assert_eq!(second.received(), ["ONCE 7 1 PUT a 1", "ONCE 7 2 PUT a 2"]);
}

#[test]
fn the_shell_stops_where_a_line_gets_no_answer() {
    let (refusing, silent) = (Refusing::bind(), Fake::start(|_| Act::Hush));
    let shell = |server: &str| {
        let args = ["shell", "--servers", server, "--timeout", "200ms"];
        run_with(&args, b"GET a\nGET b\n")
    };
    let (code, out, err) = shell(&refusing.address);
    assert_eq!((code, out.as_str()), (3, ""));
    assert!(err.starts_with("quince: no server answered"), "{err}");
    let (code, _, err) = shell(&silent.address);
    assert_eq!(code, 3);
    assert!(
        err.starts_with("quince: gave up after ") && err.contains("nothing was done"),
        "{err}"
    );
    assert_eq!(silent.received(), ["GET a"]);
}

#[test]
fn a_server_that_cannot_write_its_log_does_not_start() {
    let args = [
        "server",
        "--id",
        "1",
        "--log-file",
        "/nonexistent/server.log",
    ];
    let (code, out, err) = run(&args);
    assert_eq!((code, out.as_str()), (3, ""));
    assert!(
        err.starts_with("quince: cannot open the log file /nonexistent/server.log: "),
        "{err}"
    );
}

#[test]
fn a_log_that_is_not_there_is_told() {
    let (code, out, err) = run(&["log", "/nonexistent/data"]);
    assert_eq!((code, out.as_str()), (3, ""));
    assert!(
        err.starts_with("quince: cannot open /nonexistent/data: "),
        "{err}"
    );
    let empty = tempfile::tempdir().unwrap();
    let (code, out, err) = run(&["log", empty.path().to_str().unwrap()]);
    assert_eq!((code, out.as_str()), (3, ""));
    assert!(err.contains("no log is here"), "{err}");
}

#[test]
fn a_log_is_printed_a_line_a_record() {
    use quince::disk::dir::FsDir;
    use quince::disk::log::{Log, Options};

    let place = tempfile::tempdir().unwrap();
    let dir = FsDir::create(place.path()).unwrap();
    Log::create(&dir, &Options::default()).unwrap();
    let (code, out, err) = run(&["log", place.path().to_str().unwrap()]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.starts_with("log-00000001 0 1 "), "{out}");
    let check = |path: &str| run(&["log", path, "--check"]);
    let (code, out, err) = check(place.path().to_str().unwrap());
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.ends_with("\nsound\n"), "{out}");
    let empty = tempfile::tempdir().unwrap();
    let (code, out, err) = check(empty.path().to_str().unwrap());
    assert_eq!((code, out.as_str()), (3, ""));
    assert!(err.contains("no log is here"), "{err}");
}
