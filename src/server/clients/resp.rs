//! A connection that speaks RESP, the protocol of Redis.
//!
//! What a connection chooses (the version of the protocol, stale reads) holds for the requests behind
//! the choice, also within one arrival: so a choice of the version finishes the run before it.

use std::io;

use crate::kv::command::Bytes;
use crate::kv::command::{Command, Outcome};
use crate::outbox::Answer;
use crate::wire::resp::{
    Catalog, FrameBuffer, Hello, Label, Protocol, REDIS_VERSION, Read, Reply, Request,
    RequestError, Spoils, Tell, Wait,
};

use super::budget::{Account, Part};
use super::multi::{Item, Multi, Watch};
use super::run::{Out, REQUEST_MEMORY, Run, STOPPED, Server};
use super::{Connection, about, close, looks, multi, wait};

/// What is left to do for a request when it has what it needs.
enum Then {
    /// Say this.
    Reply(Reply),
    /// Say what became of the command, which has so many outcomes.
    Tell(Tell, usize),
    /// Say what became of a transaction.
    Exec(Vec<Item>),
    /// Read the store.
    Read(Read),
    /// Tell of the commands.
    Catalog(Catalog),
    /// Tell of this connection.
    Client,
    /// Tell of all connections.
    Clients,
    /// Tell how the server is doing, in these sections.
    Info(Vec<Bytes>),
    /// Tell how the server was started, as far as it matches these.
    Config(Vec<Bytes>),
    /// Tell how the server is doing, all of it.
    Status,
}

/// A connection, and what it has chosen.
struct Talk<'a> {
    server: &'a Server,
    connection: &'a Connection,
    protocol: Protocol,
    /// Reads ask nobody else, and may be stale.
    local: bool,
    /// The transaction that is collected.
    multi: Option<Multi>,
    /// What the next one rests on.
    watch: Watch,
}

/// Serves the connection to its end.
pub(super) fn serve(server: &Server, connection: &Connection) -> io::Result<()> {
    let mut talk = Talk {
        server,
        connection,
        protocol: Protocol::default(),
        local: false,
        multi: None,
        watch: Watch::default(),
    };
    let account = Account::new(&server.open, connection);
    let mut out = Out::new(&connection.stream, &account);
    let done = talk.serve_all(&mut out);
    let protocol = talk.protocol;
    drop(talk);
    out.leave(|surely, bytes| {
        let why = server.open.why_leave();
        let reply = if surely {
            Reply::not_done(&why)
        } else {
            Reply::unknown(&why)
        };
        reply.write(protocol, bytes);
    });
    done
}

