//! Signals by name or number, as images and requests give them.

use std::str::FromStr;

use nix::sys::signal::Signal;

use crate::engine::{Error, Result};

/// The number of `SIGTERM`, `term`, `15`, `SIGRTMIN+3`.
///
/// # Errors
/// In Docker's words.
pub fn number(text: &str) -> Result<i32> {
    let invalid = || Error::Invalid(format!("invalid signal: {text}"));
    if let Ok(number) = text.parse::<i32>() {
        return if (1..=64).contains(&number) { Ok(number) } else { Err(invalid()) };
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    // The C library keeps the first two real-time signals for itself.
    if let Some(offset) = name.strip_prefix("RTMIN") {
        return offset_from(34, offset).ok_or_else(invalid);
    }
    if let Some(offset) = name.strip_prefix("RTMAX") {
        return offset_from(64, offset).ok_or_else(invalid);
    }
    Signal::from_str(&format!("SIG{name}")).map(|signal| signal as i32).map_err(|_| invalid())
}

fn offset_from(base: i32, offset: &str) -> Option<i32> {
    let offset = if offset.is_empty() { 0 } else { offset.parse::<i32>().ok()? };
    Some(base.checked_add(offset)?).filter(|number| (34..=64).contains(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        for (text, expected) in [
            ("SIGTERM", 15),
            ("quit", 3),
            ("9", 9),
            ("SIGRTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("RTMAX-1", 63),
            ("usr1", 10),
        ] {
            assert_eq!(number(text).unwrap(), expected, "{text}");
        }
        for text in ["", "SIGNONE", "0", "65", "RTMIN+40"] {
            assert!(number(text).is_err(), "{text}");
        }
    }
}
