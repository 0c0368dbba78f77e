//! What the system says of a machine.

mod arm;
mod graphics;
#[cfg(any(target_os = "macos", test))]
mod macos;
mod processors;
mod tree;
mod x86;

#[cfg(not(target_os = "macos"))]
use std::path::Path;

use foretoken_spec::DetectedMachine;

use processors::{caches, cpuinfo, isa, physical_clusters, virtual_machine};
pub use tree::Tree;

/// The running machine.
pub fn detect_here() -> DetectedMachine {
    #[cfg(target_os = "macos")]
    return macos::detect();
    #[cfg(not(target_os = "macos"))]
    detect(&Tree::at(Path::new("/")))
}

/// The machine whose files these are.
///
/// Linux and Android: `/proc/cpuinfo` and `/proc/meminfo`, the topology, caches and clocks of
/// `/sys/devices/system/cpu`, the device tree, DMI, Android's properties, and what the drivers of
/// graphics processors tell. Whatever is absent stays unknown.
pub fn detect(tree: &Tree) -> DetectedMachine {
    let info = cpuinfo(tree);
    let (clusters, physical_cores) = physical_clusters(tree, &info);
    DetectedMachine {
        model: model(tree),
        chip: chip(tree),
        processor: info.name(),
        arch: info.arch(),
        isa: isa(&info),
        clusters,
        physical_cores,
        logical_cores: u32::try_from(info.processors.len()).unwrap_or(u32::MAX),
        caches: caches(tree),
        memory_bytes: memory_bytes(tree),
        gpus: graphics::gpus(tree),
        hypervisor: virtual_machine(tree, &info),
    }
}

/// Name of the board by the device tree, else of the phone by Android, else of the computer by DMI.
fn model(tree: &Tree) -> Option<String> {
    let of_tree = ["proc/device-tree/model", "sys/firmware/devicetree/base/model"];
    let of_tree = of_tree.iter().find_map(|path| tree.read(path));
    let dmi = |name: &str| tree.read(format!("sys/class/dmi/id/{name}"));
    let of_dmi = || match (dmi("sys_vendor"), dmi("product_name")) {
        (Some(vendor), Some(product)) => Some(format!("{vendor} {product}")),
        (vendor, product) => vendor.or(product),
    };
    property(tree, "ro.product.model").or(of_tree).or_else(of_dmi)
}

/// Names of the chip: the `compatible` list of the device tree, Android's properties.
fn chip(tree: &Tree) -> Vec<String> {
    let of_tree = ["proc/device-tree/compatible", "sys/firmware/devicetree/base/compatible"];
    let of_tree = of_tree.iter().find_map(|path| tree.read(path)).unwrap_or_default();
    let mut names: Vec<String> = of_tree.lines().map(str::to_owned).collect();
    for name in ["ro.soc.manufacturer", "ro.soc.model", "ro.board.platform"] {
        names.extend(property(tree, name));
    }
    names.retain(|name| !name.is_empty());
    names
}

/// A property of Android.
fn property(tree: &Tree, name: &str) -> Option<String> {
    const FILES: [&str; 3] = ["vendor/build.prop", "system/build.prop", "system/vendor/build.prop"];
    FILES.iter().find_map(|file| {
        let text = tree.read(file)?;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        line.map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
    })
}

/// `MemTotal` of `/proc/meminfo`: what the kernel has, some per cent less than is soldered on.
fn memory_bytes(tree: &Tree) -> Option<u64> {
    let text = tree.read("proc/meminfo")?;
    let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
pub(crate) mod tests;
