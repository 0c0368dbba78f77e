//! `predict --device-spec`: devices that nothing was run on, by the model of many devices.

use anyhow::Context;
use foretoken_catalog::is_gguf;
use foretoken_cost::{EngineProfile, Isa, X86Level};
use foretoken_devices::derive::usual_backend;
use foretoken_devices::{Question, peaks, require, resolve};
use foretoken_import::read_speed_rows;
use foretoken_predict::{Asked, Sheet, SheetTimes, memory, predict_from_sheet};
use foretoken_report::{Predictions, units};
use foretoken_spec::{
    Ceilings, DeviceBackend, DeviceSpec, Estimate, ModelSource, ModelSpec, Phase, Prediction, Tier,
    Workload,
};
use foretoken_transfer::{
    CrossDevice, DevicePredictor, Dots, Machine, ModelFacts, ModelShapes, Setup, Store, Transfer,
    Work,
};

use super::argument_of;
use crate::Outcome;
use crate::args::PredictArgs;
use crate::commands::{resolve_models, smaller_quants};
use crate::files::{cross_device, transfer_error};
use crate::hub::Use;
use crate::output::{Hinted, Output};

/// The engine that nearly all public measurements are of.
const USUAL_ENGINE: &str = "llama.cpp";
/// Resident size of an engine's process before any model is loaded.
const ENGINE_BYTES: u64 = 64 << 20;
/// From this distance on nothing that is known is like the device.
const UNLIKE: f64 = 0.6;

/// Predicts every model in every quantization on every device asked for.
pub fn run(args: &PredictArgs, output: &Output) -> anyhow::Result<Outcome> {
    let workload = Workload::new(args.prompt, args.generate, args.depth)?;
    let models = resolve_models(&args.models, &args.quant, Use::Describe(output))?;
    let engine = args.engine.as_deref().unwrap_or(USUAL_ENGINE);
    let known = cross_device()?;
    let mut predictions = Vec::new();
    for argument in &args.device_spec {
        let device = resolve(argument).map_err(crate::commands::devices::hinted)?;
        let place = Place::new(args, device, engine, &known, output)?;
        for model in &models {
            predictions.push(place.predict(args, model, &workload)?);
        }
    }
    output.print(&Predictions { predictions, explain: args.explain })?;
    Ok(Outcome::Good)
}

/// One device with what computes on it.
struct Place<'a> {
    device: DeviceSpec,
    setup: Setup,
    profile: EngineProfile,
    ceilings: Ceilings,
    predictor: DevicePredictor<'a>,
    /// Devices that the model knows.
    n_devices: u32,
}

impl<'a> Place<'a> {
    fn new(
        args: &PredictArgs,
        device: DeviceSpec,
        engine: &str,
        known: &'a CrossDevice,
        output: &Output,
    ) -> anyhow::Result<Self> {
        let backend = args.backend.unwrap_or_else(|| usual_backend(&device));
        let mut questions = Vec::new();
        if args.prompt > 0 {
            questions.push(Question::Prefill);
        }
        if args.generate > 0 {
            questions.push(Question::Decode);
        }
        require(&device, backend, &questions)
            .map_err(|error| Hinted::new(error.to_string(), error.hint()))?;
        let setup = Setup { threads: args.threads, ..Setup::new(engine, backend) };
        let mut predictor = known.device(&device, backend).map_err(transfer_error)?;
        for file in &args.observe {
            observe(&mut predictor, file, &device, backend, output)?;
        }
        let mut profile = engine_profile(engine, predictor.machine())?;
        if let Some(kv_type) = &args.kv_type {
            profile =
                profile.with_kv_type(kv_type).with_context(|| format!("--kv-type {kv_type}"))?;
        }
        let found = peaks(&device, backend);
        let peak = [found.fp16, found.fp32].into_iter().flatten().fold(0.0, f64::max);
        let ceilings = Ceilings {
            stream_bytes_per_second: 1e9 * device.mem_bandwidth_gbps.unwrap_or(0.0),
            matmul_flop_per_second: 1e12
                * if peak > 0.0 { peak } else { found.int8.unwrap_or(0.0) },
        };
        let n_devices = known.machines.len() as u32;
        Ok(Self { device, setup, profile, ceilings, predictor, n_devices })
    }

    fn predict(
        &self,
        args: &PredictArgs,
        model: &ModelSpec,
        workload: &Workload,
    ) -> anyhow::Result<Prediction> {
        let asked = Asked {
            batch_size: args.batch,
            available_bytes: self.device.mem_gb.map(|gb| (gb * f64::from(1 << 30)) as u64),
            process_bytes: ENGINE_BYTES,
            model_argument: argument_of(model),
        };
        let facts = ModelFacts::of(model);
        let time =
            |work: Work| self.predictor.predict(&self.setup, &facts, &work).map_err(transfer_error);
        let prefill = workload
            .prefill()
            .map(|pass| time(Work::prefill(pass.n_tokens, pass.kv_len)))
            .transpose()?;
        let decode = workload
            .decode_midpoint()
            .map(|pass| time(Work::decode(f64::from(pass.kv_len))))
            .transpose()?;
        let sheet = Sheet {
            device: &self.device,
            backend: self.setup.backend,
            threads: self.threads(),
            engine: &self.profile,
            ceilings: self.ceilings,
        };
        let times = times([(Phase::Prefill, prefill), (Phase::Decode, decode)], self.n_devices);
        let mut prediction = predict_from_sheet(&sheet, model, workload, &asked, &times);
        if prediction.memory.fits == Some(false) {
            prediction.memory.fitting_quants = smaller_quants(model, |other| {
                memory(other, &self.profile, workload, &asked).fits == Some(true)
            });
            prediction.cannot_run = Some(format!(
                "{} are needed and the device has {}: weights would be read from storage for \
                 every token",
                units::bytes(prediction.memory.peak_bytes),
                units::bytes(asked.available_bytes.unwrap_or(0))
            ));
        }
        prediction.verify = verify(&self.setup.engine, model, workload, &asked.model_argument);
        Ok(prediction)
    }

