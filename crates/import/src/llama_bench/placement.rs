//! Where a run of llama-bench did its arithmetic.

use foretoken_spec::SpeedPhase;
use serde_json::Value;

use crate::Origin;
use crate::names::{backend_name, backend_of_list};
use crate::record::{Record, whole};

/// What does the arithmetic of a row.
pub(super) struct Placed {
    pub backend: String,
    /// Why the row speaks of no single backend.
    pub excluded: Option<String>,
    pub flags: Vec<String>,
}

/// Truths of builds before `backends` was a field, most telling first.
const OLD_FLAGS: [(&str, &str); 7] = [
    ("cuda", "cuda"),
    ("vulkan", "vulkan"),
    ("metal", "metal"),
    ("sycl", "sycl"),
    ("kompute", "vulkan"),
    ("opencl", "opencl"),
    ("gpu_blas", "gpu_blas"),
];

/// Layers that stand for all of them: the defaults of 2025 and of 2026.
fn is_all_layers(n: i64) -> bool {
    !(0..99).contains(&n)
}

/// Finds the backend, and what keeps the row from speaking for it alone.
///
/// # Errors
/// Several backends or none, and nothing that tells which was used.
pub(super) fn place(
    record: &mut Record,
    origin: &Origin,
    phase: SpeedPhase,
) -> Result<Placed, String> {
    let peek = |name: &str| record.peek(name);
    let told = origin.backend.as_deref().map(str::to_lowercase);
    let found = found_backend(&peek);
    let backend = match told {
        Some(told) => agreed(told, found, &peek)?,
        None => found?,
    };
    let mut placed = Placed { backend, excluded: None, flags: Vec::new() };
    if placed.backend == "cpu" {
        return Ok(placed);
    }
    let layers = gpu_layers(&peek);
    let is_on = |name: &str| peek(name).and_then(whole).is_some_and(|n| n != 0);
    let experts = peek("n_cpu_moe").and_then(whole).filter(|n| *n > 0);
    let overrides = text(peek("tensor_buft_overrides")).filter(|t| *t != "none");
    match layers {
        Some(0) if phase == SpeedPhase::Decode || is_on("no_op_offload") => {
            placed.backend = "cpu".to_owned();
            placed.flags.push("gpu_build".to_owned());
        }
        Some(0) => {
            placed.excluded =
                Some("no layer is on the GPU, and prompts may be computed there".to_owned());
        }
        Some(n) if !is_all_layers(n) => placed.flags.push("gpu_layers_limited".to_owned()),
        _ => {}
    }
    if let Some(n) = experts {
        placed.excluded = Some(format!("the experts of {n} layers are on the processor"));
    } else if overrides.is_some() {
        placed.excluded = Some("tensors are placed by hand (tensor_buft_overrides)".to_owned());
    }
    if is_on("no_kv_offload") {
        placed.flags.push("kv_on_cpu".to_owned());
    }
    if uses_several(&peek) {
        placed.flags.push("several_gpus".to_owned());
    }
    Ok(placed)
}

fn gpu_layers<'a>(peek: &impl Fn(&str) -> Option<&'a Value>) -> Option<i64> {
    peek("n_gpu_layers").and_then(whole).and_then(|n| i64::try_from(n).ok())
}

/// The backend that the caller tells, where the row does not contradict it. Where a build for a
/// device ran without a layer on it, the device is answered: prompts may have been computed there.
///
/// # Errors
/// Another backend was used, or the one that is told was not built in.
fn agreed<'a>(
    told: String,
    found: Result<String, String>,
    peek: &impl Fn(&str) -> Option<&'a Value>,
) -> Result<String, String> {
    let listed = built_in(peek);
    // What computes behind a server of RPC is not told.
    let is_remote = listed.contains(&"rpc");
    let has_no_layer = gpu_layers(peek) == Some(0);
    match found {
        Ok(found) if found == told => Ok(told),
        Ok(found) if told == "cpu" && has_no_layer => Ok(found),
        Ok(found) if told == "cpu" => {
            Err(format!("the backend is {found} with layers on it, where cpu was told"))
        }
        Ok(found) if found == "cpu" && is_remote => Ok(told),
        Ok(found) => Err(format!("the backend is {found}, where {told} was told")),
        // Nothing tells, or a BLAS of an unknown kind.
        Err(_) if listed.is_empty() || is_remote => Ok(told),
        Err(_) if told == "cpu" => match (has_no_layer, listed.into_iter().find(|b| *b != "cpu")) {
            (true, Some(first)) => Ok(first.to_owned()),
            _ => Err("layers are on a device, where cpu was told".to_owned()),
        },
        Err(_) if listed.contains(&told.as_str()) => Ok(told),
        Err(_) => Err(format!("the build has {}, where {told} was told", listed.join(" and "))),
    }
}

/// The backends that a build lists, by our names.
fn built_in<'a>(peek: &impl Fn(&str) -> Option<&'a Value>) -> Vec<&'static str> {
    text(peek("backends")).unwrap_or_default().split([',', '/']).filter_map(backend_name).collect()
}

fn text(value: Option<&Value>) -> Option<&str> {
    value.and_then(Value::as_str)
}

fn found_backend<'a>(peek: &impl Fn(&str) -> Option<&'a Value>) -> Result<String, String> {
    // Devices that were asked for tell more than what was built in.
    let devices = text(peek("devices")).filter(|d| !["auto", "(null)"].contains(d));
    if let Some(backend) = devices.and_then(backend_of_devices) {
        return Ok(backend);
    }
    if let Some(list) = text(peek("backends")) {
        return backend_of_list(list).map(str::to_owned);
    }
    let is_on = |name: &str| peek(name).and_then(whole).is_some_and(|n| n != 0);
    let old: Vec<&str> =
        OLD_FLAGS.iter().filter(|(flag, _)| is_on(flag)).map(|(_, ours)| *ours).collect();
    match old[..] {
        [] if OLD_FLAGS.iter().any(|(flag, _)| peek(flag).is_some()) => Ok("cpu".to_owned()),
        [] => Err("nothing tells the backend; say it with --backend".to_owned()),
        ["gpu_blas"] => Err("a GPU BLAS of an unknown kind; say it with --backend".to_owned()),
        [one, ..] => Ok(one.to_owned()),
    }
}

/// `CUDA0/CUDA1`, where all are of one backend.
fn backend_of_devices(list: &str) -> Option<String> {
    let mut backends = list.split(['/', ',']).map(backend_name);
    let first = backends.next()??;
    backends.all(|other| other == Some(first)).then(|| first.to_owned())
}

/// Whether more than one GPU was asked for, or was there and not kept out.
fn uses_several<'a>(peek: &impl Fn(&str) -> Option<&'a Value>) -> bool {
    if text(peek("split_mode")) == Some("none") {
        return false;
    }
    let devices = text(peek("devices")).filter(|devices| *devices != "auto");
    if let Some(devices) = devices {
        return devices.contains('/');
    }
    let split = text(peek("tensor_split")).unwrap_or_default();
    if split.contains('/') {
        return true;
    }
    text(peek("gpu_info")).is_some_and(|list| list.contains(", "))
}
