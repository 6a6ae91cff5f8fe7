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

/// How many bytes of memory this process holds; none on a system that does not tell.
pub(super) fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kibibytes * 1_024)
}

/// Not told here.
#[cfg(not(any(target_os = "linux", target_os = "freebsd", target_vendor = "apple")))]
pub(super) fn cpu_time() -> Option<Duration> {
    None
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn memory_that_is_held_is_told() {
        let held = std::hint::black_box(vec![1_u8; 64 << 20]);
        let told = resident_bytes().unwrap();
        assert!(told > held.len() as u64, "{told}");
    }

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
