//! The command line: what can be asked, in clap's words. Nothing is resolved here.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use foretoken_spec::{DeviceBackend, Engine, HoldOut, QuantScheme};

use crate::parse;

/// Measures how fast quantized language models run on a device, and predicts those it has not run.
#[derive(Debug, Parser)]
#[command(name = "foretoken", version, propagate_version = true, after_help = EXAMPLES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// How the answer is printed.
    #[arg(long, global = true, value_enum, default_value_t, help_heading = "Output")]
    pub format: FormatArg,
    /// No progress and no notes on standard error.
    #[arg(long, short, global = true, help_heading = "Output")]
    pub quiet: bool,
}

const EXAMPLES: &str = "\
Examples:
  foretoken calibrate                        measure this machine, fit, prove it on an unseen model
  foretoken predict llama-3.2-1b             how fast, in how much memory, before downloading it
  foretoken measure model.gguf --prompt 128  the honest benchmark of a file
  foretoken profile tinyllama-1.1b           where its time goes, by phase and kernel
  foretoken validate                         error on held-out models, beside naive baselines

MODEL is a .gguf file, a Hugging Face config.json, a preset of `foretoken models`,
or hf:org/repo[/file.gguf] on the hub.
Exit codes: 0 good, 1 a threshold asked for was missed, 2 an error.";

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Measure this device with small synthetic models, fit the cost model, and prove it.
    Calibrate(CalibrateArgs),
    /// Predict time and memory of models that were not run.
    Predict(PredictArgs),
    /// Report the error on held-out groups of measurements, beside naive baselines.
    Validate(ValidateArgs),
    /// Run models and time them.
    Measure(MeasureArgs),
    /// Show where the time of one real run goes, by phase and kernel.
    Profile(ProfileArgs),
    /// Read other people's measurements: llama-bench, test-backend-ops, CSV.
    Import(ImportArgs),
    /// Show a model's tensors, bytes, and FLOP and traffic of each operation.
    Inspect(InspectArgs),
    /// Write a GGUF file of a model's true shapes with synthetic weights.
    Synth(SynthArgs),
    /// List the presets of the catalogue.
    Models(ModelsArgs),
    /// List devices and what is known of them.
    Devices(DevicesArgs),
    /// Measure what this machine achieves in seconds, and write a device file.
    Probe(ProbeArgs),
    /// Fit the model of all devices, which speaks about devices that nobody calibrated.
    FitDevices(FitDevicesArgs),
    /// Write the JSON Schemas of all outputs.
    #[command(hide = true)]
    Schema(SchemaArgs),
}

/// `--format`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum FormatArg {
    /// For people.
    #[default]
    Table,
    /// For programs; see docs/schema.
    Json,
    /// For spreadsheets.
    Csv,
    /// For issues and READMEs.
    Markdown,
}

/// `--allocator`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum AllocatorArg {
    /// Freed memory is kept for the next pass (glibc).
    Kept,
    /// The system's default.
    System,
}

/// `--flash-attn`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OnOff {
    /// Yes.
    On,
    /// No.
    Off,
}

/// `--hold-out`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum HoldOutArg {
    /// Whole models, in all their quantizations.
    Model,
    /// Whole families.
    Family,
    /// Whole quantizations.
    Quant,
    /// Whole prompt lengths.
    Length,
    /// Whole depths.
    Depth,
    /// All models at once: only a calibration's mini-models are fitted.
    AllModels,
    /// The largest quarter of the models, with the mini-models of their width and more.
    Frontier,
    /// Whole devices, from public measurements: what is predicted of a device from its data sheet
    /// and a few of its rows.
    Device,
}

impl From<HoldOutArg> for HoldOut {
    fn from(hold_out: HoldOutArg) -> Self {
        match hold_out {
            HoldOutArg::Model => Self::Model,
            HoldOutArg::Family => Self::Family,
            HoldOutArg::Quant => Self::Quant,
            HoldOutArg::Length => Self::Length,
            HoldOutArg::Depth => Self::Depth,
            HoldOutArg::AllModels => Self::AllModels,
            HoldOutArg::Frontier => Self::Frontier,
            HoldOutArg::Device => Self::Device,
        }
    }
}

/// Where and with what something runs.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Device to run on: cpu, cuda or cuda:N, metal; `foretoken devices --here` lists them.
    #[arg(long, value_name = "D", default_value = "cpu")]
    pub device: String,
    /// Threads of the engine [default: physical cores].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: Option<u32>,
}

