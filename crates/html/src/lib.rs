//! The reports that people read: one self-contained HTML page each.
//!
//! Pure functions from data to text. [`validation_page`] and [`calibration_page`] put the parts in
//! order; each part is a file of `sections`, from data to HTML by way of a
//! [`Sheet`](foretoken_report::Sheet) or of a plot as plain data (`plot`), which plotters draws as
//! SVG (`plot/render.rs`). Colours follow the reader's theme (`theme`). There is no script, and
//! nothing is fetched.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod document;
mod markup;
mod plot;
mod sections;
#[cfg(test)]
mod testing;
mod theme;
mod words;

use foretoken_spec::{CalibrateReport, Calibration, Measurement, ValidationReport};

pub use plot::PlotError;

use document::{Document, Section};
use sections::{
    coverage, data, design, devices, drift, errors, headline, machine, made_of, metrics, proof,
    residuals, roofline, scatter, terms, worst,
};

/// The page of a validation over the measurements that it judged.
///
/// # Errors
/// A plot that cannot be drawn.
pub fn validation_page(
    report: &ValidationReport,
    measurements: &[Measurement],
    version: &str,
) -> Result<String, PlotError> {
    let section = |id, title, body| Section { id, title, body };
    let (of_devices, rest) = devices::split(report);
    let has_devices = !of_devices.groups.is_empty();
    // Held-out devices alone need nothing of this machine.
    let has_rest = !has_devices || !rest.groups.is_empty();
    let (mut subjects, mut head, mut sections) = (Vec::new(), String::new(), Vec::new());
    if has_rest {
        subjects.push(title(measurements, &report.device));
        head += &headline::html(&headline::of_validation(&rest));
        sections.extend(own_sections(&rest, measurements)?);
    }
    if has_devices {
        subjects.push("devices that were never measured".into());
        head += &headline::html(&devices::headline(&of_devices));
        sections.extend(devices::sections(&of_devices)?);
    }
    let command = match has_rest {
        true => "foretoken validate --report FILE",
        false => "foretoken validate --hold-out device --report FILE",
    };
    let body = data::html(&report.data, &report.warnings, command);
    sections.push(section("data", "Data and warnings", body));
    Ok(document::html(&Document {
        kind: "Validation",
        title: format!("Predicting {}", words::list(&subjects)),
        version: version.into(),
        head,
        sections,
    }))
}

/// The sections about the measurements of one machine, or a few.
fn own_sections(
    report: &ValidationReport,
    measurements: &[Measurement],
) -> Result<Vec<Section>, PlotError> {
    let section = |id, title, body| Section { id, title, body };
    Ok(vec![
        section("machine", "Machine and protocol", machine::html(measurements)),
        section("drift", "Noise and drift", drift::html(measurements)?),
        section("scatter", "Predicted against observed", scatter::html(report)?),
        section("errors", "Error by hold-out", errors::html(report)? + &metrics::html(report)?),
        section("coverage", "Do the intervals hold?", coverage::html(report)?),
        section("residuals", "Where the errors are", residuals::html(report)?),
        section("roofline", "Roofline", roofline::html(measurements, None)?),
        section("worst", "Worst cases", worst::html(report)),
    ])
}

/// The page of a calibration over the measurements that it was fitted to.
///
/// # Errors
/// A plot that cannot be drawn.
pub fn calibration_page(
    report: &CalibrateReport,
    calibration: &Calibration,
    measurements: &[Measurement],
    version: &str,
) -> Result<String, PlotError> {
    let section = |id, title, body| Section { id, title, body };
    let made_of = made_of::html(calibration, measurements) + &design::html(&report.design)?;
    let files = [report.calibration.file.clone(), report.dataset.clone()];
    let sections = vec![
        section("machine", "Machine and protocol", machine::html(measurements)),
        section("drift", "Noise and drift", drift::html(measurements)?),
        section(
            "proof",
            "Proof on a model that was not fitted",
            proof::html(report.proof.as_ref())?,
        ),
        section("terms", "What was fitted", terms::html(calibration)?),
        section("roofline", "Roofline", roofline::html(measurements, Some(calibration.ceilings))?),
        section("made-of", "What the fit was made of", made_of),
        section(
            "data",
            "Data and warnings",
            data::html(&files, &report.warnings, "foretoken calibrate --report FILE"),
        ),
    ];
    Ok(document::html(&Document {
        kind: "Calibration",
        title: format!("Calibration of {}", title(measurements, &report.calibration.device)),
        version: version.into(),
        head: headline::html(&headline::of_calibration(report)),
        sections,
    }))
}

