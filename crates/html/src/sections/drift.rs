//! How steady the machine was: the reference workload and the loads themselves over a session.

use std::collections::{BTreeMap, BTreeSet};

use foretoken_observe::{configurations, contended_loads, counted_samples};
use foretoken_report::{Sheet, units};
use foretoken_spec::{Measurement, Phase};
use foretoken_stats::{median, quantile};

use crate::markup::{Key, figures, legend, paragraph, table};
use crate::plot::{Axis, Mark, Plot, PlotError, Shape, Stroke};
use crate::theme::Ink;
use crate::words;

/// Sessions that are drawn; the table has all.
const MOST_DRAWN: usize = 4;

/// One interleaved run.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Session {
    name: String,
    device: String,
    begun: String,
    ended: String,
    /// The reference around each load.
    reference: Vec<Reference>,
    /// Each configuration's loads, relative to its median over the session's loads.
    loads: Vec<Load>,
    n_contended: usize,
}

/// One run of the reference workload.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Reference {
    /// The load's position; the run after a load lies behind it.
    position: f64,
    stream: f64,
    matmul: f64,
}

/// The median of one configuration in one load.
#[derive(Debug, Clone, PartialEq)]
struct Load {
    position: f64,
    phase: Phase,
    /// Relative to the configuration's median.
    deviation: f64,
    tip: String,
}

/// The sessions of some measurements, in order of time.
pub(crate) fn sessions(measurements: &[Measurement]) -> Vec<Session> {
    let lines: Vec<&Measurement> = measurements.iter().collect();
    let contended = contended_loads(&lines);
    let mut by_session: BTreeMap<&str, Vec<&Measurement>> = BTreeMap::new();
    for line in &lines {
        by_session.entry(&line.session).or_default().push(line);
    }
    let mut sessions: Vec<Session> = by_session
        .into_iter()
        .map(|(name, lines)| {
            let times = || lines.iter().map(|m| m.time.as_str());
            Session {
                name: name.into(),
                device: lines.first().map_or_else(String::new, |m| m.device.id.clone()),
                begun: times().min().unwrap_or_default().into(),
                ended: times().max().unwrap_or_default().into(),
                reference: references(&lines),
                loads: deviations(&lines),
                n_contended: contended.iter().filter(|(session, _)| *session == name).count(),
            }
        })
        .collect();
    sessions.sort_by(|a, b| (&a.begun, &a.name).cmp(&(&b.begun, &b.name)));
    sessions
}

/// All lines of a load carry the same reference: each is taken once.
fn references(lines: &[&Measurement]) -> Vec<Reference> {
    let mut seen = BTreeSet::new();
    let mut references = Vec::new();
    for line in lines {
        if !seen.insert(line.sequence) {
            continue;
        }
        let n = line.reference.len().max(1) as f64;
        for (index, sample) in line.reference.iter().enumerate() {
            references.push(Reference {
                position: f64::from(line.sequence) + 0.6 * index as f64 / n,
                stream: sample.stream_bytes_per_second,
                matmul: sample.matmul_flop_per_second,
            });
        }
    }
    references.sort_by(|a, b| a.position.total_cmp(&b.position));
    references
}

/// Configurations with a single load say nothing about drift and are left out.
fn deviations(lines: &[&Measurement]) -> Vec<Load> {
    let mut loads = Vec::new();
    for group in configurations(lines) {
        for phase in [Phase::Prefill, Phase::Decode] {
            let medians: Vec<(&Measurement, f64)> =
                group.iter().filter_map(|line| Some((*line, load_median(line, phase)?))).collect();
            let values: Vec<f64> = medians.iter().map(|(_, ms)| *ms).collect();
            let Some(middle) = median(&values).filter(|_| values.len() > 1) else { continue };
            loads.extend(medians.iter().map(|(line, ms)| Load {
                position: f64::from(line.sequence),
                phase,
                deviation: ms / middle - 1.0,
                tip: format!(
                    "load {}: {} {} · {}, prompt {}, depth {}: {}, {} from the median",
                    line.sequence,
                    line.model.name,
                    line.model.quant,
                    phase.name(),
                    line.workload.prompt_tokens,
                    line.workload.depth,
                    units::duration_ms(*ms),
                    units::signed_percent(ms / middle - 1.0)
                ),
            }));
        }
    }
    loads
}

