//! The commands of a round: how many of each kind, in a random order, over fruits and prices.

use rand::RngExt;
use rand::rngs::ChaCha8Rng;
use rand::seq::{IndexedRandom, SliceRandom};

use super::model::{Model, number};
use crate::kv::command::{Bytes, Command, Read, Write};
use crate::wire::client::Request;

/// Fruits that the demo brings and takes away again. None of them is in `fruits.csv`, so that the
/// inventory does not shrink from run to run.
const VISITORS: [&str; 10] = [
    "kiwi",
    "papaya",
    "lychee",
    "guava",
    "mulberry",
    "persimmon",
    "cranberry",
    "kumquat",
    "melon",
    "pineapple",
];

/// Before the name of a fruit: the key that counts how many were sold.
const SOLD: &str = "sold/";

/// Longer keys and values are somebody else's, and would not fit a line.
const KEY_BYTES_MAX: usize = 14;
const VALUE_BYTES_MAX: usize = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Put,
    Get,
    Delete,
    Incr,
    Cas,
}

/// What a round is made of.
const ROUND: [(Kind, usize); 5] = [
    (Kind::Put, 5),
    (Kind::Get, 5),
    (Kind::Delete, 5),
    (Kind::Incr, 3),
    (Kind::Cas, 3),
];

/// Commands of a round.
pub(super) const ROUND_COMMANDS: usize = 5 + 5 + 5 + 3 + 3;

/// The rest of one round.
pub(super) struct Script {
    /// The next one last.
    kinds: Vec<Kind>,
}

impl Script {
    /// A new round, in an order of its own. It begins with a `PUT`, so that there is something to
    /// read and to delete.
    pub(super) fn new(rng: &mut ChaCha8Rng) -> Self {
        let of_kind = |&(kind, count)| std::iter::repeat_n(kind, count);
        let mut kinds: Vec<Kind> = ROUND.iter().flat_map(of_kind).collect();
        assert_eq!(
            kinds.len(),
            ROUND_COMMANDS,
            "the sum above is the sum of the table"
        );
        kinds.shuffle(rng);
        let put = kinds.iter().position(|&kind| kind == Kind::Put);
        let last = kinds.len() - 1;
        kinds.swap(put.expect("there are PUTs"), last);
        Self { kinds }
    }

    /// The next command, which makes sense with what is there; none at the end of the round.
    pub(super) fn next(&mut self, model: &Model, rng: &mut ChaCha8Rng) -> Option<Request> {
        if self.kinds.last() == Some(&Kind::Delete) && visitor_there(model, rng).is_none() {
            self.put_first();
        }
        let write = match self.kinds.pop()? {
            Kind::Get => {
                return Some(Request::Read {
                    local: false,
                    read: Read::Get {
                        key: any_fruit(model, rng),
                    },
                });
            }
            Kind::Put => Write::Put {
                key: if rng.random_ratio(4, 5) {
                    visitor(rng)
                } else {
                    any_fruit(model, rng)
                },
                value: price(rng),
            },
            Kind::Delete => Write::Delete {
                key: visitor_there(model, rng).unwrap_or_else(|| visitor(rng)),
            },
            Kind::Incr => Write::Incr {
                key: counter(model, rng),
                by: rng.random_range(1..=20),
            },
            Kind::Cas => cas(model, rng),
        };
        Some(Request::Write(Command::Write(write)))
    }

    /// There is nothing to delete: a `PUT` comes first, if one is left.
    fn put_first(&mut self) {
        if let Some(put) = self.kinds.iter().rposition(|&kind| kind == Kind::Put) {
            let last = self.kinds.len() - 1;
            self.kinds.swap(put, last);
        }
    }
}

