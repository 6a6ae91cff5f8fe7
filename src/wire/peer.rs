//! What servers tell each other, as lines of text.
//!
//! | message | line |
//! | --- | --- |
//! | greeting | `quince 1 CLUSTER n2 n3 n1,n2,n3`: protocol version, cluster, from, to, all members |
//! | its answer | `welcome n3`, or `refused TEXT` and the end of the connection |
//! | prepare | `prepare b3.2 s17`: for all slots from s17 on |
//! | promise | `promise b3.2 s17 s16 s40 [n2.7]... [s18 b1.1 "VALUE"]...`: asked from, decided up to, next part from (`end` if none), the known starts of nodes but for the first ones, then what was accepted |
//! | accept | `accept b3.2 s17 VALUE` |
//! | accepted | `accepted b3.2 s17` |
//! | nack | `nack b3.2 b4.1`: refused, promised |
//! | decided | `decided b3.2 s17`: all up to s17 |
//! | heartbeat | `heartbeat leading b3.2 connected up s17 s16 00c0ffee00c0ffee 5.1234567812345678 sound prompt`: stance (`leading`, `trying`, `following` with a ballot, or `idle`), `connected` or `cut-off`, acceptor `up` or `failed`, decided, applied, state hash there, the sender's life, `sound` or `asking` who knows it, `prompt` or `slow` |
//! | known | `known 5.1234567812345678 together sound`: the receiver's life; `together` if the sender had not voted either when it first heard of it, else `before`; `sound` if it votes, else `blank` |
//! | outdated | `outdated 5.1234567812345678 6`: that life of the receiver is over, start 6 is known |
//! | fetch | `fetch s1 s100`: from, up to |
//! | fetched | `fetched s1 "VALUE"...`: of consecutive slots from s1 on |
//! | fetch-image | `fetch-image s17 "PLACE"`: of the snapshot that holds all up to s17 (s0: of any), from PLACE on |
//! | image | `image s17 "PLACE" "NEXT" "LINE"...`: lines of a snapshot; NEXT is the next piece's PLACE, `""` if there is none |
//! | finish | `finish s17` |
//! | probe | `probe 5.77`: start counter and number |
//! | mark | `mark 5.77 s17`: the newest probe that it answers, the highest slot that was voted for |
//! | read-index | `read-index 5.77`: the sender's newest probe, to be answered for a majority |
//! | index | `index 5.77 s17`: that probe, the highest mark of a majority |
//! | propose | `propose VALUE`; `relay VALUE` when another node hands it on |
//!
//! A VALUE at the end of a line stands as it is; where more may follow it is a quoted token. Numbers
//! have their one printed form. A line that is no message is an error of its sender, never a panic.

use std::io::Write as _;

use crate::paxos::message::{
    Accepted, Heartbeat, Known, Message, Notice, Probe, Promise, Stance, Vote,
};
use crate::paxos::quorum::Members;
use crate::paxos::types::{Ballot, NodeId, Slot, Value};
use crate::replica::VALUE_QUOTED_BYTES_MAX;
use crate::text::{Blanks, ParseError, Tokens, excerpt, number, write_quoted, write_token};

/// The version of this protocol; servers of different versions do not talk.
pub const PROTOCOL_VERSION: u32 = 1;

/// The longest line between servers: the largest command, with every byte escaped twice, fits.
pub const PEER_LINE_BYTES_MAX: usize = 32 << 20;

/// How many values one line may list: more than a server puts into one, so that a line of many small
/// ones takes a few megabytes more than its own length.
const LIST_MAX: usize = 65_536;

const _: () = assert!(VALUE_QUOTED_BYTES_MAX + (4 << 20) <= PEER_LINE_BYTES_MAX);

/// The longest greeting, and the longest answer to one.
pub const GREETING_BYTES_MAX: usize = 4 << 10;

/// The first line of a connection between servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Greeting {
    /// The cluster's name: servers of different clusters do not talk.
    pub cluster: Vec<u8>,
    /// Who opened the connection and will send on it.
    pub from: NodeId,
    /// Whom it is meant for.
    pub to: NodeId,
    /// All nodes, as the sender knows them: quorums of different sets need not meet.
    pub members: Members,
}

