//! `profile`: where the time of one real run goes.

mod live;

use std::cell::OnceCell;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, bail};
use foretoken_predict::Predictor;
use foretoken_profile::{compare, profile_of, write_trace};
use foretoken_report::{Format, Profiled, render, units};
use foretoken_runner::{
    CandleEngine, OpenDevice, ProfilePlan, ProfilePrompt, SamplingMode, TextCodec, check_model,
    check_workload, run_profile, threads_in_effect, tool_info,
};
use foretoken_spec::{
    DeviceInfo, Engine, ModelSource, ModelSpec, Pass, ProfileReport, Timeline, Workload,
};
use foretoken_tokenize::{DecodeStream, Tokenizer};

use crate::Outcome;
use crate::args::ProfileArgs;
use crate::commands::{beyond_context, check_fits, resolve_models, run_here};
use crate::files::{
    AtomicFile, Stored, check_writable, find_calibration, make_folder, newest_calibration,
    read_profile, write_atomic,
};
use crate::hub::Use;
use crate::output::{Hinted, Output};
use crate::progress::stop_on_interrupt;
use live::Live;

/// Tokens of the prompt where nothing else is asked for.
const DEFAULT_PROMPT: u32 = 512;
/// Most time for the pairs of passes that measure the probes' cost, for each phase.
const PAIR_BUDGET: Duration = Duration::from_secs(8);
/// Seed of the sampler.
const SEED: u64 = 0x5eed;
/// Bytes of text that make a token, at least in part: for the memory that a text will need.
const BYTES_PER_TOKEN: usize = 3;

/// Runs the model once under the probes and prints where its time went.
pub fn run(args: &ProfileArgs, output: &Output) -> anyhow::Result<Outcome> {
    let quants: Vec<_> = args.quant.into_iter().collect();
    let device = run_here(&args.run)?;
    let models = resolve_models(std::slice::from_ref(&args.model), &quants, Use::Run(output))?;
    let [model] = models.as_slice() else { bail!("name one model") };
    let prompt = prompt(args, model)?;
    check(args, model, &prompt, &device)?;
    let old = args.against.as_deref().map(read_comparable).transpose()?;
    check_places(args, output)?;
    let calibration = calibration(args, device.info(), output)?;

    let timeline = profile(args, device, (model, prompt), output)?;
    if let Some(path) = &args.trace {
        save_trace(path, &timeline, calibration.as_ref())?;
        output.note(&format!("trace: {} (opens in https://ui.perfetto.dev)", path.display()));
    }
    let mut report = profile_of(&timeline, args.overhead_budget);
    // A run that was stopped has too little to be held against a whole one.
    if let Some(old) = old.as_ref().filter(|_| !report.interrupted) {
        report.comparison = Some(compare(old, &report, args.fail_above)?);
    }
    if let Some(path) = &args.out {
        save(path, &report, output)?;
    }
    let verdict = verdict(args, &report, output);
    output.print(&Profiled(report))?;
    verdict
}

/// What the comparison comes to, said on standard error where the answer is no table.
fn verdict(args: &ProfileArgs, report: &ProfileReport, output: &Output) -> anyhow::Result<Outcome> {
    let Some(limit) = args.fail_above else { return Ok(Outcome::Good) };
    let Some(comparison) = &report.comparison else {
        bail!("the run was stopped before it could be compared");
    };
    if comparison.failed {
        if output.format != Format::Table {
            output.note("FAIL: slower than the older profile, see `comparison` of the JSON");
        }
        return Ok(Outcome::ThresholdMissed);
    }
    if comparison.noise > limit {
        output.warn(&format!(
            "a slowdown of {} could not have been seen: the noise is {}; close other programs and \
             profile again",
            units::percent(limit),
            units::percent(comparison.noise)
        ));
    }
    Ok(Outcome::Good)
}

fn prompt(args: &ProfileArgs, model: &ModelSpec) -> anyhow::Result<ProfilePrompt> {
    let text = match (&args.prompt_text, &args.prompt_file) {
        (Some(text), _) => text.clone(),
        (None, Some(path)) => std::fs::read_to_string(path)
            .with_context(|| format!("cannot read {} as text", path.display()))?,
        (None, None) => return Ok(ProfilePrompt::Tokens(args.prompt.unwrap_or(DEFAULT_PROMPT))),
    };
    if text.is_empty() {
        bail!("the prompt is empty; a run needs at least one token");
    }
    if !matches!(model.source, ModelSource::Gguf { .. }) {
        let message = format!("{} has no tokenizer: its weights are synthetic", model.name);
        return Err(Hinted::new(message, "give a .gguf file, or --prompt N").into());
    }
    Ok(ProfilePrompt::Text(text))
}

