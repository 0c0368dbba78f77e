//! Tables of errors by hold-out and phase, those of held-out devices apart.

use std::collections::BTreeSet;

use foretoken_spec::{GroupError, HoldOut, MetricError, ValidationReport};

use super::hold_out_name;
use crate::sheet::WIDEST;
use crate::{Sheet, units};

/// All tables of errors, empty ones left out.
pub(super) fn error_sheets(report: &ValidationReport) -> Vec<Sheet> {
    let is_device = |group: &&GroupError| group.hold_out == HoldOut::Device;
    let (devices, own): (Vec<&GroupError>, Vec<&GroupError>) =
        report.groups.iter().partition(is_device);
    let mut setups: Vec<&str> = report.device.split("; ").collect();
    // What is said of the held-out devices stands behind the setups.
    let of_devices = if devices.is_empty() { None } else { setups.pop() }.unwrap_or_default();
    let of_setups = match setups.as_slice() {
        [one] => (*one).to_owned(),
        several => format!("{} devices or setups", several.len()),
    };
    let metrics: Vec<&MetricError> = report.metrics.iter().collect();
    let of_group = |group: &&GroupError| group.group.clone();
    let mut sheets = by_setup(&own, of_group, &|groups, setup| {
        let of = setup.unwrap_or(&of_setups);
        error_sheet(groups, format!("error on held-out groups · {of}"), setup)
    });
    let title = format!("error on held-out devices · {of_devices}");
    sheets.push(error_sheet(&devices, title, None));
    sheets.push(certainty_sheet(&devices));
    sheets.extend(by_setup(&metrics, |error| error.group.clone(), &metric_sheet));
    sheets.push(undated_sheet(report));
    sheets.extend(by_setup(&own, of_group, &|groups, setup| {
        baseline_sheet(groups, "median absolute error beside the baselines", setup)
    }));
    let title = "median absolute error on held-out devices beside the baselines";
    sheets.push(baseline_sheet(&devices, title, None));
    sheets.retain(|sheet| !sheet.rows.is_empty());
    sheets
}

/// One table of everything, or one for each setup where their names would make it too wide.
/// `draw` is given the setup that its title is to name.
fn by_setup<T: Copy>(
    all: &[T],
    setup_of: impl Fn(&T) -> Option<String>,
    draw: &dyn Fn(&[T], Option<&str>) -> Sheet,
) -> Vec<Sheet> {
    let together = draw(all, None);
    if together.width() <= WIDEST {
        return vec![together];
    }
    let mut setups: Vec<Option<String>> = Vec::new();
    for setup in all.iter().map(&setup_of) {
        if !setups.contains(&setup) {
            setups.push(setup);
        }
    }
    let of = |setup: &Option<String>| -> Vec<T> {
        all.iter().filter(|item| setup_of(item) == *setup).copied().collect()
    };
    setups.iter().map(|setup| draw(&of(setup), setup.as_deref())).collect()
}

/// What was held out: a kind and backend of devices with the rows given, or the sort of group with
/// its setup where the title does not name that.
fn held_out(group: &GroupError, setup: Option<&str>) -> String {
    if group.hold_out == HoldOut::Device {
        let name = kind_of_devices(group.group.as_deref());
        return match group.rows {
            0 => name,
            n => format!("{name}, {}", units::plural(n, "row")),
        };
    }
    with_setup(hold_out_name(group.hold_out), group.group.as_deref(), setup)
}

fn kind_of_devices(group: Option<&str>) -> String {
    group.unwrap_or("all devices").to_owned()
}

fn with_setup(name: String, group: Option<&str>, titled: Option<&str>) -> String {
    match group.filter(|_| titled.is_none()) {
        Some(group) => format!("{name} ({group})"),
        None => name,
    }
}

/// A title with the setup that the table is about.
fn titled(title: &str, setup: Option<&str>) -> String {
    setup.map_or_else(|| title.to_owned(), |setup| format!("{title} · {setup}"))
}

