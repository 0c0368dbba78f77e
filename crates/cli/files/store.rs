//! Where calibrations and datasets live: the project's folder, else the user's.
//!
//! A project is a folder with `calibration/` (or `datasets/`) in it; it comes first. Then come
//! `$FORETOKEN_HOME` and, without it, the platform's data folder.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use foretoken_spec::{Backend, Calibration, DeviceInfo};

use crate::files::read_calibration;
use crate::output::Hinted;

/// A calibration and its file.
#[derive(Debug, Clone)]
pub struct Stored {
    /// The file.
    pub path: PathBuf,
    /// What is in it.
    pub calibration: Calibration,
}

const CALIBRATION: &str = "calibration";
const DATASETS: &str = "datasets";
/// The model of all devices, beside the calibrations of single ones.
pub const CROSS_DEVICE: &str = "cross-device.json";

/// Where a new calibration goes.
pub fn calibration_folder() -> PathBuf {
    folders(CALIBRATION).into_iter().next().unwrap_or_else(|| PathBuf::from(CALIBRATION))
}

/// Where new measurements go.
pub fn datasets_folder() -> PathBuf {
    folders(DATASETS).into_iter().next().unwrap_or_else(|| PathBuf::from(DATASETS))
}

/// Every `.jsonl` of the first datasets folder that has one, sorted; without those of interrupted
/// calibrations, and without their proofs, which are no calibration data.
pub fn dataset_files() -> Vec<PathBuf> {
    let lists = folders(DATASETS).into_iter().map(|folder| {
        let mut files = files_with(&folder, "jsonl", 3);
        files.retain(|file| is_complete(file));
        files
    });
    lists.into_iter().find(|files| !files.is_empty()).unwrap_or_default()
}

fn is_complete(file: &Path) -> bool {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    !name.contains(".partial.") && !name.ends_with(".proof.jsonl")
}

/// The calibration with this id, or in this file.
///
/// # Errors
/// A file that cannot be read; an unknown id, with the known ones and the nearest.
pub fn find_calibration(argument: &str) -> anyhow::Result<Stored> {
    let path = Path::new(argument);
    if path.is_file() || argument.ends_with(".json") || path.components().count() > 1 {
        let path = path.to_owned();
        return Ok(Stored { calibration: read_calibration(&path)?, path });
    }
    let mut known = Vec::new();
    let mut broken = None;
    for path in all_files() {
        let named_so = path.file_stem().is_some_and(|stem| stem == argument);
        match read_calibration(&path) {
            Ok(calibration) if calibration.id == argument => {
                return Ok(Stored { path, calibration });
            }
            Ok(calibration) => known.push(calibration.id),
            Err(error) if named_so => broken = Some(error),
            Err(_) => {}
        }
    }
    Err(broken.unwrap_or_else(|| unknown(argument, &known).into()))
}

/// What there is for a machine, an engine and a number of threads.
#[derive(Debug, Clone)]
pub struct Newest {
    /// The newest calibration of exactly these.
    pub exact: Option<Stored>,
    /// The newest one for another number of threads.
    pub other_threads: Option<Stored>,
    /// Files that could not be read, each with the reason.
    pub warnings: Vec<String>,
}

/// The newest calibration of this device, engine and number of threads.
pub fn newest_calibration(device: &DeviceInfo, engine: &str, threads: u32) -> Newest {
    let mut found = Newest { exact: None, other_threads: None, warnings: Vec::new() };
    for path in all_files() {
        let calibration = match read_calibration(&path) {
            Ok(calibration) => calibration,
            Err(error) => {
                found.warnings.push(format!("left out: {error:#}"));
                continue;
            }
        };
        if calibration.engine.name != engine || !is_same_machine(&calibration.device, device) {
            continue;
        }
        // A GPU's host gives it work from one thread, however many it has.
        let best = if calibration.threads == threads || device.backend != Backend::Cpu {
            &mut found.exact
        } else {
            &mut found.other_threads
        };
        // RFC 3339 in UTC sorts by time.
        if best.as_ref().is_none_or(|best| best.calibration.time < calibration.time) {
            *best = Some(Stored { path, calibration });
        }
    }
    found
}