/// Refuses what cannot run, before anything is loaded.
fn check(
    args: &ProfileArgs,
    model: &ModelSpec,
    prompt: &ProfilePrompt,
    device: &OpenDevice,
) -> anyhow::Result<()> {
    check_model(model)?;
    let prompt_tokens = match prompt {
        ProfilePrompt::Tokens(0) => {
            let message = "--prompt 0: a run begins with a prompt";
            return Err(Hinted::new(message, "ask for at least 1 token").into());
        }
        ProfilePrompt::Tokens(n) => *n,
        ProfilePrompt::Text(text) => u32::try_from(text.len() / BYTES_PER_TOKEN)
            .unwrap_or(u32::MAX)
            .clamp(1, model.shape.context_length),
    };
    if args.generate == 0 {
        let message = "--gen 0: a run draws at least the token that follows the prompt";
        return Err(Hinted::new(message, "ask for at least 1 token").into());
    }
    let workload = Workload::new(prompt_tokens, args.generate, 0)?;
    if matches!(prompt, ProfilePrompt::Tokens(_)) {
        check_workload(model, &workload)?;
        if beyond_context(model, &workload).is_some() {
            let message = format!(
                "prompt {prompt_tokens} + gen {} is beyond the context of {} ({} tokens)",
                args.generate, model.name, model.shape.context_length
            );
            return Err(Hinted::new(message, "shorten --prompt or --gen").into());
        }
    }
    check_fits(model, [&workload], device)
}

/// An older profile that has something to compare with.
fn read_comparable(path: &Path) -> anyhow::Result<ProfileReport> {
    let old = read_profile(path)?;
    compare(&old, &old, None)
        .with_context(|| format!("{} cannot be compared with", path.display()))?;
    Ok(old)
}

/// Refuses places that cannot be written, and those where what the run needs would be lost.
fn check_places(args: &ProfileArgs, output: &Output) -> anyhow::Result<()> {
    let calibration = args.calibration.as_deref().map(Path::new);
    let inputs = [Some(Path::new(&args.model)), args.prompt_file.as_deref(), calibration];
    // A profile may take the place of the one that it is compared with.
    let outputs = [("--trace", &args.trace, args.against.as_deref()), ("--out", &args.out, None)];
    for (name, path, against) in outputs {
        let Some(path) = path else { continue };
        if inputs.into_iter().chain([against]).flatten().any(|input| is_same_file(path, input)) {
            let message = format!("{name} {} would write over what is read", path.display());
            return Err(Hinted::new(message, "give another file name").into());
        }
        make_folder(path, output)?;
        check_writable(path)?;
    }
    match (&args.trace, &args.out) {
        (Some(trace), Some(out)) if place(trace) == place(out) => {
            let message = format!("--trace and --out are the same file {}", out.display());
            Err(Hinted::new(message, "give each its own").into())
        }
        _ => Ok(()),
    }
}

/// Where a file is or will be, however it is spelled.
fn place(path: &Path) -> PathBuf {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new(".")).canonicalize();
    match (folder, path.file_name()) {
        (Ok(folder), Some(name)) => folder.join(name),
        _ => path.to_owned(),
    }
}

/// Whether both exist and are one regular file.
fn is_same_file(a: &Path, b: &Path) -> bool {
    match (a.canonicalize(), b.canonicalize()) {
        (Ok(a), Ok(b)) => a == b && a.is_file(),
        _ => false,
    }
}

/// The calibration of the predicted track: the one asked for, else this machine's where there is
/// one.
fn calibration(
    args: &ProfileArgs,
    device: &DeviceInfo,
    output: &Output,
) -> anyhow::Result<Option<Stored>> {
    if args.trace.is_none() {
        return Ok(None);
    }
    if let Some(argument) = &args.calibration {
        return find_calibration(argument).map(Some);
    }
    let found = newest_calibration(device, Engine::Candle.name(), threads_in_effect()).exact;
    match &found {
        Some(stored) => output.note(&format!("calibration: {}", stored.path.display())),
        None => output.note("no calibration of this machine: the trace has no predicted track"),
    }
    Ok(found)
}