/// Which engine runs the models.
#[derive(Debug, Args)]
pub struct EngineArgs {
    /// Engine: candle, or llama.cpp through its llama-bench.
    #[arg(long, value_name = "E", value_enum, default_value = "candle")]
    pub engine: EngineArg,
    /// Your llama.cpp's llama-bench, with whatever backend it was built for [default: the one in PATH].
    #[arg(long, value_name = "PATH")]
    pub llama_bench: Option<PathBuf>,
}

/// `--engine`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum EngineArg {
    /// In this program.
    Candle,
    /// Through llama-bench.
    #[value(name = "llama.cpp")]
    LlamaCpp,
}

impl EngineArg {
    /// The engine that is asked for.
    pub fn known(self) -> Engine {
        match self {
            Self::Candle => Engine::Candle,
            Self::LlamaCpp => Engine::LlamaCpp,
        }
    }
}

/// `--meter`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum MeterArg {
    /// The best that there is: none is no error.
    Auto,
    /// No energy.
    None,
    /// Counters of the processor, by Linux.
    Rapl,
    /// Power monitors of a Jetson board.
    Ina3221,
    /// An NVIDIA GPU.
    Nvml,
    /// macOS; needs root.
    Powermetrics,
    /// A battery that discharges: the whole machine.
    Battery,
}

/// What energy is read from.
#[derive(Debug, Args)]
pub struct MeterArgs {
    /// Meter of energy.
    #[arg(long, value_name = "M", value_enum, default_value = "auto")]
    pub meter: MeterArg,
    /// Folder with a recorded `/sys` to look for meters in, for tests.
    #[arg(long, value_name = "DIR", hide = true)]
    pub meter_root: Option<PathBuf>,
}

/// `calibrate`
#[derive(Debug, Args)]
#[command(
    allow_negative_numbers = true,
    after_help = "\
Examples:
  foretoken calibrate
  foretoken calibrate --budget 5m --name workstation
  foretoken calibrate --report calibration.html
  foretoken calibrate --resume               go on after Ctrl-C"
)]
pub struct CalibrateArgs {
    /// Where it runs.
    #[command(flatten)]
    pub run: RunArgs,
    /// What energy is read from.
    #[command(flatten)]
    pub meter: MeterArgs,
    /// Engine to calibrate, and the program that runs it.
    #[command(flatten)]
    pub engine: EngineArgs,
    /// Time to spend on measuring; the proof comes on top.
    #[arg(long, value_name = "TIME", default_value = "90s", value_parser = parse::duration)]
    pub budget: Duration,
    /// Quantizations to cover, separated by commas [default: all common ones].
    #[arg(long, value_name = "Q,…", value_delimiter = ',')]
    pub quant: Vec<QuantScheme>,
    /// Name of the calibration [default: device, engine and threads].
    #[arg(long, value_name = "ID")]
    pub name: Option<String>,
    /// Calibration file to write [default: ID.json in the calibration folder].
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Write a report with plots: one HTML file for a browser, with all it needs inside.
    #[arg(long, value_name = "FILE.html")]
    pub report: Option<PathBuf>,
    /// Go on with the measurements of an interrupted run.
    #[arg(long)]
    pub resume: bool,
    /// Fit these measurements instead of measuring; no proof.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["resume", "explain", "quant", "threads"])]
    pub from: Option<PathBuf>,
    /// Show what each load of the design bought, and why it was taken.
    #[arg(long)]
    pub explain: bool,
}