impl Talk<'_> {
    fn serve_all(&mut self, out: &mut Out<'_>) -> io::Result<()> {
        self.label_protocol();
        let mut stream = &self.connection.stream;
        let mut frames = FrameBuffer::default();
        loop {
            out.account.hold(Part::Input, frames.memory_after_read())?;
            if frames.read_from(&mut stream)? == 0 {
                return Ok(());
            }
            let ends = self.serve_frames(&mut frames, out)?;
            out.end()?;
            if ends {
                close(stream);
                return Ok(());
            }
        }
    }

    /// Serves all requests that have arrived; true if the connection is to be closed.
    fn serve_frames(&mut self, frames: &mut FrameBuffer, out: &mut Out<'_>) -> io::Result<bool> {
        let mut run = Run::default();
        loop {
            let (memory, request) = match frames.next_frame() {
                Ok(None) => break,
                Ok(Some(arguments)) => {
                    let memory = arguments.memory();
                    run.count(memory, out.account)?;
                    (memory, Request::read(arguments))
                }
                // Where the next request begins is not known.
                Err(error) => {
                    self.finish(run, out)?;
                    self.write(&error.into(), out)?;
                    return Ok(true);
                }
            };
            let is_command = matches!(
                request,
                Ok(Request::Change(_) | Request::Write { .. } | Request::Exec)
            );
            let is_choice = match request {
                Ok(Request::Reset | Request::Quit) => true,
                Ok(Request::Hello(_) | Request::Watch(_) | Request::Wait(_)) => {
                    self.multi.is_none()
                }
                _ => false,
            };
            if is_choice || run.is_over(is_command) {
                self.finish(std::mem::take(&mut run), out)?;
            }
            match request {
                Ok(Request::Quit) => {
                    self.write(&Reply::OK, out)?;
                    return Ok(true);
                }
                Ok(Request::Reset) => self.reset(out)?,
                Ok(Request::Exec) => self.exec(&mut run),
                Ok(Request::Discard) => self.discard(&mut run),
                Err(error) if error.spoils() == Spoils::AtOnce => {
                    self.multi = None;
                    self.watch = Watch::default();
                    run.known(Then::Reply(error.into()));
                }
                request if self.multi.is_some() => {
                    self.queue(&mut run, request, memory);
                    out.account.hold(Part::Collected, self.collected())?;
                }
                Ok(Request::Hello(hello)) => self.hello(hello, out)?,
                Ok(Request::Watch(keys)) => self.watch(keys, out)?,
                Ok(Request::Wait(wait)) => self.wait(wait, out)?,
                Ok(request) => self.add(&mut run, request),
                Err(error) => run.known(Then::Reply(error.into())),
            }
        }
        self.finish(run, out)?;
        out.account.hold(Part::Collected, self.collected())?;
        Ok(false)
    }

    /// About how much `MULTI` and `WATCH` have collected, in bytes.
    fn collected(&self) -> usize {
        self.multi.as_ref().map_or(0, Multi::memory) + self.watch.memory()
    }

    fn add(&mut self, run: &mut Run<Then>, request: Request) {
        match request {
            Request::Known(reply) => run.known(Then::Reply(reply)),
            Request::Change(change) => {
                let (command, count, tell) = change.into_command();
                run.command(command, Then::Tell(tell, count));
            }
            Request::Write { command, tell } => run.command(command, Then::Tell(tell, 1)),
            Request::Multi => {
                self.multi = Some(Multi::default());
                run.known(Then::Reply(Reply::OK));
            }
            Request::Unwatch => {
                self.watch = Watch::default();
                run.known(Then::Reply(Reply::OK));
            }
            Request::Read(read) => run.read(self.local, Then::Read(read)),
            Request::Catalog(catalog) => run.known(Then::Catalog(catalog)),
            Request::Config(patterns) => run.known(Then::Config(patterns)),
            Request::Info(sections) => run.question(Then::Info(sections)),
            Request::Status => run.question(Then::Status),
            Request::Client => run.known(Then::Client),
            Request::Clients => run.known(Then::Clients),
            Request::ReadOnly(local) => {
                self.local = local;
                run.known(Then::Reply(Reply::OK));
            }
            Request::Label(label, text) => {
                self.connection.labels.lock().set(label, text);
                run.known(Then::Reply(Reply::OK));
            }
            Request::Name => {
                let name = self.connection.labels.lock().name();
                run.known(Then::Reply(Reply::found(name)));
            }
            Request::Id => run.known(Then::Reply(Reply::Integer(self.number()))),
            Request::Hello(_)
            | Request::Watch(_)
            | Request::Wait(_)
            | Request::Exec
            | Request::Discard
            | Request::Reset
            | Request::Quit => {
                unreachable!("a choice is made outside of a run")
            }
        }
    }

    // --- Transactions ---

    /// Remembers what keys are like, once the store holds all that was acknowledged.
    fn watch(&mut self, keys: Vec<Bytes>, out: &mut Out<'_>) -> io::Result<()> {
        let mut run = Run::default();
        run.read(self.local, ());
        let mut refusal = None;
        self.server.finish(run, out, |(), answer, _| {
            if let Answer::NotDone(why) = answer {
                refusal = Some(why);
            }
            Ok(())
        })?;
        let reply = match refusal {
            Some(why) => Reply::not_done(why),
            None => self.watch.add(keys, &self.server.store),
        };
        self.write(&reply, out)
    }

    fn queue(
        &mut self,
        run: &mut Run<Then>,
        request: Result<Request, RequestError>,
        memory: usize,
    ) {
        let multi = self.multi.as_mut().expect("a transaction is collected");
        let queued = multi.queue(request, memory + REQUEST_MEMORY);
        run.known(Then::Reply(queued));
    }

    fn discard(&mut self, run: &mut Run<Then>) {
        let reply = if self.multi.take().is_some() {
            self.watch = Watch::default();
            Reply::OK
        } else {
            Reply::error("DISCARD without MULTI")
        };
        run.known(Then::Reply(reply));
    }

    fn exec(&mut self, run: &mut Run<Then>) {
        let Some(multi) = self.multi.take() else {
            return run.known(Then::Reply(Reply::error("EXEC without MULTI")));
        };
        let watch = std::mem::take(&mut self.watch);
        match multi.end(watch) {
            Err(reply) => run.known(Then::Reply(reply)),
            Ok((items, None)) => run.known(Then::Exec(items)),
            Ok((items, Some(transaction))) => {
                let command = Command::Exec(Box::new(transaction));
                run.command(command, Then::Exec(items));
            }
        }
    }

    fn wait(&self, wait: Wait, out: &mut Out<'_>) -> io::Result<()> {
        // Nobody waits for this one to hear what is known already.
        out.flush()?;
        let account = out.account;
        account.wait_for_client(|| wait::wait(self.server, self.connection, wait, out))
    }

    fn finish(&self, run: Run<Then>, out: &mut Out<'_>) -> io::Result<()> {
        self.server.finish(run, out, |then, answer, out| {
            let reply = self.reply(then, answer);
            out.account.hold(Part::Reply, reply.memory())?;
            self.write(&reply, out)
        })
    }

    /// Appends a reply; writes what gets long, also between the elements of an array.
    fn write(&self, reply: &Reply, out: &mut Out<'_>) -> io::Result<()> {
        let (bytes, relieve) = out.parts();
        reply.write_in_parts(self.protocol, bytes, relieve)
    }

    fn reply(&self, then: Then, answer: Answer) -> Reply {
        match (then, answer) {
            (Then::Reply(reply), _) => reply,
            (_, Answer::NotDone(why)) => Reply::not_done(why),
            (_, Answer::Unknown(why)) => Reply::unknown(why),
            (Then::Tell(tell, count), Answer::Done(outcome)) => match outcome {
                Outcome::Steps(outcomes) => tell.told(&mut outcomes.into_iter(), count),
                outcome => tell.told(&mut std::iter::once(outcome), count),
            },
            (Then::Exec(items), Answer::Done(Outcome::Steps(outcomes))) => {
                multi::told(items, outcomes)
            }
            // A watched key was changed.
            (Then::Exec(_), Answer::Done(Outcome::Changed)) => Reply::NullArray,
            (Then::Exec(_), Answer::Done(_)) => Reply::untold(),
            // Nothing was asked of the log.
            (Then::Exec(items), Answer::Readable) => multi::told(items, Vec::new()),
            (Then::Read(read), _) => looks::look(self.server, &read),
            (Then::Catalog(catalog), _) => catalog.reply(),
            (Then::Client, _) => Reply::text(self.connection.line()),
            (Then::Clients, _) => Reply::text(self.server.open.lines()),
            (Then::Config(patterns), _) => about::config(self.server, &patterns),
            (Then::Info(sections), _) => {
                self.with_status(|fields| about::info(self.server, &sections, &fields))
            }
            (Then::Status, _) => self.with_status(about::status),
            (Then::Tell(..), Answer::Readable) => unreachable!("only reads are answered so"),
        }
    }

    fn with_status(&self, reply: impl FnOnce(Vec<(String, String)>) -> Reply) -> Reply {
        match self.server.status() {
            Some(fields) => reply(fields),
            None => Reply::not_done(STOPPED),
        }
    }

    fn number(&self) -> i64 {
        i64::try_from(self.connection.number).expect("connections are counted from 1")
    }

    // --- What a connection chooses ---

    fn hello(&mut self, hello: Hello, out: &mut Out<'_>) -> io::Result<()> {
        if let Some(protocol) = hello.protocol {
            self.protocol = protocol;
            self.label_protocol();
        }
        if let Some(name) = hello.name {
            self.connection.labels.lock().set(Label::Name, name);
        }
        let text = |name, value| (Reply::text(name), Reply::text(value));
        let number = |name, value| (Reply::text(name), Reply::Integer(value));
        let reply = Reply::Map(vec![
            text("server", "quince"),
            text("version", REDIS_VERSION),
            number("proto", self.protocol.number()),
            number("id", self.number()),
            text("mode", "standalone"),
            text("role", "master"),
            (Reply::text("modules"), Reply::Array(Vec::new())),
        ]);
        self.write(&reply, out)
    }

    fn reset(&mut self, out: &mut Out<'_>) -> io::Result<()> {
        self.protocol = Protocol::default();
        self.local = false;
        self.multi = None;
        self.watch = Watch::default();
        self.label_protocol();
        self.connection
            .labels
            .lock()
            .set(Label::Name, Bytes::default());
        self.write(&Reply::Simple("RESET"), out)
    }

    fn label_protocol(&self) {
        self.connection.labels.lock().set_protocol(self.protocol);
    }
}
