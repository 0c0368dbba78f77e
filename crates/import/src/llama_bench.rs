//! llama-bench's output, in all formats, versions and forks, as [`SpeedRow`]s.
//!
//! Fields are found by name; what a version lacks has the value that this version had built in,
//! what it has beside is kept ([`BenchDetails::other`]).

mod export;
mod placement;

pub use export::{BenchFormat, to_llama_bench};

use foretoken_spec::{BenchDetails, SpeedKey, SpeedPhase, SpeedRow};
use serde_json::Value;

use crate::check::check_row;
use crate::names::{ModelType, model_of_file, quant_of_file};
use crate::record::{Record, whole};
use crate::scan::scan;
use crate::{Origin, Problem, Speeds};

/// Micro-batches up to this many tokens run other kernels than prompts do (matrix–vector products).
const SMALL_BATCH: u32 = 8;

/// Relative deviation of the repetitions above which a row says so.
const NOISY: f64 = 0.2;

/// Fields that only ik_llama.cpp has.
const IK_FIELDS: [&str; 8] = [
    "mla_attn",
    "attn_max_batch",
    "fused_moe",
    "grouped_er",
    "ser",
    "mqkv",
    "muge",
    "no_fused_up_gate",
];

/// Reads all rows of llama-bench in a text: JSON, JSON Lines, CSV, SQL and Markdown, mixed and with
/// log lines around them. `origin` must name the device.
pub fn read_llama_bench(text: &str, origin: &Origin) -> Speeds {
    let found = scan(text);
    let mut speeds = Speeds {
        problems: found.problems,
        formats: found.formats,
        other_lines: found.other_lines,
        ..Speeds::default()
    };
    for record in found.records {
        let line = record.line;
        match speed_row(record, origin) {
            Ok(row) => speeds.rows.push((line, row)),
            Err(reason) => speeds.problems.push(Problem::new(line, reason)),
        }
    }
    speeds.problems.sort_by_key(|problem| problem.line);
    speeds
}

/// One row.
///
/// # Errors
/// Names the field that is missing or wrong.
fn speed_row(mut record: Record, origin: &Origin) -> Result<SpeedRow, String> {
    if record.has("op_name") {
        return Err("a row of test-backend-ops; read it with `import test-backend-ops`".to_owned());
    }
    let runtime = origin.runtime.clone().unwrap_or_else(|| engine(&record).to_owned());
    let device_id = origin.device_id.as_deref().ok_or("no device is named")?;
    let test = test(&mut record)?;
    let placed = placement::place(&mut record, origin, test.phase())?;
    let speed = speed(&mut record, &test)?;
    let details = details(&mut record)?;
    let named = named(&details, origin)?;
    let key = SpeedKey {
        runtime: &runtime,
        device_id,
        backend: &placed.backend,
        model: &named.model,
        quant: &named.quant,
    };
    let mut row = SpeedRow::new(key, test.phase(), speed.0);
    row.stddev = speed.1;
    row.arch = named.arch;
    row.flags = named.flags;
    row.n_prompt = Some(test.n_prompt);
    row.n_gen = Some(test.n_gen);
    row.n_depth = Some(test.n_depth);
    row.source_url.clone_from(&origin.source_url);
    row.device_kind.clone_from(&origin.device_kind);
    row.source_date = origin.source_date.clone().or_else(|| date(&details));
    row.runtime_version = version(&details);
    row.threads = record.whole("n_threads")?;
    row.flash_attn = flash_attn(&mut record)?;
    row.model_bytes = record.whole("model_size")?.filter(|bytes: &u64| *bytes > 0);
    row.model_params = record.whole("model_n_params")?.filter(|params: &u64| *params > 0);
    let gib = record.number("size_gib")?;
    row.model_file_gib = row.model_bytes.map(|b| b as f64 / f64::from(1 << 30)).or(gib);
    let params_b = record.number("params_b")?;
    row.params_b = row.model_params.map(|n| n as f64 / 1e9).or(params_b);
    row.batch = details.n_ubatch.map(|n| format!("ub{n}"));
    row.excluded = test.exclusion().or(placed.excluded);
    row.flags.extend(placed.flags);
    row.flags.extend(weighed(&row, &details));
    row.llama_bench =
        Some(Box::new(BenchDetails { other: record.rest().into_iter().collect(), ..details }));
    check_row(&row)?;
    row.derive();
    Ok(row)
}

fn engine(record: &Record) -> &'static str {
    let is_ik = record.names().any(|name| IK_FIELDS.contains(&name));
    if is_ik { "ik_llama.cpp" } else { "llama.cpp" }
}

/// Lengths of a test.
struct Test {
    n_prompt: u32,
    n_gen: u32,
    n_depth: u32,
}

