//! Quantities: exact fixed-point numbers with a suffix, `100m`, `1.5Gi`, `2e3` (`k8s.io/apimachinery/pkg/api/resource`).

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

    pub fn parse(text: &str) -> Result<Self, QuantityError> {
        let _ = text;
        todo!()
    }

    /// A whole number, printed with `format`'s suffixes.
    pub fn from_value(value: i64, format: Format) -> Self {
        Self { nanos: i128::from(value) * 1_000_000_000, format }
    }

    pub fn from_milli(milli: i64) -> Self {
        Self { nanos: i128::from(milli) * 1_000_000, format: Format::DecimalSi }
    }

    /// Rounded up, and held within `i64`.
    pub fn value(&self) -> i64 {
        todo!()
    }

    /// In thousandths, rounded up, and held within `i64`.
    pub fn milli_value(&self) -> i64 {
        todo!()
    }

    /// -1, 0 or 1.
    pub fn sign(&self) -> i32 {
        self.nanos.signum() as i32
    }

    pub fn is_zero(&self) -> bool {
        self.nanos == 0
    }

    pub fn checked_add(self, other: Self) -> Option<Self> {
        let _ = (other, self.format);
        todo!()
    }

    pub fn checked_sub(self, other: Self) -> Option<Self> {
        let _ = other;
        todo!()
    }
}

impl std::fmt::Display for Quantity {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        todo!()
    }
}
