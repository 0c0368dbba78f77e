//! One process of llama-bench: some tests of one model at one depth.

use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use foretoken_import::{Origin, read_llama_bench};
use foretoken_spec::{BenchDetails, SpeedRow};

use crate::{BenchError, LlamaBench};

/// Tests of one model at one depth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BenchTests {
    /// Prompts, each a test of its own (`pp`).
    pub prompts: Vec<u32>,
    /// Tokens to generate; 0 is no such test (`tg`).
    pub generate: u32,
    /// Tokens in the cache before each.
    pub depth: u32,
    /// Timed repetitions of each.
    pub repeats: u32,
    /// Threads.
    pub threads: u32,
}

/// One test with the time of each repetition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimedTest {
    /// Tokens of the prompt; 0 where tokens were generated.
    pub n_prompt: u32,
    /// Tokens generated; 0 where a prompt was processed.
    pub n_gen: u32,
    /// Tokens in the cache before.
    pub n_depth: u32,
    /// Time of each repetition of the whole test, ns.
    pub samples_ns: Vec<u64>,
}

/// Which llama.cpp it was, on what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Build {
    /// `b6123 (8f0bba8e)`.
    pub version: String,
    /// What did the arithmetic: `cpu`, `cuda`, `metal`, `vulkan`, ….
    pub backend: String,
    /// The GPUs that were present.
    pub gpu: Option<String>,
}

/// What came of a process.
#[derive(Debug, Clone, PartialEq)]
pub struct BenchRun {
    /// Every test that was asked for, in order.
    pub tests: Vec<TimedTest>,
    /// Which llama.cpp it was.
    pub build: Build,
    /// Highest resident size of the process, where the system tells.
    pub peak_rss_bytes: Option<u64>,
    /// The rows as they were read.
    pub rows: Vec<SpeedRow>,
}

/// Time between two looks at a running process.
const LOOK: Duration = Duration::from_millis(20);
/// Lines of a log that an error repeats.
const LAST_WORDS: usize = 2;

impl LlamaBench {
    /// Runs the tests in a process of their own. `None` where `stop` ended it.
    ///
    /// # Errors
    /// It cannot be started, fails, takes longer than `limit`, or leaves a test out.
    pub fn run(
        &self,
        model: &Path,
        tests: &BenchTests,
        limit: Duration,
        stop: &dyn Fn() -> bool,
    ) -> Result<Option<BenchRun>, BenchError> {
        let mut child = Command::new(&self.path)
            .args(self.arguments(model, tests))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|source| BenchError::Start { path: self.path.clone(), source })?;
        // Both pipes are drained while it runs: a full one would stop it.
        let printed = drain(child.stdout.take());
        let logged = drain(child.stderr.take());
        let waited = self.wait(&mut child, model, limit, stop);
        if !matches!(waited, Ok(Some(_))) {
            // Nothing else can be done with a process that does not end.
            let _ = child.kill();
            let _ = child.wait();
        }
        let text = |reader: thread::JoinHandle<std::io::Result<Vec<u8>>>| {
            let bytes = reader.join().unwrap_or_else(|_| Ok(Vec::new()));
            let bytes =
                bytes.map_err(|source| BenchError::Read { path: self.path.clone(), source });
            bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        };
        let (printed, logged) = (text(printed)?, text(logged)?);
        let Some(ended) = waited? else { return Ok(None) };
        if !ended.status.success() {
            return Err(BenchError::Failed {
                path: self.path.clone(),
                model: model.display().to_string(),
                status: ended.status.to_string(),
                said: last_words(&logged, &printed),
            });
        }
        self.read(&printed, model, tests, ended.peak_rss_bytes).map(Some)
    }

    fn arguments(&self, model: &Path, tests: &BenchTests) -> Vec<String> {
        let list = |numbers: &[u32]| {
            let words: Vec<String> = numbers.iter().map(u32::to_string).collect();
            if words.is_empty() { "0".to_owned() } else { words.join(",") }
        };
        let mut arguments: Vec<String> = vec!["-m".into(), model.display().to_string()];
        let mut give = |flag: &str, value: String| arguments.extend([flag.to_owned(), value]);
        give("-p", list(&tests.prompts));
        give("-n", tests.generate.to_string());
        give("-r", tests.repeats.to_string());
        give("-t", tests.threads.to_string());
        give("-o", self.format.to_owned());
        if tests.depth > 0 {
            give("-d", tests.depth.to_string());
        }
        arguments
    }

    fn wait(
        &self,
        child: &mut Child,
        model: &Path,
        limit: Duration,
        stop: &dyn Fn() -> bool,
    ) -> Result<Option<Ended>, BenchError> {
        let begun = Instant::now();
        let mut peak_rss_bytes = None;
        loop {
            peak_rss_bytes = peak_resident(child.id()).max(peak_rss_bytes);
            let status = child
                .try_wait()
                .map_err(|source| BenchError::Read { path: self.path.clone(), source })?;
            if let Some(status) = status {
                return Ok(Some(Ended { status, peak_rss_bytes }));
            }
            if stop() {
                return Ok(None);
            }
            if begun.elapsed() > limit {
                return Err(BenchError::TooLong {
                    path: self.path.clone(),
                    model: model.display().to_string(),
                    seconds: limit.as_secs(),
                });
            }
            thread::sleep(LOOK);
        }
    }

    /// The tests that were asked for, from what was printed.
    pub(crate) fn read(
        &self,
        printed: &str,
        model: &Path,
        tests: &BenchTests,
        peak_rss_bytes: Option<u64>,
    ) -> Result<BenchRun, BenchError> {
        // The rows are of this machine; which one is the caller's business.
        let origin = Origin { device_id: Some("here".into()), ..Origin::default() };
        let found = read_llama_bench(printed, &origin);
        let rows: Vec<SpeedRow> = found.rows.into_iter().map(|(_, row)| row).collect();
        let problem = found.problems.first().map(|p| p.reason.clone()).unwrap_or_default();
        let prompts = tests.prompts.iter().filter(|n| **n > 0).map(|n| (*n, 0));
        let generated = (tests.generate > 0).then_some((0, tests.generate));
        let timed = prompts.chain(generated).map(|(n_prompt, n_gen)| {
            let found = rows.iter().find_map(|row| timed(row, (n_prompt, n_gen, tests.depth)));
            found.ok_or_else(|| BenchError::Missing {
                path: self.path.clone(),
                model: model.display().to_string(),
                test: if n_gen > 0 {
                    format!("tg{n_gen} @ d{}", tests.depth)
                } else {
                    format!("pp{n_prompt} @ d{}", tests.depth)
                },
                said: problem.clone(),
            })
        });
        Ok(BenchRun {
            tests: timed.collect::<Result<_, _>>()?,
            build: build(&rows),
            peak_rss_bytes,
            rows,
        })
    }
}

