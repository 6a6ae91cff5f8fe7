//! Messages, records and answers as text, in the words of the wire and of the log.

use quince::disk::record as record_text;
use quince::kv::command::Outcome;
use quince::outbox::Answer;
use quince::paxos::message::{Message, Notice, Vote};
use quince::paxos::record::Record;
use quince::wire::peer::write_message;

/// A message as its line.
pub(crate) fn message(message: &Message) -> String {
    let mut line = Vec::new();
    write_message(&mut line, message);
    text(&line)
}

/// The first words of the messages of Paxos.
pub(crate) const WORDS: [&str; 7] = [
    "prepare",
    "promise",
    "accept",
    "accepted",
    "nack",
    "decided",
    "heartbeat",
];

/// The first word of such a message's line; nothing for the others.
pub(crate) fn word(message: &Message) -> &'static str {
    match message {
        Message::Vote(Vote::Prepare { .. }) => "prepare",
        Message::Vote(Vote::Promise(_)) => "promise",
        Message::Vote(Vote::Accepted { .. }) => "accepted",
        Message::Notice(Notice::Accept { .. }) => "accept",
        Message::Notice(Notice::Nack { .. }) => "nack",
        Message::Notice(Notice::Decided { .. }) => "decided",
        Message::Notice(Notice::Heartbeat(_)) => "heartbeat",
        _ => "",
    }
}

/// A record as its line.
pub(crate) fn record(record: &Record) -> String {
    let mut line = Vec::new();
    record_text::write(&mut line, record);
    text(&line)
}

fn text(line: &[u8]) -> String {
    String::from_utf8_lossy(line).trim_end_matches('\n').into()
}

/// An answer as its client sees it; `value` is what the read found.
pub(crate) fn answer(answer: &Answer, value: Option<&[u8]>) -> String {
    match answer {
        Answer::Done(outcome) => self::outcome(outcome),
        Answer::Readable => value.map_or("NOT_FOUND".into(), |value| {
            format!("VALUE {}", String::from_utf8_lossy(value))
        }),
        Answer::NotDone(why) => format!("ERROR NOT_DONE {why}"),
        Answer::Unknown(why) => format!("ERROR UNKNOWN {why}"),
    }
}

fn outcome(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Ok => "OK".into(),
        Outcome::NotFound => "NOT_FOUND".into(),
        Outcome::Mismatch(value) => format!("MISMATCH {}", String::from_utf8_lossy(value)),
        Outcome::Number(number) => format!("VALUE {number}"),
        Outcome::Session(id) => format!("SESSION {id}"),
        Outcome::NotANumber(why) => format!("ERROR NOT_A_NUMBER {why}"),
        Outcome::StaleSeq(last) => format!("ERROR STALE_SEQ {last}"),
        Outcome::NoSession => "ERROR NO_SESSION".into(),
        other => format!("{other:?}"),
    }
}
