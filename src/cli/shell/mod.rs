//! `quince shell`: the prompt. Every line of the client protocol, with history and completion.
//!
//! The shell reads each line as a server would, so that it knows what may be sent again when a server
//! dies: plain writes go exactly once, in a session of the shell's own; a line that is no request is
//! answered here, with the very words of a server. With a terminal on both sides it shows who
//! answered and how long it took, and notes each server that it gives up; without one it prints
//! replies alone, so that a script reads the same lines as over a socket.

mod complete;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustyline::error::ReadlineError;
use rustyline::history::DefaultHistory;
use rustyline::{CompletionType, Config, Editor};

use self::complete::Completion;
use super::check::Record;
use super::reach::Reach;
use super::style::{Paint, Style};
use super::{Failure, complain};
use crate::client::{Answer, Client, Connection, Limits};
use crate::text;
use crate::wire::client::{LINE_BYTES_MAX, Reply, Request, RequestError, parse_request};
use crate::wire::lines::{Line, LineBuffer};

/// What `shell` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Lines:
  PUT pear 2.10 per kilo      PUT:pear:2.10 per kilo      store
  GET pear                    GET:pear                    read
  DELETE pear                 DELETE:pear                 remove
  CAS pear 2.10 2.20          INCR visits 5               LIST pe
  APPEND pear , organic       MGET pear plum              EXPIRE pear 3600
  LOCAL GET pear              STATUS                      HELP
  exit                        leaves, as Ctrl-D does

Tab completes requests and keys. The history is kept in ~/.quince_history. When a server dies, the
shell goes on with the next one; a write is done once all the same. FAIL, RECOVER and SLOW mean the
server that answered last: choose one with --servers 127.0.0.1:7003.

Without a terminal, lines are read from standard input and replies printed, and nothing else:
  printf 'PUT pear 2.10\\nGET pear\\n' | quince shell
Exit code 3 if one of them was answered with an ERROR, or the last not at all; else 0.")]
pub(crate) struct Args {
    #[command(flatten)]
    reach: Reach,

    #[command(flatten)]
    record: Record,
}

/// As the first Quince asked, letter by letter.
const PROMPT: &str = "Enter command (PUT/GET/DELETE:key:value[only with PUT] or 'exit'): ";

/// Lines of history kept; older ones are forgotten.
const HISTORY_LINES_MAX: usize = 1_000;

/// How wide a reply is padded before who answered, so that most of these stand in a column.
const REPLY_WIDTH: usize = 18;

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let mut client = args.reach.client();
    let recorder = args.record.start()?;
    if let Some(recorder) = &recorder {
        client.record(recorder.lane());
    }
    let end = if io::stdin().is_terminal() && io::stdout().is_terminal() {
        prompt(client)
    } else {
        script(client)
    };
    end.and(Record::finish(recorder.as_ref()))
}

/// Whether there is more to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Line,
    Leave,
}

/// Lines from a pipe or file; the first one without any answer ends it, for what follows may build
/// on it. An error for an answer does not, but it is what the exit code tells.
fn script(mut client: Client) -> Result<(), Failure> {
    // A last line without a line end is one too: here nobody was cut off.
    let mut input = io::stdin().lock().chain(&b"\n"[..]);
    let mut lines = LineBuffer::new(LINE_BYTES_MAX);
    let mut end = Ok(());
    let read_error = |error| Failure::Text(format!("cannot read standard input: {error}"));
    while lines.read_from(&mut input).map_err(read_error)? > 0 {
        while let Some(line) = lines.next_line() {
            let (reply, next) = match request(line) {
                None => continue,
                Some(Ok(Request::Quit)) => (Reply::Bye, Next::Leave),
                Some(Ok(request)) => (client.ask(&request)?.reply, Next::Line),
                Some(Err(error)) => (error.into(), Next::Line),
            };
            let mut text = Vec::new();
            reply.write(&mut text);
            io::stdout().lock().write_all(&text)?;
            if matches!(reply, Reply::Error(..)) {
                end = Err(Failure::Told);
            }
            if next == Next::Leave {
                return end;
            }
        }
    }
    end
}

