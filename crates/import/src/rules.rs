//! Rules that clean a store: which rows are listed and not used, and what a reader should weigh.
//!
//! A rule is a TOML table: `where` names columns and the cells that match (`*` stands for any
//! text, a list for any of its members); `exclude`, `flag`, `resolution`, `set` and `replace` say
//! what becomes of the rows. All rules are applied in order; of several exclusions the first stays.

use std::collections::BTreeMap;

use foretoken_spec::{SpeedPhase, SpeedRow};
use serde::Deserialize;

use crate::columns::{COLUMNS, cells};
use crate::{ImportError, names::quant_name};

/// A file of rules.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    /// The rules, in the order of applying.
    #[serde(rename = "rule")]
    pub rules: Vec<Rule>,
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Name for messages.
    pub id: String,
    /// Columns and what their cells must be; all must match.
    #[serde(rename = "where")]
    pub condition: BTreeMap<String, Pattern>,
    /// Reason why the rows are not used.
    pub exclude: Option<String>,
    /// What is to be weighed.
    pub flag: Option<String>,
    /// Step to which the speeds were rounded, in tokens per second.
    pub resolution: Option<f64>,
    /// Columns to correct: `device_kind`, `source_url`, `notes`, `arch`, `quant` or `batch`.
    #[serde(default)]
    pub set: BTreeMap<String, String>,
    /// Text to replace in such columns: what stands there, and what shall.
    #[serde(default)]
    pub replace: BTreeMap<String, [String; 2]>,
    /// The rule may meet no row: not every copy of the data has them, or it corrects what it looks
    /// for, once.
    #[serde(default)]
    pub may_meet_none: bool,
}

/// What a cell must be.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum Pattern {
    /// This text, in which `*` stands for any.
    One(String),
    /// Any of these.
    Any(Vec<String>),
}

impl Pattern {
    fn fits(&self, cell: &str) -> bool {
        match self {
            Self::One(pattern) => fits(pattern, cell),
            Self::Any(patterns) => patterns.iter().any(|pattern| fits(pattern, cell)),
        }
    }
}

/// Whether `cell` is `pattern`, in which `*` stands for any text.
fn fits(pattern: &str, cell: &str) -> bool {
    let Some((front, rest)) = pattern.split_once('*') else { return pattern == cell };
    let Some(tail) = cell.strip_prefix(front) else { return false };
    if !rest.contains('*') {
        return tail.ends_with(rest);
    }
    tail.char_indices().any(|(at, _)| fits(rest, &tail[at..]))
}

impl Rules {
    /// Reads rules.
    ///
    /// # Errors
    /// Names the rule and what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, ImportError> {
        let rules: Self = toml::from_str(text).map_err(|error| {
            let place = error.span().map(|span| text[..span.start].matches('\n').count() + 1);
            let line = place.map(|line| format!("line {line}: ")).unwrap_or_default();
            ImportError::Rules(format!("{line}{}", error.message().replace('\n', " ")))
        })?;
        rules.rules.iter().try_for_each(Rule::check)?;
        Ok(rules)
    }

    /// Drops the marks of earlier rules and applies these; answers how many rows each rule met.
    pub fn apply(&self, rows: &mut [SpeedRow]) -> Vec<u32> {
        let mut met = vec![0; self.rules.len()];
        for row in rows {
            row.flags.clear();
            row.resolution = None;
            row.excluded = (row.phase == SpeedPhase::Mixed).then(|| row.excluded.take()).flatten();
            for (rule, n) in self.rules.iter().zip(&mut met) {
                *n += u32::from(rule.apply(row));
            }
        }
        met
    }
}

impl Rule {
    fn check(&self) -> Result<(), ImportError> {
        let bad = |reason: String| ImportError::Rule { id: self.id.clone(), reason };
        if self.condition.is_empty() {
            return Err(bad("`where` names no column, and would meet every row".to_owned()));
        }
        if let Some(name) = self.condition.keys().find(|n| !COLUMNS.contains(&n.as_str())) {
            return Err(bad(format!("`where` names `{name}`; known: {}", COLUMNS.join(", "))));
        }
        let mut changed = self.set.keys().chain(self.replace.keys());
        if let Some(name) = changed.find(|name| !SETTABLE.contains(&name.as_str())) {
            let known = SETTABLE.join(", ");
            return Err(bad(format!("`set` or `replace` names `{name}`; known: {known}")));
        }
        let marks = self.exclude.is_some() || self.flag.is_some() || self.resolution.is_some();
        if !marks && self.set.is_empty() && self.replace.is_empty() {
            return Err(bad("has none of exclude, flag, resolution, set and replace".to_owned()));
        }
        if let Some([old, new]) = self.replace.values().find(|[old, new]| new.contains(old)) {
            return Err(bad(format!("replacing `{old}` by `{new}` would go on for ever")));
        }
        if self.resolution.is_some_and(|step| !step.is_finite() || step <= 0.0) {
            return Err(bad("`resolution` must be above 0".to_owned()));
        }
        if self.flag.as_deref().is_some_and(|f| f.trim().is_empty() || f.contains(';')) {
            return Err(bad("`flag` must be a word without semicolon".to_owned()));
        }
        Ok(())
    }

