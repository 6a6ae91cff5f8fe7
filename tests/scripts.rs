//! Golden scripts: runs of pure replicas, message by message, as text.
//!
//! Each file of `tests/scripts` is a claim in English, then commands (`> tick 10`), each followed
//! by what happened. This test runs the commands again and compares. `UPDATE_SCRIPTS=1` writes
//! what happened into the files: read it, it must show what the claim says.
//!
//! | command | does |
//! | --- | --- |
//! | `cluster 3 [deadline TICKS] [seed N] [preload] [blank]` | makes a cluster; first; `blank`: of empty directories |
//! | `tick N [n1 n2]` | N ticks of all nodes, or of these; after each everything settles |
//! | `until leader`, `until answered`, `until equal` | ticks until so, at most 500 |
//! | `n1: put apple 1.25` | a client's write, as a batch has it: put, set, incr, expire, session, once and so on; `x*9` is nine `x` |
//! | `n1? apple` | a client's read |
//! | `settle` | syncs and delivers everything until nothing moves |
//! | `hold n1 n2 [WORD]` | from n1 to n2 nothing, or no message of this word, is delivered by itself |
//! | `release n1 n2` | until now |
//! | `deliver n1 n2 [WHICH]` | what waits from n1 to n2: all, the one at a place from 1, or those of a word |
//! | `lose n1 n2 [WHICH]`, `double n1 n2 WHICH` | loses it; puts it there once more |
//! | `waiting n1 n2` | prints what waits, with places |
//! | `forge n1 n2 MESSAGE` | puts a message on the link, as if n1 had sent it |
//! | `cut n1 n2`, `heal n1 n2` | both ways; nobody is told |
//! | `cut-one-way n1 n2` | from n1 to n2 alone |
//! | `isolate n1`, `heal all` | all links of a node; all links of all |
//! | `links N`, `disks N` | from now on each message takes N ticks; each sync does |
//! | `slow n1`, `sync n1`, `fast n1` | the disk syncs only when told; now; by itself |
//! | `crash n1`, `restart n1` | the node goes, and its peers are told; it starts from its log |
//! | `snapshot n1` | takes a snapshot; the log is trimmed when it is synced |
//! | `wipe n1`, `damage n1 s3`, `lose-snapshot n1` | of a node that does not run: empties its directory; takes what its log says of a slot; takes its snapshot |
//! | `fail n1`, `recover n1` | its acceptor |
//! | `clock n1 5000` | what its wall clock says from now on, in milliseconds |
//! | `stop n1` | it is about to stop |
//! | `status` | prints the state of all nodes |
//! | `show heartbeats` | prints them too, and which lives of peers they make known |
//! | `quietly COMMAND` | prints only who leads, answers, and what was counted |

mod common;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

use common::cluster::{Cluster, Event, Settings};
use common::print;
use quince::kv::batch::parse_batch;
use quince::kv::command::Command;
use quince::paxos::message::{Message, Notice};
use quince::paxos::record::Record;
use quince::paxos::types::{NodeId, Slot};
use quince::replica::Input;
use quince::replica::growth::Wanted;
use quince::wire::peer::parse_message;

/// `until` gives up after so many ticks.
const UNTIL_TICKS_MAX: u64 = 500;

/// A longer line is cut: the claim is about its beginning.
const LINE_CHARS_MAX: usize = 120;

#[test]
fn every_script_runs_as_recorded() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let update = env::var_os("UPDATE_SCRIPTS").is_some();
    let mut different = Vec::new();
    let mut files: Vec<_> = fs::read_dir(&folder)
        .expect("the folder of the scripts")
        .map(|entry| entry.expect("an entry of the folder").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    files.sort();
    assert!(files.len() >= 30, "the scripts are gone from {folder:?}");
    for path in files {
        let recorded = fs::read_to_string(&path).expect("a script");
        let run = run(&recorded);
        if run == recorded {
            continue;
        }
        if update {
            fs::write(&path, &run).expect("the script can be written");
        } else {
            let name = path.file_name().expect("a file").to_string_lossy();
            different.push(format!("{name}: {}", first_difference(&recorded, &run)));
        }
    }
    assert!(
        different.is_empty(),
        "scripts ran differently; UPDATE_SCRIPTS=1 cargo test --test scripts rewrites them:\n{}",
        different.join("\n")
    );
}

