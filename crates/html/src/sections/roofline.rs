//! The roofline (Williams, Waterman and Patterson, 2009) with the kernels measured in place.

use std::collections::BTreeMap;

use foretoken_cost::{EngineProfile, KernelClass, OpCost, Regime, pass_cost};
use foretoken_observe::{Observation, observations};
use foretoken_report::{Sheet, units};
use foretoken_spec::{Ceilings, Measurement, OpKind, Phase, TensorType};
use foretoken_stats::{median, quantile};

use crate::markup::{Key, figures, folded, legend, paragraph, table};
use crate::plot::{Axis, Mark, Plot, PlotError, Stroke};
use crate::theme::Ink;
use crate::words;

/// Kernels of one class and about one arithmetic intensity.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Kernel {
    class: KernelClass,
    /// FLOP per byte.
    intensity: f64,
    /// Achieved FLOP per second: the median over the observations.
    rate: f64,
    n_observations: usize,
}

/// Points nearer than this factor, within a class, are one.
const NEAR: f64 = 1.15;

/// The measured kernels of one device, engine and thread count.
pub(crate) fn kernels(measurements: &[Measurement]) -> Vec<Kernel> {
    let Some(first) = measurements.first() else { return Vec::new() };
    let Some(engine) = EngineProfile::named(&first.engine.name, &first.device) else {
        return Vec::new();
    };
    let mut found: BTreeMap<(KernelClass, i64), Vec<(f64, f64)>> = BTreeMap::new();
    for observation in observations(measurements) {
        let model = observation.model.to_spec();
        for op in pass_cost(&model, &engine, observation.kernel_pass).ops {
            let Some(seconds) = seconds(&observation, &op) else { continue };
            let intensity = op.arithmetic_intensity();
            if intensity > 0.0 {
                let near = (intensity.ln() / NEAR.ln()).round() as i64;
                let entry = found.entry((op.class, near)).or_default();
                entry.push((intensity, op.flop as f64 / seconds));
            }
        }
    }
    found
        .into_iter()
        .filter_map(|((class, _), pairs)| {
            let middle =
                |of: fn(&(f64, f64)) -> f64| median(&pairs.iter().map(of).collect::<Vec<_>>());
            Some(Kernel {
                class,
                intensity: middle(|pair| pair.0)?,
                rate: middle(|pair| pair.1)?,
                n_observations: pairs.len(),
            })
        })
        .collect()
}

fn seconds(observation: &Observation, op: &OpCost) -> Option<f64> {
    let matching = observation.kernels.iter().filter(|kernel| {
        kernel.op == op.op && kernel.role == op.role && kernel.tensor_type == op.tensor_type
    });
    let seconds: f64 = matching.map(|kernel| kernel.seconds).sum();
    (seconds > 0.0).then_some(seconds)
}

/// Ceilings as a calibration defines them: the fastest reading of memory that the reference saw,
/// the fastest arithmetic that the reference or a kernel reached.
pub(crate) fn ceilings(measurements: &[Measurement], kernels: &[Kernel]) -> Ceilings {
    let references = || measurements.iter().flat_map(|m| &m.reference);
    let stream = references().map(|r| r.stream_bytes_per_second).fold(0.0, f64::max);
    let reference = references().map(|r| r.matmul_flop_per_second).fold(0.0, f64::max);
    let in_place = kernels.iter().map(|kernel| kernel.rate).fold(0.0, f64::max);
    Ceilings { stream_bytes_per_second: stream, matmul_flop_per_second: reference.max(in_place) }
}

/// Setups that are drawn: those with the most lines.
const MOST_SETUPS: usize = 3;

