//! What a fit was made of: models, workloads, loads, and the time that they took.

use std::collections::{BTreeMap, BTreeSet};

use foretoken_report::{Sheet, units};
use foretoken_spec::{Calibration, Measurement};

use crate::markup::{facts, paragraph, table};
use crate::words;

/// The models of the design with their shapes, workloads and loads.
pub(crate) fn html(calibration: &Calibration, measurements: &[Measurement]) -> String {
    let mut by_model: BTreeMap<(&str, &str), Vec<&Measurement>> = BTreeMap::new();
    for m in measurements {
        by_model.entry((&m.model.name, &m.model.quant)).or_default().push(m);
    }
    let mut sheet = Sheet::new(
        "",
        &[
            "model",
            "quant",
            ">layers",
            ">hidden",
            ">feed-forward",
            ">loads",
            ">passes timed",
            ">kernel samples",
            ">time in passes",
            "prompts",
            "depths",
        ],
    );
    for ((name, quant), lines) in &by_model {
        let shape = &lines[0].model.shape;
        let loads: BTreeSet<(&str, u32)> =
            lines.iter().map(|m| (m.session.as_str(), m.sequence)).collect();
        let samples: usize = lines.iter().map(|m| m.prefill.len() + m.decode.len()).sum();
        let kernels: usize = lines.iter().flat_map(|m| &m.kernels).map(|k| k.ns.len()).sum();
        let of = |workload: fn(&Measurement) -> u32| {
            let values: BTreeSet<u32> = lines.iter().map(|m| workload(m)).collect();
            values.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")
        };
        sheet.row([
            (*name).into(),
            (*quant).into(),
            shape.n_layers.to_string(),
            shape.hidden_size.to_string(),
            shape.intermediate_size.to_string(),
            loads.len().to_string(),
            samples.to_string(),
            kernels.to_string(),
            units::duration_ms(lines.iter().map(|m| pass_ms(m)).sum()),
            of(|m| m.workload.prompt_tokens),
            of(|m| m.workload.depth),
        ]);
    }
    let loading: f64 = {
        let mut seen = BTreeSet::new();
        let once = measurements.iter().filter(|m| seen.insert((&m.session, m.sequence)));
        once.map(|m| m.load_ns as f64 / 1e6).sum()
    };
    let dataset = &calibration.dataset;
    let about = [
        ("calibration", format!("{}, fitted {}", calibration.id, words::time(&calibration.time))),
        (
            "measurements",
            format!("{}, {} lines, hash {}", dataset.file, dataset.measurements, dataset.hash),
        ),
        ("time in timed passes", units::duration_ms(measurements.iter().map(pass_ms).sum())),
        ("time to load", units::duration_ms(loading)),
        ("seed", calibration.seed.to_string()),
    ];
    let intro = "Small synthetic models of the true kernels; one load mixes tensor types by layer \
        and so serves several quantizations at once. Speed does not depend on the values of the \
        weights.";
    paragraph(intro)
        + &facts(&about)
        + &table(&format!("{} in the fit", words::count(by_model.len(), "model")), &sheet)
}

fn pass_ms(m: &Measurement) -> f64 {
    m.prefill.iter().chain(&m.decode).map(|s| s.total_ns() as f64 / 1e6).sum()
}
