//! What this process has cost the machine so far: told in `STATUS`, so that whoever measures a cluster
//! need not be on its machines, nor guess from what the system tells of other processes.

use std::time::Duration;

/// The CPU time of all threads since the start, their own and the system's for them; none on a system
/// that does not tell.
#[cfg(any(target_os = "linux", target_os = "freebsd", target_vendor = "apple"))]
pub(super) fn cpu_time() -> Option<Duration> {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::try_from(time).ok()
}

/// Not told here.
#[cfg(not(any(target_os = "linux", target_os = "freebsd", target_vendor = "apple")))]
pub(super) fn cpu_time() -> Option<Duration> {
    None
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    /// Threads that have ended count too.
    #[test]
    fn work_of_any_thread_costs_time_that_is_told() {
        let before = cpu_time().unwrap();
        let work = || {
            let own = || rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
            while Duration::try_from(own()).unwrap() < Duration::from_millis(20) {
                std::hint::black_box(0);
            }
        };
        std::thread::spawn(work).join().unwrap();
        assert!(cpu_time().unwrap() >= before + Duration::from_millis(20));
    }
}
