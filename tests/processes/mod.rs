//! Clusters of real server processes that a test starts, kills, freezes and talks to.
//!
//! Each test process has a loopback address of its own, made of its process id, and each cluster in
//! it has ports of its own: so clusters never meet, however many tests run at once. (Linux answers
//! to every address of 127/8.) All children are killed when their cluster is dropped; if a test
//! fails, the end of each server's log is printed and the data is kept.

#![allow(dead_code, reason = "each test uses the part that it needs")]
#![allow(
    clippy::disallowed_methods,
    reason = "real processes are waited for by a real clock, and talked to by sockets"
)]

pub(crate) mod judged;
pub(crate) mod load;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use quince::paxos::types::NodeId;
use quince::torture::link::Link;
use quince::torture::links::Links;
use tempfile::TempDir;

/// No condition takes so long unless it never comes, on however busy a machine.
pub(crate) const LIMIT: Duration = Duration::from_mins(1);

/// Between two looks at a condition.
const LOOK: Duration = Duration::from_millis(5);

/// How many lines of a log a failed test shows.
const TAIL_LINES: usize = 40;

/// A script of requests and their replies.
pub(crate) struct Script {
    began: Instant,
}

impl Script {
    pub(crate) fn begin() -> Self {
        let began = Instant::now();
        Self { began }
    }

    /// Whether a reply is as written. What ends in `~100` is a time that is left, in seconds: as much, or less
    /// by what has passed since the script began.
    pub(crate) fn agrees(&self, reply: &str, written: &str) -> bool {
        let Some((before, most)) = written.split_once('~') else {
            return reply == written;
        };
        let most: u64 = most.parse().expect("a number after the ~");
        let least = most - self.began.elapsed().as_secs() - 1;
        let left = reply
            .strip_prefix(before)
            .and_then(|left| left.parse().ok());
        left.is_some_and(|left: u64| (least..=most).contains(&left))
    }
}

/// Waits until `look` finds something.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let by = Instant::now() + LIMIT;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < by, "waited {LIMIT:?} in vain until {what}");
        thread::sleep(LOOK);
    }
}

/// Tests that keep both cores busy hold this, so that they run one after another.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock()
}

/// The loopback address of this test process.
pub(crate) fn host() -> String {
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    format!("127.{}.{middle}.{low}", 16 + high)
}

/// The program, away from the environment of whoever runs the tests.
pub(crate) fn quince<S: AsRef<std::ffi::OsStr>>(args: &[S]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quince"));
    command.args(args).env_remove("QUINCE_SERVERS");
    command.stdin(Stdio::null());
    command
}

/// Exit code, standard output, standard error.
pub(crate) fn told(output: Output) -> (i32, String, String) {
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (
        output.status.code().expect("an exit code"),
        text(output.stdout),
        text(output.stderr),
    )
}

/// Runs the program to its end.
pub(crate) fn run<S: AsRef<std::ffi::OsStr>>(args: &[S]) -> (i32, String, String) {
    told(quince(args).output().expect("quince starts"))
}

/// The servers `n1` to `nX`, started or not.
pub(crate) struct Cluster {
    place: Option<TempDir>,
    host: String,
    port: u16,
    flags: Vec<String>,
    /// A proxy between each two servers, if there are any.
    links: Option<Links>,
    children: Vec<Option<Child>>,
}

/// The server with this number.
pub(crate) fn node(server: u8) -> NodeId {
    NodeId::new(server).expect("1 to 9")
}

impl Cluster {
    /// A cluster of which nothing runs yet. `flags` go to every server.
    pub(crate) fn new(size: u8, flags: &[&str]) -> Self {
        static CLUSTERS: AtomicU16 = AtomicU16::new(0);
        let port = 7_000 + 20 * CLUSTERS.fetch_add(1, Ordering::Relaxed);
        assert!(port < 32_000, "ports below those that the system hands out");
        Self {
            place: Some(tempfile::tempdir().expect("a directory")),
            host: host(),
            port,
            flags: flags.iter().map(|&flag| flag.into()).collect(),
            links: None,
            children: (0..size).map(|_| None).collect(),
        }
    }