impl Greeting {
    /// Appends the line, with its LF.
    pub fn write(&self, out: &mut Vec<u8>) {
        push(out, format_args!("quince {PROTOCOL_VERSION} "));
        write_token(out, &self.cluster, Blanks::None);
        push(out, format_args!(" {} {} ", self.from, self.to));
        for (index, node) in self.members.iter().enumerate() {
            push(
                out,
                format_args!("{}{node}", if index == 0 { "" } else { "," }),
            );
        }
        out.push(b'\n');
    }

    /// Reads the line, without its LF.
    ///
    /// # Errors
    /// It is no greeting, or one of another protocol version.
    pub fn parse(line: &[u8]) -> Result<Self, ParseError> {
        let mut tokens = Tokens::new(line);
        let word = tokens.need("a greeting of a Quince server")?;
        if *word != *b"quince" {
            return Err(ParseError::at("a greeting of a Quince server", line));
        }
        let version: u32 = tokens.parse("a protocol version")?;
        if version != PROTOCOL_VERSION {
            let expected = format!("protocol version {PROTOCOL_VERSION}");
            return Err(ParseError {
                expected,
                found: version.to_string(),
            });
        }
        let cluster = tokens.need("the name of a cluster")?.into_owned();
        let (from, to) = (tokens.parse("a node")?, tokens.parse("a node")?);
        let list = tokens.need("the members")?;
        let members = std::str::from_utf8(&list)
            .ok()
            .and_then(|list| {
                list.split(',')
                    .map(|node| node.parse().ok())
                    .collect::<Option<Vec<_>>>()
            })
            .and_then(Members::new)
            .ok_or_else(|| ParseError::at("members such as n1,n2,n3", &list))?;
        tokens.end()?;
        Ok(Self {
            cluster,
            from,
            to,
            members,
        })
    }
}

/// The answer to a greeting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Welcome {
    /// Messages may follow.
    Welcome(NodeId),
    /// The connection ends here; why, for people.
    Refused(String),
}

impl Welcome {
    /// Appends the line, with its LF.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Welcome(node) => push(out, format_args!("welcome {node}\n")),
            Self::Refused(why) => push(out, format_args!("refused {why}\n")),
        }
    }

    /// Reads the line, without its LF.
    ///
    /// # Errors
    /// It is no answer to a greeting.
    pub fn parse(line: &[u8]) -> Result<Self, ParseError> {
        let mut tokens = Tokens::new(line);
        match &*tokens.need("welcome or refused")? {
            b"welcome" => {
                let node = tokens.parse("a node")?;
                tokens.end()?;
                Ok(Self::Welcome(node))
            }
            b"refused" => Ok(Self::Refused(
                String::from_utf8_lossy(tokens.rest()).into_owned(),
            )),
            other => Err(ParseError::at("welcome or refused", other)),
        }
    }
}

/// Appends a message as a line, with its LF.
pub fn write_message(out: &mut Vec<u8>, message: &Message) {
    match message {
        Message::Vote(vote) => write_vote(out, vote),
        Message::Notice(notice) => write_notice(out, notice),
    }
}

/// Appends a vote as a line, with its LF.
pub fn write_vote(out: &mut Vec<u8>, vote: &Vote) {
    match vote {
        Vote::Prepare { ballot, from } => push(out, format_args!("prepare {ballot} {from}")),
        Vote::Promise(promise) => write_promise(out, promise),
        Vote::Accepted { ballot, slot } => push(out, format_args!("accepted {ballot} {slot}")),
        Vote::Known(Known {
            life,
            together,
            sound,
        }) => {
            let together = if *together { "together" } else { "before" };
            let sound = if *sound { "sound" } else { "blank" };
            push(out, format_args!("known {life} {together} {sound}"));
        }
    }
    out.push(b'\n');
}

