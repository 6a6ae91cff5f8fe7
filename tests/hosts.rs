//! Servers on hosts of their own, in network namespaces: packets that vanish without a word, machines
//! that come back with another address, names that do not resolve. A proxy on loopback can do none of it.
//!
//! Each test makes namespaces, a bridge between them and all their addresses; nothing of it exists
//! outside. Where that is not allowed, or `ip` is missing, a test is skipped with a word; never with
//! `CI=true`.

#![cfg(target_os = "linux")]
#![allow(
    clippy::disallowed_methods,
    reason = "a cable is out for a while of real time"
)]

mod processes;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use processes::{LIMIT, Wire, alone, told, until};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tempfile::TempDir;

/// How long after its cable is in again a server has all its links, and has applied what the others have.
const RELINKED: Duration = Duration::from_secs(3);

/// How long a cable is out: longer than anything that notices it takes.
const OUTAGE: Duration = Duration::from_secs(5);

/// How long the system's resolver waits for a name server that is silent, in seconds.
const RESOLVER_SECONDS: u64 = 15;

/// What waits for nothing of this takes no longer, on however busy a machine.
const UNHINDERED: Duration = Duration::from_secs(RESOLVER_SECONDS / 2);

/// Hosts `host1` to `hostX` at one bridge, each a network namespace, each with a server or none.
struct Net {
    /// The namespace of the bridge; the hosts' names go on from it.
    switch: String,
    hosts: u8,
    addresses: BTreeMap<u8, u8>,
    place: Option<TempDir>,
    children: BTreeMap<u8, Child>,
}

fn ip(args: &[&str]) {
    let output = Command::new("ip").args(args).output().expect("ip runs");
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "ip {}: {words}", args.join(" "));
}

/// Runs in a namespace, on a thread that ends with it. A socket made there stays there.
fn inside<T: Send + 'static>(namespace: &str, run: impl FnOnce() -> T + Send + 'static) -> T {
    let namespace = File::open(Path::new("/run/netns").join(namespace)).expect("a namespace");
    let enter_and_run = move || {
        let network = Some(LinkNameSpaceType::Network);
        move_into_link_name_space(namespace.as_fd(), network).expect("root may enter");
        run()
    };
    thread::spawn(enter_and_run).join().expect("no panic")
}

/// Whether namespaces can be made here; says so if not. One test at a time may ask.
fn can_make_namespaces() -> bool {
    let name = format!("quince-{}-try", std::process::id());
    let netns = |verb| {
        let mut command = Command::new("ip");
        command.args(["netns", verb, &name]).stdin(Stdio::null());
        command.output().is_ok_and(|output| output.status.success())
    };
    if netns("add") && netns("delete") {
        return true;
    }
    let ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
    assert!(!ci, "expected ip (iproute2) and root in CI, found neither");
    eprintln!("skipped: making network namespaces needs ip (iproute2) and root");
    false
}

impl Net {
    fn new(hosts: u8) -> Self {
        static NETS: AtomicU16 = AtomicU16::new(0);
        let number = NETS.fetch_add(1, Ordering::Relaxed);
        let mut net = Self {
            switch: format!("quince-{}-{number}", std::process::id()),
            hosts: 0,
            addresses: BTreeMap::new(),
            place: Some(tempfile::tempdir().expect("a directory")),
            children: BTreeMap::new(),
        };
        ip(&["netns", "add", &net.switch]);
        ip(&["-n", &net.switch, "link", "add", "br0", "type", "bridge"]);
        ip(&["-n", &net.switch, "link", "set", "br0", "up"]);
        for host in 1..=hosts {
            net.add(host);
        }
        let names: Vec<(u8, u8)> = net.all().map(|host| (host, host)).collect();
        net.set_names(&names);
        net
    }

    /// One more host, with its cable in.
    fn add(&mut self, host: u8) {
        let (name, port) = (self.host(host), format!("port{host}"));
        // Before the host, since whatever is run there sees these files.
        fs::create_dir_all(self.etc(host)).expect("a directory");
        let resolver =
            format!("nameserver 127.0.0.1\noptions timeout:{RESOLVER_SECONDS} attempts:1\n");
        fs::write(self.etc(host).join("resolv.conf"), resolver).expect("a file");
        ip(&["netns", "add", &name]);
        self.hosts = host;
        let veth = ["link", "add", &port, "type", "veth", "peer", "name", "eth0"];
        ip(&[&["-n", &self.switch], &veth[..], &["netns", &name]].concat());
        ip(&["-n", &self.switch, "link", "set", &port, "up"]);
        ip(&["-n", &name, "link", "set", "lo", "up"]);
        ip(&["-n", &name, "link", "set", "eth0", "up"]);
        self.plug_in(host, host);
    }

