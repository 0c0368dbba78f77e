//! `--report`: one HTML file over the committed data, and the same figures in every format.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::util::{Run, Sandbox, fixture};

const SECTIONS: [&str; 9] =
    ["machine", "drift", "scatter", "errors", "coverage", "residuals", "roofline", "worst", "data"];

fn dataset(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("datasets").join(name);
    path.to_str().unwrap().to_owned()
}

fn validate(sandbox: &Sandbox, data: &str, more: &[&str]) -> Run {
    let args = ["validate", "--hold-out", "model", "--data", data];
    sandbox.good(&[&args[..], more].concat())
}

/// What stands between two marks, each time.
fn between<'a>(html: &'a str, before: &'a str, after: &'a str) -> Vec<&'a str> {
    html.split(before).skip(1).map(|rest| rest.split(after).next().unwrap()).collect()
}

/// Elements are closed in the order in which they were opened.
fn require_nested(html: &str) {
    let mut open: Vec<&str> = Vec::new();
    for part in html.split('<').skip(1) {
        let tag = part.split('>').next().unwrap();
        let name = tag.split_whitespace().next().unwrap();
        if name.starts_with('!') || tag.ends_with('/') || matches!(name, "meta" | "link") {
            continue;
        }
        match name.strip_prefix('/') {
            Some(name) => assert_eq!(open.pop(), Some(name), "</{name}>"),
            None => open.push(name),
        }
    }
    assert!(open.is_empty(), "{open:?}");
}

fn require_self_contained(html: &str) {
    for word in ["<script", "http://", "https://", "@import", "url(", " src=", "javascript:"] {
        assert!(!html.contains(word), "{word}");
    }
    let ids = between(html, " id=\"", "\"");
    for href in between(html, " href=\"", "\"") {
        let known = href.strip_prefix('#').is_some_and(|id| ids.contains(&id));
        assert!(known || href == "data:,", "{href}");
    }
}

#[test]
fn the_report_of_the_committed_data_has_all_sections_and_fetches_nothing() {
    let sandbox = Sandbox::new();
    let data = dataset("amd-epyc-zen5-2c-paired.jsonl");
    let run = validate(&sandbox, &data, &["--report", "out/report.html"]);
    assert!(run.stderr.contains("report: out/report.html"), "{}", run.stderr);
    let html = fs::read_to_string(sandbox.path("out/report.html")).unwrap();
    require_nested(&html);
    require_self_contained(&html);
    assert_eq!(between(&html, "<section id=\"", "\""), SECTIONS);
    for section in between(&html, "<section ", "</section>") {
        assert!(section.contains("<h2 id="), "{}", &section[..80]);
    }
    let plots = between(&html, "<svg class=\"plot\" ", "</svg>");
    assert!(plots.len() >= 12, "{} plots", plots.len());
    for plot in plots {
        assert!(plot.contains("role=\"img\" aria-labelledby="), "{}", &plot[..120]);
        assert!(plot.contains("<title id=") && plot.contains("<desc id="), "{}", &plot[..120]);
    }
    assert!(html.contains("prefers-color-scheme:dark"));
    assert!(html.contains("AMD EPYC"));
}

#[test]
fn the_same_data_give_the_same_report() {
    let sandbox = Sandbox::new();
    let data = fixture("measurements.jsonl");
    for name in ["a.html", "b.html"] {
        validate(&sandbox, &data, &["--report", name]);
    }
    let read = |name| fs::read_to_string(sandbox.path(name)).unwrap();
    assert_eq!(read("a.html"), read("b.html"));
}

/// A fraction as all formats for people write it.
fn percent(value: &Value) -> String {
    let value = 100.0 * value.as_f64().unwrap();
    let decimals = usize::from(value.abs() < 9.95);
    format!("{value:.decimals$} %")
}

#[test]
fn every_format_has_the_same_figures() {
    let sandbox = Sandbox::new();
    let data = dataset("amd-epyc-zen5-2c-architectures.jsonl");
    let json = validate(&sandbox, &data, &["--format", "json", "--report", "r.html"]).json();
    let markdown = validate(&sandbox, &data, &["--format", "markdown"]).stdout;
    let csv = validate(&sandbox, &data, &["--format", "csv"]).stdout;
    let html = fs::read_to_string(sandbox.path("r.html")).unwrap();
    for group in json["groups"].as_array().unwrap() {
        let phase = group["phase"].as_str().unwrap();
        let own = ["mdape", "mape", "p90_ape", "max_ape", "coverage", "within_10pct"];
        let row = |text: &str, cells: &str| -> String {
            let rows = text.lines().filter(|line| line.contains(cells));
            rows.collect::<Vec<_>>().join("\n")
        };
        let read = row(&markdown, &format!("| model | {phase} |"));
        let shown = row(&html, &format!("<th scope=\"row\">model</th><td>{phase}</td>"));
        let naive = group["baselines"].as_object().unwrap().values().map(|b| &b["mdape"]);
        for value in own.iter().map(|name| &group[*name]).chain(naive) {
            let figure = percent(value);
            assert!(read.contains(&figure), "Markdown, {phase}: {figure} in {read}");
            assert!(shown.contains(&figure), "HTML, {phase}: {figure} in {shown}");
        }
    }
    let cases = json["cases"].as_array().unwrap();
    assert_eq!(csv.lines().count(), cases.len() + 1);
    for (case, line) in cases.iter().zip(csv.lines().skip(1)) {
        for name in ["observed_ms", "predicted_ms", "lower_ms", "upper_ms", "error"] {
            let value = case[name].as_f64().unwrap().to_string();
            assert!(line.split(',').any(|cell| cell == value), "{name} {value} in {line}");
        }
    }
    assert!(html.contains(&format!("All {} cases", cases.len())));
}

#[test]
fn a_file_that_is_no_page_is_not_written_over() {
    let sandbox = Sandbox::new();
    let data = fixture("measurements.jsonl");
    let other = sandbox.file("thesis.txt", "years of work");
    sandbox.file("old.html", "<!DOCTYPE html>\n<p>old</p>");
    let commands = [&["validate", "--data", &data][..], &["calibrate", "--budget", "10h"]];
    for command in commands {
        let args = [command, &["--report", &other]].concat();
        sandbox.error_says(&args, &["thesis.txt exists and is no HTML page", "hint: "]);
        let args = [command, &["--report", "."]].concat();
        sandbox.error_says(&args, &["cannot write ."]);
    }
    assert_eq!(fs::read_to_string(sandbox.path(&other)).unwrap(), "years of work");
    validate(&sandbox, &data, &["--report", "old.html"]);
    assert!(fs::read_to_string(sandbox.path("old.html")).unwrap().contains("Foretoken"));
}
