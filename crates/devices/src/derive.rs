//! What follows from clocks, units and the memory bus.
//!
//! - Peak arithmetic of processors: Σ over clusters of cores × clock × operations per cycle.
//! - Peak arithmetic of graphics processors: units × clock × operations per cycle.
//! - Memory bandwidth: transfers per second × bus width ÷ 8 bits per byte.
//!
//! Operations per cycle are a table (`data/rates.toml`) with a source for each row; one
//! multiply-accumulate counts as 2.

use std::sync::OnceLock;

use foretoken_spec::{
    Confidence, CoreCluster, DeviceBackend, DeviceKind, DeviceSpec, FigureBasis, FigureSource,
};
use serde::Deserialize;

pub use crate::check::rounded;

const RATES: &str = include_str!("../data/rates.toml");

/// A computed figure.
#[derive(Debug, Clone, PartialEq)]
pub struct Derived {
    /// The figure.
    pub value: f64,
    /// The computation, with its numbers.
    pub formula: String,
    /// Where the operations per cycle in it are from; empty where there are none.
    pub rates: String,
    /// That of the least certain rate in it.
    pub confidence: Confidence,
}

impl Derived {
    /// The computation and where its rates are from, as the source of the figure.
    pub fn source(&self) -> String {
        if self.rates.is_empty() {
            return self.formula.clone();
        }
        format!("{} ({})", self.formula, self.rates)
    }
}

/// Peaks by type, each where it is known: TFLOP/s, int8 in 10¹² operations per second.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DerivedPeaks {
    /// f16 (or bf16).
    pub fp16: Option<Derived>,
    /// f32.
    pub fp32: Option<Derived>,
    /// int8.
    pub int8: Option<Derived>,
}

/// Operations per cycle of a core or a unit.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rates {
    #[serde(alias = "core", alias = "architecture")]
    name: String,
    isa: String,
    fp32: Option<f64>,
    fp16: Option<f64>,
    int8: Option<f64>,
    confidence: Confidence,
    /// Why these rates.
    source: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tables {
    cpu: Vec<Rates>,
    gpu: Vec<Rates>,
}

fn tables() -> &'static Tables {
    static TABLES: OnceLock<Tables> = OnceLock::new();
    // A damaged table derives nothing; a test reads it.
    TABLES.get_or_init(|| toml::from_str(RATES).unwrap_or_default())
}

fn rates<'a>(table: &'a [Rates], name: &str) -> Option<&'a Rates> {
    table.iter().find(|rates| rates.name.eq_ignore_ascii_case(name))
}

/// Names of the microarchitectures whose rates are known.
pub fn known_cores() -> Vec<&'static str> {
    tables().cpu.iter().map(|rates| rates.name.as_str()).collect()
}

/// Names of the graphics architectures whose rates are known.
pub fn known_gpus() -> Vec<&'static str> {
    tables().gpu.iter().map(|rates| rates.name.as_str()).collect()
}

/// Words of a system on a chip whose stated figures are those of its graphics processor.
const GPU_WORDS: [&str; 6] = ["sm_", "gfx", "gpu", "adreno", "mali", "apple"];

/// Whether the first backend of a device is its processor; where none is listed, whether its kind
/// and its words say so.
pub(crate) fn is_cpu_first(spec: &DeviceSpec) -> bool {
    match (spec.backends.first(), spec.kind) {
        (Some(backend), _) => *backend == DeviceBackend::Cpu,
        (None, DeviceKind::Cpu) => true,
        (None, DeviceKind::Gpu | DeviceKind::Igpu) => false,
        (None, DeviceKind::Soc) => {
            let words = words(spec);
            spec.gpu.is_none() && !GPU_WORDS.iter().any(|word| words.contains(word))
        }
    }
}

fn words(spec: &DeviceSpec) -> String {
    let texts = [&spec.isa, &spec.cores].into_iter().flatten();
    texts.fold(spec.name.clone(), |all, text| all + " " + text).to_lowercase()
}

/// The backend that a device is usually run with: the first that it lists and that is no neural
/// processor, else what its kind and its words say.
pub fn usual_backend(spec: &DeviceSpec) -> DeviceBackend {
    let listed = spec.backends.iter().copied().find(|b| *b != DeviceBackend::Npu);
    let words = words(spec);
    let has = |list: &[&str]| list.iter().any(|word| words.contains(word));
    listed.unwrap_or_else(|| match is_cpu_first(spec) {
        true => DeviceBackend::Cpu,
        false if has(&["sm_", "nvidia", "geforce", "rtx", "jetson"]) => DeviceBackend::Cuda,
        false if has(&["apple"]) => DeviceBackend::Metal,
        false => DeviceBackend::Vulkan,
    })
}

