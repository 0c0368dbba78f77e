//! What was judged and what came of it, in a sentence and a few large numbers.

use std::collections::BTreeSet;

use foretoken_report::units;
use foretoken_spec::{CalibrateReport, GroupError, HoldOut, ValidationReport};

use crate::markup::escape;
use crate::words;

/// The headline of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Headline {
    /// The finding, as one sentence or two.
    pub sentence: String,
    /// The numbers behind it.
    pub tiles: Vec<Tile>,
}

/// One number with what it is and what it is to be compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tile {
    /// What.
    pub name: String,
    /// How much.
    pub value: String,
    /// Beside what, one line each.
    pub beside: Vec<String>,
}

/// The hold-out that the headline and the residuals speak of: models, or the first there is.
pub(crate) fn main_hold_out(report: &ValidationReport) -> Option<HoldOut> {
    let asked = || report.groups.iter().map(|group| group.hold_out);
    asked().find(|h| *h == HoldOut::Model).or_else(|| asked().next())
}

/// The headline of a validation.
pub(crate) fn of_validation(report: &ValidationReport) -> Headline {
    let main = main_hold_out(report);
    let groups: Vec<&GroupError> =
        report.groups.iter().filter(|group| Some(group.hold_out) == main).collect();
    let Some(main) = main else {
        return Headline { sentence: "Nothing was held out.".into(), tiles: Vec::new() };
    };
    let cases = || report.cases.iter().filter(|case| case.hold_out == main);
    let n_groups = cases().map(|case| &case.held_out).collect::<BTreeSet<_>>().len();
    let errors: Vec<String> = groups.iter().map(|g| error_of(g)).collect();
    let n_cases = cases().count();
    let mut sentence = format!(
        "On {} that the fit had never seen, the median error is {}: {n_cases} cases in {n_groups} \
         groups, each held out as a whole.",
        words::held_out_things(main),
        words::list(&errors),
    );
    // With several setups the tiles say it: as sentences it would be no headline.
    for group in groups.iter().filter(|group| group.group.is_none()) {
        if let Some(words) = comparison(group) {
            sentence.push_str(&format!(" {words}."));
        }
    }
    Headline { sentence, tiles: groups.into_iter().map(tile).collect() }
}

fn error_of(group: &GroupError) -> String {
    let setup =
        group.group.as_deref().map_or_else(String::new, |s| format!(" on {}", words::setup(s)));
    format!("{} in {}{setup}", units::percent(group.mdape), group.phase.name())
}

/// The noise floor and the best naive method of one phase, as a sentence.
fn comparison(group: &GroupError) -> Option<String> {
    let noise = group.noise_floor.map(|noise| {
        let within = if group.mdape <= noise { ", more than the error itself" } else { "" };
        format!("two halves of the same measurements differ by {}{within}", units::percent(noise))
    });
    let naive = words::best_baseline(group).map(|(name, error)| {
        format!(
            "the best naive method ({}) errs by {}",
            words::baseline(name),
            units::percent(error)
        )
    });
    let both: Vec<String> = noise.into_iter().chain(naive).collect();
    (!both.is_empty()).then(|| format!("In {}, {}", group.phase.name(), both.join("; ")))
}

fn tile(group: &GroupError) -> Tile {
    let mut beside = Vec::new();
    if let Some(noise) = group.noise_floor {
        beside.push(format!("noise floor {}", units::percent(noise)));
    }
    if let Some((name, error)) = words::best_baseline(group) {
        beside.push(format!("best baseline {} ({})", units::percent(error), words::baseline(name)));
    }
    beside.push(format!("90th percentile {}", units::percent(group.p90_ape)));
    beside.push(format!("bias {}", units::signed_percent(group.bias)));
    Tile {
        name: format!("{} · held out by {}", group.phase.name(), words::held_out(group)),
        value: units::percent(group.mdape),
        beside,
    }
}

/// The headline of a calibration.
pub(crate) fn of_calibration(report: &CalibrateReport) -> Headline {
    let held_out = &report.fit.held_out;
    let mut tiles = Vec::new();
    let phases = [("prefill", held_out.prefill_mdape), ("decode", held_out.decode_mdape)];
    for (name, error) in phases {
        let Some(error) = error else { continue };
        let mut beside =
            vec![format!("{} held out in turn", words::count(held_out.n_groups as usize, "group"))];
        beside.extend(report.noise_floor.map(|n| format!("noise floor {}", units::percent(n))));
        tiles.push(Tile {
            name: format!("{name} · cross-validated"),
            value: units::percent(error),
            beside,
        });
    }
    let proof = report.proof.as_ref().and_then(|proof| {
        let errors: Vec<f64> = proof.cases.iter().map(|case| case.error.abs()).collect();
        Some((proof, foretoken_stats::median(&errors)?))
    });
    let calibration = &report.calibration;
    let mut sentence = format!(
        "{} with {} on {} threads is described by {} fitted to {}.",
        calibration.device,
        calibration.engine,
        calibration.threads,
        words::count(report.fit.forms.len(), "kernel term"),
        words::count(report.fit.observations as usize, "row"),
    );
    match proof {
        Some((proof, error)) => {
            sentence.push_str(&format!(
                " As a proof, {} {} was predicted before it was run: the median error is {}.",
                proof.model,
                proof.quant,
                units::percent(error)
            ));
            tiles.push(Tile {
                name: format!("proof · {} {}", proof.model, proof.quant),
                value: units::percent(error),
                beside: vec![
                    words::count(proof.cases.len(), "case"),
                    words::count(proof.loads as usize, "fresh load"),
                ],
            });
        }
        None => sentence.push_str(" No model was run to prove it."),
    }
    Headline { sentence, tiles }
}

/// The tiles as HTML; the sentence stands above them as the page's lead.
pub(crate) fn html(headline: &Headline) -> String {
    let tiles: String = headline
        .tiles
        .iter()
        .map(|tile| {
            let beside: String =
                tile.beside.iter().map(|line| format!("<li>{}</li>", escape(line))).collect();
            format!(
                "<div class=\"tile\"><p class=\"name\">{}</p><p class=\"value\">{}</p>\
                 <ul>{beside}</ul></div>\n",
                escape(&tile.name),
                escape(&tile.value)
            )
        })
        .collect();
    format!(
        "<p class=\"lead\">{}</p>\n<div class=\"tiles\">\n{tiles}</div>\n",
        escape(&headline.sentence)
    )
}
