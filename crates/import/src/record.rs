//! One row of any format as named values.

use serde_json::{Map, Number, Value};

/// A row of a benchmark's output: field names and values, and where it stands.
///
/// Formats differ in how they write a value (`true`, `1`, `"1"`), so values are brought to one
/// spelling: numbers are numbers, truths are 1 and 0, and an empty text is no value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Record {
    /// Line of its beginning, from 1.
    pub line: u32,
    fields: Map<String, Value>,
}

impl Record {
    /// A record of these fields.
    pub fn new(line: u32, fields: impl IntoIterator<Item = (String, Value)>) -> Self {
        let fields = fields
            .into_iter()
            .map(|(name, value)| (name.trim().to_lowercase(), one_spelling(value)))
            .filter(|(name, value)| !name.is_empty() && !value.is_null())
            .collect();
        Self { line, fields }
    }

    /// Whether the field has a value.
    pub fn has(&self, name: &str) -> bool {
        self.fields.contains_key(name)
    }

    /// Sets a field that has no value yet.
    pub fn fill(&mut self, name: &str, value: Value) {
        self.fields.entry(name).or_insert(value);
    }

    /// A value that stays.
    pub fn peek(&self, name: &str) -> Option<&Value> {
        self.fields.get(name)
    }

    /// The names of all fields.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.fields.keys().map(String::as_str)
    }

    /// Takes a text; a number is one too.
    pub fn text(&mut self, name: &str) -> Option<String> {
        self.fields.remove(name).map(|value| match value {
            Value::String(text) => text,
            other => other.to_string(),
        })
    }

    /// Takes a number.
    ///
    /// # Errors
    /// Names the field and what stands in it.
    pub fn number(&mut self, name: &str) -> Result<Option<f64>, String> {
        let Some(value) = self.fields.remove(name) else { return Ok(None) };
        let number = match &value {
            Value::Number(number) => number.as_f64(),
            // Not in its shortest spelling: `1.50`.
            Value::String(text) => text.parse().ok(),
            _ => None,
        };
        number.filter(|n| n.is_finite()).map(Some).ok_or_else(|| bad(name, &value, "no number"))
    }

    /// Takes a whole number.
    ///
    /// # Errors
    /// Names the field and what stands in it.
    pub fn whole<T: TryFrom<i128>>(&mut self, name: &str) -> Result<Option<T>, String> {
        let Some(value) = self.fields.remove(name) else { return Ok(None) };
        whole(&value)
            .and_then(|number| T::try_from(number).ok())
            .map(Some)
            .ok_or_else(|| bad(name, &value, "no whole number that fits"))
    }

    /// Takes a list of numbers.
    ///
    /// # Errors
    /// Names the field and the first member that is none.
    pub fn list<T>(
        &mut self,
        name: &str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<Vec<T>, String> {
        let Some(value) = self.fields.remove(name) else { return Ok(Vec::new()) };
        let Value::Array(members) = &value else { return Err(bad(name, &value, "no list")) };
        members.iter().map(|m| read(m).ok_or_else(|| bad(name, m, "no number in a list"))).collect()
    }

    /// All that was not taken.
    pub fn rest(self) -> Map<String, Value> {
        self.fields
    }
}

/// A whole number, written as one or as a float without a fraction.
pub(crate) fn whole(value: &Value) -> Option<i128> {
    match value {
        Value::Number(number) => number
            .as_i64()
            .map(i128::from)
            .or_else(|| number.as_u64().map(i128::from))
            .or_else(|| number.as_f64().and_then(whole_float)),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

fn whole_float(number: f64) -> Option<i128> {
    // Above 2⁵³ a float cannot tell neighbouring whole numbers apart.
    (number.fract() == 0.0 && number.abs() <= 9_007_199_254_740_992.0).then_some(number as i128)
}

fn bad(name: &str, value: &Value, what: &str) -> String {
    let text = match value {
        Value::String(text) => text.escape_debug().to_string(),
        other => other.to_string(),
    };
    let short: String = text.chars().take(40).collect();
    format!("`{name}` is `{short}`, {what}")
}

/// One spelling per value; `Null` for what is none.
pub(crate) fn one_spelling(value: Value) -> Value {
    match value {
        Value::Bool(truth) => Value::from(u8::from(truth)),
        Value::Number(number) => Value::Number(shortest(number)),
        Value::String(text) => of_text(text),
        other => other,
    }
}

fn of_text(text: String) -> Value {
    if text.trim().is_empty() {
        return Value::Null;
    }
    match text.as_str() {
        "true" => return Value::from(1),
        "false" => return Value::from(0),
        _ => {}
    }
    // `5163` is a number; `0x0`, `0.00` and `1e3` stay what they are.
    let begins = text.starts_with(|c: char| c.is_ascii_digit() || c == '-');
    let number = begins.then(|| serde_json::from_str::<Number>(&text).ok()).flatten();
    match number.map(shortest) {
        Some(number) if number.to_string() == text => Value::Number(number),
        _ => Value::String(text),
    }
}

fn shortest(number: Number) -> Number {
    let is_float = number.is_f64();
    match number.as_f64().filter(|_| is_float).and_then(whole_float) {
        Some(whole) => i64::try_from(whole).map_or(number, Number::from),
        None => number,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_format_spells_a_value_the_same() {
        for (value, expected) in [
            (json!(true), json!(1)),
            (json!("0"), json!(0)),
            (json!(1.0), json!(1)),
            (json!(0.5), json!(0.5)),
            (json!("0.5"), json!(0.5)),
            (json!("0.00"), json!("0.00")),
            (json!("0x0"), json!("0x0")),
            (json!("1e3"), json!("1e3")),
            (json!("-1"), json!(-1)),
            (json!(" "), json!(null)),
            (json!("18446744073709551615"), json!(u64::MAX)),
            (json!("5e5"), json!("5e5")),
        ] {
            assert_eq!(one_spelling(value.clone()), expected, "{value}");
            assert_eq!(one_spelling(expected.clone()), expected, "{value}, again");
        }
    }

    #[test]
    fn wrong_values_are_named() {
        let mut record = Record::new(1, [("n_gen".to_owned(), json!("many"))]);
        assert_eq!(
            record.whole::<u32>("n_gen"),
            Err("`n_gen` is `many`, no whole number that fits".to_owned())
        );
        let mut record = Record::new(1, [("n_gen".to_owned(), json!(-1))]);
        assert!(record.whole::<u32>("n_gen").is_err());
        let mut record = Record::new(1, [("n_gen".to_owned(), json!("128"))]);
        assert_eq!(record.whole::<u32>("n_gen"), Ok(Some(128)));
    }
}
