//! A prediction from a data sheet: the times come from a model of many devices, memory and
//! arithmetic from the cost model, as everywhere.

use std::collections::BTreeMap;

use foretoken_cost::edgeprofiler::{EDGE_DEVICES, EdgeDevice, EdgeModel, bytes_per_weight};
use foretoken_cost::{
    EngineProfile, OpCost, approximations, batch_cost, memory_notes, pass_cost, roofline,
};
use foretoken_spec::{
    BaselineTimes, Basis, Ceilings, DataSheetBasis, DeviceBackend, DeviceKind, DeviceSpec,
    EnergyPrediction, Estimate, FlopCount, ModelSpec, OpPrediction, Pass, PredictedDevice,
    PredictedModel, PredictedWorkload, Prediction, SCHEMA_VERSION, Tier, Workload,
};

use crate::answer::{end_to_end, milliseconds};
use crate::{Asked, cold_load, energy_from_power, memory};

/// What is known of the engine and of the device beside its sheet.
#[derive(Debug, Clone)]
pub struct Sheet<'a> {
    /// The device.
    pub device: &'a DeviceSpec,
    /// What computes.
    pub backend: DeviceBackend,
    /// Threads of the engine; on a graphics processor, 1.
    pub threads: u32,
    /// Name of the engine; one that is none of ours keeps models as `engine` does.
    pub engine_name: &'a str,
    /// How the engine keeps and executes a model.
    pub engine: &'a EngineProfile,
    /// Peaks of the sheet.
    pub ceilings: Ceilings,
}

/// Times of the passes, in seconds, and what they rest on.
#[derive(Debug, Clone, PartialEq)]
pub struct SheetTimes {
    /// One pass over the prompt.
    pub prefill: Option<Estimate>,
    /// One step at the midpoint of the generated span.
    pub decode: Option<Estimate>,
    /// [`Tier::SpecSheet`], or [`Tier::MeasuredRows`] where rows of the device were observed.
    pub tier: Tier,
    /// Id of the model of many devices.
    pub model: String,
    /// Devices that were held out for its intervals.
    pub n_devices: u32,
    /// What lies outside of what is known, each as a sentence.
    pub extrapolation: Vec<String>,
    /// The known devices that are most like this one.
    pub nearest: Vec<String>,
    /// What was told and assumed.
    pub basis: DataSheetBasis,
}

/// Predicts one workload of one model on a device that nothing was run on.
pub fn predict_from_sheet(
    sheet: &Sheet<'_>,
    model: &ModelSpec,
    workload: &Workload,
    asked: &Asked,
    times: &SheetTimes,
) -> Prediction {
    let batch = asked.batch_size.max(1);
    let ms = |seconds: &Estimate| milliseconds(seconds, 1.0);
    let prefill_ms = times.prefill.as_ref().map(ms);
    let decode_ms = times.decode.as_ref().map(ms);
    let per_second = |tokens: u32, ms: Option<Estimate>| {
        ms.map(|estimate| f64::from(tokens) * f64::from(batch) / (estimate.point * 1e-3))
    };
    let passes = [(workload.prefill(), prefill_ms), (workload.decode_midpoint(), decode_ms)];
    let ops =
        passes.iter().filter_map(|(pass, ms)| Some(ops(sheet, model, (*pass)?, batch, (*ms)?)));
    let flop = |pass: Option<Pass>| {
        pass.map_or(0, |pass| batch_cost(model, sheet.engine, pass, batch).flop())
    };
    Prediction {
        schema_version: SCHEMA_VERSION,
        model: PredictedModel {
            name: model.name.clone(),
            architecture: model.shape.architecture.clone(),
            parameters: model.n_parameters(),
            weight_bytes: model.weight_bytes(),
        },
        quant: model.quant.clone(),
        device: PredictedDevice {
            id: sheet.device.id.clone(),
            backend: sheet.backend,
            threads: sheet.threads,
            engine: sheet.engine_name.to_owned(),
        },
        workload: PredictedWorkload {
            prompt_tokens: workload.prompt_tokens,
            generated_tokens: workload.generated_tokens,
            kv_len: workload.depth,
            batch_size: asked.batch_size,
        },
        // Softmax and draw of a token are not in the speeds that the model of devices knows.
        ttft_ms: prefill_ms,
        tpot_ms: decode_ms,
        e2e_ms: end_to_end(prefill_ms, decode_ms, workload.generated_tokens),
        prefill_tokens_per_second: per_second(workload.prompt_tokens, prefill_ms),
        decode_tokens_per_second: per_second(1, decode_ms),
        prefill_ms,
        decode_ms,
        memory: memory(model, sheet.engine, workload, asked),
        flop: FlopCount {
            prefill: flop(workload.prefill()),
            decode_per_token: flop(workload.decode_midpoint()) / u64::from(batch),
        },
        energy_j: energy(sheet.device, prefill_ms, decode_ms, workload),
        load_ms: None,
        load_cold_ms: from_storage(sheet.device, model),
        first_pass_extra_ms: None,
        ops: ops.flatten().collect(),
        basis: Basis {
            tier: times.tier,
            calibration: Some(times.model.clone()),
            interval_groups: times.n_devices,
            extrapolation: times.extrapolation.clone(),
            nearest_devices: times.nearest.clone(),
            data_sheet: Some(times.basis.clone()),
        },
        baselines: baselines(sheet, model, workload),
        verify: String::new(),
        cannot_run: None,
        memory_notes: memory_notes(model, sheet.engine),
        warnings: approximations(model, sheet.engine),
    }
}

