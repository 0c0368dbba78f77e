//! The committed public store: readable as a whole, and every id has its meaning.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use foretoken_import::read_speed_rows;
use foretoken_spec::SpeedPhase;

fn store(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/public").join(name)
}

/// First column of a table.
fn ids(name: &str) -> BTreeSet<String> {
    let text = std::fs::read_to_string(store(name)).unwrap();
    text.lines().skip(1).filter_map(|line| Some(line.split_once(',')?.0.to_owned())).collect()
}

#[test]
fn every_device_and_model_has_its_line() {
    let rows = read_speed_rows(&store("measurements.csv")).unwrap();
    assert!(rows.len() > 3400, "{}", rows.len());
    let (devices, models) = (ids("devices.csv"), ids("models.csv"));
    for row in &rows {
        assert!(devices.contains(&row.device_id), "{}", row.device_id);
        assert!(models.contains(&row.model), "{}", row.model);
        assert!(row.source_url.is_some() && row.device_kind.is_some(), "{row:?}");
    }
}

#[test]
fn what_is_not_used_says_why_and_npus_are_never_used() {
    let rows = read_speed_rows(&store("measurements.csv")).unwrap();
    assert!(rows.iter().filter(|row| row.backend == "npu").all(|row| !row.is_usable()));
    let usable = rows.iter().filter(|row| row.is_usable());
    assert!(usable.clone().all(|row| row.phase != SpeedPhase::Mixed));
    // Whole numbers carry their resolution.
    let integers = Some("https://justine.lol/matmul/");
    let mut rounded = rows.iter().filter(|row| row.source_url.as_deref() == integers);
    assert!(rounded.all(|row| row.resolution == Some(1.0)));
    let excluded: Vec<_> = rows.iter().filter(|row| !row.is_usable()).collect();
    assert!(excluded.iter().all(|row| row.excluded.as_ref().is_some_and(|r| r.len() > 10)));
    assert!(excluded.len() < rows.len() / 20, "{}", excluded.len());
}