/// How a process ended.
struct Ended {
    status: std::process::ExitStatus,
    peak_rss_bytes: Option<u64>,
}

/// The samples of a row, where it is the test of these lengths.
fn timed(row: &SpeedRow, (n_prompt, n_gen, n_depth): (u32, u32, u32)) -> Option<TimedTest> {
    let is_it = row.n_prompt.unwrap_or(0) == n_prompt
        && row.n_gen.unwrap_or(0) == n_gen
        && row.n_depth.unwrap_or(0) == n_depth;
    let samples_ns = row.llama_bench.as_ref()?.samples_ns.clone();
    (is_it && samples_ns.iter().all(|ns| *ns > 0) && !samples_ns.is_empty()).then_some(TimedTest {
        n_prompt,
        n_gen,
        n_depth,
        samples_ns,
    })
}

fn build(rows: &[SpeedRow]) -> Build {
    let row = rows.first();
    let details: Option<&BenchDetails> = row.and_then(|row| row.llama_bench.as_deref());
    let number = details.and_then(|d| d.build_number);
    let commit = details.and_then(|d| d.build_commit.clone());
    Build {
        version: match (number, commit) {
            (Some(number), Some(commit)) => format!("b{number} ({commit})"),
            (Some(number), None) => format!("b{number}"),
            (None, Some(commit)) => commit,
            (None, None) => "unknown".to_owned(),
        },
        backend: row.map_or_else(|| "cpu".to_owned(), |row| row.backend.clone()),
        gpu: details.and_then(|d| d.gpu_info.clone()).filter(|name| !name.trim().is_empty()),
    }
}

fn drain<R: Read + Send + 'static>(
    pipe: Option<R>,
) -> thread::JoinHandle<std::io::Result<Vec<u8>>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            pipe.read_to_end(&mut bytes)?;
        }
        Ok(bytes)
    })
}

/// The last lines that say something: of the log, else of the output.
fn last_words(logged: &str, printed: &str) -> String {
    let text = if logged.trim().is_empty() { printed } else { logged };
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let last = &lines[lines.len().saturating_sub(LAST_WORDS)..];
    if last.is_empty() { "it said nothing".to_owned() } else { last.join("; ") }
}

/// Highest resident size of a process so far; Linux only.
fn peak_resident(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    peak_of_status(&status)
}

/// `VmHWM:     1234 kB` of `/proc/PID/status`.
fn peak_of_status(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests;
