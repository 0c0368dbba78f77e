//! The devices that are predicted worst from their data sheets, with what their data tell.

use foretoken_report::{Sheet, units};
use foretoken_spec::{DeviceError, Phase, ValidationReport};

use crate::markup::{Key, figures, folded, legend, paragraph, table};
use crate::plot::{Axis, Mark, Plot, PlotError};
use crate::words;

/// Rows that are listed open.
const MOST: usize = 16;
/// A known device beyond this distance is no neighbour.
const FAR: f64 = 0.6;
/// Repeats that differ by more than this factor are no repeats.
const WIDE_SPREAD: f64 = 1.25;
/// With fewer cases, one odd row is the error.
const FEW_CASES: u32 = 3;

/// The worst devices as a table, errors against the distance of the nearest known device, and all
/// devices folded.
///
/// # Errors
/// A plot that cannot be drawn.
pub(super) fn html(report: &ValidationReport) -> Result<String, PlotError> {
    let devices: Vec<&DeviceError> = report.devices.iter().collect();
    let phases = words::phases(devices.iter().map(|device| device.phase));
    let plots: Vec<Plot> = phases.iter().map(|phase| plot(&devices, *phase)).collect();
    let keys: Vec<(Key, String)> = phases.iter().map(|phase| words::phase_key(*phase)).collect();
    let intro = "One row per device, engine and phase, from the data sheet alone. Sources are the \
        places where its rows were published. Repeats are measurements of one model and length \
        with whatever build: how far they differ in the median, and the slowest over the fastest \
        of those that differ most. The reason is a guess by rule from these columns.";
    let all = words::count(devices.len(), "row");
    let (few, open) = open_rows(&devices);
    let few = words::count(few as usize, "case");
    Ok(paragraph(intro)
        + &table(&format!("Largest median errors of {few} and more"), &sheet(&open))
        + &legend(&keys)
        + &figures("worst-devices", &plots)?
        + &folded(&format!("All {all}"), &table("All devices", &sheet(&devices))))
}

/// The rows that are listed open: of at least so many cases, where there are such.
fn open_rows<'a>(devices: &[&'a DeviceError]) -> (u32, Vec<&'a DeviceError>) {
    let most = devices.iter().map(|device| device.n).max().unwrap_or(0);
    let few = FEW_CASES.min(most);
    (few, devices.iter().filter(|device| device.n >= few).take(MOST).copied().collect())
}

/// What may lie behind a device's error, by rules over what its data tell.
fn reason(device: &DeviceError) -> String {
    let mut reasons = Vec::new();
    if device.n < FEW_CASES {
        reasons.push(words::count(device.n as usize, "case") + " only");
    }
    if let Some(spread) = device.spread.filter(|spread| *spread > WIDE_SPREAD) {
        reasons.push(format!("its own measurements differ {}×", units::significant(spread, 2)));
    } else if device.noise_floor.is_some_and(|floor| floor > 0.5 * device.mdape) {
        reasons.push("its measurements are coarse".into());
    }
    if device.distance.is_none_or(|distance| distance > FAR) {
        reasons.push("no known device is near".into());
    }
    let is_one_sided = device.bias.abs() > 0.9 * device.mdape;
    if reasons.is_empty() && is_one_sided {
        let side = if device.bias > 0.0 { "faster" } else { "slower" };
        reasons.push(format!("{side} throughout than devices like it"));
    }
    reasons.join("; ")
}

fn sheet(devices: &[&DeviceError]) -> Sheet {
    let mut sheet = Sheet::new(
        "",
        &[
            "device",
            "kind, engine",
            "phase",
            ">cases (rows, sources)",
            ">median error",
            ">bias",
            ">inside",
            ">repeats differ (at most)",
            "nearest known (distance)",
            "likely because",
        ],
    );
    for device in devices {
        let nearest = device.nearest.as_ref().zip(device.distance);
        sheet.row([
            device.device.clone(),
            format!("{}/{} {}", device.kind, device.backend, device.engine),
            device.phase.name().into(),
            format!("{} ({}, {})", device.n, device.measured_rows, device.sources),
            units::percent(device.mdape),
            units::signed_percent(device.bias),
            units::percent(device.coverage),
            repeats(device),
            units::or_none(nearest, |(id, distance)| format!("{id} ({distance:.2})")),
            reason(device),
        ]);
    }
    sheet
}

/// How far repeats of one thing differ: in the median, and the slowest over the fastest.
fn repeats(device: &DeviceError) -> String {
    let floor = units::or_none(device.noise_floor, units::percent);
    match device.spread {
        Some(spread) => format!("{floor} ({}×)", units::significant(spread, 3)),
        None => floor,
    }
}

/// Error against the distance of the nearest known device.
fn plot(devices: &[&DeviceError], phase: Phase) -> Plot {
    let of_phase: Vec<(&DeviceError, f64)> = devices
        .iter()
        .filter(|device| device.phase == phase && device.mdape > 0.0)
        .filter_map(|device| Some((*device, device.distance?)))
        .collect();
    let farthest = of_phase.iter().map(|(_, distance)| *distance).fold(0.5, f64::max);
    let marks = of_phase
        .iter()
        .map(|(device, distance)| Mark::Point {
            at: (*distance, device.mdape),
            shape: words::phase_shape(phase),
            ink: words::phase_ink(phase),
            tip: format!(
                "{} with {}: {}, {}",
                device.device,
                device.engine,
                units::percent(device.mdape),
                words::count(device.n as usize, "case")
            ),
        })
        .collect();
    let far = of_phase.iter().filter(|(_, distance)| *distance > FAR).count();
    Plot {
        title: format!("Error by distance of the nearest known device: {}", phase.name()),
        description: format!(
            "Median error of {}; {far} of them lie farther than {FAR} from all known devices.",
            words::count(of_phase.len(), "device")
        ),
        height: 340,
        x: Axis::linear("distance (0: like a known device)", (0.0, farthest * 1.05), |v| {
            format!("{v:.1}")
        }),
        y: Axis::log(
            "median absolute error",
            of_phase.iter().map(|(device, _)| device.mdape),
            words::tick_percent,
        ),
        marks,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::device_error;

    #[test]
    fn few_cases_are_open_only_where_there_are_no_more() {
        let of = |n| DeviceError { n, ..device_error() };
        let (one, nine) = (of(1), of(9));
        let (few, rows) = open_rows(&[&one, &nine]);
        assert_eq!((few, rows.len(), rows[0].n), (3, 1, 9));
        let (few, rows) = open_rows(&[&one]);
        assert_eq!((few, rows.len()), (1, 1));
        assert!(open_rows(&[]).1.is_empty());
    }

    #[test]
    fn a_reason_follows_from_what_the_data_tell() {
        let good = device_error();
        let says = |device: DeviceError, words: &str| {
            assert!(reason(&device).contains(words), "{}", reason(&device));
        };
        says(DeviceError { n: 1, ..good.clone() }, "1 case only");
        says(DeviceError { spread: Some(1.7), ..good.clone() }, "differ 1.7×");
        says(DeviceError { noise_floor: Some(0.3), ..good.clone() }, "coarse");
        says(DeviceError { distance: Some(0.9), ..good.clone() }, "no known device is near");
        says(DeviceError { bias: 0.4, ..good.clone() }, "faster throughout");
        says(DeviceError { bias: -0.4, ..good.clone() }, "slower");
        assert_eq!(reason(&DeviceError { bias: 0.1, ..good }), "");
    }
}
