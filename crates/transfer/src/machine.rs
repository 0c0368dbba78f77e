//! What the model uses of a device: the figures of the processor that a backend computes with.

use foretoken_devices::derive::cpu_peaks;
use foretoken_devices::{NEEDS_CORES, NEEDS_PEAK, peaks};
use foretoken_spec::{DeviceBackend, DeviceClass, DeviceKind, DeviceSpec};
use serde::{Deserialize, Serialize};

use crate::error::TransferError;

/// A cluster whose cores have less than this share of the fastest cores' arithmetic is left to
/// other work: engines that wait for all threads run as fast as the slowest.
const FAST_SHARE: f64 = 0.39;

/// Which of the two kinds of processor computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Processor {
    /// Processor cores.
    Cpu,
    /// A graphics processor.
    Gpu,
}

impl Processor {
    /// The word in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Gpu => "gpu",
        }
    }

    /// The processor that a backend uses; `None` for neural processors, which are another world.
    pub fn of(backend: DeviceBackend) -> Option<Self> {
        match backend {
            DeviceBackend::Cpu => Some(Self::Cpu),
            DeviceBackend::Npu => None,
            _ => Some(Self::Gpu),
        }
    }
}

/// How well processor cores multiply 8-bit integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dots {
    /// No vector unit that engines use: RISC-V without V, 32-bit Arm.
    Scalar,
    /// Vectors without 8-bit dot products.
    None,
    /// AVX2: three instructions for a dot product.
    Avx2,
    /// One instruction for a dot product: VNNI, `sdot`.
    Dot,
    /// Small matrix products: `smmla`.
    Matrix,
    /// Tiles: AMX.
    Tiles,
}

/// The processor of a device that a backend computes with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// Id of the device.
    pub id: String,
    /// `cpu`, `gpu`, `igpu` or `soc`, as the device is listed.
    pub kind: DeviceKind,
    /// What computes.
    pub processor: Processor,
    /// Who made it: devices of one maker resemble each other.
    pub maker: String,
    /// Generation: instruction set or architecture.
    pub generation: String,
    /// Piece of silicon, where the data sheet names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub die: Option<String>,
    /// Memory bandwidth of the data sheet, 10⁹ bytes per second; none is known of a rented part.
    pub bandwidth_gbps: Option<f64>,
    /// f32 arithmetic, TFLOP/s; of the fast cores together.
    pub fp32_tflops: f64,
    /// The fastest dense matrix arithmetic as f16 operations, TFLOP/s (int8 at half its rate).
    pub matrix_tflops: f64,
    /// Year of release.
    pub year: f64,
    /// Memory that stands beside the processor in one package (HBM).
    pub stacked_memory: bool,
    /// Fast cores; 0 for a graphics processor.
    pub cores: f64,
    /// Their clock, GHz; 0 for a graphics processor.
    pub clock_ghz: f64,
    /// 8-bit arithmetic of the cores.
    pub dots: Dots,
    /// A part of a server that other guests share.
    pub is_rented: bool,
}

impl Machine {
    /// The processor of `spec` that `backend` computes with.
    ///
    /// # Errors
    /// A backend that is not modelled, or figures that are missing.
    pub fn new(spec: &DeviceSpec, backend: DeviceBackend) -> Result<Self, TransferError> {
        match Processor::of(backend) {
            Some(Processor::Gpu) => Self::gpu(spec, backend),
            Some(Processor::Cpu) => Self::cpu(spec),
            None => Err(TransferError::Backend(backend.name().into())),
        }
    }

