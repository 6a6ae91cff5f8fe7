//! The faults of the plan, as they begin and end.

use super::clock::Due;
use super::counts::Seen;
use super::disk::SimDir;
use super::network::Weather;
use super::node::{Arrival, Crash, Harm, Node, Weak};
use super::plan::{Fault, Shape, Target, neighbour};
use super::watch::Checked;
use super::world::{World, tell};

/// A fault that has begun, and how to end it.
#[derive(Debug)]
pub(super) enum Active {
    /// The weather before is of no account: calm comes.
    Weather,
    SlowLinks,
    /// These links are cut.
    Cut(Vec<(usize, usize)>, bool),
    /// These nodes are to start.
    Down(Vec<usize>),
    /// This node was told to stop, and is to go now at the latest.
    Stop(usize),
    Slow(usize),
    Acceptor(usize),
    SlowDisk(usize),
    FullDisk(usize),
}

impl World {
    fn target(&self, whom: Target) -> usize {
        match whom {
            Target::Node(node) => node,
            Target::Leader(node) => self.leader().unwrap_or(node),
        }
    }

    pub(super) fn on_fault(&mut self, number: usize) -> Checked {
        let planned = self.plan.faults[number];
        tell!(self, "--- fault {number}: {:?}", planned.fault);
        let active = self.begin(planned.fault, planned.lasts)?;
        match active {
            Some(active) => self.active[number] = Some(active),
            None => self.counts.one(Seen::MootFaults),
        }
        self.clock.after(planned.lasts, Due::End { number });
        Ok(())
    }

    /// Lets a fault begin. None if it met nothing to break.
    fn begin(&mut self, fault: Fault, lasts: u64) -> Checked<Option<Active>> {
        let active = match fault {
            Fault::Weather {
                loss,
                doubling,
                overtaking,
            } => {
                self.network.weather = Weather {
                    loss,
                    doubling,
                    overtaking,
                    ..self.network.weather
                };
                Some(Active::Weather)
            }
            Fault::SlowLinks { delay } => {
                self.counts.one(Seen::SlowLinks);
                self.network.weather.delay = delay;
                Some(Active::SlowLinks)
            }
            Fault::Close { from, to } => self.begin_close(self.target(from), to, lasts),
            Fault::Crash {
                whom,
                power,
                in_round,
                noticed,
            } => self.begin_crash(self.target(whom), in_round, Crash { power, noticed })?,
            Fault::Stop { whom } => {
                let node = self.target(whom);
                self.arrive(node, Arrival::Stop);
                let runs = self.nodes[node].running.is_some();
                runs.then_some(Active::Stop(node))
            }
            Fault::Everyone => {
                self.counts.one(Seen::AllCrashed);
                let all: Vec<usize> = (0..self.nodes.len()).collect();
                for &node in &all {
                    let (power, noticed) = (true, false);
                    self.crash(node, Crash { power, noticed })?;
                }
                Some(Active::Down(all))
            }
            Fault::Pause { whom } => self.begin_pause(self.target(whom), lasts),
            Fault::Slow { whom, nap } => {
                let node = self.target(whom);
                let life = self.nodes[node].life;
                let runs = self.nodes[node].running.is_some();
                if runs {
                    self.nodes[node].nap = nap;
                    self.clock.after(0, Due::Nap { node, life });
                }
                runs.then_some(Active::Slow(node))
            }
            Fault::Acceptor { whom } => {
                let node = self.target(whom);
                self.counts.one(Seen::AcceptorFailed);
                self.nodes[node].acceptor_failed += 1;
                Some(Active::Acceptor(node))
            }
            Fault::Cut {
                shape,
                whom,
                turn,
                hold,
                noticed,
            } => Some(self.begin_cut(shape, self.target(whom), turn, hold, noticed)),
            Fault::SlowDisk { whom, sync } => {
                let node = self.target(whom);
                self.counts.one(Seen::SlowDisk);
                self.nodes[node].slow_sync = sync;
                Some(Active::SlowDisk(node))
            }
            Fault::FullDisk { whom, room } => {
                let node = self.target(whom);
                self.counts.one(Seen::FullDisk);
                let full = self.nodes[node].dir.leave_room(room);
                full.map_err(|error| error.to_string())?;
                Some(Active::FullDisk(node))
            }
            Fault::FailDisk { whom, step } => {
                let node = self.target(whom);
                self.counts.one(Seen::FailedSync);
                self.nodes[node].dir.fail_step(step);
                Some(Active::Down(vec![node]))
            }
            Fault::Flip { whom } => self.begin_harm(self.target(whom), Harm::Log)?,
            Fault::FlipSnapshot { whom } => self.begin_harm(self.target(whom), Harm::Snapshot)?,
            Fault::Wipe { whom, blank } => {
                self.begin_harm(self.target(whom), Harm::Wiped { blank })?
            }
        };
        Ok(active)
    }

