//! A titled table, and its forms: UTF-8, Markdown, CSV.

use comfy_table::{CellAlignment, ContentLineStyle, LineStyle, Table, TableStyle};

use crate::RenderError;

/// Side to which a column is aligned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// A column of a [`Sheet`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its header.
    pub header: String,
    /// Its alignment.
    pub align: Align,
}

/// A titled table with footnotes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sheet {
    /// One line above the table.
    pub title: String,
    /// Columns.
    pub columns: Vec<Column>,
    /// Cells, one per column.
    pub rows: Vec<Vec<String>>,
    /// Lines below the table.
    pub notes: Vec<String>,
}

/// Widest table and footnote, in characters: terminals break longer lines.
pub(crate) const WIDEST: usize = 100;
/// Fewest characters that a text is cut to.
const LEAST_CUT: usize = 12;

/// Rules above, below and under the header; columns apart by space alone.
const STYLE: TableStyle = TableStyle::new()
    .top_border(RULE)
    .header_lines(GAP)
    .header_separator(RULE)
    .content_lines(GAP)
    .bottom_border(RULE);
const RULE: LineStyle = LineStyle::none().fill('─').junction('─');
const GAP: ContentLineStyle = ContentLineStyle::none().junction(' ');

impl Sheet {
    /// An empty table. A header that begins with `>` is a column of numbers.
    pub fn new(title: impl Into<String>, headers: &[&str]) -> Self {
        let columns = headers
            .iter()
            .map(|header| match header.strip_prefix('>') {
                Some(number) => Column { header: number.into(), align: Align::Right },
                None => Column { header: (*header).into(), align: Align::Left },
            })
            .collect();
        Self { title: title.into(), columns, rows: Vec::new(), notes: Vec::new() }
    }

    /// Adds a row; missing cells stay empty, surplus ones are dropped.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let mut row: Vec<String> = cells.into_iter().take(self.columns.len()).collect();
        row.resize(self.columns.len(), String::new());
        self.rows.push(row);
    }

    /// Adds a footnote.
    pub fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// Drops each named column whose cells are all equal and answers those cells.
    pub fn fold_constant(&mut self, headers: &[&str]) -> Vec<String> {
        let mut constants = Vec::new();
        for header in headers {
            let Some(index) = self.columns.iter().position(|c| c.header == *header) else {
                continue;
            };
            let Some(first) = self.rows.first().map(|row| row[index].clone()) else { continue };
            if self.rows.iter().any(|row| row[index] != first) {
                continue;
            }
            self.columns.remove(index);
            self.rows.iter_mut().for_each(|row| drop(row.remove(index)));
            constants.push(first);
        }
        constants
    }

    /// Adds a footnote in as many lines as it needs.
    pub(crate) fn wrapped_note(&mut self, text: &str) {
        let mut line = String::new();
        for word in text.split(' ') {
            if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > WIDEST {
                self.note(std::mem::take(&mut line));
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        self.note(line);
    }

    /// Cuts the texts of a column where the table would be wider than [`WIDEST`]; `…` stands for
    /// the rest.
    pub(crate) fn cut_to_fit(&mut self, header: &str) {
        let surplus = self.width().saturating_sub(WIDEST);
        let Some(index) = self.columns.iter().position(|c| c.header == header) else { return };
        if surplus == 0 {
            return;
        }
        let longest = self.rows.iter().map(|row| row[index].chars().count()).max().unwrap_or(0);
        let room = longest.saturating_sub(surplus).max(LEAST_CUT);
        for cell in self.rows.iter_mut().map(|row| &mut row[index]) {
            if cell.chars().count() > room {
                *cell = cell.chars().take(room - 1).chain(['…']).collect();
            }
        }
    }

    /// Characters of the widest line of the table itself, without title and notes.
    pub fn width(&self) -> usize {
        if self.rows.is_empty() {
            return 0;
        }
        self.drawn().lines().map(|line| line.trim_end().chars().count()).max().unwrap_or(0)
    }

    /// For a terminal; no line has trailing space.
    pub fn to_table(&self) -> String {
        let mut text = String::new();
        if !self.title.is_empty() {
            text.push_str(&self.title);
            text.push('\n');
        }
        if !self.rows.is_empty() {
            for line in self.drawn().lines() {
                text.push_str(line.trim_end());
                text.push('\n');
            }
        }
        for note in &self.notes {
            text.push_str(note);
            text.push('\n');
        }
        text
    }

    fn drawn(&self) -> String {
        let mut table = Table::new();
        table.load_style(STYLE).force_no_tty();
        if self.columns.iter().any(|c| !c.header.is_empty()) {
            table.set_header(self.columns.iter().map(|c| c.header.as_str()));
        }
        for row in &self.rows {
            table.add_row(row);
        }
        for (index, column) in self.columns.iter().enumerate() {
            let Some(drawn) = table.column_mut(index) else { continue };
            drawn.set_padding((0, u16::from(index + 1 < self.columns.len())));
            if column.align == Align::Right {
                drawn.set_cell_alignment(CellAlignment::Right);
            }
        }
        table.to_string()
    }

    /// A heading, a pipe table and a list of notes.
    pub fn to_markdown(&self) -> String {
        let mut text = String::new();
        if !self.title.is_empty() {
            text.push_str(&format!("**{}**\n\n", escaped(&self.title)));
        }
        if !self.rows.is_empty() {
            let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
            text.push_str(&line(self.columns.iter().map(|c| escaped(&c.header)).collect()));
            let rule = |column: &Column| match column.align {
                Align::Left => "---".to_owned(),
                Align::Right => "---:".to_owned(),
            };
            text.push_str(&line(self.columns.iter().map(rule).collect()));
            for row in &self.rows {
                text.push_str(&line(row.iter().map(|cell| escaped(cell)).collect()));
            }
        }
        if !self.notes.is_empty() {
            text.push('\n');
        }
        for note in &self.notes {
            text.push_str(&format!("- {}\n", escaped(note)));
        }
        text
    }
}

fn escaped(cell: &str) -> String {
    cell.replace('|', "\\|")
}

/// Rows for a spreadsheet, with the names of the JSON fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Records {
    /// Names of the columns.
    pub header: Vec<&'static str>,
    /// Rows with full precision; an empty cell is `null`.
    pub rows: Vec<Vec<String>>,
}