    /// A cluster that serves, with a proxy between each two servers.
    pub(crate) fn start_behind_links(size: u8, flags: &[&str]) -> Self {
        let mut cluster = Self::new(size, flags);
        let target = |&n: &u8| {
            (
                node(n),
                cluster.peer_address(n).parse().expect("an address"),
            )
        };
        let targets = cluster.servers().iter().map(target).collect();
        cluster.links = Some(Links::between(targets).expect("free ports"));
        cluster.spawn_all(&cluster.servers());
        cluster.until_led();
        cluster
    }

    /// The links of a cluster that has some.
    pub(crate) fn links(&self) -> &Links {
        self.links.as_ref().expect("a cluster behind links")
    }

    /// The link that one server sends on to another.
    pub(crate) fn link(&self, from: u8, to: u8) -> &Link {
        self.links().link((node(from), node(to)))
    }

    /// A cluster that serves.
    pub(crate) fn start(size: u8, flags: &[&str]) -> Self {
        let mut cluster = Self::new(size, flags);
        for server in cluster.servers() {
            cluster.spawn(server);
        }
        cluster.until_led();
        cluster
    }

    /// The numbers of all servers.
    pub(crate) fn servers(&self) -> Vec<u8> {
        (1..=u8::try_from(self.children.len()).expect("few servers")).collect()
    }

    fn place(&self) -> &Path {
        self.place.as_ref().expect("until the end").path()
    }

    /// Where clients find a server.
    pub(crate) fn address(&self, server: u8) -> String {
        format!("{}:{}", self.host, self.port + u16::from(server))
    }

    /// Where its peers find it.
    pub(crate) fn peer_address(&self, server: u8) -> String {
        format!("{}:{}", self.host, self.port + 10 + u16::from(server))
    }

    /// Where clients find all servers.
    pub(crate) fn addresses(&self) -> Vec<String> {
        self.servers().iter().map(|&n| self.address(n)).collect()
    }

    /// The same as a value of `--servers`.
    pub(crate) fn list(&self) -> String {
        self.addresses().join(",")
    }

    /// What a server is told of the others.
    fn peers_of(&self, server: u8) -> String {
        let links = self.links.as_ref();
        links.map_or_else(|| self.peers(), |links| links.peers_of(node(server)))
    }

    /// The value of `--peers`.
    pub(crate) fn peers(&self) -> String {
        let peer = |&n: &u8| format!("{n}={}", self.peer_address(n));
        self.servers()
            .iter()
            .map(peer)
            .collect::<Vec<_>>()
            .join(",")
    }

    /// A server's data directory.
    pub(crate) fn data(&self, server: u8) -> PathBuf {
        self.place().join(format!("data-{server}"))
    }

    /// Moves a server's log away, as logrotate does.
    pub(crate) fn move_log(&self, server: u8, name: &str) {
        let moved = fs::rename(self.log_file(server), self.place().join(name));
        moved.expect("a log");
    }

    fn log_file(&self, server: u8) -> PathBuf {
        self.place().join(format!("server-{server}.log"))
    }

    /// Where the last words of a server go.
    fn error_file(&self, server: u8) -> PathBuf {
        self.place().join(format!("server-{server}.err"))
    }

    /// What a server has said on standard error in all its lives.
    pub(crate) fn errors(&self, server: u8) -> String {
        fs::read_to_string(self.error_file(server)).expect("text")
    }