/// A roofline for each setup; `known` are the ceilings of a calibration, where there is one.
///
/// # Errors
/// A plot that cannot be drawn.
pub(crate) fn html(
    measurements: &[Measurement],
    known: Option<Ceilings>,
) -> Result<String, PlotError> {
    let setups = setups(measurements);
    let mut plots = Vec::new();
    let mut tables = String::new();
    let mut roofs = Vec::new();
    let mut families = Vec::new();
    for lines in &setups {
        let kernels = kernels(lines);
        let ceilings = known.unwrap_or_else(|| ceilings(lines, &kernels));
        let is_known =
            ceilings.stream_bytes_per_second > 1.0 && ceilings.matmul_flop_per_second > 1.0;
        if kernels.is_empty() || !is_known {
            continue;
        }
        let device = (setups.len() > 1).then(|| lines[0].device.id.as_str());
        let is_matmul = |kernel: &&Kernel| kernel.class.matmul.is_some();
        let (matmuls, others): (Vec<&Kernel>, Vec<&Kernel>) = kernels.iter().partition(is_matmul);
        for (title, kernels) in [
            ("Roofline: multiplications by weights", &matmuls),
            ("Roofline: all other kernels", &others),
        ] {
            if !kernels.is_empty() {
                plots.push(plot(words::titled(title.into(), device), kernels, ceilings));
            }
        }
        let caption = words::titled("Measured kernels".into(), device);
        tables.push_str(&table(&caption, &sheet(&kernels, ceilings)));
        roofs.push(format!(
            "{} from memory and {} of arithmetic{}",
            units::bytes_per_second(ceilings.stream_bytes_per_second),
            units::flop_per_second(ceilings.matmul_flop_per_second),
            device.map_or_else(String::new, |device| format!(" on {device}"))
        ));
        families.extend(kernels.iter().map(|kernel| Family::of(&kernel.class)));
    }
    if plots.is_empty() {
        return Ok(paragraph("No kernel was measured in place."));
    }
    let intro = format!(
        "Arithmetic per byte moved against arithmetic per second, each kernel timed inside real \
         passes. The roof is what the machine showed: {}. Points above the slope read from caches; \
         points far below either roof lose time elsewhere: to call overhead, to threads that wait, \
         or to code that is not vectorised.",
        roofs.join("; ")
    );
    Ok(paragraph(&intro)
        + &legend(&keys(&families))
        + &figures("roofline", &plots)?
        + &folded("The kernels as a table", &tables))
}

fn keys(families: &[Family]) -> Vec<(Key, String)> {
    let shape = words::phase_shape(Phase::Prefill);
    let mut keys: Vec<(Key, String)> = FAMILIES
        .iter()
        .filter(|family| families.contains(family))
        .map(|family| (Key::Point(shape, family.ink()), family.name().to_owned()))
        .collect();
    let regimes =
        [(Phase::Prefill, "many rows (prefill)"), (Phase::Decode, "one row (decode, LM head)")];
    keys.extend(
        regimes.map(|(phase, text)| {
            (Key::Point(words::phase_shape(phase), Ink::Muted), text.to_owned())
        }),
    );
    keys.push((Key::Line(Ink::Limit), "measured ceilings".into()));
    keys
}

/// The lines of each device, engine and thread count, the largest setups first.
fn setups(measurements: &[Measurement]) -> Vec<Vec<Measurement>> {
    let mut setups: BTreeMap<(String, String, u32), Vec<Measurement>> = BTreeMap::new();
    for m in measurements {
        let engine = format!("{} {}", m.engine.name, m.engine.version);
        setups.entry((m.device.id.clone(), engine, m.threads)).or_default().push(m.clone());
    }
    let mut setups: Vec<Vec<Measurement>> = setups.into_values().collect();
    setups.sort_by_key(|lines| std::cmp::Reverse(lines.len()));
    setups.truncate(MOST_SETUPS);
    setups
}

/// Kernels that share a colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Quantized,
    Float,
    Attention,
    Other,
}

const FAMILIES: [Family; 4] = [Family::Quantized, Family::Float, Family::Attention, Family::Other];

impl Family {
    fn of(class: &KernelClass) -> Self {
        match (class.op, class.matmul) {
            (_, Some((tensor_type, _))) if TensorType::is_float(tensor_type) => Self::Float,
            (_, Some(_)) => Self::Quantized,
            (OpKind::Attention, None) => Self::Attention,
            _ => Self::Other,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Quantized => "quantized weights",
            Self::Float => "floating-point weights",
            Self::Attention => "attention",
            Self::Other => "norms, rotary embedding, activations, copies",
        }
    }

