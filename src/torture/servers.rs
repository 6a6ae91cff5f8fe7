//! The servers under torture: real processes of this very program, each behind links of its own.
//!
//! They are children in process groups of their own, so that a Ctrl-C at the terminal reaches the
//! torture alone, which then ends them. Dropping the servers kills them all. (Only a SIGKILL of the
//! torture itself leaves them running.)
//!
//! Signals are sent with `rustix`: std can kill a child, and neither freeze nor stop it. A process
//! that is frozen is waited for until the system says that it has stopped: so a freeze that is
//! counted did take place.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Seek as _, SeekFrom};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

use super::links::Links;
use crate::paxos::types::NodeId;

/// How long a server may wait for a majority before it refuses: short, so that clients of a cut-off
/// server turn to others within a wave.
const DEADLINE: &str = "3s";

/// A server that is asked to stop ends within this time.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// The system freezes a process within this time.
const FREEZE_WITHIN: Duration = Duration::from_secs(5);

/// Between two looks at a process.
const LOOK: Duration = Duration::from_millis(2);

/// Ports are taken in blocks: one to hold the block, then two a server.
const BLOCK_PORTS: u16 = 20;

/// The first port of the first block, and the end of the last: below those that systems hand out for
/// connections, so that the port of a server that is down is not taken by a client.
const PORTS: std::ops::Range<u16> = 10_000..30_000;

/// The bound of each server's log in MiB: the least there is, so that in minutes snapshots are taken,
/// logs are trimmed, and those who missed much are sent the state.
const LOG_MIB: &str = "1";

/// What a server logs for each snapshot that it has written.
const SNAPSHOT_WRITTEN: &str = "wrote a snapshot of ";

/// What a server logs for each snapshot that it was sent.
const SNAPSHOT_FETCHED: &str = "the snapshot is here";

/// Alarms that are shown; one is enough to fail.
const ALARMS_MAX: usize = 5;

/// What every server is started with.
#[derive(Debug)]
struct Common {
    program: PathBuf,
    place: PathBuf,
    seed: u64,
    links: Links,
}

/// One server, running or not.
#[derive(Debug)]
pub(super) struct Server {
    id: NodeId,
    /// Where clients find it.
    address: SocketAddr,
    /// Where its peers find it.
    peer_address: SocketAddr,
    child: Option<Child>,
    frozen: bool,
}

/// All servers of a cluster.
#[derive(Debug)]
pub(super) struct Servers {
    common: Common,
    by_id: BTreeMap<NodeId, Server>,
    /// Says to others on this machine that the block of ports is taken.
    _block: TcpListener,
}

impl Servers {
    /// So many servers, none of which runs yet, with their directories and logs in `place`.
    pub(super) fn new(size: u8, place: &Path, seed: u64) -> io::Result<Self> {
        let program = std::env::current_exe()?;
        let (block, first) = free_block(size)?;
        let address = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut servers = BTreeMap::new();
        let mut targets = BTreeMap::new();
        for number in 1..=size {
            let id = NodeId::new(number).expect("nine servers at most");
            let port = first + 2 * u16::from(number);
            targets.insert(id, address(port));
            let server = Server {
                id,
                address: address(port - 1),
                peer_address: address(port),
                child: None,
                frozen: false,
            };
            servers.insert(id, server);
        }
        let common = Common {
            program,
            place: place.to_owned(),
            seed,
            links: Links::between(targets)?,
        };
        Ok(Self {
            common,
            by_id: servers,
            _block: block,
        })
    }

    /// The links between them.
    pub(super) fn links(&self) -> &Links {
        &self.common.links
    }

    /// Who they are, in order.
    pub(super) fn members(&self) -> Vec<NodeId> {
        self.by_id.keys().copied().collect()
    }

    /// Where clients find them, in order.
    pub(super) fn addresses(&self) -> Vec<String> {
        let all = self.by_id.values();
        all.map(|server| server.address.to_string()).collect()
    }

    /// Where clients find one.
    pub(super) fn address(&self, id: NodeId) -> String {
        self.by_id[&id].address.to_string()
    }

    fn server(&mut self, id: NodeId) -> &mut Server {
        self.by_id.get_mut(&id).expect("one of the servers")
    }

    /// Whether it runs, frozen or not.
    pub(super) fn is_up(&self, id: NodeId) -> bool {
        self.by_id[&id].child.is_some()
    }

    /// Whether it is frozen.
    pub(super) fn is_frozen(&self, id: NodeId) -> bool {
        self.by_id[&id].frozen
    }