    fn gpu(spec: &DeviceSpec, backend: DeviceBackend) -> Result<Self, TransferError> {
        let missing = |what: &'static str| TransferError::Missing { device: spec.id.clone(), what };
        let isa = words_of(&[&spec.isa, &spec.cores, &Some(spec.name.clone())]);
        let (maker, generation) = gpu_generation(&isa, backend);
        let found = peaks(spec, backend);
        let matrix = positive(found.fp16).into_iter().chain(positive(found.int8).map(|i| i / 2.0));
        let matrix = matrix.reduce(f64::max);
        let ratio = matrix_ratio(&generation);
        let fp32 = positive(found.fp32)
            .or_else(|| matrix.map(|m| m / ratio))
            .ok_or_else(|| missing(NEEDS_PEAK))?;
        let bandwidth =
            positive(spec.mem_bandwidth_gbps).ok_or_else(|| missing("mem_bandwidth_gbps"))?;
        Ok(Self {
            id: spec.id.clone(),
            kind: spec.kind,
            processor: Processor::Gpu,
            maker: maker.into(),
            generation,
            die: spec.die.clone(),
            bandwidth_gbps: Some(bandwidth),
            fp32_tflops: fp32,
            matrix_tflops: matrix.unwrap_or(fp32 * ratio).max(fp32),
            year: year(spec),
            stacked_memory: has_word(&spec.mem_type, "hbm"),
            cores: 0.0,
            clock_ghz: 0.0,
            dots: Dots::None,
            is_rented: false,
        })
    }

    fn cpu(spec: &DeviceSpec) -> Result<Self, TransferError> {
        let isa = cpu_words(spec);
        let cluster = spec.clusters.first().map(|c| c.core.to_lowercase());
        let maker = cpu_maker(cluster.as_deref(), &isa);
        let dots = dots(&isa, maker);
        let cores = fast_cores(spec, dots, maker)
            .ok_or_else(|| TransferError::Missing { device: spec.id.clone(), what: NEEDS_CORES })?;
        let fp32 = cores.count * cores.clock_ghz * cores.per_cycle / 1e3;
        Ok(Self {
            id: spec.id.clone(),
            kind: spec.kind,
            processor: Processor::Cpu,
            maker: maker.into(),
            generation: format!("{maker}-{dots:?}").to_lowercase(),
            die: spec.die.clone(),
            bandwidth_gbps: positive(spec.mem_bandwidth_gbps),
            fp32_tflops: fp32,
            matrix_tflops: fp32,
            year: year(spec),
            stacked_memory: false,
            cores: cores.count,
            clock_ghz: cores.clock_ghz,
            dots,
            is_rented: spec.class == Some(DeviceClass::VirtualMachine)
                || has_word(&spec.notes, "cloud vm")
                || has_word(&spec.cores, "vcpu"),
        })
    }

    /// f32 operations of a fast core in a cycle.
    pub fn per_cycle(&self) -> f64 {
        1e3 * self.fp32_tflops / (self.cores * self.clock_ghz)
    }

    /// Whether another entry is likely the same chip: their data sheets name one die, whose bins
    /// differ by a quarter in their units; or generation, bandwidth and arithmetic agree within
    /// what memory sizes, power limits and neighbouring models differ by. Such a twin is left out
    /// together with its device, for it would give it away.
    pub fn is_twin(&self, other: &Self) -> bool {
        if self.processor == other.processor && self.die.is_some() && self.die == other.die {
            return true;
        }
        let near = |a: f64, b: f64, share: f64| (a / b).ln().abs() <= share;
        let bandwidths = match (self.bandwidth_gbps, other.bandwidth_gbps) {
            (Some(a), Some(b)) => near(a, b, 0.1),
            (a, b) => a.is_none() && b.is_none(),
        };
        self.processor == other.processor
            && self.generation == other.generation
            && self.is_rented == other.is_rented
            && bandwidths
            && near(self.fp32_tflops, other.fp32_tflops, 0.15)
    }
}

/// The words that tell what the cores are. Where no instruction set is told, the cores' own names
/// have to do.
fn cpu_words(spec: &DeviceSpec) -> String {
    let (name, id) = (Some(spec.name.clone()), Some(spec.id.clone()));
    match &spec.isa {
        Some(_) => words_of(&[&spec.isa, &name, &id]),
        None => words_of(&[&spec.cores, &name, &id]),
    }
}

