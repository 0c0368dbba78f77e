//! Colours by what they mean, light and dark.
//!
//! A plot is drawn in the light colours, so its SVG stands alone. The style sheet of the page then
//! maps each of them onto a variable by attribute selectors, which makes every plot follow the
//! reader's theme. This needs each meaning to have a light colour of its own.

/// What a mark stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ink {
    /// Words and axes.
    Text,
    /// Words of less weight.
    Muted,
    /// Grid lines.
    Grid,
    /// The band within which an error is small.
    Band,
    /// Where predicted equals observed.
    Ideal,
    /// Limits: the noise floor, the nominal level, a ceiling.
    Limit,
    /// Naive methods.
    Naive,
    /// What missed.
    Missed,
    /// A series by number; phases in their order.
    Series(usize),
}

/// Name of the variable, light and dark colour.
type Shade = (&'static str, [u8; 3], [u8; 3]);

const PLAIN: [(Ink, Shade); 8] = [
    (Ink::Text, ("text", [0x1b, 0x1f, 0x24], [0xe6, 0xed, 0xf3])),
    (Ink::Muted, ("muted", [0x57, 0x60, 0x6a], [0x9d, 0xa7, 0xb3])),
    (Ink::Grid, ("grid", [0xe3, 0xe6, 0xea], [0x2b, 0x32, 0x3a])),
    (Ink::Band, ("band", [0xe2, 0xf0, 0xe9], [0x15, 0x30, 0x2a])),
    (Ink::Ideal, ("ideal", [0x8b, 0x94, 0x9d], [0x74, 0x7e, 0x89])),
    (Ink::Limit, ("limit", [0x6a, 0x72, 0x7c], [0x8f, 0x99, 0xa5])),
    (Ink::Naive, ("naive", [0x85, 0x8d, 0x96], [0x7c, 0x86, 0x91])),
    (Ink::Missed, ("missed", [0xc0, 0x2c, 0x45], [0xff, 0x7d, 0x8c])),
];

const SERIES: [Shade; 6] = [
    ("series-1", [0x0b, 0x62, 0xb8], [0x63, 0xb0, 0xff]),
    ("series-2", [0xb4, 0x53, 0x09], [0xf2, 0xa6, 0x5a]),
    ("series-3", [0x0f, 0x76, 0x6e], [0x4f, 0xd1, 0xc5]),
    ("series-4", [0x6d, 0x3f, 0xc4], [0xb7, 0x9b, 0xff]),
    ("series-5", [0x9d, 0x17, 0x4d], [0xf6, 0x87, 0xb3]),
    ("series-6", [0x4d, 0x5b, 0x07], [0xc3, 0xd3, 0x4b]),
];

impl Ink {
    fn shade(self) -> Shade {
        match self {
            Self::Series(index) => SERIES[index % SERIES.len()],
            plain => PLAIN.iter().find(|(ink, _)| *ink == plain).map_or(SERIES[0], |(_, s)| *s),
        }
    }

    /// The light colour, which a plot is drawn in.
    pub(crate) fn rgb(self) -> [u8; 3] {
        self.shade().1
    }

    /// The light colour as an SVG attribute has it.
    pub(crate) fn hex(self) -> String {
        hex(self.rgb())
    }
}

/// Upper case, as the SVG backend writes it: attribute selectors mind the case.
fn hex([r, g, b]: [u8; 3]) -> String {
    format!("#{r:02X}{g:02X}{b:02X}")
}

/// The variables of both themes, and the rules that make plots follow them.
pub(crate) fn css() -> String {
    let shades = || PLAIN.iter().map(|(_, shade)| shade).chain(&SERIES);
    let variables = |pick: fn(&Shade) -> [u8; 3]| {
        shades().map(|shade| format!("--{}:{};", shade.0, hex(pick(shade)))).collect::<String>()
    };
    let light = variables(|shade| shade.1);
    let dark = variables(|shade| shade.2);
    let rules: String = shades()
        .map(|(name, light, _)| {
            let light = hex(*light);
            format!(
                ".plot [fill=\"{light}\"]{{fill:var(--{name})}}\
                 .plot [stroke=\"{light}\"]{{stroke:var(--{name})}}\n"
            )
        })
        .collect();
    format!(
        ":root{{{light}}}\n\
         @media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}\n{rules}"
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Relative luminance and contrast as WCAG 2 defines them.
    fn contrast(a: [u8; 3], b: [u8; 3]) -> f64 {
        let luminance = |rgb: [u8; 3]| {
            let linear = rgb.map(|c| {
                let c = f64::from(c) / 255.0;
                if c <= 0.040_45 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) }
            });
            0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
        };
        let (a, b) = (luminance(a), luminance(b));
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    #[test]
    fn each_meaning_has_a_light_colour_of_its_own() {
        let shades: Vec<Shade> = PLAIN.iter().map(|(_, s)| *s).chain(SERIES).collect();
        let colours: BTreeSet<[u8; 3]> = shades.iter().map(|shade| shade.1).collect();
        assert_eq!(colours.len(), shades.len());
    }

    #[test]
    fn words_and_marks_stand_out_in_both_themes() {
        let (white, night) = ([0xff, 0xff, 0xff], [0x12, 0x16, 0x1b]);
        let least = |name: &str| match name {
            "grid" | "band" => 1.0,
            "text" | "muted" => 4.5,
            _ => 3.0,
        };
        for (name, light, dark) in PLAIN.iter().map(|(_, shade)| *shade).chain(SERIES) {
            assert!(contrast(light, white) >= least(name), "{name}, light");
            assert!(contrast(dark, night) >= least(name), "{name}, dark");
        }
    }

    #[test]
    fn the_style_sheet_maps_every_colour() {
        let css = css();
        assert!(css.contains(".plot [fill=\"#0B62B8\"]{fill:var(--series-1)}"), "{css}");
        assert!(css.contains("--series-1:#63B0FF;"), "{css}");
    }
}
