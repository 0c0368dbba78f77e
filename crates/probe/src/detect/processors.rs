//! Processors: `/proc/cpuinfo`, and topology, clocks and caches of `/sys/devices/system/cpu`.

use std::collections::BTreeMap;

use foretoken_spec::{CoreCluster, DetectedCache};

use super::tree::{Tree, cache_kib, cpu_list, numbered};
use super::{arm, x86};

const CPUS: &str = "sys/devices/system/cpu";

/// `/proc/cpuinfo`: a block for each processor, and the lines about all of them.
#[derive(Debug, Default)]
pub(super) struct CpuInfo {
    /// Fields of each processor, by its number.
    pub(super) processors: BTreeMap<u32, BTreeMap<String, String>>,
    /// Fields of the last block without a number (`Hardware`, `Model`).
    all: BTreeMap<String, String>,
}

/// Reads `/proc/cpuinfo`, and adds processors that only `/sys` knows.
pub(super) fn cpuinfo(tree: &Tree) -> CpuInfo {
    let mut info = CpuInfo::default();
    let text = tree.read("proc/cpuinfo").unwrap_or_default();
    for block in text.split("\n\n") {
        let fields: BTreeMap<String, String> = block
            .lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()))
            .collect();
        match fields.get("processor").and_then(|n| n.parse().ok()) {
            Some(number) => drop(info.processors.insert(number, fields)),
            None => info.all.extend(fields),
        }
    }
    if info.processors.is_empty() {
        let numbers = tree.names(CPUS).into_iter().filter_map(|name| numbered(&name, "cpu"));
        info.processors = numbers.map(|number| (number, BTreeMap::new())).collect();
    }
    info
}

impl CpuInfo {
    fn field(&self, name: &str) -> Option<&str> {
        let of_processors = self.processors.values().find_map(|fields| fields.get(name));
        of_processors.or_else(|| self.all.get(name)).map(String::as_str)
    }

    /// Name of the processor: x86 states it, Arm sometimes the hardware.
    pub(super) fn name(&self) -> Option<String> {
        let fields = ["model name", "Hardware", "uarch", "cpu model"];
        let name = fields.iter().find_map(|name| self.field(name));
        // Arm's kernels write the version of the architecture where x86's write the name.
        name.filter(|name| !name.starts_with("ARMv")).map(str::to_owned)
    }

    /// Instruction set, by the fields that only it has.
    pub(super) fn arch(&self) -> String {
        let arch = match self.field("CPU architecture") {
            Some("8" | "9" | "AArch64") => "aarch64",
            Some(_) => "arm",
            None if self.field("isa").is_some() => "riscv64",
            None if self.field("vendor_id").is_some() => "x86_64",
            None => std::env::consts::ARCH,
        };
        arch.to_owned()
    }
}

/// Vector extensions by which kernels choose.
pub(super) fn isa(info: &CpuInfo) -> Vec<String> {
    let found = match (info.field("flags"), info.field("Features"), info.field("isa")) {
        (Some(flags), _, _) => x86::extensions(flags),
        (None, Some(features), _) => arm::extensions(features),
        (None, None, Some(isa)) => return vec![isa.to_owned()],
        _ => Vec::new(),
    };
    found.into_iter().map(str::to_owned).collect()
}

/// Whether the machine is a guest: x86 says so in its flags, others by what runs them. `None` where
/// nothing tells: no sign of a hypervisor is none of its absence.
pub(super) fn virtual_machine(tree: &Tree, info: &CpuInfo) -> Option<bool> {
    if let Some(flags) = info.field("flags") {
        return Some(flags.split_whitespace().any(|flag| flag == "hypervisor"));
    }
    let dmi = |name: &str| {
        let text = tree.read(format!("sys/class/dmi/id/{name}"));
        text.unwrap_or_default().to_lowercase()
    };
    let (vendor, product) = (dmi("sys_vendor"), dmi("product_name"));
    // Whole machines of a cloud say so: `c7g.metal`.
    let is_whole = product.contains("metal");
    let of_dmi = !is_whole
        && (GUEST_VENDORS.iter().any(|word| vendor.contains(word))
            || GUEST_PRODUCTS.iter().any(|word| product.contains(word)));
    // Xen, KVM and pKVM put a node into the tree of their guests; QEMU has a board of its own.
    let board = tree.read("proc/device-tree/compatible").unwrap_or_default();
    let of_tree = tree.read("proc/device-tree/hypervisor/compatible").is_some()
        || board.lines().any(|name| name == "linux,dummy-virt");
    let is_guest = tree.read("sys/hypervisor/type").is_some() || of_dmi || of_tree;
    is_guest.then_some(true)
}

