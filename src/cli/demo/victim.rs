//! A server that is killed, and started again by whoever runs the servers.
//!
//! The demo does not start servers itself: whoever started them (`run.sh`) knows how, and has to
//! stop them in the end, so it must stay their parent. Two things pass between them: a directory
//! with a file `server-N.pid` for each server, and a command that asks for a restart.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::cli::signal::{Signal, send};
use crate::paxos::types::NodeId;

/// How servers are killed and brought back.
#[derive(Debug)]
pub(super) struct Killer {
    pid_dir: PathBuf,
    restart_with: String,
}

/// The environment variable that tells the restart command which server.
const SERVER_ID: &str = "QUINCE_SERVER_ID";

impl Killer {
    pub(super) fn new(pid_dir: &Path, restart_with: &str) -> Self {
        Self {
            pid_dir: pid_dir.to_owned(),
            restart_with: restart_with.to_owned(),
        }
    }

    /// Kills a server (SIGKILL) and returns its process id.
    pub(super) fn kill(&self, server: NodeId) -> Result<u32, String> {
        let file = format!("server-{}.pid", server.number());
        let path = self.pid_dir.join(file);
        let text = fs::read_to_string(&path)
            .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        let pid = text
            .trim()
            .parse()
            .ok()
            .filter(|&pid: &u32| pid > 1)
            .ok_or_else(|| {
                let (path, found) = (path.display(), text.trim());
                format!("{path}: expected a process id, found '{found}'")
            })?;
        send(Signal::Kill, pid)?;
        Ok(pid)
    }

    /// Asks for a killed server to be started again.
    pub(super) fn restart(&self, server: NodeId) -> Result<(), String> {
        let output = Command::new("sh")
            .args(["-c", &self.restart_with])
            .env(SERVER_ID, server.number().to_string())
            .stdin(Stdio::null())
            .output()
            .map_err(|error| format!("cannot run sh: {error}"))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(format!(
            "cannot restart {server}: '{}' ended with {}: {}",
            self.restart_with,
            output.status,
            said.trim()
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    #[test]
    fn a_killed_server_is_asked_for_by_its_number() {
        let dir = tempfile::tempdir().unwrap();
        let n3 = NodeId::new(3).unwrap();
        let mut child = Command::new("sleep").arg("600").spawn().unwrap();
        fs::write(dir.path().join("server-3.pid"), format!("{}\n", child.id())).unwrap();
        let asked = dir.path().join("asked");
        let command = format!("echo \"$QUINCE_SERVER_ID\" >'{}'", asked.display());
        let killer = Killer::new(dir.path(), &command);
        assert_eq!(killer.kill(n3), Ok(child.id()));
        assert_eq!(child.wait().unwrap().signal(), Some(9));
        killer.restart(n3).unwrap();
        assert_eq!(fs::read_to_string(asked).unwrap(), "3\n");
    }

    #[test]
    fn what_cannot_be_killed_or_restarted_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let n1 = NodeId::new(1).unwrap();
        let killer = Killer::new(dir.path(), "echo no such server >&2; exit 3");
        assert!(killer.kill(n1).unwrap_err().starts_with("cannot read "));
        for bad in ["", "0", "1", "-5", "x"] {
            fs::write(dir.path().join("server-1.pid"), bad).unwrap();
            let error = killer.kill(n1).unwrap_err();
            assert!(error.contains("expected a process id"), "{error}");
        }
        let error = killer.restart(n1).unwrap_err();
        assert!(
            error.starts_with("cannot restart n1: ") && error.ends_with("3: no such server"),
            "{error}"
        );
    }
}