    fn begin_close(&mut self, from: usize, to: usize, lasts: u64) -> Option<Active> {
        if from == to || !self.network.is_open(from, to) {
            return None;
        }
        self.counts.one(Seen::Closed);
        self.close(from, to, true);
        self.clock.after(lasts, Due::Dial { from, to });
        Some(Active::Down(Vec::new()))
    }

    fn begin_crash(
        &mut self,
        node: usize,
        in_round: Option<u8>,
        crash: Crash,
    ) -> Checked<Option<Active>> {
        let Some(run) = &mut self.nodes[node].running else {
            return Ok(None);
        };
        match in_round {
            Some(part) if run.frozen == 0 => run.crash_in_round = Some((part, crash)),
            _ => self.crash(node, crash)?,
        }
        Ok(Some(Active::Down(vec![node])))
    }

    fn begin_pause(&mut self, node: usize, lasts: u64) -> Option<Active> {
        let life = self.nodes[node].life;
        let run = self.nodes[node].running.as_mut()?;
        run.frozen += 1;
        self.counts.one(Seen::Paused);
        self.clock.after(lasts, Due::Thaw { node, life });
        Some(Active::Down(Vec::new()))
    }

    fn begin_cut(
        &mut self,
        shape: Shape,
        node: usize,
        turn: usize,
        hold: bool,
        noticed: bool,
    ) -> Active {
        let (seen, pairs) = cut_links(shape, node, turn, self.nodes.len());
        self.counts.one(seen);
        for &(from, to) in &pairs {
            let lost = self.network.cut(from, to, hold);
            self.counts.many(Seen::Lost, lost as u64);
            if noticed {
                self.close(from, to, true);
                self.clock.after(0, Due::Dial { from, to });
            }
        }
        Active::Cut(pairs, hold)
    }

    /// Breaks the disk of a node, unless too many nodes have lost something already.
    fn begin_harm(&mut self, node: usize, harm: Harm) -> Checked<Option<Active>> {
        let weak = self.nodes.iter().filter(|node| node.weak.is_some()).count();
        let minority = self.nodes.len() - self.members.majority();
        let wipes = matches!(harm, Harm::Wiped { .. });
        let begun = |node: &Node| node.joined;
        if weak >= minority || self.nodes[node].weak.is_some() || !self.nodes.iter().all(begun) {
            return Ok(None);
        }
        let power = !wipes;
        let noticed = true;
        self.crash(node, Crash { power, noticed })?;
        let at = &mut self.nodes[node];
        let harmed = match harm {
            Harm::Log => at.dir.flip_log(&mut self.disk_dice),
            Harm::Snapshot => at.dir.flip_snapshot(&mut self.disk_dice),
            Harm::Wiped { .. } => {
                at.dir = SimDir::new(self.plan.sector_bytes);
                Ok(Some((String::new(), 0)))
            }
        };
        let harmed = harmed.map_err(|error| error.to_string())?;
        let Some(place) = harmed else {
            self.clock.after(0, Due::Start { node });
            return Ok(None);
        };
        at.harm = Some(harm);
        // Whatever may have been decided by now it must know again.
        let until = self.watch.decided();
        at.weak = Some(Weak { until });
        self.counts.one(match harm {
            Harm::Log => Seen::Flipped,
            Harm::Snapshot => Seen::SnapshotFlipped,
            Harm::Wiped { .. } => Seen::Wiped,
        });
        tell!(self, "n{} is harmed: {harm:?} at {place:?}", node + 1);
        Ok(Some(Active::Down(vec![node])))
    }

