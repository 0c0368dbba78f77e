//! Which builds of an engine are known: engines become faster with the years, and nobody measured
//! those that are newer than the data.

use std::collections::BTreeMap;

use foretoken_stats::quantile;

/// Fewest devices whose dates speak for others.
const FEWEST_DEVICES: usize = 3;
/// Where among the devices, each by its newest rows, the date lies that is assumed where none is
/// told: most people build what was current on the newer half of the devices.
const USUAL: f64 = 0.75;

/// Dates of builds as years with their fractions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BuildDates {
    /// Of the oldest rows.
    pub oldest: f64,
    /// Assumed where none is told.
    pub usual: f64,
    /// Of the newest rows.
    pub newest: f64,
}

/// When the build behind a prediction was made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BuildDate {
    /// The date that the prediction is of, a year with its fraction.
    pub year: f64,
    /// The date that was asked for, where it lies outside of the known ones.
    pub outside: Option<f64>,
    /// Whether a date was asked for.
    pub is_told: bool,
}

impl BuildDates {
    /// Of one group of rows, each a device and its date; `None` without dates.
    fn of_group(rows: &[(usize, f64)]) -> Option<Self> {
        let mut newest_of: BTreeMap<usize, f64> = BTreeMap::new();
        for &(machine, year) in rows {
            let newest = newest_of.entry(machine).or_insert(year);
            *newest = newest.max(year);
        }
        let newest: Vec<f64> = newest_of.into_values().collect();
        Some(Self {
            oldest: rows.iter().map(|(_, year)| *year).reduce(f64::min)?,
            usual: quantile(&newest, USUAL)?,
            newest: newest.iter().copied().reduce(f64::max)?,
        })
    }

    /// Of the first group with enough devices: from the narrowest to the widest, each row a device
    /// and its date. Where none has enough, of the first with any.
    pub(crate) fn of(groups: &[Vec<(usize, f64)>]) -> Option<Self> {
        let n_devices = |rows: &[(usize, f64)]| {
            rows.iter().map(|(machine, _)| machine).collect::<std::collections::BTreeSet<_>>().len()
        };
        let enough = groups.iter().find(|rows| n_devices(rows) >= FEWEST_DEVICES);
        let any = || groups.iter().find(|rows| !rows.is_empty());
        Self::of_group(enough.or_else(any)?)
    }

    /// The date of a prediction: what is told, as far as it is known; else the usual one.
    pub fn resolve(&self, told: Option<f64>) -> BuildDate {
        let Some(told) = told else {
            return BuildDate { year: self.usual, outside: None, is_told: false };
        };
        let year = told.clamp(self.oldest, self.newest);
        BuildDate { year, outside: (year != told).then_some(told), is_told: true }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_date_is_that_of_the_newer_devices_and_counts_a_device_once() {
        // Newest of each device: 2024, 2024.5, 2025, 2026; three quarters up: 2025 + 0.25.
        let rows = vec![
            (0, 2023.5),
            (0, 2024.0),
            (1, 2024.5),
            (2, 2025.0),
            (3, 2026.0),
            (3, 2026.0),
            (3, 2025.9),
        ];
        let dates = BuildDates::of(&[rows]).unwrap();
        assert_eq!((dates.oldest, dates.usual, dates.newest), (2023.5, 2025.25, 2026.0));
    }

    #[test]
    fn a_date_beyond_the_known_ones_is_taken_back_and_said() {
        let dates = BuildDates { oldest: 2023.5, usual: 2025.0, newest: 2025.5 };
        let far = dates.resolve(Some(2026.5));
        assert_eq!((far.year, far.outside, far.is_told), (2025.5, Some(2026.5), true));
        assert_eq!(dates.resolve(Some(2024.0)).year, 2024.0);
        assert_eq!(dates.resolve(None), BuildDate { year: 2025.0, outside: None, is_told: false });
    }

    #[test]
    fn few_devices_leave_it_to_the_wider_group() {
        let narrow = vec![(0, 2026.0), (1, 2026.0)];
        let wide = vec![(0, 2026.0), (1, 2026.0), (2, 2024.0), (3, 2024.0)];
        assert_eq!(BuildDates::of(&[narrow.clone(), wide]).unwrap().oldest, 2024.0);
        assert_eq!(BuildDates::of(&[Vec::new(), narrow]).unwrap().usual, 2026.0);
        assert_eq!(BuildDates::of(&[Vec::new()]), None);
    }
}
