//! The file of the next segment, made ahead of need by a helper thread.

use super::super::dir::Dir;
use super::SPARE;
use parking_lot::Mutex;
use std::io;
use std::sync::Arc;

/// The state of the spare file.
#[derive(Debug, Clone, Copy)]
pub(super) enum Spare {
    None,
    /// A [`SpareJob`] is out.
    Making,
    /// There and durable, with so many bytes.
    Ready(usize),
    /// It could not be made. Nobody tries again in this segment: on a full disk each try would write
    /// what is left of it full, and log a line, at every commit.
    Failed,
}

/// The same, seen by the log and by a helper thread.
#[derive(Debug, Clone)]
pub(super) struct SharedSpare(Arc<Mutex<Spare>>);

impl SharedSpare {
    pub(super) fn none() -> Self {
        Self(Arc::new(Mutex::new(Spare::None)))
    }

    /// The bytes of a spare that is there.
    pub(super) fn bytes(&self) -> usize {
        match *self.0.lock() {
            Spare::Ready(bytes) => bytes,
            Spare::None | Spare::Making | Spare::Failed => 0,
        }
    }

    /// The next segment begins: takes the spare if it is there and has `need` bytes, and returns how
    /// many it has. After a spare that could not be made the next one may be tried.
    pub(super) fn take(&self, need: usize) -> Option<usize> {
        let mut spare = self.0.lock();
        match *spare {
            Spare::Ready(bytes) if bytes >= need => {
                *spare = Spare::None;
                Some(bytes)
            }
            Spare::Failed => {
                *spare = Spare::None;
                None
            }
            _ => None,
        }
    }

    /// The making of one, if there is none and nobody makes one.
    pub(super) fn job<D: Dir>(&self, dir: &D, bytes: usize) -> Option<SpareJob<D>> {
        let mut spare = self.0.lock();
        matches!(*spare, Spare::None).then(|| {
            *spare = Spare::Making;
            SpareJob {
                dir: dir.clone(),
                bytes,
                spare: self.clone(),
            }
        })
    }
}

/// The making of a spare file. Dropped undone, the log asks for it again.
#[derive(Debug)]
pub struct SpareJob<D: Dir> {
    dir: D,
    bytes: usize,
    spare: SharedSpare,
}

impl<D: Dir> SpareJob<D> {
    /// Makes the file, durable; takes as long as writing a segment. After an error the log goes on
    /// without: it makes the segment itself when it needs it, and asks for a spare again after that.
    pub fn make(self) -> io::Result<()> {
        let made = self.dir.create_zeroed(SPARE, self.bytes);
        *self.spare.0.lock() = match made {
            Ok(_) => Spare::Ready(self.bytes),
            Err(_) => Spare::Failed,
        };
        made.map(drop)
    }
}

impl<D: Dir> Drop for SpareJob<D> {
    fn drop(&mut self) {
        let mut spare = self.spare.0.lock();
        if matches!(*spare, Spare::Making) {
            *spare = Spare::None;
        }
    }
}
