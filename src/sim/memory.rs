//! What a node's disk must still say after a restart: nothing that was durable is ever missing, unless
//! a fault took it; and then the node must know.

use std::collections::BTreeMap;

use super::Mistake;
use super::watch::{Checked, ensure};
use crate::paxos::record::Record;
use crate::paxos::types::{Ballot, Life, NodeId, Slot};

/// What a log carries on when it is trimmed.
#[derive(Debug, Default, PartialEq, Eq)]
struct Hard {
    start: u64,
    ballot: Option<Ballot>,
    promise: Option<Ballot>,
    peers: BTreeMap<NodeId, Life>,
    sound: Option<bool>,
}

impl Hard {
    fn of<'a>(records: impl IntoIterator<Item = &'a Record>) -> Self {
        let mut hard = Self::default();
        for record in records {
            match record {
                Record::Start(start) => hard.start = hard.start.max(*start),
                Record::Ballot(ballot) => hard.ballot = hard.ballot.max(Some(*ballot)),
                Record::Promise(ballot) | Record::Accept(ballot, ..) => {
                    hard.promise = hard.promise.max(Some(*ballot));
                }
                Record::Peer(node, life) => drop(hard.peers.insert(*node, *life)),
                Record::Lost => hard.sound = Some(false),
                Record::Sound(_) => hard.sound = Some(true),
                Record::Decided(..) | Record::Learn(..) | Record::Trim(_) | Record::Untrim(_) => {}
            }
        }
        hard
    }
}

/// Whether a log says that memory was lost and has not come back.
pub(super) fn is_lost(records: &[Record]) -> bool {
    Hard::of(records).sound == Some(false)
}

/// The slot that a record is about, if it is about one.
fn slot_of(record: &Record) -> Option<Slot> {
    match record {
        Record::Accept(_, slot, _) | Record::Decided(_, slot) | Record::Learn(slot, _) => {
            Some(*slot)
        }
        _ => None,
    }
}

/// Checks what a whole log read back: all that was durable, but for what a snapshot holds, and of
/// what may be durable besides, a beginning, with the same exception. Returns that.
pub(super) fn news(
    id: NodeId,
    durable: &[Record],
    maybe: &[Record],
    trim_max: Slot,
    records: &[Record],
) -> Checked<Vec<Record>> {
    let trim = trim_of(records);
    ensure!(
        trim <= trim_max,
        "P21: {id} has trimmed its log up to {trim}, and its snapshots reach {trim_max}"
    );
    let trimmed = |record: &Record| slot_of(record).is_some_and(|slot| slot <= trim);
    let mut needed = (durable.iter())
        .filter(|record| slot_of(record).is_some() && !trimmed(record))
        .peekable();
    let (mut rest, mut news) = (maybe, Vec::new());
    for record in records {
        if needed.peek().is_some() {
            needed.next_if_eq(&record);
        } else if let Some(at) = rest.iter().position(|one| one == record)
            // A segment that was trimmed may have held the first of them.
            && rest[..at].iter().all(trimmed)
        {
            news.push(record.clone());
            rest = &rest[at + 1..];
        }
    }
    ensure!(
        needed.peek().is_none(),
        "{id}: the log has not all durable records about slots after {trim}: {:?} is missing",
        needed.peek()
    );
    let (read, known) = (Hard::of(records), Hard::of(durable.iter().chain(&news)));
    ensure!(
        read == known,
        "P1, P6: the log of {id} says {read:?}, and {known:?} is durable"
    );
    if trim > trim_of(durable) {
        news.push(Record::Trim(trim));
    }
    Ok(news)
}

/// Up to where a log was trimmed.
fn trim_of(records: &[Record]) -> Slot {
    let trims = records.iter().filter_map(|record| match record {
        Record::Trim(slot) => Some(*slot),
        _ => None,
    });
    trims.max().unwrap_or_default()
}

/// Checks what a damaged log read back: nothing that it never was told.
pub(super) fn remains(
    id: NodeId,
    durable: &[Record],
    maybe: &[Record],
    records: &[Record],
) -> Checked {
    let mut about_slots = records.iter().filter(|record| slot_of(record).is_some());
    let invented = about_slots.find(|record| !durable.contains(record) && !maybe.contains(record));
    ensure!(
        invented.is_none(),
        "P40: the damaged log of {id} says {invented:?}, which it never was told"
    );
    ensure!(
        is_lost(records),
        "P40: {id} starts from a damaged log and does not know that it has lost its memory"
    );
    Ok(())
}

/// What a node remembers, with the mistake that is to be found.
pub(super) fn with_mistake(mistake: Option<Mistake>, mut records: Vec<Record>) -> Vec<Record> {
    match mistake {
        Some(Mistake::PromisesForgotten) => {
            records.retain(|record| !matches!(record, Record::Promise(_)));
        }
        Some(Mistake::BallotsForgotten) => {
            records.retain(|record| !matches!(record, Record::Ballot(_) | Record::Promise(_)));
        }
        _ => {}
    }
    records
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paxos::types::Value;

    fn learn(slot: u64) -> Record {
        let value = Value::new(b"v".to_vec()).unwrap();
        Record::Learn(Slot(slot), value)
    }

    fn read(durable: &[Record], maybe: &[Record], records: &[Record]) -> Checked<Vec<Record>> {
        let id = NodeId::new(2).unwrap();
        news(id, durable, maybe, Slot(9), records)
    }

    #[test]
    fn of_what_may_be_durable_a_beginning_is_read() {
        let maybe = [learn(2), learn(3), learn(4)];
        let durable = [learn(1)];
        for found in 0..=maybe.len() {
            let records = [&durable, &maybe[..found]].concat();
            assert_eq!(read(&durable, &maybe, &records).unwrap(), maybe[..found]);
        }
        // One of them is missing before another.
        let records = [learn(1), learn(3)];
        assert_eq!(read(&durable, &maybe, &records).unwrap(), []);
        assert!(read(&durable, &maybe, &[learn(2)]).is_err());
    }

    /// A sync can hang for so long that a snapshot holds what was written before it: the segment
    /// goes, and the one behind it, with more of the same group, stays.
    #[test]
    fn what_is_trimmed_may_be_missing_at_the_front_of_it() {
        let maybe = [learn(2), learn(3), learn(4)];
        let records = [Record::Trim(Slot(2)), learn(3), learn(4)];
        let trim = Record::Trim(Slot(2));
        let expected = [learn(3), learn(4), trim];
        assert_eq!(read(&[], &maybe, &records).unwrap(), expected);
        let records = [Record::Trim(Slot(1)), learn(3), learn(4)];
        assert_eq!(
            read(&[], &maybe, &records).unwrap(),
            [Record::Trim(Slot(1))]
        );
    }
}