    /// Which process it is, if it runs: another one after each start.
    pub(super) fn process(&self, id: NodeId) -> Option<u32> {
        self.by_id[&id].child.as_ref().map(Child::id)
    }

    /// Starts a server that is down, and does not wait for it.
    pub(super) fn start(&mut self, id: NodeId) -> Result<(), String> {
        assert!(!self.is_up(id), "{id} runs already");
        let server = &self.by_id[&id];
        let child = self
            .common
            .command(server)
            .and_then(|mut command| command.spawn());
        let child = child.map_err(|error| format!("cannot start {id}: {error}"))?;
        self.server(id).child = Some(child);
        Ok(())
    }

    /// kill -9, of servers that are up, as fast as it goes; returns when they are gone.
    pub(super) fn kill(&mut self, ids: &[NodeId]) -> Result<(), String> {
        for &id in ids {
            let child = self.server(id).child.as_mut().expect("it is up");
            let killed = child.kill();
            killed.map_err(|error| format!("cannot kill {id}: {error}"))?;
        }
        for &id in ids {
            let server = self.server(id);
            server.frozen = false;
            let waited = server.child.take().expect("it is up").wait();
            let status = waited.map_err(|error| format!("cannot wait for {id}: {error}"))?;
            if status.signal() != Some(Signal::KILL.as_raw()) {
                return Err(self.common.ended_badly(id, status));
            }
        }
        Ok(())
    }

    /// Freezes a server that is up and not frozen; returns when it is.
    pub(super) fn freeze(&mut self, id: NodeId) -> Result<(), String> {
        let pid = self.signal(id, Signal::STOP)?;
        self.server(id).frozen = true;
        let by = Instant::now() + FREEZE_WITHIN;
        let look = WaitIdOptions::STOPPED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        while Instant::now() < by {
            match waitid(WaitId::Pid(pid), look) {
                Ok(Some(_)) => return Ok(()),
                Ok(None) => thread::sleep(LOOK),
                Err(error) => return Err(format!("cannot wait for {id}: {error}")),
            }
        }
        Err(format!("{id} does not freeze within {FREEZE_WITHIN:?}"))
    }

    /// Lets a frozen server go on.
    pub(super) fn thaw(&mut self, id: NodeId) -> Result<(), String> {
        self.signal(id, Signal::CONT)?;
        self.server(id).frozen = false;
        Ok(())
    }

    fn signal(&mut self, id: NodeId, signal: Signal) -> Result<Pid, String> {
        let child = self.by_id[&id].child.as_ref().expect("it is up");
        let pid = Pid::from_child(child);
        let sent = kill_process(pid, signal);
        sent.map_err(|error| format!("cannot send {signal:?} to {id}: {error}"))?;
        Ok(pid)
    }

    /// Asks a server that is up and not frozen to stop, and waits until it has, with exit code 0.
    pub(super) fn stop(&mut self, id: NodeId) -> Result<(), String> {
        self.signal(id, Signal::TERM)?;
        let by = Instant::now() + STOP_WITHIN;
        while Instant::now() < by {
            if let Some(status) = self.ended(id)? {
                self.server(id).child = None;
                return match status.code() {
                    Some(0) => Ok(()),
                    _ => Err(self.common.ended_badly(id, status)),
                };
            }
            thread::sleep(LOOK);
        }
        Err(format!(
            "{id} does not stop within {STOP_WITHIN:?} of SIGTERM"
        ))
    }

    fn ended(&mut self, id: NodeId) -> Result<Option<ExitStatus>, String> {
        let child = self.server(id).child.as_mut().expect("it was started");
        let status = child.try_wait();
        status.map_err(|error| format!("cannot look after {id}: {error}"))
    }

    /// Fails if a server has ended that nobody ended.
    pub(super) fn look_after(&mut self) -> Result<(), String> {
        for id in self.members() {
            if self.is_up(id)
                && let Some(status) = self.ended(id)?
            {
                self.server(id).child = None;
                return Err(self.common.ended_badly(id, status));
            }
        }
        Ok(())
    }

    /// Where a server keeps what it must not forget.
    pub(super) fn data(&self, id: NodeId) -> PathBuf {
        self.common.data(id)
    }

    /// How long the log of a server is, in bytes.
    pub(super) fn log_bytes(&self, id: NodeId) -> u64 {
        fs::metadata(self.common.log(id)).map_or(0, |log| log.len())
    }

