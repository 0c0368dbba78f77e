//! `powermetrics` of macOS: what the processor, the graphics and the neural engine took.
//!
//! The program prints a block per interval, with its length in the heading and mean powers in mW;
//! their product is energy, so nothing is lost between blocks. It needs root. The text is parsed
//! everywhere, the program is started on macOS alone.

use std::time::Duration;

/// Length of a block.
#[cfg_attr(not(any(target_os = "macos", test)), allow(dead_code, reason = "for macOS"))]
const INTERVAL: Duration = Duration::from_millis(100);

/// Adds the blocks of the program's output up.
#[derive(Debug, Default, Clone, PartialEq)]
#[cfg_attr(not(any(target_os = "macos", test)), allow(dead_code, reason = "for macOS"))]
pub(crate) struct Blocks {
    elapsed: Option<Duration>,
    /// Since the beginning.
    pub(crate) joules: f64,
    /// Blocks with a power.
    pub(crate) n_blocks: u64,
    /// Length of the blocks without a power that could be read.
    pub(crate) lost: Duration,
}

#[cfg_attr(not(any(target_os = "macos", test)), allow(dead_code, reason = "for macOS"))]
impl Blocks {
    /// Takes the next line of the output.
    pub(crate) fn line(&mut self, line: &str) {
        if line.trim().starts_with(HEADING) {
            // The block before never told its power.
            self.lost += self.elapsed.take().unwrap_or_default();
            self.elapsed = elapsed_of(line);
            if self.elapsed.is_none() {
                self.lost += INTERVAL;
            }
        } else if let Some(watts) = watts_of(line)
            && let Some(elapsed) = self.elapsed.take()
        {
            self.joules += watts * elapsed.as_secs_f64();
            self.n_blocks += 1;
        }
    }
}

/// What the first line of a block begins with.
const HEADING: &str = "*** Sampled system activity";

/// `*** Sampled system activity (Sat Nov 21 10:00:00 2026 +0000) (103.21ms elapsed) ***`
fn elapsed_of(line: &str) -> Option<Duration> {
    let rest = line.trim().strip_prefix(HEADING)?;
    let number = rest.split('(').next_back()?.split("ms elapsed").next()?;
    let milliseconds: f64 = number.trim().parse().ok()?;
    Duration::try_from_secs_f64(milliseconds * 1e-3).ok()
}

/// The sum of the parts on Apple processors, the package on Intel's.
fn watts_of(line: &str) -> Option<f64> {
    let line = line.trim();
    if let Some(power) = line.strip_prefix("Combined Power (CPU + GPU + ANE):") {
        let milliwatts: f64 = power.trim().strip_suffix("mW")?.trim().parse().ok()?;
        return plausible(milliwatts * 1e-3);
    }
    let package = line.strip_prefix("Intel energy model derived package power")?;
    let watts: f64 = package.split(':').nth(1)?.trim().strip_suffix('W')?.trim().parse().ok()?;
    plausible(watts)
}

fn plausible(watts: f64) -> Option<f64> {
    (watts.is_finite() && watts >= 0.0).then_some(watts)
}

#[cfg(target_os = "macos")]
pub(crate) use running::Powermetrics;

#[cfg(target_os = "macos")]
mod running {
    use std::io::{BufRead, BufReader};
    use std::process::{Child, Command, Stdio};
    use std::sync::{Arc, Mutex, PoisonError};
    use std::time::{Duration, Instant};

    use super::{Blocks, INTERVAL};
    use crate::{Meter, MeterError, Reading, Source, Value};

    /// Time in which the first block must be there, and every further one.
    const PATIENCE: Duration = Duration::from_secs(3);

    /// The program, running.
    #[derive(Debug)]
    pub(crate) struct Powermetrics {
        child: Child,
        blocks: Arc<Mutex<(Blocks, Instant)>>,
    }

