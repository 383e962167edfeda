//! What printer columns share: ages as upstream prints them.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

/// How long ago `timestamp` (RFC 3339) was, as upstream's `translateTimestampSince`: `<unknown>` when it's absent.
pub fn age(timestamp: Option<&str>, now: Timestamp) -> String {
    let Some(then) = timestamp.and_then(|t| t.parse::<Timestamp>().ok()) else { return "<unknown>".into() };
    human_duration_signed(now.as_second() - then.as_second())
}

/// The Age column of an object: since `metadata.creationTimestamp`.
pub fn age_of(object: &Value, now: Timestamp) -> Value {
    age(object.pointer("/metadata/creationTimestamp").and_then(Value::as_str), now).into()
}

/// Upstream's `duration.HumanDuration`: `5s`, `2m3s`, `15m`, `3h2m`, `5d`, `2y30d`.
pub fn human_duration(duration: Duration) -> String {
    human_duration_signed(i64::try_from(duration.as_secs()).unwrap_or(i64::MAX))
}

/// The same of seconds that may be negative: a little clock skew counts as zero, more as nonsense.
fn human_duration_signed(seconds: i64) -> String {
    // Upstream allows two seconds of skew between the writer's clock and ours.
    if seconds < -1 {
        return "<invalid>".into();
    }
    if seconds < 0 {
        return "0s".into();
    }
    let two = |big: i64, unit: char, small: i64, small_unit: char| {
        if small == 0 { format!("{big}{unit}") } else { format!("{big}{unit}{small}{small_unit}") }
    };
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let (days, years) = (hours / 24, hours / 24 / 365);
    match () {
        () if seconds < 2 * 60 => format!("{seconds}s"),
        () if minutes < 10 => two(minutes, 'm', seconds % 60, 's'),
        () if minutes < 3 * 60 => format!("{minutes}m"),
        () if hours < 8 => two(hours, 'h', minutes % 60, 'm'),
        () if hours < 48 => format!("{hours}h"),
        () if hours < 24 * 8 => two(days, 'd', hours % 24, 'h'),
        () if hours < 24 * 365 * 2 => format!("{days}d"),
        () if hours < 24 * 365 * 8 => two(years, 'y', days % 365, 'd'),
        () => format!("{years}y"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_upstreams() {
        const M: i64 = 60;
        const H: i64 = 60 * M;
        const D: i64 = 24 * H;
        // Cases of k8s.io/apimachinery/pkg/util/duration.
        let cases = [
            (-2, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (1, "1s"),
            (70, "70s"),
            (190, "3m10s"),
            (9 * M + 59, "9m59s"),
            (10 * M + 1, "10m"),
            (179 * M, "179m"),
            (3 * H, "3h"),
            (7 * H + 59 * M, "7h59m"),
            (8 * H + M, "8h"),
            (47 * H + 59 * M, "47h"),
            (2 * D, "2d"),
            (2 * D + H, "2d1h"),
            (7 * D + 23 * H, "7d23h"),
            (8 * D + 23 * H, "8d"),
            (2 * 365 * D, "2y"),
            (2 * 365 * D + D, "2y1d"),
            (8 * 365 * D, "8y"),
        ];
        for (seconds, expected) in cases {
            assert_eq!(human_duration_signed(seconds), expected, "{seconds} s");
        }
    }

    #[test]
    fn an_absent_time_has_no_age() {
        let now = "2026-01-01T00:01:00Z".parse().expect("a time");
        assert_eq!(age(None, now), "<unknown>");
        assert_eq!(age(Some("2026-01-01T00:00:00Z"), now), "60s");
    }
}
