//! Real servers whose disks were emptied or damaged: they find out, are told by the others, and end
//! with the same store (P25, P40, P41).

mod processes;

use std::fs;
use std::path::PathBuf;

use processes::{Cluster, until};

/// So large that a server keeps only a part of all values in memory, and sends a snapshot instead.
const VALUE_BYTES: usize = 60_000;

/// A cluster whose log is so small that it is trimmed all the time.
fn cluster(size: u8) -> Cluster {
    let mut cluster = Cluster::start(size, &["--log-mib", "1", "--deadline", "2s"]);
    cluster.until_led();
    cluster
}

/// Writes so much, at the servers in turn, that logs are trimmed.
fn write(cluster: &Cluster, servers: &[u8], round: usize) {
    let value = "v".repeat(VALUE_BYTES);
    for number in 0..120 {
        let server = servers[number % servers.len()];
        let request = format!("PUT key{number} {round}{value}");
        assert_eq!(cluster.ask(server, &request), "OK");
    }
}

/// The newest file of a server's directory whose name begins so.
fn newest(cluster: &Cluster, server: u8, prefix: &str) -> PathBuf {
    let names = fs::read_dir(cluster.data(server)).expect("the directory");
    let files = names.map(|entry| entry.expect("an entry").path());
    let of_kind = |path: &PathBuf| {
        let name = path.file_name().expect("a name").to_string_lossy();
        name.starts_with(prefix)
    };
    files.filter(of_kind).max().expect("a file of this kind")
}

fn until_logged(cluster: &Cluster, server: u8, text: &str) {
    until(&format!("the log of n{server} has {text:?}"), || {
        cluster.log(server).contains(text).then_some(())
    });
}

const TOLD: &str = "all that this server may have forgotten is here again: it votes";

/// P25, P41: a server with an empty directory is recognised, gets a snapshot, votes again, and has
/// the same hash; and the next one may be emptied.
#[test]
fn an_emptied_server_is_told_and_has_the_same_store() {
    let mut cluster = cluster(5);
    write(&cluster, &[1, 2, 3, 4, 5], 0);
    for (round, server) in [(1, 2), (2, 4), (3, 1)] {
        cluster.kill(server);
        let others: Vec<u8> = (1..=5).filter(|&other| other != server).collect();
        write(&cluster, &others, round);
        fs::remove_dir_all(cluster.data(server)).expect("removed");
        cluster.spawn(server);
        until_logged(&cluster, server, TOLD);
        assert!(
            cluster
                .log(server)
                .contains("the snapshot is here: from s0 to ")
        );
        cluster.until_agreed();
    }
    // It votes: without it there is no majority any more.
    cluster.kill_all(&[3, 5]);
    assert_eq!(cluster.ask(2, "PUT last 1"), "OK");
    assert_eq!(cluster.ask(4, "GET last"), "VALUE 1");
}

/// P41: of three servers the emptied one needs both others, and until then nothing is acknowledged
/// by its vote.
#[test]
fn an_emptied_server_votes_nothing_before_it_was_told() {
    let mut cluster = cluster(3);
    assert_eq!(cluster.ask(1, "PUT a 1"), "OK");
    cluster.kill_all(&[2, 3]);
    fs::remove_dir_all(cluster.data(2)).expect("removed");
    cluster.spawn(2);
    until_logged(&cluster, 2, "its directory was emptied or is an older copy");
    let status = until("n2 tells how it is", || cluster.status(2));
    assert_eq!(status["acceptor"], "failed");
    // n1 and n2 are two of three, and no majority.
    let answer = cluster.ask(1, "PUT a 2");
    assert!(answer.starts_with("ERROR "), "{answer}");
    assert!(!cluster.log(2).contains(TOLD));
    cluster.spawn(3);
    until_logged(&cluster, 2, TOLD);
    cluster.until_agreed();
    // What was handed on in vain may have been decided since.
    let value = cluster.ask(2, "GET a");
    assert!(value == "VALUE 1" || value == "VALUE 2", "{value}");
}

/// P40: a record in the middle of a log is damaged; the server names it, and is told.
#[test]
fn a_damaged_log_is_named_and_repaired_from_the_others() {
    let mut cluster = cluster(5);
    write(&cluster, &[1, 2, 3, 4, 5], 0);
    cluster.kill(3);
    let file = newest(&cluster, 3, "log-");
    let mut bytes = fs::read(&file).expect("readable");
    let line = bytes
        .iter()
        .position(|&byte| byte == b'\n')
        .expect("a line");
    bytes[line + 12] ^= 0x40;
    fs::write(&file, &bytes).expect("writable");
    cluster.spawn(3);
    until_logged(&cluster, 3, "damaged record at byte ");
    until_logged(&cluster, 3, TOLD);
    write(&cluster, &[3], 1);
    cluster.until_agreed();
}

/// P40: a damaged snapshot costs no vote; what it held is fetched.
#[test]
fn a_damaged_snapshot_is_named_and_fetched() {
    let mut cluster = cluster(3);
    write(&cluster, &[1, 2, 3], 0);
    write(&cluster, &[1, 2, 3], 1);
    cluster.kill(2);
    let file = newest(&cluster, 2, "snapshot-");
    let mut bytes = fs::read(&file).expect("readable");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&file, &bytes).expect("writable");
    cluster.spawn(2);
    until_logged(&cluster, 2, "damaged snapshot at byte ");
    cluster.until_agreed();
    assert!(!cluster.log(2).contains(TOLD));
    assert_eq!(
        cluster.ask(2, "GET key1").len(),
        "VALUE 1".len() + VALUE_BYTES
    );
}
