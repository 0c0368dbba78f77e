//! Whether a device has the figures that a question needs.

use foretoken_spec::{DeviceBackend, DeviceSpec};

use crate::derive;

/// What a processor needs for any time: which cores, how many and how fast.
pub const NEEDS_CORES: &str = "clusters (or cores such as `4x Cortex-A76 2.4GHz`)";
/// What a graphics processor needs for any time.
pub const NEEDS_PEAK: &str = "peak_fp32_tflops or peak_fp16_tflops (or gpu)";

/// What is asked of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// Time of a generated token: memory bandwidth, and what computes.
    Decode,
    /// Time of a prompt: the same.
    Prefill,
    /// Whether a model fits: the size of the memory.
    Memory,
    /// Time of a first load: the speed of the storage.
    Load,
    /// Energy: power under load, or what cooling is designed for.
    Energy,
    /// Share of a battery: its size, and energy.
    Battery,
}

/// A question that a device has no figures for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotEnough {
    /// Figures are missing.
    #[error("`{device}` has too few figures to answer: {} missing", missing.join(", "))]
    Missing {
        /// Id of the device.
        device: String,
        /// What is missing; where one of several would do, they stand in one text.
        missing: Vec<&'static str>,
    },
    /// The device does not run this backend.
    #[error("`{device}` does not run {backend}; it runs {}", words(runs))]
    Backend {
        /// Id of the device.
        device: String,
        /// What was asked for.
        backend: DeviceBackend,
        /// What it runs.
        runs: Vec<DeviceBackend>,
    },
}

impl NotEnough {
    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Missing { device, .. } => format!(
                "put them into a .toml of your own beside what `foretoken devices --show {device} \
                 --format json` prints, or run `foretoken probe` on the device"
            ),
            Self::Backend { runs, .. } => match runs.first() {
                Some(first) => format!("ask for --backend {first}"),
                None => "add it to the backends of the device's file".into(),
            },
        }
    }
}

fn words(backends: &[DeviceBackend]) -> String {
    backends.iter().map(|b| b.name()).collect::<Vec<_>>().join(", ")
}

/// Peak arithmetic that one backend of a device computes with, TFLOP/s and TOPS.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Peaks {
    /// f16.
    pub fp16: Option<f64>,
    /// f32.
    pub fp32: Option<f64>,
    /// int8.
    pub int8: Option<f64>,
}

/// Peaks of the processor or of the graphics processor, whichever the backend uses.
///
/// The stated peaks of a device belong to the first of its backends; those of the other processor
/// follow from its cores or units.
pub fn peaks(spec: &DeviceSpec, backend: DeviceBackend) -> Peaks {
    let wants_cpu = backend == DeviceBackend::Cpu;
    if wants_cpu == derive::is_cpu_first(spec) {
        return Peaks {
            fp16: spec.peak_fp16_tflops,
            fp32: spec.peak_fp32_tflops,
            int8: spec.peak_int8_tops,
        };
    }
    let derived = if wants_cpu { derive::cpu_peaks(spec) } else { derive::gpu_peaks(spec) };
    Peaks {
        fp16: derived.fp16.map(|d| d.value),
        fp32: derived.fp32.map(|d| d.value),
        int8: derived.int8.map(|d| d.value),
    }
}