    /// What a server has logged in all its lives.
    pub(crate) fn log(&self, server: u8) -> String {
        let bytes = fs::read(self.log_file(server)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The command that starts a server; flags of the cluster's come last.
    pub(crate) fn command(&self, server: u8) -> Command {
        let mut command = quince(&["server", "--id", &server.to_string()]);
        command
            .args(["--peers", &self.peers_of(server)])
            .args(["--listen", &self.address(server)])
            .arg("--data")
            .arg(self.data(server))
            .arg("--log-file")
            .arg(self.log_file(server))
            .args(&self.flags);
        command
    }

    /// Starts a server and does not wait for it.
    pub(crate) fn spawn(&mut self, server: u8) {
        let errors = fs::File::options()
            .create(true)
            .append(true)
            .open(self.error_file(server))
            .expect("a file for standard error");
        let child = self
            .command(server)
            .stdout(Stdio::null())
            .stderr(errors)
            .spawn()
            .expect("quince starts");
        let before = self.child(server).replace(child);
        assert!(before.is_none(), "n{server} runs already");
    }

    fn child(&mut self, server: u8) -> &mut Option<Child> {
        &mut self.children[usize::from(server) - 1]
    }

    /// The process of a running server.
    pub(crate) fn pid(&self, server: u8) -> u32 {
        let child = self.children[usize::from(server) - 1].as_ref();
        child.expect("it runs").id()
    }

    /// kill -9.
    pub(crate) fn kill(&mut self, server: u8) {
        let mut child = self.child(server).take().expect("it runs");
        child.kill().expect("a child may be killed");
        child.wait().expect("it is gone");
    }

    /// kill -9 of several, as fast as they can be killed.
    pub(crate) fn kill_all(&mut self, servers: &[u8]) {
        for &server in servers {
            self.kill(server);
        }
    }

    /// Starts several and does not wait for them.
    pub(crate) fn spawn_all(&mut self, servers: &[u8]) {
        for &server in servers {
            self.spawn(server);
        }
    }

    /// Sends a signal, by its name without SIG.
    pub(crate) fn signal(&self, server: u8, name: &str) {
        let pid = self.pid(server).to_string();
        let done = Command::new("kill").args(["-s", name, &pid]).status();
        assert!(done.expect("kill runs").success(), "kill -s {name} {pid}");
    }

    /// Waits until a server has ended by itself.
    pub(crate) fn until_ended(&mut self, server: u8) -> ExitStatus {
        let mut child = self.child(server).take().expect("it runs");
        until("the server ends", || child.try_wait().expect("a child"))
    }

    /// Whether a server that was started still runs.
    pub(crate) fn runs(&mut self, server: u8) -> bool {
        let child = self.child(server).as_mut();
        child.is_some_and(|child| child.try_wait().expect("a child").is_none())
    }

    fn running(&mut self) -> Vec<u8> {
        let all = self.servers();
        all.into_iter().filter(|&n| self.runs(n)).collect()
    }

    /// Stops every running server cleanly.
    pub(crate) fn stop(&mut self) {
        let running = self.running();
        for &server in &running {
            self.signal(server, "TERM");
        }
        for server in running {
            let status = self.until_ended(server);
            assert_eq!(status.code(), Some(0), "n{server} stops cleanly");
        }
    }

    /// A connection to a server, which must take it.
    pub(crate) fn open(&self, server: u8) -> Wire {
        Wire::open(&self.address(server)).expect("a running server takes connections")
    }

    /// One request on a connection of its own.
    pub(crate) fn ask(&self, server: u8, request: &str) -> String {
        self.open(server).ask(request)
    }

    /// The fields of a server's `STATUS`; none if it does not answer.
    pub(crate) fn status(&self, server: u8) -> Option<BTreeMap<String, String>> {
        Wire::open(&self.address(server)).ok()?.try_status()
    }

    /// The leader, once all running servers name the same.
    pub(crate) fn until_led(&mut self) -> u8 {
        let running = self.running();
        until("all running servers follow one leader", || {
            let mut leader = None;
            for &server in &running {
                let status = self.status(server)?;
                let named: u8 = status["leader"].strip_prefix('n')?.parse().ok()?;
                if !running.contains(&named) || *leader.get_or_insert(named) != named {
                    return None;
                }
            }
            leader
        })
    }

    /// Waits until all running servers have applied the same slots, with the same result. Only when
    /// nobody writes.
    pub(crate) fn until_agreed(&mut self) -> BTreeMap<String, String> {
        let running = self.running();
        until("all running servers have applied the same", || {
            let mut first: Option<BTreeMap<String, String>> = None;
            for &server in &running {
                let status = self.status(server)?;
                let first = first.get_or_insert_with(|| status.clone());
                for field in ["decided", "applied", "hash", "keys"] {
                    if status.get(field) != first.get(field) {
                        return None;
                    }
                }
                if status["decided"] != status["applied"] {
                    return None;
                }
            }
            first
        })
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for child in self.children.iter_mut().flatten() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if !thread::panicking() {
            return;
        }
        for server in self.servers() {
            let log = self.log(server);
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("--- the end of the log of n{server}:");
            for line in &lines[lines.len().saturating_sub(TAIL_LINES)..] {
                eprintln!("{line}");
            }
            eprint!(
                "{}",
                fs::read_to_string(self.error_file(server)).unwrap_or_default()
            );
        }
        if let Some(place) = self.place.take() {
            eprintln!("--- kept in {}", place.keep().display());
        }
    }
}

/// A connection of plain lines.
pub(crate) struct Wire {
    stream: TcpStream,
    lines: BufReader<TcpStream>,
}

impl Wire {
    /// Connects.
    pub(crate) fn open(address: &str) -> io::Result<Self> {
        let address: SocketAddr = address.parse().expect("an address");
        Self::of(TcpStream::connect_timeout(&address, LIMIT)?)
    }

    /// A connection that was made.
    pub(crate) fn of(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.set_write_timeout(Some(LIMIT))?;
        let lines = BufReader::new(stream.try_clone()?);
        Ok(Self { stream, lines })
    }

    /// The socket.
    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Sends bytes as they are.
    pub(crate) fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Sends bytes as they are.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes.as_ref())
            .expect("the server takes what is sent");
    }

