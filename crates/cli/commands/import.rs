//! `import`: other people's measurements become training and validation data.

use std::fs;
use std::path::Path;

use anyhow::Context;
use foretoken_import::{
    Origin, Read, Rules, Speeds, Summary, decode, known_backend, read_backend_ops,
    read_llama_bench, read_speeds, speeds_of, to_csv, to_jsonl,
};
use foretoken_spec::{ImportReport, SpeedRow};
use serde::Serialize;

use crate::Outcome;
use crate::args::{DeviceKindArg, ImportArg, ImportArgs};
use crate::files::{make_folder, read_input, read_measurements, write_atomic};
use crate::output::{Hinted, Output};

/// Reads the files, writes what was understood, and says what was not.
pub fn run(args: &ImportArgs, output: &Output) -> anyhow::Result<Outcome> {
    check_out(args)?;
    let origin = origin(args)?;
    let report = match args.what {
        ImportArg::TestBackendOps => kernels(args, &origin, output)?,
        _ => speeds(args, &origin, output)?,
    };
    output.print(&report)?;
    Ok(Outcome::Good)
}

/// Refuses what would fail or destroy after the work.
fn check_out(args: &ImportArgs) -> anyhow::Result<()> {
    let Some(out) = &args.out else { return Ok(()) };
    if args.what == ImportArg::TestBackendOps && is_csv(out) {
        let message = format!("{}: kernels are written as JSON Lines", out.display());
        return Err(Hinted::new(message, "give a name that ends in .jsonl").into());
    }
    let holds_something = fs::metadata(out).is_ok_and(|file| file.is_file() && file.len() > 0);
    if holds_something && !args.force {
        let message = format!("{} exists already", out.display());
        return Err(Hinted::new(message, "give another name, or --force to replace it").into());
    }
    Ok(())
}

fn is_csv(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("csv"))
}

fn origin(args: &ImportArgs) -> anyhow::Result<Origin> {
    let kind = args.device_kind.map(|kind| match kind {
        DeviceKindArg::Cpu => "cpu",
        DeviceKindArg::Gpu => "gpu",
        DeviceKindArg::Igpu => "igpu",
        DeviceKindArg::Soc => "soc",
    });
    let backend = args.backend.as_deref().map(|told| {
        known_backend(told).map(str::to_owned).ok_or_else(|| {
            let hint = "known: cpu, cuda, metal, rocm, vulkan, sycl, opencl, npu, musa, \
                        openvino, webgpu, rpc";
            Hinted::new(format!("unknown backend `{told}`"), hint)
        })
    });
    Ok(Origin {
        device_id: args.device_id.clone(),
        device_kind: kind.map(str::to_owned),
        runtime: args.runtime.clone(),
        backend: backend.transpose()?,
        model: args.model.clone(),
        source_url: args.source_url.clone(),
        source_date: args.source_date.clone(),
    })
}

/// Rows of speeds, of llama-bench or already in the store's form.
fn speeds(args: &ImportArgs, origin: &Origin, output: &Output) -> anyhow::Result<ImportReport> {
    let rules = args.rules.as_deref().map(read_rules).transpose()?;
    let mut read = Read::default();
    for file in &args.files {
        let name = file.display().to_string();
        let speeds = match args.what {
            ImportArg::Csv => of_store(file, origin)?,
            ImportArg::Measurements => of_measurements(file, &mut read)?,
            _ => of_llama_bench(file, origin)?,
        };
        if speeds.rows.is_empty() && speeds.problems.is_empty() {
            read.warn(format!("{name}: nothing to import was found in it"));
        }
        read.add_speeds(&name, speeds);
    }
    read.drop_repeated();
    refuse_nothing(&read, args)?;
    if let Some(rules) = rules {
        let met = rules.apply(&mut read.rows);
        for (rule, _) in rules.rules.iter().zip(met).filter(|(r, n)| *n == 0 && !r.may_meet_none) {
            read.warn(format!("rule `{}` meets no row", rule.id));
        }
    }
    let write = |rows: &[SpeedRow], out: &Path| {
        if is_csv(out) { to_csv(rows) } else { to_jsonl(rows) }
    };
    let written = args.out.as_deref().map(|out| write(&read.rows, out)).transpose()?;
    finish(read, written, args, output)
}