/// `predict`
#[derive(Debug, Args)]
#[command(
    allow_negative_numbers = true,
    after_help = "\
Examples:
  foretoken predict tinyllama-1.1b
  foretoken predict llama-3.2-1b smollm2-1.7b --quant Q4_K_M,Q8_0 --prompt 1024
  foretoken predict model.gguf --explain
  foretoken predict llama-3.2-3b --device-spec raspberry-pi-5-8gb
  foretoken predict llama-3.1-8b --format json | jq .ttft_ms"
)]
pub struct PredictArgs {
    /// Models: .gguf files, config.json files, presets, hf:org/repo[/file].
    #[arg(required = true, value_name = "MODEL")]
    pub models: Vec<String>,
    /// Calibration to use [default: the newest of this machine].
    #[arg(long, value_name = "ID|FILE", conflicts_with_all = ["device_spec", "observe"])]
    pub calibration: Option<String>,
    /// Devices that nothing was run on: of `foretoken devices`, or data sheets of your own in TOML,
    /// JSON or CSV (FILE#ID where it holds several), separated by commas.
    #[arg(long, value_name = "ID|FILE,…", value_delimiter = ',')]
    pub device_spec: Vec<String>,
    /// Speeds that were measured on the device, as `foretoken import` writes them or llama-bench
    /// prints them: one to five rows narrow the intervals.
    #[arg(long, value_name = "FILE", requires = "device_spec")]
    pub observe: Vec<PathBuf>,
    /// Engine that would run the model [default: candle; with --device-spec llama.cpp].
    #[arg(long, value_name = "E")]
    pub engine: Option<String>,
    /// When the engine was built, with --device-spec [default: as usual among the measured rows of
    /// engine and backend].
    #[arg(long, value_name = "YYYY[-MM]", requires = "device_spec", value_parser = parse::month)]
    pub engine_date: Option<f64>,
    /// Flash attention, with --device-spec [default: between the two].
    #[arg(long, value_name = "on|off", requires = "device_spec", value_enum)]
    pub flash_attn: Option<OnOff>,
    /// Backend that would run the model [default: cpu; with --device-spec the device's first].
    #[arg(long, value_name = "B", value_parser = parse::device_backend())]
    pub backend: Option<DeviceBackend>,
    /// Quantizations, separated by commas [default: Q4_K_M, of gpt-oss MXFP4; a file
    /// brings its own].
    #[arg(long, value_name = "Q,…", value_delimiter = ',')]
    pub quant: Vec<QuantScheme>,
    /// Tokens of the prompt; 0 asks for decode alone.
    #[arg(long, value_name = "N", default_value_t = 512)]
    pub prompt: u32,
    /// Tokens to generate; 0 asks for prefill alone.
    #[arg(long = "gen", value_name = "N", default_value_t = 128)]
    pub generate: u32,
    /// Tokens in the cache before the prompt.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub depth: u32,
    /// Sequences at once. candle runs one: with more, FLOP, bytes and memory are exact, times are
    /// those as if its kernels were given all of them. One with --device-spec.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub batch: u32,
    /// Type of the KV cache [default: the engine's own]. candle has f32 alone; of other engines: f16,
    /// f32, bf16, q8_0, q4_0, q4_1, q5_0, q5_1, iq4_nl.
    #[arg(long, value_name = "T")]
    pub kv_type: Option<String>,
    /// Threads of the engine [default: the calibration's, else physical cores].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: Option<u32>,
    /// List every operation.
    #[arg(long)]
    pub explain: bool,
}

/// `validate`
#[derive(Debug, Args)]
#[command(
    allow_negative_numbers = true,
    after_help = "\
Examples:
  foretoken validate
  foretoken validate --data datasets/mine.jsonl --hold-out model,quant
  foretoken validate --report report.html
  foretoken validate --hold-out device       every device from its data sheet and 0, 1, 3, 5 rows
  foretoken validate --fail-above 10%        exit code 1 where the median error is above"
)]
pub struct ValidateArgs {
    /// Measurement files [default: all of the datasets folder].
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub data: Vec<PathBuf>,
    /// Data sheets of devices that the catalogue lacks, for `--hold-out device`: CSV, TOML or JSON.
    #[arg(long, value_name = "FILE")]
    pub devices: Option<PathBuf>,
    /// What is held out, separated by commas [default: model,quant].
    #[arg(long, value_name = "WHAT", value_enum, value_delimiter = ',')]
    pub hold_out: Vec<HoldOutArg>,
    /// Compare forms of the cost model on held-out models instead, the choice nested.
    #[arg(long, conflicts_with_all = ["hold_out", "fail_above", "report"])]
    pub compare_forms: bool,
    /// Fit growing parts of each calibration instead, and predict the other models by each: what
    /// longer measuring buys.
    #[arg(long, conflicts_with_all = ["hold_out", "fail_above", "report", "compare_forms"])]
    pub learning_curve: bool,
    /// Write a report with plots: one HTML file for a browser, with all it needs inside.
    #[arg(long, value_name = "FILE.html")]
    pub report: Option<PathBuf>,
    /// Fail where the median absolute error of a group is above this share.
    #[arg(long, value_name = "P", value_parser = parse::fraction)]
    pub fail_above: Option<f64>,
}