/// What a device lacks to answer a question; nothing where it can be answered.
pub fn missing(spec: &DeviceSpec, backend: DeviceBackend, question: Question) -> Vec<&'static str> {
    let mut missing = Vec::new();
    let mut need = |is_there: bool, what: &'static str| {
        if !is_there {
            missing.push(what);
        }
    };
    let has_bandwidth = spec.mem_bandwidth_gbps.is_some();
    let peaks = peaks(spec, backend);
    let has_peak = peaks.fp16.or(peaks.fp32).or(peaks.int8).is_some();
    let counts_cores = |words: &String| words.chars().any(|c| c.is_ascii_digit());
    let has_cores = !spec.clusters.is_empty() || spec.cores.as_ref().is_some_and(counts_cores);
    let has_power = spec.load_power_w.or(spec.tdp_w).is_some();
    match question {
        Question::Decode | Question::Prefill => {
            need(has_bandwidth, "mem_bandwidth_gbps");
            match backend {
                DeviceBackend::Cpu => need(has_cores, NEEDS_CORES),
                _ => need(has_peak, NEEDS_PEAK),
            }
        }
        Question::Memory => need(spec.mem_gb.is_some(), "mem_gb"),
        Question::Load => need(spec.storage_bandwidth_mbps.is_some(), "storage_bandwidth_mbps"),
        Question::Energy => need(has_power, "load_power_w (or tdp_w)"),
        Question::Battery => {
            need(spec.battery_wh.is_some(), "battery_wh");
            need(has_power, "load_power_w (or tdp_w)");
        }
    }
    missing
}

/// Refuses questions that a device has no figures for.
///
/// # Errors
/// A backend that the device does not run, or all that is missing, in the order of the questions.
pub fn require(
    spec: &DeviceSpec,
    backend: DeviceBackend,
    questions: &[Question],
) -> Result<(), NotEnough> {
    if !spec.backends.is_empty() && !spec.backends.contains(&backend) {
        let runs = spec.backends.clone();
        return Err(NotEnough::Backend { device: spec.id.clone(), backend, runs });
    }
    let mut all: Vec<&'static str> = Vec::new();
    for question in questions {
        for what in missing(spec, backend, *question) {
            if !all.contains(&what) {
                all.push(what);
            }
        }
    }
    if all.is_empty() {
        return Ok(());
    }
    Err(NotEnough::Missing { device: spec.id.clone(), missing: all })
}

#[cfg(test)]
mod tests {
    use foretoken_spec::{DeviceKind, GpuUnits};

    use super::*;
    use crate::derive::testing::cluster;

    #[test]
    fn what_is_missing_is_named_once() {
        let spec = DeviceSpec::named("x", "X", DeviceKind::Cpu);
        let questions = [Question::Decode, Question::Prefill, Question::Memory, Question::Battery];
        let error = require(&spec, DeviceBackend::Cpu, &questions).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`x` has too few figures to answer: mem_bandwidth_gbps, clusters (or cores such as `4x \
             Cortex-A76 2.4GHz`), mem_gb, battery_wh, load_power_w (or tdp_w) missing"
        );
        assert!(error.hint().contains("foretoken probe"));
    }

    #[test]
    fn a_device_with_its_figures_answers() {
        let mut spec = DeviceSpec::named("x", "X", DeviceKind::Cpu);
        spec.mem_bandwidth_gbps = Some(51.2);
        spec.cores = Some("8x zen3 @ 3.0 GHz".into());
        let asked = [Question::Decode, Question::Prefill];
        assert_eq!(require(&spec, DeviceBackend::Cpu, &asked), Ok(()));
    }

    #[test]
    fn each_backend_has_the_peaks_of_its_processor() {
        let mut spec = DeviceSpec::named("orin", "Orin", DeviceKind::Soc);
        spec.backends = vec![DeviceBackend::Cuda, DeviceBackend::Cpu];
        spec.clusters = vec![cluster("cortex-a78ae", 6, 1.5)];
        spec.gpu =
            Some(GpuUnits { architecture: "ampere-tegra".into(), units: 8, clock_ghz: 1.02 });
        spec.peak_fp16_tflops = Some(17.0);
        assert_eq!(peaks(&spec, DeviceBackend::Cuda).fp16, Some(17.0));
        // 6 × 1.5 × 16 = 144 GFLOP/s.
        assert!((peaks(&spec, DeviceBackend::Cpu).fp32.unwrap() - 0.144).abs() < 1e-12);
        let error = require(&spec, DeviceBackend::Metal, &[]).unwrap_err();
        assert_eq!(error.to_string(), "`orin` does not run metal; it runs cuda, cpu");
    }
}