fn first_difference(recorded: &str, run: &str) -> String {
    let mut lines = (1..).zip(recorded.lines().zip(run.lines()));
    match lines.find(|(_, (recorded, run))| recorded != run) {
        Some((line, (recorded, run))) => {
            format!("line {line}\n  recorded: {recorded}\n  now:      {run}")
        }
        None => "one is longer than the other".into(),
    }
}

/// Runs the commands of a script; returns it with what happened now.
fn run(script: &str) -> String {
    let mut lines = script.lines();
    let claim = lines.next().expect("the claim");
    let mut text = format!("{claim}\n");
    let mut stage = None;
    for line in lines {
        if let Some(command) = line.strip_prefix("> ") {
            writeln!(text, "> {command}").expect("a string takes all");
            let stage = stage.get_or_insert_with(|| Stage::new(command));
            stage.run(command);
            for mut event in stage.printed.drain(..) {
                if event.chars().count() > LINE_CHARS_MAX {
                    event = event.chars().take(LINE_CHARS_MAX).collect::<String>() + "...";
                }
                writeln!(text, "{event}").expect("a string takes all");
            }
        } else if line.is_empty() || line.starts_with('#') {
            writeln!(text, "{line}").expect("a string takes all");
        }
    }
    text
}

/// A cluster, and what moves by itself in it.
struct Stage {
    cluster: Cluster,
    /// Links, and the word of the messages that are held; all if it is empty.
    held: BTreeSet<(NodeId, NodeId, String)>,
    slow: BTreeSet<NodeId>,
    heartbeats: bool,
    quiet: bool,
    printed: Vec<String>,
}

impl Stage {
    /// The first command makes the cluster.
    fn new(command: &str) -> Self {
        let words: Vec<&str> = command.split(' ').collect();
        assert_eq!(words[0], "cluster", "a script begins with its cluster");
        let option = |name| {
            let at = words.iter().position(|&word| word == name)?;
            Some(words[at + 1].parse().expect("a number"))
        };
        let preload = words.contains(&"preload");
        let settings = Settings {
            size: words[1].parse().expect("a size"),
            seed: option("seed").unwrap_or(1),
            blank: words.contains(&"blank"),
            deadline_ticks: option("deadline").unwrap_or(1_000),
            preload: if preload {
                vec![command_of("put apple 1.25"), command_of("put pear 2.10")]
            } else {
                Vec::new()
            },
        };
        let mut cluster = Cluster::new(settings);
        cluster.events.clear();
        Self {
            cluster,
            held: BTreeSet::new(),
            slow: BTreeSet::new(),
            heartbeats: false,
            quiet: false,
            printed: Vec::new(),
        }
    }

    fn run(&mut self, command: &str) {
        let (verb, rest) = command.split_once(' ').unwrap_or((command, ""));
        let words: Vec<&str> = rest.split(' ').filter(|word| !word.is_empty()).collect();
        let nodes: Vec<NodeId> = words.iter().filter_map(|word| word.parse().ok()).collect();
        match verb {
            "cluster" => {}
            "tick" => self.ticks(words[0].parse().expect("a number of ticks"), &nodes[..]),
            "until" => self.until(rest),
            "settle" => self.settle(),
            "links" => self.cluster.link_ticks = rest.parse().expect("a number of ticks"),
            "disks" => self.cluster.sync_ticks = rest.parse().expect("a number of ticks"),
            "show" => self.heartbeats = true,
            "quietly" => {
                self.quiet = true;
                self.run(rest);
                self.quiet = false;
            }
            "status" => self.status(),
            "damage" => {
                let lost: Slot = words[1].parse().expect("a slot");
                self.cluster.damage(nodes[0], |slot| slot == lost);
            }
            "clock" => {
                let wall = words[1].parse().expect("milliseconds");
                self.cluster.set_clock(nodes[0], wall);
            }
            "forge" => {
                let line = rest.splitn(3, ' ').nth(2).expect("a message");
                let message = parse_message(long(line).as_bytes()).expect("a message");
                self.cluster.put(nodes[0], nodes[1], message);
            }
            _ if verb.ends_with([':', '?']) => self.request(verb, rest),
            _ if nodes.len() == 2 => {
                self.link(verb, nodes[0], nodes[1], words.get(2).copied());
            }
            _ => self.node(verb, nodes.first().copied()),
        }
        self.tell();
    }