/// `measure`
#[derive(Debug, Args)]
#[command(
    allow_negative_numbers = true,
    after_help = "\
Examples:
  foretoken measure tinyllama-1.1b --quant Q4_K_M,Q8_0 --paired
  foretoken measure model.gguf --prompt 32,128,512 --depth 0,1024 --gen 32
  foretoken measure smollm2-135m --out datasets/mine.jsonl"
)]
pub struct MeasureArgs {
    /// Models: .gguf files, hf:org/repo[/file]; config.json files and presets, with synthetic weights.
    #[arg(required = true, value_name = "MODEL")]
    pub models: Vec<String>,
    /// Where it runs.
    #[command(flatten)]
    pub run: RunArgs,
    /// Engine to measure, and the program that runs it.
    #[command(flatten)]
    pub engine: EngineArgs,
    /// What energy is read from.
    #[command(flatten)]
    pub meter: MeterArgs,
    /// Quantizations, separated by commas [default: Q4_K_M, of gpt-oss MXFP4; a file
    /// brings its own].
    #[arg(long, value_name = "Q,…", value_delimiter = ',')]
    pub quant: Vec<QuantScheme>,
    /// Tokens of the prompt, separated by commas; 0 asks for decode alone.
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "512")]
    pub prompt: Vec<u32>,
    /// Tokens to generate; 0 asks for prefill alone.
    #[arg(long = "gen", value_name = "N", default_value_t = 128)]
    pub generate: u32,
    /// Tokens in the cache before the prompt, separated by commas.
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "0")]
    pub depth: Vec<u32>,
    /// Fresh loads of each model and quantization.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub repeat: u32,
    /// Interleave the loads of all models in random order, so that all see the same machine.
    #[arg(long)]
    pub paired: bool,
    /// With --paired, also measure the mini-models of a calibration between the others, for
    /// `validate` to fit.
    #[arg(long, requires = "paired")]
    pub minis: bool,
    /// Take the most likely token instead of sampling at temperature 1.
    #[arg(long)]
    pub greedy: bool,
    /// What the allocator does with freed memory: kept for the next pass, as calibrations assume,
    /// or the system's default, where page faults may slow long prompts by half.
    #[arg(long, value_name = "A", value_enum, default_value = "kept")]
    pub allocator: AllocatorArg,
    /// Append the raw measurements to this file, one JSON line per load and workload.
    #[arg(long, value_name = "FILE.jsonl")]
    pub out: Option<PathBuf>,
}

/// `profile`
#[derive(Debug, Args)]
#[command(
    allow_negative_numbers = true,
    after_help = "\
Examples:
  foretoken profile tinyllama-1.1b --quant Q4_K_M
  foretoken profile model.gguf --prompt-text 'Why is the sky blue?' --gen 64
  foretoken profile smollm2-135m --trace run.json      open it in https://ui.perfetto.dev
  foretoken profile model.gguf --out old.json          then, after a change:
  foretoken profile model.gguf --against old.json --fail-above 5%"
)]
pub struct ProfileArgs {
    /// A .gguf file or hf:org/repo[/file]; a config.json file or a preset, with synthetic weights.
    #[arg(value_name = "MODEL")]
    pub model: String,
    /// Where it runs.
    #[command(flatten)]
    pub run: RunArgs,
    /// Quantization [default: Q4_K_M, of gpt-oss MXFP4; a file brings its own].
    #[arg(long, value_name = "Q")]
    pub quant: Option<QuantScheme>,
    /// Tokens of the prompt [default: 512].
    #[arg(long, value_name = "N", conflicts_with_all = ["prompt_text", "prompt_file"])]
    pub prompt: Option<u32>,
    /// A real prompt, for a .gguf file with a tokenizer; the answer is printed.
    #[arg(long, value_name = "TEXT", conflicts_with = "prompt_file")]
    pub prompt_text: Option<String>,
    /// A real prompt from a text file.
    #[arg(long, value_name = "FILE")]
    pub prompt_file: Option<PathBuf>,
    /// Tokens to generate, the first included.
    #[arg(long = "gen", value_name = "N", default_value_t = 128)]
    pub generate: u32,
    /// Take the most likely token instead of sampling at temperature 1.
    #[arg(long)]
    pub greedy: bool,
    /// Share of the run's time that the probes may cost; above it they skip steps.
    #[arg(long, value_name = "P", value_parser = parse::positive_fraction, default_value = "0.5%")]
    pub overhead_budget: f64,
    /// Write the run as a Chrome trace, for Perfetto or chrome://tracing.
    #[arg(long, value_name = "FILE.json")]
    pub trace: Option<PathBuf>,
    /// Calibration for the predicted track of the trace [default: the newest of this machine].
    #[arg(long, value_name = "ID|FILE", requires = "trace")]
    pub calibration: Option<String>,
    /// Write the profile as JSON, for --against.
    #[arg(long, value_name = "FILE.json")]
    pub out: Option<PathBuf>,
    /// Compare with an older profile.
    #[arg(long, value_name = "OLD.json")]
    pub against: Option<PathBuf>,
    /// Exit with code 1 where a phase or kernel is slower than before by more than this share,
    /// beyond noise.
    #[arg(long, value_name = "P", value_parser = parse::fraction, requires = "against")]
    pub fail_above: Option<f64>,
}

