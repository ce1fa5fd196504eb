//! One value of a column as JSON, as `docs/values.md` fixes it.

use super::leaf::{Leaf, LeafType, Unit, Values};
use base64::Engine as _;
use nacre_types::civil;
use nacre_types::packed::{write_float, write_integer};
use std::io::Write as _;

/// Appends value `slot` of `leaf`; a value that has no JSON is described.
pub(super) fn write_value(out: &mut Vec<u8>, leaf: &Leaf, slot: usize) -> Result<(), String> {
    let missing = || "a value is missing".to_owned();
    match leaf.kind {
        LeafType::Bool => match &leaf.values {
            Values::Bool(values) => {
                let text: &[u8] = if *values.get(slot).ok_or_else(missing)? { b"true" } else { b"false" };
                out.extend_from_slice(text);
            }
            _ => return Err(missing()),
        },
        LeafType::Int { .. } => write_integer(out, leaf.integer(slot).ok_or_else(missing)?),
        LeafType::Float32 | LeafType::Float64 => match &leaf.values {
            Values::Float(values) => {
                let value = *values.get(slot).ok_or_else(missing)?;
                write_float(out, value.into(), format!("{value:?}"), |text| text.parse() == Ok(value));
            }
            Values::Double(values) => {
                let value = *values.get(slot).ok_or_else(missing)?;
                write_float(out, value, format!("{value:?}"), |text| text.parse() == Ok(value));
            }
            _ => return Err(missing()),
        },
        LeafType::Float16 => {
            let bytes: [u8; 2] =
                leaf.bytes(slot).and_then(|bytes| bytes.try_into().ok()).ok_or_else(missing)?;
            let value = half(u16::from_le_bytes(bytes));
            write_float(out, value.into(), format!("{value:?}"), |text| text.parse() == Ok(value));
        }
        LeafType::Text => {
            let text = std::str::from_utf8(leaf.bytes(slot).ok_or_else(missing)?)
                .map_err(|_| "a string that is not UTF-8".to_owned())?;
            serde_json::to_writer(out, text).map_err(|error| error.to_string())?;
        }
        LeafType::Binary | LeafType::Fixed(_) => {
            out.push(b'"');
            let bytes = leaf.bytes(slot).ok_or_else(missing)?;
            out.extend_from_slice(base64::engine::general_purpose::STANDARD.encode(bytes).as_bytes());
            out.push(b'"');
        }
        LeafType::Uuid => write_uuid(out, leaf.bytes(slot).ok_or_else(missing)?),
        LeafType::Date => {
            let mut text = String::from('"');
            civil::push_date(&mut text, leaf.integer(slot).ok_or_else(missing)? as i64);
            text.push('"');
            out.extend_from_slice(text.as_bytes());
        }
        LeafType::Time(unit) => {
            let value = leaf.integer(slot).ok_or_else(missing)? as i64;
            if !(0..86_400 * unit.per_second()).contains(&value) {
                return Err(format!("{value} is no time of day"));
            }
            let mut text = String::from('"');
            civil::push_time(&mut text, value * (1_000_000_000 / unit.per_second()), digits(unit));
            text.push('"');
            out.extend_from_slice(text.as_bytes());
        }
        LeafType::Timestamp(unit) => {
            write_moment(out, leaf.moment_nanos(slot).ok_or_else(missing)?, digits(unit).max(6));
        }
        LeafType::Int96 => write_moment(out, leaf.moment_nanos(slot).ok_or_else(missing)?, 9),
        LeafType::Decimal { scale } => write_decimal(out, unscaled(leaf, slot)?, scale)?,
        LeafType::Interval => write_interval(out, leaf.bytes(slot).ok_or_else(missing)?)?,
    }
    Ok(())
}

fn digits(unit: Unit) -> u32 {
    match unit {
        Unit::Millis => 3,
        Unit::Micros => 6,
        Unit::Nanos => 9,
    }
}

fn half(bits: u16) -> f32 {
    let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
    let exponent = i32::from(bits >> 10 & 0x1F);
    let fraction = f32::from(bits & 0x3FF);
    sign * match exponent {
        0 => fraction * 2f32.powi(-24),
        31 if fraction == 0.0 => f32::INFINITY,
        31 => f32::NAN,
        _ => (1_024.0 + fraction) * 2f32.powi(exponent - 25),
    }
}

fn write_moment(out: &mut Vec<u8>, nanos: i128, fraction_digits: u32) {
    const DAY: i128 = 86_400_000_000_000;
    let mut text = String::from('"');
    civil::push_date(&mut text, nanos.div_euclid(DAY) as i64);
    text.push('T');
    civil::push_time(&mut text, nanos.rem_euclid(DAY) as i64, fraction_digits);
    text.push_str("Z\"");
    out.extend_from_slice(text.as_bytes());
}