    fn request(&mut self, verb: &str, rest: &str) {
        let (id, kind) = verb.split_at(verb.len() - 1);
        let id = id.parse().expect("a node");
        let ticket = if kind == ":" {
            self.cluster.write(id, command_of(&long(rest)))
        } else {
            self.cluster.read(id, rest.as_bytes().into())
        };
        self.printed.push(format!("client t{} asks {id}", ticket.0));
    }

    fn link(&mut self, verb: &str, from: NodeId, to: NodeId, which: Option<&str>) {
        match verb {
            "hold" => {
                let word = which.unwrap_or_default().to_string();
                self.held.insert((from, to, word));
            }
            "release" => self.held.retain(|held| (held.0, held.1) != (from, to)),
            "deliver" if which.is_none() => self.cluster.deliver(from, to, 0, usize::MAX),
            "deliver" => self.each(from, to, which, |cluster, at| {
                cluster.deliver(from, to, at, 1);
            }),
            "lose" => self.each(from, to, which, |cluster, at| cluster.lose(from, to, at)),
            "double" => self.each(from, to, which, |cluster, at| cluster.double(from, to, at)),
            "waiting" => {
                for (message, place) in self.cluster.waiting(from, to).iter().zip(1..) {
                    if self.shown(message) {
                        let message = print::message(message);
                        self.printed
                            .push(format!("{from} .. {to} {place}: {message}"));
                    }
                }
            }
            "cut" | "cut-one-way" => {
                self.cluster.cut(from, to);
                if verb == "cut" {
                    self.cluster.cut(to, from);
                }
            }
            "heal" => {
                self.cluster.heal(from, to);
                self.cluster.heal(to, from);
            }
            _ => panic!("no such command of a link: {verb}"),
        }
    }

    /// Does something with each of the messages that are meant, in order.
    fn each(
        &mut self,
        from: NodeId,
        to: NodeId,
        which: Option<&str>,
        act: impl Fn(&mut Cluster, usize),
    ) {
        let place: Option<usize> = which.and_then(|which| which.parse().ok());
        let waiting = self.cluster.waiting(from, to);
        let meant = (0..waiting.len()).filter(|&at| match (place, which) {
            (Some(place), _) => at + 1 == place,
            (None, Some(which)) => word(&waiting[at]) == which,
            (None, None) => true,
        });
        let meant: Vec<usize> = meant.collect();
        if meant.is_empty() {
            self.printed
                .push(format!("nothing such waits from {from} to {to}"));
        }
        let before = waiting.len();
        for at in meant {
            // Those before it may be gone by now.
            let gone = before.saturating_sub(self.cluster.waiting(from, to).len());
            act(&mut self.cluster, at - gone);
        }
    }

    fn node(&mut self, verb: &str, node: Option<NodeId>) {
        if verb == "heal" {
            for (from, to) in self.cluster.cuts() {
                self.cluster.heal(from, to);
            }
            return;
        }
        let id = node.expect("a node");
        let others: Vec<NodeId> = self
            .cluster
            .nodes()
            .into_iter()
            .filter(|&n| n != id)
            .collect();
        match verb {
            "isolate" => {
                for other in others {
                    self.link("cut", id, other, None);
                }
            }
            "slow" => drop(self.slow.insert(id)),
            "fast" => drop(self.slow.remove(&id)),
            "sync" => self.cluster.sync_all(id),
            "snapshot" => self.cluster.round(id, [Input::Snapshot(Wanted::Now)]),
            "wipe" => self.cluster.wipe(id),
            "lose-snapshot" => self.cluster.lose_snapshot(id),
            "crash" => {
                self.cluster.crash(id, 0);
                for other in others {
                    self.cluster.round(other, [Input::LinkDown(id)]);
                }
            }
            "restart" => {
                self.cluster.restart(id);
                for other in self.cluster.running() {
                    if other != id && !self.cluster.is_cut(other, id) {
                        self.cluster.round(other, [Input::LinkUp(id)]);
                        self.cluster.round(id, [Input::LinkUp(other)]);
                    }
                }
            }
            "fail" => self.cluster.fail(id),
            "recover" => self.cluster.recover(id),
            "stop" => self.cluster.round(id, [Input::Stop]),
            _ => panic!("no such command: {verb}"),
        }
    }

