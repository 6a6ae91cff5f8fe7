//! The conversation in `PROTOCOL.md` is what the code says, word for word.

use quince::kv::batch::{Batch, write_command};
use quince::kv::command::{CommandId, Read};
use quince::kv::store::{Fate, Store};
use quince::wire::client::{Reply, Request, parse_request};

/// Answers as one server without a cluster would.
fn answer(store: &mut Store, line: &str) -> Reply {
    match parse_request(line.as_bytes()) {
        Err(error) => error.into(),
        Ok(Request::Read { read, .. }) => match read {
            Read::Get { key } => store.get(&key).into(),
            Read::Many { keys } => Reply::values(keys.iter().map(|key| store.get(key)).collect()),
            Read::List(list) => {
                let pairs = store.listed(&list);
                Reply::List(pairs.map(|(k, v)| (k.clone(), v.clone())).collect())
            }
            Read::Ttl { key } => Reply::remaining(store.remaining(&key, store.time())),
        },
        Ok(Request::Write(command)) => {
            let id = CommandId {
                origin: 1,
                start: 1,
                number: store.counter(1).next,
            };
            let mut text = Vec::new();
            write_command(&mut text, id, &command);
            let mut reply = None;
            let slot = store.applied() + 1;
            store.apply(slot, &Batch::read(&text), |_, fate| {
                reply = match fate {
                    Fate::Applied(outcome) => Some(outcome.into()),
                    other => panic!("{line}: {other:?}"),
                };
            });
            reply.expect("one command has one fate")
        }
        Ok(Request::Quit) => Reply::Bye,
        Ok(other) => panic!("the document shows no {other:?}"),
    }
}

/// All ```` ```text ```` blocks of the client's half are one conversation.
#[test]
fn the_examples_of_the_document_are_one_true_conversation() {
    let document = include_str!("../PROTOCOL.md");
    let clients = document.split("\n## Peers").next().unwrap_or(document);
    let mut store = Store::new();
    let mut replies = 0;
    for block in clients.split("```text\n").skip(1) {
        let block = block.split("```").next().expect("a block has a text");
        let mut lines = block.lines().filter(|line| !line.starts_with('$'));
        while let Some(request) = lines.next() {
            for expected in answer(&mut store, request).to_string().lines() {
                assert_eq!(lines.next(), Some(expected), "{request}");
                replies += 1;
            }
        }
    }
    assert!(replies > 25, "{replies} lines of replies were found");
}