    /// Applies the rule to a row that it meets.
    fn apply(&self, row: &mut SpeedRow) -> bool {
        let found = cells(row);
        let meets = |name: &String, pattern: &Pattern| {
            COLUMNS.iter().position(|c| c == name).is_some_and(|at| pattern.fits(&found[at]))
        };
        if !self.condition.iter().all(|(name, pattern)| meets(name, pattern)) {
            return false;
        }
        if row.excluded.is_none() {
            row.excluded.clone_from(&self.exclude);
        }
        if let Some(flag) = self.flag.as_ref().filter(|flag| !row.flags.contains(*flag)) {
            row.flags.push(flag.clone());
        }
        row.resolution = self.resolution.or(row.resolution);
        for (name, value) in &self.set {
            set(row, name, value);
        }
        for (name, [old, new]) in &self.replace {
            if let Some(at) = COLUMNS.iter().position(|column| column == name) {
                set(row, name, &found[at].replace(old, new));
            }
        }
        true
    }
}

/// Columns that a rule may correct.
const SETTABLE: [&str; 6] = ["device_kind", "source_url", "notes", "arch", "quant", "batch"];

fn set(row: &mut SpeedRow, name: &str, value: &str) {
    let text = (!value.is_empty()).then(|| value.to_owned());
    match name {
        "device_kind" => row.device_kind = text,
        "source_url" => row.source_url = text,
        "notes" => row.notes = text,
        "arch" => row.arch = text,
        "quant" => row.quant = quant_name(value),
        _ => row.batch = text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Origin, read_csv};

    const DATA: &str = "\
runtime,device_id,backend,model,quant,phase,batch,tokens_per_second,notes
x,pi5,cpu,m,q4_0,decode,,8,rounded integers
x,npu1,npu,m,w8a8,decode,,8,
x,gpu1,cuda,m,q4_0,prefill,ub4,80,
";

    fn applied(rules: &str) -> (Vec<SpeedRow>, Vec<u32>) {
        let speeds = read_csv(DATA, &Origin::default()).unwrap();
        let mut rows: Vec<SpeedRow> = speeds.rows.into_iter().map(|(_, row)| row).collect();
        let met = Rules::parse(rules).unwrap().apply(&mut rows);
        (rows, met)
    }

    #[test]
    fn rows_are_marked_and_counted() {
        let (rows, met) = applied(
            "[[rule]]\nid = 'npu'\nwhere = { backend = 'npu' }\nexclude = 'another world'\n\
             [[rule]]\nid = 'again'\nwhere = { backend = 'npu' }\nexclude = 'later'\n\
             [[rule]]\nid = 'round'\nwhere = { notes = '*integer*' }\nresolution = 1.0\n\
             [[rule]]\nid = 'ub'\nwhere = { batch = ['ub1', 'ub4'], device_id = 'gpu*' }\n\
             flag = 'small_batch'\nset = { device_kind = 'gpu' }",
        );
        assert_eq!(met, [1, 1, 1, 1]);
        assert_eq!(rows[1].excluded.as_deref(), Some("another world"));
        assert_eq!((rows[0].resolution, rows[0].is_usable()), (Some(1.0), true));
        assert_eq!(rows[2].flags, ["small_batch"]);
        assert_eq!(rows[2].device_kind.as_deref(), Some("gpu"));
    }

    #[test]
    fn applying_twice_changes_nothing() {
        let text = "[[rule]]\nid = 'npu'\nwhere = { backend = 'npu' }\nexclude = 'x'\nflag = 'f'";
        let (mut rows, _) = applied(text);
        let once = rows.clone();
        Rules::parse(text).unwrap().apply(&mut rows);
        assert_eq!(rows, once);
    }

    #[test]
    fn stars_stand_for_any_text() {
        for (pattern, cell, expected) in [
            ("a*c", "abc", true),
            ("*b*", "abc", true),
            ("*", "", true),
            ("a*", "ba", false),
            ("*abc", "abc", true),
            ("ab*bc", "abc", false),
            ("*a*b*", "xbxa", false),
            ("±*", "±1", true),
        ] {
            assert_eq!(fits(pattern, cell), expected, "{pattern} {cell}");
        }
    }

    #[test]
    fn rules_that_say_nothing_are_refused() {
        for (text, word) in [
            ("[[rule]]\nid='a'\nwhere={}\nexclude='x'", "every row"),
            ("[[rule]]\nid='a'\nwhere={color='x'}\nexclude='x'", "`color`"),
            ("[[rule]]\nid='a'\nwhere={model='x'}", "none of"),
            ("[[rule]]\nid='a'\nwhere={model='x'}\nresolution=-1.0", "above 0"),
            ("[[rule]]\nid='a'\nwhere={model='x'}\nset={model='y'}", "names `model`"),
            ("[[rule]]\nid='a'\nwhere={model='x'}\nreplace={notes=['','y']}", "for ever"),
            ("[[rule]]\nid='a'\nwhere={model='x'}\nremove=true", "line 4: unknown field"),
            ("[[rule", "line 1"),
        ] {
            let error = Rules::parse(text).unwrap_err().to_string();
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
