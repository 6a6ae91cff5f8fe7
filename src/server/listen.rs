//! Listening sockets.

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};

use socket2::{Domain, Socket, Type};

use super::StartError;

/// How many connections may wait to be accepted. std asks for 128, and then a thousand clients that
/// come at once take seconds (the system retries after one).
const BACKLOG: i32 = 4_096;

/// Listens on `address`; `whom` for is said in the error.
pub(super) fn bind(address: &str, whom: &'static str) -> Result<TcpListener, StartError> {
    listen(address).map_err(|error| StartError::Listen {
        address: address.into(),
        whom,
        error,
    })
}

fn listen(address: &str) -> io::Result<TcpListener> {
    let mut last = io::Error::new(io::ErrorKind::InvalidInput, "no such host");
    for address in address.to_socket_addrs()? {
        match listen_on(address) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn listen_on(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // A restarted server must not wait until the connections of its last life are forgotten.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