/// What a data sheet leaves open that the model of its processor needs, each as a sentence that says
/// what is taken in its place.
pub(crate) fn assumptions(spec: &DeviceSpec, backend: DeviceBackend) -> Vec<String> {
    let mut assumed = Vec::new();
    match Processor::of(backend) {
        Some(Processor::Cpu) if spec.isa.is_none() => {
            let words = cpu_words(spec);
            let maker = cpu_maker(None, &words);
            let taken = match dots(&words, maker) {
                Dots::Scalar => "no vectors",
                Dots::None => "vectors without 8-bit dot products",
                Dots::Avx2 => "AVX2",
                Dots::Dot => "8-bit dot products",
                Dots::Matrix => "small 8-bit matrix products",
                Dots::Tiles => "AMX",
            };
            assumed.push(format!(
                "the data sheet has neither `isa` nor clusters of cores that are known: {taken} of \
                 an {maker} core assumed"
            ));
        }
        Some(Processor::Gpu) => {
            let isa = words_of(&[&spec.isa, &spec.cores, &Some(spec.name.clone())]);
            if gpu_generation(&isa, backend).1 == "unknown" {
                assumed.push(
                    "the data sheet tells no architecture (`isa`, such as sm_89 or gfx1100): an \
                     unknown one assumed"
                        .to_owned(),
                );
            }
        }
        _ => {}
    }
    let has_clock = || spec.cores.as_deref().is_some_and(|c| clock(&c.to_lowercase()).is_some());
    if Processor::of(backend) == Some(Processor::Cpu) && spec.clusters.is_empty() && !has_clock() {
        assumed.push(format!("the data sheet tells no clock: {USUAL_CLOCK_GHZ} GHz assumed"));
    }
    assumed
}

fn positive(value: Option<f64>) -> Option<f64> {
    value.filter(|v| *v > 0.0 && v.is_finite())
}

/// The year of release, or one of the middle of the known devices.
fn year(spec: &DeviceSpec) -> f64 {
    spec.release_year.map_or(2022.0, f64::from)
}

fn words_of(texts: &[&Option<String>]) -> String {
    let texts: Vec<&str> = texts.iter().filter_map(|text| text.as_deref()).collect();
    texts.join(" ").to_lowercase()
}

fn has_word(text: &Option<String>, word: &str) -> bool {
    text.as_ref().is_some_and(|text| text.to_lowercase().contains(word))
}

/// Maker and generation of a graphics processor from its instruction set, else from its name.
fn gpu_generation(words: &str, backend: DeviceBackend) -> (&'static str, String) {
    let starting = |prefix: &str| {
        let clean = |w: &str| w.trim_matches(|c: char| !c.is_alphanumeric()).to_owned();
        words.split_whitespace().find(|w| w.starts_with(prefix)).map(clean)
    };
    if let Some(sm) = starting("sm_") {
        // One architecture in several chips.
        let family = match sm.as_str() {
            "sm_120" | "sm_121" => "blackwell".into(),
            "sm_100" | "sm_101" | "sm_103" | "sm_110" => "blackwell-gb100".into(),
            "sm_60" | "sm_61" | "sm_62" => "pascal".into(),
            _ => sm,
        };
        return ("nvidia", family);
    }
    if let Some(gfx) = starting("gfx") {
        let family = match &gfx[3..] {
            number if number.starts_with("12") => "rdna4".into(),
            number if number.starts_with("11") => "rdna3".into(),
            number if number.starts_with("103") => "rdna2".into(),
            number if number.starts_with("101") => "rdna1".into(),
            _ => gfx,
        };
        return ("amd", family);
    }
    if backend == DeviceBackend::Metal || starting("apple").is_some() {
        let is_new = starting("apple10").is_some() || words.contains("neural accelerator");
        return ("apple", if is_new { "apple-gpu10" } else { "apple-gpu" }.into());
    }
    // Whole words: `aarch64` is no Arc.
    let is_intel =
        |word: &str| ["xe", "arc", "intel", "iris"].contains(&word) || word.starts_with("xe-");
    if words.split(|c: char| !c.is_alphanumeric() && c != '-').any(is_intel)
        || starting("xe2").is_some()
    {
        let families = ["xe2", "xe-hpg", "xe-lp"];
        let found = families.into_iter().find(|family| starting(family).is_some());
        return ("intel", found.unwrap_or("xe").into());
    }
    let makers = ["adreno", "mali", "immortalis", "nvidia", "amd", "radeon"];
    let maker = makers.into_iter().find(|maker| words.contains(maker)).unwrap_or("unknown");
    (maker, maker.into())
}

