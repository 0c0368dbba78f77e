//! Figures that no device has: signs, units off by a thousand, figures that contradict each other.
//!
//! The bounds are the slowest and fastest devices that are sold, with room for some years.

use foretoken_spec::{DeviceKind, DeviceSpec};

use crate::derive;
use crate::error::Problem;

/// A unit that people write in place of the field's, and its size in the field's.
type WrongUnit = (&'static str, f64);

/// What a figure can be.
struct Bounds {
    field: &'static str,
    unit: &'static str,
    low: f64,
    high: f64,
    wrong_units: &'static [WrongUnit],
}

const FLOP_UNITS: &[WrongUnit] =
    &[("GFLOP/s", 1e-3), ("MFLOP/s", 1e-6), ("FLOP/s", 1e-12), ("PFLOP/s", 1e3)];
const OPS_UNITS: &[WrongUnit] = &[("GOPS", 1e-3), ("operations per second", 1e-12)];
const BANDWIDTH_UNITS: &[WrongUnit] =
    &[("MB/s", 1e-3), ("bytes per second", 1e-9), ("kB/s", 1e-6), ("TB/s", 1e3)];
const MEMORY_UNITS: &[WrongUnit] =
    &[("MiB", 1.0 / 1024.0), ("bytes", 1.0 / 1_073_741_824.0), ("KiB", 1.0 / 1_048_576.0)];
const POWER_UNITS: &[WrongUnit] = &[("mW", 1e-3), ("µW", 1e-6)];
const CLOCK_UNITS: &[WrongUnit] = &[("MHz", 1e-3), ("kHz", 1e-6), ("Hz", 1e-9)];

/// Bounds of the figures of a device of this kind.
fn bounds(kind: DeviceKind) -> [Bounds; 15] {
    let of = |cpu: f64, soc: f64, igpu: f64, gpu: f64| match kind {
        DeviceKind::Cpu => cpu,
        DeviceKind::Soc => soc,
        DeviceKind::Igpu => igpu,
        DeviceKind::Gpu => gpu,
    };
    let figure =
        |field, unit, low, high, wrong_units| Bounds { field, unit, low, high, wrong_units };
    [
        figure("peak_fp16_tflops", "TFLOP/s", 1e-4, of(1000.0, 2000.0, 2000.0, 8000.0), FLOP_UNITS),
        figure("peak_fp32_tflops", "TFLOP/s", 1e-4, of(60.0, 80.0, 200.0, 500.0), FLOP_UNITS),
        figure("peak_int8_tops", "TOPS", 1e-4, of(2000.0, 4000.0, 4000.0, 16_000.0), OPS_UNITS),
        figure(
            "mem_bandwidth_gbps",
            "GB/s",
            of(0.5, 0.5, 2.0, 5.0),
            of(2500.0, 2500.0, 6000.0, 20_000.0),
            BANDWIDTH_UNITS,
        ),
        figure("mem_gb", "GB", 0.06, of(6144.0, 1024.0, 2048.0, 1024.0), MEMORY_UNITS),
        figure("tdp_w", "W", 0.1, of(1500.0, 500.0, 600.0, 3000.0), POWER_UNITS),
        figure("idle_power_w", "W", 1e-3, 1500.0, POWER_UNITS),
        figure("load_power_w", "W", 0.01, 3000.0, POWER_UNITS),
        figure("battery_wh", "Wh", 0.5, 500.0, &[("mWh", 1e-3), ("J", 1.0 / 3600.0)]),
        figure("release_year", "", 1995.0, 2040.0, &[]),
        figure("mem_rate_mtps", "MT/s", 100.0, 60_000.0, &[("GT/s", 1e3), ("T/s", 1e-6)]),
        figure("mem_bus_bits", "bits", 8.0, 16_384.0, &[]),
        figure("l2_kb", "KiB", 16.0, 1_048_576.0, &[("bytes", 1.0 / 1024.0), ("MiB", 1024.0)]),
        figure("l3_mb", "MiB", 0.1, 1536.0, &[("KiB", 1.0 / 1024.0), ("bytes", 1.0 / 1_048_576.0)]),
        figure(
            "storage_bandwidth_mbps",
            "MB/s",
            1.0,
            100_000.0,
            &[("GB/s", 1e3), ("bytes per second", 1e-6), ("kB/s", 1e-3)],
        ),
    ]
}

/// Most f32, f16 and int8 operations per byte of bandwidth that a device has; four times those of
/// the catalogue's extremes.
const MOST_PER_BYTE: [(&str, f64); 3] =
    [("peak_fp32_tflops", 400.0), ("peak_fp16_tflops", 4000.0), ("peak_int8_tops", 8000.0)];

/// How far a stated figure may be from what follows from the others.
const FARTHEST: f64 = 10.0;

/// Refuses figures that no device has.
///
/// # Errors
/// The first field that cannot be, why, and what to write where that is likely.
pub fn check_spec(spec: &DeviceSpec) -> Result<(), Problem> {
    let bounds = bounds(spec.kind);
    let year = spec.release_year.map(f64::from);
    let figures = spec.figures().into_iter().chain([("release_year", year)]);
    for (field, value) in figures {
        let Some(value) = value else { continue };
        match bounds.iter().find(|bounds| bounds.field == field) {
            Some(bounds) => within(bounds, field, value, spec.kind)?,
            None => positive(field, value)?,
        }
    }
    check_parts(spec)?;
    check_power(spec)?;
    check_ratios(spec)?;
    check_formats(spec)?;
    check_derived(spec)
}

fn check_parts(spec: &DeviceSpec) -> Result<(), Problem> {
    let clock =
        Bounds { field: "clock_ghz", unit: "GHz", low: 0.05, high: 8.0, wrong_units: CLOCK_UNITS };
    for (i, cluster) in spec.clusters.iter().enumerate() {
        within(&clock, &format!("clusters[{i}].clock_ghz"), cluster.clock_ghz, spec.kind)?;
        count(&format!("clusters[{i}].count"), cluster.count, 2048)?;
        let rates = [
            ("l2_kb", cluster.l2_kb),
            ("fp32_per_cycle", cluster.fp32_per_cycle),
            ("fp16_per_cycle", cluster.fp16_per_cycle),
            ("int8_per_cycle", cluster.int8_per_cycle),
        ];
        for (name, rate) in rates {
            rate.map_or(Ok(()), |rate| positive(&format!("clusters[{i}].{name}"), rate))?;
        }
    }
    if let Some(gpu) = &spec.gpu {
        within(&clock, "gpu.clock_ghz", gpu.clock_ghz, spec.kind)?;
        count("gpu.units", gpu.units, 4096)?;
    }
    Ok(())
}

fn check_power(spec: &DeviceSpec) -> Result<(), Problem> {
    let mut pairs = vec![(String::new(), [spec.idle_power_w, spec.load_power_w, None, spec.tdp_w])];
    for (i, mode) in spec.modes.iter().enumerate() {
        let powers = [mode.idle_power_w, mode.load_power_w, mode.limit_w, None];
        let names = ["idle_power_w", "load_power_w", "limit_w"];
        for (name, power) in names.into_iter().zip(powers) {
            power.map_or(Ok(()), |power| positive(&format!("modes[{i}].{name}"), power))?;
        }
        let rest = [
            ("cpu_clock_ghz", mode.cpu_clock_ghz),
            ("gpu_clock_ghz", mode.gpu_clock_ghz),
            ("mem_bandwidth_gbps", mode.mem_bandwidth_gbps),
        ];
        for (name, value) in rest {
            value.map_or(Ok(()), |value| positive(&format!("modes[{i}].{name}"), value))?;
        }
        pairs.push((format!("modes[{i}]."), powers));
    }
    for (prefix, [idle, load, _, _]) in pairs {
        if let (Some(idle), Some(load)) = (idle, load)
            && idle > load
        {
            return Err(impossible(
                format!("{prefix}idle_power_w"),
                format!("{idle} W without work is more than load_power_w, {load} W"),
                "exchange the two, or correct the one that is wrong",
            ));
        }
    }
    Ok(())
}

/// Arithmetic that no memory of this bandwidth was ever sold with.
fn check_ratios(spec: &DeviceSpec) -> Result<(), Problem> {
    let Some(bandwidth) = spec.mem_bandwidth_gbps else { return Ok(()) };
    let peaks = [spec.peak_fp32_tflops, spec.peak_fp16_tflops, spec.peak_int8_tops];
    for ((field, most), peak) in MOST_PER_BYTE.into_iter().zip(peaks) {
        let Some(peak) = peak else { continue };
        let per_byte = peak * 1e3 / bandwidth;
        if per_byte > most {
            return Err(impossible(
                field,
                format!(
                    "{peak} is {per_byte:.0} operations for each byte of {bandwidth} GB/s, more \
                     than any device has (at most {most})"
                ),
                format!(
                    "write {field} = {} if it is in 10⁹ per second, or correct mem_bandwidth_gbps",
                    rounded(peak / 1e3)
                ),
            ));
        }
    }
    Ok(())
}

/// How far narrow formats may fall behind f32: Pascal's consumer cards compute f16 at 1/64.
const SLOWEST_FORMAT: f64 = 100.0;

/// Narrow formats that are slower than any processor has them beside its f32.
fn check_formats(spec: &DeviceSpec) -> Result<(), Problem> {
    let Some(fp32) = spec.peak_fp32_tflops else { return Ok(()) };
    let narrow =
        [("peak_fp16_tflops", spec.peak_fp16_tflops), ("peak_int8_tops", spec.peak_int8_tops)];
    for (field, peak) in narrow {
        let Some(peak) = peak.filter(|peak| peak * SLOWEST_FORMAT < fp32) else { continue };
        return Err(impossible(
            field,
            format!(
                "{} beside peak_fp32_tflops = {fp32}: no device is so much slower in the narrower \
                 format",
                shown(peak)
            ),
            format!("correct {field} (10¹² operations per second), or leave it out"),
        ));
    }
    Ok(())
}

/// Figures that contradict what clocks and bus say.
fn check_derived(spec: &DeviceSpec) -> Result<(), Problem> {
    let stated = [
        ("mem_bandwidth_gbps", spec.mem_bandwidth_gbps, derive::bandwidth(spec)),
        ("peak_fp32_tflops", spec.peak_fp32_tflops, derive::peaks(spec).fp32),
    ];
    for (field, stated, derived) in stated {
        let (Some(stated), Some(derived)) = (stated, derived) else { continue };
        let ratio = stated / derived.value;
        if !(1.0 / FARTHEST..=FARTHEST).contains(&ratio) {
            return Err(impossible(
                field,
                format!("{stated}, but {} give {}", derived.formula, rounded(derived.value)),
                format!("write {field} = {}, or leave it out", rounded(derived.value)),
            ));
        }
    }
    Ok(())
}

fn count(field: &str, value: u32, most: u32) -> Result<(), Problem> {
    if (1..=most).contains(&value) {
        return Ok(());
    }
    let reason = format!("{value} is not between 1 and {most}");
    Err(impossible(field, reason, "write how many there are"))
}

fn positive(field: &str, value: f64) -> Result<(), Problem> {
    if value.is_finite() && value > 0.0 {
        return Ok(());
    }
    let what = if value < 0.0 { "is negative" } else { "must be above 0" };
    Err(impossible(field, format!("{} {what}", shown(value)), "correct it, or leave the field out"))
}

fn within(bounds: &Bounds, field: &str, value: f64, kind: DeviceKind) -> Result<(), Problem> {
    positive(field, value)?;
    let Bounds { unit, low, high, .. } = *bounds;
    if (low..=high).contains(&value) {
        return Ok(());
    }
    let (side, bound) = if value < low { ("less", low) } else { ("more", high) };
    let limit = if value < low { "at least" } else { "at most" };
    let space = if unit.is_empty() { "" } else { " " };
    let mut reason = format!(
        "{}{space}{unit} is {side} than any {kind} has ({limit} {bound}{space}{unit})",
        shown(value)
    );
    let fitting =
        bounds.wrong_units.iter().find(|(_, size)| (low..=high).contains(&(value * size)));
    let remedy = match fitting {
        Some((wrong, size)) => {
            reason.push_str(&format!("; it looks like {wrong}"));
            format!("write {field} = {}", rounded(value * size))
        }
        None if unit.is_empty() => {
            format!("write {field} between {low} and {high}, or leave it out")
        }
        None => format!("write {field} in {unit}, or leave it out"),
    };
    Err(impossible(field, reason, remedy))
}

fn impossible(
    field: impl Into<String>,
    reason: impl Into<String>,
    remedy: impl Into<String>,
) -> Problem {
    Problem::Impossible { field: field.into(), reason: reason.into(), remedy: remedy.into() }
}

/// A number as it is read: with an exponent where its digits would fill a line.
fn shown(value: f64) -> String {
    match value.abs() {
        size if size >= 1e15 || (size > 0.0 && size < 1e-6) => format!("{value:e}"),
        _ => value.to_string(),
    }
}

/// Four significant digits, as people would write them.
pub fn rounded(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return value;
    }
    let digits = 3 - value.abs().log10().floor() as i32;
    // Through text, so that 51.2 is 51.2 and not 51.200000000000003.
    let text = if digits >= 0 {
        format!("{value:.*}", digits.min(15) as usize)
    } else {
        let step = 10f64.powi(-digits);
        format!("{}", (value / step).round() * step)
    };
    text.parse().unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn board() -> DeviceSpec {
        let mut spec = DeviceSpec::named("board", "A board", DeviceKind::Soc);
        spec.mem_bandwidth_gbps = Some(17.1);
        spec.mem_gb = Some(8.0);
        spec
    }

    fn refused(change: impl Fn(&mut DeviceSpec)) -> (String, String) {
        let mut spec = board();
        change(&mut spec);
        let problem = check_spec(&spec).unwrap_err();
        (problem.to_string(), problem.hint())
    }

    #[test]
    fn a_usual_board_passes() {
        assert_eq!(check_spec(&board()), Ok(()));
    }

    #[test]
    fn zero_negative_and_no_numbers_are_refused() {
        let (message, _) = refused(|s| s.mem_bandwidth_gbps = Some(0.0));
        assert_eq!(message, "field `mem_bandwidth_gbps`: 0 must be above 0");
        let (message, _) = refused(|s| s.tdp_w = Some(-5.0));
        assert_eq!(message, "field `tdp_w`: -5 is negative");
        assert!(refused(|s| s.mem_gb = Some(f64::NAN)).0.contains("must be above 0"));
        assert!(refused(|s| s.mem_gb = Some(f64::INFINITY)).0.contains("above 0"));
    }

    #[test]
    fn units_off_by_a_thousand_are_named() {
        type Change = fn(&mut DeviceSpec);
        let cases: [(Change, &str, &str); 9] = [
            (|s| s.mem_bandwidth_gbps = Some(17_100.0), "MB/s", "= 17.1"),
            (|s| s.mem_bandwidth_gbps = Some(17.1e9), "bytes per second", "= 17.1"),
            (|s| s.mem_bandwidth_gbps = Some(0.0171), "TB/s", "= 17.1"),
            (|s| s.mem_gb = Some(8192.0), "MiB", "= 8"),
            (|s| s.mem_gb = Some(8_589_934_592.0), "bytes", "= 8"),
            (|s| s.tdp_w = Some(12_000.0), "mW", "= 12"),
            (|s| s.peak_fp32_tflops = Some(153.6), "GFLOP/s", "= 0.1536"),
            (|s| s.l3_mb = Some(2_097_152.0), "bytes", "= 2"),
            (|s| s.storage_bandwidth_mbps = Some(0.09), "GB/s", "= 90"),
        ];
        for (change, unit, remedy) in cases {
            let (message, hint) = refused(change);
            assert!(message.contains(&format!("looks like {unit}")), "{message}");
            assert!(hint.ends_with(remedy), "{hint}");
        }
    }

    #[test]
    fn arithmetic_that_outruns_every_memory_is_refused() {
        // 48.6 GFLOP/s taken for TFLOP/s is possible for a processor, but not beside 17.1 GB/s.
        let (message, hint) = refused(|s| s.peak_fp32_tflops = Some(48.6));
        assert!(message.contains("2842 operations for each byte"), "{message}");
        assert!(hint.contains("= 0.0486"), "{hint}");
    }

    #[test]
    fn clocks_in_megahertz_are_named() {
        let (message, hint) = refused(|s| {
            s.clusters = vec![crate::derive::testing::cluster("cortex-a76", 4, 2400.0)];
        });
        assert!(message.starts_with("field `clusters[0].clock_ghz`: 2400 GHz"), "{message}");
        assert_eq!(hint, "write clusters[0].clock_ghz = 2.4");
    }

    #[test]
    fn figures_that_contradict_the_clocks_are_refused() {
        let (message, hint) = refused(|s| {
            s.clusters = vec![crate::derive::testing::cluster("cortex-a76", 4, 2.4)];
            s.peak_fp32_tflops = Some(6.0);
        });
        assert!(message.contains("4 × 2.4 GHz × 16"), "{message}");
        assert!(hint.contains("= 0.1536"), "{hint}");
    }

    #[test]
    fn idle_power_above_load_is_refused() {
        let (message, _) = refused(|s| {
            s.idle_power_w = Some(9.0);
            s.load_power_w = Some(3.0);
        });
        assert!(message.contains("more than load_power_w"), "{message}");
    }

    #[test]
    fn batteries_formats_years_and_huge_numbers() {
        let (message, hint) = refused(|s| s.battery_wh = Some(19_000.0));
        assert!(message.contains("looks like mWh") && hint.ends_with("= 19"), "{message} {hint}");
        let (message, _) = refused(|s| {
            s.peak_fp32_tflops = Some(5.0);
            s.peak_fp16_tflops = Some(0.001);
        });
        assert!(message.starts_with("field `peak_fp16_tflops`: 0.001 beside"), "{message}");
        let (message, hint) = refused(|s| s.release_year = Some(20_255));
        assert!(message.starts_with("field `release_year`: 20255 is more"), "{message}");
        assert_eq!(hint, "write release_year between 1995 and 2040, or leave it out");
        let (message, _) = refused(|s| s.mem_gb = Some(1e300));
        assert!(message.starts_with("field `mem_gb`: 1e300 GB is more"), "{message}");
    }

    #[test]
    fn numbers_are_rounded_as_people_write_them() {
        for (value, expected) in
            [(51.200_000_01, 51.2), (0.153_6, 0.1536), (330.301_44, 330.3), (123_456.0, 123_500.0)]
        {
            assert_eq!(rounded(value), expected);
        }
    }
}
