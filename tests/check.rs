//! `quince check` and `--history` from outside.

mod fake;

use std::process::{Command, Stdio};

use fake::{Fake, say};

/// Exit code, standard output, standard error.
fn quince(args: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quince"));
    command.args(args).stdin(Stdio::null());
    let output = command.output().expect("quince starts");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    let code = output.status.code().expect("an exit code");
    (code, text(output.stdout), text(output.stderr))
}

fn check(history: &str) -> (i32, String, String) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("history");
    std::fs::write(&file, history).unwrap();
    quince(&["check", file.to_str().unwrap()])
}

const GOOD: &str = "history 1
1 c1.1 call PUT x 1
2 c2.1 call PUT x 2
3 c1.1 reply OK
4 c2.1 lost the connection was lost
5 c1.2 call GET x
6 c1.2 reply VALUE 2
";

#[test]
fn a_good_history_is_one_line_and_exit_code_0() {
    let (code, out, err) = check(GOOD);
    let line = "linearizable: 3 operations on 1 key, 1 open\n";
    assert_eq!((code, out.as_str(), err.as_str()), (0, line, ""));
}

#[test]
fn a_bad_history_is_drawn_with_exit_code_1() {
    let (code, out, err) = check(&format!("{GOOD}7 c1.3 call GET x\n8 c1.3 reply VALUE 1\n"));
    assert_eq!((code, err.as_str()), (1, ""));
    assert!(out.starts_with("not linearizable: key \"x\""), "{out}");
    assert!(out.contains("<- cannot be"), "{out}");
}

#[test]
fn a_history_that_was_cut_off_is_read_with_a_word() {
    let (code, out, err) = check(&format!("{GOOD}7 c1.3 call GE"));
    assert_eq!(code, 0, "{out}");
    assert!(err.contains("the last line has no end"), "{err}");
}

#[test]
fn what_cannot_be_read_is_exit_code_3_and_no_file_is_usage() {
    let (code, _, err) = check("history 1\n1 c1.1 reply OK\n");
    assert_eq!(code, 3);
    assert!(err.contains("line 2"), "{err}");
    assert_eq!(quince(&["check", "/nonexistent"]).0, 3);
    assert_eq!(quince(&["check"]).0, 2);
}

/// A server that loses the first answer to each write, and remembers it for the second.
#[test]
fn a_shell_records_what_it_asks_and_hears() {
    let mut sent = 0;
    let server = Fake::start(move |line| match line {
        "SESSION" => say("SESSION 7"),
        line if line.starts_with("ONCE") => {
            sent += 1;
            say(if sent == 1 {
                "ERROR UNKNOWN no majority in time"
            } else {
                "OK"
            })
        }
        line if line.starts_with("MGET") => say("COUNT 2\nVALUE 1\nNOT_FOUND"),
        _ => say("VALUE 1"),
    });
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("history");
    let file = file.to_str().unwrap();
    let mut shell = Command::new(env!("CARGO_BIN_EXE_quince"));
    shell.args(["shell", "--servers", &server.address, "--history", file]);
    let input = dir.path().join("input");
    std::fs::write(&input, "PUT x 1\nGET x\nSTATUS\nMGET x y\n").unwrap();
    shell.stdin(std::fs::File::open(&input).unwrap());
    shell.output().unwrap();
    let history = std::fs::read_to_string(file).unwrap();
    let events: Vec<&str> = history
        .lines()
        .skip(1)
        .map(|line| line.split_once(' ').unwrap().1)
        .collect();
    assert_eq!(
        events,
        [
            "c1.1 call PUT x 1",
            "c1.1 again",
            "c1.1 reply OK",
            "c1.2 call GET x",
            "c1.2 reply VALUE 1",
            "c1.3 call MGET x y",
            "c1.3 reply COUNT 2 VALUE 1 NOT_FOUND",
        ]
    );
    assert_eq!(quince(&["check", file]).0, 0);
}