/// Appends a notice as a line, with its LF.
pub fn write_notice(out: &mut Vec<u8>, notice: &Notice) {
    match notice {
        Notice::Accept {
            ballot,
            slot,
            value,
        } => {
            push(out, format_args!("accept {ballot} {slot} "));
            out.extend_from_slice(value.as_bytes());
        }
        Notice::Nack { refused, promised } => push(out, format_args!("nack {refused} {promised}")),
        Notice::Decided { ballot, upto } => push(out, format_args!("decided {ballot} {upto}")),
        Notice::Heartbeat(beat) => write_heartbeat(out, beat),
        Notice::Fetch { from, upto } => push(out, format_args!("fetch {from} {upto}")),
        Notice::Fetched { from, values } => {
            push(out, format_args!("fetched {from}"));
            write_values(out, values);
        }
        Notice::FetchImage { slot, place } => {
            push(out, format_args!("fetch-image {slot} "));
            write_quoted(out, place.as_bytes());
        }
        Notice::Image {
            slot,
            place,
            next,
            lines,
        } => {
            push(out, format_args!("image {slot} "));
            write_quoted(out, place.as_bytes());
            out.push(b' ');
            write_quoted(out, next.as_ref().map_or(b"", Value::as_bytes));
            write_values(out, lines);
        }
        Notice::Outdated { life, known } => push(out, format_args!("outdated {life} {known}")),
        Notice::Finish { upto } => push(out, format_args!("finish {upto}")),
        Notice::Probe(probe) => push(out, format_args!("probe {probe}")),
        Notice::Mark { probe, slot } => push(out, format_args!("mark {probe} {slot}")),
        Notice::ReadIndex(probe) => push(out, format_args!("read-index {probe}")),
        Notice::Index { probe, slot } => push(out, format_args!("index {probe} {slot}")),
        Notice::Propose { relayed, value } => {
            out.extend_from_slice(if *relayed { b"relay " } else { b"propose " });
            out.extend_from_slice(value.as_bytes());
        }
    }
    out.push(b'\n');
}

fn write_values(out: &mut Vec<u8>, values: &[Value]) {
    for value in values {
        out.push(b' ');
        write_quoted(out, value.as_bytes());
    }
}

fn write_promise(out: &mut Vec<u8>, promise: &Promise) {
    let Promise {
        ballot,
        from,
        decided,
        next,
        starts,
        accepted,
    } = promise;
    push(out, format_args!("promise {ballot} {from} {decided} "));
    match next {
        Some(next) => push(out, format_args!("{next}")),
        None => out.extend_from_slice(b"end"),
    }
    for (node, start) in starts {
        push(out, format_args!(" {node}.{start}"));
    }
    for Accepted {
        slot,
        ballot,
        value,
    } in accepted
    {
        push(out, format_args!(" {slot} {ballot} "));
        write_quoted(out, value.as_bytes());
    }
}

fn write_heartbeat(out: &mut Vec<u8>, beat: &Heartbeat) {
    out.extend_from_slice(b"heartbeat ");
    match beat.stance {
        Stance::Leading(ballot) => push(out, format_args!("leading {ballot}")),
        Stance::Trying(ballot) => push(out, format_args!("trying {ballot}")),
        Stance::Following(ballot) => push(out, format_args!("following {ballot}")),
        Stance::Idle => out.extend_from_slice(b"idle"),
    }
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
        life,
        ..
    } = beat;
    let sound = if beat.sound { "sound" } else { "asking" };
    let slow = if beat.slow { "slow" } else { "prompt" };
    push(
        out,
        format_args!(
            " {connected} {acceptor} {decided} {applied} {hash:016x} {life} {sound} {slow}"
        ),
    );
    if beat.saving {
        out.extend_from_slice(b" saving");
    }
}

fn push(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a vector takes every byte");
}

const LIFE: &str = "a life such as 5.00c0ffee00c0ffee";

/// Reads a message from a line without its LF.
///
/// # Errors
/// The line is no message.
pub fn parse_message(line: &[u8]) -> Result<Message, ParseError> {
    let mut tokens = Tokens::new(line);
    let verb = tokens.need("a message")?;
    let message = match &*verb {
        b"prepare" => Message::Vote(Vote::Prepare {
            ballot: tokens.parse("a ballot")?,
            from: tokens.parse("a slot")?,
        }),
        b"promise" => Message::Vote(Vote::Promise(parse_promise(&mut tokens)?)),
        b"accepted" => Message::Vote(Vote::Accepted {
            ballot: tokens.parse("a ballot")?,
            slot: parse_slot(&mut tokens)?,
        }),
        b"known" => Message::Vote(Vote::Known(Known {
            life: tokens.parse(LIFE)?,
            together: parse_either(&mut tokens, "together", "before")?,
            sound: parse_either(&mut tokens, "sound", "blank")?,
        })),
        _ => Message::Notice(parse_notice(&verb, &mut tokens)?),
    };
    tokens.end()?;
    Ok(message)
}

