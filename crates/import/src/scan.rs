//! Rows in a text, whatever surrounds them.
//!
//! Each piece of the text is recognised by how it begins, so that one file may hold a pasted
//! terminal session: log lines, a Markdown table, JSON of another run. Formats are told by content,
//! never by a file's name.

mod json;
mod markdown;
mod sql;
mod table;

use crate::Problem;
use crate::record::Record;

/// What was found in a text.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Rows, in the order of the text.
    pub records: Vec<Record>,
    /// Pieces that look like rows and are none.
    pub problems: Vec<Problem>,
    /// Formats, in the order of finding.
    pub formats: Vec<String>,
    /// Lines that are not rows, nor look like them.
    pub other_lines: u32,
}

impl Found {
    fn note_format(&mut self, name: &str) {
        if !self.formats.iter().any(|format| format == name) {
            self.formats.push(name.to_owned());
        }
    }

    fn problem(&mut self, line: u32, reason: impl Into<String>) {
        self.problems.push(Problem::new(line, reason));
    }
}

/// Lines with their numbers.
struct Lines<'a> {
    text: &'a str,
    position: usize,
    number: u32,
}

impl<'a> Lines<'a> {
    /// The next line, without its end.
    fn next(&mut self) -> Option<(u32, &'a str)> {
        let rest = &self.text[self.position..];
        if rest.is_empty() {
            return None;
        }
        let (line, length) = match rest.find('\n') {
            Some(end) => (&rest[..end], end + 1),
            None => (rest, rest.len()),
        };
        self.position += length;
        self.number += 1;
        Some((self.number, line.trim_end_matches('\r')))
    }

    /// The line after the current one.
    fn peek(&self) -> &'a str {
        self.text[self.position..].lines().next().unwrap_or_default()
    }
}

/// Finds all rows of a text.
pub(crate) fn scan(text: &str) -> Found {
    let mut found = Found::default();
    let mut lines = Lines { text, position: 0, number: 0 };
    let mut table = table::Table::default();
    let mut markdown = markdown::Markdown::default();
    let mut sql = sql::Sql::default();
    while let Some((number, line)) = lines.next() {
        let start = line.trim_start();
        if start.trim_end().is_empty() || is_code_fence(start) {
            continue;
        }
        let is_read = match start.chars().next() {
            Some('{' | '[' | ',' | ']' | '}') => json::read(&mut lines, number, line, &mut found),
            Some('|') => markdown.read(number, line, lines.peek(), &mut found),
            _ => {
                sql.read(&mut lines, number, line, &mut found)
                    || table.read(number, line, &mut found)
                    || markdown.read_footer(line, &mut found)
            }
        };
        if !is_read {
            found.other_lines += 1;
        }
    }
    found
}

fn is_code_fence(line: &str) -> bool {
    line.starts_with("```") || line.starts_with("~~~")
}

#[cfg(test)]
mod tests;