/// The machines as people call them; `otherwise` where nothing was measured.
fn title(measurements: &[Measurement], otherwise: &str) -> String {
    let mut names: Vec<String> = measurements
        .iter()
        .map(|m| format!("{} on {}, {} threads", m.engine.name, m.device.name, m.threads))
        .collect();
    names.sort();
    names.dedup();
    if names.is_empty() { otherwise.into() } else { words::list(&names) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tags that are opened are closed, in order.
    fn require_well_formed(html: &str) {
        const VOID: [&str; 3] = ["meta", "link", "br"];
        let mut open: Vec<&str> = Vec::new();
        for part in html.split('<').skip(1) {
            let tag = part.split('>').next().unwrap();
            let name = tag.split([' ', '\n']).next().unwrap();
            if name.starts_with('!') || VOID.contains(&name) || tag.ends_with('/') {
                continue;
            }
            match name.strip_prefix('/') {
                Some(name) => assert_eq!(open.pop(), Some(name), "{tag}"),
                None => open.push(name),
            }
        }
        assert!(open.is_empty(), "{open:?}");
    }

    fn require_self_contained(html: &str) {
        for word in ["http:", "https:", "<script", "url(", "@import", "src="] {
            assert!(!html.contains(word), "{word}");
        }
        let ids: Vec<&str> =
            html.split(" id=\"").skip(1).map(|part| part.split('"').next().unwrap()).collect();
        let mut unique = ids.clone();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(ids.len(), unique.len(), "ids are given twice");
    }

    #[test]
    fn a_validation_page_is_whole_and_fetches_nothing() {
        let lines = [testing::measurement(0, 10.0), testing::measurement(1, 10.4)];
        let html = validation_page(&testing::validation(), &lines, "0.1.0").unwrap();
        require_well_formed(&html);
        require_self_contained(&html);
        for id in [
            "machine",
            "drift",
            "scatter",
            "errors",
            "coverage",
            "residuals",
            "roofline",
            "worst",
            "data",
        ] {
            assert!(html.contains(&format!("<section id=\"{id}\"")), "{id}");
        }
        assert!(html.contains("the median error is 5.0 % in decode"), "{}", &html[..9000]);
    }

    #[test]
    fn a_calibration_page_is_whole_and_fetches_nothing() {
        let lines = [testing::measurement(0, 10.0), testing::measurement(1, 10.4)];
        let html =
            calibration_page(&testing::calibrate(), &testing::calibration(), &lines, "0.1.0")
                .unwrap();
        require_well_formed(&html);
        require_self_contained(&html);
        for id in ["machine", "drift", "proof", "terms", "roofline", "made-of", "data"] {
            assert!(html.contains(&format!("<section id=\"{id}\"")), "{id}");
        }
    }

    #[test]
    fn two_machines_stand_apart() {
        let mut report = testing::validation();
        let (mut first, mut second) = (report.clone(), report.clone());
        for (part, name) in
            [(&mut first, "slow cpu, 2 threads"), (&mut second, "fast cpu, 2 threads")]
        {
            part.groups.iter_mut().for_each(|group| group.group = Some(name.into()));
            part.metrics.iter_mut().for_each(|metric| metric.group = Some(name.into()));
            part.cases.iter_mut().for_each(|case| case.group = Some(name.into()));
        }
        report.groups = [first.groups, second.groups].concat();
        report.metrics = [first.metrics, second.metrics].concat();
        report.cases = [first.cases, second.cases].concat();
        let html = validation_page(&report, &[], "0.1.0").unwrap();
        require_well_formed(&html);
        require_self_contained(&html);
        for title in [
            "decode · held out by model · slow",
            "Median error by hold-out: decode · fast",
            "Coverage of the intervals: decode · slow",
            "Error of requests, kernels and memory · fast",
            "Error by device",
            "5.0 % in decode on slow and 5.0 % in decode on fast",
        ] {
            assert!(html.contains(title), "{title}");
        }
    }

    const DEVICE_SECTIONS: [&str; 7] = [
        "held-out",
        "by-kind",
        "by-rows",
        "device-scatter",
        "device-coverage",
        "worst-devices",
        "left-out",
    ];

    #[test]
    fn held_out_devices_have_a_page_of_their_own() {
        let html = validation_page(&testing::devices(), &[], "0.1.0").unwrap();
        require_well_formed(&html);
        require_self_contained(&html);
        for id in DEVICE_SECTIONS {
            assert!(html.contains(&format!("<section id=\"{id}\"")), "{id}");
        }
        assert!(!html.contains("<section id=\"machine\""));
        assert!(html.contains("Predicting devices that were never measured"));
        let finding = "On 1 device that the model had never seen, the median error from the data \
            sheet alone is 20 % in decode; with 3 measured rows of the device it is 5.0 % in decode.";
        assert!(html.contains(finding), "{}", &html[8000..12000]);
        // What the marks say stands in the tables too.
        for words in
            ["gpu/cuda llama.cpp", "rtx-3090 (0.10)", "marked as broken", "(1.70×)", "37 %"]
        {
            assert!(html.contains(words), "{words}");
        }
    }

    #[test]
    fn devices_and_models_share_a_page() {
        let mut report = testing::validation();
        let of_devices = testing::devices();
        report.groups.extend(of_devices.groups);
        report.cases.extend(of_devices.cases);
        report.engines = of_devices.engines;
        report.devices = of_devices.devices;
        report.undated = of_devices.undated;
        report.left_out = of_devices.left_out;
        let html = validation_page(&report, &[testing::measurement(0, 10.0)], "0.1.0").unwrap();
        require_well_formed(&html);
        require_self_contained(&html);
        for id in DEVICE_SECTIONS.into_iter().chain(["machine", "scatter", "worst", "data"]) {
            assert!(html.contains(&format!("<section id=\"{id}\"")), "{id}");
        }
        assert!(html.contains("the median error is 5.0 % in decode"));
        assert!(html.contains("from the data sheet alone is 20 % in decode"));
        // Held-out devices do not count among the models.
        let matrix =
            html.split("id=\"errors\"").nth(1).unwrap().split("</section>").next().unwrap();
        assert!(!matrix.contains("gpu/cuda"), "{matrix}");
    }

    #[test]
    fn a_page_of_nothing_is_still_a_page() {
        let mut report = testing::validation();
        report.cases.clear();
        report.groups.clear();
        let html = validation_page(&report, &[], "0.1.0").unwrap();
        require_well_formed(&html);
        require_self_contained(&html);
    }

    #[test]
    fn names_from_data_cannot_become_markup() {
        let mut report = testing::validation();
        let evil = "<img src=x onerror=alert(1)>\"'";
        for case in &mut report.cases {
            case.model = evil.into();
            case.held_out = evil.into();
        }
        report.data = vec![evil.into()];
        report.warnings = vec![evil.into()];
        let mut line = testing::measurement(0, 10.0);
        line.model.name = evil.into();
        line.session = evil.into();
        line.device.name = evil.into();
        let html = validation_page(&report, &[line], "0.1.0").unwrap();
        require_well_formed(&html);
        assert!(!html.contains("<img"));
    }
}
