//! What the page rests on, and what its reader should know.

use crate::markup::escape;

/// Warnings and files as lists; `command` makes the page again.
pub(crate) fn html(files: &[String], warnings: &[String], command: &str) -> String {
    let list = |items: &[String]| -> String {
        items.iter().map(|item| format!("<li>{}</li>\n", escape(item))).collect()
    };
    let warned = match warnings {
        [] => "<p>No warnings.</p>\n".to_owned(),
        some => format!("<ul class=\"warnings\">\n{}</ul>\n", list(some)),
    };
    format!(
        "{warned}<h3>Files</h3>\n<ul>\n{}</ul>\n<p class=\"note\">Made by <code>{}</code>; the same \
         figures as JSON, CSV or Markdown with <code>--format</code>.</p>\n",
        list(files),
        escape(command)
    )
}
