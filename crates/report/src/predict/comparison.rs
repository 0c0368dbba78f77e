//! Several predictions beside each other, in as many tables as a terminal has room for.

use foretoken_spec::{Estimate, MemoryVerdict, Prediction};

use super::{
    basis, build, by_sentence, is_one_device, listed, name, runs_on, tokens_per_second, warnings,
};
use crate::sheet::WIDEST;
use crate::{Sheet, units};

/// A column whose largest time is at least this is written in seconds, unless its least is below
/// the other.
const MANY_MS: f64 = 10_000.0;
const FEW_MS: f64 = 100.0;

/// How much room a table takes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Room {
    /// As it reads best.
    Ample,
    /// No spaces in intervals, and whether it fits above the table where all agree.
    Tight,
}

/// One table where it has room; else one for each device or for each model, whichever are fewer.
/// What all have in common stands above, what they rest on below the last.
pub(super) fn comparison(predictions: &[Prediction]) -> Vec<Sheet> {
    let all: Vec<&Prediction> = predictions.iter().collect();
    let mut sheets = vec![table(&all, Room::Ample)];
    if sheets[0].width() > WIDEST {
        let by_device = groups(&all, |p| format!("{} {}", p.device.id, runs_on(p)));
        let by_model = groups(&all, |p| p.model.name.clone());
        let fewer = if by_device.len() <= by_model.len() { by_device } else { by_model };
        sheets = fewer.iter().map(|group| table(group, Room::Ample)).collect();
        // All of them in one way.
        if sheets.iter().any(|sheet| sheet.width() > WIDEST) {
            sheets = fewer.iter().map(|group| table(group, Room::Tight)).collect();
        }
    }
    if let Some(last) = sheets.last_mut() {
        last.notes.extend(notes(predictions));
    }
    sheets
}

/// Predictions with the same name, in the order of first appearance.
fn groups<'a>(
    all: &[&'a Prediction],
    name: impl Fn(&Prediction) -> String,
) -> Vec<Vec<&'a Prediction>> {
    let mut groups: Vec<(String, Vec<&Prediction>)> = Vec::new();
    for p in all {
        let name = name(p);
        match groups.iter_mut().find(|(known, _)| *known == name) {
            Some((_, group)) => group.push(p),
            None => groups.push((name, vec![p])),
        }
    }
    groups.into_iter().map(|(_, group)| group).collect()
}

/// A column of times: in seconds where milliseconds would take five digits.
#[derive(Clone, Copy)]
struct Unit {
    name: &'static str,
    ms: f64,
}

impl Unit {
    fn of(times: impl Iterator<Item = Option<Estimate>>) -> Self {
        let (least, largest) = times
            .flatten()
            .map(|e| e.point)
            .fold((f64::INFINITY, 0.0_f64), |(low, high), ms| (low.min(ms), high.max(ms)));
        match largest >= MANY_MS && least >= FEW_MS {
            true => Self { name: "s", ms: 1e3 },
            false => Self { name: "ms", ms: 1.0 },
        }
    }

    fn header(self, name: &str) -> String {
        format!(">{name} {}", self.name)
    }

    fn point(self, estimate: Option<Estimate>) -> String {
        units::or_none(estimate, |e| units::ms(e.point / self.ms))
    }

    fn interval(self, estimate: Option<Estimate>) -> String {
        units::or_none(estimate, |e| {
            let (lower, upper) = (e.lower / self.ms, e.upper / self.ms);
            units::interval_ms(&Estimate { lower, upper, ..e })
        })
    }
}