/// Idle power over that under load where only the latter is known.
///
/// Of boards, phones, Apple's computers and processors: medians of the catalogue's devices that have
/// both, by kind (a test holds them to it). No graphics card of the catalogue has both; theirs is from
/// memory, low confidence: reviewers' idle powers of 15 to 25 W on cards of 320 to 450 W, 50 to 70 W
/// on servers' cards of 400 to 700 W.
fn usual_idle_share(kind: DeviceKind) -> f64 {
    match kind {
        DeviceKind::Gpu => 0.06,
        DeviceKind::Igpu => 0.16,
        DeviceKind::Cpu => 0.19,
        DeviceKind::Soc => 0.13,
    }
}
/// Joules in a watt-hour.
const JOULES_PER_WH: f64 = 3600.0;

/// Energy above idle by the sheet's power figures; `None` where it has none.
fn energy(
    device: &DeviceSpec,
    prefill_ms: Option<Estimate>,
    decode_ms: Option<Estimate>,
    workload: &Workload,
) -> Option<EnergyPrediction> {
    let load_w = device.load_power_w.or(device.tdp_w)?;
    let idle_w = device.idle_power_w.unwrap_or(usual_idle_share(device.kind) * load_w);
    let of = |ms: Option<Estimate>| energy_from_power(idle_w, load_w, milliseconds(&ms?, 1e-6));
    let request_ms = end_to_end(prefill_ms, decode_ms, workload.generated_tokens)
        .or(prefill_ms)
        .or_else(|| Some(milliseconds(&decode_ms?, 1e-3 * f64::from(workload.generated_tokens))));
    let whole = of(request_ms)?;
    let battery_j = device.battery_wh.map(|wh| JOULES_PER_WH * wh);
    Some(EnergyPrediction {
        prefill: of(prefill_ms).map(|energy| energy.estimate),
        per_token: of(decode_ms).map(|energy| energy.estimate),
        idle_guessed: device.idle_power_w.is_none(),
        battery_share: battery_j.zip(whole.with_idle).map(|(all, used)| used.point / all),
        ..whole
    })
}

/// The file read once from the usual storage; what the engine does with it afterwards is not known.
fn from_storage(device: &DeviceSpec, model: &ModelSpec) -> Option<Estimate> {
    let nothing = Estimate { point: 0.0, lower: 0.0, upper: 0.0, level: LEVEL };
    let rate = 1e6 * device.storage_bandwidth_mbps?;
    cold_load(nothing, model.weight_bytes(), rate)
}

/// Nominal coverage of the intervals.
const LEVEL: f64 = 0.9;

