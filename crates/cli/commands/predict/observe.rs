//! `--observe`: measured rows of the device, believed as far as its data sheet allows.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::Context;
use foretoken_import::{Origin, Speeds, decode, read_llama_bench, read_speeds};
use foretoken_report::units;
use foretoken_spec::{DeviceBackend, DeviceSpec, Phase, SpeedRow};
use foretoken_transfer::{DevicePredictor, LimitedBy, Observation, Setup, Store};

use crate::files::complete_models;
use crate::output::{Hinted, Output};

/// How far a row may beat the data sheet: caches hold a part of small models, and bandwidths on data
/// sheets are rounded.
const MOST_ABOVE_LIMIT: f64 = 2.0;
/// How far beyond its interval a row may lie before its reader is told.
const ODD: f64 = 4.0;
/// From this often on it is taken for an error of the row.
const ABSURD: f64 = 100.0;
/// How far two rows may differ in what they say of the device before its reader is told.
const CONTRADICTION: f64 = 3.0;

/// A row that counts.
struct Seen {
    line: u32,
    observation: Observation,
    /// Measured over predicted from what was known before; `None` where nothing was.
    surprise: Option<f64>,
}

/// Takes note of the measured rows of a file, and answers how many there were. `asked` is what is
/// to be predicted.
///
/// # Errors
/// Names file and line of a row that cannot be read or cannot be true; a file without a row that
/// helps.
pub fn observe(
    predictor: &mut DevicePredictor<'_>,
    file: &Path,
    device: &DeviceSpec,
    asked: &Setup,
    output: &Output,
) -> anyhow::Result<u32> {
    let (name, backend) = (file.display(), asked.backend);
    let mut rows = numbered_rows(file, device, backend)?;
    warn_of_others(&rows, file, device, output);
    let mut models: Vec<&mut SpeedRow> = rows.iter_mut().map(|(_, row)| row).collect();
    let shapes = complete_models(&mut models, &[file.to_owned()])?;
    let mut seen: Vec<Seen> = Vec::new();
    let mut reasons: Vec<String> = Vec::new();
    for (line, row) in &rows {
        if row.backend != backend.name() {
            let of = &row.backend;
            reasons.push(format!("line {line} is of {of}, and {backend} is predicted"));
            continue;
        }
        // Whatever the row calls it: it is of this device.
        let store =
            Store::join(std::slice::from_ref(row), &|_: &str| Some(device.clone()), &shapes);
        reasons.extend(store.left_out.keys().map(|reason| format!("line {line}: {reason}")));
        for observation in store.observations {
            require_possible(&observation, predictor, file, *line, device)?;
            let blind =
                predictor.predict(&observation.setup, &observation.model, &observation.work).ok();
            let surprise = blind.as_ref().map(|blind| observation.ms() / blind.ms.point);
            if let Some(blind) =
                blind.as_ref().filter(|blind| observation.ms() > ABSURD * blind.ms.upper)
            {
                let times = units::significant(observation.ms() / blind.ms.point, 2);
                let message =
                    format!("{name}, line {line}: {times} times slower than the data sheet tells");
                let hint =
                    "look at the unit of the speed (tokens per second), or leave the row out";
                return Err(Hinted::new(message, hint).into());
            }
            if let Some(blind) = blind.filter(|blind| observation.ms() > ODD * blind.ms.upper) {
                output.warn(&format!(
                    "{name}, line {line}: {} times slower than the data sheet tells: another \
                     unit, swapping, or a clock that was held down?",
                    units::significant(observation.ms() / blind.ms.point, 2)
                ));
            }
            seen.push(Seen { line: *line, observation, surprise });
        }
    }
    if seen.is_empty() {
        let message = format!("{name} has no usable row of {backend}: {}", first_of(&reasons));
        let hint = if reasons.iter().any(|reason| reason.contains("is predicted")) {
            "ask for the backend of the rows with --backend, or give rows of this one"
        } else {
            "docs/importing.md lists the columns that a row needs"
        };
        return Err(Hinted::new(message, hint).into());
    }
    for reason in reasons {
        output.warn(&format!("{name}: left out: {reason}"));
    }
    for (difference, lines) in other_setups(&seen, asked) {
        output.warn(&format!(
            "{name}, {lines}: {difference}; what that changes is the model's word, not measured"
        ));
    }
    for (a, b, factor) in contradictions(&seen) {
        output.warn(&format!(
            "{name}: lines {a} and {b} contradict each other by a factor of {}: the same device \
             under the same settings does not do both",
            units::significant(factor, 2)
        ));
    }
    for Seen { observation: o, .. } in &seen {
        predictor.observe(&o.setup, &o.model, &o.work, o.seconds_per_token);
    }
    Ok(u32::try_from(seen.len()).unwrap_or(u32::MAX))
}

