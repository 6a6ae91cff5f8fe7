//! Slow servers and far ones, in virtual time: who leads when a process sleeps for most of the time,
//! and how often anything crosses a slow link.

mod common;

use std::collections::{BTreeMap, VecDeque};

use common::cluster::{Cluster, Event, Settings, node};
use quince::kv::command::{Command, Write};
use quince::paxos::message::{Message, Notice};
use quince::paxos::types::NodeId;
use quince::replica::Input;

/// In a cluster with a healthy majority somebody else leads within so many ticks: 700 ms.
const TAKEOVER_TICKS: u64 = 70;

/// A cluster whose links take time and whose processes sleep.
struct World {
    cluster: Cluster,
    now: u64,
    /// How many ticks a message takes.
    link_ticks: u64,
    /// How many bytes of values a link takes in a tick.
    link_bytes: usize,
    /// When each link is done with what was put on it.
    busy: BTreeMap<(NodeId, NodeId), (u64, usize)>,
    /// Since when each process sleeps for how many ticks at a time, with one tick awake between two
    /// sleeps.
    naps: BTreeMap<NodeId, (u64, u64)>,
    /// How many ticks each process has slept through since it was awake last.
    slept: BTreeMap<NodeId, u64>,
    /// When what is on each link arrives.
    due: BTreeMap<(NodeId, NodeId), VecDeque<u64>>,
    /// How often each proposal was sent to each node, and each hand-on of commands.
    accepts: BTreeMap<(NodeId, String), u64>,
    proposes: BTreeMap<String, u64>,
}

impl World {
    fn new(size: u8, seed: u64, link_ticks: u64) -> Self {
        let settings = Settings {
            size,
            seed,
            deadline_ticks: 1_000,
            preload: Vec::new(),
            blank: false,
        };
        Self {
            cluster: Cluster::new(settings),
            now: 0,
            link_ticks,
            link_bytes: usize::MAX,
            busy: BTreeMap::new(),
            naps: BTreeMap::new(),
            slept: BTreeMap::new(),
            due: BTreeMap::new(),
            accepts: BTreeMap::new(),
            proposes: BTreeMap::new(),
        }
    }

    /// One, whose processes are awake and which n`leader` has come to lead.
    fn led_by(leader: u8, size: u8, seed: u64) -> Self {
        let mut world = Self::new(size, seed, 0);
        world.ticks(5);
        for lower in 1..leader {
            world.cluster.crash(node(lower), 0);
            world.due.retain(|(_, to), _| *to != node(lower));
        }
        world.until_led(200);
        for lower in 1..leader {
            world.cluster.restart(node(lower));
        }
        world.ticks(50);
        assert_eq!(world.cluster.leader(), Some(node(leader)));
        world
    }

    fn until_led(&mut self, ticks: u64) {
        for _ in 0..ticks {
            self.tick();
            if self.cluster.leader().is_some() {
                return;
            }
        }
        panic!("nobody leads within {ticks} ticks");
    }

    /// From now on, after `ticks` more, the process sleeps.
    fn slow(&mut self, server: u8, after: u64, nap: u64) {
        self.naps.insert(node(server), (self.now + after, nap));
    }

    fn is_awake(&self, id: NodeId) -> bool {
        self.naps
            .get(&id)
            .is_none_or(|&(since, nap)| self.now < since || (self.now - since) % (nap + 1) == nap)
    }

    fn ticks(&mut self, ticks: u64) {
        for _ in 0..ticks {
            self.tick();
        }
    }

    /// A tick of real time: processes that are awake take what has arrived, and tick.
    fn tick(&mut self) {
        self.now += 1;
        for id in self.cluster.running() {
            if !self.is_awake(id) {
                *self.slept.entry(id).or_default() += 1;
                continue;
            }
            let slept = self.slept.remove(&id).unwrap_or(0);
            if slept > 0 {
                self.cluster.round(id, [Input::Slept(slept)]);
            }
            self.take_arrived(id);
            self.cluster.tick(id);
            self.look();
        }
        // What takes no time comes within the tick.
        let mut moved = true;
        while std::mem::take(&mut moved) {
            for id in self.cluster.running() {
                if self.is_awake(id) {
                    moved |= self.take_arrived(id);
                }
            }
        }
    }

    /// Syncs, and takes what has arrived; whether there was anything.
    fn take_arrived(&mut self, id: NodeId) -> bool {
        let mut moved = self.cluster.unsynced(id) > 0;
        self.cluster.sync_all(id);
        self.look();
        for from in self.cluster.nodes() {
            let due = self.due.entry((from, id)).or_default();
            let count = due.iter().take_while(|&&due| due <= self.now).count();
            due.drain(..count);
            if count > 0 {
                moved = true;
                self.cluster.deliver(from, id, 0, count);
                self.look();
            }
        }
        moved
    }

