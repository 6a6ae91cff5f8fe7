//! The data directory of a server: whose it is, that it is used once, that its log is there.
//!
//! The file `identity` is text, one line a fact:
//!
//! ```text
//! quince 1
//! cluster fruit
//! id n2
//! members n1 n2 n3 n4 n5
//! ```
//!
//! | line | is |
//! | --- | --- |
//! | `quince 1` | the version of this format |
//! | `cluster NAME` | the name of the cluster, a token: in `"..."` where it must be |
//! | `id N` | the one server that this directory belongs to |
//! | `members N...` | all servers of the cluster, in order |
//!
//! It is made last, after the first segment of the log. So an identity says that there was a log: an
//! identity without one is a log that was lost, and [`Log::open`] begins one that knows so (P41).
//! And a directory without identity is ours only if it holds nothing but the beginnings of one, which
//! a crash may have left; else it is left as it is.

use super::dir::{Dir, FsDir, UNFINISHED, write_whole};
use super::error::LogError;
use super::log::{IN_PROGRESS, Log, Options};
use super::scan;
use crate::paxos::types::NodeId;
use crate::text::{Blanks, ParseError, Tokens, write_token};
use std::fmt;
use std::fs::{File, TryLockError};
use std::io;
use std::path::PathBuf;

pub(super) const IDENTITY: &str = "identity";
const LOCK: &str = "lock";
const FORMAT: &str = "1";

/// Which server of which cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The name of the cluster.
    pub cluster: String,
    /// The server.
    pub id: NodeId,
    /// All servers of the cluster, this one included.
    pub members: Vec<NodeId>,
}

impl Identity {
    /// The same with its members in order and each once.
    fn in_order(mut self) -> Self {
        self.members.sort_unstable();
        self.members.dedup();
        self
    }

    fn text(&self) -> Vec<u8> {
        let mut text = format!("quince {FORMAT}\ncluster ").into_bytes();
        write_token(&mut text, self.cluster.as_bytes(), Blanks::None);
        text.extend_from_slice(format!("\nid {}\nmembers", self.id).as_bytes());
        for member in &self.members {
            text.extend_from_slice(format!(" {member}").as_bytes());
        }
        text.push(b'\n');
        text
    }

    fn parse(text: &[u8]) -> Result<Self, ParseError> {
        let mut lines = text.split(|&b| b == b'\n');
        let mut line = |word: &'static str| {
            let line = lines.next().ok_or_else(|| ParseError::at_end(word))?;
            let mut tokens = Tokens::new(line);
            match tokens.need(word)? {
                found if *found == *word.as_bytes() => Ok(tokens),
                found => Err(ParseError::at(word, &found)),
            }
        };
        let mut tokens = line("quince")?;
        let version = tokens.need("a format version")?;
        if *version != *FORMAT.as_bytes() {
            return Err(ParseError::at(format!("format version {FORMAT}"), &version));
        }
        tokens.end()?;
        let mut tokens = line("cluster")?;
        let name = tokens.need("a cluster name")?.into_owned();
        let cluster = String::from_utf8(name)
            .map_err(|error| ParseError::at("a cluster name in UTF-8", error.as_bytes()))?;
        tokens.end()?;
        let mut tokens = line("id")?;
        let id = tokens.parse("a node such as n2")?;
        tokens.end()?;
        let mut tokens = line("members")?;
        let mut members = vec![tokens.parse("a node such as n2")?];
        while !tokens.rest().is_empty() {
            members.push(tokens.parse("a node such as n2")?);
        }
        Ok(Self {
            cluster,
            id,
            members,
        })
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of cluster {:?} with", self.id, self.cluster)?;
        self.members.iter().try_for_each(|m| write!(f, " {m}"))
    }
}

/// Why a server cannot have this directory.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// The file system refused.
    #[error("cannot {action} {path}: {error}")]
    Io {
        /// What was tried, a verb.
        action: &'static str,
        /// On what.
        path: String,
        /// What the system says.
        error: io::Error,
    },
    /// Another process has the lock (P43).
    #[error("cannot lock {path}: is server {} already running?", id.number())]
    InUse {
        /// The directory.
        path: String,
        /// The server that wanted it.
        id: NodeId,
    },
    /// It belongs to another server (P43).
    #[error(
        "{path} belongs to {found}; expected {wanted}: give each server a directory of its own"
    )]
    OtherServer {
        /// The directory.
        path: String,
        /// Whose it is.
        found: Box<Identity>,
        /// Who wanted it.
        wanted: Box<Identity>,
    },
    /// It holds other things. Nothing was touched.
    #[error(
        "{path} is not a data directory of quince: it has {file:?} but no identity; expected an empty or \
         a new directory"
    )]
    NotQuince {
        /// The directory.
        path: String,
        /// The first thing there that is not ours.
        file: String,
    },
    /// The file `identity` cannot be read.
    #[error("{path}: {error}; was it edited, or written by a newer version of quince?")]
    Identity {
        /// The file.
        path: String,
        /// What was expected, what was found.
        error: ParseError,
    },
    /// The server is none of the members.
    #[error("{0} does not list itself: expected {n} among the members", n = .0.id)]
    NotAMember(Box<Identity>),
    /// The log cannot be read or made.
    #[error(transparent)]
    Log(#[from] LogError),
}

