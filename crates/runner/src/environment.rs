//! What the machine went through between two looks at it.

use foretoken_spec::Environment;

use crate::MachineState;

/// The environment of the time from `before` to `after`; gauges are those of `after`.
pub fn environment_between(before: &MachineState, after: &MachineState) -> Environment {
    let usage = before.usage.zip(after.usage);
    let steal = before.ticks.zip(after.ticks).and_then(|(a, b)| {
        let total = b.total.saturating_sub(a.total);
        (total > 0).then(|| b.steal.saturating_sub(a.steal) as f64 / total as f64)
    });
    let throttle = before.throttle_events.zip(after.throttle_events);
    Environment {
        load_average: after.load_average,
        involuntary_switches: usage
            .map(|(a, b)| b.involuntary_switches.saturating_sub(a.involuntary_switches)),
        minor_faults: usage.map(|(a, b)| b.minor_faults.saturating_sub(a.minor_faults)),
        major_faults: usage.map(|(a, b)| b.major_faults.saturating_sub(a.major_faults)),
        steal_fraction: steal,
        frequency_mhz: after.frequency_mhz,
        governor: after.governor.clone(),
        temperature_c: after.temperature_c,
        throttle_events: throttle.map(|(a, b)| b.saturating_sub(a)),
        on_battery: after.on_battery,
        power_profile: after.power_profile.clone(),
        gpu: after.gpu.clone(),
    }
}

/// What a reader of the measurement should know.
pub fn warnings_of(environment: &Environment) -> Vec<String> {
    let mut warnings = Vec::new();
    if environment.on_battery == Some(true) {
        warnings.push("the machine ran on battery; plug it in and measure again".to_owned());
    }
    if environment.throttle_events.is_some_and(|n| n > 0) {
        warnings.push("the processor throttled; let it cool and measure again".to_owned());
    }
    if let Some(gpu) = environment.gpu.as_ref().filter(|gpu| !gpu.throttled_by.is_empty()) {
        warnings.push(format!(
            "the GPU's clocks were held down ({}); let it cool, or raise its power limit, and \
             measure again",
            gpu.throttled_by.join(", ")
        ));
    }
    if let Some(steal) = environment.steal_fraction.filter(|s| *s > 0.05) {
        warnings.push(format!(
            "the hypervisor took {:.0} % of the processor time; expect noise",
            steal * 100.0
        ));
    }
    if environment.major_faults.is_some_and(|n| n > 100) {
        warnings
            .push("memory was read back from disk; close programs and measure again".to_owned());
    }
    warnings
}

#[cfg(test)]
mod tests {
    use foretoken_spec::GpuState;

    use super::*;
    use crate::system_files::CpuTicks;
    use crate::usage::Usage;

    fn state(switches: u64, total: u64, steal: u64) -> MachineState {
        MachineState {
            usage: Some(Usage {
                involuntary_switches: switches,
                minor_faults: 10 * switches,
                major_faults: 0,
                max_rss_bytes: 0,
            }),
            ticks: Some(CpuTicks { total, steal }),
            throttle_events: Some(3),
            ..MachineState::default()
        }
    }

    #[test]
    fn counters_become_differences() {
        let environment = environment_between(&state(5, 1000, 10), &state(8, 1200, 60));
        assert_eq!(environment.involuntary_switches, Some(3));
        assert_eq!(environment.minor_faults, Some(30));
        assert_eq!(environment.steal_fraction, Some(0.25));
        assert_eq!(environment.throttle_events, Some(0));
        assert_eq!(warnings_of(&environment).len(), 1);
    }

    #[test]
    fn a_throttled_card_is_told_of() {
        let gpu = |throttled_by| GpuState { throttled_by, ..GpuState::default() };
        let with = |gpu| Environment { gpu: Some(gpu), ..Environment::default() };
        assert!(warnings_of(&with(gpu(vec![]))).is_empty());
        let warnings = warnings_of(&with(gpu(vec!["sw_power_cap".into()])));
        assert!(warnings[0].contains("(sw_power_cap)"), "{warnings:?}");
    }

    #[test]
    fn an_unknown_machine_has_an_empty_environment() {
        let nothing = MachineState::default();
        assert_eq!(environment_between(&nothing, &nothing), Environment::default());
        assert!(warnings_of(&Environment::default()).is_empty());
    }
}
