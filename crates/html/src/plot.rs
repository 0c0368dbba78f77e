//! What a plot shows, as plain data: the sections say it, [`render`] draws it.

mod axis;
mod render;

pub(crate) use axis::{Axis, row};
pub use render::PlotError;
pub(crate) use render::render;

use crate::theme::Ink;

/// Width of every plot: two fit beside each other on a desk, one fills a phone.
pub(crate) const WIDTH: u32 = 480;

/// A plot with its words for those who cannot see it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Plot {
    /// What it shows, in a few words.
    pub title: String,
    /// What can be seen in it, in a sentence or two.
    pub description: String,
    /// Height, where the width is [`WIDTH`].
    pub height: u32,
    /// Horizontal axis.
    pub x: Axis,
    /// Vertical axis.
    pub y: Axis,
    /// Areas lie below lines, lines below points, medians and words above them.
    pub marks: Vec<Mark>,
}

/// Something drawn at values of the axes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Mark {
    /// A filled polygon.
    Area(Vec<(f64, f64)>, Ink),
    /// A line through points.
    Line(Vec<(f64, f64)>, Ink, Stroke),
    /// A word, left of its place and above it.
    Word { at: (f64, f64), text: String, ink: Ink },
    /// An observation, with what a pointer that rests on it is told.
    Point { at: (f64, f64), shape: Shape, ink: Ink, tip: String },
}

/// Width of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stroke {
    /// Intervals.
    Thin,
    /// Limits.
    Medium,
    /// Medians.
    Thick,
}

/// Form of a point, so that colour is never alone in telling series apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// A filled circle.
    Disc,
    /// A triangle.
    Triangle,
    /// A diamond.
    Diamond,
    /// A square.
    Square,
    /// An empty circle.
    Ring,
}

impl Shape {
    /// The shape of a series by number.
    pub(crate) fn series(index: usize) -> Self {
        const SHAPES: [Shape; 4] = [Shape::Disc, Shape::Triangle, Shape::Diamond, Shape::Square];
        SHAPES[index % SHAPES.len()]
    }

    /// Its corners around the origin, for a radius of 1 and `y` downwards; none of a circle.
    pub(crate) fn corners(self) -> &'static [(f64, f64)] {
        match self {
            Self::Disc | Self::Ring => &[],
            Self::Triangle => &[(0.0, -1.2), (1.1, 0.8), (-1.1, 0.8)],
            Self::Diamond => &[(0.0, -1.3), (1.3, 0.0), (0.0, 1.3), (-1.3, 0.0)],
            Self::Square => &[(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)],
        }
    }
}