    fn all(&self) -> impl Iterator<Item = u8> + use<> {
        1..=self.hosts
    }

    /// The namespace of a host.
    fn host(&self, host: u8) -> String {
        format!("{}-{host}", self.switch)
    }

    /// What a host has in place of `/etc`.
    fn etc(&self, host: u8) -> PathBuf {
        Path::new("/etc/netns").join(self.host(host))
    }

    fn address(number: u8) -> String {
        format!("10.77.0.{number}")
    }

    /// Gives a host this address, and puts its cable in.
    fn plug_in(&mut self, host: u8, number: u8) {
        let address = format!("{}/24", Self::address(number));
        let port = format!("port{host}");
        ip(&[
            "-n",
            &self.host(host),
            "address",
            "add",
            &address,
            "dev",
            "eth0",
        ]);
        ip(&["-n", &self.switch, "link", "set", &port, "master", "br0"]);
        self.addresses.insert(host, number);
    }

    /// Pulls a host's cable out of the bridge: what is sent to it and by it vanishes, and nobody is told.
    /// The host gives its address up.
    fn pull_out(&self, host: u8) {
        let port = format!("port{host}");
        ip(&["-n", &self.switch, "link", "set", &port, "nomaster"]);
        ip(&["-n", &self.host(host), "address", "flush", "dev", "eth0"]);
    }

    /// What one host sends to another vanishes: it goes to a card that nobody has.
    fn mislead(&self, from: u8, to: u8) {
        let address = Self::address(self.addresses[&to]);
        let nobody = ["lladdr", "02:00:00:00:00:ff", "nud", "permanent"];
        let neighbour = ["neighbour", "replace", &address, "dev", "eth0"];
        let from = self.host(from);
        ip(&[&["-n", &from], &neighbour[..], &nobody].concat());
    }

    /// The end of it.
    fn lead(&self, from: u8, to: u8) {
        let address = Self::address(self.addresses[&to]);
        let neighbour = ["neighbour", "delete", &address, "dev", "eth0"];
        ip(&[&["-n", &self.host(from)], &neighbour[..]].concat());
    }

    /// Which addresses each `hostN` stands for, at all hosts. A host that is not named has no name.
    fn set_names(&self, names: &[(u8, u8)]) {
        let line = |&(host, number): &(u8, u8)| format!("{} host{host}\n", Self::address(number));
        let lines: String = names.iter().map(line).collect();
        for host in self.all() {
            fs::write(self.etc(host).join("hosts"), &lines).expect("a file");
        }
    }

    /// From now on the name server of a host takes questions and answers none.
    fn silence_name_server(&self, host: u8) -> UdpSocket {
        inside(&self.host(host), || {
            UdpSocket::bind("127.0.0.1:53").expect("a free port")
        })
    }

