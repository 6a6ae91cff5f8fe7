//! How often things happened: a simulation whose faults never come tests nothing.

use std::fmt;

macro_rules! seen {
    ($($name:ident = $text:literal,)*) => {
        /// What is counted.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[allow(missing_docs, reason = "their texts say it")]
        pub enum Seen {
            $($name,)*
        }

        impl Seen {
            /// Everything that is counted, in order.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// How it is called in a summary.
            pub fn text(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }

        const KINDS: usize = [$(Seen::$name,)*].len();
    };
}

seen! {
    Messages = "messages arrived",
    Lost = "messages lost",
    Doubled = "messages doubled",
    Overtaken = "messages overtaken",
    HeldLate = "messages held and delivered late",
    SlowLinks = "links slowed",
    FarForLife = "lives whose links are slow to the end",
    SlowDisksForLife = "lives whose disks are slow to the end",
    CutOneWay = "links cut one way",
    CutBothWays = "links cut both ways",
    Isolated = "nodes isolated",
    Split = "clusters split",
    Hub = "partial partitions: only a hub",
    Chain = "partial partitions: a chain",
    Leaf = "partial partitions: a server with one other",
    Closed = "links closed and opened again",
    PowerLost = "power losses",
    Killed = "processes killed",
    Stopped = "servers stopped in an orderly way",
    CrashedInRound = "crashes in the middle of a round",
    CrashedInStart = "crashes in the middle of a start",
    CrashedInSnapshot = "crashes in the middle of a snapshot",
    AllCrashed = "all nodes at once",
    WritesLost = "unsynced writes lost",
    TornTails = "torn tails cut",
    Paused = "processes frozen",
    Naps = "naps of slow processes",
    AcceptorFailed = "acceptors failed",
    AcceptorRecovered = "acceptors recovered",
    Skewed = "clocks skewed",
    WrongWalls = "wall clocks wrong",
    WallJumps = "wall clocks set forward or back",
    SlowDisk = "disks slowed",
    FullDisk = "disks full",
    FailedSync = "disk operations failed",
    DiskEnded = "nodes ended by their disk",
    Flipped = "bytes of logs flipped",
    Damaged = "starts with a damaged log",
    SnapshotFlipped = "bytes of snapshots flipped",
    SnapshotDamaged = "starts without the newest snapshot",
    Wiped = "directories emptied",
    Recalled = "lost memories recalled",
    Snapshots = "snapshots written",
    SnapshotsWaited = "snapshots that waited for another server's",
    Trimmed = "logs trimmed of a segment or more",
    ImagesSent = "snapshots sent to peers",
    IndexesSent = "read indexes told to peers",
    Restarts = "restarts",
    Elections = "elections",
    Slots = "slots decided",
    Operations = "client operations",
    WritesDone = "writes done",
    WritesNotDone = "writes surely not done",
    WritesUnknown = "writes of unknown outcome",
    ReadsDone = "reads done",
    ListsDone = "lists done",
    LocalReads = "local reads",
    TransactionsDone = "transactions done",
    TransactionsChanged = "transactions that found a watched key changed",
    KeysEnded = "keys ended by their time",
    OnceAgain = "once sent again",
    TimedOut = "client time-outs",
    Unanswered = "requests without an answer",
    Judged = "operations judged by the clients' clocks alone",
    Undecided = "keys that the judge could not decide",
    PlannedFaults = "faults planned",
    MootFaults = "faults that met nothing to break",
}

/// A count of each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counts([u64; KINDS]);

impl Default for Counts {
    fn default() -> Self {
        Self([0; KINDS])
    }
}

impl Counts {
    /// How often.
    pub fn of(&self, seen: Seen) -> u64 {
        self.0[seen as usize]
    }

    /// Adds what another life has seen.
    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            *mine += theirs;
        }
    }

    pub(super) fn one(&mut self, seen: Seen) {
        self.many(seen, 1);
    }

    pub(super) fn many(&mut self, seen: Seen, count: u64) {
        self.0[seen as usize] += count;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for &seen in Seen::ALL {
            let count = self.of(seen);
            if count > 0 {
                writeln!(f, "{count:>12}  {}", seen.text())?;
            }
        }
        Ok(())
    }
}
