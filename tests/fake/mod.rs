//! A server that says what a test tells it to: for what a real one does too rarely.

#![allow(dead_code, reason = "each test program uses a part")]
#![allow(
    clippy::disallowed_methods,
    reason = "a fake server listens where it can"
)]

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use parking_lot::Mutex;

/// What a fake server does about one line.
pub(crate) enum Act {
    /// Answers with this, a LF behind it.
    Say(String),
    /// Closes the connection, as a server that dies after it has read the line.
    Die,
    /// Says nothing, and reads on.
    Hush,
    /// Answers with the first, and then with the second again and again, for as long as anyone takes it.
    Pour(String, String),
}

/// Answers with `text`.
pub(crate) fn say(text: impl Into<String>) -> Act {
    Act::Say(text.into())
}

/// A running fake server. Its threads end with the test's process.
pub(crate) struct Fake {
    /// Its `HOST:PORT`.
    pub(crate) address: String,
    received: Arc<Mutex<Vec<String>>>,
}

impl Fake {
    /// Starts one that asks `script` about each line, whatever connection it comes by.
    pub(crate) fn start(script: impl FnMut(&str) -> Act + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound").to_string();
        let received = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&received);
        let script = Arc::new(Mutex::new(script));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, heard) = (stream.expect("accepts"), Arc::clone(&heard));
                let script = Arc::clone(&script);
                thread::spawn(move || {
                    talk(&stream, |line| {
                        heard.lock().push(line.to_owned());
                        (script.lock())(line)
                    });
                });
            }
        });
        Self { address, received }
    }

    /// Starts one that answers each line with the next of `acts`, and dies at every line after.
    pub(crate) fn script(acts: Vec<Act>) -> Self {
        let mut acts = acts.into_iter();
        Self::start(move |_| acts.next().unwrap_or(Act::Die))
    }

    /// The lines that it has read so far.
    pub(crate) fn received(&self) -> Vec<String> {
        self.received.lock().clone()
    }
}

fn talk(mut stream: &TcpStream, mut act: impl FnMut(&str) -> Act) {
    let mut lines = BufReader::new(stream).lines();
    while let Some(Ok(line)) = lines.next() {
        match act(&line) {
            Act::Say(text) => {
                if stream.write_all(format!("{text}\n").as_bytes()).is_err() {
                    return;
                }
            }
            Act::Die => return,
            Act::Hush => {}
            Act::Pour(first, again) => {
                let mut sent = stream.write_all(first.as_bytes());
                while sent.is_ok() {
                    sent = stream.write_all(again.as_bytes());
                }
                return;
            }
        }
    }
}

/// A port that refuses connections, and that nobody else gets as long as this lives.
pub(crate) struct Refusing {
    /// Its `HOST:PORT`.
    pub(crate) address: String,
    _bound: socket2::Socket,
}

impl Refusing {
    /// Binds a port without listening there.
    pub(crate) fn bind() -> Self {
        use socket2::{Domain, Socket, Type};
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
        socket.bind(&any.into()).expect("a free port");
        let address = socket.local_addr().expect("bound").as_socket();
        Self {
            address: address.expect("IPv4").to_string(),
            _bound: socket,
        }
    }
}
