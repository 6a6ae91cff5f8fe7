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
//! | exit code 1 | failed, or not found |
//! | exit code 2 | the command line is wrong; nothing was tried |
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

use std::ffi::OsString;
use std::io::{self, ErrorKind, Write as _};
use std::process::ExitCode;

use clap::error::ErrorKind as UsageKind;
use clap::{Parser, Subcommand};

pub use flags::{Address, FlagError, Peers, Span};
pub use logging::LoggingError;

use crate::client;

/// The exit code of a wrong command line, clap's too.
const USAGE: u8 = 2;

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

Exit codes: 0 done, 1 failed or not found, 2 wrong usage.
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
    Cli::try_parse_from(args).map_err(|error| match error.kind() {
        UsageKind::DisplayHelp
        | UsageKind::DisplayVersion
        | UsageKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            // A reader that is gone wanted no more.
            let _ = error.print();
            ExitCode::from(if error.use_stderr() { USAGE } else { 0 })
        }
        _ => Failure::Usage(one_line(&error.render().to_string())).tell(),
    })
}

/// clap's message, several paragraphs long, as one line: what is wrong, its tips, where to read on.
fn one_line(rendered: &str) -> String {
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
            let command: Vec<&str> = usage
                .split(' ')
                .take_while(|word| word.chars().all(|c| c.is_ascii_lowercase()))
                .collect();
            line = format!("{line}; see '{} --help'", command.join(" "));
        }
    }
    line
}

/// Why a command did not do what it was asked to.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Something has been printed that says why.
    Told,
    /// For people; printed as `quince: text`.
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
            Self::Told => return ExitCode::FAILURE,
            Self::Output(error) if error.kind() == ErrorKind::BrokenPipe => {
                return ExitCode::SUCCESS;
            }
            Self::Output(error) => (&format!("cannot write to standard output: {error}"), 1),
            Self::Text(text) => (text, 1),
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
            let error = Cli::try_parse_from(args).unwrap_err();
            one_line(&error.render().to_string())
        };
        assert_eq!(
            line(&["quince", "put", "apple"]),
            "the following required arguments were not provided: <VALUE>; see 'quince put --help'"
        );
        assert_eq!(
            line(&["quince", "pot"]),
            "unrecognized subcommand 'pot' (a similar subcommand exists: 'put'); see 'quince --help'"
        );
    }
}