    /// Notes what was sent.
    fn look(&mut self) {
        for event in std::mem::take(&mut self.cluster.events) {
            match event {
                Event::Sent(from, to, message) => {
                    let due = self.arrives(from, to, &message);
                    self.due.entry((from, to)).or_default().push_back(due);
                    match message {
                        Message::Notice(Notice::Accept { slot, value, .. }) => {
                            let key = (to, format!("{slot} {} bytes", value.as_bytes().len()));
                            *self.accepts.entry(key).or_default() += 1;
                        }
                        Message::Notice(Notice::Propose { value, .. }) => {
                            let text = value.to_string();
                            for command in text.split(" ; ") {
                                let id = command.split(' ').next().unwrap_or_default();
                                *self.proposes.entry(id.into()).or_default() += 1;
                            }
                        }
                        _ => {}
                    }
                }
                Event::Lost(from, to, _) => {
                    // The last that was sent, by a cut or to a node that is down.
                    self.due.entry((from, to)).or_default().pop_back();
                }
                Event::Alarm(id, alarm) => panic!("{id} alarms: {alarm}"),
                _ => {}
            }
        }
    }

    /// When a message arrives that is sent now.
    fn arrives(&mut self, from: NodeId, to: NodeId, message: &Message) -> u64 {
        if from == to {
            return self.now;
        }
        let bytes = match message {
            Message::Notice(Notice::Accept { value, .. } | Notice::Propose { value, .. }) => {
                value.as_bytes().len()
            }
            _ => 0,
        };
        let (tick, used) = self.busy.entry((from, to)).or_default();
        if *tick < self.now {
            (*tick, *used) = (self.now, 0);
        }
        *used += bytes;
        *tick += (*used / self.link_bytes) as u64;
        *used %= self.link_bytes;
        *tick + self.link_ticks
    }

    /// Has a server's clients write values of so many bytes, `at_once` at a time, and waits until all
    /// are answered.
    fn write_all(&mut self, server: u8, values: usize, bytes: usize, at_once: usize) {
        let mut left = values;
        let began = self.now;
        while left > 0 || !self.cluster.open.is_empty() {
            while left > 0 && self.cluster.open.len() < at_once {
                left -= 1;
                let put = Command::Write(Write::Put {
                    key: format!("k{left}").into_bytes().as_slice().into(),
                    value: vec![b'v'; bytes].as_slice().into(),
                });
                self.cluster.write(node(server), put);
                self.look();
            }
            self.tick();
            assert!(self.now < began + 5_000, "writes are done");
        }
    }

    /// How often things crossed links, for each hundred times that they had to.
    fn percent<K>(crossings: &BTreeMap<K, u64>) -> u64 {
        assert!(crossings.len() > 4, "nothing was sent");
        crossings.values().sum::<u64>() * 100 / crossings.len() as u64
    }

    /// In how many ticks another node than `old` leads that does not sleep.
    fn taken_over(&mut self, old: u8) -> u64 {
        let began = self.now;
        loop {
            self.tick();
            let healthy = |id: &NodeId| *id != node(old) && !self.naps.contains_key(id);
            let running = self.cluster.running();
            let leads = |id: &NodeId| self.cluster.status(*id).role == "leader";
            if running.iter().any(|id| healthy(id) && leads(id)) {
                return self.now - began;
            }
            assert!(self.now < began + 1_000, "nobody takes over");
        }
    }
}

/// Sleeps of 100 to 300 ms.
const NAPS: [u64; 4] = [10, 15, 20, 30];

/// P36, P29: a frozen leader is replaced, however long a follower sleeps that has not noticed and goes
/// on vouching for it; and not by that one, though its number is the lowest.
#[test]
fn a_frozen_leader_is_replaced_though_a_slow_follower_vouches_for_it() {
    for nap in NAPS {
        for phase in 0..nap {
            let mut world = World::led_by(1, 5, phase);
            world.slow(2, phase, nap);
            world.ticks(100);
            world.slow(1, 0, u64::MAX - 1);
            let ticks = world.taken_over(1);
            assert!(ticks < TAKEOVER_TICKS, "naps {nap}, phase {phase}: {ticks}");
        }
    }
}

/// The same where the follower becomes slow only then.
#[test]
fn a_frozen_leader_is_replaced_though_a_follower_becomes_slow_with_it() {
    for nap in NAPS {
        for phase in 0..nap {
            let mut world = World::led_by(1, 5, phase);
            world.slow(2, phase, nap);
            world.slow(1, 0, u64::MAX - 1);
            let ticks = world.taken_over(1);
            assert!(ticks < TAKEOVER_TICKS, "naps {nap}, phase {phase}: {ticks}");
        }
    }
}