/// Makers (DMI) whose machines are guests.
const GUEST_VENDORS: [&str; 10] = [
    "qemu",
    "amazon ec2",
    "google",
    "vmware",
    "innotek",
    "xen",
    "parallels",
    "alibaba cloud",
    "digitalocean",
    "openstack",
];
/// Products (DMI) that are guests, whoever made them.
const GUEST_PRODUCTS: [&str; 7] = [
    "virtual machine",
    "virtualbox",
    "apple virtualization",
    "kvm",
    "vserver",
    "hvm domu",
    "compute engine",
];

/// One physical core.
struct Core {
    name: String,
    mhz: f64,
    l2_kb: Option<f64>,
}

/// Cores by type and clock, fastest first, and how many there are. Clusters are empty where a
/// clock is not known.
pub(super) fn physical_clusters(tree: &Tree, info: &CpuInfo) -> (Vec<CoreCluster>, u32) {
    // Processors that share a core have the same siblings: the first of them stands for it.
    let mut cores: BTreeMap<u32, Core> = BTreeMap::new();
    for (&number, fields) in &info.processors {
        let first = siblings(tree, number).into_iter().min().unwrap_or(number);
        cores.entry(first).or_insert_with(|| core(tree, number, fields));
    }
    let count = u32::try_from(cores.len()).unwrap_or(u32::MAX);
    if cores.values().any(|core| core.mhz <= 0.0) {
        return (Vec::new(), count);
    }
    let mut clusters: Vec<CoreCluster> = Vec::new();
    for core in cores.values() {
        let clock_ghz = (core.mhz / 10.0).round() / 100.0;
        let same = clusters.iter_mut().find(|cluster| {
            cluster.core == core.name
                && cluster.clock_ghz == clock_ghz
                && cluster.l2_kb == core.l2_kb
        });
        match same {
            Some(cluster) => cluster.count += 1,
            None => clusters.push(CoreCluster {
                core: core.name.clone(),
                count: 1,
                clock_ghz,
                l2_kb: core.l2_kb,
                fp32_per_cycle: None,
                fp16_per_cycle: None,
                int8_per_cycle: None,
            }),
        }
    }
    clusters.sort_by(|a, b| b.clock_ghz.total_cmp(&a.clock_ghz));
    (clusters, count)
}

fn siblings(tree: &Tree, number: u32) -> Vec<u32> {
    let topology = format!("{CPUS}/cpu{number}/topology");
    let lists = ["core_cpus_list", "thread_siblings_list"];
    let list = lists.iter().find_map(|name| tree.read(format!("{topology}/{name}")));
    list.map(|text| cpu_list(&text)).unwrap_or_default()
}

fn core(tree: &Tree, number: u32, fields: &BTreeMap<String, String>) -> Core {
    Core {
        name: core_name(tree, number, fields).unwrap_or("unknown").to_owned(),
        mhz: clock_mhz(tree, number, fields).unwrap_or(0.0),
        l2_kb: l2_kb(tree, number),
    }
}

fn core_name(tree: &Tree, number: u32, fields: &BTreeMap<String, String>) -> Option<&'static str> {
    let field = |name: &str| fields.get(name).map(String::as_str);
    if let (Some(implementer), Some(part)) = (field("CPU implementer"), field("CPU part")) {
        return arm::core_name(implementer, part);
    }
    if let Some(uarch) = field("uarch") {
        return riscv_core(uarch);
    }
    let family = field("cpu family")?.parse().ok()?;
    let model = field("model")?.parse().ok()?;
    let small = tree.read("sys/devices/cpu_atom/cpus").map(|text| cpu_list(&text));
    let is_small = small.is_some_and(|small| small.contains(&number));
    let size = if is_small { x86::CoreSize::Small } else { x86::CoreSize::Big };
    x86::core_name(field("vendor_id")?, family, model, field("flags").unwrap_or_default(), size)
}