    /// Whether a server has logged these words since its log was so long.
    pub(super) fn said_since(&self, id: NodeId, bytes: u64, words: &str) -> Result<bool, String> {
        let lines = self.common.lines(id, bytes);
        let mut lines = lines.map_err(|error| format!("cannot read the log of {id}: {error}"))?;
        Ok(lines.any(|line| line.contains(words)))
    }

    /// The lines of errors in the logs: a server that is well logs none, whatever is done to it.
    pub(super) fn alarms(&self) -> Vec<String> {
        let mut alarms = Vec::new();
        for id in self.members() {
            let errors = self.common.lines(id, 0).into_iter().flatten();
            let errors = errors.filter(|line| line.contains(" ERROR "));
            alarms.extend(errors.map(|line| format!("{id}: {line}")));
        }
        alarms.truncate(ALARMS_MAX);
        alarms
    }

    /// How many snapshots all servers have written, and how many they were sent.
    pub(super) fn snapshots(&self) -> (u64, u64) {
        let members = self.members().into_iter();
        let lines = members.flat_map(|id| self.common.lines(id, 0).into_iter().flatten());
        lines.fold((0, 0), |(written, fetched), line| {
            (
                written + u64::from(line.contains(SNAPSHOT_WRITTEN)),
                fetched + u64::from(line.contains(SNAPSHOT_FETCHED)),
            )
        })
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        for child in self.by_id.values_mut().filter_map(|s| s.child.as_mut()) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Common {
    fn data(&self, id: NodeId) -> PathBuf {
        self.place.join(format!("data-{}", id.number()))
    }

    fn log(&self, id: NodeId) -> PathBuf {
        self.place.join(format!("server-{}.log", id.number()))
    }

    /// The lines of a server's log behind so many bytes.
    fn lines(&self, id: NodeId, bytes: u64) -> io::Result<impl Iterator<Item = String> + use<>> {
        let mut log = File::open(self.log(id))?;
        log.seek(SeekFrom::Start(bytes))?;
        let lines = BufReader::new(log).split(b'\n').map_while(Result::ok);
        Ok(lines.map(|line| String::from_utf8_lossy(&line).into_owned()))
    }

    /// Where its standard error goes: the last words of all its lives.
    fn words(&self, id: NodeId) -> PathBuf {
        self.place.join(format!("server-{}.err", id.number()))
    }

    fn command(&self, server: &Server) -> io::Result<Command> {
        let id = server.id;
        // Each its own, or all would roll the same dice.
        let seed = self.seed.wrapping_add(id.number().into());
        let mut words = File::options();
        let words = words.create(true).append(true).open(self.words(id))?;
        let mut command = Command::new(&self.program);
        command
            .args(["server", "--cluster", "torture", "--allow-fail"])
            .args(["--deadline", DEADLINE, "--id", &id.number().to_string()])
            .args(["--peers", &self.links.peers_of(id)])
            .args(["--peer-listen", &server.peer_address.to_string()])
            .args(["--listen", &server.address.to_string()])
            .args(["--seed", &seed.to_string()])
            .args(["--log-mib", LOG_MIB])
            .arg("--data")
            .arg(self.data(id))
            .arg("--log-file")
            .arg(self.log(id))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(words)
            .process_group(0);
        Ok(command)
    }

    fn ended_badly(&self, id: NodeId, status: ExitStatus) -> String {
        let words = fs::read_to_string(self.words(id)).unwrap_or_default();
        let last = words.lines().last().unwrap_or("without a word");
        format!("{id} ended by itself ({status}): {last}")
    }
}

/// A block of ports that nobody else has; its first one is held for as long as it is needed.
fn free_block(size: u8) -> io::Result<(TcpListener, u16)> {
    assert!(2 * u16::from(size) < BLOCK_PORTS, "two ports a server");
    let blocks = PORTS.len() / usize::from(BLOCK_PORTS);
    // Processes that start together look at different places first.
    let begin = std::process::id() as usize % blocks;
    let firsts = PORTS.step_by(BLOCK_PORTS.into());
    for first in firsts.clone().skip(begin).chain(firsts.take(begin)) {
        let listen = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
        let Ok(block) = listen(first) else { continue };
        if (first + 1..first + BLOCK_PORTS).all(|port| listen(port).is_ok()) {
            return Ok((block, first));
        }
    }
    let text = "no block of free ports on loopback";
    Err(io::Error::new(io::ErrorKind::AddrNotAvailable, text))
}
