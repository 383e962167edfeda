//! Quantities: exact fixed-point numbers with a suffix, `100m`, `1.5Gi`, `2e3` (`k8s.io/apimachinery/pkg/api/resource`).

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

const NANOS: i128 = 1_000_000_000;
const BINARY_SUFFIXES: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
const DECIMAL_SUFFIXES: [(&str, i32); 10] =
    [("n", -9), ("u", -6), ("m", -3), ("", 0), ("k", 3), ("M", 6), ("G", 9), ("T", 12), ("P", 15), ("E", 18)];

/// A quantity. Equality and order are by value, not by spelling.
#[derive(Clone, Copy, Debug)]
pub struct Quantity {
    /// In billionths: upstream keeps at most nine decimal places.
    nanos: i128,
    format: Format,
}

/// Which family of suffixes a quantity is printed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    DecimalSi,
    BinarySi,
    DecimalExponent,
}

/// In upstream's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    #[error("unable to parse numeric part of quantity")]
    Numeric,
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

impl Quantity {
    pub const ZERO: Self = Self { nanos: 0, format: Format::DecimalSi };

    /// Reads a quantity; more than nine decimal places are rounded up, away from zero.
    ///
    /// # Errors
    /// In upstream's words, of the text's shape, its number or its suffix.
    pub fn parse(text: &str) -> Result<Self, QuantityError> {
        let (negative, unsigned) = match text.as_bytes().first() {
            None => return Err(QuantityError::Format),
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            Some(_) => (false, text),
        };
        let digits_end = unsigned.find(|c: char| !c.is_ascii_digit()).unwrap_or(unsigned.len());
        let (whole, rest) = unsigned.split_at(digits_end);
        let (fraction, suffix) = match rest.strip_prefix('.') {
            Some(rest) => rest.split_at(rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len())),
            None => ("", rest),
        };
        if !is_suffix_shaped(suffix) {
            return Err(QuantityError::Format);
        }
        if whole.is_empty() && fraction.is_empty() {
            return Err(QuantityError::Numeric);
        }
        let (base, exponent, mut format) = suffix_meaning(suffix).ok_or(QuantityError::Suffix)?;
        let digits = [whole, fraction].concat();
        let mantissa: i128 = digits.parse().map_err(|_| QuantityError::Numeric)?;
        let places = i64::try_from(fraction.len()).map_err(|_| QuantityError::Numeric)?;
        let magnitude = if base == 2 {
            // Upstream caps these, and only these, at 2^63-1.
            let scaled = mantissa.checked_mul(1 << exponent).ok_or(QuantityError::Numeric)?;
            let nanos = shift_decimal(scaled, 9 - places).ok_or(QuantityError::Numeric)?;
            nanos.min(i128::from(i64::MAX) * NANOS)
        } else {
            shift_decimal(mantissa, i64::from(exponent) + 9 - places).ok_or(QuantityError::Numeric)?
        };
        // Upstream: a binary suffix on less than one would round away.
        if format == Format::BinarySi && magnitude > 0 && magnitude < NANOS {
            format = Format::DecimalSi;
        }
        Ok(Self { nanos: if negative { -magnitude } else { magnitude }, format })
    }

    /// A whole number, printed with `format`'s suffixes.
    pub fn from_value(value: i64, format: Format) -> Self {
        Self { nanos: i128::from(value) * NANOS, format }
    }

    /// Thousandths, as CPU is counted.
    pub fn from_milli(milli: i64) -> Self {
        Self { nanos: i128::from(milli) * (NANOS / 1000), format: Format::DecimalSi }
    }

    /// Whole units, rounded away from zero and held within `i64`.
    pub fn value(&self) -> i64 {
        held(divide_away(self.nanos, NANOS))
    }

    /// Thousandths, rounded away from zero and held within `i64`.
    pub fn milli_value(&self) -> i64 {
        held(divide_away(self.nanos, NANOS / 1000))
    }

    /// -1, 0 or 1.
    pub fn sign(&self) -> i32 {
        match self.nanos.cmp(&0) {
            Ordering::Less => -1,
            Ordering::Equal => 0,
            Ordering::Greater => 1,
        }
    }

    /// As upstream asks it of what can't be divided.
    pub fn is_whole(&self) -> bool {
        self.milli_value() % 1000 == 0
    }

    pub fn is_zero(&self) -> bool {
        self.nanos == 0
    }

    /// Which family of suffixes it is printed with.
    pub fn format(&self) -> Format {
        self.format
    }

    /// The sum, in `self`'s format unless that is zero. `None` past what 38 digits hold.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        let format = if self.is_zero() { other.format } else { self.format };
        Some(Self { nanos: self.nanos.checked_add(other.nanos)?, format })
    }

    /// The difference, in `self`'s format unless that is zero.
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        let format = if self.is_zero() { other.format } else { self.format };
        Some(Self { nanos: self.nanos.checked_sub(other.nanos)?, format })
    }
}