fn riscv_core(uarch: &str) -> Option<&'static str> {
    match uarch {
        "spacemit,x60" => Some("spacemit-x60"),
        "sifive,u74-mc" | "sifive,bullet0" | "sifive,u74" => Some("u74"),
        "eswin,eic770x" | "sifive,p550" => Some("p550"),
        _ => None,
    }
}

/// The highest clock: of cpufreq, else the present one of `/proc/cpuinfo`, which is all that
/// guests know.
fn clock_mhz(tree: &Tree, number: u32, fields: &BTreeMap<String, String>) -> Option<f64> {
    let folder = format!("{CPUS}/cpu{number}/cpufreq");
    let files = ["cpuinfo_max_freq", "scaling_max_freq"];
    let kilohertz = files.iter().find_map(|name| tree.number(format!("{folder}/{name}")));
    let present = || fields.get("cpu MHz").and_then(|text| text.parse::<f64>().ok());
    kilohertz.map(|khz| khz / 1e3).or_else(present).filter(|mhz| mhz.is_finite())
}

/// A core's share of its second-level cache, KiB.
fn l2_kb(tree: &Tree, number: u32) -> Option<f64> {
    let cache = cache_entries(tree, number).into_iter().find(|cache| cache.level == 2)?;
    let cores: Vec<u32> =
        cache.shared.iter().filter_map(|cpu| siblings(tree, *cpu).into_iter().min()).collect();
    let mut distinct = cores.clone();
    distinct.sort_unstable();
    distinct.dedup();
    Some(cache.kib / distinct.len().max(1) as f64)
}

/// A cache of one processor.
struct CacheEntry {
    level: u32,
    kib: f64,
    shared: Vec<u32>,
}

/// Caches of one processor that hold data.
fn cache_entries(tree: &Tree, number: u32) -> Vec<CacheEntry> {
    let folder = format!("{CPUS}/cpu{number}/cache");
    let names = tree.names(&folder);
    let indices = names.iter().filter(|name| numbered(name, "index").is_some());
    indices
        .filter_map(|index| {
            let read = |name: &str| tree.read(format!("{folder}/{index}/{name}"));
            let kind = read("type")?;
            (kind != "Instruction").then_some(())?;
            Some(CacheEntry {
                level: read("level")?.parse().ok()?,
                kib: cache_kib(&read("size")?)?,
                shared: cpu_list(&read("shared_cpu_list").unwrap_or_else(|| number.to_string())),
            })
        })
        .collect()
}

/// Caches for data by level, those that processors share once.
pub(super) fn caches(tree: &Tree) -> Vec<DetectedCache> {
    let numbers: Vec<u32> =
        tree.names(CPUS).iter().filter_map(|name| numbered(name, "cpu")).collect();
    let mut distinct: BTreeMap<(u32, Vec<u32>), f64> = BTreeMap::new();
    for number in numbers {
        for cache in cache_entries(tree, number) {
            distinct.insert((cache.level, cache.shared), cache.kib);
        }
    }
    let mut levels: BTreeMap<u32, DetectedCache> = BTreeMap::new();
    for ((level, _), kib) in distinct {
        let cache = levels.entry(level).or_insert(DetectedCache {
            level,
            kib,
            smallest_kib: None,
            count: 0,
            total_kib: 0.0,
        });
        if kib != cache.kib {
            let smallest = cache.smallest_kib.unwrap_or(cache.kib);
            cache.smallest_kib = Some(smallest.min(kib));
        }
        cache.kib = cache.kib.max(kib);
        cache.count += 1;
        cache.total_kib += kib;
    }
    levels.into_values().collect()
}
