//! Messages, records and answers as text, in the words of the wire and of the log.

use std::fmt::Write as _;

use quince::kv::command::Outcome;
use quince::outbox::Answer;
use quince::paxos::message::{Accepted, Heartbeat, Message, Notice, Promise, Stance, Vote};
use quince::paxos::record::Record;
use quince::text::write_quoted;

/// A message as its line.
pub(crate) fn message(message: &Message) -> String {
    match message {
        Message::Vote(vote) => self::vote(vote),
        Message::Notice(notice) => self::notice(notice),
    }
}

fn vote(vote: &Vote) -> String {
    match vote {
        Vote::Prepare { ballot, from } => format!("prepare {ballot} {from}"),
        Vote::Promise(promise) => self::promise(promise),
        Vote::Accepted { ballot, slot } => format!("accepted {ballot} {slot}"),
        Vote::Mark { probe, slot } => format!("mark {}.{} {slot}", probe.start, probe.number),
    }
}

fn promise(promise: &Promise) -> String {
    let Promise {
        ballot,
        from,
        decided,
        next,
        accepted,
    } = promise;
    let next = next.map_or("end".to_string(), |next| next.to_string());
    let mut text = format!("promise {ballot} {from} {decided} {next}");
    for Accepted {
        slot,
        ballot,
        value,
    } in accepted
    {
        write!(text, " {slot} {ballot} {}", quoted(value.as_bytes())).expect("a string takes all");
    }
    text
}

fn notice(notice: &Notice) -> String {
    match notice {
        Notice::Accept {
            ballot,
            slot,
            value,
        } => format!("accept {ballot} {slot} {value}"),
        Notice::Nack { refused, promised } => format!("nack {refused} {promised}"),
        Notice::Decided { ballot, upto } => format!("decided {ballot} {upto}"),
        Notice::Heartbeat(beat) => heartbeat(beat),
        Notice::Fetch { from, upto } => format!("fetch {from} {upto}"),
        Notice::Fetched { from, values } => {
            let values: Vec<String> = values.iter().map(|v| quoted(v.as_bytes())).collect();
            format!("fetched {from} {}", values.join(" "))
        }
        Notice::Finish { upto } => format!("finish {upto}"),
        Notice::Probe(probe) => format!("probe {}.{}", probe.start, probe.number),
        Notice::Propose { relayed, value } => {
            format!("{} {value}", if *relayed { "relay" } else { "propose" })
        }
    }
}

fn heartbeat(beat: &Heartbeat) -> String {
    let stance = match beat.stance {
        Stance::Leading(ballot) => format!("leading {ballot}"),
        Stance::Trying(ballot) => format!("trying {ballot}"),
        Stance::Following(ballot) => format!("following {ballot}"),
        Stance::Idle => "idle".into(),
    };
    let connected = if beat.connected {
        "connected"
    } else {
        "cut-off"
    };
    let acceptor = if beat.acceptor_up { "up" } else { "failed" };
    let Heartbeat {
        decided,
        applied,
        hash,
        ..
    } = beat;
    format!("heartbeat {stance} {connected} {acceptor} {decided} {applied} {hash:016x}")
}

/// A record as its line.
pub(crate) fn record(record: &Record) -> String {
    match record {
        Record::Start(number) => format!("start {number}"),
        Record::Ballot(ballot) => format!("ballot {ballot}"),
        Record::Promise(ballot) => format!("promise {ballot}"),
        Record::Accept(ballot, slot, value) => format!("accept {ballot} {slot} {value}"),
        Record::Decided(ballot, slot) => format!("decided {ballot} {slot}"),
        Record::Learn(slot, value) => format!("learn {slot} {value}"),
    }
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
    }
}

fn quoted(bytes: &[u8]) -> String {
    let mut text = Vec::new();
    write_quoted(&mut text, bytes);
    String::from_utf8(text).expect("a quoted token is printable")
}
