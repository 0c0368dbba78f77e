//! Energy of a request: by the fit of a calibration, or from the power figures of a device.

use foretoken_spec::{EnergyFit, EnergyPrediction, Estimate};

use crate::answer::scaled;

/// Half-width (log space) of an estimate from power figures: half to twice. A guess: such figures
/// are maxima or single observations, and programs differ.
const CATALOGUE_HALF_WIDTH: f64 = 0.7;

/// One pass, as energy needs it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PassWork {
    /// Time of the pass and the sampling after it.
    pub seconds: Estimate,
    pub flop: f64,
    pub bytes: f64,
    /// Tokens that it generates: the sequences of a decode step.
    pub tokens: f64,
}

/// What is spent on a prompt and on each step behind it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RequestWork {
    pub prefill: Option<PassWork>,
    pub decode: Option<PassWork>,
    /// Decode steps of the request.
    pub steps: f64,
}

/// A fit that is evaluated.
struct EnergyModel<'a>(&'a EnergyFit);

impl EnergyModel<'_> {
    fn pass(&self, work: &PassWork) -> Estimate {
        let joules = |seconds: f64| {
            let values = [("seconds", seconds), ("flop", work.flop), ("bytes", work.bytes)];
            values.iter().map(|(name, value)| self.coefficient(name) * value).sum::<f64>()
        };
        let spread = self.0.half_width.exp();
        let Estimate { point, lower, upper, level } = work.seconds;
        Estimate {
            point: joules(point),
            lower: joules(lower) / spread,
            upper: joules(upper) * spread,
            level: level.min(self.0.level),
        }
    }

    fn coefficient(&self, name: &str) -> f64 {
        self.0.features.iter().find(|f| f.feature == name).map_or(0.0, |f| f.coefficient)
    }
}

/// Energy of a request by a calibration's fit; `None` where the fit says nothing of it.
pub(crate) fn request_energy(fit: &EnergyFit, work: &RequestWork) -> Option<EnergyPrediction> {
    let model = EnergyModel(fit);
    let prefill = work.prefill.as_ref().map(|pass| model.pass(pass));
    let step = work.decode.as_ref().map(|pass| model.pass(pass));
    let whole = sum(prefill, step, work.steps)?;
    let seconds = sum(work.prefill.map(|p| p.seconds), work.decode.map(|p| p.seconds), work.steps)?;
    let with_idle = Estimate {
        point: whole.point + fit.idle_w * seconds.point,
        lower: whole.lower + fit.idle_w * seconds.lower,
        upper: whole.upper + fit.idle_w * seconds.upper,
        level: whole.level,
    };
    (is_sound(&whole) && is_sound(&with_idle)).then(|| EnergyPrediction {
        estimate: whole,
        source: format!("measured: {}", fit.source),
        prefill,
        per_token: step.zip(work.decode).map(|(step, pass)| scaled(&step, 1.0 / pass.tokens)),
        with_idle: Some(with_idle),
        idle_w: Some(fit.idle_w),
        idle_guessed: false,
        battery_share: None,
    })
}

/// Energy of something that takes `seconds` on a device that draws `idle_w` while nothing runs and
/// `load_w` under load: `(load − idle) · seconds`, with an interval of half to twice, stretched by
/// that of the time. `None` of figures that cannot be: negative, or less under load than idle.
pub fn energy_from_power(idle_w: f64, load_w: f64, seconds: Estimate) -> Option<EnergyPrediction> {
    let is_possible = idle_w.is_finite() && idle_w >= 0.0 && load_w.is_finite() && load_w > idle_w;
    if !is_possible {
        return None;
    }
    let spread = CATALOGUE_HALF_WIDTH.exp();
    let by = |watts: f64, idle: f64| Estimate {
        point: (watts + idle) * seconds.point,
        lower: (watts / spread + idle) * seconds.lower,
        upper: (watts * spread + idle) * seconds.upper,
        level: seconds.level,
    };
    let estimate = by(load_w - idle_w, 0.0);
    is_sound(&estimate).then(|| EnergyPrediction {
        estimate,
        source: "estimated from catalogue power".to_owned(),
        prefill: None,
        per_token: None,
        with_idle: Some(by(load_w - idle_w, idle_w)),
        idle_w: Some(idle_w),
        idle_guessed: false,
        battery_share: None,
    })
}

/// A prompt and the steps behind it; interval ends add up, as the errors of one fit go together.
fn sum(prefill: Option<Estimate>, step: Option<Estimate>, steps: f64) -> Option<Estimate> {
    let steps = step.map(|step| scaled(&step, steps));
    match (prefill, steps) {
        (Some(a), Some(b)) => Some(Estimate {
            point: a.point + b.point,
            lower: a.lower + b.lower,
            upper: a.upper + b.upper,
            level: a.level.min(b.level),
        }),
        (one, other) => one.or(other),
    }
}