fn parse_notice(verb: &[u8], tokens: &mut Tokens<'_>) -> Result<Notice, ParseError> {
    Ok(match verb {
        b"accept" => Notice::Accept {
            ballot: tokens.parse("a ballot")?,
            slot: parse_slot(tokens)?,
            value: parse_tail(tokens)?,
        },
        b"nack" => Notice::Nack {
            refused: tokens.parse("a ballot")?,
            promised: tokens.parse("a ballot")?,
        },
        b"decided" => Notice::Decided {
            ballot: tokens.parse("a ballot")?,
            upto: tokens.parse("a slot")?,
        },
        b"heartbeat" => Notice::Heartbeat(parse_heartbeat(tokens)?),
        b"fetch" => Notice::Fetch {
            from: parse_slot(tokens)?,
            upto: tokens.parse("a slot")?,
        },
        b"fetched" => parse_fetched(tokens)?,
        b"fetch-image" => Notice::FetchImage {
            slot: tokens.parse("a slot")?,
            place: parse_quoted(tokens)?,
        },
        b"image" => parse_image(tokens)?,
        b"outdated" => Notice::Outdated {
            life: tokens.parse(LIFE)?,
            known: tokens.parse("a number")?,
        },
        b"finish" => Notice::Finish {
            upto: tokens.parse("a slot")?,
        },
        b"probe" => Notice::Probe(parse_probe(tokens)?),
        b"mark" => Notice::Mark {
            probe: parse_probe(tokens)?,
            slot: tokens.parse("a slot")?,
        },
        b"read-index" => Notice::ReadIndex(parse_probe(tokens)?),
        b"index" => Notice::Index {
            probe: parse_probe(tokens)?,
            slot: tokens.parse("a slot")?,
        },
        b"propose" => Notice::Propose {
            relayed: false,
            value: parse_tail(tokens)?,
        },
        b"relay" => Notice::Propose {
            relayed: true,
            value: parse_tail(tokens)?,
        },
        other => return Err(ParseError::at("a message", other)),
    })
}

/// The value that ends the line, as it stands.
fn parse_tail(tokens: &mut Tokens<'_>) -> Result<Value, ParseError> {
    let value = Value::new(tokens.tail()).ok_or_else(|| ParseError::at_end("a value"))?;
    *tokens = Tokens::new(b"");
    Ok(value)
}

/// A slot that can hold something: s0 cannot.
fn parse_slot(tokens: &mut Tokens<'_>) -> Result<Slot, ParseError> {
    match tokens.parse("a slot")? {
        Slot::ZERO => Err(ParseError::at("a slot from s1 on", b"s0")),
        slot => Ok(slot),
    }
}

fn parse_promise(tokens: &mut Tokens<'_>) -> Result<Promise, ParseError> {
    let ballot = tokens.parse("a ballot")?;
    let (from, decided) = (tokens.parse("a slot")?, tokens.parse("a slot")?);
    let next = tokens.need("a slot or end")?;
    let next = match &*next {
        b"end" => None,
        slot => Some(Tokens::new(slot).parse("a slot or end")?),
    };
    let mut starts = Vec::new();
    while tokens.rest().starts_with(b"n") {
        list_more(starts.len(), tokens)?;
        starts.push(parse_start(tokens)?);
    }
    let mut accepted = Vec::new();
    while !tokens.rest().is_empty() {
        list_more(accepted.len(), tokens)?;
        accepted.push(Accepted {
            slot: parse_slot(tokens)?,
            ballot: tokens.parse("a ballot")?,
            value: parse_quoted(tokens)?,
        });
    }
    Ok(Promise {
        ballot,
        from,
        decided,
        next,
        starts,
        accepted,
    })
}

fn parse_start(tokens: &mut Tokens<'_>) -> Result<(NodeId, u64), ParseError> {
    const EXPECTED: &str = "a node and its start such as n2.7";
    let token = tokens.need(EXPECTED)?;
    std::str::from_utf8(&token)
        .ok()
        .and_then(|text| text.split_once('.'))
        .and_then(|(node, start)| Some((node.parse().ok()?, number(start.as_bytes())?)))
        .ok_or_else(|| ParseError::at(EXPECTED, &token))
}

fn parse_fetched(tokens: &mut Tokens<'_>) -> Result<Notice, ParseError> {
    let from = parse_slot(tokens)?;
    let values = parse_values(tokens)?;
    Ok(Notice::Fetched { from, values })
}

