//! Numbers as they are shown: one way for each quantity, always with a unit.

use crate::quant::NumberFormat;

/// A size in bytes, in binary units: `66.1 KiB`.
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = UNITS[0];
    for larger in &UNITS[1..] {
        // Above this the number would be printed with four digits before the point.
        if value < 999.5 {
            break;
        }
        value /= 1024.0;
        unit = larger;
    }
    format!("{} {unit}", three_digits(value))
}

/// A count in decimal units: `1.23 M`.
pub(crate) fn count(count: u64) -> String {
    const UNITS: [&str; 4] = ["k", "M", "G", "T"];
    if count < 1000 {
        return count.to_string();
    }
    let mut value = count as f64 / 1000.0;
    let mut unit = UNITS[0];
    for larger in &UNITS[1..] {
        if value < 999.5 {
            break;
        }
        value /= 1000.0;
        unit = larger;
    }
    format!("{} {unit}", three_digits(value))
}

/// At least three significant digits.
fn three_digits(value: f64) -> String {
    if value < 9.995 {
        format!("{value:.2}")
    } else if value < 99.95 {
        format!("{value:.1}")
    } else {
        format!("{value:.0}")
    }
}

/// A ratio in decibels; no error at all is infinite.
pub(crate) fn db(db: f64) -> String {
    if db.is_nan() {
        "–".to_owned()
    } else if db.is_infinite() {
        format!("{}∞ dB", if db < 0.0 { "−" } else { "" })
    } else {
        format!("{} dB", minus(&format!("{db:.1}")))
    }
}

/// A share of one as a percentage: `92.15 %`.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.2} %", 100.0 * share)
}

/// A small share of one, with as many digits as it needs.
pub(crate) fn small_percent(share: f64) -> String {
    let percent = 100.0 * share;
    if percent == 0.0 {
        "0 %".to_owned()
    } else if percent < 0.01 {
        "< 0.01 %".to_owned()
    } else {
        format!("{percent:.2} %")
    }
}

/// A difference of two shares in percentage points, with its sign.
pub(crate) fn points(difference: f64) -> String {
    let text = format!("{:+.2}", 100.0 * difference);
    match text.as_str() {
        "-0.00" | "+0.00" => "±0.00 pt".to_owned(),
        _ => format!("{} pt", minus(&text)),
    }
}

/// A value of a tensor, to four significant digits.
pub(crate) fn value(value: f64) -> String {
    let magnitude = value.abs();
    let text = if value == 0.0 {
        "0".to_owned()
    } else if !(1e-3..1e5).contains(&magnitude) {
        format!("{value:.2e}")
    } else {
        let decimals = (3.0 - magnitude.log10().floor()).clamp(0.0, 6.0) as usize;
        format!("{value:.decimals$}")
    };
    minus(&text)
}

/// Seconds to the end of a job: `about 1 min 20 s`.
pub(crate) fn eta(secs: f64) -> String {
    let secs = secs.max(0.0).round() as u64;
    match (secs / 3600, secs / 60, secs % 60) {
        (0, 0, secs) => format!("{secs} s left"),
        (0, minutes, secs) => format!("{minutes} min {secs:02} s left"),
        (hours, minutes, _) => format!("{hours} h {:02} min left", minutes % 60),
    }
}

/// A predicted time: `about 1 min 20 s`.
pub(crate) fn about(secs: f64) -> String {
    let secs = secs.max(0.0).round() as u64;
    match (secs / 3600, secs / 60, secs % 60) {
        (0, 0, 0) => "less than 1 s".to_owned(),
        (0, 0, secs) => format!("about {secs} s"),
        (0, minutes, secs) => format!("about {minutes} min {secs:02} s"),
        (hours, minutes, _) => format!("about {hours} h {:02} min", minutes % 60),
    }
}

