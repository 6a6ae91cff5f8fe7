//! Multi-Paxos over opaque values. (essay follows)
pub mod acceptor;
pub mod election;
pub mod learner;
pub mod message;
pub mod proposer;
pub mod quorum;
pub mod record;
pub mod types;
