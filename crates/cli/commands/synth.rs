//! `synth`: a GGUF file of true shapes with synthetic weights.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use foretoken_catalog::{check_scheme, is_gguf};
use foretoken_gguf::mix::quantized_spec;
use foretoken_gguf::synth::{SyntheticGguf, write_synthetic};
use foretoken_hub::HubError;
use foretoken_report::units;
use foretoken_spec::{ModelSpec, QuantScheme};

use crate::Outcome;
use crate::args::SynthArgs;
use crate::commands::resolve_model;
use crate::files::{AtomicFile, make_folder, require_space};
use crate::hub::{Use, is_hub_name};
use crate::output::{Hinted, Output};
use crate::progress::{Progress, stop_on_interrupt};

/// Writes the file under a temporary name and renames it when it is complete.
pub fn run(args: &SynthArgs, output: &Output) -> anyhow::Result<Outcome> {
    if args.out.is_file() && !args.force {
        let message = format!("{} exists already", args.out.display());
        return Err(Hinted::new(message, "give another name, or --force to replace it").into());
    }
    let spec = model(&args.model, args.quant, output)?;
    let total = SyntheticGguf::new(&spec).len();
    require_space(&args.out, total)?;
    make_folder(&args.out, output)?;
    write(&spec, &args.out, total, output)?;
    output.note(&format!(
        "wrote {} ({}, {} bytes)",
        args.out.display(),
        units::bytes(total),
        total
    ));
    Ok(Outcome::Good)
}

/// The model in the wanted quantization; of a GGUF file, here or on the hub, only the shape is
/// taken.
fn model(argument: &str, scheme: QuantScheme, output: &Output) -> anyhow::Result<ModelSpec> {
    let spec = if is_hub_name(argument) {
        shape_of_hub(argument, scheme, output)?
    } else if is_gguf(argument) {
        resolve_model(argument, None, Use::Describe(output))?
    } else {
        return resolve_model(argument, Some(scheme), Use::Describe(output));
    };
    check_scheme(&spec.shape, &spec.name, scheme)?;
    Ok(quantized_spec(&spec.name, &spec.family, spec.source, spec.shape, scheme))
}

/// The only file of a repository, of whatever quantization, or of several the one of this.
fn shape_of_hub(argument: &str, scheme: QuantScheme, output: &Output) -> anyhow::Result<ModelSpec> {
    resolve_model(argument, None, Use::Describe(output)).or_else(|error| {
        match error.downcast_ref::<HubError>() {
            Some(HubError::Ambiguous { .. }) => {
                resolve_model(argument, Some(scheme), Use::Describe(output))
            }
            _ => Err(error),
        }
    })
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