fn parse_image(tokens: &mut Tokens<'_>) -> Result<Notice, ParseError> {
    Ok(Notice::Image {
        slot: parse_slot(tokens)?,
        place: parse_quoted(tokens)?,
        next: Value::new(&*tokens.need("a place or nothing")?),
        lines: parse_values(tokens)?,
    })
}

/// All that is left of the line.
fn parse_values(tokens: &mut Tokens<'_>) -> Result<Vec<Value>, ParseError> {
    let mut values = Vec::new();
    while !tokens.rest().is_empty() {
        list_more(values.len(), tokens)?;
        values.push(parse_quoted(tokens)?);
    }
    Ok(values)
}

fn list_more(listed: usize, tokens: &Tokens<'_>) -> Result<(), ParseError> {
    match listed {
        LIST_MAX => Err(ParseError::at(
            format!("a line that lists at most {LIST_MAX}"),
            tokens.rest(),
        )),
        _ => Ok(()),
    }
}

fn parse_quoted(tokens: &mut Tokens<'_>) -> Result<Value, ParseError> {
    let token = tokens.need("a value")?;
    Value::new(&*token).ok_or_else(|| ParseError::at("a value of one line", &token))
}

fn parse_heartbeat(tokens: &mut Tokens<'_>) -> Result<Heartbeat, ParseError> {
    let stance = match &*tokens.need("a stance")? {
        b"leading" => Stance::Leading(tokens.parse("a ballot")?),
        b"trying" => Stance::Trying(tokens.parse("a ballot")?),
        b"following" => Stance::Following(parse_owned_ballot(tokens)?),
        b"idle" => Stance::Idle,
        other => return Err(ParseError::at("leading, trying, following or idle", other)),
    };
    let connected = parse_either(tokens, "connected", "cut-off")?;
    let acceptor_up = parse_either(tokens, "up", "failed")?;
    let (decided, applied) = (tokens.parse("a slot")?, tokens.parse("a slot")?);
    let hash = tokens.need("a hash")?;
    let hash = std::str::from_utf8(&hash)
        .ok()
        .filter(|text| text.len() == 16 && !text.starts_with('+'))
        .and_then(|text| u64::from_str_radix(text, 16).ok())
        .ok_or_else(|| ParseError::at("a hash of 16 hex digits", &hash))?;
    let life = tokens.parse(LIFE)?;
    let sound = parse_either(tokens, "sound", "asking")?;
    let slow = parse_either(tokens, "slow", "prompt")?;
    let saving = tokens.rest() == b"saving";
    if saving {
        tokens.need("saving")?;
    }
    Ok(Heartbeat {
        stance,
        connected,
        acceptor_up,
        decided,
        applied,
        hash,
        life,
        sound,
        slow,
        saving,
    })
}

fn parse_owned_ballot(tokens: &mut Tokens<'_>) -> Result<Ballot, ParseError> {
    let ballot: Ballot = tokens.parse("a ballot")?;
    match ballot.node() {
        Some(_) => Ok(ballot),
        None => Err(ParseError::at("the ballot of a node", b"b0.0")),
    }
}

/// One of two words; true for the first.
fn parse_either(tokens: &mut Tokens<'_>, yes: &str, no: &str) -> Result<bool, ParseError> {
    let word = tokens.need(yes)?;
    if *word == *yes.as_bytes() {
        Ok(true)
    } else if *word == *no.as_bytes() {
        Ok(false)
    } else {
        Err(ParseError::at(format!("{yes} or {no}"), &word))
    }
}