/// Whether two descriptions are of one kind of machine: the name alone hides other kernels
/// (vector extensions), another cache, and the processor that gives a GPU its work.
pub fn is_same_machine(a: &DeviceInfo, b: &DeviceInfo) -> bool {
    (&a.id, a.backend, &a.arch, &a.isa, a.l3_bytes, &a.host)
        == (&b.id, b.backend, &b.arch, &b.isa, b.l3_bytes, &b.host)
}

fn unknown(id: &str, known: &[String]) -> Hinted {
    let nearest = known
        .iter()
        .map(|candidate| (strsim::jaro_winkler(id, candidate), candidate))
        .filter(|(likeness, _)| *likeness > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    let hint = match (nearest, known) {
        (Some((_, id)), _) => format!("did you mean `{id}`? known: {}", known.join(", ")),
        (None, []) => "there is none yet; run `foretoken calibrate`".to_owned(),
        (None, _) => format!("known: {}", known.join(", ")),
    };
    Hinted::new(format!("no calibration `{id}`"), hint)
}

fn all_files() -> Vec<PathBuf> {
    let files = folders(CALIBRATION);
    let files = files.iter().flat_map(|folder| files_with(folder, "json", 2));
    files.filter(|file| !file.ends_with(CROSS_DEVICE)).collect()
}

/// Existing project folder first, then the user's.
fn folders(kind: &str) -> Vec<PathBuf> {
    let project = PathBuf::from(kind);
    let mut folders = Vec::new();
    if project.is_dir() {
        folders.push(project);
    }
    folders.extend(user_folder().map(|home| home.join(kind)));
    folders
}

fn user_folder() -> Option<PathBuf> {
    let variable = |name: &str| env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    if let Some(home) = variable("FORETOKEN_HOME") {
        return Some(home);
    }
    let data = if cfg!(windows) {
        variable("APPDATA")
    } else if cfg!(target_os = "macos") {
        variable("HOME").map(|home| home.join("Library/Application Support"))
    } else {
        variable("XDG_DATA_HOME").or_else(|| variable("HOME").map(|h| h.join(".local/share")))
    };
    data.map(|data| data.join("foretoken"))
}

/// Files with this extension, at most `depth` folders deep, sorted.
fn files_with(folder: &Path, extension: &str, depth: u32) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut files = Vec::new();
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        if path.is_dir() && depth > 0 {
            files.extend(files_with(&path, extension, depth - 1));
        } else if path.extension().is_some_and(|e| e == extension) {
            files.push(path);
        }
    }
    files.sort();
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_id_is_suggested() {
        let known = ["epyc-4c-candle".to_owned(), "m2-8c-candle".to_owned()];
        assert!(unknown("epic-4c-candle", &known).hint.contains("did you mean `epyc-4c-candle`"));
        assert!(unknown("zzz", &known).hint.starts_with("known: epyc"));
        assert!(unknown("x", &[]).hint.contains("foretoken calibrate"));
    }

    #[test]
    fn interrupted_runs_and_proofs_are_no_datasets() {
        for (name, expected) in [
            ("a.jsonl", true),
            ("a.partial.jsonl", false),
            ("a.partial.old-2.jsonl", false),
            ("a.proof.jsonl", false),
            ("waterproof.jsonl", true),
        ] {
            assert_eq!(is_complete(&Path::new("datasets").join(name)), expected, "{name}");
        }
    }

    #[test]
    fn another_instruction_set_or_cache_is_another_machine() {
        let here = foretoken_runner::processor_info();
        assert!(is_same_machine(&here, &DeviceInfo { os: "other".into(), ..here.clone() }));
        let isa = vec!["other".to_owned()];
        assert!(!is_same_machine(&here, &DeviceInfo { isa, ..here.clone() }));
        assert!(!is_same_machine(&here, &DeviceInfo { l3_bytes: Some(1), ..here.clone() }));
        let host = Some("other".to_owned());
        assert!(!is_same_machine(&here, &DeviceInfo { host, ..here.clone() }));
    }

    #[test]
    fn an_argument_that_looks_like_a_file_is_one() {
        let error = find_calibration("absent/x.json").unwrap_err();
        assert!(error.to_string().contains("cannot read absent/x.json"), "{error}");
    }
}
