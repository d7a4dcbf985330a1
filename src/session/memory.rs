//! How much memory evaluations may use, and how much the program uses.

/// The most that is taken unasked.
const LARGEST: usize = 4_000_000_000;
/// What is taken where the machine does not tell its memory.
const UNKNOWN: usize = 1_000_000_000;

/// A quarter of the machine's memory, and at most 4 GB.
pub fn default_cache_bytes() -> usize {
    let text = std::fs::read_to_string("/proc/meminfo").ok();
    let total = text.as_deref().and_then(total_bytes);
    total.map_or(UNKNOWN, |total| (total / 4).min(LARGEST))
}

/// Memory in bytes that the program occupies now (its resident set); `None` where the system does not tell.
pub fn process_bytes() -> Option<u64> {
    resident_bytes(&std::fs::read_to_string("/proc/self/status").ok()?)
}

/// The line `VmRSS:   523440 kB` of `/proc/self/status`.
fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kibibytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kibibytes * 1024)
}

/// The line `MemTotal:  24682968 kB` of `/proc/meminfo`.
fn total_bytes(meminfo: &str) -> Option<usize> {
    let line = meminfo.lines().find(|line| line.starts_with("MemTotal:"))?;
    let kibibytes: usize = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_tells_its_memory() {
        let text = "MemTotal:       24682968 kB\nMemFree:        21561344 kB\n";
        assert_eq!(total_bytes(text), Some(24_682_968 * 1024));
        assert_eq!(total_bytes("MemFree: 1 kB\n"), None);
        assert_eq!(total_bytes("MemTotal: many\n"), None);
    }

    #[test]
    fn the_program_tells_its_memory() {
        let text = "VmHWM:\t  900 kB\nVmRSS:\t  523440 kB\n";
        assert_eq!(resident_bytes(text), Some(523_440 * 1024));
        assert_eq!(resident_bytes("VmHWM: 1 kB\n"), None);
    }
}
