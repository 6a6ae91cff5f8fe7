//! Open files: how many the system gives this process, and how many of them clients may have.
//!
//! A connection is an open file, and so is all that voting needs: the log, snapshots, links to the other servers.
//! Who has none left can do nothing more, so clients get what is left beside a reserve that is theirs never.

use log::{info, warn};

use super::StartError;

/// How many open files are kept for all but clients. It covers what comes at once at the very worst: 64
/// connections that are turned away, 64 in the middle of a greeting, two links to and from each of eight
/// peers and those that they replace, the two listeners, the log, snapshots and their removal, and
/// the looks at `/proc`: about 190.
const RESERVE: usize = 256;

/// With room for fewer clients than this a server does not start, unless it is asked for fewer.
const CLIENTS_MIN: usize = 16;

/// Where the system does not tell how many files are open at the start, so many are taken to be.
const OPEN_GUESS: usize = 16;

/// Asks the system for what `wanted` clients need; how many there can be.
///
/// # Errors
/// There is no room even for a few.
pub(super) fn clients_max(wanted: usize) -> Result<usize, StartError> {
    let open = std::fs::read_dir("/proc/self/fd").map_or(OPEN_GUESS, Iterator::count);
    let needed = open + RESERVE + wanted;
    let limit = match rlimit::increase_nofile_limit(needed as u64) {
        Ok(limit) => usize::try_from(limit).unwrap_or(usize::MAX),
        // Not told here: nothing can be held against it.
        Err(error) => {
            info!("cannot raise the limit of open files: {error}");
            return Ok(wanted);
        }
    };
    let room = room(limit, open, wanted).ok_or(StartError::Files {
        limit,
        needed: open + RESERVE + wanted.min(CLIENTS_MIN),
        good: needed,
    })?;
    if room < wanted {
        warn!(
            "the system allows {limit} open files: at most {room} clients at once, not {wanted}; \
             allow {needed} (ulimit -n, LimitNOFILE=) or give --clients-max {room}"
        );
    }
    Ok(room)
}

/// How many of `wanted` clients there can be; none if that is too few.
fn room(limit: usize, open: usize, wanted: usize) -> Option<usize> {
    let room = limit.saturating_sub(open + RESERVE).min(wanted);
    (room >= wanted.min(CLIENTS_MIN)).then_some(room)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_get_what_the_reserve_leaves_and_never_more_than_asked() {
        for (limit, open, wanted, expected) in [
            (1_024, 6, 4_096, Some(762)),
            (1_048_576, 6, 4_096, Some(4_096)),
            (262 + 16, 6, 4_096, Some(16)),
            (262 + 15, 6, 4_096, None),
            (262 + 15, 6, 15, Some(15)),
            (262 + 3, 6, 3, Some(3)),
            (262 + 2, 6, 3, None),
            (100, 6, 1, None),
            (100, 200, 1, None),
        ] {
            assert_eq!(
                room(limit, open, wanted),
                expected,
                "{limit} {open} {wanted}"
            );
        }
    }
}
