//! Exponential back-off by key, as client-go's `flowcontrol.Backoff`: 10 s doubled up to 5 min, forgotten after 10 min.

use std::collections::HashMap;
use std::time::{Duration, Instant};

const FIRST: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(300);
const FORGOTTEN_AFTER: Duration = Duration::from_secs(600);

/// Back-offs of one pod, one for each container or image: as many as the pod's spec names.
#[derive(Debug, Default)]
pub struct Backoff {
    entries: HashMap<String, Entry>,
}

#[derive(Debug)]
struct Entry {
    delay: Duration,
    since: Instant,
}

impl Backoff {
    /// How long to wait still, counted from `event` (a container's end, a failed pull); `None` when it may go on.
    pub fn remaining(&self, key: &str, event: Instant, now: Instant) -> Option<Duration> {
        let entry = self.entries.get(key)?;
        if event.duration_since(entry.since) > FORGOTTEN_AFTER {
            return None;
        }
        (event + entry.delay).checked_duration_since(now).filter(|left| !left.is_zero())
    }

    /// Counts one more attempt: the next wait is twice the last.
    pub fn next(&mut self, key: &str, event: Instant, now: Instant) {
        match self.entries.get_mut(key) {
            // A container that ran for long, or a pull long ago, starts over.
            Some(entry) if event.duration_since(entry.since) <= FORGOTTEN_AFTER => {
                entry.delay = (entry.delay * 2).min(LONGEST);
                entry.since = now;
            }
            _ => {
                self.entries.insert(key.to_owned(), Entry { delay: FIRST, since: now });
            }
        }
    }

    /// The wait that is on, for messages.
    pub fn delay(&self, key: &str) -> Duration {
        self.entries.get(key).map_or(Duration::ZERO, |entry| entry.delay)
    }

    pub fn forget(&mut self, key: &str) {
        self.entries.remove(key);
    }
}

/// A duration as Go prints it: `10s`, `1m20s`, `5m0s`.
pub fn go_seconds(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if seconds < 60 { format!("{seconds}s") } else { format!("{}m{}s", seconds / 60, seconds % 60) }
}

/// A duration as Go prints it rounded to milliseconds: `5ms`, `1.203s`, `1m2.5s`.
pub fn go_millis(duration: Duration) -> String {
    let millis = duration.as_millis();
    if millis == 0 {
        return "0s".into();
    }
    if millis < 1000 {
        return format!("{millis}ms");
    }
    let (minutes, rest) = (millis / 60_000, millis % 60_000);
    let mut seconds = (rest / 1000).to_string();
    if rest % 1000 != 0 {
        let fraction = format!("{:03}", rest % 1000);
        seconds = format!("{seconds}.{}", fraction.trim_end_matches('0'));
    }
    if minutes == 0 { format!("{seconds}s") } else { format!("{minutes}m{seconds}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_five_minutes() {
        let start = Instant::now();
        let mut backoff = Backoff::default();
        assert_eq!(backoff.remaining("a", start, start), None, "the first failure restarts at once");
        let mut now = start;
        for expected in [10, 20, 40, 80, 160, 300, 300] {
            backoff.next("a", now, now);
            assert_eq!(backoff.remaining("a", now, now), Some(Duration::from_secs(expected)));
            assert_eq!(backoff.remaining("a", now, now + Duration::from_secs(expected)), None);
            now += Duration::from_secs(expected);
        }
        assert_eq!(backoff.remaining("b", now, now), None, "keys don't share");
    }

    #[test]
    fn ten_good_minutes_start_over() {
        let start = Instant::now();
        let mut backoff = Backoff::default();
        backoff.next("a", start, start);
        backoff.next("a", start, start);
        let died = start + Duration::from_secs(700);
        assert_eq!(backoff.remaining("a", died, died), None, "a container that ran for long restarts at once");
        backoff.next("a", died, died);
        assert_eq!(backoff.delay("a"), Duration::from_secs(10));
    }

    #[test]
    fn durations_read_as_gos() {
        let cases = [(0, "0s"), (5, "5ms"), (1203, "1.203s"), (1500, "1.5s"), (2000, "2s"), (62500, "1m2.5s")];
        for (millis, text) in cases {
            assert_eq!(go_millis(Duration::from_millis(millis)), text);
        }
        for (seconds, text) in [(10, "10s"), (80, "1m20s"), (300, "5m0s")] {
            assert_eq!(go_seconds(Duration::from_secs(seconds)), text);
        }
    }
}
