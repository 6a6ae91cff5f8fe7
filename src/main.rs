//! The `quince` program: parse, run, exit code. Everything else is in [`quince::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    match quince::cli::parse(std::env::args_os()) {
        Ok(cli) => quince::cli::run(cli),
        Err(code) => code,
    }
}