    /// `quince`, on a host.
    fn quince(&self, host: u8, args: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &self.host(host)])
            .arg(env!("CARGO_BIN_EXE_quince"))
            .args(args)
            .env_remove("QUINCE_SERVERS")
            .stdin(Stdio::null());
        command
    }

    fn place(&self) -> &Path {
        self.place.as_ref().expect("until the end").path()
    }

    fn log_file(&self, host: u8) -> PathBuf {
        self.place().join(format!("server-{host}.log"))
    }

    fn log(&self, host: u8) -> String {
        fs::read_to_string(self.log_file(host)).unwrap_or_default()
    }

    /// Starts a server of a cluster of three on its host. It knows the others by name.
    fn start(&mut self, host: u8) {
        let id = host.to_string();
        let mut command = self.quince(host, &["server", "--id", &id]);
        command
            .args(["--peers", "1=host1:7100,2=host2:7100,3=host3:7100"])
            .args(["--listen", "0.0.0.0:7000", "--peer-listen", "0.0.0.0:7100"])
            .arg("--data")
            .arg(self.place().join(format!("data-{host}")))
            .arg("--log-file")
            .arg(self.log_file(host));
        let child = command.spawn().expect("quince starts");
        self.children.insert(host, child);
    }

    /// A connection of a host to its own server, with its cable in or not.
    fn try_open(&self, host: u8) -> Option<Wire> {
        inside(&self.host(host), || {
            let server = SocketAddr::from(([127, 0, 0, 1], 7000));
            Wire::of(TcpStream::connect_timeout(&server, LIMIT).ok()?).ok()
        })
    }

    fn ask(&self, host: u8, request: &str) -> String {
        let mut wire = self.try_open(host).expect("a running server");
        wire.ask(request)
    }

    /// What a server says of itself.
    fn status(&self, host: u8) -> Option<BTreeMap<String, String>> {
        self.try_open(host)?.try_status()
    }

    /// Whether a server hears all of these.
    fn is_linked(status: &BTreeMap<String, String>, peers: &[u8]) -> bool {
        let mut peers = peers.iter();
        peers.all(|peer| status[&format!("peer n{peer}")] == "up")
    }

    /// Waits until all running servers hear each other, and have applied the same.
    fn until_linked(&self) {
        let running: Vec<u8> = self.children.keys().copied().collect();
        until("all servers are linked and have applied the same", || {
            let mut first = None;
            for &host in &running {
                let others: Vec<u8> = running.iter().copied().filter(|&n| n != host).collect();
                let status = self.status(host)?;
                let applied = (status["decided"].clone(), status["applied"].clone());
                let is_equal = applied.0 == applied.1
                    && *first.get_or_insert_with(|| applied.clone()) == applied;
                if !Self::is_linked(&status, &others) || !is_equal {
                    return None;
                }
            }
            Some(())
        });
    }

    /// The leader that all of these follow.
    fn until_led(&self, hosts: &[u8]) -> u8 {
        until("all follow one leader", || {
            let mut leader = None;
            for &host in hosts {
                let named = self.status(host)?["leader"]
                    .strip_prefix('n')?
                    .parse()
                    .ok()?;
                if *leader.get_or_insert(named) != named {
                    return None;
                }
            }
            leader
        })
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for child in self.children.values_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let hosts: Vec<u8> = self.all().collect();
        for host in hosts {
            let _ = Command::new("ip")
                .args(["netns", "delete", &self.host(host)])
                .status();
            let _ = fs::remove_dir_all(self.etc(host));
        }
        let _ = Command::new("ip")
            .args(["netns", "delete", &self.switch])
            .status();
        if !thread::panicking() {
            return;
        }
        for host in self.all() {
            eprintln!("--- the log of n{host}:\n{}", self.log(host));
        }
        if let Some(place) = self.place.take() {
            eprintln!("--- kept in {}", place.keep().display());
        }
    }
}

/// A client whose machine is gone says nothing; so the system asks it now and then whether it is there, and
/// does not keep its place among the connections for ever.
#[test]
fn a_client_that_says_nothing_is_asked_whether_it_is_there() {
    let _alone = alone();
    if !can_make_namespaces() {
        return;
    }
    let mut net = Net::new(3);
    net.start(1);
    let _quiet = until("n1 is there", || net.try_open(1));
    until("the server's end has a timer", || {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &net.host(1), "ss"]);
        command.args(["-tnoH", "state", "established", "sport", "=", ":7000"]);
        let (code, out, err) = told(command.output().expect("ss runs"));
        assert_eq!(code, 0, "{err}");
        out.contains("timer:(keepalive,").then_some(())
    });
}

/// P33: nobody is told when a cable is pulled out. A server that comes back, with an address that its name
/// did not have before, has all its links again at once, be it the leader or not.
#[test]
fn a_server_that_comes_back_with_another_address_is_linked_at_once() {
    let _alone = alone();
    if !can_make_namespaces() {
        return;
    }
    let mut net = Net::new(3);
    net.all().for_each(|host| net.start(host));
    net.until_linked();
    let leader = net.until_led(&[1, 2, 3]);
    let follower = 1 + leader % 3;
    for (moved, number) in [(leader, 104), (follower, 105)] {
        let stayed: Vec<u8> = net.all().filter(|&host| host != moved).collect();
        let old = net.addresses[&moved];
        net.pull_out(moved);
        let out_since = Instant::now();
        net.until_led(&stayed);
        assert_eq!(net.ask(stayed[0], &format!("PUT moved n{moved}")), "OK");
        thread::sleep(OUTAGE.saturating_sub(out_since.elapsed()));
        net.plug_in(moved, number);
        let in_since = Instant::now();
        let mut names: Vec<(u8, u8)> = net.addresses.iter().map(|(&h, &n)| (h, n)).collect();
        // Somebody else's record of where the follower was is left over.
        if moved == follower {
            names.insert(0, (moved, old));
        }
        net.set_names(&names);
        net.until_linked();
        let took = in_since.elapsed();
        println!("n{moved} was linked {took:.2?} after its cable was in");
        assert!(took < RELINKED, "n{moved} was linked after {took:.2?}");
        assert_eq!(net.ask(moved, "GET moved"), format!("VALUE n{moved}"));
    }
}