fn profile(
    args: &ProfileArgs,
    device: OpenDevice,
    (model, prompt): (&ModelSpec, ProfilePrompt),
    output: &Output,
) -> anyhow::Result<Timeline> {
    let sampling =
        if args.greedy { SamplingMode::Greedy } else { SamplingMode::Temperature { seed: SEED } };
    let plan = ProfilePlan {
        model,
        prompt,
        generated_tokens: args.generate,
        overhead_budget: args.overhead_budget,
        pair_budget: PAIR_BUDGET,
        tool: tool_info(env!("CARGO_PKG_VERSION")),
    };
    let stop = stop_on_interrupt()?;
    let mut live = Live::new(output);
    let mut engine = CandleEngine::on(device, sampling).keeping_memory();
    let tokenizer = OnceCell::new();
    let mut timeline = run_profile(
        &mut engine,
        &plan,
        &mut || open_codec(model, &tokenizer),
        &mut |now| live.show(now),
        &|| stop.load(Ordering::SeqCst),
    )?;
    live.finish();
    let warnings = tokenizer.get().map(Tokenizer::warnings).unwrap_or_default();
    timeline.warnings.extend(warnings.iter().cloned());
    timeline.warnings.extend(left_the_context(model, &timeline));
    Ok(timeline)
}

/// The warning about a run that went on after the end of the context. How many tokens a text has
/// is not known before, so it is not refused.
fn left_the_context(model: &ModelSpec, timeline: &Timeline) -> Option<String> {
    let limit = model.shape.context_length;
    let last = timeline.passes.last()?;
    let reached = last.sample.kv_len + last.sample.n_tokens;
    (reached > limit).then(|| {
        format!(
            "the run reached {reached} tokens, beyond the context of {} ({limit} tokens)",
            model.name
        )
    })
}

/// The tokenizer of a real file, kept in `place`.
fn open_codec<'a>(
    model: &ModelSpec,
    place: &'a OnceCell<Tokenizer>,
) -> Result<Option<Box<dyn TextCodec + 'a>>, String> {
    let ModelSource::Gguf { path } = &model.source else { return Ok(None) };
    let Some(opened) = Tokenizer::from_gguf(Path::new(path)).map_err(|e| e.to_string())? else {
        return Ok(None);
    };
    let tokenizer = place.get_or_init(|| opened);
    Ok(Some(Box::new(Codec { tokenizer, text: tokenizer.decode_stream() })))
}

/// A tokenizer with the text that it has written so far.
struct Codec<'a> {
    tokenizer: &'a Tokenizer,
    text: DecodeStream<'a>,
}

impl TextCodec for Codec<'_> {
    fn encode(&mut self, text: &str) -> Vec<u32> {
        let prompt = self.tokenizer.encode(text);
        self.text = self.tokenizer.decode_stream_after(&prompt);
        prompt
    }

    fn next_text(&mut self, token: u32) -> String {
        self.text.push(token)
    }

    fn is_end(&self, token: u32) -> bool {
        self.tokenizer.is_end(token)
    }
}

fn save_trace(path: &Path, timeline: &Timeline, stored: Option<&Stored>) -> anyhow::Result<()> {
    let predictor = stored.map(|s| Predictor::new(&s.calibration)).transpose()?;
    let forward_ms = |pass: Pass| {
        let predicted = predictor.as_ref()?.pass(&timeline.model, pass).ok()?;
        Some(1e3 * predicted.ops.iter().map(|op| op.seconds).sum::<f64>())
    };
    let mut file = AtomicFile::create(path)?;
    let predicted = predictor.is_some().then_some(&forward_ms as _);
    write_trace(timeline, predicted, &mut file)
        .with_context(|| format!("cannot write {}", path.display()))?;
    file.commit()
}

/// A run that was stopped before its prompt was done takes no earlier profile's place.
fn save(path: &Path, report: &ProfileReport, output: &Output) -> anyhow::Result<()> {
    if report.tokens.is_empty() && path.is_file() {
        output.warn(&format!("{} is left as it was: nothing was measured", path.display()));
        return Ok(());
    }
    write_atomic(path, render(&Profiled(report.clone()), Format::Json)?.as_bytes())?;
    output.note(&format!("profile: {}", path.display()));
    Ok(())
}