    /// The next line without its LF; an error at the end of the stream.
    pub(crate) fn try_bytes(&mut self) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        self.lines.read_until(b'\n', &mut line)?;
        match line.pop() {
            Some(b'\n') => Ok(line),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// The next line as text; an error at the end of the stream.
    pub(crate) fn try_line(&mut self) -> io::Result<String> {
        let line = self.try_bytes()?;
        Ok(String::from_utf8(line).expect("replies are text"))
    }

    /// The next line.
    pub(crate) fn line(&mut self) -> String {
        self.try_line().expect("a line")
    }

    /// The next lines.
    pub(crate) fn lines(&mut self, count: usize) -> Vec<String> {
        (0..count).map(|_| self.line()).collect()
    }

    /// Sends a line, and reads one.
    pub(crate) fn try_ask(&mut self, request: &str) -> io::Result<String> {
        self.try_send(format!("{request}\n").as_bytes())?;
        self.try_line()
    }

    /// Sends a line, and reads one.
    pub(crate) fn ask(&mut self, request: impl AsRef<[u8]>) -> String {
        self.send([request.as_ref(), b"\n"].concat());
        self.line()
    }

    /// The fields of the server's `STATUS`; none if it does not answer.
    pub(crate) fn try_status(&mut self) -> Option<BTreeMap<String, String>> {
        self.try_send(b"STATUS\n").ok()?;
        let count: usize = self.try_line().ok()?.strip_prefix("COUNT ")?.parse().ok()?;
        let mut fields = BTreeMap::new();
        for _ in 0..count {
            let line = self.try_line().ok()?;
            let (field, value) = line.split_once(' ')?;
            let (field, value) = match value.split_once(' ') {
                Some((peer, state)) if field == "peer" => (format!("peer {peer}"), state),
                _ => (field.to_owned(), value),
            };
            fields.insert(field, value.to_owned());
        }
        Some(fields)
    }

    /// Asserts that the other end closed, and said nothing more.
    pub(crate) fn assert_closed(&mut self) {
        match self.try_line() {
            Ok(line) => panic!("expected the end of the connection, found {line:?}"),
            Err(error) => assert!(
                !matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                ),
                "the connection stays open"
            ),
        }
    }
}
