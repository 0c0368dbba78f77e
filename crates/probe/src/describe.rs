//! A device of what was detected and measured, beside the catalogue's entry.

use foretoken_devices::derive;
use foretoken_spec::{
    CatalogueMatch, Confidence, DetectedMachine, DeviceBackend, DeviceClass, DeviceKind,
    DeviceSpec, FigureBasis, FigureDifference, FigureSource, Probed,
};

use crate::recognise::{recognise, recognise_gpu, sold_size};

/// What a probe makes of its findings.
#[derive(Debug, Clone, PartialEq)]
pub struct Description {
    /// The device, for a file.
    pub device: DeviceSpec,
    /// The device of the catalogue that it is.
    pub catalogue: Option<CatalogueMatch>,
    /// What a reader should know.
    pub warnings: Vec<String>,
}

/// Describes a machine: the catalogue's figures where it knows the machine, so that the file means
/// what data sheets mean; what was detected, and what follows from it, where it does not.
///
/// What was measured is kept apart in `probe`. Only the bandwidth takes a figure's place where no
/// data sheet gives one, and says so: it is what threads achieved.
pub fn describe(
    machine: &mut DetectedMachine,
    probed: Probed,
    catalogue: &[DeviceSpec],
) -> Description {
    for gpu in &mut machine.gpus {
        let known = recognise_gpu(&gpu.name, gpu.memory_bytes, catalogue);
        gpu.device = known.map(|device| device.id.clone());
    }
    let mut warnings = Vec::new();
    let known = recognise(machine, catalogue);
    let found = own_figures(machine);
    let mut device = match known {
        Some(known) => known.clone(),
        None => found.clone(),
    };
    if known.is_some() && machine.hypervisor == Some(true) && !is_guest(&device) {
        warnings.push(format!(
            "this machine is a guest: the figures of `{}` are those of a whole one",
            device.id
        ));
        keep_own(&mut device, &found);
    }
    if let Some(gb) = found.mem_gb {
        device.mem_gb = Some(gb);
        device.sources.insert("mem_gb".into(), system("MemTotal, as it is sold"));
    }
    fill_measured(&mut device, &probed);
    warnings.extend(known.and_then(|known| tiles_warning(known, machine)));
    let catalogue = known.map(|known| CatalogueMatch {
        id: known.id.clone(),
        name: known.name.clone(),
        differences: differences(known, &found, &probed),
    });
    device.probe = Some(probed);
    Description { device, catalogue, warnings }
}

fn is_guest(device: &DeviceSpec) -> bool {
    device.class == Some(DeviceClass::VirtualMachine)
}

/// Of a guest, the cores are its own, and so is what follows from them.
fn keep_own(device: &mut DeviceSpec, found: &DeviceSpec) {
    device.id = format!("{}-guest", device.id);
    device.name = format!("{} (guest)", device.name);
    device.aliases = Vec::new();
    device.class = Some(DeviceClass::VirtualMachine);
    device.clusters.clone_from(&found.clusters);
    device.cores.clone_from(&found.cores);
    let own = [
        ("peak_fp16_tflops", found.peak_fp16_tflops),
        ("peak_fp32_tflops", found.peak_fp32_tflops),
        ("peak_int8_tops", found.peak_int8_tops),
        ("l2_kb", found.l2_kb),
    ];
    let places = [
        &mut device.peak_fp16_tflops,
        &mut device.peak_fp32_tflops,
        &mut device.peak_int8_tops,
        &mut device.l2_kb,
    ];
    for ((name, value), place) in own.into_iter().zip(places) {
        *place = value;
        match found.sources.get(name) {
            Some(source) => drop(device.sources.insert(name.into(), source.clone())),
            None => drop(device.sources.remove(name)),
        }
    }
    device.sources.insert("clusters".into(), system("topology and clocks"));
}

fn system(source: &str) -> FigureSource {
    FigureSource {
        basis: FigureBasis::Stated,
        confidence: Confidence::High,
        source: format!("the system: {source}"),
    }
}