/// A short time with three digits: `1.25 ms`.
pub(crate) fn seconds(secs: f64) -> String {
    let (value, unit) = match secs {
        secs if secs < 1e-3 => (secs * 1e6, "µs"),
        secs if secs < 1.0 => (secs * 1e3, "ms"),
        secs => (secs, "s"),
    };
    let decimals = match value {
        value if value < 9.995 => 2,
        value if value < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.decimals$} {unit}")
}

/// How long ago a moment was, in seconds since 1970: `5 min ago`; 0 is not known.
pub(crate) fn time_ago(secs: u64) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    match now {
        Ok(now) if secs > 0 => ago(now.as_secs().saturating_sub(secs)),
        _ => "at an unknown time".to_owned(),
    }
}

fn ago(secs: u64) -> String {
    match secs {
        0..60 => "just now".to_owned(),
        60..3600 => format!("{} min ago", secs / 60),
        3600..86_400 => format!("{} h ago", secs / 3600),
        _ => format!("{} d ago", secs / 86_400),
    }
}

/// A shape: `16×3×3×3`.
pub(crate) fn shape(shape: &[usize]) -> String {
    let parts: Vec<String> = shape.iter().map(ToString::to_string).collect();
    parts.join("×")
}

/// A width in words: `8 bits`, `f16`.
pub(crate) fn width(format: NumberFormat) -> String {
    match format {
        NumberFormat::Int(bits) if bits.get() == 1 => "1 bit".to_owned(),
        NumberFormat::Int(bits) => format!("{bits} bits"),
        other => other.to_string(),
    }
}

/// A true minus sign, which is as wide as the plus.
fn minus(text: &str) -> String {
    text.replace('-', "−")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_times_have_three_digits() {
        for (secs, expected) in [
            (0.0, "0.00 µs"),
            (1.25e-3, "1.25 ms"),
            (0.0123, "12.3 ms"),
            (4.5e-4, "450 µs"),
            (2.0, "2.00 s"),
        ] {
            assert_eq!(seconds(secs), expected);
        }
    }

    #[test]
    fn sizes_and_counts_choose_their_unit() {
        for (given, shown) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.00 KiB"),
            (67_700, "66.1 KiB"),
            (1_023_999, "0.98 MiB"),
            (1 << 30, "1.00 GiB"),
        ] {
            assert_eq!(bytes(given), shown);
        }
        for (given, shown) in [
            (999, "999"),
            (1000, "1.00 k"),
            (999_600, "1.00 M"),
            (41_200_000, "41.2 M"),
        ] {
            assert_eq!(count(given), shown);
        }
    }

    #[test]
    fn errors_show_infinity_and_sign() {
        assert_eq!(db(f64::INFINITY), "∞ dB");
        assert_eq!(db(f64::NEG_INFINITY), "−∞ dB");
        assert_eq!(db(-3.04), "−3.0 dB");
        assert_eq!(points(-0.0123), "−1.23 pt");
        assert_eq!(points(0.000_001), "±0.00 pt");
        assert_eq!(small_percent(0.000_001), "< 0.01 %");
    }

    #[test]
    fn values_keep_four_digits() {
        for (given, shown) in [
            (0.0, "0"),
            (1.0, "1.000"),
            (-0.123_456, "−0.1235"),
            (1234.5, "1234"),
            (1e-5, "1.00e−5"),
        ] {
            assert_eq!(value(given), shown);
        }
    }

    #[test]
    fn the_past_is_told_in_one_unit() {
        for (given, shown) in [
            (5, "just now"),
            (119, "1 min ago"),
            (7200, "2 h ago"),
            (180_000, "2 d ago"),
        ] {
            assert_eq!(ago(given), shown);
        }
    }

    #[test]
    fn the_rest_of_a_job_is_told_in_two_units() {
        for (given, shown) in [
            (0.4, "0 s left"),
            (80.0, "1 min 20 s left"),
            (3720.0, "1 h 02 min left"),
        ] {
            assert_eq!(eta(given), shown);
        }
    }
}
