//! Sums that neither engine can overflow.
//!
//! SQL integers hold 63 bits, and a sum of two large amounts may not fit. A [`WideSum`] travels
//! through SQL as two columns, `hi · 2³² + lo`; each half stays below 2³² per addend, so a sum is
//! exact for the first 2 147 483 648 addends, more than one bucket of one user ever holds.

/// `hi · 2³² + lo`, as two SQL integers that are summed each on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WideSum {
    /// The upper halves' sum.
    pub hi: i64,
    /// The lower halves' sum.
    pub lo: i64,
}

impl WideSum {
    /// One addend, which must not be negative.
    #[must_use]
    pub const fn of(value: i64) -> Self {
        debug_assert!(value >= 0);
        Self { hi: value >> 32, lo: value & 0xffff_ffff }
    }

    /// Adds another sum, half by half.
    pub const fn add(&mut self, other: Self) {
        self.hi += other.hi;
        self.lo += other.lo;
    }

    /// Takes another sum away, half by half.
    pub const fn sub(&mut self, other: Self) {
        self.hi -= other.hi;
        self.lo -= other.lo;
    }

    /// The sum's value.
    #[must_use]
    pub const fn value(self) -> i128 {
        (self.hi as i128) * (1 << 32) + self.lo as i128
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn halves_add_up(values in proptest::collection::vec(0..=i64::MAX, 0..50)) {
            let mut sum = WideSum::default();
            values.iter().for_each(|v| sum.add(WideSum::of(*v)));
            prop_assert_eq!(sum.value(), values.iter().map(|v| i128::from(*v)).sum::<i128>());
        }
    }
}
