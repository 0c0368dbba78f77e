//! Rows back to what llama-bench writes, so that its own tools read them.

use foretoken_spec::{BenchDetails, SpeedRow};
use serde_json::{Map, Value, json};

use crate::ImportError;

/// Formats of llama-bench that hold whole rows; its Markdown rounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BenchFormat {
    /// One array of objects.
    Json,
    /// One object a line.
    Jsonl,
    /// A bare header, then quoted values; without the samples.
    Csv,
    /// A table and one `INSERT` a row; without the samples.
    Sql,
}

/// Fields that only the two JSON formats have.
const SAMPLES: [&str; 2] = ["samples_ns", "samples_ts"];

/// Writes rows as llama-bench does. Reading them again with the same [`crate::Origin`] answers the
/// same rows, where they came from llama-bench.
///
/// # Errors
/// Values that the format cannot hold.
pub fn to_llama_bench(rows: &[SpeedRow], format: BenchFormat) -> Result<String, ImportError> {
    let objects = rows.iter().map(fields).collect::<Result<Vec<_>, _>>()?;
    let bad = |reason: String| ImportError::Unwritable {
        model: String::new(),
        format: "llama-bench",
        reason,
    };
    match format {
        BenchFormat::Json => {
            serde_json::to_string_pretty(&objects).map(|t| t + "\n").map_err(|e| bad(e.to_string()))
        }
        BenchFormat::Jsonl => crate::to_jsonl(&objects),
        BenchFormat::Csv => Ok(csv(&objects)),
        BenchFormat::Sql => Ok(sql(&objects)),
    }
}

/// All fields that a row has, by llama-bench's names.
fn fields(row: &SpeedRow) -> Result<Map<String, Value>, ImportError> {
    let known = BenchDetails { other: Default::default(), ..details(row) };
    let known = serde_json::to_value(&known).map_err(|error| ImportError::Unwritable {
        model: row.model.clone(),
        format: "llama-bench",
        reason: error.to_string(),
    })?;
    let Value::Object(mut fields) = known else { return Ok(Map::new()) };
    fields.extend(details(row).other);
    let mut add = |name: &str, value: Value| {
        if !value.is_null() {
            fields.insert(name.to_owned(), value);
        }
    };
    add("model_size", json!(row.model_bytes));
    add("model_n_params", json!(row.model_params));
    if row.model_bytes.is_none() {
        add("size_gib", json!(row.model_file_gib));
    }
    if row.model_params.is_none() {
        add("params_b", json!(row.params_b));
    }
    add("n_threads", json!(row.threads));
    add("flash_attn", json!(row.flash_attn));
    add("n_prompt", json!(row.n_prompt));
    add("n_gen", json!(row.n_gen));
    add("n_depth", json!(row.n_depth));
    add("avg_ts", json!(row.tokens_per_second));
    add("stddev_ts", json!(row.stddev));
    Ok(fields)
}

fn details(row: &SpeedRow) -> BenchDetails {
    row.llama_bench.as_deref().cloned().unwrap_or_default()
}

/// Every field that some object has, without the samples.
fn header(objects: &[Map<String, Value>]) -> Vec<&str> {
    let mut names: Vec<&str> = objects.iter().flat_map(Map::keys).map(String::as_str).collect();
    names.sort_unstable();
    names.dedup();
    names.retain(|name| !SAMPLES.contains(name));
    names
}

fn plain(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

fn csv(objects: &[Map<String, Value>]) -> String {
    let names = header(objects);
    let mut text = names.join(",") + "\n";
    for object in objects {
        let quoted = |name: &&str| format!("\"{}\"", plain(object.get(*name)).replace('"', "\"\""));
        text += &(names.iter().map(quoted).collect::<Vec<_>>().join(",") + "\n");
    }
    text
}

fn sql(objects: &[Map<String, Value>]) -> String {
    let names = header(objects);
    let columns: Vec<String> = names.iter().map(|name| format!("  {name} TEXT")).collect();
    let mut text =
        format!("CREATE TABLE IF NOT EXISTS llama_bench (\n{}\n);\n\n", columns.join(",\n"));
    for object in objects {
        let quoted = |name: &&str| format!("'{}'", plain(object.get(*name)).replace('\'', "''"));
        let values: Vec<String> = names.iter().map(quoted).collect();
        text += &format!(
            "INSERT INTO llama_bench ({}) VALUES ({});\n",
            names.join(", "),
            values.join(", ")
        );
    }
    text
}
