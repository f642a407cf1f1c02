//! Exact decimals as scaled `i64`: parsing from any JSON number literal, and the shortest exact text.
//!
//! A value with `places` decimals is stored as `value × 10^places`. No binary float is involved in
//! either direction, so `0.1` is a tenth.

use serde::{Deserialize, Deserializer, Serializer, de::Error as _, ser::Error as _};
use serde_json::value::RawValue;
use std::borrow::Cow;

/// The longest literal that is looked at; a longer one is no sensible amount.
pub const LITERAL_MAX_CHARS: usize = 64;

/// Why a text is not an exact decimal of the wanted kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecimalError {
    /// The text is no number.
    #[error("must be a number")]
    NotANumber,
    /// More decimals than the unit has.
    #[error("must have at most {0} decimal places")]
    TooPrecise(u32),
    /// Beyond what the unit can hold.
    #[error("must be at most {0}")]
    TooLarge(&'static str),
    /// Below zero where only zero and above make sense.
    #[error("must not be negative")]
    Negative,
    /// Zero or below where only more than zero makes sense.
    #[error("must be greater than 0")]
    NotPositive,
}

/// Parses a JSON number literal (exponent form included) into `value × 10^places`.
///
/// `limit` bounds the absolute scaled value and `limit_text` is how the refusal names it.
///
/// # Errors
/// [`DecimalError::NotANumber`], [`DecimalError::TooPrecise`] or [`DecimalError::TooLarge`].
pub fn parse(text: &str, places: u32, limit: i64, limit_text: &'static str) -> Result<i64, DecimalError> {
    match parse_rounding(text, places, limit, limit_text)? {
        (value, false) => Ok(value),
        (_, true) => Err(DecimalError::TooPrecise(places)),
    }
}

/// The same for a literal that may have more places: it is rounded half up, away from zero, and the truth says
/// whether that changed its value.
///
/// # Errors
/// [`DecimalError::NotANumber`] or [`DecimalError::TooLarge`].
pub fn parse_rounding(
    text: &str,
    places: u32,
    limit: i64,
    limit_text: &'static str,
) -> Result<(i64, bool), DecimalError> {
    let Digits { negative, digits, scale } = digits(text)?;
    if digits.is_empty() {
        return Ok((0, false));
    }
    let scale = scale + i64::from(places);
    let rounded = scale < 0;
    let value = if rounded {
        let cut = usize::try_from(-scale).unwrap_or(usize::MAX);
        let kept = digits.len().saturating_sub(cut);
        let half = digits.len() >= cut && digits.as_bytes()[kept] >= b'5';
        let value = if kept == 0 { Some(0) } else { digits[..kept].parse::<i128>().ok() };
        value.map(|value| value + i128::from(half))
    } else {
        let power = u32::try_from(scale).ok().and_then(|s| 10i128.checked_pow(s));
        digits.parse::<i128>().ok().zip(power).and_then(|(v, p)| v.checked_mul(p))
    };
    let value = value
        .filter(|v| *v <= i128::from(limit))
        .and_then(|v| i64::try_from(v).ok())
        .ok_or(DecimalError::TooLarge(limit_text))?;
    Ok((if negative { -value } else { value }, rounded))
}

/// A literal's value as `digits × 10^scale`, the digits freed of zeros at both ends; none for zero.
struct Digits {
    negative: bool,
    digits: String,
    scale: i64,
}