/// What a line asks for; none for a blank one, which is passed over.
fn request(line: Line<'_>) -> Option<Result<Request, RequestError>> {
    match line {
        Line::Whole(line) => {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            (!text::trim(line).is_empty()).then(|| parse_request(line))
        }
        Line::TooLong => Some(Err(RequestError::too_long_line())),
    }
}

/// Lines from a person.
fn prompt(client: Client) -> Result<(), Failure> {
    let mut talk = Talk::new(client);
    talk.greet()?;
    let mut editor = editor().map_err(terminal_error)?;
    let history = history_file();
    if let Some(file) = &history {
        // Without a history, the first line is the first.
        let _ = editor.load_history(file);
    }
    let mut interrupted = false;
    loop {
        match editor.readline(PROMPT) {
            Ok(line) => {
                interrupted = false;
                if !line.trim().is_empty() {
                    // A history that cannot be kept is no reason to stop.
                    let _ = editor.add_history_entry(&line);
                    let _ = history.as_ref().map(|file| editor.append_history(file));
                }
                if talk.line(&line)? == Next::Leave {
                    return Ok(());
                }
                if let Some(completion) = editor.helper_mut() {
                    talk.client.server().clone_into(&mut completion.server);
                    completion.see(&line);
                }
            }
            Err(ReadlineError::Interrupted) if !interrupted => {
                interrupted = true;
                talk.note("Ctrl-C again, Ctrl-D or exit leave")?;
            }
            Err(ReadlineError::Interrupted | ReadlineError::Eof) => return Ok(()),
            // The terminal has another size now: that is all.
            Err(ReadlineError::Signal(_)) => {}
            Err(error) => return Err(terminal_error(error)),
        }
    }
}

fn terminal_error(error: ReadlineError) -> Failure {
    match error {
        ReadlineError::Io(error) => Failure::Output(error),
        other => Failure::Text(format!("cannot use this terminal: {other}")),
    }
}

fn editor() -> rustyline::Result<Editor<Completion, DefaultHistory>> {
    let config = Config::builder()
        .completion_type(CompletionType::List)
        .max_history_size(HISTORY_LINES_MAX)?
        .build();
    let mut editor = Editor::with_config(config)?;
    editor.set_helper(Some(Completion::default()));
    Ok(editor)
}

fn history_file() -> Option<PathBuf> {
    std::env::home_dir().map(|home| home.join(".quince_history"))
}

/// A conversation on a terminal.
struct Talk {
    client: Client,
    /// The node behind each address, once it has been asked.
    nodes: BTreeMap<String, String>,
    /// The servers that have been noted as giving no answer, for the request under way.
    noted: Arc<Mutex<BTreeSet<String>>>,
    style: Style,
}

impl Talk {
    fn new(mut client: Client) -> Self {
        let style = Style::of(&io::stdout());
        let noted = Arc::new(Mutex::new(BTreeSet::new()));
        let shown = Arc::clone(&noted);
        client.on_detour(move |detour| {
            // Each server once a request: a round comes every half second.
            if shown.lock().insert(detour.server.to_owned()) {
                let text = format!("({}: {}", detour.server, detour.reason);
                let text = if detour.next == detour.server {
                    format!("{text}; trying again)")
                } else {
                    format!("{text}; trying {})", detour.next)
                };
                let text = text.replace(char::is_control, " ");
                // A note that nobody reads is not missed.
                let _ = writeln!(io::stderr(), "{}", style.paint(Paint::Dim, &text));
            }
        });
        Self {
            client,
            nodes: BTreeMap::new(),
            noted,
            style,
        }
    }

    /// Finds a server, and says which.
    fn greet(&mut self) -> Result<(), Failure> {
        let answer = self.client.ask(&Request::Ping)?;
        let server = self.name(&answer.server);
        self.note(&format!(
            "talking to {server}; HELP lists the requests, Tab completes, exit leaves"
        ))
    }

