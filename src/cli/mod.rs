//! The command line: every command, its flags and its help; what each prints and exits with.
//!
//! One file a command, each with its own `Args` and a `run` that returns `Result<(), Failure>`.
//! The rules that hold for all of them:
//!
//! | | |
//! | --- | --- |
//! | standard output | results, and nothing but results |
//! | standard error | `quince: ...`, one line an error |
//! | exit code 0 | done |
//! | exit code 1 | done, and the answer is no: not found, a mismatch, a history that is not linearizable |
//! | exit code 2 | the command line is wrong; nothing was tried |
//! | exit code 3 | failed: no answer, an error for an answer, nothing that could be read |
//! | colour, columns | on a terminal only; `NO_COLOR` is honoured |
//!
//! Whoever closes the other end of the output (`quince list | head -1`) wanted no more: that ends a
//! command with 0 and without a word.

#![allow(
    clippy::disallowed_methods,
    reason = "a client has a clock, and chance may choose its server"
)]

mod bench;
mod check;
mod demo;
mod figures;
mod flags;
mod log;
mod logging;
mod oneshot;
mod preload;
mod reach;
pub mod server;
mod shell;
mod signal;
mod simulate;
mod status;
mod style;
mod torture;

use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind, Write as _};
use std::path::Path;
use std::process::ExitCode;

use clap::error::ErrorKind as UsageKind;
use clap::{Parser, Subcommand};

pub use flags::{Address, FlagError, Peers, Span};
pub use logging::LoggingError;

use crate::client;

/// The exit code where all went well and the answer is no.
const NO: u8 = 1;

/// The exit code of a wrong command line, clap's too.
const USAGE: u8 = 2;

/// The exit code of what failed.
pub(crate) const FAILED: u8 = 3;

/// What `quince` was asked to do: made by [`parse`], done by [`run`].
#[derive(Debug, Parser)]
#[command(
    name = "quince",
    version,
    about = "A replicated key-value store that you can talk to by hand",
    long_about = "A replicated key-value store that you can talk to by hand.\n\n\
        Five servers (or 1, 3, 7, 9) keep one log by Multi-Paxos. Any of them takes any request, and \
        the store goes on while a majority of them is up.",
    after_help = "\
First steps:
  ./run.sh servers                     start five servers on this machine
  quince put apple 1.25                store a value
  quince get apple                     read it back, from any server
  quince status                        how the five are doing
  quince shell                         talk to them line by line

Exit codes: 0 done, 1 not found or mismatch, 2 wrong usage, 3 failed.
'quince help COMMAND' tells more, with examples.",
    max_term_width = 100,
    arg_required_else_help = true
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run one server of a cluster
    Server(server::Args),
    /// Talk to the servers line by line, with history and completion
    Shell(shell::Args),
    /// Store a value under a key
    Put(oneshot::Put),
    /// Print the value of a key
    Get(oneshot::Get),
    /// Remove a key
    Delete(oneshot::Delete),
    /// Replace a value if it is the expected one (compare and set)
    Cas(oneshot::Cas),
    /// Add to the number under a key
    Incr(oneshot::Incr),
    /// Print all keys with their values
    List(oneshot::List),
    /// Show how every server is doing
    Status(status::Args),
    /// Watch a cluster at work while its servers fail: the automated client
    Demo(demo::Args),
    /// Measure a cluster under load, and its silence when the leader dies
    Bench(bench::Args),
    /// Judge a recorded run: is it linearizable?
    Check(check::Args),
    /// Print what a server's log on disk holds
    Log(log::Args),
    /// Live simulated cluster lives under faults, and check every step of them
    Simulate(simulate::Args),
    /// Let real faults loose on real servers, and judge what clients saw
    Torture(torture::Args),
}

/// Does what the command line says, and returns the exit code of the process.
pub fn run(cli: Cli) -> ExitCode {
    // A server has its own way.
    if !matches!(cli.command, Command::Server(_))
        && let Err(text) = signal::end_as_any_other()
    {
        return Failure::Text(text).tell();
    }
    let done = match cli.command {
        Command::Server(args) => server::run(args),
        Command::Shell(args) => shell::run(&args),
        Command::Put(args) => oneshot::put(args),
        Command::Get(args) => oneshot::get(args),
        Command::Delete(args) => oneshot::delete(args),
        Command::Cas(args) => oneshot::cas(args),
        Command::Incr(args) => oneshot::incr(args),
        Command::List(args) => oneshot::list(args),
        Command::Status(args) => status::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Log(args) => log::run(args),
        Command::Simulate(args) => simulate::run(&args),
        Command::Torture(args) => torture::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.tell(),
    }
}

/// Reads a command line, the program's name first. Where there is nothing to run, because it is
/// wrong or asks for help, the text has been printed and the exit code is returned.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Cli, ExitCode> {
    let args: Vec<OsString> = args.into_iter().collect();
    let program = program_of(&args);
    Cli::try_parse_from(args).map_err(|error| match error.kind() {
        UsageKind::DisplayHelp
        | UsageKind::DisplayVersion
        | UsageKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            // A reader that is gone wanted no more.
            let _ = error.print();
            ExitCode::from(if error.use_stderr() { USAGE } else { 0 })
        }
        _ => Failure::Usage(one_line(&error.render().to_string(), &program)).tell(),
    })
}