impl Records {
    /// No rows yet.
    pub fn new(header: &[&'static str]) -> Self {
        Self { header: header.to_vec(), rows: Vec::new() }
    }

    /// Comma-separated values with a header line.
    ///
    /// # Errors
    /// A row whose length differs from the header's.
    pub fn to_csv(&self) -> Result<String, RenderError> {
        let mut writer = csv::Writer::from_writer(Vec::new());
        writer.write_record(&self.header)?;
        for row in &self.rows {
            writer.write_record(row)?;
        }
        let bytes = writer.into_inner().map_err(|e| csv::Error::from(e.into_error()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// A cell of full precision; empty where there is no value.
pub(crate) fn cell<T: ToString>(value: Option<T>) -> String {
    value.map(|v| v.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Sheet {
        let mut sheet = Sheet::new("two models", &["model", "quant", ">ms"]);
        sheet.row(["a|b", "Q4_0", "1.5"].map(String::from));
        sheet.row(["tiny", "Q4_0", "100"].map(String::from));
        sheet.note("a note");
        sheet
    }

    #[test]
    fn a_table_aligns_numbers_to_the_right() {
        insta::assert_snapshot!(example().to_table());
    }

    #[test]
    fn markdown_escapes_bars() {
        insta::assert_snapshot!(example().to_markdown());
    }

    #[test]
    fn constant_columns_fold_and_others_stay() {
        let mut sheet = example();
        assert_eq!(sheet.fold_constant(&["model", "quant", "absent"]), ["Q4_0"]);
        assert_eq!(sheet.columns.len(), 2);
        assert_eq!(sheet.rows[1], ["tiny", "100"]);
    }

    #[test]
    fn texts_are_cut_where_a_table_would_be_too_wide() {
        let mut sheet = example();
        sheet.cut_to_fit("model");
        assert_eq!(sheet, example());
        sheet.row(["x".repeat(120), "Q4_0".into(), "1".into()]);
        sheet.cut_to_fit("model");
        assert_eq!(sheet.width(), WIDEST);
        assert!(sheet.rows[2][0].ends_with("x…"));
        assert_eq!(sheet.rows[1][0], "tiny");
    }

    #[test]
    fn long_notes_take_several_lines() {
        let mut sheet = Sheet::new("", &[]);
        sheet.wrapped_note(&["word"; 30].join(" "));
        // Twenty words of four letters and the spaces between them are 99 characters.
        let lengths: Vec<usize> = sheet.notes.iter().map(String::len).collect();
        assert_eq!(lengths, [99, 49]);
    }

    #[test]
    fn csv_quotes_what_needs_it() {
        let mut records = Records::new(&["a", "b"]);
        records.rows.push(vec!["x,y".into(), String::new()]);
        assert_eq!(records.to_csv().unwrap(), "a,b\n\"x,y\",\n");
    }
}