/// Memory bandwidth in GB/s: MT/s × bits ÷ 8 ÷ 1000.
pub fn bandwidth(spec: &DeviceSpec) -> Option<Derived> {
    let (rate, bits) = (spec.mem_rate_mtps?, spec.mem_bus_bits?);
    Some(Derived {
        value: rate * f64::from(bits) / 8.0 / 1e3,
        formula: format!("{rate} MT/s × {bits} bits ÷ 8"),
        rates: String::new(),
        confidence: Confidence::High,
    })
}

/// Peaks of what the first backend computes with.
pub fn peaks(spec: &DeviceSpec) -> DerivedPeaks {
    if is_cpu_first(spec) { cpu_peaks(spec) } else { gpu_peaks(spec) }
}

/// Peaks of all processor cores together.
pub fn cpu_peaks(spec: &DeviceSpec) -> DerivedPeaks {
    DerivedPeaks {
        fp16: cpu_peak(&spec.clusters, |c| c.fp16_per_cycle, |r| r.fp16),
        fp32: cpu_peak(&spec.clusters, |c| c.fp32_per_cycle, |r| r.fp32),
        int8: cpu_peak(&spec.clusters, |c| c.int8_per_cycle, |r| r.int8),
    }
}

/// Σ cores × GHz × operations per cycle ÷ 1000; `None` where the rate of a cluster is not known.
fn cpu_peak(
    clusters: &[CoreCluster],
    own: impl Fn(&CoreCluster) -> Option<f64>,
    of_table: impl Fn(&Rates) -> Option<f64>,
) -> Option<Derived> {
    let mut sum = 0.0;
    let mut terms = Vec::new();
    let mut reasons = Vec::new();
    let mut confidence = Confidence::High;
    for cluster in clusters {
        let rates = rates(&tables().cpu, &cluster.core);
        let per_cycle = match own(cluster) {
            Some(per_cycle) => per_cycle,
            None => {
                let rates = rates?;
                confidence = confidence.min(rates.confidence);
                let reason = format!("{}: {}", rates.name, rates.source);
                if !reasons.contains(&reason) {
                    reasons.push(reason);
                }
                of_table(rates)?
            }
        };
        sum += f64::from(cluster.count) * cluster.clock_ghz * per_cycle;
        terms.push(format!("{} × {} GHz × {per_cycle}", cluster.count, cluster.clock_ghz));
    }
    let formula = format!("{} operations per cycle", terms.join(" + "));
    let derived = Derived { value: sum / 1e3, formula, rates: reasons.join("; "), confidence };
    (!terms.is_empty()).then_some(derived)
}

/// Peaks of the graphics processor: units × GHz × operations per cycle ÷ 1000.
pub fn gpu_peaks(spec: &DeviceSpec) -> DerivedPeaks {
    let Some(gpu) = &spec.gpu else { return DerivedPeaks::default() };
    let Some(rates) = rates(&tables().gpu, &gpu.architecture) else {
        return DerivedPeaks::default();
    };
    let peak = |per_cycle: Option<f64>| {
        let per_cycle = per_cycle?;
        Some(Derived {
            value: f64::from(gpu.units) * gpu.clock_ghz * per_cycle / 1e3,
            formula: format!(
                "{} × {} GHz × {per_cycle} operations per cycle",
                gpu.units, gpu.clock_ghz
            ),
            rates: format!("{}: {}", rates.name, rates.source),
            confidence: rates.confidence,
        })
    };
    DerivedPeaks { fp16: peak(rates.fp16), fp32: peak(rates.fp32), int8: peak(rates.int8) }
}