    pub(super) fn on_fault_end(&mut self, number: usize) -> Checked {
        let Some(active) = self.active[number].take() else {
            return Ok(());
        };
        tell!(self, "--- end of fault {number}");
        match active {
            Active::Weather => {
                let delay = self.network.weather.delay;
                self.network.weather = Weather {
                    delay,
                    ..Weather::default()
                };
            }
            Active::SlowLinks => self.network.weather.delay = 0,
            Active::Cut(pairs, hold) => self.mend(&pairs, hold),
            Active::Down(nodes) => {
                for node in nodes {
                    self.clock.after(0, Due::Start { node });
                }
            }
            Active::Stop(node) => {
                let run = self.nodes[node].running.as_ref();
                if run.is_some_and(|run| run.stopping) {
                    let (power, noticed) = (false, true);
                    self.crash(node, Crash { power, noticed })?;
                }
                self.clock.after(0, Due::Start { node });
            }
            Active::Slow(node) => self.nodes[node].nap = 0,
            Active::Acceptor(node) => self.nodes[node].acceptor_failed -= 1,
            Active::SlowDisk(node) => self.nodes[node].slow_sync = 0,
            Active::FullDisk(node) => self.nodes[node].dir.make_room(),
        }
        Ok(())
    }

    fn mend(&mut self, pairs: &[(usize, usize)], hold: bool) {
        for &(from, to) in pairs {
            // The connection may not have lived through it.
            if hold && self.disk_dice.chance(200) {
                self.close(from, to, true);
                self.clock.after(0, Due::Dial { from, to });
            }
            for time in self.network.mend(self.clock.now(), from, to, hold) {
                self.clock.at(time, Due::Arrival { from, to });
            }
        }
    }

    /// Ends all faults. Some nodes, a minority, may stay down.
    pub(super) fn heal(&mut self) -> Checked {
        for number in 0..self.active.len() {
            self.on_fault_end(number)?;
        }
        self.network.weather = Weather::default();
        let mut down = self.nodes.iter().filter(|node| node.weak.is_some()).count();
        let first = self.node_dice.index(self.nodes.len());
        for step in 0..self.nodes.len() {
            let node = (first + step) % self.nodes.len();
            if down < self.plan.stay_down && self.nodes[node].weak.is_none() {
                down += 1;
                self.nodes[node].stays_down = true;
                let (power, noticed) = (true, true);
                self.crash(node, Crash { power, noticed })?;
            }
            self.nodes[node].dir.fail_nothing();
            if let Some(run) = &mut self.nodes[node].running {
                run.crash_in_round = None;
                if run.frozen > 0 {
                    run.frozen = 1;
                    let life = self.nodes[node].life;
                    self.clock.after(0, Due::Thaw { node, life });
                }
            }
            self.clock.after(0, Due::Start { node });
        }
        Ok(())
    }
}

/// Which links a partition cuts, and how it counts.
fn cut_links(shape: Shape, node: usize, turn: usize, size: usize) -> (Seen, Vec<(usize, usize)>) {
    let others = (0..size - 1).map(|at| neighbour(node, turn + at, size));
    let row: Vec<usize> = std::iter::once(node).chain(others).collect();
    let cut = |pick: &dyn Fn(usize, usize) -> bool| -> Vec<(usize, usize)> {
        let places = (0..size).flat_map(|a| (0..size).map(move |b| (a, b)));
        let picked = places.filter(|&(a, b)| a != b && pick(a, b));
        picked.map(|(a, b)| (row[a], row[b])).collect()
    };
    let half = size / 2;
    match shape {
        Shape::OneWay => (Seen::CutOneWay, cut(&|a, b| (a, b) == (0, 1))),
        Shape::Mute => (Seen::CutOneWay, cut(&|a, _| a == 0)),
        Shape::Deaf => (Seen::CutOneWay, cut(&|_, b| b == 0)),
        Shape::BothWays => (Seen::CutBothWays, cut(&|a, b| a + b == 1)),
        Shape::Isolated => (Seen::Isolated, cut(&|a, b| a == 0 || b == 0)),
        Shape::Split => (Seen::Split, cut(&|a, b| (a < half) != (b < half))),
        Shape::Hub => (Seen::Hub, cut(&|a, b| a != 0 && b != 0)),
        Shape::Chain => (Seen::Chain, cut(&|a, b| a.abs_diff(b) > 1)),
        Shape::Leaf => (Seen::Leaf, cut(&|a, b| a + b > 1 && (a == 0 || b == 0))),
    }
}