impl fmt::Display for Quantity {
    /// The canonical form: no fraction, the largest suffix that loses nothing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return f.write_str("0");
        }
        let whole = self.nanos / NANOS;
        if self.format == Format::BinarySi && self.nanos % NANOS == 0 && whole.abs() >= 1024 {
            let (mut number, mut step) = (whole, 0);
            while number % 1024 == 0 && step + 1 < BINARY_SUFFIXES.len() {
                number /= 1024;
                step += 1;
            }
            return write!(f, "{number}{}", BINARY_SUFFIXES[step]);
        }
        let (mut number, mut exponent) = (self.nanos, -9);
        while number % 1000 == 0 && exponent < 18 {
            number /= 1000;
            exponent += 3;
        }
        match self.format {
            Format::DecimalExponent if exponent == 0 => write!(f, "{number}"),
            Format::DecimalExponent => write!(f, "{number}e{exponent}"),
            Format::DecimalSi | Format::BinarySi => {
                let suffix = DECIMAL_SUFFIXES.iter().find(|(_, e)| *e == exponent).map_or("", |(suffix, _)| suffix);
                write!(f, "{number}{suffix}")
            }
        }
    }
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

/// Letters of suffixes, then a signed whole number (of a decimal exponent).
fn is_suffix_shaped(suffix: &str) -> bool {
    let rest = suffix.trim_start_matches(|c| "eEinumkKMGTP".contains(c));
    let digits = rest.strip_prefix(['-', '+']).unwrap_or(rest);
    digits.bytes().all(|b| b.is_ascii_digit())
}

fn suffix_meaning(suffix: &str) -> Option<(u8, i32, Format)> {
    if let Some((_, exponent)) = DECIMAL_SUFFIXES.iter().find(|(s, _)| *s == suffix) {
        return Some((10, *exponent, Format::DecimalSi));
    }
    if let Some(step) = BINARY_SUFFIXES.iter().skip(1).position(|s| *s == suffix) {
        return Some((2, 10 * (i32::try_from(step).ok()? + 1), Format::BinarySi));
    }
    let exponent = suffix.strip_prefix(['e', 'E'])?;
    Some((10, exponent.parse().ok()?, Format::DecimalExponent))
}

/// `number * 10^places`, rounded away from zero. `None` when it doesn't fit.
fn shift_decimal(number: i128, places: i64) -> Option<i128> {
    if number == 0 {
        return Some(0);
    }
    let power = u32::try_from(places.unsigned_abs()).ok().and_then(|p| 10i128.checked_pow(p));
    match power {
        Some(power) if places >= 0 => number.checked_mul(power),
        Some(power) => Some(divide_away(number, power)),
        // A divisor past 38 digits: all that is left of a number is that it isn't zero.
        None => (places < 0).then_some(number.signum()),
    }
}

fn divide_away(number: i128, by: i128) -> i128 {
    let quotient = number / by;
    if number % by == 0 { quotient } else { quotient + number.signum() }
}