/// P30: a slow leader that hears nobody any more finds out in real time, and leaves.
#[test]
fn a_slow_leader_that_hears_nobody_steps_down_in_time() {
    for nap in NAPS {
        for phase in 0..nap {
            let mut world = World::led_by(1, 5, phase);
            world.slow(1, phase, nap);
            for from in 2..=5 {
                world.cluster.cut(node(from), node(1));
            }
            world.look();
            let ticks = world.taken_over(1);
            assert!(ticks < TAKEOVER_TICKS, "naps {nap}, phase {phase}: {ticks}");
        }
    }
}

/// P35: a leader whose process begins to sleep for most of the time leaves the lead to one that does
/// not.
#[test]
fn a_leader_on_a_slow_machine_is_replaced() {
    for nap in NAPS {
        for phase in 0..nap {
            let mut world = World::led_by(1, 5, phase);
            world.slow(1, 0, nap);
            let ticks = world.taken_over(1);
            assert!(ticks < TAKEOVER_TICKS, "naps {nap}, seed {phase}: {ticks}");
            world.ticks(300);
            let leader = world.cluster.leader();
            assert_ne!(leader, Some(node(1)), "naps {nap}, seed {phase}");
        }
    }
}

/// P27: a slow server with the lowest number does not try before the others, nor hold them up.
#[test]
fn the_slowest_server_is_not_elected_because_its_number_is_lowest() {
    for nap in NAPS {
        for phase in 0..nap {
            let mut world = World::led_by(3, 5, phase);
            world.slow(1, phase, nap);
            world.ticks(100);
            world.slow(3, 0, u64::MAX - 1);
            let ticks = world.taken_over(3);
            assert!(ticks < TAKEOVER_TICKS, "naps {nap}, phase {phase}: {ticks}");
            assert_ne!(world.cluster.leader(), Some(node(1)));
        }
    }
}

/// A leader that gives up the lead is replaced at once, though a slow follower has not heard of it.
#[test]
fn a_leader_that_said_that_it_stopped_is_replaced_at_once() {
    for nap in NAPS {
        for phase in 0..nap {
            let mut world = World::led_by(1, 5, phase);
            world.slow(2, phase, nap);
            world.ticks(100);
            for from in 2..=5 {
                world.cluster.cut(node(from), node(1));
            }
            world.look();
            let ticks = world.taken_over(1);
            assert!(ticks < TAKEOVER_TICKS, "naps {nap}, phase {phase}: {ticks}");
        }
    }
}

/// Writes 100 values of 100 KB at the leader or at another server, and holds how often each of them
/// crossed each link.
fn assert_sent_once(mut world: World, at_leader: bool, at_once: usize, case: &str) {
    let leader = world.cluster.leader().expect("it leads").number();
    let server = if at_leader { leader } else { leader % 3 + 1 };
    world.accepts.clear();
    world.write_all(server, 100, 100_000, at_once);
    let accepts = World::percent(&world.accepts);
    assert!(
        accepts <= 120,
        "{case}, n{server}: {accepts} of 100 proposals"
    );
    if !at_leader {
        let handed = World::percent(&world.proposes);
        assert!(handed <= 120, "{case}, n{server}: {handed} of 100 commands");
    }
    assert_eq!(world.cluster.leader(), Some(node(leader)), "{case}");
}

/// Without loss nothing crosses a slow link twice: 100 values of 100 KB, 50 ms one way and more.
#[test]
fn what_is_on_its_way_is_not_sent_again() {
    for (one_way, at_once) in [(0, 4), (2, 4), (5, 1), (5, 4), (5, 100)] {
        for at_leader in [true, false] {
            let mut world = World::new(3, 1, one_way);
            world.until_led(300);
            world.ticks(20 * one_way);
            let case = format!("{one_way} ticks, {at_once} at once");
            assert_sent_once(world, at_leader, at_once, &case);
        }
    }
}

/// What queues for a narrow link is on its way as well.
#[test]
fn what_queues_is_not_sent_again() {
    for at_leader in [true, false] {
        let mut world = World::new(3, 1, 5);
        world.until_led(300);
        world.ticks(50);
        world.link_bytes = 40_000;
        assert_sent_once(world, at_leader, 6, "a narrow link");
    }
}

/// What is lost is sent again soon where answers are fast, however many were measured before.
#[test]
fn what_is_lost_is_sent_again_within_a_few_ticks() {
    let mut world = World::new(3, 1, 0);
    world.until_led(300);
    world.ticks(50);
    world.write_all(1, 50, 10, 1);
    for to in [2, 3] {
        world.cluster.cut(node(1), node(to));
    }
    let began = world.now;
    let put = Command::Write(Write::Put {
        key: b"k".as_slice().into(),
        value: b"v".as_slice().into(),
    });
    world.cluster.write(node(1), put);
    world.look();
    world.tick();
    for to in [2, 3] {
        world.cluster.heal(node(1), node(to));
    }
    while !world.cluster.open.is_empty() {
        world.tick();
        assert!(world.now < began + 8, "it is sent again");
    }
}
