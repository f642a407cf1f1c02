//! Decimals without binary floats: the literal's text in, an integer of the smallest unit out.

use crate::Fallible;

/// Reads a decimal literal (optionally quoted, optionally with an exponent) as an integer count of
/// `10^-places`. A literal with more places than that is refused, never rounded.
pub fn parse(literal: &str, places: u32) -> Fallible<i128> {
    let text = literal.trim().trim_matches('"');
    let wrong = || format!("not an exact decimal with at most {places} places: {literal}");
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().map_err(|_| wrong())?),
        None => (text, 0),
    };
    let (negative, digits) = match mantissa.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, mantissa),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() || !whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit()) {
        return Err(wrong().into());
    }
    let mut value: i128 = format!("{whole}{fraction}").parse().map_err(|_| wrong())?;
    let mut shift = i64::from(places) + i64::from(exponent) - fraction.len() as i64;
    while shift < 0 {
        if value % 10 != 0 {
            return Err(wrong().into());
        }
        value /= 10;
        shift += 1;
    }
    let power = u32::try_from(shift).ok().and_then(|shift| 10_i128.checked_pow(shift)).ok_or_else(wrong)?;
    value = value.checked_mul(power).ok_or_else(wrong)?;
    Ok(if negative { -value } else { value })
}

/// Writes an integer count of `10^-places` as the shortest exact decimal literal.
pub fn literal(value: i128, places: u32) -> String {
    let one = 10_i128.pow(places);
    let sign = if value < 0 { "-" } else { "" };
    let (whole, fraction) = (value.abs() / one, value.abs() % one);
    if fraction == 0 {
        return format!("{sign}{whole}");
    }
    let digits = format!("{fraction:0width$}", width = places as usize);
    format!("{sign}{whole}.{}", digits.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::{literal, parse};

    #[test]
    fn literals_survive_to_the_last_digit() {
        for (text, places, value) in [
            ("1000", 6, 1_000_000_000),
            ("923.5", 6, 923_500_000),
            ("0.000001", 6, 1),
            ("0.00000015", 9, 150),
            ("-3.25", 6, -3_250_000),
        ] {
            assert_eq!(parse(text, places).unwrap(), value);
            assert_eq!(literal(value, places), text);
        }
        assert_eq!(parse("1.5e-7", 9).unwrap(), 150);
        assert_eq!(parse("\"2.50\"", 6).unwrap(), 2_500_000);
        assert_eq!(parse("1e3", 0).unwrap(), 1000);
        for bad in ["0.0000001", "1e-7", "", ".", "1.2.3", "NaN", "0x10", "--1"] {
            assert!(parse(bad, 6).is_err(), "{bad}");
        }
    }
}