/// The directory of a running server, locked until this is dropped.
#[derive(Debug)]
pub struct Home {
    dir: FsDir,
    identity: Identity,
    /// Held for its lock, which the system takes back even from a killed process.
    _lock: File,
}

impl Home {
    /// Opens the directory at `path` for this server; makes it, and an empty log in it, if it is
    /// missing or empty. A log that is made has segments of this size from the first on.
    pub fn open(
        path: impl Into<PathBuf>,
        identity: Identity,
        log_options: &Options,
    ) -> Result<Self, HomeError> {
        let path = path.into();
        let shown = path.display().to_string();
        let identity = identity.in_order();
        if !identity.members.contains(&identity.id) {
            return Err(HomeError::NotAMember(Box::new(identity)));
        }
        let dir = FsDir::create(path).map_err(io_error("create", &shown))?;
        // Before the lock, which leaves a file, and again behind it, when nobody else changes things.
        look(&dir, &shown)?;
        let lock = take_lock(&dir, &shown, identity.id)?;
        claim(&dir, &shown, &identity, log_options)?;
        Ok(Self {
            dir,
            identity,
            _lock: lock,
        })
    }

    /// The directory, for the log.
    pub fn dir(&self) -> &FsDir {
        &self.dir
    }

    /// Whose it is; the members in order.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }
}

fn io_error(action: &'static str, path: &str) -> impl FnOnce(io::Error) -> HomeError {
    let path = path.to_owned();
    move |error| HomeError::Io {
        action,
        path,
        error,
    }
}

fn take_lock(dir: &FsDir, shown: &str, id: NodeId) -> Result<File, HomeError> {
    let lock = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(dir.path().join(LOCK))
        .map_err(io_error("open", &dir.path_of(LOCK)))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(HomeError::InUse {
            path: shown.into(),
            id,
        }),
        Err(TryLockError::Error(error)) => Err(io_error("lock", &dir.path_of(LOCK))(error)),
    }
}

/// What a directory is.
#[derive(Debug, PartialEq, Eq)]
enum State {
    /// Has an identity.
    Made,
    /// Has a whole, empty log but no identity yet.
    LogMade,
    /// Has nothing that matters.
    Empty,
}

fn look<D: Dir>(dir: &D, shown: &str) -> Result<State, HomeError> {
    let names = dir.list().map_err(io_error("list", shown))?;
    if names.iter().any(|name| name == IDENTITY) {
        return Ok(State::Made);
    }
    let first = scan::segment_name(1);
    let unfinished = format!("{IDENTITY}{UNFINISHED}");
    let ours =
        |name: &str| [LOCK, &first, &unfinished].contains(&name) || IN_PROGRESS.contains(&name);
    let not_quince = |file: &str| HomeError::NotQuince {
        path: shown.into(),
        file: file.into(),
    };
    if let Some(other) = names.iter().find(|name| !ours(name)) {
        return Err(not_quince(other));
    }
    if !names.contains(&first) {
        return Ok(State::Empty);
    }
    // A log with records had an identity once: without it nobody knows whose votes they are.
    let mut records = 0;
    let end = scan::scan(dir, &mut |entry| {
        records += usize::from(entry.body.record().is_some());
        Ok(())
    })?;
    if records > 0 || end.torn_bytes > 0 || !end.gaps.is_empty() {
        return Err(not_quince(&first));
    }
    Ok(State::LogMade)
}

/// Makes the directory this server's, or sees that it is.
fn claim<D: Dir>(
    dir: &D,
    shown: &str,
    identity: &Identity,
    log_options: &Options,
) -> Result<(), HomeError> {
    match look(dir, shown)? {
        State::Made => return check(dir, shown, identity),
        State::LogMade => dir.sync_names().map_err(io_error("sync", shown))?,
        State::Empty => Log::create(dir, log_options)?,
    }
    write_whole(dir, IDENTITY, &identity.text()).map_err(io_error("write", &dir.path_of(IDENTITY)))
}