/// Fills what is absent and follows from the rest, and gives every figure a source: `other` to
/// those that have none.
pub fn fill(spec: &mut DeviceSpec, other: &FigureSource) {
    let confidence_of =
        |spec: &DeviceSpec, field: &str| spec.sources.get(field).unwrap_or(other).confidence;
    let bus = confidence_of(spec, "mem_rate_mtps");
    let of_bus = bandwidth(spec).map(|d| Derived { confidence: d.confidence.min(bus), ..d });
    let parts = confidence_of(spec, if is_cpu_first(spec) { "clusters" } else { "gpu" });
    let peaks = peaks(spec);
    let of_parts = |derived: Option<Derived>| {
        derived.map(|d| Derived { confidence: d.confidence.min(parts), ..d })
    };
    let l2 = l2_kb(&spec.clusters).map(|d| Derived { confidence: d.confidence.min(parts), ..d });
    let l2_each = spec.sources.get("l2_kb").filter(|_| spec.l2_kb.is_none()).cloned();
    let filled = [
        ("mem_bandwidth_gbps", &mut spec.mem_bandwidth_gbps, of_bus),
        ("peak_fp16_tflops", &mut spec.peak_fp16_tflops, of_parts(peaks.fp16)),
        ("peak_fp32_tflops", &mut spec.peak_fp32_tflops, of_parts(peaks.fp32)),
        ("peak_int8_tops", &mut spec.peak_int8_tops, of_parts(peaks.int8)),
        ("l2_kb", &mut spec.l2_kb, l2),
    ];
    for (field, value, derived) in filled {
        let (None, Some(derived)) = (&value, derived) else { continue };
        *value = Some(rounded(derived.value));
        let source = FigureSource {
            basis: FigureBasis::Derived,
            confidence: derived.confidence,
            source: derived.source(),
        };
        spec.sources.insert(field.to_owned(), source);
    }
    // A source of its own for a sum over cores is that of the cache of each.
    if let (Some(each), Some(sum)) = (l2_each, spec.sources.get_mut("l2_kb")) {
        let source = format!("{} ({})", sum.source, each.source);
        *sum = FigureSource { source, ..each };
    }
    fill_words(spec);
    let present = spec.figures().into_iter().filter(|(_, value)| value.is_some());
    let present: Vec<&str> = present.map(|(field, _)| field).collect();
    let parts = [
        ("clusters", !spec.clusters.is_empty()),
        ("gpu", spec.gpu.is_some()),
        ("modes", !spec.modes.is_empty()),
    ];
    let parts = parts.into_iter().filter(|(_, is_there)| *is_there).map(|(field, _)| field);
    for field in present.into_iter().chain(parts) {
        spec.sources.entry(field.to_owned()).or_insert_with(|| other.clone());
    }
}

/// Second-level cache over all cores, where each cluster states its own.
fn l2_kb(clusters: &[CoreCluster]) -> Option<Derived> {
    let mut sum = 0.0;
    let mut terms = Vec::new();
    for cluster in clusters {
        let each = cluster.l2_kb?;
        sum += f64::from(cluster.count) * each;
        terms.push(format!("{} × {each} KiB", cluster.count));
    }
    let formula = terms.join(" + ");
    (!terms.is_empty()).then_some(Derived {
        value: sum,
        formula,
        rates: String::new(),
        confidence: Confidence::High,
    })
}