/// Matrix arithmetic over f32 arithmetic where only one of the two is known: that of the makers'
/// data sheets, dense f16 (see the catalogue's table of rates).
fn matrix_ratio(generation: &str) -> f64 {
    match generation {
        "pascal" => 2.0,
        "sm_70" | "sm_75" | "sm_87" | "xe2" | "xe-hpg" => 8.0,
        "sm_80" | "sm_90" | "blackwell-gb100" => 16.0,
        "sm_86" | "sm_89" | "blackwell" | "rdna4" | "apple-gpu10" => 4.0,
        "apple-gpu" | "unknown" => 1.0,
        _ => 2.0,
    }
}

/// Maker of processor cores, by the name of the core or the words of the device.
fn cpu_maker(core: Option<&str>, words: &str) -> &'static str {
    let text = core.unwrap_or(words);
    let any = |list: &[&str]| list.iter().any(|w| text.contains(w));
    if any(&["apple"]) {
        "apple"
    } else if any(&["zen", "ryzen", "epyc", "threadripper", "amd "]) {
        "amd"
    } else if words.contains("rv64") || words.contains("risc-v") {
        "riscv"
    } else if ["avx", "amx", "x86", "sse"].iter().any(|w| words.contains(w)) {
        "intel"
    } else {
        "arm"
    }
}

fn dots(words: &str, maker: &str) -> Dots {
    let has = |word: &str| words.contains(word);
    if has("(no v)") || has("armv7") || has("armv6") {
        Dots::Scalar
    } else if has("amx") && maker == "intel" {
        Dots::Tiles
    } else if has("i8mm") || has("sve2") || has("armv9") {
        Dots::Matrix
    } else if has("vnni") || has("(no dotprod") {
        if has("vnni") { Dots::Dot } else { Dots::None }
    } else if has("dotprod") {
        Dots::Dot
    } else if maker == "intel" || maker == "amd" {
        if has("avx512") { Dots::Dot } else { Dots::Avx2 }
    } else if maker == "apple" {
        Dots::Dot
    } else {
        Dots::None
    }
}

/// Cores that share the work.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Cores {
    count: f64,
    clock_ghz: f64,
    /// f32 operations of a core in a cycle.
    per_cycle: f64,
}