impl Test {
    fn phase(&self) -> SpeedPhase {
        match (self.n_prompt, self.n_gen) {
            (_, 0) => SpeedPhase::Prefill,
            (0, _) => SpeedPhase::Decode,
            _ => SpeedPhase::Mixed,
        }
    }

    fn exclusion(&self) -> Option<String> {
        (self.phase() == SpeedPhase::Mixed).then(|| {
            let (n_prompt, n_gen) = (self.n_prompt, self.n_gen);
            format!("prompt and generation under one clock (pp{n_prompt}+tg{n_gen})")
        })
    }
}

/// The lengths, from their fields or from a label.
fn test(record: &mut Record) -> Result<Test, String> {
    let label = record.text("test");
    let n_prompt = record.whole("n_prompt")?;
    let n_gen = record.whole("n_gen")?;
    let n_depth = record.whole("n_depth")?.unwrap_or(0);
    let labelled = label.as_deref().map(parse_label).transpose()?;
    match (n_prompt, n_gen, labelled) {
        // Generation behind a prompt that is not timed: the fork has it in the fields of a mixed
        // test, and only the label tells.
        (Some(n_prompt), Some(n_gen), Some(test))
            if test.n_prompt == 0 && test.n_gen == n_gen && test.n_depth == n_prompt =>
        {
            Ok(test)
        }
        (None, None, None) => Err("no `n_prompt`, `n_gen` or `test`".to_owned()),
        (None, None, Some(test)) => Ok(Test { n_depth: test.n_depth.max(n_depth), ..test }),
        (n_prompt, n_gen, _) => {
            let test = Test { n_prompt: n_prompt.unwrap_or(0), n_gen: n_gen.unwrap_or(0), n_depth };
            if test.n_prompt == 0 && test.n_gen == 0 {
                return Err("neither prompt nor generation: `n_prompt` and `n_gen` are 0".into());
            }
            Ok(test)
        }
    }
}

/// `pp512`, `tg128`, `pp 512`, `pp512+tg128`, each with ` @ d4096`; `tg32@pp4096` of the fork.
fn parse_label(label: &str) -> Result<Test, String> {
    let bad = || format!("`test` is `{}`, no test of llama-bench", label.escape_debug());
    let compact: String = label.chars().filter(|c| !c.is_whitespace()).collect();
    let (tests, context) = compact.split_once('@').unwrap_or((&compact, ""));
    let count = |text: &str, word: &str| -> Option<u32> {
        let digits = text.strip_prefix(word)?;
        digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())?
    };
    let mut test = Test { n_prompt: 0, n_gen: 0, n_depth: 0 };
    for part in tests.split('+') {
        match (count(part, "pp"), count(part, "tg")) {
            (Some(n), _) => test.n_prompt = n,
            (_, Some(n)) => test.n_gen = n,
            _ => return Err(bad()),
        }
    }
    if !context.is_empty() {
        let depth = count(context, "d").or_else(|| count(context, "pp"));
        test.n_depth = depth.ok_or_else(bad)?;
    }
    if test.n_prompt == 0 && test.n_gen == 0 { Err(bad()) } else { Ok(test) }
}

/// Mean tokens per second and their deviation.
fn speed(record: &mut Record, test: &Test) -> Result<(f64, Option<f64>), String> {
    let mean = record.number("avg_ts")?;
    let deviation = record.number("stddev_ts")?;
    let tokens = f64::from(test.n_prompt) + f64::from(test.n_gen);
    let mean = match mean {
        Some(mean) => mean,
        None => {
            let times = record.list("samples_ns", whole)?;
            let mean_ns = match times.len() {
                0 => record.number("avg_ns")?,
                n => Some(times.iter().sum::<i128>() as f64 / n as f64),
            };
            // What was taken above belongs into the row.
            if !times.is_empty() {
                let numbers = times.iter().filter_map(|ns| u64::try_from(*ns).ok());
                record.fill("samples_ns", numbers.collect());
            }
            if let (Some(ns), true) = (mean_ns, times.is_empty()) {
                record.fill("avg_ns", crate::record::one_spelling(Value::from(ns)));
            }
            let ns = mean_ns.filter(|ns| *ns > 0.0).ok_or("no `avg_ts` and no time above 0")?;
            1e9 * tokens / ns
        }
    };
    if mean <= 0.0 {
        return Err(format!("`avg_ts` is {mean}, expected a number above 0"));
    }
    Ok((mean, deviation))
}

