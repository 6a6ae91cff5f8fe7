//! The log thread that ships, on a disk whose syncs are held until a test lets them go.

use std::io;
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded};
use parking_lot::{Condvar, Mutex};

use super::super::peers::Outgoing;
use super::*;
use crate::disk::dir::DirFile;
use crate::disk::log::Options;
use crate::disk::mem::{MemDir, MemFile};
use crate::paxos::types::{Ballot, Value};

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_mins(2);

/// What holds syncs.
#[derive(Debug, Default)]
struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct GateState {
    closed: bool,
    /// How many syncs are held.
    held: usize,
}

impl Gate {
    fn close(&self) {
        self.state.lock().closed = true;
    }

    fn open(&self) {
        self.state.lock().closed = false;
        self.changed.notify_all();
    }

    fn pass(&self) {
        let mut state = self.state.lock();
        state.held += 1;
        self.changed.notify_all();
        self.changed.wait_while(&mut state, |state| state.closed);
        state.held -= 1;
    }

    fn wait_until_held(&self) {
        let mut state = self.state.lock();
        let timed_out = self
            .changed
            .wait_while_for(&mut state, |state| state.held == 0, PATIENCE);
        assert!(!timed_out.timed_out(), "nobody syncs");
    }
}

#[derive(Debug, Clone)]
struct HeldDir {
    dir: MemDir,
    gate: Arc<Gate>,
}

#[derive(Debug)]
struct HeldFile {
    file: MemFile,
    gate: Arc<Gate>,
}

impl HeldDir {
    fn held(&self, file: MemFile) -> HeldFile {
        let gate = Arc::clone(&self.gate);
        HeldFile { file, gate }
    }
}

impl Dir for HeldDir {
    type File = HeldFile;

    fn list(&self) -> io::Result<Vec<String>> {
        self.dir.list()
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        self.dir.read(name)
    }

    fn create_zeroed(&self, name: &str, bytes: usize) -> io::Result<HeldFile> {
        Ok(self.held(self.dir.create_zeroed(name, bytes)?))
    }

    fn open(&self, name: &str) -> io::Result<HeldFile> {
        Ok(self.held(self.dir.open(name)?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.dir.rename(from, to)
    }

    fn bytes_of(&self, name: &str) -> io::Result<usize> {
        self.dir.bytes_of(name)
    }

    fn truncate(&self, name: &str, bytes: usize) -> io::Result<()> {
        self.dir.truncate(name, bytes)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.dir.remove(name)
    }

    fn removal_step_bytes(&self) -> usize {
        self.dir.removal_step_bytes()
    }

    fn sync_names(&self) -> io::Result<()> {
        self.dir.sync_names()
    }

    fn path_of(&self, name: &str) -> String {
        self.dir.path_of(name)
    }
}

impl DirFile for HeldFile {
    fn write_at(&self, offset: usize, bytes: &[u8]) -> io::Result<()> {
        self.file.write_at(offset, bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.gate.pass();
        self.file.sync()
    }
}

fn node(number: u8) -> NodeId {
    NodeId::new(number).unwrap()
}

fn ballot() -> Ballot {
    Ballot::new(1, node(1))
}

/// A record, and the votes that rest on it: for a peer, for all, for this node itself.
fn step(slot: u64) -> (Vec<Record>, Vec<(To, Vote)>) {
    let value = Value::new(b"v".to_vec()).unwrap();
    let accepted = || Vote::Accepted {
        ballot: ballot(),
        slot: Slot(slot),
    };
    let prepare = Vote::Prepare {
        ballot: ballot(),
        from: Slot(slot),
    };
    let votes = vec![
        (To::One(node(2)), accepted()),
        (To::Others, prepare),
        (To::One(node(1)), accepted()),
    ];
    (vec![Record::Accept(ballot(), Slot(slot), value)], votes)
}

fn sent_to_peer(sent: &Receiver<super::super::peers::SharedLine>) -> String {
    let line = sent.recv_timeout(PATIENCE).expect("a vote leaves");
    String::from_utf8_lossy(&line).trim_end().into()
}

/// P1, P2: a vote leaves when its record is synced, and not while that sync is under way.
#[test]
fn no_vote_leaves_while_the_sync_of_its_record_is_held() {
    let dir = HeldDir {
        dir: MemDir::new(),
        gate: Arc::default(),
    };
    Log::create(&dir, &Options::default()).unwrap();
    let (log, _) = Log::open(dir.clone(), Options::default()).unwrap();
    let (outgoing, sent) = Outgoing::to_one(node(1), node(2));
    let (events, _wakes) = bounded(16);
    let growth = Growth::new(64 << 20, 0);
    let recorder = start(
        log,
        dir.clone(),
        growth,
        node(1),
        Arc::new(outgoing),
        &events,
    )
    .unwrap();
    for slot in 1..=20 {
        dir.gate.close();
        let (records, votes) = step(slot);
        recorder.step(records, votes);
        dir.gate.wait_until_held();
        // Whatever leaves before the sync has left by now: one thread does both.
        assert_eq!(sent.len(), 0, "s{slot}: a vote left before its sync");
        assert_eq!(recorder.told().count(), 0, "s{slot}: so did an own one");
        dir.gate.open();
        assert_eq!(sent_to_peer(&sent), format!("accepted b1.1 s{slot}"));
        assert_eq!(sent_to_peer(&sent), format!("prepare b1.1 s{slot}"));
        let own = recorder.told.recv_timeout(PATIENCE);
        assert!(
            matches!(own, Ok(Told::Vote(Vote::Accepted { slot: own, .. })) if own == Slot(slot)),
            "{own:?}"
        );
        let durable = dir.dir.after_crash(0, |_| false);
        let (_, recovery) = Log::open(durable, Options::default()).unwrap();
        assert_eq!(recovery.records.len() as u64, slot);
    }
    recorder.stop();
    assert!(matches!(
        recorder.told.recv_timeout(PATIENCE),
        Ok(Told::Stopped)
    ));
}
