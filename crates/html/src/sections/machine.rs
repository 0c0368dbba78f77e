//! Where it was measured, with what, and how.

use std::collections::BTreeSet;

use foretoken_report::units;
use foretoken_spec::{Allocator, DeviceInfo, Measurement, Sampling};

use crate::markup::{facts, paragraph};
use crate::words;

/// How a number comes about; `docs/measurement-protocol.md` says it at length.
const PROTOCOL: &str = "Every model was loaded afresh several times, in random order, between two \
     runs of a fixed reference workload. A pass is timed from the token ids in host memory to the \
     logits on the host; warm-up passes are not counted. Observed is the median over loads of the \
     median within a load. Samples during which the scheduler took the processor away, and loads \
     around which the reference shows another program at work, are left out where others remain, \
     and counted. An error is predicted ÷ observed − 1. The noise floor compares the two halves \
     (alternate loads) of the same run: measuring again would differ by as much. It stands beside \
     an error and is never subtracted from it.";

/// Device, engine, build and amount of data, once per setup, and the protocol.
pub(crate) fn html(measurements: &[Measurement]) -> String {
    let mut html = String::new();
    let setups = setups(measurements);
    for lines in &setups {
        if setups.len() > 1 {
            html.push_str(&format!("<h3>{}</h3>\n", crate::markup::escape(&lines[0].device.id)));
        }
        html.push_str(&facts(&setup_facts(lines)));
    }
    html + &paragraph(PROTOCOL)
}

/// Lines of the same device, engine, threads and build.
fn setups(measurements: &[Measurement]) -> Vec<Vec<&Measurement>> {
    let mut setups: Vec<Vec<&Measurement>> = Vec::new();
    for line in measurements {
        let same = |setup: &&mut Vec<&Measurement>| {
            let first = setup[0];
            first.device.id == line.device.id
                && first.device.backend == line.device.backend
                && first.engine == line.engine
                && first.threads == line.threads
                && first.tool == line.tool
        };
        match setups.iter_mut().find(same) {
            Some(setup) => setup.push(line),
            None => setups.push(vec![line]),
        }
    }
    setups
}

fn setup_facts(lines: &[&Measurement]) -> Vec<(&'static str, String)> {
    let first = lines[0];
    let device = &first.device;
    let tool = &first.tool;
    let distinct = |of: fn(&Measurement) -> String| -> Vec<String> {
        lines.iter().map(|m| of(m)).collect::<BTreeSet<_>>().into_iter().collect()
    };
    let sessions = distinct(|m| m.session.clone()).len();
    let loads = distinct(|m| format!("{}/{}", m.session, m.sequence)).len();
    let models = distinct(|m| m.model.name.clone());
    let environment = |of: fn(&Measurement) -> Option<String>| {
        words::list(
            &lines
                .iter()
                .filter_map(|m| of(m))
                .collect::<BTreeSet<_>>()
                .into_iter()
                .collect::<Vec<_>>(),
        )
    };
    vec![
        ("processor", processor(device)),
        ("vector extensions", device.isa.join(", ")),
        ("memory", memory(device)),
        ("system", system(device)),
        (
            "engine",
            format!("{} {}, {} threads", first.engine.name, first.engine.version, first.threads),
        ),
        ("clock", environment(|m| m.environment.governor.clone().map(|g| format!("governor {g}")))),
        ("power profile", environment(|m| m.environment.power_profile.clone())),
        (
            "measured by",
            format!("Foretoken {}, {} build, {}", tool.version, tool.profile, tool.target_features),
        ),
        ("freed memory", words::list(&distinct(|m| allocator(m.allocator).into()))),
        ("sampling", words::list(&distinct(|m| sampling(m.sampling).into()))),
        ("measured", span(lines)),
        (
            "data",
            format!(
                "{} of {} in {}, {} lines",
                words::count(loads, "fresh load"),
                words::count(models.len(), "model"),
                words::count(sessions, "session"),
                lines.len()
            ),
        ),
        ("stolen time", steal(lines)),
    ]
}

fn processor(device: &DeviceInfo) -> String {
    format!(
        "{} ({}), {} physical and {} logical cores, {}",
        device.name, device.backend, device.physical_cores, device.logical_cores, device.arch
    )
}

fn memory(device: &DeviceInfo) -> String {
    let memory = units::bytes(device.memory_bytes);
    match device.l3_bytes {
        Some(l3) => format!("{memory}, last-level cache {}", units::bytes(l3)),
        None => memory,
    }
}

fn system(device: &DeviceInfo) -> String {
    match device.hypervisor {
        Some(true) => format!("{}, virtual machine", device.os),
        _ => device.os.clone(),
    }
}

fn allocator(allocator: Allocator) -> &'static str {
    match allocator {
        Allocator::Kept => "kept for the next pass",
        Allocator::System => "as the system does",
    }
}

fn sampling(sampling: Sampling) -> &'static str {
    match sampling {
        Sampling::Temperature => "temperature 1",
        Sampling::Greedy => "greedy",
    }
}

fn span(lines: &[&Measurement]) -> String {
    let times = || lines.iter().map(|m| m.time.as_str());
    match (times().min(), times().max()) {
        (Some(first), Some(last)) if first != last => {
            format!("{} to {}", words::time(first), words::time(last))
        }
        (Some(only), _) => words::time(only),
        _ => String::new(),
    }
}

/// What the hypervisor took, where the system tells.
fn steal(lines: &[&Measurement]) -> String {
    let shares: Vec<f64> = lines.iter().filter_map(|m| m.environment.steal_fraction).collect();
    let high = foretoken_stats::quantile(&shares, 1.0);
    match (foretoken_stats::median(&shares), high) {
        (Some(median), Some(high)) => {
            format!("{} (median), {} at most", units::percent(median), units::percent(high))
        }
        _ => String::new(),
    }
}