fn table(predictions: &[&Prediction], room: Room) -> Sheet {
    let ttft = Unit::of(predictions.iter().map(|p| p.ttft_ms));
    let tpot = Unit::of(predictions.iter().map(|p| p.tpot_ms));
    let headers = [
        "model",
        "quant",
        "device",
        ">prompt",
        ">gen",
        ">depth",
        &ttft.header("TTFT"),
        ">interval",
        &tpot.header("TPOT"),
        ">interval",
        ">tok/s",
        ">peak",
        "fits",
    ];
    let is_one_device = predictions.windows(2).all(|pair| pair[0].device == pair[1].device);
    let interval = |text: String| match room {
        Room::Ample => text,
        Room::Tight => text.replace(" – ", "–"),
    };
    let mut sheet = Sheet::new("", &headers);
    for p in predictions {
        let device = match is_one_device {
            true => format!("{}, {}", p.device.id, runs_on(p)),
            // What computes on each is told with what its rows rest on.
            false => p.device.id.clone(),
        };
        sheet.row([
            p.model.name.clone(),
            p.quant.clone(),
            device,
            p.workload.prompt_tokens.to_string(),
            p.workload.generated_tokens.to_string(),
            p.workload.kv_len.to_string(),
            ttft.point(p.ttft_ms),
            interval(ttft.interval(p.ttft_ms)),
            tpot.point(p.tpot_ms),
            interval(tpot.interval(p.tpot_ms)),
            units::or_none(tokens_per_second(p), |rate| units::significant(rate, 3)),
            units::bytes(p.memory.peak_bytes),
            fits(p).into(),
        ]);
    }
    let mut title = sheet.fold_constant(&["model", "quant", "device"]);
    for header in ["prompt", "gen", "depth"] {
        title.extend(sheet.fold_constant(&[header]).iter().map(|v| format!("{header} {v}")));
    }
    // Asked for once, for all of them.
    if let Some(batch) = predictions.first().map(|p| p.workload.batch_size).filter(|&n| n > 1) {
        title.push(format!("batch {batch}"));
    }
    if room == Room::Tight {
        title.extend(sheet.fold_constant(&["fits"]).iter().map(|v| format!("fits: {v}")));
    }
    sheet.title = title.join(" · ");
    sheet
}

fn fits(p: &Prediction) -> &'static str {
    match p.memory.verdict {
        _ if p.cannot_run.is_some() => "cannot run",
        Some(MemoryVerdict::Fits) => "yes",
        Some(MemoryVerdict::SwapRisk) => "narrowly",
        Some(MemoryVerdict::DoesNotFit) => "no",
        None => units::NONE,
    }
}

/// What the predictions rest on, and what their reader should know, each once.
fn notes(predictions: &[Prediction]) -> Vec<String> {
    let is_one_device = is_one_device(predictions);
    let mut notes = bases(predictions);
    let mut builds: Vec<String> = Vec::new();
    for build in predictions.iter().filter_map(build) {
        if !builds.contains(&build) {
            builds.push(build);
        }
    }
    notes.extend(builds);
    let outside: Vec<&Prediction> =
        predictions.iter().filter(|p| !p.basis.extrapolation.is_empty()).collect();
    match outside.as_slice() {
        [] => {}
        [p] => notes.push(format!(
            "{} extrapolates: {}",
            name(p, is_one_device),
            p.basis.extrapolation.join("; ")
        )),
        several => {
            let mut names: Vec<String> = several.iter().map(|p| name(p, is_one_device)).collect();
            names.dedup();
            notes.push(format!("outside of what was measured: {}", listed(&names)));
            notes.push("Their intervals are wider; predict one alone for the reason.".to_owned());
        }
    }
    let warned = predictions.iter().flat_map(|p| warnings(p).map(move |w| (p, w.clone())));
    let warned = by_sentence(predictions, warned);
    notes.extend(warned.into_iter().map(|(of, text)| format!("warning: {of}: {text}")));
    let mut seen: Vec<String> = Vec::new();
    notes.retain(|note| {
        let is_new = !seen.contains(note);
        seen.push(note.clone());
        is_new
    });
    notes
}

