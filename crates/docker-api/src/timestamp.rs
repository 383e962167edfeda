//! Points in time as clients give them in `since`, `until` and filters (moby, `daemon/internal/timestamp`).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;

/// A span before `now` (`10m`, `1h30m`), RFC 3339 with parts left out, or seconds since 1970.
///
/// # Errors
/// Why it is none of these.
pub fn parse(text: &str, now: SystemTime) -> Result<SystemTime, String> {
    if text.trim().is_empty() {
        return Err("failed to parse value as time or duration: value is empty".into());
    }
    if text != "0"
        && let Some(ago) = duration(text)
    {
        return Ok(now.checked_sub(ago).unwrap_or(UNIX_EPOCH));
    }
    if let Some(time) = date_time(text) {
        return Ok(time);
    }
    if text.contains('-') {
        return Err(format!("parsing time {text:?} as \"2006-01-02\": cannot parse {text:?} as \"2006\""));
    }
    unix(text).map_err(|why| format!("failed to parse value as time or duration: {why}"))
}

fn date_time(text: &str) -> Option<SystemTime> {
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Some(time.into());
    }
    let zoned = |time: DateTime| time.to_zoned(TimeZone::system()).ok().map(|zoned| zoned.timestamp().into());
    if let Ok(time) = text.parse::<DateTime>() {
        return zoned(time);
    }
    text.trim_end_matches(['z', 'Z']).parse::<Date>().ok().and_then(|date| zoned(date.at(0, 0, 0, 0)))
}

/// `seconds.nanoseconds`.
fn unix(text: &str) -> Result<SystemTime, String> {
    let (seconds, rest) = text.split_once('.').unwrap_or((text, ""));
    let whole = seconds.parse::<u64>().map_err(|_| format!("invalid seconds {seconds:?}: invalid syntax"))?;
    if !rest.bytes().all(|digit| digit.is_ascii_digit()) || rest.len() > 20 {
        return Err(format!("invalid nanoseconds {rest:?}"));
    }
    let nanos: String = rest.chars().chain("000000000".chars()).take(9).collect();
    let nanos = nanos.parse().unwrap_or(0);
    UNIX_EPOCH.checked_add(Duration::new(whole, nanos)).ok_or_else(|| format!("invalid seconds {seconds:?}"))
}

/// As Go writes spans of time: `1h30m`, `1.5s`, `300ms`.
pub fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        let unit_end = rest[end..].find(|c: char| c.is_ascii_digit() || c == '.').map_or(rest.len(), |at| end + at);
        seconds += number
            * match &rest[end..unit_end] {
                "ns" => 1e-9,
                "us" | "µs" | "μs" => 1e-6,
                "ms" => 1e-3,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                _ => return None,
            };
        rest = &rest[unit_end..];
    }
    Duration::try_from_secs_f64(seconds).ok().filter(|_| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_forms_are_read() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        let at = |seconds: u64, nanos: u32| Some(UNIX_EPOCH + Duration::new(seconds, nanos));
        let cases = [
            ("10m", at(1_000_000_000 - 600, 0)),
            ("1h30m", at(1_000_000_000 - 5400, 0)),
            ("1136073600", at(1_136_073_600, 0)),
            ("1136073600.000000001", at(1_136_073_600, 1)),
            ("1136073600.5", at(1_136_073_600, 500_000_000)),
            ("0", at(0, 0)),
            ("2006-01-02T15:04:05Z", at(1_136_214_245, 0)),
            ("2006-01-02T15:04:05.999999999+07:00", at(1_136_214_245 - 7 * 3600, 999_999_999)),
            ("", None),
            ("whenever", None),
            ("2006-13-02", None),
            ("12x", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text, now).ok(), expected, "{text}");
        }
        // Without a zone it is the host's.
        assert!(parse("2006-01-02", now).is_ok() && parse("2006-01-02T15:04", now).is_ok());
    }
}
