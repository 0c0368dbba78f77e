//! Parsers of argument values: durations, percentages, names.

use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use foretoken_spec::{DeviceBackend, DeviceClass, DeviceKind, DeviceSpec};

/// What `devices --kind` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KindOrClass {
    /// A kind.
    Kind(DeviceKind),
    /// A class, which is finer.
    Class(DeviceClass),
}

impl KindOrClass {
    /// Whether a device is of it.
    pub fn holds(self, device: &DeviceSpec) -> bool {
        match self {
            Self::Kind(kind) => device.kind == kind,
            Self::Class(class) => device.class == Some(class),
        }
    }
}

/// The kinds, then the classes.
pub fn kind_or_class() -> impl TypedValueParser<Value = KindOrClass> {
    let kinds = DeviceKind::ALL.map(|kind| (kind.name(), KindOrClass::Kind(kind)));
    let classes = DeviceClass::ALL.map(|class| (class.name(), KindOrClass::Class(class)));
    one_of(kinds.into_iter().chain(classes).collect())
}

/// Every backend that the catalogue names.
pub fn device_backend() -> impl TypedValueParser<Value = DeviceBackend> {
    one_of(DeviceBackend::ALL.map(|backend| (backend.name(), backend)).to_vec())
}

/// One of these words.
fn one_of<T: Clone + Send + Sync + 'static>(
    words: Vec<(&'static str, T)>,
) -> impl TypedValueParser<Value = T> {
    let names: Vec<&str> = words.iter().map(|(name, _)| *name).collect();
    PossibleValuesParser::new(names).try_map(move |word| {
        let found = words.iter().find(|(name, _)| *name == word);
        found.map(|(_, value)| value.clone()).ok_or("unknown word")
    })
}

/// `90s`, `2m`, `1m30s`, `1h`, or a plain number of seconds.
pub fn duration(text: &str) -> Result<Duration, String> {
    let problem = || format!("`{text}` is not a duration; write 90s, 2m or 1m30s");
    if let Ok(seconds) = text.parse::<f64>() {
        return to_duration(seconds).ok_or_else(problem);
    }
    let mut seconds = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(problem)?;
        let value: f64 = rest[..digits].parse().map_err(|_| problem())?;
        let after = &rest[digits..];
        let unit_end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let factor = match &after[..unit_end] {
            "ms" => 1e-3,
            "s" => 1.0,
            "m" | "min" => 60.0,
            "h" => 3600.0,
            _ => return Err(problem()),
        };
        seconds += value * factor;
        rest = &after[unit_end..];
    }
    to_duration(seconds).ok_or_else(problem)
}

/// Durations from 1 ms to a day make sense here.
fn to_duration(seconds: f64) -> Option<Duration> {
    (1e-3..=86_400.0).contains(&seconds).then(|| Duration::from_secs_f64(seconds))
}

/// `2025` or `2025-03`, as a year with its fraction: the middle of what is told.
pub fn month(text: &str) -> Result<f64, String> {
    let problem = || format!("`{text}` is not a month; write 2025 or 2025-03");
    let digits = |text: &str, n: usize| {
        let is_number = text.len() == n && text.bytes().all(|b| b.is_ascii_digit());
        is_number.then(|| text.parse::<u32>().ok()).flatten().map(f64::from)
    };
    let (year, month) = match text.split_once('-') {
        Some((year, month)) => (year, Some(month)),
        None => (text, None),
    };
    let year = digits(year, 4).filter(|y| (2023.0..2100.0).contains(y)).ok_or_else(problem)?;
    let Some(month) = month else { return Ok(year + 0.5) };
    let month = digits(month, 2).filter(|m| (1.0..=12.0).contains(m)).ok_or_else(problem)?;
    Ok(year + (month - 0.5) / 12.0)
}

/// The month that [`month`] reads.
pub fn month_name(year: f64) -> String {
    let month = (12.0 * year.fract()).floor().clamp(0.0, 11.0) + 1.0;
    format!("{:.0}-{month:02.0}", year.floor())
}

/// A name of something, on one line.
pub fn name(text: &str) -> Result<String, String> {
    let name = text.trim();
    if name.is_empty() || name.chars().any(char::is_control) {
        return Err("give a name of one line".to_owned());
    }
    Ok(name.to_owned())
}

/// `10%` or `0.1`, as a fraction.
pub fn fraction(text: &str) -> Result<f64, String> {
    let problem = || format!("`{text}` is not a share; write 10% or 0.1");
    let value = match text.trim().strip_suffix('%') {
        Some(percent) => percent.trim().parse::<f64>().map_err(|_| problem())? / 100.0,
        None => text.trim().parse().map_err(|_| problem())?,
    };
    if value > 1.0 && !text.contains('%') {
        return Err(format!(
            "`{text}` would be {} %; write {text}% or a share below 1",
            value * 100.0
        ));
    }
    if value.is_finite() && value >= 0.0 { Ok(value) } else { Err(problem()) }
}

/// [`fraction`] above 0.
pub fn positive_fraction(text: &str) -> Result<f64, String> {
    match fraction(text)? {
        value if value > 0.0 => Ok(value),
        _ => Err(format!("`{text}` allows nothing; write a share above 0, such as 0.5%")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, seconds) in
            [("90s", 90.0), ("2m", 120.0), ("1m30s", 90.0), ("45", 45.0), ("500ms", 0.5)]
        {
            assert_eq!(duration(text), Ok(Duration::from_secs_f64(seconds)), "{text}");
        }
        for text in ["", "s", "90x", "-5s", "1e99", "nan", "0s", "10s5"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_budget_of_nothing_is_refused() {
        assert_eq!(positive_fraction("0.5%"), Ok(0.005));
        assert!(positive_fraction("0%").is_err());
    }

    #[test]
    fn fractions() {
        assert_eq!(fraction("10%"), Ok(0.1));
        assert_eq!(fraction("0.1"), Ok(0.1));
        for text in ["ten", "-1%", "nan", "inf", "%", "5"] {
            assert!(fraction(text).is_err(), "{text}");
        }
    }

    #[test]
    fn months_are_years_and_back() {
        assert_eq!(month("2025"), Ok(2025.5));
        assert!((month("2025-03").unwrap() - (2025.0 + 2.5 / 12.0)).abs() < 1e-12);
        for text in ["2023-12", "2025-01", "2026-07"] {
            assert_eq!(month_name(month(text).unwrap()), text);
        }
        for text in ["25-03", "2025-13", "2025-3", "March", "1999", ""] {
            assert!(month(text).is_err(), "{text}");
        }
    }
}
