//! The flags of every command that talks to servers: which ones, and for how long.

use std::time::Duration;

use super::flags::{Address, positive_duration};
use crate::client::{Client, Settings};

/// Which servers to talk to, and how long to try.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Reach {
    #[command(flatten)]
    pub(crate) servers: Servers,

    /// Give up a request after this long, all tries included; servers give up after 10s on their own
    #[arg(long, value_name = "DURATION", default_value = "15s", value_parser = positive_duration)]
    pub(crate) timeout: Duration,
}

/// Which servers to talk to.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Servers {
    /// Which servers to ask, with commas between; the next one when one is down
    #[arg(
        long,
        env = "QUINCE_SERVERS",
        value_name = "HOST:PORT,...",
        value_delimiter = ',',
        default_value = "127.0.0.1:7001,127.0.0.1:7002,127.0.0.1:7003,127.0.0.1:7004,127.0.0.1:7005"
    )]
    servers: Vec<Address>,
}

impl Servers {
    /// Their addresses, in the order given.
    pub(crate) fn addresses(&self) -> Vec<String> {
        self.servers.iter().map(Address::to_string).collect()
    }
}

impl Reach {
    /// A client of these servers.
    pub(crate) fn client(&self) -> Client {
        let settings = Settings {
            deadline: self.timeout,
            ..Settings::default()
        };
        Client::new(self.servers.addresses(), settings)
    }
}