/// A device of what the system says alone.
fn own_figures(machine: &DetectedMachine) -> DeviceSpec {
    let name = machine.model.as_ref().filter(|_| machine.arch != "x86_64");
    let name = name.or(machine.processor.as_ref()).or(machine.model.as_ref());
    let name = name.map_or_else(|| "unknown device".to_owned(), |name| name.trim().to_owned());
    let kind = if machine.arch == "x86_64" { DeviceKind::Cpu } else { DeviceKind::Soc };
    let id = id_of(&name, machine.physical_cores);
    let mut spec = DeviceSpec::named(id, name, kind);
    spec.backends = vec![DeviceBackend::Cpu];
    spec.class = (machine.hypervisor == Some(true)).then_some(DeviceClass::VirtualMachine);
    spec.clusters.clone_from(&machine.clusters);
    spec.isa = (!machine.isa.is_empty()).then(|| machine.isa.join(" "));
    if spec.clusters.is_empty() && machine.physical_cores > 0 {
        spec.cores = Some(format!("{} cores", machine.physical_cores));
    }
    spec.mem_gb = machine
        .memory_bytes
        .map(|bytes| sold_size(bytes).map_or_else(|| gib(bytes), |gb| gb as f64));
    let cache = |level| machine.caches.iter().find(|cache| cache.level == level);
    spec.l2_kb = cache(2).map(|cache| cache.total_kib);
    spec.l3_mb = cache(3).map(|cache| cache.total_kib / 1024.0);
    // A guest sees the clock of this moment and, often, the caches of the whole machine.
    let mut source = system("topology, clocks and caches");
    if machine.hypervisor == Some(true) {
        source.confidence = Confidence::Medium;
    }
    derive::fill(&mut spec, &source);
    spec
}

fn gib(bytes: u64) -> f64 {
    (bytes as f64 / (1u64 << 30) as f64 * 10.0).round() / 10.0
}

/// Lower case, dashes, and the cores.
fn id_of(name: &str, cores: u32) -> String {
    let name = name.to_lowercase().replace("(r)", " ").replace("(tm)", " ");
    let before_clock = name.split('@').next().unwrap_or_default();
    let words = before_clock
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty() && !["cpu", "processor"].contains(word));
    let mut words: Vec<&str> = words.collect();
    if words.is_empty() {
        words.push("device");
    }
    format!("{}-{cores}c", words.join("-"))
}

/// The best of all numbers of threads.
struct Best {
    dram_gbps: Option<(f64, u32)>,
    fp32: Option<f64>,
    fp16: Option<f64>,
    int8: Option<f64>,
}

fn best(probed: &Probed) -> Best {
    let dram = probed.bandwidth.iter().filter(|point| point.level == "DRAM");
    let dram = dram.max_by(|a, b| a.read_gbps.total_cmp(&b.read_gbps));
    let of = |number_type: &str| {
        let points = probed.arithmetic.iter().filter(|point| point.number_type == number_type);
        points.map(|point| point.giga_operations_per_second / 1e3).reduce(f64::max)
    };
    Best {
        dram_gbps: dram.map(|point| (point.read_gbps, point.threads)),
        fp32: of("f32"),
        fp16: of("f16"),
        int8: of("int8"),
    }
}