/// The known fields that a row has no column for.
fn details(record: &mut Record) -> Result<BenchDetails, String> {
    Ok(BenchDetails {
        build_commit: record.text("build_commit"),
        build_number: record.whole("build_number")?,
        cpu_info: record.text("cpu_info"),
        gpu_info: record.text("gpu_info"),
        backends: record.text("backends"),
        model_filename: record.text("model_filename"),
        model_type: record.text("model_type"),
        n_batch: record.whole("n_batch")?,
        n_ubatch: record.whole("n_ubatch")?,
        type_k: record.text("type_k"),
        type_v: record.text("type_v"),
        n_gpu_layers: record.whole("n_gpu_layers")?,
        n_cpu_moe: record.whole("n_cpu_moe")?,
        split_mode: record.text("split_mode"),
        devices: record.text("devices"),
        test_time: record.text("test_time"),
        avg_ns: record.whole("avg_ns")?,
        stddev_ns: record.whole("stddev_ns")?,
        samples_ns: record.list("samples_ns", |v| whole(v).and_then(|n| u64::try_from(n).ok()))?,
        samples_ts: record.list("samples_ts", Value::as_f64)?,
        other: std::collections::BTreeMap::new(),
    })
}

/// What the model is called.
struct Named {
    model: String,
    arch: Option<String>,
    quant: String,
    flags: Vec<String>,
}

/// Names from the type of the model and its file.
fn named(details: &BenchDetails, origin: &Origin) -> Result<Named, String> {
    let kind = details.model_type.as_deref().and_then(ModelType::parse);
    let file = details.model_filename.as_deref();
    let of_file = file.and_then(quant_of_file);
    let mut flags = Vec::new();
    // The type is that of most tensors alone; a dynamic mix says so in its name.
    let mixed = of_file.clone().filter(|quant| quant.starts_with("ud_"));
    let quant = match (mixed, &kind, of_file) {
        (Some(quant), _, _) => quant,
        (None, Some(kind), _) => kind.quant.clone(),
        (None, None, Some(quant)) => {
            flags.push("quant_inferred".to_owned());
            quant
        }
        (None, None, None) => {
            let text = details.model_type.as_deref().unwrap_or_default().escape_debug();
            return Err(format!("`model_type` is `{text}`, which names no quantization"));
        }
    };
    let label = kind.as_ref().and_then(|kind| {
        let size = kind.size.as_ref()?;
        Some(format!("{}-{size}", kind.arch).to_lowercase().replace(' ', "-"))
    });
    // The names of the converter say nothing.
    let file_model = file
        .and_then(model_of_file)
        .filter(|name| label.is_none() || !["ggml-model", "model"].contains(&name.as_str()));
    let model = origin
        .model
        .clone()
        .or(file_model)
        .or(label)
        .ok_or("nothing names the model; say it with --model")?;
    Ok(Named { model, arch: kind.map(|kind| kind.arch), quant, flags })
}

/// `b5163 (4fc4ec554)`, as much as is told.
fn version(details: &BenchDetails) -> Option<String> {
    let commit = details.build_commit.as_deref().filter(|commit| *commit != "unknown");
    match (details.build_number.filter(|number| *number > 0), commit) {
        (Some(number), Some(commit)) => Some(format!("b{number} ({commit})")),
        (Some(number), None) => Some(format!("b{number}")),
        (None, commit) => commit.map(str::to_owned),
    }
}

/// The day of the test.
fn date(details: &BenchDetails) -> Option<String> {
    let time = details.test_time.as_deref()?;
    let day = time.get(..10)?;
    let is_day = day.bytes().enumerate().all(|(at, byte)| match at {
        4 | 7 => byte == b'-',
        _ => byte.is_ascii_digit(),
    });
    is_day.then(|| day.to_owned())
}

/// 2024 and 2025 wrote a truth, 2026 a number; `auto` is −1.
fn flash_attn(record: &mut Record) -> Result<Option<i8>, String> {
    let word = record.text("flash_attn");
    match word.as_deref().map(str::to_lowercase).as_deref() {
        None => Ok(None),
        Some("1" | "on") => Ok(Some(1)),
        Some("0" | "off") => Ok(Some(0)),
        Some("-1" | "auto") => Ok(Some(-1)),
        Some(other) => Err(format!("`flash_attn` is `{}`", other.escape_debug())),
    }
}

/// What a reader should weigh.
fn weighed(row: &SpeedRow, details: &BenchDetails) -> Vec<String> {
    let mut flags = Vec::new();
    let is_small = |n: Option<u32>| n.is_some_and(|n| n <= SMALL_BATCH);
    if row.phase == SpeedPhase::Prefill && (is_small(row.n_prompt) || is_small(details.n_ubatch)) {
        flags.push("small_batch".to_owned());
    }
    let is_quantized = |name: &Option<String>| {
        name.as_deref().is_some_and(|name| !["f16", "bf16", "f32"].contains(&name))
    };
    if is_quantized(&details.type_k) || is_quantized(&details.type_v) {
        flags.push("kv_quantized".to_owned());
    }
    if row.stddev.is_some_and(|deviation| deviation > NOISY * row.tokens_per_second) {
        flags.push("noisy".to_owned());
    }
    flags
}

#[cfg(test)]
mod tests;