fn check<D: Dir>(dir: &D, shown: &str, wanted: &Identity) -> Result<(), HomeError> {
    let path = dir.path_of(IDENTITY);
    let text = dir.read(IDENTITY).map_err(io_error("read", &path))?;
    let found = Identity::parse(&text).map_err(|error| HomeError::Identity { path, error })?;
    if found != *wanted {
        return Err(HomeError::OtherServer {
            path: shown.into(),
            found: Box::new(found),
            wanted: Box::new(wanted.clone()),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::mem::MemDir;
    use super::*;
    use crate::paxos::record::Record;
    use std::fs;
    use std::path::Path;

    fn node(number: u8) -> NodeId {
        NodeId::new(number).unwrap()
    }

    fn identity(cluster: &str, id: u8, members: &[u8]) -> Identity {
        Identity {
            cluster: cluster.into(),
            id: node(id),
            members: members.iter().map(|&n| node(n)).collect(),
        }
    }

    fn open(path: &Path, identity: Identity) -> Result<Home, HomeError> {
        Home::open(path, identity, &Options::default())
    }

    fn claim(dir: &MemDir, identity: &Identity) -> Result<(), HomeError> {
        super::claim(dir, "data/2", identity, &Options::default())
    }

    fn two() -> Identity {
        identity("fruit", 2, &[1, 2, 3])
    }

    /// The refusal, with the path of the directory replaced by `data/2`.
    fn refusal(path: &Path, identity: Identity) -> String {
        let error = open(path, identity).unwrap_err().to_string();
        error.replace(&path.display().to_string(), "data/2")
    }

    #[test]
    fn a_new_home_has_an_identity_and_an_empty_log() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("data/2");
        for _ in 0..2 {
            let home = open(&path, two()).unwrap();
            assert_eq!(home.identity(), &two());
            assert_eq!(
                home.dir().list().unwrap(),
                ["identity", "lock", "log-00000001"]
            );
            let (_, recovery) = Log::open(home.dir().clone(), Options::default()).unwrap();
            assert_eq!(recovery.records, []);
        }
        assert_eq!(
            fs::read_to_string(path.join("identity")).unwrap(),
            "quince 1\ncluster fruit\nid n2\nmembers n1 n2 n3\n"
        );
    }

    #[test]
    fn a_cluster_may_have_any_name_and_its_members_any_order() {
        for name in ["a b", "", "\"", "Öl & \\n", "x\ny"] {
            let temp = tempfile::tempdir().unwrap();
            for members in [&[1, 2, 3][..], &[3, 2, 1], &[2, 2, 1, 3]] {
                let home = open(temp.path(), identity(name, 2, members)).unwrap();
                assert_eq!(home.identity(), &identity(name, 2, &[1, 2, 3]));
            }
        }
    }

    /// P43.
    #[test]
    fn a_home_in_use_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        let home = open(temp.path(), two()).unwrap();
        assert_eq!(
            refusal(temp.path(), two()),
            "cannot lock data/2: is server 2 already running?"
        );
        drop(home);
        open(temp.path(), two()).unwrap();
    }

    /// P43.
    #[test]
    fn the_home_of_another_server_cluster_or_member_set_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        open(temp.path(), two()).unwrap();
        for other in [
            identity("fruit", 1, &[1, 2, 3]),
            identity("fruits", 2, &[1, 2, 3]),
            identity("fruit", 2, &[1, 2, 3, 4, 5]),
        ] {
            assert_eq!(
                refusal(temp.path(), other.clone()),
                format!(
                    "data/2 belongs to n2 of cluster \"fruit\" with n1 n2 n3; expected {other}: give \
                     each server a directory of its own"
                )
            );
        }
        assert_eq!(
            refusal(temp.path(), identity("fruit", 4, &[1, 2, 3])),
            "n4 of cluster \"fruit\" with n1 n2 n3 does not list itself: expected n4 among the members"
        );
    }

    #[test]
    fn a_directory_of_something_else_is_refused_and_not_touched() {
        for names in [&["notes.txt"][..], &["lock", "src"], &["log-00000002"]] {
            let temp = tempfile::tempdir().unwrap();
            for name in names {
                fs::write(temp.path().join(name), "mine").unwrap();
            }
            let other = names.last().unwrap();
            assert_eq!(
                refusal(temp.path(), two()),
                format!(
                    "data/2 is not a data directory of quince: it has \"{other}\" but no identity; \
                     expected an empty or a new directory"
                )
            );
            assert_eq!(FsDir::open(temp.path()).unwrap().list().unwrap(), names);
        }
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("file");
        fs::write(&file, "mine").unwrap();
        assert_eq!(
            refusal(&file, two()),
            "cannot create data/2: not a directory"
        );
    }

    /// P41: a server without its log has forgotten its votes, and its new log knows.
    #[test]
    fn a_home_without_its_log_opens_as_one_that_has_lost_its_memory() {
        let temp = tempfile::tempdir().unwrap();
        open(temp.path(), two()).unwrap();
        fs::remove_file(temp.path().join("log-00000001")).unwrap();
        let home = open(temp.path(), two()).unwrap();
        let (_, recovery) = Log::open(home.dir().clone(), Options::default()).unwrap();
        assert_eq!(recovery.records, [Record::Lost]);
        let error = recovery.damage[0].to_string();
        let error = error.replace(&temp.path().join("").display().to_string(), "data/2");
        let expected = "data/2: the log is gone: expected a file such as log-00000001; votes of";
        assert!(error.starts_with(expected), "{error}");
        let (_, again) = Log::open(home.dir().clone(), Options::default()).unwrap();
        assert_eq!((again.records, again.damage), (vec![Record::Lost], vec![]));
    }

    /// P41: nobody knows whose votes a log without identity holds.
    #[test]
    fn a_log_with_records_but_no_identity_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        let home = open(temp.path(), two()).unwrap();
        let (mut log, _) = Log::open(home.dir().clone(), Options::default()).unwrap();
        log.append(&[Record::Start(1)]).unwrap();
        log.commit().unwrap();
        drop((log, home));
        fs::remove_file(temp.path().join("identity")).unwrap();
        let error = refusal(temp.path(), two());
        assert!(
            error.contains("it has \"log-00000001\" but no identity"),
            "{error}"
        );
    }

    /// P41: no crash of the making leaves these; they are of a server that has run, or of none.
    #[test]
    fn a_log_that_is_not_whole_and_empty_is_refused_without_an_identity() {
        let made = MemDir::new();
        Log::create(&made, &Options::default()).unwrap();
        let first = scan::segment_name(1);
        let sound = made.read(&first).unwrap();
        let end = 1 + sound.iter().rposition(|&b| b == b'\n').unwrap();
        for at in [0, end - 1, end, sound.len() - 1] {
            let dir = made.fork();
            let mut bytes = sound.clone();
            bytes[at] ^= 1;
            dir.put_file(&first, &bytes);
            let refused = claim(&dir, &two());
            assert!(matches!(refused, Err(HomeError::NotQuince { .. })), "{at}");
            assert_eq!(dir.read(&first).unwrap(), bytes);
        }
        claim(&made, &two()).unwrap();
    }

    #[test]
    fn an_identity_that_cannot_be_read_is_refused() {
        let good = String::from_utf8(two().text()).unwrap();
        let temp = tempfile::tempdir().unwrap();
        open(temp.path(), two()).unwrap();
        for (from, to, error) in [
            (
                "quince 1",
                "quince 2",
                "expected format version 1, found \"2\"",
            ),
            ("quince 1", "pear 1", "expected quince, found \"pear\""),
            ("n2\n", "2\n", "expected a node such as n2, found \"2\""),
            (
                "\nmembers n1 n2 n3\n",
                "",
                "expected members, found the end of the line",
            ),
        ] {
            fs::write(temp.path().join("identity"), good.replace(from, to)).unwrap();
            assert_eq!(
                refusal(temp.path(), two()),
                format!(
                    "data/2/identity: {error}; was it edited, or written by a newer version of quince?"
                )
            );
        }
    }

    /// P41, P42: whatever a crash leaves, the next start finishes it, wherever that one crashes; an
    /// identity never stands alone.
    #[test]
    fn a_crash_at_any_step_of_the_making_is_finished_by_the_next_start() {
        let mut restarts = 0;
        for_each_crash(&MemDir::with_sector(64), &mut |once| {
            for_each_crash(once, &mut |twice| {
                claim(twice, &two()).unwrap();
                assert_eq!(look(twice, "data/2").unwrap(), State::Made);
                Log::open(twice.after_crash(0, |_| false), Options::default()).unwrap();
                restarts += 1;
            });
        });
        assert!(restarts > 100, "{restarts} restarts");
    }

    fn for_each_crash(dir: &MemDir, then: &mut dyn FnMut(&MemDir)) {
        let small = Options::for_log_of(4_000);
        for failing in 1.. {
            let dir = dir.fork();
            dir.fail_step(failing);
            let done = super::claim(&dir, "data/2", &two(), &small).is_ok();
            then(&dir.fork());
            for names in 0..=dir.unsynced_names() {
                for kept in 0..=dir.unsynced_writes() {
                    then(&dir.after_crash(names, |n| n < kept));
                }
            }
            if done {
                break;
            }
        }
    }

    #[test]
    fn the_first_segment_is_as_large_as_the_log_asks_for() {
        let small = Options::for_log_of(1 << 20);
        for options in [small, Options::default()] {
            let temp = tempfile::tempdir().unwrap();
            let home = Home::open(temp.path().join("data/2"), two(), &options).unwrap();
            let first = home.dir().bytes_of(&scan::segment_name(1)).unwrap();
            assert_eq!(first, options.first_segment_bytes);
        }
        assert_eq!(small.first_segment_bytes, 128 << 10);
    }
}
