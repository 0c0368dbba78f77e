//! From a [`Plot`] to inline SVG: plotters draws, the page adds words and theme.

use std::ops::Range;

use plotters::coord::Shift;
use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use plotters::prelude::{
    Cartesian2d, ChartBuilder, ChartContext, Circle, DrawingArea, IntoDrawingArea, PathElement,
    Polygon, RGBColor, SVGBackend, ShapeStyle, Text, TextStyle,
};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, IntoFont};

use super::{Axis, Mark, Plot, Shape, Stroke, WIDTH};
use crate::markup::escape;
use crate::theme::Ink;

/// Coordinates of plotters are whole numbers, so a pixel of the page is this many of them.
const SCALE: u32 = 10;
/// Size of words in pixels of the page.
const WORDS: f64 = 12.5;
/// Height of a line of words, relative to their size.
const LINE: f64 = 1.3;
/// Space between words beside each other, relative to their size.
const APART: f64 = 0.4;
/// Margins of the plot in pixels of the page.
const TOP: f64 = 12.0;
const RIGHT: f64 = 24.0;
const BOTTOM: f64 = 4.0;
/// Radius of a point in pixels of the page.
const RADIUS: f64 = 3.6;
/// Opacity of points, so that those beneath show.
const SEEN_THROUGH: f64 = 0.8;
/// Opacity of intervals, which are many and matter less than their points.
const FAINT: f64 = 0.45;

/// A plot that could not be drawn.
#[derive(Debug, thiserror::Error)]
#[error("cannot draw the plot `{title}`: {message}")]
pub struct PlotError {
    title: String,
    message: String,
}

/// The plot as an `<svg>` element whose ids begin with `id`.
///
/// # Errors
/// What plotters refuses.
pub(crate) fn render(plot: &Plot, id: &str) -> Result<String, PlotError> {
    let drawn = draw(plot).map_err(|message| PlotError { title: plot.title.clone(), message })?;
    let body = drawn.find('>').map_or("", |end| &drawn[end + 1..]);
    let tips: Vec<&str> = plot
        .marks
        .iter()
        .filter_map(|mark| match mark {
            Mark::Point { tip, .. } => Some(tip.as_str()),
            _ => None,
        })
        .collect();
    Ok(format!(
        "<svg class=\"plot\" viewBox=\"0 0 {} {}\" role=\"img\" aria-labelledby=\"{id}-t {id}-d\">\
         <title id=\"{id}-t\">{}</title><desc id=\"{id}-d\">{}</desc>\n{}",
        WIDTH * SCALE,
        plot.height * SCALE,
        escape(&plot.title),
        escape(&plot.description),
        with_tips(body, &tips),
    ))
}