    fn settle(&mut self) {
        self.cluster.settle(
            |id| !self.slow.contains(&id),
            |from, to, message| {
                let held = |word: String| self.held.contains(&(from, to, word));
                !held(String::new()) && !held(word(message))
            },
        );
    }

    fn ticks(&mut self, count: u64, nodes: &[NodeId]) {
        for _ in 0..count {
            self.cluster.pass_tick();
            for id in self.cluster.running() {
                if nodes.is_empty() || nodes.contains(&id) {
                    self.cluster.tick(id);
                }
            }
            self.settle();
        }
    }

    fn until(&mut self, what: &str) {
        self.settle();
        let mut ticks = 0;
        while !self.holds(what) {
            if ticks == UNTIL_TICKS_MAX {
                self.tell();
                self.printed.push(format!("not within {ticks} ticks"));
                return;
            }
            self.ticks(1, &[]);
            ticks += 1;
        }
        self.tell();
        self.printed.push(format!("after {ticks} ticks"));
    }

    fn holds(&self, what: &str) -> bool {
        match what {
            "leader" => self.cluster.leader().is_some(),
            "answered" => self.cluster.open.is_empty(),
            "equal" => {
                let running = self.cluster.running();
                let mut states = running.into_iter().map(|id| {
                    let status = self.cluster.status(id);
                    (status.decided, status.applied, status.hash)
                });
                let first = states.next();
                states.all(|state| Some(state) == first)
            }
            _ => panic!("until leader, answered or equal, not {what}"),
        }
    }

    fn status(&mut self) {
        self.tell();
        for id in self.cluster.nodes() {
            if !self.cluster.running().contains(&id) {
                self.printed.push(format!("{id} is down"));
                continue;
            }
            let status = self.cluster.status(id);
            let leader = status
                .leader
                .map_or("none".into(), |leader| leader.to_string());
            self.printed.push(format!(
                "{id} {} leader {leader} {} decided {} applied {} hash {:016x} keys {}{}",
                status.role,
                status.ballot,
                status.decided,
                status.applied,
                status.hash,
                status.keys,
                if status.acceptor_up {
                    ""
                } else {
                    " acceptor failed"
                },
            ));
        }
    }

    fn shown(&self, message: &Message) -> bool {
        self.heartbeats || !matches!(message, Message::Notice(Notice::Heartbeat(_)))
    }

    /// Prints what happened.
    fn tell(&mut self) {
        for event in std::mem::take(&mut self.cluster.events) {
            let line = match event {
                Event::Record(..) | Event::Came(..) | Event::Lost(..) if self.quiet => continue,
                Event::Record(_, Record::Peer(..)) if !self.heartbeats => continue,
                Event::Record(node, record) => {
                    format!("{node} record {}", print::record(&record))
                }
                Event::Came(from, to, message) if self.shown(&message) => {
                    format!("{from} -> {to} {}", print::message(&message))
                }
                Event::Lost(from, to, message) if self.shown(&message) => {
                    format!("{from} -x {to} {}", print::message(&message))
                }
                Event::Answer(_, ticket, answer, value) => {
                    let answer = print::answer(&answer, value.as_deref());
                    format!("client t{}: {answer}", ticket.0)
                }
                Event::Leads(node, ballot) => format!("{node} leads with {ballot}"),
                Event::LeadsNoLonger(node) => format!("{node} leads no longer"),
                Event::Alarm(node, alarm) => format!("{node} ALARM {alarm}"),
                Event::Came(..) | Event::Lost(..) | Event::Sent(..) | Event::Synced(..) => continue,
            };
            self.printed.push(line);
        }
    }
}

/// A command from its text in a batch, without the id.
fn command_of(text: &str) -> Command {
    let batch = parse_batch(format!("n1.1.1 {text}").as_bytes()).expect("a command");
    batch.into_iter().next().expect("a command").command
}

/// The text with its long words written out: `x*700000` is that many `x`.
fn long(text: &str) -> String {
    let words = text.split(' ').map(|word| match word.split_once('*') {
        Some((letter, count)) => letter.repeat(count.parse().expect("a count")),
        None => word.into(),
    });
    words.collect::<Vec<_>>().join(" ")
}

/// The first word of a message's line.
fn word(message: &Message) -> String {
    let line = print::message(message);
    line.split(' ').next().unwrap_or_default().to_string()
}
