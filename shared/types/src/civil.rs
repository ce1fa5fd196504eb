//! Dates and moments as text: RFC 3339 in UTC, from and to days and microseconds since the epoch, proleptic Gregorian
//! calendar. Pure arithmetic; nothing here knows what time it is.
//!
//! Source of the algorithms: Howard Hinnant, "chrono-compatible low-level date algorithms".

use std::fmt::Write as _;

/// Microseconds of a day.
pub const MICROS_PER_DAY: i64 = 86_400_000_000;

/// Year, month (1 to 12) and day (1 to 31) of a day since 1970-01-01.
pub fn civil_from_days(days: i64) -> (i64, u32, u32) {
    let shifted = days.saturating_add(719_468);
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month as u32, day as u32)
}

/// Days since 1970-01-01; `None` where there is no such date, or its year lies outside ±5,900,000.
pub fn days_from_civil(year: i64, month: u32, day: u32) -> Option<i64> {
    if !(1..=12).contains(&month) || day == 0 || !(-5_900_000..=5_900_000).contains(&year) {
        return None;
    }
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let last = match month {
        2 => 28 + u32::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    if day > last {
        return None;
    }
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((i64::from(month) + 9) % 12) + 2) / 5 + i64::from(day) - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Some(era * 146_097 + day_of_era - 719_468)
}

/// Appends `2024-02-29`; years outside 0 to 9999 get a sign and as many digits as they need.
pub fn push_date(out: &mut String, days: i64) {
    let (year, month, day) = civil_from_days(days);
    let _ = if (0..=9_999).contains(&year) {
        write!(out, "{year:04}-{month:02}-{day:02}")
    } else {
        write!(out, "{year:+05}-{month:02}-{day:02}")
    };
}

/// Appends the time of day `12:34:56`, with `fraction_digits` (0 to 9) digits of `nanos` behind it unless they are all
/// zero.
pub fn push_time(out: &mut String, nanos_of_day: i64, fraction_digits: u32) {
    let seconds = nanos_of_day.div_euclid(1_000_000_000);
    let nanos = nanos_of_day.rem_euclid(1_000_000_000);
    let _ = write!(out, "{:02}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60);
    let fraction = nanos / 10_i64.pow(9 - fraction_digits.min(9));
    if fraction != 0 {
        let _ = write!(out, ".{fraction:0width$}", width = fraction_digits as usize);
    }
}

/// Appends `2024-02-29T12:34:56.000001Z`; no fraction where it is zero, six digits otherwise.
pub fn push_timestamp(out: &mut String, micros: i64) {
    push_date(out, micros.div_euclid(MICROS_PER_DAY));
    out.push('T');
    push_time(out, micros.rem_euclid(MICROS_PER_DAY) * 1_000, 6);
    out.push('Z');
}

/// Reads a date `2024-02-29` as [`push_date`] writes it.
pub fn parse_date(text: &str) -> Option<i64> {
    let (sign, digits) = match text.as_bytes().first()? {
        b'-' => (-1, text.get(1..)?),
        b'+' => (1, text.get(1..)?),
        _ => (1, text),
    };
    let mut fields = digits.split('-');
    let (year, month, day) = (fields.next()?, fields.next()?, fields.next()?);
    if fields.next().is_some() || !(4..=7).contains(&year.len()) {
        return None;
    }
    days_from_civil(sign * digits_of(year)?, two_digits(month)?, two_digits(day)?)
}

/// Reads an RFC 3339 moment into microseconds; an offset is applied. `None` for what is not one, for one finer than
/// microseconds and for one outside an i64.
pub fn parse_timestamp(text: &str) -> Option<i64> {
    let split = text.find(['T', 't', ' '])?;
    let days = parse_date(text.get(..split)?)?;
    let rest = text.get(split + 1..)?;
    let zone = rest.find(['Z', 'z', '+', '-'])?;
    let (time, zone) = (rest.get(..zone)?, rest.get(zone..)?);
    let offset_minutes = match zone {
        "Z" | "z" => 0,
        _ => {
            let (hours, minutes) = zone.get(1..)?.split_once(':')?;
            let (hours, minutes) = (two_digits(hours)?, two_digits(minutes)?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            let minutes = i64::from(hours * 60 + minutes);
            if zone.starts_with('-') { -minutes } else { minutes }
        }
    };
    let (clock, fraction) =
        time.split_once('.').map_or((time, None), |(clock, fraction)| (clock, Some(fraction)));
    let mut fields = clock.split(':');
    let (hour, minute, second) =
        (two_digits(fields.next()?)?, two_digits(fields.next()?)?, two_digits(fields.next()?)?);
    if fields.next().is_some() || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let micros = match fraction {
        None => 0,
        Some(digits) => {
            let (kept, finer) = digits.split_at_checked(6).unwrap_or((digits, ""));
            if kept.is_empty() || finer.bytes().any(|digit| digit != b'0') {
                return None;
            }
            digits_of(kept)? * 10_i64.pow(6 - kept.len() as u32)
        }
    };
    let seconds = i64::from(hour * 3_600 + minute * 60 + second) - offset_minutes * 60;
    days.checked_mul(MICROS_PER_DAY)?.checked_add(seconds * 1_000_000 + micros)
}

fn two_digits(text: &str) -> Option<u32> {
    if text.len() == 2 { digits_of(text)?.try_into().ok() } else { None }
}

fn digits_of(text: &str) -> Option<i64> {
    if text.is_empty() || text.len() > 9 || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn date(days: i64) -> String {
        let mut out = String::new();
        push_date(&mut out, days);
        out
    }

    fn timestamp(micros: i64) -> String {
        let mut out = String::new();
        push_timestamp(&mut out, micros);
        out
    }

    #[test]
    fn known_dates_and_moments() {
        for (days, text) in [
            (0, "1970-01-01"),
            (-1, "1969-12-31"),
            (19_782, "2024-02-29"),
            (-719_468, "0000-03-01"),
            (-719_529, "-0001-12-31"),
            (2_932_897, "+10000-01-01"),
        ] {
            assert_eq!(date(days), text);
            assert_eq!(parse_date(text), Some(days), "{text}");
        }
        assert_eq!(timestamp(1_709_210_096_000_001), "2024-02-29T12:34:56.000001Z");
        assert_eq!(timestamp(-1), "1969-12-31T23:59:59.999999Z");
        assert_eq!(timestamp(0), "1970-01-01T00:00:00Z");
        assert_eq!(parse_timestamp("2024-02-29T13:34:56.5+01:00"), Some(1_709_210_096_500_000));
        for wrong in ["", "2024-02-30", "2024-13-01", "24-01-01", "2024-1-1", "2023-02-29", "2024-01-01x"] {
            assert_eq!(parse_date(wrong), None, "{wrong}");
        }
        for wrong in
            ["2024-01-01", "2024-01-01T00:00:00", "2024-01-01T24:00:00Z", "2024-01-01T00:00:00.0000001Z"]
        {
            assert_eq!(parse_timestamp(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn dates_and_moments_round_trip(days in any::<i32>(), micros in any::<i64>()) {
            prop_assert_eq!(parse_date(&date(i64::from(days))), Some(i64::from(days)));
            prop_assert_eq!(parse_timestamp(&timestamp(micros)), Some(micros));
        }

        #[test]
        fn any_text_is_read_without_a_panic(text in "\\PC{0,40}") {
            let _ = parse_date(&text);
            let _ = parse_timestamp(&text);
        }
    }
}
