//! Numbers in packed values, as `docs/values.md` fixes them: the same bytes whoever packs, a load or a source.

use std::io::Write as _;

/// Integers up to this magnitude are JSON numbers: what a double holds exactly.
const EXACT: u128 = 1 << 53;

/// An integer: beyond ±2^53 a string, because a double holds no more exactly.
pub fn write_integer(out: &mut Vec<u8>, value: i128) {
    let _ = if value.unsigned_abs() <= EXACT { write!(out, "{value}") } else { write!(out, "\"{value}\"") };
}

/// The shortest digits that read back to the same number of the same width; what is not finite has no JSON and is null.
///
/// `text` is what Rust makes of `value`: it has those digits, nearest to the number, but of two that are equally near it
/// takes the greater. Everyone else (Java, JavaScript, Python, Ryu) takes the even one, and the same value must be the same
/// bytes whoever packed it.
pub fn write_float(out: &mut Vec<u8>, value: f64, mut text: String, reads_back: impl Fn(&str) -> bool) {
    if !value.is_finite() {
        out.extend_from_slice(b"null");
        return;
    }
    if may_lie_between(value) {
        let end = text.find('e').unwrap_or(text.len());
        let last = text.get(..end).and_then(|digits| digits.rfind(|digit: char| digit.is_ascii_digit()));
        let digits = text.get(..end).unwrap_or_default().bytes().filter(u8::is_ascii_digit);
        let count = digits.skip_while(|&digit| digit == b'0').count();
        // As many digits of the exact number, rounded to the even one where it lies between two.
        let even = format!("{value:.places$e}", places = count.saturating_sub(1));
        let digit = even.split('e').next().and_then(|digits| digits.chars().last());
        if let (Some(last), Some(digit)) = (last, digit) {
            let mut other = text.clone();
            other.replace_range(last..=last, digit.encode_utf8(&mut [0; 4]));
            if other != text && reads_back(&other) {
                text = other;
            }
        }
    }
    out.extend_from_slice(text.as_bytes());
}

/// Whether a number can lie in the middle between two shortest texts: its own digits are then one more than theirs, the
/// last of them 5, so 8 to 18 of them. Only few numbers have so few: an odd number by a power of two has as many as its
/// product with that power of five.
fn may_lie_between(value: f64) -> bool {
    let bits = value.to_bits();
    let (exponent, fraction) = ((bits >> 52 & 0x7FF) as i32, bits & ((1 << 52) - 1));
    // Numbers without a full exponent have hundreds of digits.
    let whole = fraction | 1 << 52;
    let power = 1_075 - exponent - whole.trailing_zeros() as i32;
    let odd = u128::from(whole >> whole.trailing_zeros());
    exponent > 0
        && (1..=27).contains(&power)
        && (10u128.pow(7)..10u128.pow(18)).contains(&(odd * 5u128.pow(power.unsigned_abs())))
}
