//! The only place that prints: answers to standard output, all else to standard error.

use std::io::{self, Write};

use anyhow::Context;
use foretoken_report::{Format, Report, render};

use crate::args::{Cli, FormatArg};

/// How the commands speak.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    /// Format of answers.
    pub format: Format,
    /// Whether only answers and errors are printed.
    pub quiet: bool,
}

impl Output {
    /// As the command line asks.
    pub fn new(cli: &Cli) -> Self {
        let format = match cli.format {
            FormatArg::Table => Format::Table,
            FormatArg::Json => Format::Json,
            FormatArg::Csv => Format::Csv,
            FormatArg::Markdown => Format::Markdown,
        };
        Self { format, quiet: cli.quiet }
    }

    /// Prints an answer.
    pub fn print(&self, report: &impl Report) -> anyhow::Result<()> {
        let text = render(report, self.format)?;
        let mut stdout = io::stdout().lock();
        stdout
            .write_all(text.as_bytes())
            .and_then(|()| stdout.flush())
            .context("cannot write to standard output")
    }

    /// Prints a line for people, unless they asked for quiet.
    pub fn note(&self, line: &str) {
        if !self.quiet {
            to_stderr(line);
        }
    }

    /// Prints a warning, unless quiet was asked for.
    pub fn warn(&self, line: &str) {
        self.note(&format!("warning: {line}"));
    }
}

/// An error with a remedy; attach it with [`anyhow::Context::context`] or as the error itself.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Hinted {
    /// What went wrong.
    pub message: String,
    /// What to do about it.
    pub hint: String,
}

impl Hinted {
    /// An error with a hint.
    pub fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hint: hint.into() }
    }
}

/// Prints `error: …` with the chain of causes, then `hint: …` where there is one.
pub fn print_error(error: &anyhow::Error) {
    to_stderr(&format!("error: {}", chain(error)));
    if let Some(hinted) = error.downcast_ref::<Hinted>() {
        to_stderr(&format!("hint: {}", hinted.hint));
    }
}

/// Prints what clap answers in our place: help and version as they are, a wrong command line as
/// `error: …` and `hint: …`. Returns whether that is what was asked for.
pub fn print_refusal(error: &clap::Error) -> bool {
    use clap::error::ErrorKind;
    let is_good = !error.use_stderr();
    if is_good || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        // A closed pipe is the reader's right.
        let _ = error.print();
    } else {
        let (message, hint) = in_two_lines(&error.render().to_string());
        to_stderr(&message);
        to_stderr(&format!("hint: {hint}"));
    }
    is_good
}

/// The first paragraph of clap's words, and its tip where it has one.
fn in_two_lines(text: &str) -> (String, String) {
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut paragraphs = text.split("\n\n");
    let message = words(paragraphs.next().unwrap_or_default());
    let tip = paragraphs.find_map(|p| p.trim().strip_prefix("tip: "));
    (message, tip.map_or_else(|| "--help shows what can be asked".to_owned(), words))
}

/// The chain of causes in one line; a cause that the text before already holds is not repeated.
fn chain(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let words = cause.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
        if text.is_empty() {
            text = words;
        } else if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
    }
    text
}

/// Whether the reader of our output went away, which is its right.
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}

/// A line on standard error; if that is closed, nobody is there to be told.
fn to_stderr(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_joined_once_and_in_one_line() {
        let inner = io::Error::other("disk\nfull");
        let error = anyhow::Error::from(inner).context("cannot write f").context("no result");
        assert_eq!(chain(&error), "no result: cannot write f: disk full");
        let error = anyhow::Error::msg("x is bad").context("file: x is bad");
        assert_eq!(chain(&error), "file: x is bad");
    }

    #[test]
    fn a_wrong_command_line_is_told_in_two_lines() {
        let text =
            "error: invalid value 'x'\n  [possible values: a, b]\n\n  tip: try 'a'\n\nUsage: y\n";
        let (message, hint) = in_two_lines(text);
        assert_eq!(message, "error: invalid value 'x' [possible values: a, b]");
        assert_eq!(hint, "try 'a'");
        assert!(in_two_lines("error: no\n\nUsage: y").1.contains("--help"));
    }

    #[test]
    fn a_hint_is_found_under_other_contexts() {
        let error = anyhow::Error::from(Hinted::new("no", "do")).context("outer");
        assert_eq!(error.downcast_ref::<Hinted>().map(|h| h.hint.as_str()), Some("do"));
    }
}
