//! Numbers as people read them: significant digits, SI and binary prefixes.

use foretoken_spec::Estimate;

/// What stands for a value that does not exist.
pub const NONE: &str = "–";

/// `value` with at least `digits` significant digits and no exponent.
///
/// Digits before the point are never rounded away: 12345 with 3 digits stays `12345`.
pub fn significant(value: f64, digits: usize) -> String {
    if !value.is_finite() {
        return NONE.into();
    }
    if value == 0.0 {
        return "0".into();
    }
    let before_point = value.abs().log10().floor() as i64 + 1;
    let decimals = (digits as i64 - before_point).clamp(0, 9) as usize;
    let text = format!("{value:.decimals$}");
    // 9.996 with 3 digits rounds to `10.00`: one decimal too many.
    let rounded_up = text.parse::<f64>().is_ok_and(|v| v.abs() >= 10f64.powi(before_point as i32));
    if decimals > 0 && rounded_up { format!("{value:.*}", decimals - 1) } else { text }
}

/// [`significant`] without zeros at its end: a figure as it was stated, `8` and not `8.000`.
pub fn plain(value: f64, digits: usize) -> String {
    let text = significant(value, digits);
    if !text.contains('.') {
        return text;
    }
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Milliseconds, without the unit: three significant digits.
pub fn ms(value: f64) -> String {
    significant(value, 3)
}

/// A unit of time, with its size in ms.
type TimeUnit = (f64, &'static str);

/// The unit that suits a time.
fn time_unit(ms: f64) -> TimeUnit {
    match ms.abs() {
        v if v < 1.0 => (1e-3, "µs"),
        v if v < 9_999.5 => (1.0, "ms"),
        v if v < 999.5e3 => (1e3, "s"),
        v if v < 999.5 * 60e3 => (60e3, "min"),
        _ => (3600e3, "h"),
    }
}

/// Milliseconds with a unit that suits the size: `835 µs`, `12.3 ms`, `45.6 s`, `21.7 min`.
pub fn duration_ms(value: f64) -> String {
    let (size, unit) = time_unit(value);
    format!("{} {unit}", significant(value / size, 3))
}

/// The interval of an estimate in ms, in the unit of its point: `5361 – 12308 ms`.
pub fn interval_duration(estimate: &Estimate) -> String {
    let (size, unit) = time_unit(estimate.point);
    let end = |ms: f64| significant(ms / size, 3);
    format!("{} – {} {unit}", end(estimate.lower), end(estimate.upper))
}

/// A fraction as a percentage: `4.2 %`, `31 %`.
pub fn percent(fraction: f64) -> String {
    if !fraction.is_finite() {
        return NONE.into();
    }
    let value = fraction * 100.0;
    let decimals = usize::from(value.abs() < 9.95);
    format!("{value:.decimals$} %")
}

/// A signed fraction as a percentage: `+4.2 %`, `−3.1 %`.
pub fn signed_percent(fraction: f64) -> String {
    let sign = if fraction < 0.0 { "−" } else { "+" };
    format!("{sign}{}", percent(fraction.abs()))
}

/// Bytes with a binary prefix: `638 MiB`, `1.23 GiB`.
pub fn bytes(value: u64) -> String {
    scaled(value as f64, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB"])
}

/// A count with a decimal prefix: `1.10 B` parameters, `135 M`.
pub fn count(value: u64) -> String {
    if value < 1000 {
        return value.to_string();
    }
    scaled(value as f64, 1000.0, &["", "K", "M", "B", "T"])
}

/// A number of things by their name: `1 thread`, `2 threads`.
pub fn plural(n: u32, name: &str) -> String {
    if n == 1 { format!("1 {name}") } else { format!("{n} {name}s") }
}

/// Arithmetic: `2.20 GFLOP`.
pub fn flop(value: u64) -> String {
    scaled(value as f64, 1000.0, &["FLOP", "kFLOP", "MFLOP", "GFLOP", "TFLOP", "PFLOP"])
}

/// A rate of arithmetic: `85.1 GFLOP/s`.
pub fn flop_per_second(value: f64) -> String {
    scaled(value, 1000.0, &["FLOP/s", "kFLOP/s", "MFLOP/s", "GFLOP/s", "TFLOP/s"])
}

/// A rate of memory traffic: `12.3 GB/s`.
pub fn bytes_per_second(value: f64) -> String {
    scaled(value, 1000.0, &["B/s", "kB/s", "MB/s", "GB/s", "TB/s"])
}

/// Seconds of any size: `35 ns`, `12.0 µs`.
pub fn seconds(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        v if v < 1e-6 => format!("{} ns", significant(value * 1e9, 3)),
        v if v < 1e-3 => format!("{} µs", significant(value * 1e6, 3)),
        v if v < 1.0 => format!("{} ms", significant(value * 1e3, 3)),
        _ => format!("{} s", significant(value, 3)),
    }
}

/// The interval of an estimate in ms, without the unit: `41.1 – 48.9`.
pub fn interval_ms(estimate: &Estimate) -> String {
    format!("{} – {}", ms(estimate.lower), ms(estimate.upper))
}

/// `write(value)`, or a dash where there is none.
pub fn or_none<T>(value: Option<T>, write: impl FnOnce(T) -> String) -> String {
    value.map_or_else(|| NONE.into(), write)
}

fn scaled(value: f64, base: f64, units: &[&str]) -> String {
    let mut value = value;
    let mut index = 0;
    // What three digits would round up to the next unit is of that unit.
    let next = |index: usize| if index == 0 { base } else { base - 0.5 };
    while value.abs() >= next(index) && index + 1 < units.len() {
        value /= base;
        index += 1;
    }
    let number = if index == 0 { significant(value, 1) } else { significant(value, 3) };
    format!("{number} {}", units[index]).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn significant_digits_never_use_an_exponent() {
        for (value, text) in [
            (0.0, "0"),
            (0.001_234, "0.00123"),
            (1.234, "1.23"),
            (9.996, "10.0"),
            (12.34, "12.3"),
            (99.96, "100"),
            (123.4, "123"),
            (12_345.0, "12345"),
            (f64::NAN, NONE),
        ] {
            assert_eq!(significant(value, 3), text, "{value}");
        }
    }

    #[test]
    fn plain_figures_have_no_zeros_at_their_end() {
        for (value, text) in
            [(8.0, "8"), (2.40, "2.4"), (100.0, "100"), (0.0, "0"), (17.07, "17.07")]
        {
            assert_eq!(plain(value, 4), text);
        }
    }

    #[test]
    fn bytes_counts_and_rates() {
        assert_eq!(bytes(668_788_096), "638 MiB");
        assert_eq!(bytes(4_920_739_232), "4.58 GiB");
        assert_eq!(bytes(12), "12 B");
        assert_eq!(count(1_100_048_384), "1.10 B");
        assert_eq!(count(134_515_008), "135 M");
        assert_eq!(count(7), "7");
        assert_eq!(count(999_885_952), "1.00 B");
        assert_eq!(count(999_400_000), "999 M");
        assert_eq!(bytes((1 << 30) - 1), "1.00 GiB");
        assert_eq!((plural(1, "thread"), plural(0, "load")), ("1 thread".into(), "0 loads".into()));
        assert_eq!(flop(2_200_000_000), "2.20 GFLOP");
        assert_eq!(flop_per_second(8.51e10), "85.1 GFLOP/s");
        assert_eq!(bytes_per_second(1.23e10), "12.3 GB/s");
        assert_eq!(seconds(1.2e-5), "12.0 µs");
    }

    #[test]
    fn percentages() {
        assert_eq!(percent(0.042), "4.2 %");
        assert_eq!(percent(0.0997), "10 %");
        assert_eq!(percent(0.314), "31 %");
        assert_eq!(signed_percent(-0.031), "−3.1 %");
        assert_eq!(signed_percent(0.2), "+20 %");
    }

    #[test]
    fn durations_choose_their_unit() {
        assert_eq!(duration_ms(0.835), "835 µs");
        assert_eq!(duration_ms(12.34), "12.3 ms");
        assert_eq!(duration_ms(12_345.0), "12.3 s");
        assert_eq!(duration_ms(1.3e6), "21.7 min");
        assert_eq!(duration_ms(1.2e9), "333 h");
        let estimate = Estimate { point: 8123.0, lower: 5361.0, upper: 12_308.0, level: 0.9 };
        assert_eq!(interval_duration(&estimate), "5361 – 12308 ms");
    }
}
