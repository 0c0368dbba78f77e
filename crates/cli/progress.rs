//! Progress on standard error: only on a terminal, and only unless quiet was asked for.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::Output;

/// A progress bar that may be invisible.
pub struct Progress {
    bar: ProgressBar,
}

const STEPS: &str = "{bar:24} {pos}/{len} · {msg} · {eta} left";
const BYTES: &str = "{bar:24} {bytes}/{total_bytes} · {bytes_per_sec} · {msg} · {eta} left";

impl Progress {
    /// A bar over `total` steps.
    pub fn steps(output: &Output, total: u64) -> Self {
        Self::new(output, ProgressBar::new(total), STEPS)
    }

    /// A bar over `total` bytes.
    pub fn bytes(output: &Output, total: u64) -> Self {
        Self::new(output, ProgressBar::new(total), BYTES)
    }

    fn new(output: &Output, bar: ProgressBar, template: &str) -> Self {
        if output.quiet || !std::io::stderr().is_terminal() {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("━╸ "));
        }
        Self { bar }
    }

    /// The end, where it becomes known later.
    pub fn total(&self, total: u64) {
        self.bar.set_length(total);
    }

    /// Position, in steps or bytes.
    pub fn set(&self, position: u64) {
        self.bar.set_position(position);
    }

    /// What runs now.
    pub fn message(&self, message: impl Into<String>) {
        self.bar.set_message(message.into());
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// A line of free text that may be invisible.
pub struct Line {
    bar: ProgressBar,
}

/// Columns of a terminal that does not say how wide it is.
const USUAL_WIDTH: u16 = 80;

impl Line {
    /// An empty line.
    pub fn new(output: &Output) -> Self {
        let bar = ProgressBar::no_length();
        if output.quiet || !std::io::stderr().is_terminal() {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        if let Ok(style) = ProgressStyle::with_template("{msg}") {
            bar.set_style(style);
        }
        Self { bar }
    }

    /// Whether nobody sees it.
    pub fn is_hidden(&self) -> bool {
        self.bar.is_hidden()
    }

    /// Columns that it may take.
    pub fn width(&self) -> usize {
        usize::from(console::Term::stderr().size_checked().map_or(USUAL_WIDTH, |(_, w)| w)) - 1
    }

    /// Shows this text.
    pub fn set(&self, text: &str) {
        self.bar.set_message(text.to_owned());
    }

    /// Takes the line away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// A flag that Ctrl-C sets; a second Ctrl-C ends the process at once.
pub fn stop_on_interrupt() -> anyhow::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
    })
    .context("cannot listen for Ctrl-C")?;
    Ok(stop)
}