fn held(number: i128) -> i64 {
    i64::try_from(number).unwrap_or(if number < 0 { i64::MIN } else { i64::MAX })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Quantity {
        Quantity::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn parses_and_prints_canonically() {
        // Upstream's quantity_test.go and the examples of its documentation.
        let cases = [
            ("0", "0"),
            ("0Ki", "0"),
            ("1.5", "1500m"),
            ("1.5Gi", "1536Mi"),
            ("100m", "100m"),
            ("1000m", "1"),
            ("0.1", "100m"),
            ("1Ki", "1Ki"),
            ("8Ki", "8Ki"),
            ("1024Ki", "1Mi"),
            ("1000Ki", "1000Ki"),
            ("64Mi", "64Mi"),
            ("128974848", "128974848"),
            ("129e6", "129e6"),
            ("129M", "129M"),
            ("128974848000m", "128974848"),
            ("123Mi", "123Mi"),
            ("50k", "50k"),
            ("1000k", "1M"),
            ("1E-3", "1e-3"),
            ("1e3", "1e3"),
            ("1e14", "100e12"),
            ("1E18", "1e18"),
            ("12E", "12E"),
            ("3.001n", "4n"),
            ("0.0000000001", "1n"),
            ("0.000000000001Ki", "2n"),
            ("9Ei", "9223372036854775807"),
            ("1.", "1"),
            (".001", "1m"),
            ("1.G", "1G"),
            ("-5", "-5"),
            ("+5", "5"),
            ("-1.5", "-1500m"),
            ("0.5Mi", "512Ki"),
            ("512", "512"),
            ("0.5Ki", "512"),
        ];
        for (text, canonical) in cases {
            assert_eq!(parsed(text).to_string(), canonical, "{text}");
        }
    }

    #[test]
    fn refuses_what_upstream_refuses() {
        for text in
            ["", "1.1.M", "1+1.0M", "0.1mi", "0.1am", "aoeu", ".5i", "1i", "-3.01i", "-3.01e-", " 1", "1 ", "-", "."]
        {
            assert!(Quantity::parse(text).is_err(), "{text:?}");
        }
        assert_eq!(Quantity::parse("0.1am"), Err(QuantityError::Format));
        assert_eq!(Quantity::parse("1i"), Err(QuantityError::Suffix));
    }

    #[test]
    fn rounds_away_from_zero() {
        for (text, value, milli) in
            [("100m", 1, 100), ("1100m", 2, 1100), ("-100m", -1, -100), ("1Gi", 1 << 30, 1000 << 30), ("1n", 1, 1)]
        {
            assert_eq!((parsed(text).value(), parsed(text).milli_value()), (value, milli), "{text}");
        }
        assert_eq!(parsed("100E").value(), i64::MAX);
    }

    #[test]
    fn adds_and_orders_by_value() {
        let sum = parsed("1Gi").checked_add(parsed("512Mi")).expect("fits");
        assert_eq!(sum.to_string(), "1536Mi");
        assert_eq!(Quantity::ZERO.checked_add(parsed("1Gi")).expect("fits").to_string(), "1Gi");
        assert_eq!(parsed("2").checked_sub(parsed("500m")).expect("fits").to_string(), "1500m");
        assert!(parsed("1Ki") > parsed("1k") && parsed("1000m") == parsed("1"));
    }

    proptest::proptest! {
        #[test]
        fn printing_keeps_the_value(nanos in -9_000_000_000_000_000_000_000_000_000i128..9_000_000_000_000_000_000_000_000_000, format in 0..3) {
            let format = [Format::DecimalSi, Format::BinarySi, Format::DecimalExponent][format as usize];
            for nanos in [nanos, nanos / NANOS * NANOS, nanos / NANOS / 1024 * 1024 * NANOS] {
                let quantity = Quantity { nanos, format };
                proptest::prop_assert_eq!(Quantity::parse(&quantity.to_string()), Ok(quantity));
            }
        }

        #[test]
        fn no_text_panics(text in "[-+]?[0-9.]{0,40}[a-zA-Z]{0,3}[-+]?[0-9]{0,12}") {
            if let Ok(quantity) = Quantity::parse(&text) {
                proptest::prop_assert_eq!(Quantity::parse(&quantity.to_string()), Ok(quantity));
            }
        }
    }
}
