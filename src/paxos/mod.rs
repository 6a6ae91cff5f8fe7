//! Multi-Paxos over opaque values, pure: it knows no key, line, socket, file or clock.
//!
//! # The algorithm, phase 2 first
//!
//! A few *nodes* want to agree on a log: one *value* a *slot*, the same on every node, for ever.
//! Nodes fail and come back, and messages are late, lost or doubled, but none lies. *Paxos Made
//! Simple* (Lamport, 2001) is the text to read beside this; its sections are cited as 2.2 and so on.
//!
//! **Phase 2** is what happens all day. A *leader* has a *ballot*, `b3.2`: round 3 of node 2. For
//! each slot it asks all *acceptors* to *accept* a value under its ballot. An acceptor does, and says
//! *accepted*, unless it has promised a higher ballot; then it says *nack*. Once a majority of the
//! nodes has accepted the value under one ballot, it is *decided*, and the leader tells everyone. The
//! next slots need not wait: many are open at once.
//!
//! **Why phase 1.** Leaders die, so another node must be able to take over with a higher ballot, and
//! it must not undo what is decided. A value that was decided was accepted by a majority, so every
//! majority has a node that knows it (2.1). Phase 1 asks: before it proposes anything, the new leader
//! *prepares* its ballot with a majority. Each acceptor *promises* to take part in no lower ballot
//! and tells what it has accepted. Where anyone accepted anything, the leader must propose that
//! again: of several values the one of the highest ballot (condition P2c of 2.2): that is *adoption*.
//! Where nobody of the majority did, nothing can be decided, and the leader is free.
//!
//! **Phase 1 once** serves all slots of a leadership (section 3): the leader prepares from its first
//! undecided slot on, without an end. Slots below the highest one that anyone accepted, and of which
//! nobody told a value, are *holes*; they are filled with no-ops, so that what follows can be applied.
//!
//! **Leading is only a role.** Two nodes that lead at once cannot hurt, only delay each other. So
//! elections need no proof; see [`election`].
//!
//! # Glossary: one word for each idea
//!
//! | word | means |
//! | --- | --- |
//! | node `n2` | a server of the cluster, with all roles |
//! | ballot `b3.2` | the number of an attempt to lead, and whose; used once |
//! | slot `s17` | a place in the log |
//! | value | what a slot holds; opaque here |
//! | prepare, promise | phase 1: question and answer |
//! | accept, accepted | phase 2: question and answer |
//! | nack | "I promised a higher ballot" |
//! | decided | accepted by a majority under one ballot |
//! | leader | a node in phase 2; *candidate*: in phase 1 |
//! | quorum, majority | more than half of the fixed set of nodes, as a set, not as a count |
//! | vote | a message that rests on what is on disk; *notice*: any other |
//! | propose | to give a value a slot, under a ballot |
//! | adopt | to propose what an acceptor told in its promise |
//! | hole, no-op | a slot without a known value below one with; what fills it |
//! | fetch | to ask a node for decided values, or for a snapshot where they are trimmed |
//! | trim | to forget slots that a durable snapshot holds |
//! | life | one start of a node, by number and mark |
//! | sound, lost, blank | a node's memory: whole; not all that it voted; of a node that never voted |
//! | recall | to be told by a majority of the others what one may have voted |
//! | probe, mark | "what is your highest accepted slot?", and the answer |
//!
//! # Invariants, asserted where they could break
//!
//! * **I1** A ballot is proposed with one value a slot. (`proposer`, `acceptor`)
//! * **I2** An acceptor's promise never goes back, over restarts too. (`acceptor`, `disk::log`)
//! * **I3** Nothing is accepted below the promise. (`acceptor`)
//! * **I4** A slot that is decided with a value is decided with that value everywhere, for ever.
//!   (follows; the tests check it from outside)
//! * **I5** The store at a slot is the same bytes on every server. (`kv::store`, `replica`)
//! * **I6** What was acknowledged is in every later majority. (follows from 2.1 and the outbox)
//! * **I7** A command with an id is applied at most once. (`kv::store`)
//!
//! # Who is who
//!
//! [`acceptor`] is the memory, [`proposer`] the voice, [`learner`] the ear; [`election`] decides who
//! should raise the voice; [`pace`] when to ask again; [`quorum`] counts; [`message`] is what nodes say, [`record`] what they must
//! remember, [`types`] the numbers. None of them sends, writes or waits: that is the caller's affair.

pub mod acceptor;
pub mod election;
pub mod learner;
pub mod message;
pub mod pace;
pub mod proposer;
pub mod quorum;
pub mod record;
pub mod types;