fn is_sound(e: &Estimate) -> bool {
    e.lower > 0.0 && e.lower <= e.point && e.point <= e.upper && e.upper.is_finite()
}

#[cfg(test)]
mod tests {
    use foretoken_spec::FeatureCoefficient;

    use super::*;

    fn estimate(point: f64, lower: f64, upper: f64) -> Estimate {
        Estimate { point, lower, upper, level: 0.9 }
    }

    fn fit() -> EnergyFit {
        let coefficient = |feature: &str, coefficient: f64| FeatureCoefficient {
            feature: feature.into(),
            unit: String::new(),
            coefficient,
            std_error: None,
            range: [0.0, 1.0],
        };
        EnergyFit {
            source: "rapl".into(),
            meter: "package-0".into(),
            idle_w: 5.0,
            features: vec![
                coefficient("seconds", 10.0),
                coefficient("flop", 2e-11),
                coefficient("bytes", 3e-10),
            ],
            n_observations: 9,
            n_not_above_idle: 0,
            held_out_mdape: Some(0.05),
            half_width: 2f64.ln(),
            level: 0.9,
            n_groups: 3,
        }
    }

    fn work(steps: f64) -> RequestWork {
        RequestWork {
            // 10 W · 2 s + 2e-11 · 1e12 + 3e-10 · 1e10 = 20 + 20 + 3 = 43 J
            prefill: Some(PassWork {
                seconds: estimate(2.0, 1.0, 4.0),
                flop: 1e12,
                bytes: 1e10,
                tokens: 1.0,
            }),
            // 10 W · 0.1 s + 2e-11 · 2e9 + 3e-10 · 1e9 = 1 + 0.04 + 0.3 = 1.34 J
            decode: Some(PassWork {
                seconds: estimate(0.1, 0.1, 0.1),
                flop: 2e9,
                bytes: 1e9,
                tokens: 1.0,
            }),
            steps,
        }
    }

    #[test]
    fn a_request_is_its_prompt_and_its_steps() {
        let energy = request_energy(&fit(), &work(10.0)).unwrap();
        assert!((energy.estimate.point - (43.0 + 13.4)).abs() < 1e-9);
        assert!((energy.per_token.unwrap().point - 1.34).abs() < 1e-9);
        // The prompt in half the time takes 33 J, the spread of the fit halves that.
        assert!((energy.prefill.unwrap().lower - 16.5).abs() < 1e-9);
        // Twice 63 J.
        assert!((energy.prefill.unwrap().upper - 126.0).abs() < 1e-9);
        // 5 W over 2 + 10 · 0.1 s.
        assert!((energy.with_idle.unwrap().point - (56.4 + 15.0)).abs() < 1e-9);
        assert_eq!(energy.source, "measured: rapl");
    }

    #[test]
    fn a_step_of_several_sequences_is_shared_by_their_tokens() {
        let mut work = work(10.0);
        work.decode.as_mut().unwrap().tokens = 4.0;
        let energy = request_energy(&fit(), &work).unwrap();
        assert!((energy.per_token.unwrap().point - 1.34 / 4.0).abs() < 1e-9);
        assert!((energy.estimate.point - 56.4).abs() < 1e-9);
    }

    #[test]
    fn one_phase_alone_has_the_energy_of_that_phase() {
        let prompt = RequestWork { decode: None, ..work(0.0) };
        assert!((request_energy(&fit(), &prompt).unwrap().estimate.point - 43.0).abs() < 1e-9);
        let nothing = RequestWork { prefill: None, decode: None, steps: 0.0 };
        assert_eq!(request_energy(&fit(), &nothing), None);
    }

    #[test]
    fn a_fit_that_found_nothing_says_nothing() {
        let mut nothing = fit();
        nothing.features.clear();
        assert_eq!(request_energy(&nothing, &work(10.0)), None);
    }

    #[test]
    fn power_figures_give_half_to_twice() {
        // (12 − 4) W · 10 s.
        let energy = energy_from_power(4.0, 12.0, estimate(10.0, 9.0, 11.0)).unwrap();
        assert!((energy.estimate.point - 80.0).abs() < 1e-9);
        assert!(
            energy.estimate.lower < 8.0 * 9.0 / 1.9 && energy.estimate.upper > 8.0 * 11.0 * 1.9
        );
        assert!((energy.with_idle.unwrap().point - 120.0).abs() < 1e-9);
        assert_eq!(energy.source, "estimated from catalogue power");
    }

    #[test]
    fn impossible_power_figures_are_refused() {
        let seconds = estimate(1.0, 1.0, 1.0);
        for (idle, load) in [(5.0, 5.0), (5.0, 4.0), (-1.0, 4.0), (1.0, f64::NAN)] {
            assert_eq!(energy_from_power(idle, load, seconds), None, "{idle} {load}");
        }
    }
}