fn parse_probe(tokens: &mut Tokens<'_>) -> Result<Probe, ParseError> {
    let token = tokens.need("a probe such as 5.77")?;
    std::str::from_utf8(&token)
        .ok()
        .and_then(|text| text.split_once('.'))
        .and_then(|(start, count)| {
            Some(Probe {
                start: number(start.as_bytes())?,
                number: number(count.as_bytes())?,
            })
        })
        .ok_or_else(|| ParseError {
            expected: "a probe such as 5.77".into(),
            found: excerpt(&token),
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paxos::types::Life;
    use proptest::prelude::*;

    fn node() -> impl Strategy<Value = NodeId> {
        (1u8..=9).prop_map(|number| NodeId::new(number).unwrap())
    }

    fn ballot() -> impl Strategy<Value = Ballot> {
        (1u64..1 << 60, node()).prop_map(|(round, node)| Ballot::new(round, node))
    }

    fn slot() -> impl Strategy<Value = Slot> {
        (1u64..1 << 60).prop_map(Slot)
    }

    fn value() -> impl Strategy<Value = Value> {
        let byte = any::<u8>().prop_filter("no LF", |&b| b != b'\n');
        proptest::collection::vec(byte, 1..30).prop_map(|bytes| Value::new(bytes).unwrap())
    }

    fn stance() -> impl Strategy<Value = Stance> {
        prop_oneof![
            ballot().prop_map(Stance::Leading),
            ballot().prop_map(Stance::Trying),
            ballot().prop_map(Stance::Following),
            Just(Stance::Idle),
        ]
    }

    fn probe() -> impl Strategy<Value = Probe> {
        any::<(u64, u64)>().prop_map(|(start, number)| Probe { start, number })
    }

    fn promise() -> impl Strategy<Value = Promise> {
        let accepted = (slot(), ballot(), value()).prop_map(|(slot, ballot, value)| Accepted {
            slot,
            ballot,
            value,
        });
        (
            ballot(),
            slot(),
            slot(),
            proptest::option::of(slot()),
            proptest::collection::vec((node(), any::<u64>()), 0..4),
            proptest::collection::vec(accepted, 0..4),
        )
            .prop_map(|(ballot, from, decided, next, starts, accepted)| Promise {
                ballot,
                from,
                decided,
                next,
                starts,
                accepted,
            })
    }

    fn life() -> impl Strategy<Value = Life> {
        (0..=Life::START_MAX, any::<u64>()).prop_map(|(start, mark)| Life { start, mark })
    }

    fn known() -> impl Strategy<Value = Known> {
        (life(), any::<bool>(), any::<bool>()).prop_map(|(life, together, sound)| Known {
            life,
            together,
            sound,
        })
    }

    fn image() -> impl Strategy<Value = Notice> {
        let values = proptest::collection::vec(value(), 0..4);
        (slot(), value(), proptest::option::of(value()), values).prop_map(
            |(slot, place, next, lines)| Notice::Image {
                slot,
                place,
                next,
                lines,
            },
        )
    }

    fn vote() -> impl Strategy<Value = Vote> {
        prop_oneof![
            (ballot(), slot()).prop_map(|(ballot, from)| Vote::Prepare { ballot, from }),
            promise().prop_map(Vote::Promise),
            (ballot(), slot()).prop_map(|(ballot, slot)| Vote::Accepted { ballot, slot }),
            known().prop_map(Vote::Known),
        ]
    }

    fn heartbeat() -> impl Strategy<Value = Heartbeat> {
        (
            stance(),
            any::<(bool, bool, bool, bool, bool)>(),
            slot(),
            slot(),
            any::<u64>(),
            life(),
        )
            .prop_map(
                |(
                    stance,
                    (connected, acceptor_up, sound, slow, saving),
                    decided,
                    applied,
                    hash,
                    life,
                )| {
                    Heartbeat {
                        stance,
                        connected,
                        acceptor_up,
                        decided,
                        applied,
                        hash,
                        life,
                        sound,
                        slow,
                        saving,
                    }
                },
            )
    }

    fn notice() -> impl Strategy<Value = Notice> {
        prop_oneof![
            (ballot(), slot(), value()).prop_map(|(ballot, slot, value)| Notice::Accept {
                ballot,
                slot,
                value
            }),
            (ballot(), ballot()).prop_map(|(refused, promised)| Notice::Nack { refused, promised }),
            (ballot(), slot()).prop_map(|(ballot, upto)| Notice::Decided { ballot, upto }),
            heartbeat().prop_map(Notice::Heartbeat),
            (slot(), slot()).prop_map(|(from, upto)| Notice::Fetch { from, upto }),
            (slot(), proptest::collection::vec(value(), 0..4))
                .prop_map(|(from, values)| Notice::Fetched { from, values }),
            (slot(), value()).prop_map(|(slot, place)| Notice::FetchImage { slot, place }),
            image(),
            (life(), any::<u64>()).prop_map(|(life, known)| Notice::Outdated { life, known }),
            slot().prop_map(|upto| Notice::Finish { upto }),
            probe().prop_map(Notice::Probe),
            (probe(), slot()).prop_map(|(probe, slot)| Notice::Mark { probe, slot }),
            probe().prop_map(Notice::ReadIndex),
            (probe(), slot()).prop_map(|(probe, slot)| Notice::Index { probe, slot }),
            (any::<bool>(), value())
                .prop_map(|(relayed, value)| Notice::Propose { relayed, value }),
        ]
    }

    fn message() -> impl Strategy<Value = Message> {
        prop_oneof![
            vote().prop_map(Message::Vote),
            notice().prop_map(Message::Notice)
        ]
    }

    proptest! {
        #[test]
        fn every_message_reads_back(message in message()) {
            let mut line = Vec::new();
            write_message(&mut line, &message);
            prop_assert_eq!(line.pop(), Some(b'\n'));
            prop_assert!(!line.contains(&b'\n'));
            prop_assert_eq!(parse_message(&line), Ok(message));
        }

        #[test]
        fn a_message_cut_short_or_garbled_makes_no_panic(message in message(), cut: u16, flip: u8) {
            let mut line = Vec::new();
            write_message(&mut line, &message);
            let cut = usize::from(cut) % line.len();
            let _ = parse_message(&line[..cut]);
            line[cut] ^= flip;
            let _ = parse_message(&line);
        }

        #[test]
        fn every_greeting_reads_back(cluster in proptest::collection::vec(any::<u8>(), 0..20), from in node(), to in node()) {
            let members = Members::new((1..=3).filter_map(NodeId::new)).unwrap();
            let greeting = Greeting { cluster, from, to, members };
            let mut line = Vec::new();
            greeting.write(&mut line);
            prop_assert_eq!(line.pop(), Some(b'\n'));
            prop_assert_eq!(Greeting::parse(&line), Ok(greeting));
        }
    }

    #[test]
    fn what_is_no_message_says_what_was_expected() {
        for (line, text) in [
            ("", "expected a message, found the end of the line"),
            ("PUT a b", r#"expected a message, found "PUT""#),
            ("prepare b3.2", "expected a slot, found the end of the line"),
            ("prepare b3.x s1", r#"expected a ballot, found "b3.x""#),
            (
                "accepted b3.2 s0",
                r#"expected a slot from s1 on, found "s0""#,
            ),
            (
                "accepted b3.2 s1 s2",
                r#"expected the end of the line, found "s2""#,
            ),
            (
                "accept b3.2 s1",
                "expected a value, found the end of the line",
            ),
            (
                "heartbeat idle connected up s1 s1 12",
                r#"expected a hash of 16 hex digits, found "12""#,
            ),
        ] {
            assert_eq!(
                parse_message(line.as_bytes()).unwrap_err().to_string(),
                text,
                "{line}"
            );
        }
    }

    /// A line of very many very small things would take many times its length in memory.
    #[test]
    fn what_a_line_lists_is_bounded() {
        let line = |count| format!("fetched s1{}", " \"a\"".repeat(count));
        assert!(parse_message(line(LIST_MAX).as_bytes()).is_ok());
        assert!(parse_message(line(LIST_MAX + 1).as_bytes()).is_err());
        let starts = format!("promise b1.1 s1 s0 end{}", " n2.7".repeat(LIST_MAX + 1));
        assert!(parse_message(starts.as_bytes()).is_err());
        let told = " s1 b1.1 \"a\"".repeat(LIST_MAX + 1);
        assert!(parse_message(format!("promise b1.1 s1 s0 end{told}").as_bytes()).is_err());
    }

    #[test]
    fn a_greeting_of_another_version_or_program_is_refused() {
        for (line, text) in [
            (
                "quince 2 q n1 n2 n1,n2,n3",
                "expected protocol version 1, found 2",
            ),
            (
                "GET / HTTP/1.1",
                r#"expected a greeting of a Quince server, found "GET / HTTP/1.1""#,
            ),
            (
                "quince 1 q n1 n2 n1,n2",
                r#"expected members such as n1,n2,n3, found "n1,n2""#,
            ),
        ] {
            assert_eq!(
                Greeting::parse(line.as_bytes()).unwrap_err().to_string(),
                text,
                "{line}"
            );
        }
    }

    #[test]
    fn answers_to_greetings_read_back() {
        for answer in [
            Welcome::Welcome(NodeId::new(3).unwrap()),
            Welcome::Refused("this is cluster a, not b".into()),
        ] {
            let mut line = Vec::new();
            answer.write(&mut line);
            assert_eq!(Welcome::parse(line.trim_ascii_end()), Ok(answer));
        }
    }
}