fn write_uuid(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    for (at, byte) in bytes.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            out.push(b'-');
        }
        let _ = write!(out, "{byte:02x}");
    }
    out.push(b'"');
}

fn unscaled(leaf: &Leaf, slot: usize) -> Result<i128, String> {
    if let Some(number) = leaf.integer(slot) {
        return Ok(number);
    }
    // Big-endian two's complement, of any length.
    let bytes = leaf.bytes(slot).ok_or("a value is missing")?;
    let negative = bytes.first().is_some_and(|&byte| byte >= 0x80);
    let sign = if negative { 0xFF } else { 0 };
    let (extension, kept) = bytes.split_at(bytes.len().saturating_sub(16));
    let overflows = extension.iter().any(|&byte| byte != sign)
        || (!extension.is_empty() && kept.first().is_some_and(|&byte| (byte >= 0x80) != negative));
    if overflows {
        return Err("a decimal of more than 38 digits".to_owned());
    }
    let start = if negative { -1i128 } else { 0 };
    Ok(kept.iter().fold(start, |number, &byte| number << 8 | i128::from(byte)))
}

/// A string with exactly `scale` digits behind the point: no reader rounds it.
fn write_decimal(out: &mut Vec<u8>, unscaled: i128, scale: i32) -> Result<(), String> {
    let Ok(scale @ 0..=76) = usize::try_from(scale) else {
        return Err(format!("a decimal with {scale} digits behind the point"));
    };
    let digits = format!("{:0width$}", unscaled.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    let sign = if unscaled < 0 { "-" } else { "" };
    let point = if scale == 0 { "" } else { "." };
    let _ = write!(out, "\"{sign}{whole}{point}{fraction}\"");
    Ok(())
}

/// Months, days and milliseconds as an ISO 8601 duration.
fn write_interval(out: &mut Vec<u8>, bytes: &[u8]) -> Result<(), String> {
    let mut words =
        bytes.chunks_exact(4).map(|word| word.iter().rev().fold(0u32, |n, &b| n << 8 | u32::from(b)));
    let (Some(months), Some(days), Some(millis)) = (words.next(), words.next(), words.next()) else {
        return Err("an interval that has not 12 bytes".to_owned());
    };
    let _ = write!(out, "\"P{months}M{days}DT{}.{:03}S\"", millis / 1_000, millis % 1_000);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn double(value: f64) -> String {
        let mut out = Vec::new();
        write_float(&mut out, value, format!("{value:?}"), |text| text.parse() == Ok(value));
        String::from_utf8(out).unwrap()
    }

    fn float(value: f32) -> String {
        let mut out = Vec::new();
        write_float(&mut out, value.into(), format!("{value:?}"), |text| text.parse() == Ok(value));
        String::from_utf8(out).unwrap()
    }

    #[test]
    #[allow(
        clippy::excessive_precision,
        reason = "the whole number, which lies in the middle between two shorter ones"
    )]
    fn of_two_texts_that_are_equally_near_the_even_one_is_taken() {
        for (value, text) in [
            (170_717_133_764_262.125, "170717133764262.12"),
            (170_717_133_764_262.375, "170717133764262.38"),
            (-170_717_133_764_262.125, "-170717133764262.12"),
            (1_125_899_906_842_624.25, "1125899906842624.2"),
            (1_125_899_906_842_624.75, "1125899906842624.8"),
            (0.1, "0.1"),
            (12_345_678.5, "12345678.5"),
            (-0.0, "-0.0"),
            (1e16, "1e16"),
            (1.5e-5, "1.5e-5"),
            (5e-324, "5e-324"),
            (f64::NAN, "null"),
        ] {
            assert_eq!(double(value), text);
        }
        for (value, text) in [
            (0.1, "0.1"),
            (2_097_152.25, "2097152.2"),
            (2_097_152.75, "2097152.8"),
            (16_777_216.0, "16777216.0"),
        ] {
            assert_eq!(float(value), text);
        }
    }

    #[test]
    fn every_text_reads_back() {
        let mut bits = 0x9E37_79B9_7F4A_7C15_u64;
        for at in 0..200_000u64 {
            bits = bits.wrapping_mul(0xD129_0AB2_8C1A_47D5).wrapping_add(at | 1);
            // Eighths, sixteenths and so on of large numbers are what lies between two texts.
            let value = if at % 2 == 0 { f64::from_bits(bits) } else { (bits >> 11) as f64 / 64.0 };
            if value.is_finite() {
                let text = double(value);
                assert_eq!(text.parse::<f64>(), Ok(value), "{text}");
                assert_eq!(text.len(), format!("{value:?}").len(), "{text}");
            }
            let narrow = bits as u32 as f32 / 256.0;
            assert_eq!(float(narrow).parse::<f32>(), Ok(narrow));
        }
    }
}
