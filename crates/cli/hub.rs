//! Models of the Hugging Face hub: described by their headers, downloaded only to be run.

use std::path::Path;

use anyhow::{Context, bail};
use foretoken_catalog::{parse_config, resolve};
use foretoken_gguf::{GgufError, GgufHeader, join_parts, model_of_header, read_header};
use foretoken_hub::{Hub, HubError, HubRef, Listener, Pick, Settings};
use foretoken_spec::{ModelSource, ModelSpec, QuantScheme};

use crate::output::{Hinted, Output};
use crate::progress::Progress;

/// What a model is wanted for.
#[derive(Debug, Clone, Copy)]
pub enum Use<'a> {
    /// To be described: headers are enough. Waits are told here.
    Describe(&'a Output),
    /// To be run: its file has to be on this disk. Progress is shown here.
    Run(&'a Output),
}

impl Use<'_> {
    /// Tells why a server lets the user wait, unless quiet was asked for.
    fn listener(self) -> Listener {
        let (Self::Describe(output) | Self::Run(output)) = self;
        let output = *output;
        Listener::new(move |sentence| output.note(sentence))
    }
}

/// Whether an argument names a model of the hub.
pub fn is_hub_name(argument: &str) -> bool {
    HubRef::is_hub_name(argument.trim())
}

/// The model of a `hf:org/repo[/file][@revision]`.
///
/// # Errors
/// No such model, no access, no network and no copy; a file that is no model; a quantization that
/// the file does not have.
pub fn resolve_hub(
    argument: &str,
    quant: Option<QuantScheme>,
    wanted: Use<'_>,
) -> anyhow::Result<ModelSpec> {
    let name = HubRef::parse(argument.trim())?;
    let hub = Hub::new(Settings { listener: wanted.listener(), ..Settings::from_env()? })?;
    match hub.pick(&name, quant.map(QuantScheme::name))? {
        Pick::Config(config) => described_by_config(&hub, &config, argument, quant),
        Pick::Gguf(parts) => match (wanted, parts.as_slice()) {
            (Use::Describe(_), parts) => {
                let spec = described_by_header(&hub, parts, argument)?;
                require_quant(&spec, argument, quant)?;
                Ok(spec)
            }
            (Use::Run(output), [only]) => {
                // The header first: a model that cannot run is not worth a download.
                let spec = described_by_header(&hub, std::slice::from_ref(only), argument)?;
                require_quant(&spec, argument, quant)?;
                foretoken_runner::check_model(&spec)?;
                let path = download(&hub, only, output)?;
                Ok(resolve(&path, quant)?)
            }
            (Use::Run(_), parts) => {
                let message = format!("{argument} is split into {} files", parts.len());
                let hint = "candle reads one file: download them and join them with \
                            `llama-gguf-split --merge`; `predict` and `inspect` take them as they are";
                Err(Hinted::new(message, hint).into())
            }
        },
    }
}

fn described_by_config(
    hub: &Hub,
    config: &HubRef,
    argument: &str,
    quant: Option<QuantScheme>,
) -> anyhow::Result<ModelSpec> {
    let text = hub.config(config)?;
    let config = parse_config(&text, config.model_name())
        .with_context(|| format!("{argument}, config.json"))?;
    let source = ModelSource::Config { path: argument.trim().to_owned() };
    Ok(config.spec(source, quant)?)
}

fn described_by_header(hub: &Hub, parts: &[HubRef], argument: &str) -> anyhow::Result<ModelSpec> {
    let read = |part: &HubRef| -> anyhow::Result<GgufHeader> {
        read_header(&mut hub.header(part)?).map_err(|error| named(error, part))
    };
    let [first, ..] = parts else { bail!("{argument}: no file") };
    let header = if parts.len() == 1 { read(first)? } else { joined(parts, read)? };
    let path = Path::new(first.file.as_deref().unwrap_or(argument));
    let mut spec = model_of_header(&header, path)
        .with_context(|| format!("{argument}, {}", path.display()))?;
    spec.source = ModelSource::Gguf { path: first.to_string() };
    Ok(spec)
}

fn joined(
    parts: &[HubRef],
    read: impl Fn(&HubRef) -> anyhow::Result<GgufHeader>,
) -> anyhow::Result<GgufHeader> {
    let headers = parts.iter().map(read).collect::<anyhow::Result<Vec<_>>>()?;
    let mut headers = headers.into_iter();
    let count = u32::try_from(parts.len())?;
    Ok(join_parts(count, |_| headers.next().ok_or(GgufError::VocabularyOnly))?)
}

/// An error of the reader: the network's own words where it was the network.
fn named(error: GgufError, part: &HubRef) -> anyhow::Error {
    if let GgufError::Io(io) = &error
        && let Some(reason) = HubError::of_io(io)
    {
        return anyhow::Error::msg(reason.to_string());
    }
    anyhow::Error::from(error).context(part.to_string())
}

fn require_quant(
    spec: &ModelSpec,
    argument: &str,
    quant: Option<QuantScheme>,
) -> anyhow::Result<()> {
    match quant {
        Some(wanted) if !wanted.name().eq_ignore_ascii_case(&spec.quant) => {
            let message = format!("{argument}: the file is {}, not {wanted}", spec.quant);
            Err(Hinted::new(message, "leave --quant out, or name a file that is it").into())
        }
        _ => Ok(()),
    }
}

fn download(hub: &Hub, file: &HubRef, output: &Output) -> anyhow::Result<String> {
    let bar = Progress::bytes(output, 0);
    bar.message(file.to_string());
    let path = hub.download(file, &mut |done, total| {
        bar.total(total);
        bar.set(done);
    })?;
    bar.finish();
    path.to_str().map(str::to_owned).with_context(|| format!("{} is no text", path.display()))
}