/// The predicted time of a pass, shared out by the roofline bounds of its operations at the peaks
/// of the sheet: no operation was measured.
fn ops(
    sheet: &Sheet<'_>,
    model: &ModelSpec,
    pass: Pass,
    batch: u32,
    ms: Estimate,
) -> Vec<OpPrediction> {
    let cost = batch_cost(model, sheet.engine, pass, batch);
    let bounded = |op: &OpCost| roofline(op.flop, op.bytes, &sheet.ceilings);
    let total: f64 = cost.ops.iter().map(|op| bounded(op).seconds).sum();
    let row = |op: &OpCost| {
        let bounded = bounded(op);
        OpPrediction {
            op: op.name(),
            kind: op.op,
            phase: pass.phase(),
            ms: ms.point * if total > 0.0 { bounded.seconds / total } else { 0.0 },
            bound: bounded.bound,
            arithmetic_intensity: op.arithmetic_intensity(),
            flop: op.flop,
            bytes: op.bytes,
            class: op.class.key(),
            tier: Tier::SpecSheet,
            terms: Vec::new(),
            nearest: None,
        }
    };
    cost.ops.iter().map(row).collect()
}

/// What naive methods make of the same sheet, in ms.
fn baselines(
    sheet: &Sheet<'_>,
    model: &ModelSpec,
    workload: &Workload,
) -> BTreeMap<String, BaselineTimes> {
    let roofline_ms = |pass: Option<Pass>| {
        let cost = pass_cost(model, sheet.engine, pass?);
        let bound = |op: &OpCost| roofline(op.flop, op.bytes, &sheet.ceilings).seconds;
        Some(1e3 * cost.ops.iter().map(bound).sum::<f64>())
    };
    let decode = workload.decode_midpoint();
    let edge_ms = |pass: Pass| {
        let tokens = f64::from(pass.kv_len + pass.n_tokens);
        let shape = EdgeModel::of(&model.shape, tokens);
        1e3 * shape.token(&edge_device(sheet), bytes_per_weight(model)).end_to_end()
    };
    BTreeMap::from([
        (
            "roofline".to_owned(),
            BaselineTimes {
                prefill_ms: roofline_ms(workload.prefill()),
                decode_ms: roofline_ms(decode),
            },
        ),
        (
            "edgeprofiler".to_owned(),
            BaselineTimes { prefill_ms: None, decode_ms: decode.map(edge_ms) },
        ),
    ])
}

/// The device as EdgeProfiler's code has it, where it has it; else the sheet's peaks with the
/// figures of its Raspberry Pi 5 for what no sheet has.
fn edge_device(sheet: &Sheet<'_>) -> EdgeDevice {
    let published = EDGE_DEVICES.iter().find(|(id, _)| sheet.device.id.starts_with(id));
    if let Some((_, device)) = published {
        return *device;
    }
    let (_, raspberry_pi_5) = EDGE_DEVICES[1];
    EdgeDevice {
        flop: sheet.ceilings.matmul_flop_per_second,
        memory: sheet.ceilings.stream_bytes_per_second,
        storage: sheet.device.storage_bandwidth_mbps.map_or(raspberry_pi_5.storage, |mb| 1e6 * mb),
        ..raspberry_pi_5
    }
}

#[cfg(test)]
mod tests {
    use foretoken_devices::catalogue;
    use foretoken_stats::median;

    use super::*;

    #[test]
    fn guesses_of_idling_are_those_of_the_catalogue() {
        for kind in [DeviceKind::Cpu, DeviceKind::Igpu, DeviceKind::Soc] {
            let share = |d: &DeviceSpec| Some(d.idle_power_w? / d.load_power_w.or(d.tdp_w)?);
            let of_kind = catalogue().iter().filter(|device| device.kind == kind);
            let shares: Vec<f64> = of_kind.filter_map(share).collect();
            let median = median(&shares).unwrap();
            let guess = usual_idle_share(kind);
            assert!((guess - median).abs() < 0.015, "{kind}: {guess}, catalogue {median}");
        }
    }

    #[test]
    fn a_card_that_tells_no_idle_power_gets_a_marked_guess() {
        let ms = Some(Estimate { point: 1e3, lower: 9e2, upper: 1.1e3, level: 0.9 });
        let workload = Workload::new(512, 1, 0).unwrap();
        let mut card = DeviceSpec::named("card", "Card", DeviceKind::Gpu);
        card.tdp_w = Some(450.0);
        let guessed = energy(&card, ms, None, &workload).unwrap();
        // 0.06 · 450 W.
        assert!((guessed.idle_w.unwrap() - 27.0).abs() < 1e-9 && guessed.idle_guessed);
        card.idle_power_w = Some(21.0);
        let told = energy(&card, ms, None, &workload).unwrap();
        assert_eq!((told.idle_w, told.idle_guessed), (Some(21.0), false));
    }
}