/// The rows of a file with their lines: ours, CSV, or what llama-bench prints.
fn numbered_rows(
    file: &Path,
    device: &DeviceSpec,
    backend: DeviceBackend,
) -> anyhow::Result<Vec<(u32, SpeedRow)>> {
    let name = file.display();
    let bytes = fs::read(file).with_context(|| format!("cannot read {name}"))?;
    let text = decode(&bytes).with_context(|| name.to_string())?;
    let told = Origin {
        device_id: Some(device.id.clone()),
        backend: Some(backend.name().to_owned()),
        ..Origin::default()
    };
    let hint = "docs/importing.md lists the columns; what llama-bench prints is read as it is";
    let ours = read_speeds(&text, &Origin { backend: None, ..told.clone() })
        .map_err(|error| Hinted::new(format!("{name}: {error}"), hint))?;
    let Speeds { rows, problems, .. } = ours.unwrap_or_else(|| read_llama_bench(&text, &told));
    if let Some(problem) = problems.first() {
        let message = format!("{name}, line {}: {}", problem.line, problem.reason);
        return Err(Hinted::new(message, hint).into());
    }
    if rows.is_empty() {
        let message = format!("{name} holds neither speeds nor what llama-bench prints");
        return Err(Hinted::new(message, hint).into());
    }
    Ok(rows)
}

/// Rows that say that they are of another device are taken, with a word.
fn warn_of_others(rows: &[(u32, SpeedRow)], file: &Path, device: &DeviceSpec, output: &Output) {
    let is_own = |id: &str| {
        let names = [&device.id, &device.name].into_iter().chain(&device.aliases);
        names.into_iter().any(|name| name.eq_ignore_ascii_case(id))
    };
    let mut others: Vec<&str> =
        rows.iter().map(|(_, row)| row.device_id.as_str()).filter(|id| !is_own(id)).collect();
    others.sort_unstable();
    others.dedup();
    if !others.is_empty() {
        output.warn(&format!(
            "{}: rows of `{}` are taken as measured on `{}`",
            file.display(),
            others.join("`, `"),
            device.id
        ));
    }
}

/// In what rows differ from what is asked for, with their lines: the engine, and the threads of a
/// processor.
fn other_setups(seen: &[Seen], asked: &Setup) -> Vec<(String, String)> {
    let mut found: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    for Seen { line, observation: Observation { setup, .. }, .. } in seen {
        if !setup.engine.eq_ignore_ascii_case(&asked.engine) {
            let engine = setup.engine.escape_debug();
            let difference = format!("measured with {engine}, and {} is predicted", asked.engine);
            found.entry(difference).or_default().push(*line);
        }
        if asked.backend == DeviceBackend::Cpu
            && let (Some(of_row), Some(wanted)) = (setup.threads, asked.threads)
            && of_row != wanted
        {
            let of_row = units::plural(of_row, "thread");
            let difference = format!("measured with {of_row}, and {wanted} are predicted");
            found.entry(difference).or_default().push(*line);
        }
    }
    let listed = |lines: &[u32]| {
        let numbers: Vec<String> = lines.iter().map(u32::to_string).collect();
        let word = if lines.len() == 1 { "line" } else { "lines" };
        format!("{word} {}", numbers.join(", "))
    };
    found.iter().map(|(difference, lines)| (difference.clone(), listed(lines))).collect()
}

/// Refuses a row that beats what the data sheet allows.
fn require_possible(
    o: &Observation,
    predictor: &DevicePredictor<'_>,
    file: &Path,
    line: u32,
    device: &DeviceSpec,
) -> anyhow::Result<()> {
    let machine = predictor.machine();
    let limit = machine.least_time(&o.model, &o.work);
    let above = limit.seconds / o.seconds_per_token;
    if above <= MOST_ABOVE_LIMIT {
        return Ok(());
    }
    let speed = units::significant(1.0 / o.seconds_per_token, 3);
    let why = match limit.bound {
        LimitedBy::Bandwidth => format!(
            "reading the weights of {} so often takes {} times the {} GB/s of `{}`",
            o.model.name,
            units::significant(above, 2),
            units::significant(machine.bandwidth_gbps.unwrap_or(0.0), 3),
            device.id
        ),
        LimitedBy::Arithmetic => format!(
            "the arithmetic of {} takes {} times the fastest peak of `{}`",
            o.model.name,
            units::significant(above, 2),
            device.id
        ),
    };
    let phase = match o.work.phase {
        Phase::Prefill => "prompt",
        _ => "decode",
    };
    let message =
        format!("{}, line {line}: {speed} {phase} tokens/s cannot be: {why}", file.display());
    let hint = "correct the row: phase, model, params_b (in 10⁹), n_prompt and tokens_per_second; \
                or the device's figures";
    Err(Hinted::new(message, hint).into())
}

/// The two rows of each phase that differ most in what they say of the device, where it is a lot.
fn contradictions(seen: &[Seen]) -> Vec<(u32, u32, f64)> {
    let mut found = Vec::new();
    for phase in [Phase::Prefill, Phase::Decode] {
        let of_phase = seen.iter().filter(|row| row.observation.work.phase == phase);
        let mut rows: Vec<(f64, u32)> =
            of_phase.filter_map(|row| Some((row.surprise?, row.line))).collect();
        rows.sort_by(|a, b| a.0.total_cmp(&b.0));
        if let (Some(low), Some(high)) = (rows.first(), rows.last())
            && high.0 > CONTRADICTION * low.0
        {
            found.push((low.1.min(high.1), low.1.max(high.1), high.0 / low.0));
        }
    }
    found
}

fn first_of(reasons: &[String]) -> String {
    match reasons {
        [] => "there is none".into(),
        [one] => one.clone(),
        [first, rest @ ..] => format!("{first} (and {} more)", rest.len()),
    }
}