/// P29, P33: packets of one server to one other vanish. No connection lives without answers, so the link is
/// gone both ways; the two say so, and all three serve.
#[test]
fn packets_that_vanish_one_way_take_one_link_and_disturb_nothing_else() {
    let _alone = alone();
    if !can_make_namespaces() {
        return;
    }
    let mut net = Net::new(3);
    net.all().for_each(|host| net.start(host));
    net.until_linked();
    let leader = net.until_led(&[1, 2, 3]);
    let (deaf, third) = (1 + leader % 3, 1 + (leader + 1) % 3);
    // What the leader sends is lost, and so is every answer to what it is sent.
    net.mislead(leader, deaf);
    until("both say that the link is gone", || {
        let lacks = |host, peer| Some(!Net::is_linked(&net.status(host)?, &[peer]));
        (lacks(leader, deaf)? && lacks(deaf, leader)?).then_some(())
    });
    let made = |from, to| {
        net.log(from)
            .matches(&format!("link to n{to} at host{to}:7100 is up"))
            .count()
    };
    let before = (made(leader, deaf), made(deaf, leader));
    let since = Instant::now();
    while since.elapsed() < OUTAGE {
        for host in net.all() {
            let reply = net.ask(host, &format!("INCR at:{host}"));
            assert!(reply.starts_with("VALUE "), "n{host}: {reply}");
        }
    }
    let after = (made(leader, deaf), made(deaf, leader));
    assert_eq!(after, before, "no link is made that cannot live");
    until("the third hears both", || {
        Net::is_linked(&net.status(third)?, &[leader, deaf]).then_some(())
    });
    net.lead(leader, deaf);
    let healed = Instant::now();
    net.until_linked();
    let took = healed.elapsed();
    println!("linked {took:.2?} after the packets arrived again");
    assert!(took < RELINKED, "linked after {took:.2?}");
}

/// A name whose name server is silent is waited for by nobody who does not need it, at a server and at a
/// client; and it is found when it is there.
#[test]
fn a_name_that_does_not_resolve_holds_nothing_else_up() {
    let _alone = alone();
    if !can_make_namespaces() {
        return;
    }
    let mut net = Net::new(3);
    let _silent: Vec<UdpSocket> = net
        .all()
        .map(|host| net.silence_name_server(host))
        .collect();
    net.set_names(&[(1, 1), (2, 2)]);
    net.start(1);
    net.start(2);
    net.until_linked();
    assert_eq!(net.ask(1, "PUT a 1"), "OK");

    let servers = "host1:7000,host3:7000,host2:7000";
    let status = ["status", "--timeout", "1s", "--servers", servers];
    let began = Instant::now();
    let (code, out, _) = told(net.quince(1, &status).output().expect("it runs"));
    assert!(began.elapsed() < UNHINDERED, "{:.2?}", began.elapsed());
    assert_ne!(code, 0, "one did not answer");
    assert!(
        out.contains("n1 host1:7000 ") && out.contains("n2 host2:7000 "),
        "{out}"
    );
    assert!(
        out.contains("unreachable: the name was not found within 1s"),
        "{out}"
    );

    let began = Instant::now();
    let get = ["get", "a", "--servers", "host3:7000,host1:7000"];
    let got = told(net.quince(2, &get).output().expect("it runs"));
    assert!(began.elapsed() < UNHINDERED, "{:.2?}", began.elapsed());
    assert_eq!((got.0, got.1.as_str()), (0, "1\n"));

    let began = Instant::now();
    let get = ["get", "a", "--timeout", "1s", "--servers", "host3:7000"];
    let (code, ..) = told(net.quince(2, &get).output().expect("it runs"));
    assert!(began.elapsed() < UNHINDERED, "{:.2?}", began.elapsed());
    assert_ne!(code, 0, "there is no host3");

    // One thread per name, however often the servers have asked by now.
    for host in [1, 2] {
        let pid = net.children[&host].id();
        let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
        let name = |task: std::io::Result<fs::DirEntry>| {
            fs::read_to_string(task.ok()?.path().join("comm")).ok()
        };
        let lookups = threads
            .filter_map(name)
            .filter(|name| name == "lookup\n")
            .count();
        assert!(lookups <= 1, "{lookups} lookups at n{host}");
    }

    net.set_names(&[(1, 1), (2, 2), (3, 3)]);
    net.start(3);
    net.until_linked();
    assert_eq!(net.ask(3, "GET a"), "VALUE 1");
}