/// What this program is called here, as clap calls it in its texts.
fn program_of(args: &[OsString]) -> String {
    let name = args.first().and_then(|path| Path::new(path).file_name());
    name.and_then(OsStr::to_str).unwrap_or("quince").to_owned()
}

/// clap's message, several paragraphs long, as one line: what is wrong, its tips, where to read on.
/// `program` may hold anything that a file name may.
fn one_line(rendered: &str, program: &str) -> String {
    let mut paragraphs = rendered.split("\n\n").map(|paragraph| {
        let words: Vec<&str> = paragraph.split_whitespace().collect();
        words.join(" ")
    });
    let message = paragraphs.next().unwrap_or_default();
    let mut line = message
        .strip_prefix("error: ")
        .unwrap_or(&message)
        .to_owned();
    for paragraph in paragraphs {
        if let Some(tip) = paragraph.strip_prefix("tip: ") {
            line = format!("{line} ({tip})");
        } else if let Some(usage) = paragraph.strip_prefix("Usage: ") {
            // clap's words, of which a file name may have more than one, are joined by single spaces.
            let words: Vec<&str> = program.split_whitespace().collect();
            let after = usage.strip_prefix(&words.join(" ")).unwrap_or_default();
            let subcommands = after
                .split_whitespace()
                .take_while(|word| word.chars().all(|c| c.is_ascii_lowercase()));
            let command: Vec<&str> = std::iter::once(program).chain(subcommands).collect();
            line = format!("{line}; see '{} --help'", command.join(" "));
        }
    }
    line
}

/// Why a command does not end with exit code 0.
#[derive(Debug)]
pub(crate) enum Failure {
    /// All went well, and the answer, which has been printed, is no.
    No,
    /// All went well, and the answer is no; why is printed as `quince: text`.
    Found(String),
    /// It failed, and something has been printed that says why.
    Told,
    /// It failed; why is printed as `quince: text`.
    Text(String),
    /// The command line is wrong in a way that takes more than one flag to see.
    Usage(String),
    /// Standard output cannot be written.
    Output(io::Error),
}

impl Failure {
    /// Says why, once, and returns the exit code.
    fn tell(&self) -> ExitCode {
        let (text, code) = match self {
            Self::No => return ExitCode::from(NO),
            Self::Told => return ExitCode::from(FAILED),
            Self::Output(error) if error.kind() == ErrorKind::BrokenPipe => {
                return ExitCode::SUCCESS;
            }
            Self::Output(error) => (&format!("cannot write to standard output: {error}"), FAILED),
            Self::Found(text) => (text, NO),
            Self::Text(text) => (text, FAILED),
            Self::Usage(text) => (text, USAGE),
        };
        complain(text);
        ExitCode::from(code)
    }
}

/// Prints `quince: text` to standard error, on one line whatever the text holds.
pub(crate) fn complain(text: &str) {
    let line = text.replace(char::is_control, " ");
    // Where it cannot be told, the exit code still says it.
    let _ = writeln!(io::stderr(), "quince: {line}");
}

impl From<client::Error> for Failure {
    fn from(error: client::Error) -> Self {
        Self::Text(error.to_string())
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_definition_of_the_commands_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_flag_and_command_has_a_help_text() {
        for command in Cli::command().get_subcommands() {
            assert!(command.get_about().is_some(), "{}", command.get_name());
            for argument in command.get_arguments() {
                assert!(
                    argument.get_help().is_some(),
                    "{} {}",
                    command.get_name(),
                    argument.get_id()
                );
            }
        }
    }

    #[test]
    fn a_usage_error_is_one_line_that_says_where_to_read_on() {
        let line = |args: &[&str]| {
            let words: Vec<OsString> = args.iter().map(OsString::from).collect();
            let error = Cli::try_parse_from(args).unwrap_err();
            one_line(&error.render().to_string(), &program_of(&words))
        };
        assert_eq!(
            line(&["quince", "put", "apple"]),
            "the following required arguments were not provided: <VALUE>; see 'quince put --help'"
        );
        assert_eq!(
            line(&["quince", "pot"]),
            "unrecognized subcommand 'pot' (a similar subcommand exists: 'put'); see 'quince --help'"
        );
        for (path, name) in [
            ("/opt/quince-0.1", "quince-0.1"),
            ("./Q_1", "Q_1"),
            ("/opt/my  quince", "my  quince"),
        ] {
            let pot = line(&[path, "pot"]);
            assert!(pot.ends_with(&format!("; see '{name} --help'")), "{pot}");
            let put = line(&[path, "put", "apple"]);
            assert!(
                put.ends_with(&format!("; see '{name} put --help'")),
                "{put}"
            );
        }
    }
}
