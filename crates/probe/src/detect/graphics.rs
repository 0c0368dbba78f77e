//! Graphics processors that drivers tell of without a library: NVIDIA's `/proc`, the DRM's `/sys`,
//! and the clocks of those within a system on a chip.

use foretoken_spec::DetectedGpu;

use super::tree::{Tree, numbered};

/// Every graphics processor of a machine.
pub(super) fn gpus(tree: &Tree) -> Vec<DetectedGpu> {
    let mut gpus = nvidia(tree);
    gpus.extend(tegra(tree));
    gpus.extend(amd(tree));
    gpus
}

/// `/proc/driver/nvidia/gpus/*/information`.
fn nvidia(tree: &Tree) -> Vec<DetectedGpu> {
    const FOLDER: &str = "proc/driver/nvidia/gpus";
    let of = |name: &String| {
        let text = tree.read(format!("{FOLDER}/{name}/information"))?;
        let model = text.lines().find_map(|line| line.strip_prefix("Model:"))?;
        Some(gpu(model.trim()))
    };
    tree.names(FOLDER).iter().filter_map(of).collect()
}

/// The graphics processor of a Jetson: a `devfreq` device whose name ends in `.gpu` (Orin) or holds
/// `gv11b`, `gp10b` or `gm20b`.
fn tegra(tree: &Tree) -> Vec<DetectedGpu> {
    const FOLDER: &str = "sys/class/devfreq";
    let names = tree.names(FOLDER);
    let is_tegra =
        |name: &&String| ["gv11b", "gp10b", "gm20b", "ga10b"].iter().any(|c| name.contains(c));
    let found = names.iter().find(|name| name.ends_with(".gpu")).or(names.iter().find(is_tegra));
    let of = |name: &String| {
        let hertz = tree.number(format!("{FOLDER}/{name}/max_freq"));
        DetectedGpu { clock_ghz: hertz.map(|hz| hz / 1e9), ..gpu("NVIDIA Tegra") }
    };
    found.map(of).into_iter().collect()
}

/// AMD's driver tells the size of its memory, and the name of some.
fn amd(tree: &Tree) -> Vec<DetectedGpu> {
    const FOLDER: &str = "sys/class/drm";
    const AMD: &str = "0x1002";
    let names = tree.names(FOLDER);
    let cards = names.iter().filter(|name| numbered(name, "card").is_some());
    cards
        .filter_map(|card| {
            let folder = format!("{FOLDER}/{card}/device");
            (tree.read(format!("{folder}/vendor"))? == AMD).then_some(())?;
            let name = tree.read(format!("{folder}/product_name"));
            let memory = tree.number(format!("{folder}/mem_info_vram_total"));
            Some(DetectedGpu {
                memory_bytes: memory.map(|bytes| bytes as u64),
                ..gpu(name.as_deref().unwrap_or("AMD graphics"))
            })
        })
        .collect()
}

fn gpu(name: &str) -> DetectedGpu {
    DetectedGpu { name: name.to_owned(), memory_bytes: None, clock_ghz: None, device: None }
}