/// Cores and instruction set in words, where absent.
fn fill_words(spec: &mut DeviceSpec) {
    if spec.cores.is_none() && !spec.clusters.is_empty() {
        let cluster = |c: &CoreCluster| format!("{}x {} {} GHz", c.count, c.core, c.clock_ghz);
        let words: Vec<String> = spec.clusters.iter().map(cluster).collect();
        spec.cores = Some(words.join(" + "));
    }
    if spec.cores.is_none()
        && let Some(gpu) = &spec.gpu
    {
        spec.cores = Some(format!("{} {} units", gpu.units, gpu.architecture));
    }
    if spec.isa.is_none() {
        let found = match (is_cpu_first(spec), &spec.gpu, spec.clusters.first()) {
            (true, _, Some(cluster)) => rates(&tables().cpu, &cluster.core),
            (false, Some(gpu), _) => rates(&tables().gpu, &gpu.architecture),
            _ => None,
        };
        spec.isa = found.map(|rates| rates.isa.clone());
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    pub(crate) fn cluster(core: &str, count: u32, clock_ghz: f64) -> CoreCluster {
        CoreCluster {
            core: core.into(),
            count,
            clock_ghz,
            l2_kb: None,
            fp32_per_cycle: None,
            fp16_per_cycle: None,
            int8_per_cycle: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use foretoken_spec::GpuUnits;

    use super::testing::cluster;
    use super::*;

    #[test]
    fn a_sheet_without_backends_says_by_kind_and_words_what_computes() {
        let usual = |kind, isa: &str| {
            let mut spec = DeviceSpec::named("x", "X", kind);
            spec.isa = Some(isa.into());
            usual_backend(&spec)
        };
        assert_eq!(usual(DeviceKind::Gpu, "sm_86"), DeviceBackend::Cuda);
        assert_eq!(usual(DeviceKind::Gpu, "gfx1100"), DeviceBackend::Vulkan);
        assert_eq!(usual(DeviceKind::Cpu, "avx2"), DeviceBackend::Cpu);
        assert_eq!(usual(DeviceKind::Soc, "armv8.2 dotprod"), DeviceBackend::Cpu);
        assert_eq!(usual(DeviceKind::Soc, "Apple9"), DeviceBackend::Metal);
        assert_eq!(usual(DeviceKind::Soc, "sm_87"), DeviceBackend::Cuda);
    }

    fn stated() -> FigureSource {
        let source = "a file".into();
        FigureSource { basis: FigureBasis::Stated, confidence: Confidence::Medium, source }
    }

    #[test]
    fn the_table_of_rates_is_whole() {
        let tables: Tables = toml::from_str(RATES).unwrap();
        assert!(tables.cpu.len() > 40 && tables.gpu.len() > 20);
        for table in [&tables.cpu, &tables.gpu] {
            for (i, rates) in table.iter().enumerate() {
                assert!(!rates.source.is_empty(), "{}", rates.name);
                assert!(table[..i].iter().all(|other| other.name != rates.name), "{}", rates.name);
            }
        }
    }

    #[test]
    fn bandwidth_is_rate_times_width() {
        let mut spec = DeviceSpec::named("pi5", "Pi 5", DeviceKind::Soc);
        spec.mem_rate_mtps = Some(4267.0);
        spec.mem_bus_bits = Some(32);
        // 4267 × 32 / 8 = 17 068 MB/s.
        assert_eq!(bandwidth(&spec).unwrap().value, 17.068);
        spec.mem_bus_bits = None;
        assert_eq!(bandwidth(&spec), None);
    }

    #[test]
    fn processor_peaks_sum_over_clusters() {
        let mut spec = DeviceSpec::named("rk3588", "RK3588", DeviceKind::Soc);
        spec.clusters = vec![cluster("cortex-a76", 4, 2.4), cluster("cortex-a55", 4, 1.8)];
        let peaks = cpu_peaks(&spec);
        // 4 × 2.4 × 16 + 4 × 1.8 × 8 = 153.6 + 57.6 GFLOP/s.
        let fp32 = peaks.fp32.unwrap();
        assert!((fp32.value - 0.2112).abs() < 1e-12);
        assert_eq!(fp32.formula, "4 × 2.4 GHz × 16 + 4 × 1.8 GHz × 8 operations per cycle");
        assert_eq!(fp32.confidence, Confidence::Medium);
        // One core whose rate is not known leaves the sum unknown.
        spec.clusters.push(cluster("unheard-of", 1, 1.0));
        assert_eq!(cpu_peaks(&spec).fp32, None);
        spec.clusters[2].fp32_per_cycle = Some(4.0);
        assert!((cpu_peaks(&spec).fp32.unwrap().value - 0.2152).abs() < 1e-12);
    }

    #[test]
    fn graphics_peaks_are_units_times_clock() {
        let mut spec = DeviceSpec::named("rtx-4090", "RTX 4090", DeviceKind::Gpu);
        spec.gpu = Some(GpuUnits { architecture: "ada".into(), units: 128, clock_ghz: 2.52 });
        let peaks = gpu_peaks(&spec);
        // 128 × 2.52 × 256 = 82 575 GFLOP/s; the data sheet says 82.6.
        assert!((peaks.fp32.unwrap().value - 82.575_36).abs() < 1e-9);
        assert!((peaks.fp16.unwrap().value - 330.301_44).abs() < 1e-9);
        assert!((peaks.int8.unwrap().value - 660.602_88).abs() < 1e-9);
    }

    #[test]
    fn the_cache_of_each_core_may_have_a_source_of_its_own() {
        let mut spec = DeviceSpec::named("pi5", "Pi 5", DeviceKind::Soc);
        let core = CoreCluster { l2_kb: Some(512.0), ..cluster("cortex-a76", 4, 2.4) };
        spec.clusters = vec![core];
        let mut other = spec.clone();
        fill(&mut other, &stated());
        assert_eq!(other.sources["l2_kb"].basis, FigureBasis::Derived);
        assert_eq!(other.sources["l2_kb"].source, "4 × 512 KiB");
        spec.sources.insert("l2_kb".into(), stated());
        fill(&mut spec, &stated());
        assert_eq!(spec.l2_kb, Some(2048.0));
        assert_eq!(spec.sources["l2_kb"].basis, FigureBasis::Stated);
        assert_eq!(spec.sources["l2_kb"].source, "4 × 512 KiB (a file)");
    }

    #[test]
    fn what_is_stated_stays_and_the_rest_is_filled_with_its_source() {
        let mut spec = DeviceSpec::named("pi5", "Pi 5", DeviceKind::Soc);
        spec.clusters = vec![cluster("cortex-a76", 4, 2.4)];
        spec.peak_int8_tops = Some(0.5);
        spec.mem_gb = Some(8.0);
        fill(&mut spec, &stated());
        assert_eq!(spec.peak_fp32_tflops, Some(0.1536));
        assert_eq!(spec.peak_int8_tops, Some(0.5));
        assert_eq!(spec.sources["peak_fp32_tflops"].basis, FigureBasis::Derived);
        assert_eq!(spec.sources["peak_int8_tops"].basis, FigureBasis::Stated);
        assert_eq!(spec.sources["mem_gb"].source, "a file");
        assert_eq!(spec.cores.as_deref(), Some("4x cortex-a76 2.4 GHz"));
        assert_eq!(spec.isa.as_deref(), Some("armv8.2 dotprod fp16"));
    }
}
