//! Programs of other people that a test runs against a server: where they are, how they are run, and a
//! Redis to run them against as well.
//!
//! `tests/redis/install.sh` installs them; a test that misses one says so and ends, unless `QUINCE_CLIENTS`
//! is `all`, as in `.ci/run`: there a test that was left out must not look like one that passed.
//!
//! | what | where it is looked for |
//! | --- | --- |
//! | `redis-cli`, `redis-benchmark`, `redis-server`, `script` | on the path |
//! | Python with redis-py | `QUINCE_PYTHON`, else `target/clients/venv`, else `python3` |
//! | node-redis, ioredis | `QUINCE_NODE_MODULES`, else `target/clients/node_modules` |
//! | Node.js | beside these packages, else on the path |

#![allow(dead_code, reason = "each test uses the part that it needs")]
#![allow(
    clippy::disallowed_methods,
    reason = "real processes are waited for by a real clock"
)]

pub(crate) mod redis_crate;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Seek as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tempfile::{NamedTempFile, TempDir};

use super::processes::{Cluster, host, until};

/// No program takes so long, on however busy a machine.
const PROGRAM_LIMIT: Duration = Duration::from_mins(5);

/// Between two looks whether a program has ended.
const LOOK: Duration = Duration::from_millis(5);

/// Where a program is to go: a server of Redis's or of Quince's.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) host: String,
    pub(crate) port: String,
}

impl Target {
    /// The clients' port of a server.
    pub(crate) fn of(cluster: &Cluster, server: u8) -> Self {
        let address = cluster.address(server);
        let (host, port) = address.split_once(':').expect("host and port");
        Self {
            host: host.to_owned(),
            port: port.to_owned(),
        }
    }

    /// As `HOST:PORT`.
    pub(crate) fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

/// A place below the repository.
fn below(place: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(place)
}

/// What an environment variable names, or the usual place.
fn place(variable: &str, usual: &str) -> PathBuf {
    std::env::var_os(variable).map_or_else(|| below(usual), PathBuf::from)
}

/// Says that tests are left out, once; fails where nothing may be left out.
pub(crate) fn skip(missing: &str) {
    static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    assert!(
        std::env::var_os("QUINCE_CLIENTS").is_none_or(|which| which != "all"),
        "{missing} is missing, and QUINCE_CLIENTS=all"
    );
    if SAID.lock().insert(missing.to_owned()) {
        // Not `eprintln`, of which nobody hears in a test that passes.
        let words = "is not installed (tests/redis/install.sh does it)";
        let _ = writeln!(io::stderr(), "skipped: {missing} {words}");
    }
}

/// Whether a command runs to a good end, whatever it says.
fn runs(command: &mut Command) -> bool {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null());
    let status = quiet.stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// A program on the path.
pub(crate) fn tool(name: &str) -> Option<Command> {
    if runs(Command::new(name).arg("--version")) {
        return Some(Command::new(name));
    }
    skip(name);
    None
}

/// A program of `tests/redis` in Python.
pub(crate) fn python(program: &str) -> Option<Command> {
    let mut python = place("QUINCE_PYTHON", "target/clients/venv/bin/python");
    if !python.exists() {
        python = "python3".into();
    }
    if !runs(Command::new(&python).args(["-c", "import redis"])) {
        skip("python3 with redis-py");
        return None;
    }
    let mut command = Command::new(python);
    command.arg(below("tests/redis").join(program));
    Some(command)
}

/// A program of `tests/redis` in JavaScript, which needs this package.
pub(crate) fn node(program: &str, package: &str) -> Option<Command> {
    let modules = place("QUINCE_NODE_MODULES", "target/clients/node_modules");
    let mut node = modules.join(".bin/node");
    if !node.exists() {
        node = "node".into();
    }
    if !runs(Command::new(&node).arg("--version")) || !modules.join(package).exists() {
        skip(&format!("node with {package}"));
        return None;
    }
    let mut command = Command::new(node);
    command.arg(below("tests/redis").join(program));
    // What Node.js tells of itself is no affair of the tests.
    command
        .env("NODE_PATH", modules)
        .env("NODE_NO_WARNINGS", "1");
    Some(command)
}

/// A program that runs. It is killed when this is dropped.
pub(crate) struct Running {
    child: Child,
    said: NamedTempFile,
    complained: NamedTempFile,
    since: Instant,
}

impl Running {
    /// Starts a program, which reads what is in the file.
    pub(crate) fn start(command: &mut Command, input: Stdio) -> Self {
        // Files, not pipes: nobody needs to read what is said while it is said.
        let file = || NamedTempFile::new().expect("a file");
        let handle = |file: &NamedTempFile| file.reopen().expect("a second handle");
        let (said, complained) = (file(), file());
        let child = command
            .stdin(input)
            .stdout(handle(&said))
            .stderr(handle(&complained))
            .spawn()
            .expect("it starts");
        Self {
            child,
            said,
            complained,
            since: Instant::now(),
        }
    }

