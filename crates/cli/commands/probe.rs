//! `probe`: what this machine is and achieves, as a device file.

use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use foretoken_devices::{catalogue, write_toml};
use foretoken_probe::{Description, MeasurePlan, describe, detect_here, measure};
use foretoken_runner::{available_memory, rfc3339_utc, tool_info};
use foretoken_spec::{ProbeReport, SCHEMA_VERSION};

use crate::Outcome;
use crate::args::ProbeArgs;
use crate::files::{check_writable, make_folder, write_atomic};
use crate::output::{Hinted, Output};
use crate::progress::Progress;

/// Stages that a measurement announces.
const STAGES: u64 = 4;
/// First lines of a device file.
const HEADER: &str = "# Written by `foretoken probe`. Correct what you know better; `foretoken \
                      devices --show FILE` checks it.\n";
/// The buffers take at most this share of free memory.
const SHARE_OF_MEMORY: u64 = 4;

/// Refuses names that no other command would read, and files that would be lost.
fn require_place(out: &Path, force: bool) -> anyhow::Result<()> {
    if !out.extension().is_some_and(|end| end.eq_ignore_ascii_case("toml")) && !out.is_dir() {
        let message = format!("{}: a device file is TOML", out.display());
        return Err(Hinted::new(message, "give a name that ends in .toml").into());
    }
    if !force && fs::metadata(out).is_ok_and(|file| file.is_file() && file.len() > 0) {
        let message = format!("{} exists already", out.display());
        return Err(Hinted::new(message, "give another name, or --force to replace it").into());
    }
    Ok(())
}

/// Detects, measures, describes, writes.
pub fn run(args: &ProbeArgs, output: &Output) -> anyhow::Result<Outcome> {
    if let Some(out) = &args.out {
        require_place(out, args.force)?;
        make_folder(out, output)?;
        check_writable(out)?;
    }
    let mut machine = detect_here();
    let mut plan = MeasurePlan::usual(&machine);
    if let Some(threads) = args.threads {
        plan.threads = threads;
    }
    if let Some(available) = available_memory() {
        plan.memory_bytes = plan.memory_bytes.min(available / SHARE_OF_MEMORY);
    }
    plan.storage = (!args.no_storage).then(|| args.storage.clone());
    let progress = Progress::steps(output, STAGES);
    let mut begun = 0;
    let (probed, mut warnings) = measure(&machine, &plan, |stage| {
        progress.set(begun);
        progress.message(stage.to_string());
        begun += 1;
    });
    progress.finish();
    let Description { device, catalogue, warnings: more } =
        describe(&mut machine, probed, catalogue());
    warnings.extend(more);
    for warning in &warnings {
        output.warn(warning);
    }
    let file = args.out.as_deref();
    if let Some(path) = file {
        write_atomic(path, format!("{HEADER}{}", write_toml(&device)?).as_bytes())?;
    }
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    output.print(&ProbeReport {
        schema_version: SCHEMA_VERSION,
        tool: tool_info(env!("CARGO_PKG_VERSION")),
        time: rfc3339_utc(seconds),
        file: file.map(|path| path.display().to_string()),
        machine,
        device,
        catalogue,
        warnings,
    })?;
    if file.is_none() {
        output.note("`foretoken probe --out device.toml` writes a device file");
    }
    Ok(Outcome::Good)
}
