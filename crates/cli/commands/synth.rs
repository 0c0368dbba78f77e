//! `synth`: a GGUF file of true shapes with synthetic weights.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use foretoken_gguf::mix::quantized_spec;
use foretoken_gguf::synth::{SyntheticGguf, write_synthetic};
use foretoken_report::units;
use foretoken_spec::{ModelSource, ModelSpec, QuantScheme};

use crate::Outcome;
use crate::args::SynthArgs;
use crate::commands::resolve_model;
use crate::files::{AtomicFile, require_space};
use crate::hub::Use;
use crate::output::{Hinted, Output};
use crate::progress::{Progress, stop_on_interrupt};

/// Writes the file under a temporary name and renames it when it is complete.
pub fn run(args: &SynthArgs, output: &Output) -> anyhow::Result<Outcome> {
    if args.out.is_file() && !args.force {
        let message = format!("{} exists already", args.out.display());
        return Err(Hinted::new(message, "give another name, or --force to replace it").into());
    }
    let spec = model(&args.model, args.quant)?;
    let total = SyntheticGguf::new(&spec).len();
    require_space(&args.out, total)?;
    write(&spec, &args.out, total, output)?;
    output.note(&format!(
        "wrote {} ({}, {} bytes)",
        args.out.display(),
        units::bytes(total),
        total
    ));
    Ok(Outcome::Good)
}

/// The model in the wanted quantization; of a GGUF file only the shape is taken.
fn model(argument: &str, scheme: QuantScheme) -> anyhow::Result<ModelSpec> {
    if !argument.to_lowercase().ends_with(".gguf") {
        return resolve_model(argument, Some(scheme), Use::Describe);
    }
    let spec = resolve_model(argument, None, Use::Describe)?;
    let source = ModelSource::Gguf { path: argument.to_owned() };
    Ok(quantized_spec(&spec.name, &spec.family, source, spec.shape, scheme))
}

fn write(spec: &ModelSpec, out: &Path, total: u64, output: &Output) -> anyhow::Result<()> {
    let mut file = Stoppable { file: AtomicFile::create(out)?, stop: stop_on_interrupt()? };
    let progress = Progress::bytes(output, total);
    progress.message(format!("{} {}", spec.name, spec.quant));
    write_synthetic(spec, &mut file, &mut |done, _| progress.set(done))
        .with_context(|| format!("cannot write {}", out.display()))?;
    file.file.commit()
}

/// A file that refuses to be written on once Ctrl-C was pressed, so that nothing half-done stays.
struct Stoppable {
    file: AtomicFile,
    stop: Arc<AtomicBool>,
}

impl Write for Stoppable {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.stop.load(Ordering::SeqCst) {
            return Err(io::Error::other("interrupted; nothing was kept"));
        }
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
