//! SQL: `INSERT` lines as llama-bench and test-backend-ops print them, and as `sqlite3 .dump` does.

use serde_json::Value;

use super::{Found, Lines};
use crate::record::Record;

/// Names of the columns, where an `INSERT` does not repeat them.
#[derive(Debug, Default)]
pub(super) struct Sql {
    columns: Vec<String>,
}

impl Sql {
    /// Reads a line of SQL. Answers whether it is one.
    pub fn read(
        &mut self,
        lines: &mut Lines<'_>,
        number: u32,
        line: &str,
        found: &mut Found,
    ) -> bool {
        let start = line.trim();
        if starts_with(start, "create table") {
            self.columns = created_columns(start, lines);
            found.note_format("sql");
            return true;
        }
        if starts_with(start, "insert into") {
            found.note_format("sql");
            match self.inserted(number, start) {
                Ok(record) => found.records.push(record),
                Err(reason) => found.problem(number, reason),
            }
            return true;
        }
        // What stands around a dump.
        ["pragma ", "begin transaction", "commit;", "delete from", "create index"]
            .iter()
            .any(|word| starts_with(start, word))
    }

    fn inserted(&self, number: u32, line: &str) -> Result<Record, String> {
        let at = find(line, "values").ok_or("an INSERT without VALUES in its line")?;
        let (front, back) = (&line[..at], &line[at + "values".len()..]);
        let columns = match front.split_once('(') {
            Some((_, names)) => names.split(')').next().map(split_names).unwrap_or_default(),
            None => self.columns.clone(),
        };
        let (Some(open), Some(close)) = (back.find('('), back.rfind(')')) else {
            return Err("an INSERT whose values do not end in this line".to_owned());
        };
        if columns.is_empty() {
            return Err("an INSERT without names of columns, and no CREATE TABLE".to_owned());
        }
        let inside = back.get(open + 1..close).unwrap_or_default();
        let mut values = quoted_values(inside).unwrap_or_default();
        if values.len() != columns.len() {
            values = plain_values(inside);
        }
        if values.len() != columns.len() {
            let (n, m) = (values.len(), columns.len());
            return Err(format!("{n} values for {m} columns"));
        }
        let fields = columns.into_iter().zip(values.into_iter().map(Value::String));
        Ok(Record::new(number, fields))
    }
}

fn starts_with(line: &str, word: &str) -> bool {
    line.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word))
}

fn find(line: &str, word: &str) -> Option<usize> {
    // Lower case keeps the length of ASCII, and other letters are not touched.
    line.to_ascii_lowercase().find(word)
}

fn split_names(names: &str) -> Vec<String> {
    let bare = |name: &str| name.trim().trim_matches(['"', '`', '[', ']', '\'']).to_owned();
    names.split(',').map(bare).filter(|name| !name.is_empty()).collect()
}

/// The first word of every line between the parentheses of a `CREATE TABLE`.
fn created_columns(first: &str, lines: &mut Lines<'_>) -> Vec<String> {
    let mut text = first.to_owned();
    while !text.contains(')') {
        // The end of the text, or another statement: the table was cut off.
        let next = lines.peek();
        if lines.position >= lines.text.len() || starts_with(next.trim(), "insert into") {
            break;
        }
        lines.next();
        text.push(' ');
        text.push_str(next);
    }
    let inside = text.split_once('(').map_or("", |(_, rest)| rest);
    let inside = inside.rsplit_once(')').map_or(inside, |(front, _)| front);
    inside
        .split(',')
        .filter_map(|column| column.split_whitespace().next())
        .map(|name| name.trim_matches(['"', '`', '[', ']']).to_owned())
        .collect()
}

/// Values as SQL has them: `'it''s'`, numbers and NULL bare.
fn quoted_values(text: &str) -> Option<Vec<String>> {
    let mut values = Vec::new();
    let mut rest = text.trim_start();
    loop {
        let (value, after) = match rest.strip_prefix('\'') {
            Some(inside) => quoted(inside)?,
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                let bare = rest[..end].trim();
                let bare = if bare.eq_ignore_ascii_case("null") { "" } else { bare };
                (bare.to_owned(), &rest[end..])
            }
        };
        values.push(value);
        let after = after.trim_start();
        if after.is_empty() {
            return Some(values);
        }
        rest = after.strip_prefix(',')?.trim_start();
    }
}

/// The text up to the closing quote, and what follows it.
fn quoted(inside: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut rest = inside;
    loop {
        let end = rest.find('\'')?;
        value.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('\'') {
            Some(more) => {
                value.push('\'');
                rest = more;
            }
            None => return Some((value, rest)),
        }
    }
}

/// Values as llama-bench writes them: in quotes, and quotes within them left as they are.
fn plain_values(text: &str) -> Vec<String> {
    let text = text.trim();
    let bare = text.strip_prefix('\'').and_then(|text| text.strip_suffix('\''));
    bare.map(|text| text.split("', '").map(str::to_owned).collect()).unwrap_or_default()
}