fn load_median(line: &Measurement, phase: Phase) -> Option<f64> {
    let samples = match phase {
        Phase::Prefill => &line.prefill,
        Phase::Decode => &line.decode,
    };
    let (counted, _) = counted_samples(samples);
    median(&counted.iter().map(|s| s.forward_ns as f64 / 1e6).collect::<Vec<_>>())
}

/// Plots of the longest sessions and a table of all.
///
/// # Errors
/// A plot that cannot be drawn.
pub(crate) fn html(measurements: &[Measurement]) -> Result<String, PlotError> {
    let sessions = sessions(measurements);
    let mut drawn: Vec<(usize, &Session)> = sessions.iter().enumerate().collect();
    drawn.sort_by_key(|(_, s)| std::cmp::Reverse(s.reference.len()));
    drawn.truncate(MOST_DRAWN);
    drawn.sort_by_key(|(index, _)| *index);
    let mut plots = Vec::new();
    for (index, session) in drawn {
        plots.extend(reference_plot(index + 1, session));
        plots.extend(loads_plot(index + 1, session));
    }
    let phases = words::phases(sessions.iter().flat_map(|s| &s.loads).map(|l| l.phase));
    let mut keys = vec![
        (Key::Point(Shape::Diamond, STREAM), "reference: reading memory".into()),
        (Key::Point(Shape::Ring, MATMUL), "reference: small matmul".into()),
    ];
    keys.extend(phases.into_iter().map(words::phase_key));
    keys.push((Key::Area(Ink::Band), "within ±10 %".into()));
    let intro = "First, for each session, the fixed reference workload just before and just after \
        each load, as a rate relative to the session's median: what falls here is the machine, not \
        the model. Then the median of each load relative to the median of the same configuration \
        over all of its loads.";
    let mut html = paragraph(intro) + &legend(&keys) + &figures("drift", &plots)?;
    if sessions.len() > MOST_DRAWN {
        html.push_str(&paragraph(&format!(
            "The {MOST_DRAWN} sessions with the most loads are drawn; the table has all {}.",
            sessions.len()
        )));
    }
    Ok(html + &table("Sessions", &session_sheet(&sessions)))
}

const STREAM: Ink = Ink::Series(2);
const MATMUL: Ink = Ink::Series(3);

fn reference_plot(number: usize, session: &Session) -> Option<Plot> {
    let stream = median(&session.reference.iter().map(|r| r.stream).collect::<Vec<_>>())?;
    let matmul = median(&session.reference.iter().map(|r| r.matmul).collect::<Vec<_>>())?;
    let mut marks = Vec::new();
    let mut values = Vec::new();
    for (ink, shape, middle, name, of) in [
        (
            STREAM,
            Shape::Diamond,
            stream,
            "reading memory",
            (|r: &Reference| r.stream) as fn(&Reference) -> f64,
        ),
        (MATMUL, Shape::Ring, matmul, "small matmul", |r: &Reference| r.matmul),
    ] {
        let write = |value: f64| match name {
            "reading memory" => units::bytes_per_second(value),
            _ => units::flop_per_second(value),
        };
        for reference in &session.reference {
            let deviation = of(reference) / middle - 1.0;
            values.push(deviation);
            marks.push(Mark::Point {
                at: (reference.position, deviation),
                shape,
                ink,
                tip: format!(
                    "load {}, {name}: {}, {} from the median",
                    reference.position.floor(),
                    write(of(reference)),
                    units::signed_percent(deviation)
                ),
            });
        }
    }
    let low = values.iter().copied().fold(0.0, f64::min);
    Some(over_loads(
        format!("Session {number}: reference rate · {}", session.device),
        format!(
            "The rate of the reference workload around {} loads, relative to the session's \
             medians of {} and {}. The lowest is {}.",
            n_loads(session),
            units::bytes_per_second(stream),
            units::flop_per_second(matmul),
            units::signed_percent(low)
        ),
        "rate against the median",
        &values,
        session,
        marks,
    ))
}

fn loads_plot(number: usize, session: &Session) -> Option<Plot> {
    let values: Vec<f64> = session.loads.iter().map(|load| load.deviation).collect();
    let spread = quantile(&values.iter().map(|v| v.abs()).collect::<Vec<_>>(), 0.9)?;
    let marks = session
        .loads
        .iter()
        .map(|load| Mark::Point {
            at: (
                load.position + if load.phase == Phase::Decode { 0.25 } else { 0.0 },
                load.deviation,
            ),
            shape: words::phase_shape(load.phase),
            ink: words::phase_ink(load.phase),
            tip: load.tip.clone(),
        })
        .collect();
    Some(over_loads(
        format!("Session {number}: loads against their median · {}", session.device),
        format!(
            "Median time of each load relative to the median over the loads of the same \
             configuration; nine in ten lie within ±{}.",
            units::percent(spread)
        ),
        "time against the median",
        &values,
        session,
        marks,
    ))
}

