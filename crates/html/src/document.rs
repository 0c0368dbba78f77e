//! The page around the sections: one file, no script, nothing fetched.

use crate::markup::escape;
use crate::theme;

const STYLE: &str = include_str!("style.css");

/// A section with its place in the table of contents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Section {
    /// Anchor.
    pub id: &'static str,
    /// Heading.
    pub title: &'static str,
    /// HTML.
    pub body: String,
}

/// A page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Document {
    /// What kind of report (`Validation`).
    pub kind: &'static str,
    /// Its subject.
    pub title: String,
    /// Version of the tool.
    pub version: String,
    /// HTML between the title and the first section.
    pub head: String,
    /// Sections in order.
    pub sections: Vec<Section>,
}

/// The page as HTML.
pub(crate) fn html(document: &Document) -> String {
    let contents: String = document
        .sections
        .iter()
        .map(|s| format!("<li><a href=\"#{}\">{}</a></li>\n", s.id, escape(s.title)))
        .collect();
    let sections: String = document
        .sections
        .iter()
        .map(|s| {
            format!(
                "<section id=\"{0}\" aria-labelledby=\"{0}-h\">\n<h2 id=\"{0}-h\">{1}</h2>\n\
                 {2}</section>\n",
                s.id,
                escape(s.title),
                s.body
            )
        })
        .collect();
    let (kind, title) = (escape(document.kind), escape(&document.title));
    let version = escape(&document.version);
    let colours = theme::css();
    // The policy makes the browser itself hold the page to what it promises.
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <meta name=\"generator\" content=\"Foretoken {version}\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; \
         style-src 'unsafe-inline'; img-src data:\">\n\
         <link rel=\"icon\" href=\"data:,\">\n\
         <title>{kind}: {title}</title>\n<style>\n{colours}{STYLE}</style>\n</head>\n<body>\n\
         <header>\n<p class=\"kicker\">Foretoken {version} · {kind}</p>\n<h1>{title}</h1>\n\
         {}</header>\n\
         <nav aria-label=\"Contents\">\n<ul>\n{contents}</ul>\n</nav>\n<main>\n{sections}</main>\n\
         <footer><p>Made by Foretoken {version}. Times are measured, not looked up; errors are \
         predicted ÷ observed − 1.</p></footer>\n</body>\n</html>\n",
        document.head
    )
}