/// What `import` reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ImportArg {
    /// llama-bench: JSON, JSON Lines, CSV, SQL or Markdown, of any version and fork.
    LlamaBench,
    /// `test-backend-ops perf --output sql`: single kernels.
    TestBackendOps,
    /// Speeds as CSV with the columns of the public store, or as JSON Lines of ours.
    Csv,
    /// Measurements of `calibrate` and `measure`, one row per load and phase.
    Measurements,
}

/// `--device-kind`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DeviceKindArg {
    /// A processor with its own memory.
    Cpu,
    /// A graphics card.
    Gpu,
    /// Graphics in a processor.
    Igpu,
    /// A system on a chip: phones, boards, Apple.
    Soc,
}

/// `import`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  foretoken import llama-bench run.json --device-id my-laptop --out my-laptop.jsonl
  llama-bench -m model.gguf -o jsonl | foretoken import llama-bench - --device-id here --out a.jsonl
  foretoken import llama-bench pasted.md --device-id rtx-4090        only says what it would read
  foretoken import test-backend-ops perf.sql --device-id m2 --out kernels.jsonl
  foretoken import csv others.csv --out others.jsonl
  foretoken import measurements datasets/mine.jsonl --out speeds.csv

What cannot be understood is told with file and line, and left out.")]
pub struct ImportArgs {
    /// What wrote the files.
    #[arg(value_name = "WHAT", value_enum)]
    pub what: ImportArg,
    /// Files; - is standard input. The format is told by the content.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Device that was measured: an id of your own, or of datasets/public/devices.csv.
    #[arg(long, value_name = "ID", value_parser = parse::name, required_if_eq_any([
        ("what", "llama-bench"), ("what", "test-backend-ops"),
    ]))]
    pub device_id: Option<String>,
    /// Kind of the device.
    #[arg(long, value_name = "KIND", value_enum)]
    pub device_kind: Option<DeviceKindArg>,
    /// Engine [default: told by the fields: llama.cpp, ik_llama.cpp].
    #[arg(long, value_name = "NAME", value_parser = parse::name)]
    pub runtime: Option<String>,
    /// Backend that was used, where the file names several or none.
    #[arg(long, value_name = "B", value_parser = parse::name)]
    pub backend: Option<String>,
    /// Model id, where all rows are of one model [default: the name of the file that was run].
    #[arg(long, value_name = "ID", value_parser = parse::name)]
    pub model: Option<String>,
    /// Where the numbers were published.
    #[arg(long, value_name = "URL", value_parser = parse::name)]
    pub source_url: Option<String>,
    /// When they were measured [default: the day that the rows tell].
    #[arg(long, value_name = "DATE", value_parser = parse::name)]
    pub source_date: Option<String>,
    /// Rules that say which rows are not used and why, as datasets/public/rules.toml.
    #[arg(long, value_name = "FILE.toml")]
    pub rules: Option<PathBuf>,
    /// File to write: JSON Lines, or CSV where its name ends so; without it nothing is written.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Replace the file where it exists.
    #[arg(long)]
    pub force: bool,
}

/// `inspect`
#[derive(Debug, Args)]
#[command(
    allow_negative_numbers = true,
    after_help = "\
Examples:
  foretoken inspect tinyllama-1.1b
  foretoken inspect model.gguf --prompt 128 --depth 1024 --format json"
)]
pub struct InspectArgs {
    /// A .gguf file, a config.json file, a preset, or hf:org/repo[/file].
    #[arg(value_name = "MODEL")]
    pub model: String,
    /// Quantization [default: Q4_K_M, of gpt-oss MXFP4; a file brings its own].
    #[arg(long, value_name = "Q")]
    pub quant: Option<QuantScheme>,
    /// Tokens of the prompt [default: 512, or the model's context where that is shorter].
    #[arg(long, value_name = "N")]
    pub prompt: Option<u32>,
    /// Tokens in the cache before the prompt.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub depth: u32,
}

