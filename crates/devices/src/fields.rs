//! The fields of a device: their types, and which one a wrong name meant.

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FieldType {
    /// Text; a number is taken as its digits.
    Text,
    /// A number.
    Number,
    /// A whole number.
    Whole,
    /// A list or a table, which only TOML and JSON can hold.
    Structure,
    /// A list of words; in CSV separated by spaces.
    Words,
}

/// Every field by its name, in the order in which they are written.
pub(crate) const FIELDS: [(&str, FieldType); 34] = [
    ("id", FieldType::Text),
    ("name", FieldType::Text),
    ("kind", FieldType::Text),
    ("class", FieldType::Text),
    ("peak_fp16_tflops", FieldType::Number),
    ("peak_fp32_tflops", FieldType::Number),
    ("peak_int8_tops", FieldType::Number),
    ("mem_bandwidth_gbps", FieldType::Number),
    ("mem_gb", FieldType::Number),
    ("mem_type", FieldType::Text),
    ("tdp_w", FieldType::Number),
    ("cores", FieldType::Text),
    ("isa", FieldType::Text),
    ("release_year", FieldType::Whole),
    ("source_url", FieldType::Text),
    ("notes", FieldType::Text),
    ("aliases", FieldType::Words),
    ("backends", FieldType::Words),
    ("clusters", FieldType::Structure),
    ("gpu", FieldType::Structure),
    ("die", FieldType::Text),
    ("mem_rate_mtps", FieldType::Number),
    ("mem_bus_bits", FieldType::Whole),
    ("l2_kb", FieldType::Number),
    ("l3_mb", FieldType::Number),
    ("storage_bandwidth_mbps", FieldType::Number),
    ("idle_power_w", FieldType::Number),
    ("load_power_w", FieldType::Number),
    ("battery_wh", FieldType::Number),
    ("modes", FieldType::Structure),
    ("sources", FieldType::Structure),
    ("probe", FieldType::Structure),
    // Of the public lists, and of files that other commands wrote.
    ("device_id", FieldType::Text),
    ("schema_version", FieldType::Whole),
];

/// Words that people write for a field.
const SYNONYMS: [(&str, &str); 32] = [
    ("bandwidth", "mem_bandwidth_gbps"),
    ("bandwidth_gbps", "mem_bandwidth_gbps"),
    ("memory_bandwidth", "mem_bandwidth_gbps"),
    ("memory_bandwidth_gbps", "mem_bandwidth_gbps"),
    ("memory_bandwidth_gb_s", "mem_bandwidth_gbps"),
    ("mem_bw", "mem_bandwidth_gbps"),
    ("bw", "mem_bandwidth_gbps"),
    ("memory", "mem_gb"),
    ("memory_gb", "mem_gb"),
    ("ram", "mem_gb"),
    ("ram_gb", "mem_gb"),
    ("vram", "mem_gb"),
    ("vram_gb", "mem_gb"),
    ("memory_type", "mem_type"),
    ("tflops", "peak_fp32_tflops"),
    ("gflops", "peak_fp32_tflops"),
    ("fp16", "peak_fp16_tflops"),
    ("fp32", "peak_fp32_tflops"),
    ("int8", "peak_int8_tops"),
    ("tops", "peak_int8_tops"),
    ("tdp", "tdp_w"),
    ("power", "tdp_w"),
    ("watts", "tdp_w"),
    ("idle_w", "idle_power_w"),
    ("idle_power", "idle_power_w"),
    ("load_w", "load_power_w"),
    ("load_power", "load_power_w"),
    ("type", "kind"),
    ("year", "release_year"),
    ("url", "source_url"),
    ("storage", "storage_bandwidth_mbps"),
    ("battery", "battery_wh"),
];

/// Least share of a name that must stay for another to be the one that was meant.
const LEAST_SIMILARITY: f64 = 0.6;

/// Type of a field; `None` of an unknown one.
pub(crate) fn type_of(field: &str) -> Option<FieldType> {
    FIELDS.iter().find(|(name, _)| *name == field).map(|(_, kind)| *kind)
}

/// The names that a user may write.
pub(crate) fn names() -> Vec<&'static str> {
    FIELDS.iter().map(|(name, _)| *name).take(32).collect()
}

/// The field that a wrong name likely meant.
pub(crate) fn nearest(field: &str) -> Option<&'static str> {
    let wanted: String = field.trim().to_lowercase().replace(['-', ' '], "_");
    if let Some((_, meant)) = SYNONYMS.iter().find(|(word, _)| *word == wanted) {
        return Some(meant);
    }
    let similarity = |name: &str| strsim::normalized_damerau_levenshtein(name, &wanted);
    let names = names().into_iter().map(|name| (similarity(name), name));
    names
        .filter(|(similarity, _)| *similarity >= LEAST_SIMILARITY)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typing_mistakes_and_other_words_are_understood() {
        for (written, meant) in [
            ("mem_bandwith_gbps", Some("mem_bandwidth_gbps")),
            ("bandwidth", Some("mem_bandwidth_gbps")),
            ("Memory Bandwidth", Some("mem_bandwidth_gbps")),
            ("peak_fp16_tflop", Some("peak_fp16_tflops")),
            ("idle_w", Some("idle_power_w")),
            ("ram", Some("mem_gb")),
            ("price_in_euro", None),
        ] {
            assert_eq!(nearest(written), meant, "{written}");
        }
    }
}