fn of_store(file: &Path, origin: &Origin) -> anyhow::Result<Speeds> {
    let name = file.display().to_string();
    let speeds = read_speeds(&text_of(file)?, origin).with_context(|| name.clone())?;
    Ok(speeds.ok_or_else(|| no_store(&name))?)
}

fn of_llama_bench(file: &Path, origin: &Origin) -> anyhow::Result<Speeds> {
    let text = text_of(file)?;
    if let Ok(Some(_)) = read_speeds(&text, origin) {
        let message = format!("{} holds speeds, not what llama-bench prints", file.display());
        return Err(Hinted::new(message, "read it with `foretoken import csv`").into());
    }
    Ok(read_llama_bench(&text, origin))
}

/// Our own measurements, which are whole or refused.
fn of_measurements(file: &Path, read: &mut Read<SpeedRow>) -> anyhow::Result<Speeds> {
    let dataset = read_measurements(file)?;
    dataset.warnings.into_iter().for_each(|warning| read.warn(warning));
    let rows = dataset.measurements.iter().flat_map(speeds_of).map(|row| (0, row)).collect();
    Ok(Speeds { rows, formats: vec!["measurements".to_owned()], ..Speeds::default() })
}

/// Rows of single kernels.
fn kernels(args: &ImportArgs, origin: &Origin, output: &Output) -> anyhow::Result<ImportReport> {
    if args.rules.is_some() {
        let message = "--rules are about speeds, and test-backend-ops has kernels";
        return Err(Hinted::new(message, "leave --rules out").into());
    }
    let mut read = Read::default();
    for file in &args.files {
        let name = file.display().to_string();
        let anchors = read_backend_ops(&text_of(file)?, origin);
        if anchors.rows.is_empty() && anchors.problems.is_empty() && anchors.warnings.is_empty() {
            read.warn(format!("{name}: nothing to import was found in it"));
        }
        read.add_anchors(&name, anchors);
    }
    read.drop_repeated();
    refuse_nothing(&read, args)?;
    let written = args.out.as_ref().map(|_| to_jsonl(&read.rows)).transpose()?;
    finish(read, written, args, output)
}

/// Writes the file, and makes the answer.
fn finish<T: Summary + Serialize>(
    read: Read<T>,
    written: Option<String>,
    args: &ImportArgs,
    output: &Output,
) -> anyhow::Result<ImportReport> {
    if let (Some(out), Some(text)) = (&args.out, written) {
        make_folder(out, output)?;
        write_atomic(out, text.as_bytes())?;
    }
    Ok(read.report(args.out.as_ref().map(|out| out.display().to_string())))
}

fn text_of(path: &Path) -> anyhow::Result<String> {
    decode(&read_input(path)?).with_context(|| path.display().to_string())
}

fn read_rules(path: &Path) -> anyhow::Result<Rules> {
    Rules::parse(&text_of(path)?).with_context(|| path.display().to_string())
}

fn no_store(name: &str) -> Hinted {
    let message = format!("{name} is neither a CSV of speeds nor JSON Lines of ours");
    let hint = "a CSV needs the columns of docs/importing.md; what llama-bench printed is read \
                with `foretoken import llama-bench`";
    Hinted::new(message, hint)
}

/// An import of nothing is an error that names the first problem.
fn refuse_nothing<T>(read: &Read<T>, args: &ImportArgs) -> anyhow::Result<()> {
    if !read.rows.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = args.files.iter().map(|file| file.display().to_string()).collect();
    let names = names.join(", ");
    let message = match read.problems() {
        [] => format!("nothing could be read from {names}"),
        [first, rest @ ..] => format!(
            "nothing could be read from {names}: {}:{}: {}{}",
            first.file,
            first.line,
            first.reason,
            if rest.is_empty() { String::new() } else { format!(", and {} more", rest.len()) }
        ),
    };
    let hint = match args.what {
        ImportArg::LlamaBench => {
            "give what `llama-bench -o jsonl` printed; any of its formats will do"
        }
        ImportArg::TestBackendOps => "give what `test-backend-ops perf --output sql` printed",
        ImportArg::Csv => "docs/importing.md lists the columns",
        ImportArg::Measurements => "give a file that `foretoken measure` or `calibrate` wrote",
    };
    Err(Hinted::new(message, hint).into())
}