fn fast_cores(spec: &DeviceSpec, dots: Dots, maker: &str) -> Option<Cores> {
    let usual = usual_per_cycle(dots, maker);
    let mut clusters: Vec<Cores> = Vec::new();
    for cluster in &spec.clusters {
        let mut alone = spec.clone();
        alone.clusters = vec![cluster.clone()];
        let (count, clock_ghz) = (f64::from(cluster.count), cluster.clock_ghz);
        let peak = cpu_peaks(&alone).fp32.map(|d| d.value * 1e3 / (count * clock_ghz));
        clusters.push(Cores { count, clock_ghz, per_cycle: positive(peak).unwrap_or(usual) });
    }
    if clusters.is_empty() {
        clusters = cores_in_words(spec.cores.as_deref()?, usual);
        // A stated peak belongs to all cores that the words name.
        let whole: f64 = clusters.iter().map(|c| c.count * c.clock_ghz).sum();
        if let (true, Some(peak)) =
            (spec.kind == DeviceKind::Cpu || spec.gpu.is_none(), positive(spec.peak_fp32_tflops))
            && whole > 0.0
        {
            for cluster in &mut clusters {
                cluster.per_cycle = (1e3 * peak / whole).clamp(2.0, 128.0);
            }
        }
    }
    let speed = |c: &Cores| c.clock_ghz * c.per_cycle;
    let best = clusters.iter().map(speed).fold(0.0, f64::max);
    let fast: Vec<&Cores> = clusters.iter().filter(|c| speed(c) >= FAST_SHARE * best).collect();
    let count: f64 = fast.iter().map(|c| c.count).sum();
    let mean =
        |value: fn(&Cores) -> f64| fast.iter().map(|c| c.count * value(c)).sum::<f64>() / count;
    let is_known = count > 0.0 && best > 0.0;
    is_known.then(|| Cores {
        count,
        clock_ghz: mean(|c| c.clock_ghz),
        per_cycle: mean(|c| c.per_cycle),
    })
}

/// What a core of this kind usually does in a cycle; the catalogue's table of rates has more.
fn usual_per_cycle(dots: Dots, maker: &str) -> f64 {
    match (maker, dots) {
        (_, Dots::Scalar) => 2.0,
        ("intel" | "amd" | "apple", _) => 32.0,
        (_, Dots::None) => 8.0,
        _ => 16.0,
    }
}

/// More cores of one type than this are a slip of the pen.
const MOST_CORES: f64 = 4096.0;
/// Clock where none is told, GHz.
const USUAL_CLOCK_GHZ: f64 = 3.0;

/// Clusters from words such as `1x X4 + 5x A720 + 2x A520`, `8P+16E`, `16c Zen4 4.5-5.7GHz` or
/// `4x Cortex-A76 2.4GHz`: a number before `x`, `c`, `P`, `E` or a space counts cores.
fn cores_in_words(text: &str, usual: f64) -> Vec<Cores> {
    let text = text.to_lowercase();
    let whole_clock = clock(&text);
    let mut clusters = Vec::new();
    for part in text.split(['+', ',', '=']) {
        let part = part.trim();
        let digits: String = part.chars().take_while(char::is_ascii_digit).collect();
        let rest = part[digits.len()..].trim_start();
        let Ok(count) = digits.parse::<f64>() else { continue };
        if count > MOST_CORES {
            continue;
        }
        let is_little = ["e", "lpe", "x a5", "x cortex-a5"].iter().any(|w| rest.starts_with(w))
            && !rest.starts_with("ex");
        if rest.contains("gpu") || rest.contains(" sm") || rest.contains(" cu") || count < 1.0 {
            continue;
        }
        let per_cycle = if is_little { usual / 3.0 } else { usual };
        let clock_ghz = clock(part).or(whole_clock).unwrap_or(USUAL_CLOCK_GHZ);
        // `4 vCPU = 2 cores`: the cores are what computes.
        if rest.starts_with("core") || rest.starts_with("physical") {
            clusters.clear();
        }
        let count = if rest.starts_with("vcpu") { (count / 2.0).max(1.0) } else { count };
        clusters.push(Cores { count, clock_ghz, per_cycle });
    }
    clusters
}

/// The clock in `3.0-4.8GHz`: nearer to the upper end, which all cores seldom hold.
fn clock(text: &str) -> Option<f64> {
    let word = text[..text.find("ghz")?].split_whitespace().next_back()?;
    let mut ends = word.split('-').filter_map(|number| number.parse::<f64>().ok());
    let first = ends.next()?;
    let value = ends.next_back().map_or(first, |last| 0.3 * first + 0.7 * last);
    (0.1..=10.0).contains(&value).then_some(value)
}

#[cfg(test)]
mod tests {
    use foretoken_devices::{FileFormat, find, read_devices};

    use super::*;

    fn cpu(id: &str) -> Machine {
        Machine::new(find(id).unwrap(), DeviceBackend::Cpu).unwrap()
    }

