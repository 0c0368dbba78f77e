//! Recorded trees in memory, whose numbers tests move.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use crate::{Meter, Tree, Value};

/// Files as lines of `PATH = TEXT`; `!denied` stands for a file that only root reads.
#[derive(Debug)]
pub(crate) struct Recorded(Mutex<BTreeMap<String, String>>);

impl Recorded {
    pub(crate) fn of(text: &str) -> Arc<Self> {
        let lines = text.lines().filter(|line| line.starts_with('/'));
        let files = lines
            .map(|line| {
                let (path, text) = line.split_once(" = ").unwrap();
                (path.to_owned(), text.to_owned())
            })
            .collect();
        Arc::new(Self(Mutex::new(files)))
    }

    pub(crate) fn as_tree(self: &Arc<Self>) -> Arc<dyn Tree> {
        Arc::<Self>::clone(self)
    }

    pub(crate) fn set(&self, path: &str, text: &str) {
        self.0.lock().unwrap().insert(path.to_owned(), text.to_owned());
    }

    pub(crate) fn add(&self, path: &str, step: u64) {
        let now: u64 = self.read(path).unwrap().trim().parse().unwrap();
        self.set(path, &(now + step).to_string());
    }

    pub(crate) fn remove(&self, path: &str) {
        self.0.lock().unwrap().remove(path);
    }
}

impl Tree for Recorded {
    fn read(&self, path: &str) -> io::Result<String> {
        let files = self.0.lock().unwrap();
        match files.get(path).map(String::as_str) {
            Some("!denied") => Err(io::ErrorKind::PermissionDenied.into()),
            Some(text) => Ok(format!("{text}\n")),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn list(&self, path: &str) -> Vec<String> {
        let files = self.0.lock().unwrap();
        let prefix = format!("{path}/");
        let mut names: Vec<String> = files
            .keys()
            .filter_map(|file| file.strip_prefix(&prefix)?.split('/').next())
            .map(str::to_owned)
            .collect();
        names.sort();
        names.dedup();
        names
    }
}

pub(crate) fn joules(meter: &mut dyn Meter) -> f64 {
    match meter.read().unwrap().value {
        Value::Joules(joules) => joules,
        Value::Watts(_) => panic!("a counter was expected"),
    }
}

pub(crate) fn watts(meter: &mut dyn Meter) -> f64 {
    match meter.read().unwrap().value {
        Value::Watts(watts) => watts,
        Value::Joules(_) => panic!("a power was expected"),
    }
}