fn n_loads(session: &Session) -> usize {
    session.reference.iter().map(|r| r.position.floor() as i64).collect::<BTreeSet<_>>().len()
}

/// A plot over the loads of a session with the ±10 % band behind.
fn over_loads(
    title: String,
    description: String,
    label: &str,
    values: &[f64],
    session: &Session,
    points: Vec<Mark>,
) -> Plot {
    let positions = session.reference.iter().map(|r| r.position);
    let positions = positions.chain(session.loads.iter().map(|l| l.position));
    let (first, last) = positions
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), p| (low.min(p), high.max(p)));
    let x = (first - 0.8, last + 0.8);
    let far = values.iter().fold(0.12_f64, |far, v| far.max(v.abs())) * 1.08;
    let mut marks = vec![
        Mark::Area(vec![(x.0, -0.1), (x.1, -0.1), (x.1, 0.1), (x.0, 0.1)], Ink::Band),
        Mark::Line(vec![(x.0, 0.0), (x.1, 0.0)], Ink::Ideal, Stroke::Thin),
    ];
    marks.extend(points);
    Plot {
        title,
        description,
        height: 270,
        x: Axis::linear("load, in order", x, |v| {
            if v.fract() == 0.0 { v.to_string() } else { String::new() }
        }),
        y: Axis::linear(label, (-far, far), words::tick_percent),
        marks,
    }
}

fn session_sheet(sessions: &[Session]) -> Sheet {
    let mut sheet = Sheet::new(
        "",
        &[
            "session",
            "last load",
            ">loads",
            ">contended",
            ">reading memory",
            ">small matmul",
            ">loads within",
        ],
    );
    for (index, session) in sessions.iter().enumerate() {
        let spread = |of: fn(&Reference) -> f64, write: fn(f64) -> String| {
            let rates: Vec<f64> = session.reference.iter().map(of).collect();
            let at = |q| quantile(&rates, q);
            let span = at(0.1).zip(at(0.9)).zip(at(0.5));
            units::or_none(span, |((low, high), middle)| {
                format!(
                    "{} ({} … {})",
                    write(middle),
                    units::signed_percent(low / middle - 1.0),
                    units::signed_percent(high / middle - 1.0)
                )
            })
        };
        let deviations: Vec<f64> = session.loads.iter().map(|l| l.deviation.abs()).collect();
        sheet.row([
            format!("{} · {} · {}", index + 1, session.device, session.name),
            words::time(&session.ended),
            n_loads(session).to_string(),
            session.n_contended.to_string(),
            spread(|r| r.stream, units::bytes_per_second),
            spread(|r| r.matmul, units::flop_per_second),
            units::or_none(quantile(&deviations, 0.9), |v| format!("±{}", units::percent(v))),
        ]);
    }
    sheet.note(
        "Contended: another program was busy around the load; such loads are left out where others \
         remain. Reference rates: the median with the 10th and 90th percentile around it. Loads within: nine in ten load medians lie this close to the median of their \
         configuration.",
    );
    sheet
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn a_load_is_compared_with_its_own_configuration() {
        let lines = [testing::measurement(0, 10.0), testing::measurement(1, 14.0)];
        let session = &sessions(&lines)[0];
        let decode: Vec<f64> = session
            .loads
            .iter()
            .filter(|l| l.phase == Phase::Decode)
            .map(|l| (l.deviation * 1e4).round() / 1e4)
            .collect();
        // The median of 10 and 14 is 12.
        assert_eq!(decode, [-0.1667, 0.1667]);
        assert_eq!(session.reference.len(), 4);
    }

    #[test]
    fn workloads_of_one_load_share_its_reference() {
        let mut second = testing::measurement(0, 10.0);
        second.workload.prompt_tokens = 99;
        let lines = [testing::measurement(0, 10.0), second];
        let session = &sessions(&lines)[0];
        assert_eq!(session.reference.len(), 2);
        assert!(session.loads.is_empty(), "one load each says nothing about drift");
    }
}