/// `synth`
#[derive(Debug, Args)]
#[command(
    allow_negative_numbers = true,
    after_help = "\
Examples:
  foretoken synth tinyllama-1.1b --quant Q4_K_M --out tiny.gguf
  foretoken synth path/to/config.json --quant Q8_0 --out model.gguf
  foretoken synth hf:org/repo --quant Q4_0 --out copy.gguf       reads its header or config.json"
)]
pub struct SynthArgs {
    /// A config.json file, a preset, or a .gguf file or hf:org/repo[/file] whose shapes are copied.
    #[arg(value_name = "MODEL")]
    pub model: String,
    /// Quantization.
    #[arg(long, value_name = "Q")]
    pub quant: QuantScheme,
    /// File to write; a missing folder is made.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Replace the file where it exists.
    #[arg(long)]
    pub force: bool,
}

/// `models`
#[derive(Debug, Args)]
#[command(
    allow_negative_numbers = true,
    after_help = "\
Examples:
  foretoken models
  foretoken models llama --format json"
)]
pub struct ModelsArgs {
    /// Show only ids and families that contain this.
    #[arg(value_name = "TEXT")]
    pub filter: Option<String>,
}

/// `devices`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  foretoken devices
  foretoken devices jetson
  foretoken devices rtx 40 --format json
  foretoken devices --kind phone
  foretoken devices --show raspberry-pi-5-8gb  every figure, its source and confidence
  foretoken devices --show my-board.toml       check a file of your own, and what follows from it
  foretoken devices --here                     what this build and this machine can run on")]
pub struct DevicesArgs {
    /// Show only devices whose ids, names, cores, memory or ISA contain all of these.
    #[arg(value_name = "TEXT")]
    pub filter: Vec<String>,
    /// The same, by name.
    #[arg(long = "filter", value_name = "TEXT")]
    pub filter_by_name: Vec<String>,
    /// Show only this kind (cpu, gpu, igpu, soc) or class (board, phone, laptop, server, …).
    #[arg(long, value_name = "K", value_parser = parse::kind_or_class())]
    pub kind: Option<parse::KindOrClass>,
    /// Show only what this backend runs on.
    #[arg(long, value_name = "B", value_parser = parse::device_backend())]
    pub backend: Option<DeviceBackend>,
    /// Show one device, or the devices of a .toml, .json or .csv file, in full.
    #[arg(long, value_name = "ID|FILE", conflicts_with_all = ["filter", "filter_by_name", "kind", "backend"])]
    pub show: Option<String>,
    /// List what this build and this machine can run on instead, and why not on the rest.
    #[arg(long, conflicts_with_all = ["filter", "filter_by_name", "kind", "backend", "show"])]
    pub here: bool,
}

/// `probe`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  foretoken probe
  foretoken probe --out my-laptop.toml
  foretoken probe --storage /mnt/models       the drive where models lie
  foretoken devices --show my-laptop.toml     what was written, beside where it is from")]
pub struct ProbeArgs {
    /// Device file to write, TOML.
    #[arg(long, value_name = "FILE.toml")]
    pub out: Option<PathBuf>,
    /// Replace the file if it exists.
    #[arg(long, requires = "out")]
    pub force: bool,
    /// Most threads [default: all processors].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: Option<u32>,
    /// Folder in which a file of at most 256 MiB is written, read and removed.
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub storage: PathBuf,
    /// Leave the storage alone.
    #[arg(long, conflicts_with = "storage")]
    pub no_storage: bool,
}

/// `schema`
#[derive(Debug, Args)]
pub struct SchemaArgs {
    /// Folder to write into.
    #[arg(long, value_name = "DIR", default_value = "docs/schema")]
    pub out: PathBuf,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}

/// `fit-devices`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  foretoken fit-devices                          from the committed public measurements
  foretoken fit-devices --data mine.jsonl datasets/public/measurements.csv --devices mine.toml
  foretoken validate --hold-out device           how good the model is on devices left out")]
pub struct FitDevicesArgs {
    /// Measured speeds, JSON Lines or CSV [default: datasets/public/measurements.csv].
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub data: Vec<PathBuf>,
    /// Data sheets of devices that the catalogue lacks: CSV, TOML or JSON.
    #[arg(long, value_name = "FILE")]
    pub devices: Option<PathBuf>,
    /// Where the model goes [default: calibration/cross-device.json].
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Replace a model of more devices than these.
    #[arg(long)]
    pub force: bool,
}
