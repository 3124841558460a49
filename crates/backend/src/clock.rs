//! The one clock that only the system's own library reads: the time by which a service manager
//! compares what it is told. Absent: measuring, for which the standard library's clocks are.

/// Microseconds of the system's monotonic clock (`CLOCK_MONOTONIC`); `None` where there is none.
#[cfg(unix)]
pub fn monotonic_micros() -> Option<u64> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes one `timespec`, to one that lives here and is nobody else's.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) } != 0;
    let (seconds, nanos) = (u64::try_from(time.tv_sec).ok()?, u64::try_from(time.tv_nsec).ok()?);
    (!failed).then_some(seconds * 1_000_000 + nanos / 1000)
}

/// Microseconds of the system's monotonic clock; `None` where there is none.
#[cfg(not(unix))]
pub fn monotonic_micros() -> Option<u64> {
    None
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn it_is_there_and_goes_on() {
        let (first, second) = (monotonic_micros(), monotonic_micros());
        assert!(first.is_some() && first <= second, "{first:?} {second:?}");
    }
}