/// Errors of groups; the noise floors of held-out devices stand in [`certainty_sheet`].
fn error_sheet(groups: &[&GroupError], title: String, setup: Option<&str>) -> Sheet {
    let has_noise = groups.iter().any(|group| group.hold_out != HoldOut::Device);
    let mut headers = vec![
        "held out",
        "phase",
        ">n",
        ">MdAPE",
        ">MAPE",
        ">p90",
        ">max",
        ">bias",
        ">±10 %",
        ">coverage",
        ">interval",
    ];
    headers.extend(has_noise.then_some(">noise floor"));
    let mut sheet = Sheet::new(title, &headers);
    for group in groups {
        // Cells without a column are dropped.
        sheet.row([
            held_out(group, setup),
            group.phase.name().into(),
            group.n.to_string(),
            units::percent(group.mdape),
            units::percent(group.mape),
            units::percent(group.p90_ape),
            units::percent(group.max_ape),
            units::signed_percent(group.bias),
            units::percent(group.within_10pct),
            units::percent(group.coverage),
            format!("±{}", units::percent(group.interval_half_width)),
            units::or_none(group.noise_floor, units::percent),
        ]);
    }
    if let Some(group) = groups.first() {
        let level = units::percent(group.interval_level);
        sheet.note(format!("Coverage: of the intervals, which ought to hold {level}."));
    }
    sheet
}

/// What the median errors of held-out devices stand on.
fn certainty_sheet(groups: &[&GroupError]) -> Sheet {
    let mut sheet = Sheet::new(
        "what these medians stand on",
        &[
            "held out",
            "phase",
            ">n",
            ">devices",
            ">MdAPE",
            ">90 % of it",
            ">sheet alone",
            ">repeats",
            ">posters",
        ],
    );
    for group in groups.iter().filter(|group| group.devices.is_some()) {
        let interval = |[lower, upper]: [f64; 2]| {
            format!("{} – {}", units::percent(lower), units::percent(upper))
        };
        sheet.row([
            held_out(group, None),
            group.phase.name().into(),
            group.n.to_string(),
            group.devices.unwrap_or_default().to_string(),
            units::percent(group.mdape),
            units::or_none(group.mdape_interval, interval),
            units::or_none(group.mdape_spec_only, units::percent),
            units::or_none(group.noise_floor, units::percent),
            units::or_none(group.between_posters, units::percent),
        ]);
    }
    if !sheet.rows.is_empty() {
        sheet.note("90 % of it: where the median lies with other devices of the kind (bootstrap).");
        sheet.note("Sheet alone: the same cases without the given rows.");
        sheet.note("Repeats: what one source's measurements of one configuration differ by.");
        sheet.note(
            "Posters: what two sources' differ by, of the same device, engine, threads, model and \
             length.",
        );
    }
    sheet
}

/// Requests, kernels and memory, beside the phases.
fn metric_sheet(errors: &[&MetricError], setup: Option<&str>) -> Sheet {
    let mut sheet = Sheet::new(
        titled("the same of requests, kernels and memory", setup),
        &[
            "held out",
            "quantity",
            ">n",
            ">MdAPE",
            ">MAPE",
            ">p90",
            ">max",
            ">bias",
            ">±10 %",
            ">noise floor",
        ],
    );
    for error in errors {
        let name = error.hold_out.map_or("nothing is fitted".to_owned(), hold_out_name);
        sheet.row([
            with_setup(name, error.group.as_deref(), setup),
            error.metric.name().replace('_', " "),
            error.n.to_string(),
            units::percent(error.mdape),
            units::percent(error.mape),
            units::percent(error.p90_ape),
            units::percent(error.max_ape),
            units::signed_percent(error.bias),
            units::percent(error.within_10pct),
            units::or_none(error.noise_floor, units::percent),
        ]);
    }
    if !errors.is_empty() {
        sheet.note("Kernels: those that take at least 1 % of their pass.");
    }
    sheet
}

fn baseline_sheet(groups: &[&GroupError], title: &str, setup: Option<&str>) -> Sheet {
    let names: BTreeSet<&str> =
        groups.iter().flat_map(|g| g.baselines.keys().map(String::as_str)).collect();
    if names.is_empty() {
        return Sheet::new("", &[]);
    }
    let numbers: Vec<String> = names.iter().map(|name| format!(">{}", short(name))).collect();
    let mut headers = vec!["held out", "phase", ">ours"];
    headers.extend(numbers.iter().map(String::as_str));
    let mut sheet = Sheet::new(titled(title, setup), &headers);
    for group in groups {
        let baselines = names.iter().map(|name| {
            units::or_none(group.baselines.get(*name), |baseline| {
                let partial = if baseline.n < group.n { "*" } else { "" };
                format!("{}{partial}", units::percent(baseline.mdape))
            })
        });
        let own = [held_out(group, setup), group.phase.name().into(), units::percent(group.mdape)];
        sheet.row(own.into_iter().chain(baselines));
    }
    let partial = |group: &&GroupError| group.baselines.values().any(|b| b.n < group.n);
    if groups.iter().any(partial) {
        sheet.note("* this baseline could not answer every case.");
    }
    sheet
}

