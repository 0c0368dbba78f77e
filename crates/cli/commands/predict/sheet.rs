//! `predict --device-spec`: devices that nothing was run on, by the model of many devices.

use anyhow::Context;
use foretoken_catalog::is_gguf;
use foretoken_cost::{EngineProfile, Isa, X86Level};
use foretoken_devices::derive::usual_backend;
use foretoken_devices::{peaks, resolve};
use foretoken_predict::{Asked, Sheet, SheetTimes, memory, predict_from_sheet};
use foretoken_report::{Predictions, units};
use foretoken_spec::{
    AvailableMemory, Ceilings, DataSheetBasis, DeviceBackend, DeviceSpec, Engine, Estimate,
    ModelSource, ModelSpec, Phase, Prediction, Tier, Workload,
};
use foretoken_transfer::{
    CrossDevice, DevicePredictor, Dots, Machine, ModelFacts, Setup, Transfer, Work,
};

use super::argument_of;
use super::observe::observe;
use crate::Outcome;
use crate::args::{OnOff, PredictArgs};
use crate::commands::device_figures::check_figures;
use crate::commands::{beyond_context, resolve_models, smaller_quants};
use crate::files::{cross_device, transfer_error};
use crate::hub::Use;
use crate::output::{Hinted, Output};
use crate::parse::month_name;

/// The engine that nearly all public measurements are of.
const USUAL_ENGINE: &str = Engine::LlamaCpp.name();
/// The engine whose readers are known here.
const CANDLE: &str = Engine::Candle.name();
/// Resident size of an engine's process before any model is loaded.
const ENGINE_BYTES: u64 = 64 << 20;
/// From this distance on nothing that is known is like the device.
const UNLIKE: f64 = 0.6;

/// Predicts every model in every quantization on every device asked for.
pub fn run(args: &PredictArgs, output: &Output) -> anyhow::Result<Outcome> {
    let workload = Workload::new(args.prompt, args.generate, args.depth)?;
    check_request(args)?;
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

/// Refuses what no data sheet can answer.
fn check_request(args: &PredictArgs) -> anyhow::Result<()> {
    if args.device_spec.iter().any(|name| name.trim().is_empty()) {
        let message = "--device-spec: a name is missing before or after a comma";
        return Err(Hinted::new(message, "write device ids or files between single commas").into());
    }
    if args.batch > 1 {
        let message = format!(
            "--batch {}: the measurements behind --device-spec are of one sequence at a time, and \
             say nothing of several",
            args.batch
        );
        let hint = "leave --batch out, or predict from a calibration of the device";
        return Err(Hinted::new(message, hint).into());
    }
    Ok(())
}

/// One device with what computes on it.
struct Place<'a> {
    device: DeviceSpec,
    setup: Setup,
    profile: EngineProfile,
    ceilings: Ceilings,
    predictor: DevicePredictor<'a>,
    /// Measured rows of the device that were given.
    n_observed: u32,
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
        let mut phases = Vec::new();
        if args.prompt > 0 {
            phases.push(Phase::Prefill);
        }
        if args.generate > 0 {
            phases.push(Phase::Decode);
        }
        check_figures(&device, backend, &phases)?;
        let engine = &spelled(engine, backend, known);
        let setup = Setup {
            threads: args.threads,
            year: args.engine_date,
            flash_attention: args.flash_attn.map(|fused| fused == OnOff::On),
            ..Setup::new(engine, backend)
        };
        let mut predictor = known.device(&device, backend).map_err(transfer_error)?;
        let mut n_observed = 0;
        for file in &args.observe {
            n_observed += observe(&mut predictor, file, &device, &setup, output)?;
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
        Ok(Self { device, setup, profile, ceilings, predictor, n_observed })
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
        let mut facts = ModelFacts::of(model);
        if args.kv_type.is_some() {
            facts = facts.with_cache_of(self.profile.kv_type.bits_per_weight() / 8.0);
        }
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
            engine_name: &self.setup.engine,
            engine: &self.profile,
            ceilings: self.ceilings,
        };
        let warnings = self.warnings(args, model, workload, &facts, [&prefill, &decode]);
        let phases = [(Phase::Prefill, prefill), (Phase::Decode, decode)];
        let groups = phases.iter().filter(|(_, answer)| answer.is_some());
        let groups = groups.map(|(phase, _)| self.predictor.interval_groups(*phase)).min();
        let times = self.times(phases, groups.unwrap_or(0));
        let mut prediction = predict_from_sheet(&sheet, model, workload, &asked, &times);
        prediction.memory.available_is = asked.available_bytes.map(|_| AvailableMemory::Installed);
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
        if self.setup.engine == CANDLE && prediction.cannot_run.is_none() {
            prediction.cannot_run = super::cannot_run(model, CANDLE, workload, args.batch);
        }
        prediction.warnings.extend(warnings);
        prediction.verify = verify(&self.setup.engine, model, workload, &asked.model_argument);
        Ok(prediction)
    }

    /// What the reader should know beside the numbers.
    fn warnings(
        &self,
        args: &PredictArgs,
        model: &ModelSpec,
        workload: &Workload,
        facts: &ModelFacts,
        [prefill, decode]: [&Option<Transfer>; 2],
    ) -> Vec<String> {
        let mut warnings: Vec<String> = beyond_context(model, workload).into_iter().collect();
        let works = [
            workload.prefill().map(|pass| Work::prefill(pass.n_tokens, pass.kv_len)),
            workload.decode_midpoint().map(|pass| Work::decode(f64::from(pass.kv_len))),
        ];
        for (work, answer) in works.into_iter().zip([prefill, decode]) {
            let (Some(work), Some(answer)) = (work, answer) else { continue };
            let limit = self.predictor.machine().least_time(facts, &work);
            let least_ms = 1e3 * work.n_tokens * limit.seconds;
            if answer.ms.point < least_ms {
                warnings.push(format!(
                    "{}: faster than the data sheet allows ({}): its figures or the model of many \
                     devices are wrong here",
                    work.phase.name(),
                    units::duration_ms(least_ms)
                ));
            }
        }
        if let Some(kv_type) = args.kv_type.as_ref().filter(|_| decode.is_some()) {
            warnings.push(format!(
                "--kv-type {kv_type} changes memory and the bytes that a step reads; what its own \
                 kernels cost is not in the times"
            ));
        }
        for assumed in self.predictor.assumed() {
            warnings.push(format!("{assumed}; intervals are wider for it"));
        }
        warnings
    }

    /// Times of both phases with all that they rest on; `n_devices` are behind their intervals.
    fn times(&self, phases: [(Phase, Option<Transfer>); 2], n_devices: u32) -> SheetTimes {
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
        let build = known.iter().find_map(|t| t.build);
        if let Some((build, outside)) = build.and_then(|b| Some((b, b.outside?))) {
            extrapolation.push(format!(
                "no measurement of {} on {} is of {}: taken as it was in {}",
                self.setup.engine,
                self.setup.backend,
                month_name(outside),
                month_name(build.year)
            ));
        }
        let basis = DataSheetBasis {
            engine_date: build.map(|build| month_name(build.year)),
            engine_date_assumed: build.is_some_and(|build| !build.is_told),
            flash_attention: self.setup.flash_attention,
            observed_rows: self.n_observed,
            known_rows: self.predictor.known_rows(),
            assumed: self.predictor.assumed().to_vec(),
        };
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
            basis,
        }
    }

    /// Threads that are assumed where none are asked for: those of all fast cores.
    fn threads(&self) -> u32 {
        let of_cores = self.predictor.machine().cores.max(1.0) as u32;
        self.setup.threads.unwrap_or(of_cores)
    }
}

