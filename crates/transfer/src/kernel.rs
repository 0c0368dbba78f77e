//! How much two measurements have in common: the covariance of the mixed model.
//!
//! The logarithm of a time over its physical floor is a sum of normal effects: a mean, slopes along
//! the coordinates, levels of backend, engine, number format and generation, smooth effects of the
//! machine, of the work and of both together, and effects of the one device, of its formats and of
//! whoever measured it. The covariance is the sum of theirs; pooling is partial because each
//! effect has a variance of its own. Smooth effects have a Matérn covariance of order 3/2
//! (Rasmussen and Williams 2006, equation 4.17).

use ndarray::{Array1, Array2};
use serde::{Deserialize, Serialize};

use crate::task::Point;

/// Standard deviation of the overall mean: wide, so that it is learnt from the data alone.
const MEAN: f64 = 1.0;

macro_rules! effects {
    ($($(#[$doc:meta])* $name:ident = $start:literal, $kind:ident;)*) => {
        /// Sizes of the effects: standard deviations in units of the logarithm of a time, shares
        /// that unlike things have in common, and lengths over which smooth effects vary.
        #[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
        pub struct Effects { $($(#[$doc])* pub $name: f64,)* }

        impl Effects {
            /// Where the search begins, and what it is drawn back to.
            pub(crate) const START: Self = Self { $($name: $start,)* };
            /// Names, in order.
            pub(crate) const NAMES: &'static [&'static str] = &[$(stringify!($name),)*];

            pub(crate) fn values(&self) -> Vec<f64> {
                vec![$(self.$name,)*]
            }

            /// With the value of the parameter `index`, inside of what it may be.
            pub(crate) fn with(mut self, index: usize, value: f64) -> Self {
                let mut i = 0;
                $(if i == index { self.$name = Kind::$kind.clamp(value); } i += 1;)*
                let _ = i;
                self
            }
        }
    };
}

#[derive(Clone, Copy)]
enum Kind {
    Deviation,
    Share,
    Length,
}

impl Kind {
    fn clamp(self, value: f64) -> f64 {
        match self {
            Self::Deviation => value.clamp(0.005, 1.5),
            Self::Share => value.clamp(0.02, 0.98),
            Self::Length => value.clamp(0.3, 12.0),
        }
    }
}

effects! {
    /// Slope along each coordinate.
    slopes = 0.08, Deviation;
    /// Level of a backend, an engine, a format, a generation.
    levels = 0.12, Deviation;
    /// Smooth effect of the machine.
    machine = 0.2, Deviation;
    /// Smooth effect of the work.
    work = 0.2, Deviation;
    /// Smooth effect of machine and work together.
    both = 0.12, Deviation;
    /// The device itself.
    device = 0.1, Deviation;
    /// The device with one format.
    device_format = 0.06, Deviation;
    /// The device with one kind of work.
    device_work = 0.08, Deviation;
    /// Who measured the device, with which build and settings.
    source = 0.08, Deviation;
    /// What differs between two measurements of the same.
    noise = 0.05, Deviation;
    /// What unlike backends have in common.
    across_backends = 0.5, Share;
    /// What unlike engines have in common.
    across_engines = 0.5, Share;
    /// What unlike formats have in common.
    across_formats = 0.5, Share;
    /// What unlike generations have in common.
    across_generations = 0.5, Share;
    /// Over which distance machines differ.
    machine_length = 2.5, Length;
    /// Over which distance work differs.
    work_length = 2.5, Length;
}

impl Effects {
    /// Covariance of two measurements, without what is particular to one of them.
    pub(crate) fn between(&self, a: &Point, b: &Point) -> f64 {
        let (ta, tb) = (&a.tags, &b.tags);
        let same = |x: u64, y: u64| if x == y { 1.0 } else { 0.0 };
        let blend = |share: f64, likeness: f64| share + (1.0 - share) * likeness;
        let (machine_square, machine_dot) = products(&a.machine, &b.machine);
        let (work_square, work_dot) = products(&a.work, &b.work);
        let backend = same(ta.backend, tb.backend);
        let engine = same(ta.engine, tb.engine);
        let family = same(ta.family, tb.family);
        let quant = same(ta.quant, tb.quant);
        let generation = same(ta.generation, tb.generation);
        let of_backend = blend(self.across_backends, backend);
        let of_format = blend(self.across_formats, 0.7 * family + 0.3 * quant);
        let of_machine = self.machine_likeness(a, b, machine_square);
        let of_work =
            matern(work_square, self.work_length) * of_format * blend(self.across_engines, engine);
        let levels = backend + engine + family + 0.5 * generation + 0.5 * quant;
        let mut sum = MEAN * MEAN
            + self.slopes.powi(2) * (machine_dot + work_dot)
            + self.levels.powi(2) * levels
            + of_backend
                * (self.machine.powi(2) * of_machine
                    + self.work.powi(2) * of_work
                    + self.both.powi(2) * of_machine * of_work);
        if ta.device == tb.device {
            sum += of_backend
                * (self.device.powi(2)
                    + self.device_format.powi(2) * of_format
                    + self.device_work.powi(2) * of_work)
                + self.source.powi(2) * same(ta.source, tb.source);
        }
        sum
    }

    /// Correlation of the smooth effects of two machines: 1 is the same, 0 is unrelated.
    pub(crate) fn likeness(&self, a: &Point, b: &Point) -> f64 {
        self.machine_likeness(a, b, products(&a.machine, &b.machine).0)
    }

    fn machine_likeness(&self, a: &Point, b: &Point, square: f64) -> f64 {
        let same = |x: u64, y: u64| if x == y { 1.0 } else { 0.0 };
        let kin = 0.6 * same(a.tags.generation, b.tags.generation)
            + 0.4 * same(a.tags.maker, b.tags.maker);
        let share = self.across_generations;
        matern(square, self.machine_length) * (share + (1.0 - share) * kin)
    }

    /// Variance of a measurement at a point, noise included.
    pub(crate) fn variance(&self, point: &Point) -> f64 {
        self.between(point, point) + self.noise.powi(2) + point.rounding
    }

    /// Covariance matrix of measurements (n × n).
    pub(crate) fn matrix(&self, points: &[&Point]) -> Array2<f64> {
        let mut matrix = Array2::zeros((points.len(), points.len()));
        for (i, a) in points.iter().enumerate() {
            for (j, b) in points[..i].iter().enumerate() {
                let value = self.between(a, b);
                matrix[[i, j]] = value;
                matrix[[j, i]] = value;
            }
            matrix[[i, i]] = self.variance(a);
        }
        matrix
    }

    /// Covariances of a point with measurements (n).
    pub(crate) fn cross(&self, point: &Point, points: &[&Point]) -> Array1<f64> {
        points.iter().map(|other| self.between(point, other)).collect()
    }
}

/// Squared distance and inner product.
fn products(a: &[f64], b: &[f64]) -> (f64, f64) {
    a.iter()
        .zip(b)
        .fold((0.0, 0.0), |(square, dot), (x, y)| (square + (x - y) * (x - y), dot + x * y))
}

fn matern(square: f64, length: f64) -> f64 {
    let r = (3.0 * square).sqrt() / length;
    (1.0 + r) * (-r).exp()
}