/// What a user gets who does not tell how old the engine's build is.
fn undated_sheet(report: &ValidationReport) -> Sheet {
    let headers =
        ["held out", "phase", ">n", ">MdAPE", ">bias", ">coverage", ">date told: MdAPE", ">bias"];
    let mut sheet =
        Sheet::new("from the data sheet alone, the date of the build not told", &headers);
    for e in &report.undated {
        sheet.row([
            kind_of_devices(e.group.as_deref()),
            e.phase.name().into(),
            e.n.to_string(),
            units::percent(e.mdape),
            units::signed_percent(e.bias),
            units::percent(e.coverage),
            units::percent(e.mdape_dated),
            units::signed_percent(e.bias_dated),
        ]);
    }
    sheet
}

/// What a baseline's column is called; JSON keeps the whole name.
fn short(baseline: &str) -> &str {
    match baseline {
        "bytes_over_bandwidth" => "bytes/bw",
        "edgeprofiler" => "EdgeProfiler",
        "nearest_model_scaled" => "nearest",
        "roofline_fixed_efficiency" | "fixed_efficiency_per_backend" => "fixed eff.",
        "log_linear_regression" => "linear",
        "nearest_device_scaled" => "nearest",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn tables(report: &ValidationReport) -> String {
        error_sheets(report).iter().map(Sheet::to_table).collect()
    }

    #[test]
    fn medians_of_devices_say_what_they_stand_on() {
        let mut report = testing::validation();
        assert!(!tables(&report).contains("stand on"), "other hold-outs have no devices");
        let group = &mut report.groups[0];
        (group.hold_out, group.rows, group.devices) = (HoldOut::Device, 3, Some(17));
        (group.mdape, group.mdape_interval) = (0.08, Some([0.06, 0.13]));
        (group.mdape_spec_only, group.between_posters) = (Some(0.19), Some(0.22));
        let tables = tables(&report);
        let row = tables.lines().find(|line| line.contains("6.0 % – 13 %")).unwrap();
        for part in ["all devices, 3 rows", " 17 ", "8.0 %", "19 %", "2.0 %", "22 %"] {
            assert!(row.contains(part), "{part}: {row}");
        }
    }

    #[test]
    fn devices_stand_apart_from_what_was_measured_here() {
        let mut report = testing::validation();
        let mut of_devices = report.groups[0].clone();
        (of_devices.hold_out, of_devices.group) = (HoldOut::Device, Some("igpu/vulkan".into()));
        report.groups.push(of_devices);
        report.device.push_str("; 121 machines, each left out");
        let sheets = error_sheets(&report);
        assert_eq!(
            sheets[0].title,
            "error on held-out groups · test-cpu-2c, 2 threads, candle 0.11.1"
        );
        assert_eq!(sheets[1].title, "error on held-out devices · 121 machines, each left out");
        assert_eq!((sheets[0].rows.len(), sheets[1].rows.len()), (2, 1));
        assert_eq!(sheets[1].rows[0][0], "igpu/vulkan");
    }

    #[test]
    fn setups_with_long_names_have_tables_of_their_own() {
        let mut report = testing::validation();
        let names = ["a-processor-of-a-cloud", "another-processor-of-a-cloud"];
        let of = |name: &str| {
            let mut groups = report.groups.clone();
            groups.iter_mut().for_each(|group| group.group = Some(name.into()));
            groups
        };
        report.groups = names.map(of).concat();
        report.device = names.join("; ");
        let sheets = error_sheets(&report);
        let titles: Vec<&str> = sheets.iter().map(|sheet| sheet.title.as_str()).collect();
        assert_eq!(titles[0], "error on held-out groups · a-processor-of-a-cloud");
        assert_eq!(titles[1], "error on held-out groups · another-processor-of-a-cloud");
        assert_eq!(sheets[1].rows[0][0], "model");
        assert!(sheets.iter().all(|sheet| sheet.width() <= WIDEST));
        // Where there is room, they stand in one.
        assert_eq!(titles[3], "median absolute error beside the baselines");
        assert_eq!(sheets[3].rows[2][0], "model (another-processor-of-a-cloud)");
    }
}
