//! Clusters of cores from the words of a data sheet: `8x zen3 @ 3.0 GHz`, `4x Cortex-A76 2.4GHz + 4x
//! Cortex-A55 1.8GHz`.

use foretoken_spec::{Confidence, CoreCluster, DeviceSpec, FigureBasis, FigureSource};

use crate::derive::{is_cpu_first, known_cores};

/// Fills the clusters of a processor whose words name cores with known rates, their number and their
/// clock, all of them; else leaves it as it is.
pub(crate) fn fill_clusters(spec: &mut DeviceSpec) {
    if !spec.clusters.is_empty() || !is_cpu_first(spec) {
        return;
    }
    let Some(words) = spec.cores.clone() else { return };
    let clusters: Option<Vec<CoreCluster>> = words.split(['+', ',']).map(cluster).collect();
    let Some(clusters) = clusters.filter(|clusters| !clusters.is_empty()) else { return };
    spec.clusters = clusters;
    spec.sources.entry("clusters".into()).or_insert_with(|| FigureSource {
        basis: FigureBasis::Derived,
        confidence: Confidence::Medium,
        source: format!("cores = \"{words}\""),
    });
}

/// `8x zen3 @ 3.0 GHz`: a number, a core of the table of rates, a clock.
fn cluster(part: &str) -> Option<CoreCluster> {
    let part = part.trim().to_lowercase();
    let digits: String = part.chars().take_while(char::is_ascii_digit).collect();
    let count: u32 = digits.parse().ok().filter(|count| *count > 0)?;
    let rest = part[digits.len()..].trim_start();
    let rest = ["x", "×", "*", "cores", "core", "c "].iter().find_map(|w| rest.strip_prefix(w))?;
    // `Cortex A76` and `Zen 3` as the table writes them, `cortex-a76` and `zen3`.
    let plain = |text: &str| -> String { text.chars().filter(|c| c.is_alphanumeric()).collect() };
    let clock_at = rest.find("ghz")?;
    let before = rest[..clock_at].trim_end();
    let number = before
        .rfind(|c: char| !(c.is_ascii_digit() || c == '.'))
        .map_or(0, |at| at + before[at..].chars().next().map_or(1, char::len_utf8));
    let clock_ghz: f64 = before[number..].parse().ok().filter(|clock| *clock > 0.0)?;
    let named = plain(before[..number].trim_end_matches(['@', ' ', '-']));
    let core = known_cores().into_iter().find(|core| plain(&core.to_lowercase()) == named)?;
    Some(CoreCluster {
        core: core.to_owned(),
        count,
        clock_ghz,
        l2_kb: None,
        fp32_per_cycle: None,
        fp16_per_cycle: None,
        int8_per_cycle: None,
    })
}

#[cfg(test)]
mod tests {
    use foretoken_spec::DeviceKind;

    use super::*;

    fn filled(words: &str) -> Vec<(u32, String, f64)> {
        let mut spec = DeviceSpec::named("x", "X", DeviceKind::Cpu);
        spec.cores = Some(words.into());
        fill_clusters(&mut spec);
        spec.clusters.into_iter().map(|c| (c.count, c.core, c.clock_ghz)).collect()
    }

    #[test]
    fn words_that_name_known_cores_become_clusters() {
        assert_eq!(filled("8x zen3 @ 3.0 GHz"), [(8, "zen3".to_owned(), 3.0)]);
        assert_eq!(filled("8 cores Zen 3 3.0GHz"), [(8, "zen3".to_owned(), 3.0)]);
        let both = filled("4x Cortex-A76 2.4GHz + 4x Cortex-A55 1.8GHz");
        assert_eq!(both, [(4, "cortex-a76".to_owned(), 2.4), (4, "cortex-a55".to_owned(), 1.8)]);
    }

    #[test]
    fn what_cannot_be_told_stays_open() {
        for words in ["octa core", "8x secret 3 GHz", "8x zen3", "zen3 3 GHz", "0x zen3 3 GHz", ""]
        {
            assert!(filled(words).is_empty(), "{words}");
        }
        // One part that is not known leaves all open: half of the cores would be wrong.
        assert!(filled("4x cortex-a76 2.4GHz + 4x secret 1.8GHz").is_empty());
    }
}
