//! The proxy in a link: what it lets through, and when.

#![allow(
    clippy::disallowed_methods,
    reason = "plain sockets stand at both ends of a link"
)]

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use quince::torture::link::{Link, Passage};

/// Long enough for anything that comes at all.
const LIMIT: Duration = Duration::from_secs(20);

/// Nothing that is open takes so long, and nothing else does less.
const QUIET: Duration = Duration::from_millis(150);

/// A link to a listener.
fn link() -> (Link, TcpListener) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let target = listener.local_addr().expect("an address");
    (Link::to(target).expect("a port"), listener)
}

/// Connects through the link: both ends.
fn connect(link: &Link, listener: &TcpListener) -> (TcpStream, TcpStream) {
    let near = TcpStream::connect_timeout(&link.address(), LIMIT).expect("it listens");
    let (far, _) = listener.accept().expect("it dials");
    for end in [&near, &far] {
        end.set_read_timeout(Some(LIMIT)).expect("a time-out");
    }
    (near, far)
}

/// The same, when something has passed: then the link knows of the connection.
fn connect_and_pass(link: &Link, listener: &TcpListener) -> (TcpStream, TcpStream) {
    let (mut near, mut far) = connect(link, listener);
    near.write_all(b"first\n").unwrap();
    assert_arrives(&mut far, b"first\n");
    (near, far)
}

fn assert_arrives(end: &mut TcpStream, expected: &[u8]) {
    let mut found = vec![0; expected.len()];
    end.read_exact(&mut found).expect("it arrives");
    assert_eq!(found, expected);
}

fn assert_closed(end: &mut TcpStream) {
    end.set_read_timeout(Some(LIMIT)).expect("a time-out");
    match end.read(&mut [0; 16]) {
        Ok(0) => {}
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
        other => panic!("expected the end of the connection, found {other:?}"),
    }
}

fn assert_quiet(end: &mut TcpStream) {
    end.set_read_timeout(Some(QUIET)).expect("a time-out");
    let found = end.read(&mut [0; 16]).expect_err("nothing comes");
    assert!(
        matches!(
            found.kind(),
            std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
        ),
        "{found}"
    );
    end.set_read_timeout(Some(LIMIT)).expect("a time-out");
}

#[test]
fn an_open_link_passes_bytes_both_ways_and_the_end_too() {
    let (link, listener) = link();
    let (mut near, mut far) = connect(&link, &listener);
    near.write_all(b"greeting\n").unwrap();
    assert_arrives(&mut far, b"greeting\n");
    far.write_all(b"welcome\n").unwrap();
    assert_arrives(&mut near, b"welcome\n");
    let large = vec![b'x'; 3 << 20];
    std::thread::scope(|scope| {
        scope.spawn(|| near.write_all(&large).unwrap());
        assert_arrives(&mut far, &large);
    });
    drop(near);
    assert_closed(&mut far);
    assert!(!link.traffic().was_disturbed());
    assert_eq!(link.traffic().delivered_bytes, 9 + (3 << 20));
}

#[test]
fn a_cut_link_closes_what_is_there_and_lets_nobody_in_until_it_opens() {
    let (link, listener) = link();
    let (mut near, mut far) = connect_and_pass(&link, &listener);
    link.set(Passage::Cut);
    assert_closed(&mut near);
    assert_closed(&mut far);
    let mut refused = TcpStream::connect_timeout(&link.address(), LIMIT).expect("it listens");
    assert_closed(&mut refused);
    let traffic = link.traffic();
    assert_eq!((traffic.closed, traffic.refused), (1, 1));
    link.set(Passage::Open);
    let (mut near, mut far) = connect_and_pass(&link, &listener);
    near.write_all(b"again\n").unwrap();
    assert_arrives(&mut far, b"again\n");
}

#[test]
fn a_late_link_delivers_in_order_and_not_before_its_time() {
    let (link, listener) = link();
    let (mut near, mut far) = connect_and_pass(&link, &listener);
    let by = Duration::from_millis(120);
    link.set(Passage::Late(by));
    for number in 0..5_u8 {
        let sent = Instant::now();
        near.write_all(&[number]).unwrap();
        assert_arrives(&mut far, &[number]);
        assert!(sent.elapsed() >= by, "{:?}", sent.elapsed());
    }
    // Pieces wait beside each other, not one after another.
    let sent = Instant::now();
    for number in 0..20_u8 {
        near.write_all(&[number]).unwrap();
    }
    assert_arrives(&mut far, &(0..20).collect::<Vec<u8>>());
    assert!(sent.elapsed() < 20 * by, "{:?}", sent.elapsed());
    assert_eq!(link.traffic().late_bytes, 25);
}

#[test]
fn a_link_that_loses_swallows_one_way_and_its_connection_ends_when_it_opens() {
    let (link, listener) = link();
    let (mut near, mut far) = connect_and_pass(&link, &listener);
    let (mut whole_near, mut whole_far) = connect_and_pass(&link, &listener);
    link.set(Passage::Lost);
    near.write_all(b"lost\n").unwrap();
    assert_quiet(&mut far);
    // The other direction is not this link's affair: it passes.
    far.write_all(b"back\n").unwrap();
    assert_arrives(&mut near, b"back\n");
    assert_eq!(link.traffic().lost_bytes, 5);
    link.set(Passage::Open);
    assert_closed(&mut near);
    assert_closed(&mut far);
    // One that has lost nothing goes on.
    whole_near.write_all(b"whole\n").unwrap();
    assert_arrives(&mut whole_far, b"whole\n");
}

/// P32: what was sent arrives much later, though its sender is long gone.
#[test]
fn a_link_that_holds_delivers_later_even_what_a_dead_sender_left() {
    let (link, listener) = link();
    link.set(Passage::Held);
    let (mut near, mut far) = connect(&link, &listener);
    // One after another, so that they are two pieces and only the first can stand at the head.
    near.write_all(b"old").unwrap();
    wait_until_late(&link, 3);
    near.write_all(b" news\n").unwrap();
    wait_until_late(&link, 9);
    drop(near);
    assert_quiet(&mut far);
    link.set(Passage::Open);
    assert_arrives(&mut far, b"old news\n");
    assert_closed(&mut far);
    assert_eq!(link.traffic().late_bytes, 9);
}

/// Until the link has taken so many bytes and keeps them waiting.
fn wait_until_late(link: &Link, bytes: u64) {
    let end = Instant::now() + LIMIT;
    while link.traffic().late_bytes < bytes {
        assert!(Instant::now() < end, "{:?}", link.traffic());
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(link.traffic().late_bytes, bytes);
}

#[test]
fn a_link_that_is_closed_once_takes_new_connections_at_once() {
    let (link, listener) = link();
    let (mut near, mut far) = connect_and_pass(&link, &listener);
    link.close();
    assert_closed(&mut near);
    assert_closed(&mut far);
    let (mut near, mut far) = connect(&link, &listener);
    near.write_all(b"new\n").unwrap();
    assert_arrives(&mut far, b"new\n");
}

#[test]
fn a_link_to_nobody_closes_and_passes_on_as_soon_as_somebody_listens() {
    let (link, listener) = link();
    let target = listener.local_addr().unwrap();
    drop(listener);
    let mut near = TcpStream::connect_timeout(&link.address(), LIMIT).unwrap();
    assert_closed(&mut near);
    let listener = TcpListener::bind(target).expect("the port is free again");
    let (mut near, mut far) = connect(&link, &listener);
    near.write_all(b"here\n").unwrap();
    assert_arrives(&mut far, b"here\n");
    drop(link);
    assert_closed(&mut far);
}