/// Puts each tip into its point. Points are drawn last, one element each, so they are the last
/// circles and polygons; each element is a line of its own.
fn with_tips(svg: &str, tips: &[&str]) -> String {
    let mut lines: Vec<String> = svg.lines().map(str::to_owned).collect();
    let mut tips = tips.iter().rev();
    for line in lines.iter_mut().rev() {
        let name = ["circle", "polygon"].into_iter().find(|n| line.starts_with(&format!("<{n} ")));
        let (Some(name), Some(open)) = (name, line.strip_suffix("/>")) else { continue };
        let Some(tip) = tips.next() else { break };
        *line = format!("{open}><title>{}</title></{name}>", escape(tip));
    }
    lines.join("\n")
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// An [`Axis`] as plotters knows it: places on the scale, with the ticks that we chose.
struct Places {
    range: Range<f64>,
    ticks: Vec<(f64, String)>,
}

impl Places {
    fn of(axis: &Axis, ticks: &[(f64, String)]) -> Self {
        let ticks = ticks.iter().map(|(at, text)| (axis.place(*at), text.clone())).collect();
        Self { range: axis.place(axis.range.0)..axis.place(axis.range.1), ticks }
    }
}

impl Ranged for Places {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (first, last): (i32, i32)) -> i32 {
        let share = (value - self.range.start) / (self.range.end - self.range.start);
        first + (share * f64::from(last - first)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        if hint.weight().allow_light_points() {
            return Vec::new();
        }
        self.ticks.iter().map(|(at, _)| *at).collect()
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}

impl ValueFormatter<f64> for Places {
    fn format_ext(&self, value: &f64) -> String {
        let tick = self.ticks.iter().find(|(at, _)| (at - value).abs() < 1e-9);
        tick.map_or_else(String::new, |(_, text)| text.clone())
    }
}

fn draw(plot: &Plot) -> Result<String, String> {
    let mut text = String::new();
    {
        let size = (WIDTH * SCALE, plot.height * SCALE);
        let root = SVGBackend::with_string(&mut text, size).into_drawing_area();
        draw_on(&root, plot).map_err(|error| error.to_string())?;
        root.present().map_err(|error| error.to_string())?;
    }
    Ok(text)
}

type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<Places, Places>>;
type Drawn = Result<(), Box<dyn std::error::Error>>;

fn draw_on(root: &Area<'_>, plot: &Plot) -> Drawn {
    let (x, y) = (&plot.x, &plot.y);
    let x_room = if x.label.is_empty() { 2.0 * WORDS } else { 3.6 * WORDS };
    let height = f64::from(plot.height) - TOP - BOTTOM - x_room;
    let y_ticks = y.ticks(height, |_| LINE * WORDS);
    let longest = y_ticks.iter().map(|(_, text)| width(text)).fold(0.0, f64::max);
    let title_room = if y.label.is_empty() { 0.0 } else { 1.7 * WORDS };
    let y_room = longest * WORDS + 12.0 + title_room;
    let x_ticks = x.ticks(f64::from(WIDTH) - RIGHT - y_room, |text| (width(text) + APART) * WORDS);
    let mut builder = ChartBuilder::on(root);
    builder
        .margin_top(px(TOP))
        .margin_right(px(RIGHT))
        .margin_bottom(px(BOTTOM))
        .x_label_area_size(px(x_room))
        .y_label_area_size(px(y_room));
    let mut chart = builder.build_cartesian_2d(Places::of(x, x_ticks), Places::of(y, y_ticks))?;
    chart
        .configure_mesh()
        .bold_line_style(style(Ink::Grid).stroke_width(px(1.0)))
        .light_line_style(RGBColor(0, 0, 0).mix(0.0))
        .axis_style(style(Ink::Grid).stroke_width(px(1.0)))
        .label_style(words(Ink::Muted, WORDS))
        .axis_desc_style(words(Ink::Muted, WORDS))
        .set_all_tick_mark_size(px(4.0))
        .x_desc(x.label.as_str())
        .y_desc(y.label.as_str())
        .draw()?;
    let mut marks: Vec<&Mark> = plot.marks.iter().collect();
    marks.sort_by_key(|mark| layer(mark));
    marks.into_iter().try_for_each(|mark| draw_mark(root, &chart, plot, mark))
}

/// Marks of a higher layer lie over those of a lower one. No circle and no polygon may lie over
/// the points (see [`with_tips`]).
fn layer(mark: &Mark) -> u8 {
    match mark {
        Mark::Area(..) => 0,
        Mark::Line(_, _, Stroke::Thin | Stroke::Medium) => 1,
        Mark::Point { .. } => 2,
        Mark::Line(_, _, Stroke::Thick) | Mark::Word { .. } => 3,
    }
}

fn draw_mark(root: &Area<'_>, chart: &Chart<'_, '_>, plot: &Plot, mark: &Mark) -> Drawn {
    let area = chart.plotting_area();
    let place = |(x, y): (f64, f64)| (plot.x.place(x), plot.y.place(y));
    let places = |points: &[(f64, f64)]| points.iter().map(|at| place(*at)).collect::<Vec<_>>();
    match mark {
        Mark::Area(corners, ink) => {
            area.draw(&Polygon::new(places(corners), style(*ink).filled()))?;
        }
        Mark::Line(points, ink, stroke) => {
            let [r, g, b] = ink.rgb();
            let (width, opacity) = match stroke {
                Stroke::Thin => (1.2, FAINT),
                Stroke::Medium => (1.4, 1.0),
                Stroke::Thick => (2.6, 1.0),
            };
            let style = ShapeStyle::from(RGBColor(r, g, b).mix(opacity));
            area.draw(&PathElement::new(places(points), style.stroke_width(px(width))))?;
        }
        Mark::Word { at, text, ink } => {
            let end = Pos::new(HPos::Right, VPos::Bottom);
            let style = words(*ink, WORDS - 1.0).pos(end);
            area.draw(&Text::new(text.as_str(), place(*at), style))?;
        }
        Mark::Point { at, shape, ink, .. } => {
            draw_point(root, area.map_coordinate(&place(*at)), *shape, *ink)?;
        }
    }
    Ok(())
}

fn draw_point(root: &Area<'_>, (x, y): (i32, i32), shape: Shape, ink: Ink) -> Drawn {
    let radius = RADIUS * f64::from(SCALE);
    let [r, g, b] = ink.rgb();
    let filled = ShapeStyle::from(RGBColor(r, g, b).mix(SEEN_THROUGH)).filled();
    match shape {
        Shape::Disc => root.draw(&Circle::new((x, y), radius as i32, filled))?,
        Shape::Ring => {
            let line = style(ink).stroke_width(px(1.6));
            root.draw(&Circle::new((x, y), radius as i32, line))?;
        }
        corners => {
            let at = |(dx, dy): &(f64, f64)| {
                (x + (dx * radius).round() as i32, y + (dy * radius).round() as i32)
            };
            let corners: Vec<(i32, i32)> = corners.corners().iter().map(at).collect();
            root.draw(&Polygon::new(corners, filled))?;
        }
    }
    Ok(())
}

/// Width of a text relative to the size of its words, in the wider of the system fonts.
fn width(text: &str) -> f64 {
    let of = |c: char| match c {
        'm' | 'w' | 'M' | 'W' | '%' | '…' => 0.95,
        'i' | 'l' | 'j' | 'f' | 't' | '.' | ',' | '-' | ' ' => 0.38,
        c if c.is_uppercase() || c.is_ascii_digit() => 0.68,
        _ => 0.62,
    };
    text.chars().map(of).sum()
}

/// Pixels of the page in plotters' units.
fn px(pixels: f64) -> u32 {
    (pixels * f64::from(SCALE)).round() as u32
}

fn style(ink: Ink) -> ShapeStyle {
    let [r, g, b] = ink.rgb();
    ShapeStyle::from(RGBColor(r, g, b))
}

fn words(ink: Ink, size: f64) -> TextStyle<'static> {
    let [r, g, b] = ink.rgb();
    // The backend writes a size divided by this.
    let size = size * f64::from(SCALE) * 1.24;
    ("sans-serif", size).into_font().color(&RGBColor(r, g, b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(marks: Vec<Mark>) -> Plot {
        Plot {
            title: "A < B".into(),
            description: "Says \"what\" & why.".into(),
            height: 300,
            x: Axis::log("tokens", [1.0, 100.0], |v| v.to_string()),
            y: Axis::rows(&["first".into(), "second".into()]),
            marks,
        }
    }

    fn point(shape: Shape, tip: &str) -> Mark {
        Mark::Point { at: (10.0, 1.0), shape, ink: Ink::Series(0), tip: tip.into() }
    }

    #[test]
    fn a_plot_names_and_describes_itself_and_points_nowhere() {
        let svg = render(&plot(Vec::new()), "p").unwrap();
        assert!(svg.starts_with("<svg class=\"plot\" viewBox=\"0 0 4800 3000\" role=\"img\""));
        assert!(svg.contains("<title id=\"p-t\">A &lt; B</title>"), "{svg}");
        assert!(svg.contains("<desc id=\"p-d\">Says &quot;what&quot; &amp; why.</desc>"), "{svg}");
        assert!(svg.trim_end().ends_with("</svg>"));
        assert!(!svg.contains("http"), "{svg}");
        assert!(svg.contains("second"));
    }

    #[test]
    fn each_point_carries_its_tip_and_an_area_none() {
        let area = Mark::Area(vec![(1.0, 0.0), (5.0, 0.0), (5.0, 1.0)], Ink::Band);
        let svg = render(
            &plot(vec![
                point(Shape::Disc, "one"),
                area,
                point(Shape::Triangle, "<two>"),
                point(Shape::Ring, "three"),
            ]),
            "p",
        )
        .unwrap();
        let tips: Vec<&str> =
            svg.lines().filter(|l| l.contains("<title>")).filter(|l| !l.contains("-t\"")).collect();
        assert_eq!(tips.len(), 3, "{svg}");
        assert!(tips[0].starts_with("<circle") && tips[0].contains("<title>one</title></circle>"));
        assert!(tips[1].contains("<title>&lt;two&gt;</title></polygon>"));
        assert!(tips[2].contains("fill=\"none\"") && tips[2].contains("three"));
    }

    #[test]
    fn only_colours_of_the_theme_are_drawn() {
        let svg = render(&plot(vec![point(Shape::Disc, "x")]), "p").unwrap();
        let known = crate::theme::css();
        for part in svg.split("=\"#").skip(1) {
            let colour = &part[..6];
            assert!(known.contains(&format!("\"#{colour}\"")), "#{colour}");
        }
    }
}
