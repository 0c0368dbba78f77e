//! Running the binary, each test in its own folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

/// A folder of its own, without any calibration of the user's, in which the binary runs.
pub struct Sandbox {
    folder: TempDir,
}

impl Sandbox {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file and answers its name.
    pub fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
        name.to_owned()
    }

    /// Writes a copy of a JSON fixture in which the value at `pointer` is `value`, or gone where
    /// there is none.
    pub fn changed(&self, fixture_name: &str, pointer: &str, value: Option<Value>) -> String {
        let mut json: Value = serde_json::from_str(&read_fixture(fixture_name)).unwrap();
        change(&mut json, pointer, value);
        self.file(fixture_name, json.to_string())
    }

    /// The binary, ready to be given arguments.
    pub fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_foretoken"));
        command
            .current_dir(self.folder.path())
            .env("FORETOKEN_HOME", self.path("home"))
            .env("COLUMNS", "100")
            .env_remove("RAYON_NUM_THREADS");
        command
    }

    pub fn run(&self, args: &[&str]) -> Run {
        Run::of(self.command().args(args).output().unwrap(), args)
    }

    /// Runs what must succeed.
    pub fn good(&self, args: &[&str]) -> Run {
        let run = self.run(args);
        assert_eq!(run.code, 0, "{args:?}: {}", run.stderr);
        run
    }

    /// Runs what must fail with exit code 2, one line `error: …` and nothing on standard output.
    pub fn error(&self, args: &[&str]) -> String {
        let run = self.run(args);
        assert_eq!(run.code, 2, "{args:?}: {}{}", run.stdout, run.stderr);
        assert_eq!(run.stdout, "", "{args:?}");
        let mut lines = run.stderr.lines().filter(|line| !line.starts_with("warning: "));
        let error = lines.next().unwrap_or_default();
        assert!(error.starts_with("error: "), "{args:?}: {}", run.stderr);
        let hint = lines.next();
        assert!(hint.is_none_or(|line| line.starts_with("hint: ")), "{args:?}: {}", run.stderr);
        assert_eq!(lines.next(), None, "{args:?}: {}", run.stderr);
        run.stderr
    }

    /// Checks that an error says all of `words`.
    pub fn error_says(&self, args: &[&str], words: &[&str]) {
        let stderr = self.error(args);
        for word in words {
            assert!(stderr.contains(word), "{args:?} does not say `{word}`: {stderr}");
        }
    }
}

/// Puts `value` at `pointer`, or takes away what is there.
pub fn change(json: &mut Value, pointer: &str, value: Option<Value>) {
    match value {
        Some(value) => *json.pointer_mut(pointer).unwrap() = value,
        None => {
            let (parent, field) = pointer.rsplit_once('/').unwrap();
            let object = json.pointer_mut(parent).unwrap().as_object_mut().unwrap();
            assert!(object.remove(field).is_some(), "there is no {pointer}");
        }
    }
}

/// Checks that an object has all of these fields.
pub fn has_fields(object: &Value, names: &[&str]) {
    for name in names {
        assert!(object.get(name).is_some(), "`{name}` is not in {object}");
    }
}

/// What a run of the binary left.
pub struct Run {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Run {
    pub fn of(output: Output, args: &[&str]) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self {
            code: output.status.code().unwrap_or_else(|| panic!("{args:?} was killed")),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap()
    }
}

/// A file of `tests/fixtures`.
pub fn fixture(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    path.to_str().unwrap().to_owned()
}

/// The text of a file of `tests/fixtures`.
pub fn read_fixture(name: &str) -> String {
    fs::read_to_string(fixture(name)).unwrap()
}

/// A line that `measure` writes on this machine.
pub fn line_of_this_machine(sandbox: &Sandbox) -> Value {
    let model = fixture("config.json");
    let args = ["measure", &model, "--prompt", "8", "--gen", "2", "--repeat", "1", "--quiet"];
    sandbox.good(&[&args[..], &["--out", "here.jsonl"]].concat());
    let text = fs::read_to_string(sandbox.path("here.jsonl")).unwrap();
    serde_json::from_str(text.lines().next().unwrap()).unwrap()
}
