//! Links between nodes: messages as lines, in order as on TCP, unless the weather is bad.
//!
//! A link has one direction, as a connection has that only its dialler writes to. It is *open* or
//! not; a message sent on one that is not open is lost. A *cut* link stays open, for neither end
//! knows: messages are lost, or held and delivered together when the cut ends (P32). Closing a link
//! loses what is under way.

use std::collections::VecDeque;
use std::rc::Rc;

use super::dice::Dice;

/// A message as text, without its LF.
pub(super) type Line = Rc<[u8]>;

/// How many messages at the end of a link one may overtake.
const OVERTAKEN_MAX: usize = 8;

/// A message under way.
#[derive(Debug)]
struct Flight {
    arrives: u64,
    line: Line,
}

/// One direction between two nodes.
#[derive(Debug, Default)]
struct Link {
    open: bool,
    /// How many cuts lose what is sent.
    losing: u32,
    /// How many cuts hold it.
    holding: u32,
    queue: VecDeque<Flight>,
    held: VecDeque<Line>,
    /// When the last message arrives.
    last: u64,
}

/// What all links do to messages at the moment; in 1,000.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Weather {
    pub(super) loss: u64,
    pub(super) doubling: u64,
    pub(super) overtaking: u64,
    /// At most so many microseconds on top.
    pub(super) delay: u64,
}

/// What became of a message that was sent.
#[derive(Debug, Default)]
pub(super) struct Sent {
    /// When it arrives; twice if it was doubled.
    pub(super) arrivals: [Option<u64>; 2],
    pub(super) overtook: bool,
    pub(super) held: bool,
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Network {
    size: usize,
    links: Vec<Link>,
    pub(super) weather: Weather,
    delay: (u64, u64),
    dice: Dice,
}

impl Network {
    pub(super) fn new(size: usize, delay: (u64, u64), dice: Dice) -> Self {
        Self {
            size,
            links: (0..size * size).map(|_| Link::default()).collect(),
            weather: Weather::default(),
            delay,
            dice,
        }
    }

    fn way(&mut self, from: usize, to: usize) -> &mut Link {
        &mut self.links[from * self.size + to]
    }

    pub(super) fn is_open(&self, from: usize, to: usize) -> bool {
        self.links[from * self.size + to].open
    }

    pub(super) fn is_cut(&self, from: usize, to: usize) -> bool {
        let way = &self.links[from * self.size + to];
        way.losing + way.holding > 0
    }

    /// Whether a message that is sent now is not held up by one that was sent in worse weather.
    pub(super) fn is_prompt(&self, now: u64) -> bool {
        let (_, most) = self.delay;
        let mut open = self.links.iter().filter(|link| link.open);
        open.all(|link| link.last <= now + most)
    }

    /// Puts a message on a link.
    pub(super) fn send(&mut self, now: u64, from: usize, to: usize, line: &Line) -> Sent {
        let Weather {
            loss,
            doubling,
            overtaking,
            ..
        } = self.weather;
        let mut sent = Sent::default();
        let way = self.way(from, to);
        if !way.open || way.losing > 0 {
            return sent;
        }
        if way.holding > 0 {
            sent.held = true;
            way.held.push_back(Rc::clone(line));
            return sent;
        }
        if self.dice.chance(loss) {
            return sent;
        }
        let copies = 1 + usize::from(self.dice.chance(doubling));
        for arrival in &mut sent.arrivals[..copies] {
            *arrival = Some(self.fly(now, from, to, Rc::clone(line)));
        }
        if self.dice.chance(overtaking) {
            let queue = &mut self.links[from * self.size + to].queue;
            let last = queue.len() - 1;
            let back = self.dice.index(last.min(OVERTAKEN_MAX) + 1);
            if back > 0 {
                sent.overtook = true;
                for at in (last - back..last).rev() {
                    let (one, next) = (Rc::clone(&queue[at].line), Rc::clone(&queue[at + 1].line));
                    queue[at].line = next;
                    queue[at + 1].line = one;
                }
            }
        }
        sent
    }

    fn fly(&mut self, now: u64, from: usize, to: usize, line: Line) -> u64 {
        let (least, most) = self.delay;
        let mut wait = self.dice.between(least..=most);
        if self.weather.delay > 0 {
            wait += self.dice.below(self.weather.delay);
        }
        let way = self.way(from, to);
        let arrives = way.last.max(now + wait);
        way.last = arrives;
        way.queue.push_back(Flight { arrives, line });
        arrives
    }

    /// The message that arrives on a link now, if it was not lost since.
    pub(super) fn arrival(&mut self, now: u64, from: usize, to: usize) -> Option<Line> {
        let queue = &mut self.way(from, to).queue;
        let due = queue.front().is_some_and(|flight| flight.arrives <= now);
        due.then(|| queue.pop_front().expect("it was just there").line)
    }

    pub(super) fn open(&mut self, from: usize, to: usize) {
        self.way(from, to).open = true;
    }

    /// Closes a link. Returns whether it was open, and how many messages are lost.
    pub(super) fn close(&mut self, from: usize, to: usize) -> (bool, usize) {
        let way = self.way(from, to);
        let lost = way.queue.len() + way.held.len();
        way.queue.clear();
        way.held.clear();
        way.last = 0;
        (std::mem::take(&mut way.open), lost)
    }

    /// Cuts a link. What is under way is held too, or lost: returns how many are.
    pub(super) fn cut(&mut self, from: usize, to: usize, hold: bool) -> usize {
        let way = self.way(from, to);
        if hold {
            way.holding += 1;
            way.held.extend(way.queue.drain(..).map(|f| f.line));
            return 0;
        }
        way.losing += 1;
        let lost = way.queue.len() + way.held.len();
        way.queue.clear();
        way.held.clear();
        lost
    }

    /// Ends a cut. Returns when the messages that were held arrive.
    pub(super) fn mend(&mut self, now: u64, from: usize, to: usize, hold: bool) -> Vec<u64> {
        let way = self.way(from, to);
        if hold {
            way.holding -= 1;
        } else {
            way.losing -= 1;
        }
        if way.holding > 0 {
            return Vec::new();
        }
        let waiting = std::mem::take(&mut way.held);
        waiting
            .into_iter()
            .map(|line| self.fly(now, from, to, line))
            .collect()
    }
}
