//! Products of money that no 128-bit integer holds.

/// An unsigned number of 256 bits, its lowest limb first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wide([u64; 4]);

impl Wide {
    /// The product of two numbers, exact.
    #[must_use]
    pub fn product(a: u128, b: u128) -> Self {
        let halves = |n: u128| [n as u64, (n >> 64) as u64];
        let (a, b) = (halves(a), halves(b));
        let mut limbs = [0u64; 4];
        for (i, x) in a.into_iter().enumerate() {
            let mut carry = 0u128;
            for (j, y) in b.into_iter().enumerate() {
                let sum = u128::from(x) * u128::from(y) + u128::from(limbs[i + j]) + carry;
                limbs[i + j] = sum as u64;
                carry = sum >> 64;
            }
            limbs[i + 2] = carry as u64;
        }
        Self(limbs)
    }

    /// Quotient and remainder.
    fn divided(self, by: u64) -> (Self, u64) {
        let mut limbs = [0u64; 4];
        let mut rest = 0u128;
        for at in (0..4).rev() {
            let dividend = (rest << 64) | u128::from(self.0[at]);
            limbs[at] = (dividend / u128::from(by)) as u64;
            rest = dividend % u128::from(by);
        }
        (Self(limbs), rest as u64)
    }

    /// The number divided by `10^places`, rounded half up, where an `i64` holds it.
    #[must_use]
    pub fn scaled_down(self, places: u32) -> Option<i64> {
        let (mut quotient, mut last) = (self, 0);
        for _ in 0..places {
            (quotient, last) = quotient.divided(10);
        }
        // Only the first digit that is dropped decides about half or more.
        let [low, 0, 0, 0] = quotient.0 else { return None };
        i64::try_from(low).ok()?.checked_add(i64::from(last >= 5))
    }

    /// The shortest exact literal of the number divided by `10^places`.
    #[must_use]
    pub fn decimal(self, places: usize) -> String {
        let mut digits = Vec::new();
        let mut rest = self;
        while rest != Self([0; 4]) || digits.len() <= places {
            let (quotient, digit) = rest.divided(10);
            digits.push(char::from(b'0' + digit as u8));
            rest = quotient;
        }
        digits.reverse();
        let text: String = digits.into_iter().collect();
        let (whole, fraction) = text.split_at(text.len() - places);
        let fraction = fraction.trim_end_matches('0');
        if fraction.is_empty() { whole.to_owned() } else { format!("{whole}.{fraction}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_largest_product_is_exact() {
        let wide = Wide::product(u128::MAX, u128::MAX);
        // (2^128 − 1)² = 2^256 − 2^129 + 1
        assert_eq!(
            wide.decimal(0),
            "115792089237316195423570985008687907852589419931798687112530834793049593217025"
        );
        assert_eq!(wide.scaled_down(22), None);
        assert_eq!(Wide::product(0, 5).decimal(3), "0");
        assert_eq!(Wide::product(5, 1).scaled_down(1), Some(1));
        assert_eq!(Wide::product(49, 1).scaled_down(2), Some(0));
        assert_eq!(Wide::product(7, 1).scaled_down(0), Some(7));
    }

    proptest! {
        #[test]
        fn small_products_are_those_of_integers(a in 0..=u64::MAX, b in 0..=u64::MAX, places in 0u32..=38) {
            let exact = u128::from(a) * u128::from(b);
            let unit = 10u128.pow(places);
            let half_up = exact / unit + u128::from(exact % unit >= unit.div_ceil(2) && unit > 1);
            let wide = Wide::product(a.into(), b.into());
            prop_assert_eq!(wide.scaled_down(places), i64::try_from(half_up).ok());
            prop_assert_eq!(wide.decimal(0), exact.to_string());
        }

        #[test]
        fn large_products_divide_back(a in 1..=u128::MAX, b in 1u64..=u64::MAX) {
            let (quotient, rest) = Wide::product(a, b.into()).divided(b);
            prop_assert_eq!((quotient, rest), (Wide::product(a, 1), 0));
        }
    }
}