/// What the predictions rest on: of one device by model where models differ, of several by device
/// where its models agree.
fn bases(predictions: &[Prediction]) -> Vec<String> {
    let is_one_device = is_one_device(predictions);
    let is_mixed = |p: &Prediction| {
        let same_device = predictions.iter().filter(|other| other.device == p.device);
        same_device.into_iter().any(|other| basis(other) != basis(p))
    };
    let mut bases: Vec<(String, Vec<String>)> = Vec::new();
    let are_models = is_one_device || predictions.iter().any(is_mixed);
    for p in predictions {
        let name = match are_models {
            true => name(p, is_one_device),
            false => format!("{} ({})", p.device.id, runs_on(p)),
        };
        let basis = basis(p);
        match bases.iter_mut().find(|(known, _)| *known == basis) {
            Some((_, names)) if !names.contains(&name) => names.push(name),
            Some(_) => {}
            None => bases.push((basis, vec![name])),
        }
    }
    match bases.as_slice() {
        [(basis, _)] if is_one_device => vec![format!("basis: {basis}")],
        several => several
            .iter()
            .map(|(basis, names)| {
                // What computes on a device stands nowhere else.
                let names = if are_models { listed(names) } else { names.join(", ") };
                format!("basis of {names}: {basis}")
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::prediction;
    use foretoken_spec::{DataSheetBasis, DeviceBackend, Tier};

    fn of(model: &str, device: &str, tier: Tier) -> Prediction {
        let mut p = prediction();
        p.model.name = model.into();
        p.device.id = device.into();
        p.basis.tier = tier;
        p.basis.data_sheet = (tier >= Tier::MeasuredRows).then(DataSheetBasis::default);
        p.ttft_ms =
            Some(Estimate { point: 71_800.0, lower: 24_985.0, upper: 206_359.0, level: 0.9 });
        p
    }

    fn many() -> Vec<Prediction> {
        let mut all = Vec::new();
        for (device, tier) in [
            ("raspberry-pi-4-8gb", Tier::SameDeviceClass),
            ("jetson-orin-nano-super-8gb", Tier::SpecSheet),
        ] {
            for model in ["tinyllama-1.1b", "gemma-3-1b", "deepseek-r1-distill-qwen-1.5b"] {
                let mut p = of(model, device, tier);
                if tier == Tier::SpecSheet {
                    p.device.backend = DeviceBackend::Cuda;
                }
                all.push(p);
            }
        }
        all
    }

    #[test]
    fn a_wide_comparison_becomes_a_table_for_each_device() {
        let sheets = comparison(&many());
        assert_eq!(sheets.len(), 2);
        assert!(sheets.iter().all(|sheet| sheet.width() <= WIDEST));
        assert!(sheets[0].title.contains("raspberry-pi-4-8gb, "), "{}", sheets[0].title);
        assert!(sheets[1].title.contains("jetson-orin-nano-super-8gb, cuda"));
        // Every table has all its rows, and long times are seconds.
        assert!(sheets.iter().all(|sheet| sheet.rows.len() == 3));
        assert!(sheets[0].columns.iter().any(|column| column.header == "TTFT s"));
        insta::assert_snapshot!(sheets.iter().map(Sheet::to_table).collect::<Vec<_>>().join("\n"));
    }

    #[test]
    fn a_table_that_stays_too_wide_is_tightened() {
        let mut wide = many();
        for (i, p) in wide.iter_mut().enumerate() {
            p.quant = if i % 2 == 0 { "Q4_K_M".into() } else { "Q8_0".into() };
            p.tpot_ms = Some(Estimate { point: 1614.0, lower: 1270.0, upper: 2397.0, level: 0.9 });
        }
        let sheets = comparison(&wide);
        assert!(sheets.iter().all(|sheet| sheet.width() <= WIDEST), "{}", sheets[0].to_table());
        assert!(sheets[0].title.ends_with("fits: yes"), "{}", sheets[0].title);
        assert!(sheets[0].to_table().contains("25.0–206"), "{}", sheets[0].to_table());
    }

    #[test]
    fn seconds_are_for_columns_of_long_times_alone() {
        let of = |times: &[f64]| {
            let estimate =
                |ms: &f64| Some(Estimate { point: *ms, lower: 1.0, upper: 2.0, level: 0.9 });
            Unit::of(times.iter().map(estimate)).name
        };
        assert_eq!(of(&[9999.0, 20.0]), "ms");
        assert_eq!(of(&[10_000.0, 250.0]), "s");
        assert_eq!(of(&[72_000.0, 18.3]), "ms");
    }

    #[test]
    fn a_basis_names_its_device() {
        let bases = bases(&many());
        assert!(bases[0].starts_with("basis of raspberry-pi-4-8gb ("), "{}", bases[0]);
        assert!(bases[1].starts_with("basis of jetson-orin-nano-super-8gb (cuda): spec"));
        let mut mixed = many();
        mixed[0].basis.tier = Tier::SpecSheet;
        let bases = super::bases(&mixed);
        assert!(
            bases[0].contains("basis of tinyllama-1.1b Q4_K_M on raspberry-pi-4-8gb"),
            "{bases:?}"
        );
    }

    #[test]
    fn one_model_on_two_devices_is_one_table() {
        let two = [of("m", "a", Tier::SpecSheet), of("m", "b", Tier::SpecSheet)];
        let sheets = comparison(&two);
        assert_eq!(sheets.len(), 1);
        let devices: Vec<&str> = sheets[0].rows.iter().map(|row| row[0].as_str()).collect();
        assert_eq!(devices, ["a", "b"]);
    }
}