    /// Answers one line.
    fn line(&mut self, line: &str) -> Result<Next, Failure> {
        self.noted.lock().clear();
        let request = match request(Line::Whole(line.as_bytes())) {
            None => return Ok(Next::Line),
            Some(Ok(request)) => request,
            Some(Err(error)) => {
                self.show(&error.into(), "not sent")?;
                return Ok(Next::Line);
            }
        };
        if request == Request::Quit {
            writeln!(io::stdout(), "{}", Reply::Bye)?;
            return Ok(Next::Leave);
        }
        match self.client.ask(&request) {
            Ok(Answer {
                reply,
                server,
                took,
            }) => {
                let server = self.name(&server);
                self.show(&reply, &format!("{server}, {}", milliseconds(took)))?;
            }
            Err(error) => complain(&error.to_string()),
        }
        Ok(Next::Line)
    }

    /// Prints a reply, and beside its first line where it comes from.
    fn show(&self, reply: &Reply, from: &str) -> Result<(), Failure> {
        let text = reply.to_string();
        let (head, body) = text.split_once('\n').unwrap_or((&text, ""));
        let pad = REPLY_WIDTH.saturating_sub(head.chars().count());
        let paint = match reply {
            Reply::Error(..) => Paint::Red,
            _ => Paint::Plain,
        };
        let head = self.style.paint(paint, head);
        let from = self.style.paint(Paint::Dim, &format!("({from})"));
        let body = if body.is_empty() {
            String::new()
        } else {
            format!("{body}\n")
        };
        write!(io::stdout(), "{head}{:pad$} {from}\n{body}", "")?;
        Ok(())
    }

    fn note(&self, text: &str) -> Result<(), Failure> {
        let text = self.style.paint(Paint::Dim, &format!("({text})"));
        writeln!(io::stdout(), "{text}")?;
        Ok(())
    }

    /// `n3 127.0.0.1:7003`; the address alone where the server does not say who it is.
    fn name(&mut self, server: &str) -> String {
        if !self.nodes.contains_key(server)
            && let Some(node) = node_at(server)
        {
            self.nodes.insert(server.to_owned(), node);
        }
        self.nodes
            .get(server)
            .map_or_else(|| server.to_owned(), |node| format!("{node} {server}"))
    }
}

/// Asks a server for its number, once and briefly: it is for show.
fn node_at(server: &str) -> Option<String> {
    let limits = Limits {
        connect: NAME_WAIT_MAX,
        silence: NAME_WAIT_MAX,
        ..Limits::default()
    };
    let mut connection = Connection::open(server, limits).ok()?;
    match connection.ask(&Request::Status).ok()? {
        Reply::Status(fields) => fields
            .into_iter()
            .find_map(|(field, value)| (field == "id").then_some(value)),
        _ => None,
    }
}

/// How long a prompt may be late for a server's name.
const NAME_WAIT_MAX: Duration = Duration::from_millis(300);

/// `1.8 ms`, `2.3 s`.
fn milliseconds(took: Duration) -> String {
    if took < Duration::from_secs(1) {
        format!("{:.1} ms", took.as_secs_f64() * 1_000.0)
    } else {
        format!("{:.1} s", took.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prompt_is_the_one_people_know() {
        assert_eq!(
            PROMPT,
            "Enter command (PUT/GET/DELETE:key:value[only with PUT] or 'exit'): "
        );
    }

    #[test]
    fn a_blank_line_asks_for_nothing() {
        for blank in [&b""[..], b" \t", b"\r", b" \r"] {
            assert!(request(Line::Whole(blank)).is_none(), "{blank:?}");
        }
        assert!(matches!(
            request(Line::Whole(b"exit\r")),
            Some(Ok(Request::Quit))
        ));
        assert!(matches!(
            request(Line::Whole(b"Quit")),
            Some(Ok(Request::Quit))
        ));
        assert!(matches!(
            request(Line::TooLong),
            Some(Err(RequestError::TooLong(_)))
        ));
    }

    #[test]
    fn times_are_short() {
        assert_eq!(milliseconds(Duration::from_micros(1_840)), "1.8 ms");
        assert_eq!(milliseconds(Duration::from_millis(2_340)), "2.3 s");
    }
}
