//! What the demo prints: lines of aligned columns, none wider than 100 characters in a cluster of up
//! to nine servers.
//!
//! Unlike the other commands, it aligns into a pipe too: it is made for people to follow, and its
//! output ends in files and in continuous integration more often than in scripts.

use std::io::{self, Write as _};
use std::time::{Duration, Instant};

use crate::cli::figures::millis;
use crate::cli::style::{Paint, Style};
use crate::kv::command::Bytes;
use crate::text::{Blanks, write_token};

/// The widest line.
const WIDTH: usize = 100;
const COMMAND_WIDTH: usize = 28;
const REPLY_WIDTH: usize = 16;

/// Keys that an inventory shows; the others are only counted.
const INVENTORY_MAX: usize = 60;
/// The longest entry of an inventory that is shown whole.
const ENTRY_WIDTH_MAX: usize = 40;

/// Prints to standard output, with the time since the start.
#[derive(Debug, Clone, Copy)]
pub(super) struct Page {
    pub(super) start: Instant,
    pub(super) style: Style,
}

/// One command, as it went.
pub(super) struct Entry<'a> {
    pub(super) server: &'a str,
    pub(super) command: &'a str,
    pub(super) reply: &'a str,
    pub(super) took: Duration,
    /// Painted already: its width is not counted.
    pub(super) acceptors: &'a str,
}

impl Page {
    /// The heading of the columns.
    pub(super) fn heading(self) -> io::Result<()> {
        let text = columns("time", "at", "command", "reply", "latency") + "acceptors";
        print(&self.style.paint(Paint::Bold, &text))
    }

    /// A command and its reply.
    pub(super) fn entry(self, entry: &Entry<'_>) -> io::Result<()> {
        let text = columns(
            &self.time(),
            entry.server,
            entry.command,
            entry.reply,
            &millis(entry.took),
        );
        print(&(text + entry.acceptors))
    }

    /// Something that happened beside the commands.
    pub(super) fn remark(self, paint: Paint, text: &str) -> io::Result<()> {
        let text = clip(text, WIDTH - 12);
        let text = self.style.paint(paint, &text);
        print(&format!("{:>6}  --  {text}", self.time()))
    }

    fn time(self) -> String {
        format!("{:.1}s", self.start.elapsed().as_secs_f64())
    }
}

/// A line of its own.
pub(super) fn print(line: &str) -> io::Result<()> {
    writeln!(io::stdout(), "{line}")
}

/// Keys and values, side by side.
pub(super) fn inventory(pairs: &[(Bytes, Bytes)]) -> io::Result<()> {
    in_columns(pairs).iter().try_for_each(|line| print(line))
}

fn columns(time: &str, server: &str, command: &str, reply: &str, latency: &str) -> String {
    let (command, reply) = (clip(command, COMMAND_WIDTH), clip(reply, REPLY_WIDTH));
    format!("{time:>6}  {server:2}  {command:COMMAND_WIDTH$}  {reply:REPLY_WIDTH$}  {latency:>8}  ")
}

/// The beginning of a text that is too wide.
fn clip(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let cut: String = text.chars().take(width - 3).collect();
    cut + "..."
}

fn in_columns(pairs: &[(Bytes, Bytes)]) -> Vec<String> {
    let token = |bytes: &[u8], blanks| {
        let mut text = Vec::new();
        write_token(&mut text, bytes, blanks);
        clip(&String::from_utf8_lossy(&text), ENTRY_WIDTH_MAX / 2 - 1)
    };
    let shown: Vec<(String, String)> = pairs
        .iter()
        .take(INVENTORY_MAX)
        .map(|(key, value)| (token(key, Blanks::None), token(value, Blanks::Inside)))
        .collect();
    let width = |text: &String| text.chars().count();
    let key_width = shown.iter().map(|(key, _)| width(key)).max().unwrap_or(0);
    let value_width = shown.iter().map(|(_, value)| width(value)).max();
    let value_width = value_width.unwrap_or(0);
    let in_line = (WIDTH / (key_width + value_width + 6)).max(1);
    let mut lines: Vec<String> = shown
        .chunks(in_line)
        .map(|chunk| {
            let entry = |(key, value): &(String, String)| {
                format!("    {key:key_width$}  {value:>value_width$}")
            };
            chunk.iter().map(entry).collect()
        })
        .collect();
    let more = pairs.len() - shown.len();
    if more > 0 {
        lines.push(format!("    ... and {more} more"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(count: usize, value: &str) -> Vec<(Bytes, Bytes)> {
        let bytes = |text: &str| text.as_bytes().into();
        let pair = |n| (bytes(&format!("fruit{n}")), bytes(value));
        (1..=count).map(pair).collect()
    }

    #[test]
    fn a_line_of_nine_servers_fits_100_columns() {
        let text = columns(
            "9999.9s",
            "n9",
            &"PUT ".repeat(30),
            "VALUE a value longer than its column",
            &millis(Duration::from_mins(1)),
        );
        assert!(text.ends_with("VALUE a value...  60000 ms  "), "{text}");
        let nine = "1+ 2+ 3+ 4+ 5+ 6+ 7+ 8+ 9?";
        assert!(text.len() + nine.len() <= WIDTH, "{}", text.len());
    }

    #[test]
    fn an_inventory_stands_in_columns() {
        assert_eq!(
            in_columns(&pairs(6, "1.25")),
            [
                "    fruit1  1.25    fruit2  1.25    fruit3  1.25    fruit4  1.25    fruit5  1.25    fruit6  1.25",
            ]
        );
        let long = in_columns(&pairs(61, &"v".repeat(500)));
        assert!(long.iter().all(|line| line.len() <= WIDTH));
        assert_eq!(long.last().unwrap(), "    ... and 1 more");
        assert!(in_columns(&[]).is_empty());
    }
}