/// The right price most of the time; else one that is a cent off.
fn cas(model: &Model, rng: &mut ChaCha8Rng) -> Write {
    let key = any_fruit(model, rng);
    let expected = match model.get(&key) {
        Some(value) if rng.random_ratio(2, 3) => value.clone(),
        _ => bytes("0.99"),
    };
    Write::Cas {
        key,
        expected,
        new: price(rng),
    }
}

fn bytes(text: &str) -> Bytes {
    text.as_bytes().into()
}

fn price(rng: &mut ChaCha8Rng) -> Bytes {
    let cents = rng.random_range(40..1_300);
    bytes(&format!("{}.{:02}", cents / 100, cents % 100))
}

fn visitor(rng: &mut ChaCha8Rng) -> Bytes {
    bytes(VISITORS.choose(rng).expect("there are some"))
}

fn visitor_there(model: &Model, rng: &mut ChaCha8Rng) -> Option<Bytes> {
    let there = |key: &&str| model.get(key.as_bytes()).is_some();
    let there: Vec<&str> = VISITORS.iter().copied().filter(there).collect();
    there.choose(rng).map(|key| bytes(key))
}

/// A fruit that is there; sometimes, or when there is none, one that may not be.
fn any_fruit(model: &Model, rng: &mut ChaCha8Rng) -> Bytes {
    if rng.random_ratio(1, 6) {
        return visitor(rng);
    }
    let fruits: Vec<&Bytes> = model
        .pairs()
        .filter(|(key, value)| {
            key.len() <= KEY_BYTES_MAX
                && value.len() <= VALUE_BYTES_MAX
                && !key.starts_with(SOLD.as_bytes())
        })
        .map(|(key, _)| key)
        .collect();
    let fruit = fruits.choose(rng).map(|&key| key.clone());
    fruit.unwrap_or_else(|| visitor(rng))
}

/// A counter that holds a number, or does not exist yet.
fn counter(model: &Model, rng: &mut ChaCha8Rng) -> Bytes {
    let counters = ["apple", "banana", "pear"].map(|fruit| format!("{SOLD}{fruit}"));
    let counts = |key: &&String| number(model.get(key.as_bytes())).is_some();
    let usable: Vec<&String> = counters.iter().filter(counts).collect();
    let key = usable.choose(rng).map_or("sold/quince", |key| key.as_str());
    bytes(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn a_round_has_its_share_of_every_command() {
        for seed in 0..50 {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let mut model = Model::new(vec![(bytes("apple"), bytes("1.25"))]);
            let mut script = Script::new(&mut rng);
            let mut counts = [0; 5];
            while let Some(request) = script.next(&model, &mut rng) {
                let kind = match &request {
                    Request::Read { .. } => 0,
                    Request::Write(Command::Write(write)) => match write {
                        Write::Put { .. } => 1,
                        Write::Delete { .. } => 2,
                        Write::Incr { .. } => 3,
                        Write::Cas { .. } => 4,
                        other => panic!("{other:?}"),
                    },
                    other => panic!("{other:?}"),
                };
                assert!(counts != [0; 5] || kind == 1, "it begins with a PUT");
                counts[kind] += 1;
                let reply = model.run(&request).to_string();
                assert!(!reply.starts_with("ERROR"), "{request:?}: {reply}");
            }
            assert_eq!(counts, [5, 5, 5, 3, 3]);
            assert!(model.get(b"apple").is_some(), "the inventory stays");
        }
    }

    #[test]
    fn one_seed_gives_one_round() {
        let round = |seed| {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let mut script = Script::new(&mut rng);
            let model = Model::default();
            let next = || script.next(&model, &mut rng);
            std::iter::from_fn(next).collect::<Vec<_>>()
        };
        assert_eq!(round(1), round(1));
        assert_ne!(round(1), round(2));
    }

    #[test]
    fn visitors_are_not_of_the_inventory() {
        let fruits = include_str!("../../../fruits.csv");
        for visitor in VISITORS {
            assert!(!fruits.contains(&format!("\n{visitor},")), "{visitor}");
        }
    }
}