/// Figures that no data sheet gives, by what was measured.
fn fill_measured(device: &mut DeviceSpec, probed: &Probed) {
    let best = best(probed);
    let is_busy = probed.contention.is_some_and(|contention| contention.is_busy);
    let measured = |source: String| FigureSource {
        basis: FigureBasis::Measured,
        confidence: if is_busy { Confidence::Low } else { Confidence::Medium },
        source: match is_busy {
            true => format!("{source}; while the machine was busy, so that it is too little"),
            false => source,
        },
    };
    if let (None, Some((gbps, threads))) = (device.mem_bandwidth_gbps, best.dram_gbps) {
        device.mem_bandwidth_gbps = Some(derive::rounded(gbps));
        let plural = if threads == 1 { "" } else { "s" };
        let source = format!(
            "achieved by reading with {threads} thread{plural}; the data sheet of the memory would \
             say more"
        );
        device.sources.insert("mem_bandwidth_gbps".into(), measured(source));
    }
    if device.peak_fp32_tflops.is_none()
        && let Some(fp32) = best.fp32
    {
        device.peak_fp32_tflops = Some(derive::rounded(fp32));
        let source = "achieved by multiply-adds in registers; a peak is somewhat more";
        device.sources.insert("peak_fp32_tflops".into(), measured(source.into()));
    }
    // A drive is this machine's, whatever the data sheet of its kind says.
    if let Some(storage) = probed.storage.as_ref().filter(|storage| !storage.may_be_cached) {
        device.storage_bandwidth_mbps = Some(derive::rounded(storage.read_mbps));
        let source = format!("reading a file with {}", storage.method);
        device.sources.insert("storage_bandwidth_mbps".into(), measured(source));
    }
}

/// Whether a data sheet's int8 peak is that of tiles (AMX), which no loop of the probe runs.
fn has_tiles(device: &DeviceSpec) -> bool {
    device.isa.iter().flat_map(|isa| isa.split_whitespace()).any(|word| word == "amx")
}

fn tiles_warning(known: &DeviceSpec, machine: &DetectedMachine) -> Option<String> {
    let is_x86 = machine.arch == "x86_64";
    (is_x86 && has_tiles(known)).then(|| {
        "int8 is not compared: the catalogue's peak is that of tiles (AMX), and vectors alone were \
         measured"
            .to_owned()
    })
}

/// Every figure that the catalogue's entry and the findings both have.
fn differences(known: &DeviceSpec, found: &DeviceSpec, probed: &Probed) -> Vec<FigureDifference> {
    let best = best(probed);
    let runs_cpu_first = known.backends.first().is_none_or(|b| *b == DeviceBackend::Cpu);
    let peaks = foretoken_devices::peaks(known, DeviceBackend::Cpu);
    let clock =
        |spec: &DeviceSpec| spec.clusters.iter().map(|cluster| cluster.clock_ghz).reduce(f64::max);
    let storage = probed.storage.as_ref().filter(|storage| !storage.may_be_cached);
    let stated = FigureBasis::Stated;
    let measured = FigureBasis::Measured;
    let l2 = if runs_cpu_first { known.l2_kb } else { None };
    let rows = [
        ("cores", known.n_cores().map(f64::from), found.n_cores().map(f64::from), stated),
        ("clusters[].clock_ghz", clock(known), clock(found), stated),
        ("mem_gb", known.mem_gb, found.mem_gb, stated),
        ("l2_kb", l2, found.l2_kb, stated),
        ("l3_mb", known.l3_mb, found.l3_mb, stated),
        ("mem_bandwidth_gbps", known.mem_bandwidth_gbps, best.dram_gbps.map(|b| b.0), measured),
        ("peak_fp32_tflops", peaks.fp32, best.fp32, measured),
        ("peak_fp16_tflops", peaks.fp16, best.fp16, measured),
        // Vectors are measured, tiles are not.
        ("peak_int8_tops", peaks.int8.filter(|_| !has_tiles(known)), best.int8, measured),
        (
            "storage_bandwidth_mbps",
            known.storage_bandwidth_mbps,
            storage.map(|storage| storage.read_mbps),
            measured,
        ),
    ];
    let both = rows.into_iter().filter_map(|(figure, catalogue, found, basis)| {
        let (catalogue, found) = (catalogue?, found?);
        let found = derive::rounded(found);
        let ratio = found / catalogue;
        let figure = figure.to_owned();
        Some(FigureDifference { figure, catalogue, found, basis, ratio })
    });
    both.collect()
}

#[cfg(test)]
mod tests;