    #[test]
    fn figures_of_a_board() {
        let pi = cpu("raspberry-pi-5-8gb");
        assert_eq!((pi.cores, pi.clock_ghz, pi.dots), (4.0, 2.4, Dots::Dot));
        assert!((pi.per_cycle() - 16.0).abs() < 1e-9);
        assert!((pi.bandwidth_gbps.unwrap() - 17.1).abs() < 0.1);
        assert!(pi.is_twin(&cpu("raspberry-pi-5-16gb")));
        assert!(!pi.is_twin(&cpu("raspberry-pi-4-8gb")));
    }

    #[test]
    fn bins_of_one_die_are_twins() {
        let gpu = |id: &str, backend| Machine::new(find(id).unwrap(), backend).unwrap();
        for (one, other, backend) in [
            ("apple-m1-pro-gpu14", "apple-m1-pro-gpu16", DeviceBackend::Metal),
            ("apple-m2-gpu8", "apple-m2-gpu10", DeviceBackend::Metal),
            ("apple-m2-pro-gpu16", "apple-m2-pro-gpu19", DeviceBackend::Metal),
            ("apple-m2-max-gpu30", "apple-m2-max-gpu38", DeviceBackend::Metal),
            ("apple-m2-ultra-gpu60", "apple-m2-ultra-gpu76", DeviceBackend::Metal),
            ("l40s", "rtx-4090", DeviceBackend::Cuda),
            ("radeon-pro-w7900", "rx-7900-xtx", DeviceBackend::Rocm),
        ] {
            let (one, other) = (gpu(one, backend), gpu(other, backend));
            assert!(one.is_twin(&other) && other.is_twin(&one), "{one:?} {other:?}");
        }
        // What their figures alone would not tell.
        let (small, large) = ("apple-m2-max-gpu30", "apple-m2-max-gpu38");
        let small = Machine { die: None, ..gpu(small, DeviceBackend::Metal) };
        assert!(!small.is_twin(&gpu(large, DeviceBackend::Metal)));
        let (small, large) = ("rtx-4080", "rtx-4090");
        assert!(!gpu(small, DeviceBackend::Cuda).is_twin(&gpu(large, DeviceBackend::Cuda)));
        // Cores and graphics of one die are other machines.
        assert!(!cpu("apple-m2-max-cpu").is_twin(&gpu("apple-m2-max-gpu38", DeviceBackend::Metal)));
    }

    #[test]
    fn slow_cores_are_left_out() {
        let rock = cpu("rk3588-rock-5b");
        assert_eq!(rock.cores, 4.0, "of 4 Cortex-A76 and 4 Cortex-A55");
        assert_eq!(cpu("gb10-cpu").cores, 10.0);
    }

    #[test]
    fn a_card_has_its_generation_and_matrix_units() {
        let card = Machine::new(find("rtx-4090").unwrap(), DeviceBackend::Cuda).unwrap();
        assert_eq!((card.maker.as_str(), card.generation.as_str()), ("nvidia", "sm_89"));
        assert!((card.matrix_tflops / card.fp32_tflops - 4.0).abs() < 0.05);
        let spark = Machine::new(find("dgx-spark-gb10").unwrap(), DeviceBackend::Cuda).unwrap();
        assert_eq!(spark.generation, "blackwell");
    }