    /// Whether it has not ended yet.
    pub(crate) fn goes_on(&mut self) -> bool {
        self.status().is_none()
    }

    fn status(&mut self) -> Option<ExitStatus> {
        assert!(
            self.since.elapsed() < PROGRAM_LIMIT,
            "it does not end; it said:\n{}{}",
            read(&self.said),
            read(&self.complained)
        );
        self.child.try_wait().expect("a child")
    }

    /// Ends its standard input, if it was started with a pipe.
    pub(crate) fn end_input(&mut self) {
        drop(self.child.stdin.take());
    }

    /// What it has said up to now.
    pub(crate) fn said(&self) -> String {
        read(&self.said)
    }

    /// Waits for its end, which must be good; all that it has said.
    pub(crate) fn finish(mut self) -> String {
        let status = loop {
            if let Some(status) = self.status() {
                break status;
            }
            thread::sleep(LOOK);
        };
        let said = self.said();
        let complained = read(&self.complained);
        assert!(
            status.success() && complained.is_empty(),
            "{status}; it said:\n{said}and complained:\n{complained}"
        );
        said
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read(file: &NamedTempFile) -> String {
    let bytes = fs::read(file.path()).expect("a file");
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Runs a program to its good end; what it said.
pub(crate) fn said(command: &mut Command) -> String {
    Running::start(command, Stdio::null()).finish()
}

/// The same for one that reads this.
pub(crate) fn said_when_told(command: &mut Command, input: impl AsRef<[u8]>) -> String {
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(input.as_ref()).expect("a file");
    file.rewind().expect("a file");
    Running::start(command, file.into()).finish()
}

/// Arguments with a target in them, as programs of the `redis` family want it.
pub(crate) fn at<'a>(command: &'a mut Command, target: &Target) -> &'a mut Command {
    let options: [&OsStr; 4] = [
        "-h".as_ref(),
        target.host.as_ref(),
        "-p".as_ref(),
        target.port.as_ref(),
    ];
    command.args(options)
}

/// A Redis with nothing in it, until this is dropped.
pub(crate) struct Redis {
    child: Child,
    target: Target,
    _place: TempDir,
}

impl Redis {
    /// None where there is no Redis, which is said.
    pub(crate) fn start() -> Option<Self> {
        static STARTED: AtomicU16 = AtomicU16::new(0);
        let mut command = tool("redis-server")?;
        let place = tempfile::tempdir().expect("a directory");
        let target = Target {
            host: host(),
            port: (6_000 + STARTED.fetch_add(1, Ordering::Relaxed)).to_string(),
        };
        command.args(["--bind", &target.host, "--port", &target.port]);
        // Nothing is written to disk. Loopback addresses but 127.0.0.1 count as strangers.
        command.args(["--save", "", "--protected-mode", "no", "--dir"]);
        let child = command
            .arg(place.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("it starts");
        let address: SocketAddr = target.address().parse().expect("an address");
        until("Redis listens", || {
            TcpStream::connect_timeout(&address, PROGRAM_LIMIT).ok()
        });
        Some(Self {
            child,
            target,
            _place: place,
        })
    }

    pub(crate) fn target(&self) -> &Target {
        &self.target
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