/// The engine as the model spells it, where it knows it in another case.
fn spelled(engine: &str, backend: DeviceBackend, known: &CrossDevice) -> String {
    let of = |phase| known.engines(backend, phase);
    let engines = of(Phase::Prefill).into_iter().chain(of(Phase::Decode));
    engines.into_iter().find(|name| name.eq_ignore_ascii_case(engine)).unwrap_or(engine).to_owned()
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
        CANDLE => Ok(EngineProfile::candle_on(isa)),
        // The others keep and execute what the file stores, as llama.cpp does.
        _ => Ok(EngineProfile::llama_cpp(isa)),
    }
}

/// The command that measures the same thing on the device.
fn verify(engine: &str, model: &ModelSpec, workload: &Workload, argument: &str) -> String {
    let Workload { prompt_tokens, generated_tokens, depth } = *workload;
    if engine == CANDLE {
        return format!(
            "foretoken measure {argument} --quant {} --prompt {prompt_tokens} --gen \
             {generated_tokens} --depth {depth}",
            model.quant
        );
    }
    // Its forks have a llama-bench of their own; other engines have benchmarks of their own.
    let bench = match engine {
        USUAL_ENGINE => "llama-bench",
        "ik_llama.cpp" => "ik_llama.cpp/build/bin/llama-bench",
        _ => {
            return format!(
                "{engine}'s own benchmark of {} {}: prompt {prompt_tokens}, gen \
                 {generated_tokens}, depth {depth}",
                model.name, model.quant
            );
        }
    };
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
        format!("{bench} -m {file} -p 0 -n {generated_tokens} -d {depth}")
    });
    let prompt = (prompt_tokens > 0).then(|| format!("{bench} -m {file} -n 0{tests}"));
    prompt.into_iter().chain(step).collect::<Vec<_>>().join(" && ")
}