    #[test]
    fn words_of_a_table_are_enough() {
        let text = "device_id,name,kind,mem_bandwidth_gbps,cores,isa\n\
                    a,A,soc,17.1,4x Cortex-A76 2.4GHz,armv8.2 dotprod fp16\n\
                    b,B,cpu,89.6,8P+16E,avx2 avx-vnni\n\
                    c,C,cpu,51.2,4c 3.0-4.8GHz,avx512 vnni\n\
                    d,D,cpu,60,4 vCPU = 2 cores HT,avx512 vnni amx\n";
        let devices = read_devices(text, FileFormat::Csv, "x.csv").unwrap().devices;
        let machines: Vec<Machine> =
            devices.iter().map(|d| Machine::new(d, DeviceBackend::Cpu).unwrap()).collect();
        assert_eq!((machines[0].cores, machines[0].clock_ghz), (4.0, 2.4));
        assert_eq!(machines[0].generation, cpu("raspberry-pi-5-8gb").generation);
        assert_eq!(machines[1].cores, 8.0, "E-cores wait");
        assert!((machines[2].clock_ghz - (0.9 + 3.36)).abs() < 1e-9);
        assert_eq!((machines[3].cores, machines[3].dots), (2.0, Dots::Tiles));
        assert!(machines[3].is_rented);
    }

    #[test]
    fn makers_are_told_by_whole_words() {
        let of = |words: &str| gpu_generation(words, DeviceBackend::Vulkan);
        assert_eq!(of("aarch64 armv8.2 adreno 740").0, "adreno");
        assert_eq!(of("aarch64 search").0, "unknown");
        assert_eq!(of("deluxe pineapple mali-g710").0, "mali");
        assert_eq!(of("intel(r) arc(tm) a770"), ("intel", "xe".into()));
        assert_eq!(of("xe-hpg arc a770"), ("intel", "xe-hpg".into()));
        assert_eq!(of("8 xe2"), ("intel", "xe2".into()));
        assert_eq!(of("iris xe-lp"), ("intel", "xe-lp".into()));
        assert_eq!(of("armv8.5 / apple7"), ("apple", "apple-gpu".into()));
    }

    #[test]
    fn cores_beyond_reason_are_not_believed() {
        assert_eq!(cores_in_words("100000000000000000000x Cortex-A76 2.4GHz", 16.0), []);
        assert_eq!(cores_in_words("192x AmpereOne 3.2GHz", 16.0)[0].count, 192.0);
    }

    #[test]
    fn what_is_missing_is_named() {
        let bare = DeviceSpec::named("x", "X", DeviceKind::Gpu);
        let error = Machine::new(&bare, DeviceBackend::Cuda).unwrap_err().to_string();
        assert!(error.contains("peak_fp32_tflops"), "{error}");
        let error = Machine::new(&bare, DeviceBackend::Cpu).unwrap_err().to_string();
        assert!(error.contains("clusters"), "{error}");
        assert!(Machine::new(&bare, DeviceBackend::Npu).is_err());
    }

    #[test]
    fn what_is_assumed_is_said() {
        let read = |more: &str| {
            let text = format!("id = \"x\"\nkind = \"cpu\"\nmem_bandwidth_gbps = 51.2\n{more}\n");
            read_devices(&text, FileFormat::Toml, "x.toml").unwrap().devices.remove(0)
        };
        let assumed = |more: &str| assumptions(&read(more), DeviceBackend::Cpu);
        // Words that name known cores are as good as clusters.
        let words = read("peak_fp32_tflops = 0.768\ncores = \"8x zen3 @ 3.0 GHz\"");
        let clusters = read("clusters = [{ core = \"zen3\", count = 8, clock_ghz = 3.0 }]");
        let machine = |spec: &DeviceSpec| Machine::new(spec, DeviceBackend::Cpu).unwrap();
        assert_eq!(machine(&words), machine(&clusters));
        assert_eq!(assumptions(&words, DeviceBackend::Cpu), Vec::<String>::new());
        let some = assumed("cores = \"8x Secret\"");
        assert!(some[0].contains("`isa`") && some[1].contains("3 GHz assumed"), "{some:?}");
        assert_eq!(some.len(), 2);
        assert_eq!(assumed("cores = \"8x Secret 3.1 GHz\"\nisa = \"avx2\"").len(), 0);
        let card = DeviceSpec::named("y", "Y", DeviceKind::Gpu);
        assert_eq!(assumptions(&card, DeviceBackend::Vulkan).len(), 1);
    }
}
