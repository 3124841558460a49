//! How much memory there is, as the system tells. Only Linux is asked; elsewhere a modest guess.

/// What is assumed where the system does not tell.
const UNKNOWN: usize = 8 << 30;

/// Bytes that could be allocated without swapping, cgroup limits included.
pub(crate) fn available() -> usize {
    let machine = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| free(&text));
    let group = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    let group = group.and_then(|text| text.trim().parse::<usize>().ok());
    match (machine, group) {
        (Some(machine), Some(group)) => machine.min(group),
        (one, other) => one.or(other).unwrap_or(UNKNOWN),
    }
}

/// What models may take together where nobody says: nine tenths of what there is now.
pub(crate) fn usual_budget() -> u64 {
    available() as u64 / 10 * 9
}

/// `MemAvailable` of /proc/meminfo, in bytes.
fn free(meminfo: &str) -> Option<usize> {
    let line = meminfo.lines().find(|line| line.starts_with("MemAvailable:"))?;
    line.split_whitespace().nth(1)?.parse::<usize>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    #[test]
    fn reads_meminfo() {
        let text = "MemTotal:       100 kB\nMemAvailable:     42 kB\n";
        assert_eq!(super::free(text), Some(42 * 1024));
        assert_eq!(super::free("MemAvailable: lots"), None);
        assert_eq!(super::free(""), None);
    }
}