    impl Powermetrics {
        /// # Errors
        /// The program cannot be started, or says nothing: it needs root.
        pub(crate) fn start() -> Result<Self, MeterError> {
            let interval = INTERVAL.as_millis().to_string();
            let failed = |text: &str| MeterError::Powermetrics(text.to_owned());
            let mut child = Command::new("/usr/bin/powermetrics")
                .args(["--samplers", "cpu_power,gpu_power", "-i", &interval])
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .map_err(|error| failed(&error.to_string()))?;
            let stdout = child.stdout.take().ok_or_else(|| failed("it has no output"))?;
            let blocks = Arc::new(Mutex::new((Blocks::default(), Instant::now())));
            let shared = Arc::clone(&blocks);
            std::thread::spawn(move || {
                for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                    let mut now = shared.lock().unwrap_or_else(PoisonError::into_inner);
                    let before = now.0.n_blocks;
                    now.0.line(&line);
                    if now.0.n_blocks > before {
                        now.1 = Instant::now();
                    }
                }
            });
            let mut meter = Self { child, blocks };
            let begun = Instant::now();
            while meter.latest().0.n_blocks == 0 {
                let has_ended = meter.child.try_wait().is_ok_and(|status| status.is_some());
                if has_ended || begun.elapsed() > PATIENCE {
                    return Err(failed("it said nothing"));
                }
                std::thread::sleep(INTERVAL);
            }
            Ok(meter)
        }

        fn latest(&self) -> (Blocks, Instant) {
            self.blocks.lock().unwrap_or_else(PoisonError::into_inner).clone()
        }
    }

    impl Meter for Powermetrics {
        fn source(&self) -> Source {
            Source::Powermetrics
        }

        fn name(&self) -> &str {
            "CPU + GPU + ANE"
        }

        fn resolution(&self) -> Duration {
            INTERVAL
        }

        fn read(&mut self) -> Result<Reading, MeterError> {
            let (blocks, at) = self.latest();
            if at.elapsed() > PATIENCE {
                return Err(MeterError::Powermetrics("it has ended".to_owned()));
            }
            Ok(Reading { at, value: Value::Joules(blocks.joules), lost: blocks.lost })
        }
    }

    impl Drop for Powermetrics {
        fn drop(&mut self) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Blocks {
        let mut blocks = Blocks::default();
        text.lines().for_each(|line| blocks.line(line));
        blocks
    }

    #[test]
    fn apple_silicon() {
        let blocks = read(include_str!("../fixtures/powermetrics-m2.txt"));
        // 4.213 W · 0.10321 s + 11.054 W · 0.10047 s
        assert_eq!(blocks.n_blocks, 2);
        assert!((blocks.joules - (4.213 * 0.103_21 + 11.054 * 0.100_47)).abs() < 1e-9);
        assert_eq!(INTERVAL, Duration::from_millis(100));
    }

    #[test]
    fn intel() {
        let text = "*** Sampled system activity (Mon) (1000.00ms elapsed) ***\n\
                    Intel energy model derived package power (CPUs+GT+SA): 9.50W\n";
        assert!((read(text).joules - 9.5).abs() < 1e-12);
    }

    #[test]
    fn what_is_not_understood_counts_nothing() {
        let text = "*** Sampled system activity (no time) ***\nCombined Power: much\n\
                    Combined Power (CPU + GPU + ANE): -3 mW\nCombined Power (CPU + GPU + ANE): 5 mW\n";
        assert_eq!(read(text), Blocks { lost: INTERVAL, ..Blocks::default() });
    }

    #[test]
    fn a_block_without_a_power_is_lost() {
        let heading =
            |ms: u32| format!("*** Sampled system activity (Sat) ({ms}.00ms elapsed) ***");
        let power = "Combined Power (CPU + GPU + ANE): 4000 mW";
        let garbled = "Combined Power (CPU + GPU + ANE): 4W000";
        let text = [&heading(100), power, &heading(110), garbled, &heading(120), power].join("\n");
        let blocks = read(&text);
        // 4 W over 100 and 120 ms; not over 110.
        assert!((blocks.joules - 0.88).abs() < 1e-12);
        assert_eq!((blocks.n_blocks, blocks.lost), (2, Duration::from_millis(110)));
        // A heading whose length cannot be read does not lend the block the length of the last.
        let broken = format!("{}\n*** Sampled system activity (x)\n{power}", heading(100));
        assert_eq!((read(&broken).joules, read(&broken).lost), (0.0, INTERVAL * 2));
    }

    proptest::proptest! {
        #[test]
        fn no_line_makes_it_panic(line in ".*") {
            let mut blocks = read("*** Sampled system activity (x) (100ms elapsed) ***");
            blocks.line(&line);
            blocks.line(&format!("*** Sampled system activity {line}"));
        }
    }
}
