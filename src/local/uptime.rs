//! Time that only goes on, and does so while the machine sleeps.

use std::time::Duration;

/// Time since some moment before now, the same for the whole life of the process. A laptop's sleep is in it, unlike in
/// [`std::time::Instant`] on Linux; setting the time of day is not.
#[must_use]
pub fn uptime() -> Duration {
    #[cfg(target_os = "linux")]
    {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
    }
    #[cfg(not(target_os = "linux"))]
    {
        static BEGUN: std::sync::LazyLock<std::time::Instant> = std::sync::LazyLock::new(std::time::Instant::now);
        BEGUN.elapsed()
    }
}
