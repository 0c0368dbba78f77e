//! Small pieces of HTML. Whatever comes from data goes through [`escape`].

use foretoken_report::{Align, Sheet};

use crate::plot::{Plot, PlotError, Shape, render};
use crate::theme::Ink;

/// Text as HTML shows it, in elements and in quoted attributes.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // Browsers refuse most control characters even where they are escaped.
            c if c.is_control() && !matches!(c, '\n' | '\t') => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

/// A paragraph of plain text.
pub(crate) fn paragraph(text: &str) -> String {
    format!("<p>{}</p>\n", escape(text))
}

/// A table with its notes; `caption` says what it is to those who meet it alone.
pub(crate) fn table(caption: &str, sheet: &Sheet) -> String {
    let class = |index: usize| match sheet.columns.get(index).map(|c| c.align) {
        Some(Align::Right) => " class=\"number\"",
        _ => "",
    };
    let header: String = sheet
        .columns
        .iter()
        .enumerate()
        .map(|(i, c)| format!("<th scope=\"col\"{}>{}</th>", class(i), escape(&c.header)))
        .collect();
    let rows: String = sheet
        .rows
        .iter()
        .map(|row| {
            let cells: String = row
                .iter()
                .enumerate()
                .map(|(i, cell)| match i {
                    0 => format!("<th scope=\"row\"{}>{}</th>", class(i), escape(cell)),
                    _ => format!("<td{}>{}</td>", class(i), escape(cell)),
                })
                .collect();
            format!("<tr>{cells}</tr>\n")
        })
        .collect();
    let notes: String =
        sheet.notes.iter().map(|n| format!("<p class=\"note\">{}</p>\n", escape(n))).collect();
    let name = escape(caption);
    format!(
        "<div class=\"scroll\" role=\"region\" aria-label=\"{name}\" tabindex=\"0\">\n\
         <table><caption>{name}</caption>\n<thead><tr>{header}</tr></thead>\n\
         <tbody>\n{rows}</tbody></table></div>\n{notes}"
    )
}

/// Terms with what they are.
pub(crate) fn facts(facts: &[(&str, String)]) -> String {
    let rows: String = facts
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| {
            format!("<div><dt>{}</dt><dd>{}</dd></div>\n", escape(name), escape(value))
        })
        .collect();
    format!("<dl class=\"facts\">\n{rows}</dl>\n")
}

/// Something that opens on demand; `body` is HTML.
pub(crate) fn folded(summary: &str, body: &str) -> String {
    format!("<details><summary>{}</summary>\n{body}</details>\n", escape(summary))
}

/// One plot under its title.
///
/// # Errors
/// A plot that cannot be drawn.
pub(crate) fn figure(id: &str, plot: &Plot) -> Result<String, PlotError> {
    let svg = render(plot, id)?;
    Ok(format!("<figure><figcaption>{}</figcaption>\n{svg}\n</figure>\n", escape(&plot.title)))
}

/// Several plots beside each other where there is room; ids are numbered.
///
/// # Errors
/// A plot that cannot be drawn.
pub(crate) fn figures(id: &str, plots: &[Plot]) -> Result<String, PlotError> {
    let drawn: Result<Vec<String>, PlotError> =
        plots.iter().enumerate().map(|(i, plot)| figure(&format!("{id}-{i}"), plot)).collect();
    Ok(format!("<div class=\"figures\">\n{}</div>\n", drawn?.concat()))
}

/// How a mark looks in a legend.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Key {
    /// A point.
    Point(Shape, Ink),
    /// A line.
    Line(Ink),
    /// A filled area.
    Area(Ink),
}

/// What the marks of the figures below it mean.
pub(crate) fn legend(entries: &[(Key, String)]) -> String {
    let items: String = entries
        .iter()
        .map(|(key, text)| {
            let mark = key_mark(*key);
            format!(
                "<li><svg class=\"plot key\" viewBox=\"-8 -8 16 16\" aria-hidden=\"true\">{mark}\
                 </svg>{}</li>\n",
                escape(text)
            )
        })
        .collect();
    format!("<ul class=\"legend\">\n{items}</ul>\n")
}

fn key_mark(key: Key) -> String {
    match key {
        Key::Point(Shape::Disc, ink) => format!("<circle r=\"5\" fill=\"{}\"/>", ink.hex()),
        Key::Point(Shape::Ring, ink) => {
            let colour = ink.hex();
            format!("<circle r=\"4.5\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2.2\"/>")
        }
        Key::Point(shape, ink) => {
            let corners: Vec<String> = shape
                .corners()
                .iter()
                .map(|(x, y)| format!("{:.1},{:.1}", 5.0 * x, 5.0 * y))
                .collect();
            format!("<polygon points=\"{}\" fill=\"{}\"/>", corners.join(" "), ink.hex())
        }
        Key::Line(ink) => {
            format!("<path d=\"M-8 0H8\" stroke=\"{}\" stroke-width=\"2.4\"/>", ink.hex())
        }
        Key::Area(ink) => {
            let colour = ink.hex();
            format!("<rect x=\"-8\" y=\"-6\" width=\"16\" height=\"12\" fill=\"{colour}\"/>")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_comes_from_data_is_escaped() {
        assert_eq!(
            escape("<b a=\"x\">'&'</b>"),
            "&lt;b a=&quot;x&quot;&gt;&#39;&amp;&#39;&lt;/b&gt;"
        );
        assert_eq!(escape("a\u{0}b\u{1b}[1m"), "a\u{fffd}b\u{fffd}[1m");
        let mut sheet = Sheet::new("", &["<i>", ">n"]);
        sheet.row(["<script>".into(), "1".into()]);
        sheet.note("<u>");
        let html = table("<s>", &sheet) + &facts(&[("<q>", "<x>".into())]) + &folded("<p>", "");
        for tag in ["<i>", "<script>", "<u>", "<s>", "<q>", "<x>", "<p>"] {
            assert!(!html.replace("<p class", "").contains(tag), "{tag}: {html}");
        }
    }

    #[test]
    fn a_table_has_headers_and_right_aligned_numbers() {
        let mut sheet = Sheet::new("", &["model", ">ms"]);
        sheet.row(["a".into(), "1.5".into()]);
        let html = table("times", &sheet);
        assert!(html.contains("<caption>times</caption>"));
        assert!(html.contains("<th scope=\"col\" class=\"number\">ms</th>"));
        assert!(html.contains("<th scope=\"row\">a</th><td class=\"number\">1.5</td>"), "{html}");
    }
}