fn digits(text: &str) -> Result<Digits, DecimalError> {
    use DecimalError::NotANumber;
    if text.is_empty() || text.len() > LITERAL_MAX_CHARS {
        return Err(NotANumber);
    }
    let (negative, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((m, e)) => (m, e.parse::<i32>().map_err(|_| NotANumber)?),
        None => (unsigned, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.is_empty() || (mantissa.contains('.') && fraction.is_empty()) {
        return Err(NotANumber);
    }
    if !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) {
        return Err(NotANumber);
    }
    let all = format!("{whole}{fraction}");
    let trimmed = all.trim_end_matches('0');
    let dropped = i64::try_from(all.len() - trimmed.len()).unwrap_or(i64::MAX);
    let fraction_len = i64::try_from(fraction.len()).unwrap_or(i64::MAX);
    let scale = i64::from(exponent) - fraction_len + dropped;
    Ok(Digits { negative, digits: trimmed.trim_start_matches('0').to_owned(), scale })
}

/// The shortest exact literal of `value ÷ 10^places`: `1000`, `923.5`, `0.000001`.
#[must_use]
pub fn format(value: i128, places: u32) -> String {
    let unit = 10u128.pow(places);
    let magnitude = value.unsigned_abs();
    let sign = if value < 0 { "-" } else { "" };
    let (whole, fraction) = (magnitude / unit, magnitude % unit);
    if fraction == 0 {
        return format!("{sign}{whole}");
    }
    let text = format!("{sign}{whole}.{fraction:0width$}", width = places as usize);
    text.trim_end_matches('0').to_owned()
}

/// Writes `value ÷ 10^places` as a JSON number with its exact literal.
///
/// # Errors
/// Whatever the serializer returns.
pub fn serialize<S: Serializer>(value: i128, places: u32, serializer: S) -> Result<S::Ok, S::Error> {
    let unit = 10i128.pow(places);
    if value % unit == 0 {
        return match i64::try_from(value / unit) {
            Ok(whole) => serializer.serialize_i64(whole),
            Err(_) => serializer.serialize_i128(value / unit),
        };
    }
    let raw = RawValue::from_string(format(value, places)).map_err(S::Error::custom)?;
    serde::Serialize::serialize(&raw, serializer)
}

/// Reads the literal of a JSON number, or the text of a JSON string.
///
/// # Errors
/// When the value is neither a number nor a string.
pub fn literal<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let raw = <&RawValue>::deserialize(deserializer)?.get();
    let text: Cow<'_, str> = if raw.starts_with('"') {
        serde_json::from_str::<String>(raw).map_err(D::Error::custom)?.into()
    } else if raw.starts_with(['-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9']) {
        raw.into()
    } else {
        return Err(D::Error::custom(DecimalError::NotANumber));
    };
    Ok(text.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMIT: i64 = 9_000_000_000_000_000_000;

    fn six(text: &str) -> Result<i64, DecimalError> {
        parse(text, 6, LIMIT, "9000000000000")
    }

    #[test]
    fn literals_in_every_form_are_exact() {
        for (text, micro) in [
            ("0", 0),
            ("-0", 0),
            ("0.1", 100_000),
            ("923.5", 923_500_000),
            ("0.000001", 1),
            ("1e3", 1_000_000_000),
            ("1.5E-3", 1_500),
            ("12.3400000000", 12_340_000),
            ("0e99999", 0),
            ("100000000e-13", 10),
            ("8999999999999.123457", 8_999_999_999_999_123_457),
            ("9000000000000", LIMIT),
            ("-2.5", -2_500_000),
        ] {
            assert_eq!(six(text), Ok(micro), "{text}");
        }
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        use DecimalError::{NotANumber, TooLarge, TooPrecise};
        for (text, error) in [
            ("", NotANumber),
            ("abc", NotANumber),
            (".5", NotANumber),
            ("5.", NotANumber),
            ("1 000", NotANumber),
            ("1,5", NotANumber),
            ("NaN", NotANumber),
            ("Infinity", NotANumber),
            ("0x10", NotANumber),
            ("1e", NotANumber),
            ("--1", NotANumber),
            ("0.0000001", TooPrecise(6)),
            ("1e-7", TooPrecise(6)),
            ("9000000000000.000001", TooLarge("9000000000000")),
            ("1e300", TooLarge("9000000000000")),
            ("1e2147483647", TooLarge("9000000000000")),
        ] {
            assert_eq!(six(text), Err(error), "{text}");
        }
        assert_eq!(six(&"1".repeat(65)), Err(NotANumber));
    }

    #[test]
    fn more_places_are_rounded_half_up_where_that_is_wanted() {
        let round = |text| parse_rounding(text, 6, LIMIT, "9000000000000");
        for (text, value, rounded) in [
            ("0.0000004", 0, true),
            ("0.0000005", 1, true),
            ("0.00000049999", 0, true),
            ("1e-7", 0, true),
            ("5e-7", 1, true),
            ("9e-300", 0, true),
            ("-0.0000005", -1, true),
            ("0.9999995", 1_000_000, true),
            ("1.2345678", 1_234_568, true),
            ("0.000001", 1, false),
            ("1.50000000", 1_500_000, false),
            ("0", 0, false),
        ] {
            assert_eq!(round(text), Ok((value, rounded)), "{text}");
        }
        assert_eq!(round("1e300"), Err(DecimalError::TooLarge("9000000000000")));
        assert_eq!(round("1e-"), Err(DecimalError::NotANumber));
    }

    proptest! {
        #[test]
        fn what_is_formatted_parses_back(value in -LIMIT..=LIMIT) {
            prop_assert_eq!(six(&format(i128::from(value), 6)), Ok(value));
        }

        #[test]
        fn any_text_is_answered(text in ".{0,80}") {
            let _ = six(&text);
        }
    }
}