    /// Threads that are assumed where none are asked for: those of all fast cores.
    fn threads(&self) -> u32 {
        let of_cores = self.predictor.machine().cores.max(1.0) as u32;
        self.setup.threads.unwrap_or(of_cores)
    }
}

fn times(phases: [(Phase, Option<Transfer>); 2], n_devices: u32) -> SheetTimes {
    let seconds = |transfer: &Transfer| {
        let Estimate { point, lower, upper, level } = transfer.ms;
        Estimate { point: 1e-3 * point, lower: 1e-3 * lower, upper: 1e-3 * upper, level }
    };
    let known: Vec<&Transfer> = phases.iter().filter_map(|(_, t)| t.as_ref()).collect();
    let mut extrapolation = Vec::new();
    for (phase, transfer) in &phases {
        let Some(nearest) = transfer.as_ref().and_then(|t| t.nearest.first()) else { continue };
        if nearest.distance > UNLIKE {
            extrapolation.push(format!(
                "{}: no known device is like it; the nearest is {}",
                phase.name(),
                nearest.id
            ));
        }
    }
    let mut nearest: Vec<String> =
        known.iter().flat_map(|t| t.nearest.iter().map(|n| n.id.clone())).collect();
    let mut seen = std::collections::BTreeSet::new();
    nearest.retain(|id| seen.insert(id.clone()));
    SheetTimes {
        prefill: phases[0].1.as_ref().map(seconds),
        decode: phases[1].1.as_ref().map(seconds),
        tier: known.iter().map(|t| t.tier).max().unwrap_or(Tier::SpecSheet),
        model: "cross-device".to_owned(),
        n_devices,
        extrapolation,
        nearest,
    }
}

/// Takes note of measured rows of the device.
fn observe(
    predictor: &mut DevicePredictor<'_>,
    file: &std::path::Path,
    device: &DeviceSpec,
    backend: DeviceBackend,
    output: &Output,
) -> anyhow::Result<()> {
    let rows = read_speed_rows(file)?;
    // Whatever the rows call it: they are of this device.
    let find = |_: &str| Some(device.clone());
    let store = Store::join(&rows, &find, &ModelShapes::default());
    for (reason, n) in &store.left_out {
        output.warn(&format!("{}: {n} rows left out: {reason}", file.display()));
    }
    let of_backend: Vec<_> =
        store.observations.iter().filter(|o| o.setup.backend == backend).collect();
    if of_backend.is_empty() {
        let message = format!("{} has no usable row of {backend}", file.display());
        let hint = "give rows of `foretoken import`, or CSV with the columns of datasets/public";
        return Err(Hinted::new(message, hint).into());
    }
    for o in of_backend {
        predictor.observe(&o.setup, &o.model, &o.work, o.seconds_per_token);
    }
    Ok(())
}

/// How the engine keeps a model on such a machine.
fn engine_profile(engine: &str, machine: &Machine) -> anyhow::Result<EngineProfile> {
    let isa = match (machine.maker.as_str(), machine.dots) {
        ("intel" | "amd", Dots::None | Dots::Scalar) => {
            Isa::X86 { level: X86Level::None, amx: false }
        }
        ("intel" | "amd", Dots::Avx2) => Isa::X86 { level: X86Level::Avx2, amx: false },
        ("intel" | "amd", dots) => {
            Isa::X86 { level: X86Level::Avx512Vnni, amx: dots == Dots::Tiles }
        }
        ("arm" | "apple", dots) => Isa::Arm { dotprod: matches!(dots, Dots::Dot | Dots::Matrix) },
        _ => Isa::Other,
    };
    match engine {
        "candle" => Ok(EngineProfile::candle_on(isa)),
        // The others keep and execute what the file stores, as llama.cpp does.
        _ => Ok(EngineProfile::llama_cpp(isa)),
    }
}

/// The command that measures the same thing on the device.
fn verify(engine: &str, model: &ModelSpec, workload: &Workload, argument: &str) -> String {
    let Workload { prompt_tokens, generated_tokens, depth } = *workload;
    if engine == "candle" {
        return format!(
            "foretoken measure {argument} --quant {} --prompt {prompt_tokens} --gen \
             {generated_tokens} --depth {depth}",
            model.quant
        );
    }
    let file = match &model.source {
        ModelSource::Gguf { path } if is_gguf(path) => argument.to_owned(),
        _ => format!("{}-{}.gguf", model.name, model.quant),
    };
    let mut tests = String::new();
    if prompt_tokens > 0 {
        tests.push_str(&format!(" -p {prompt_tokens} -d {depth}"));
    }
    let step = (generated_tokens > 0).then(|| {
        let depth = depth + prompt_tokens;
        format!("llama-bench -m {file} -p 0 -n {generated_tokens} -d {depth}")
    });
    let prompt = (prompt_tokens > 0).then(|| format!("llama-bench -m {file} -n 0{tests}"));
    prompt.into_iter().chain(step).collect::<Vec<_>>().join(" && ")
}
