//! The meter of energy that a command was given or that the machine has.

use std::time::Duration;

use foretoken_meter::{Sampler, Source, System, Unusable, Wanted, find};

use crate::args::{MeterArg, MeterArgs};
use crate::output::{Hinted, Output};

/// How long nothing runs before, so that the power of an idle machine is known.
const IDLE_TIME: Duration = Duration::from_secs(3);

/// Opens the meter, where there is one, and measures the idle power. A model that runs on the card
/// at a PCI address is measured by that card, unless another meter is asked for.
///
/// # Errors
/// A meter that was asked for by name and cannot be used.
pub fn open_meter(
    args: &MeterArgs,
    card: Option<String>,
    output: &Output,
) -> anyhow::Result<Option<Sampler>> {
    let Some(wanted) = wanted(args.meter, card) else { return Ok(None) };
    let system = args.meter_root.as_deref().map_or_else(System::this, System::recorded);
    let found = find(&system, &wanted);
    let Some(meter) = found.meter else {
        return match (wanted, found.unusable.first()) {
            (Wanted::Only(_), Some(unusable)) => Err(refusal(unusable)),
            (_, Some(unusable)) => {
                output.note(&format!("energy is not measured: {}", reason(unusable)));
                Ok(None)
            }
            (_, None) => Ok(None),
        };
    };
    let (source, name) = (meter.source().name(), meter.name().to_owned());
    let mut sampler = match Sampler::start(meter) {
        Ok(sampler) => sampler,
        Err(error) => {
            output.warn(&format!("energy is not measured: the meter `{source}` fails: {error}"));
            return Ok(None);
        }
    };
    output.note(&format!("energy: {source} ({name}); measuring the idle power"));
    if sampler.measure_idle(IDLE_TIME).is_none() {
        output.warn(&format!("the meter `{source}` does not answer; energy is not measured"));
        return Ok(None);
    }
    Ok(Some(sampler))
}

/// `None` where no energy is wanted.
fn wanted(meter: MeterArg, card: Option<String>) -> Option<Wanted> {
    Some(match meter {
        MeterArg::Auto => card.map_or(Wanted::Processor, Wanted::Card),
        MeterArg::None => return None,
        MeterArg::Rapl => Wanted::Only(Source::Rapl),
        MeterArg::Ina3221 => Wanted::Only(Source::Ina3221),
        MeterArg::Nvml => card.map_or(Wanted::Only(Source::Nvml), Wanted::Card),
        MeterArg::Powermetrics => Wanted::Only(Source::Powermetrics),
        MeterArg::Battery => Wanted::Only(Source::Battery),
    })
}

fn reason(unusable: &Unusable) -> String {
    match unusable.error.hint() {
        Some(hint) => format!("{} ({hint})", unusable.error),
        None => unusable.error.to_string(),
    }
}

fn refusal(unusable: &Unusable) -> anyhow::Error {
    let message = format!("--meter {}: {}", unusable.source.name(), unusable.error);
    match unusable.error.hint() {
        Some(hint) => Hinted::new(message, hint).into(),
        None => Hinted::new(message, "use --meter auto").into(),
    }
}
