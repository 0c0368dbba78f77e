//! Sources that rows of the catalogue name: `key`, `key#place` where the source is a list of many
//! devices, or a list of such names where a figure took several.

use std::collections::BTreeMap;

use foretoken_spec::FigureSource;
use serde::Deserialize;
use serde_json::Value;

/// What stands in the words of a source for the place in it.
const PLACE: &str = "{}";

/// `sources.toml`.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub(super) struct Sources(BTreeMap<String, FigureSource>);

impl Sources {
    /// # Errors
    /// No TOML, or a table that is no source.
    pub(super) fn parse(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }

    /// The source of a name, or of a list of names: their words joined, as sure as the least sure.
    ///
    /// # Errors
    /// An unknown key, a place where the source has none or the other way round, an empty list.
    pub(super) fn find(&self, names: &Value) -> Result<FigureSource, String> {
        let Value::Array(names) = names else { return self.one(names) };
        let mut joined: Option<FigureSource> = None;
        for name in names {
            let next = self.one(name)?;
            joined = Some(match joined {
                Some(before) => join(before, &next),
                None => next,
            });
        }
        joined.ok_or_else(|| "an empty list of sources".into())
    }

    fn one(&self, name: &Value) -> Result<FigureSource, String> {
        let name = name.as_str().unwrap_or_default();
        let (key, place) = match name.split_once('#') {
            Some((key, place)) => (key, Some(place)),
            None => (name, None),
        };
        let mut found =
            self.0.get(key).cloned().ok_or_else(|| format!("unknown source `{key}`"))?;
        match (place, found.source.contains(PLACE)) {
            (Some(place), true) => found.source = found.source.replace(PLACE, place),
            (None, false) => {}
            (Some(_), false) => return Err(format!("source `{key}` has no places: `{name}`")),
            (None, true) => return Err(format!("source `{key}` needs a place: `{key}#…`")),
        }
        Ok(found)
    }
}

/// Both together. What was remembered in part was not read: the last of the kinds counts.
fn join(before: FigureSource, next: &FigureSource) -> FigureSource {
    FigureSource {
        basis: before.basis.max(next.basis),
        confidence: before.confidence.min(next.confidence),
        source: format!("{}; {}", before.source, next.source),
    }
}

#[cfg(test)]
mod tests {
    use foretoken_spec::{Confidence, FigureBasis};
    use serde_json::json;

    use super::*;

    fn sources() -> Sources {
        let text = r#"
            [list]
            basis = "published"
            confidence = "high"
            source = "https://example.org/list/{}"

            [page]
            basis = "published"
            confidence = "medium"
            source = "https://example.org/page"

            [memory]
            basis = "from_memory"
            confidence = "low"
            source = "from memory"
        "#;
        Sources::parse(text).unwrap()
    }

    #[test]
    fn a_place_goes_into_the_address() {
        let found = sources().find(&json!("list#c2862")).unwrap();
        assert_eq!(found.source, "https://example.org/list/c2862");
        assert_eq!(found.confidence, Confidence::High);
        assert_eq!(sources().find(&json!("page")).unwrap().source, "https://example.org/page");
    }

    #[test]
    fn several_are_as_sure_as_the_least_sure() {
        let found = sources().find(&json!(["list#a", "page"])).unwrap();
        assert_eq!(found.source, "https://example.org/list/a; https://example.org/page");
        assert_eq!(found.confidence, Confidence::Medium);
        assert_eq!(found.basis, FigureBasis::Published);
        let found = sources().find(&json!(["memory", "page"])).unwrap();
        assert_eq!(found.confidence, Confidence::Low);
        assert_eq!(found.basis, FigureBasis::FromMemory);
    }

    #[test]
    fn what_cannot_be_found_is_said() {
        let error = |names| sources().find(&names).unwrap_err();
        assert_eq!(error(json!("lost")), "unknown source `lost`");
        assert_eq!(error(json!("list")), "source `list` needs a place: `list#…`");
        assert_eq!(error(json!("page#a")), "source `page` has no places: `page#a`");
        assert_eq!(error(json!([])), "an empty list of sources");
        assert_eq!(error(json!(7)), "unknown source ``");
    }
}