    fn ink(self) -> Ink {
        Ink::Series(match self {
            Self::Quantized => 2,
            Self::Float => 3,
            Self::Attention => 4,
            Self::Other => 5,
        })
    }
}

fn roof(ceilings: Ceilings, intensity: f64) -> f64 {
    (intensity * ceilings.stream_bytes_per_second).min(ceilings.matmul_flop_per_second)
}

fn plot(title: String, kernels: &[&Kernel], ceilings: Ceilings) -> Plot {
    let ridge = ceilings.matmul_flop_per_second / ceilings.stream_bytes_per_second;
    let intensities = kernels.iter().map(|kernel| kernel.intensity).chain([ridge, 3.0 * ridge]);
    let x = Axis::log("FLOP per byte", intensities, |v| units::significant(v, 1));
    let rates = kernels.iter().map(|kernel| kernel.rate);
    let rates = rates.chain([1.6 * ceilings.matmul_flop_per_second, roof(ceilings, x.range.0)]);
    let y = Axis::log("GFLOP/s", rates, |v| units::significant(v / 1e9, 1));
    let (left, right) = x.range;
    let line = vec![
        (left, roof(ceilings, left)),
        (ridge, ceilings.matmul_flop_per_second),
        (right, ceilings.matmul_flop_per_second),
    ];
    let mut marks = vec![
        Mark::Line(line, Ink::Limit, Stroke::Thick),
        Mark::Word {
            at: (right, ceilings.matmul_flop_per_second),
            text: format!("{} ", units::flop_per_second(ceilings.matmul_flop_per_second)),
            ink: Ink::Muted,
        },
        Mark::Word {
            at: (
                left * (ridge / left).powf(0.55),
                roof(ceilings, left * (ridge / left).powf(0.55)) * 1.25,
            ),
            text: format!("{}  ", units::bytes_per_second(ceilings.stream_bytes_per_second)),
            ink: Ink::Muted,
        },
    ];
    marks.extend(kernels.iter().map(|kernel| Mark::Point {
        at: (kernel.intensity, kernel.rate),
        shape: words::phase_shape(match kernel.class.regime {
            Regime::OneRow => Phase::Decode,
            Regime::ManyRows => Phase::Prefill,
        }),
        ink: Family::of(&kernel.class).ink(),
        tip: format!(
            "{}: {} at {} FLOP/byte, {} of the roof, {}",
            kernel.class.key(),
            units::flop_per_second(kernel.rate),
            units::significant(kernel.intensity, 2),
            units::percent(kernel.rate / roof(ceilings, kernel.intensity)),
            words::count(kernel.n_observations, "observation")
        ),
    }));
    let shares: Vec<f64> =
        kernels.iter().map(|kernel| kernel.rate / roof(ceilings, kernel.intensity)).collect();
    let at = |q| units::or_none(quantile(&shares, q), units::percent);
    Plot {
        title,
        description: format!(
            "{} kernels under a roof of {} and {}. Half of them reach {} of the roof or more, one \
             in ten {} or more.",
            kernels.len(),
            units::bytes_per_second(ceilings.stream_bytes_per_second),
            units::flop_per_second(ceilings.matmul_flop_per_second),
            at(0.5),
            at(0.9)
        ),
        height: 380,
        x,
        y,
        marks,
    }
}

fn sheet(kernels: &[Kernel], ceilings: Ceilings) -> Sheet {
    let mut sheet = Sheet::new(
        "",
        &["kernel class", ">FLOP/byte", ">achieved", ">of the roof", ">observations"],
    );
    for kernel in kernels {
        sheet.row([
            kernel.class.key(),
            units::significant(kernel.intensity, 3),
            units::flop_per_second(kernel.rate),
            units::percent(kernel.rate / roof(ceilings, kernel.intensity)),
            kernel.n_observations.to_string(),
        ]);
    }
    sheet
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_roof_is_the_lower_of_its_two_parts() {
        let ceilings = Ceilings { stream_bytes_per_second: 10.0, matmul_flop_per_second: 100.0 };
        assert_eq!(roof(ceilings, 2.0), 20.0);
        assert_eq!(roof(ceilings, 50.0), 100.0);
    }
}
