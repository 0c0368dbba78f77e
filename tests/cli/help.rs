//! What the program says about itself.

use crate::util::Sandbox;

fn help(args: &[&str]) -> String {
    Sandbox::new().good(args).stdout
}

#[test]
fn help_of_the_program() {
    insta::assert_snapshot!(help(&["--help"]));
}

#[test]
fn help_of_each_command() {
    for command in [
        "calibrate",
        "predict",
        "validate",
        "measure",
        "profile",
        "import",
        "inspect",
        "synth",
        "models",
        "devices",
        "probe",
        "fit-devices",
    ] {
        let text = help(&[command, "--help"]);
        assert!(text.contains("Examples:"), "{command} shows no examples");
        insta::assert_snapshot!(format!("help-{command}"), text);
    }
}

#[test]
fn the_version_is_printed() {
    let expected = format!("foretoken {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(help(&["--version"]), expected);
}

#[test]
fn models_are_listed_as_json() {
    let models = Sandbox::new().good(&["models", "--format", "json"]).json();
    let ids: Vec<&str> =
        models.as_array().unwrap().iter().map(|m| m["id"].as_str().unwrap()).collect();
    for id in [
        "tinyllama-1.1b",
        "llama-3.2-1b",
        "llama-3.2-3b",
        "smollm2-135m",
        "smollm2-360m",
        "smollm2-1.7b",
        "llama-2-7b",
        "llama-3.1-8b",
    ] {
        assert!(ids.contains(&id), "{id} is not in {ids:?}");
    }
    assert!(ids.iter().any(|id| id.starts_with("mistral-7b")));
}

#[test]
fn models_are_filtered() {
    let csv = Sandbox::new().good(&["models", "smollm2", "--format", "csv"]).stdout;
    assert!(csv.lines().skip(1).all(|line| line.starts_with("smollm2")), "{csv}");
    assert!(csv.lines().count() >= 4);
}
