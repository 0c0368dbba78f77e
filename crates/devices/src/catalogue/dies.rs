//! Which devices of the catalogue are one die.

use foretoken_spec::DeviceSpec;
use serde::Deserialize;

/// The lists, by how sure they are.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Dies {
    high: Vec<Die>,
    medium: Vec<Die>,
}

/// A die and the devices that have it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Die {
    die: String,
    devices: Vec<String>,
}

/// Names the die of every device that is listed in `text` (TOML).
///
/// # Errors
/// Names the device that is not in the catalogue, or that has two dies.
pub(super) fn name_dies(devices: &mut [DeviceSpec], text: &str) -> Result<(), String> {
    let Dies { high, medium } = toml::from_str(text).map_err(|error| error.to_string())?;
    for Die { die, devices: ids } in high.into_iter().chain(medium) {
        for id in ids {
            let device = devices.iter_mut().find(|device| device.id == id);
            let device =
                device.ok_or_else(|| format!("`{die}` names `{id}`, which is no device"))?;
            if let Some(other) = device.die.replace(die.clone()) {
                return Err(format!("`{id}` is of `{other}` and of `{die}`"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use foretoken_spec::DeviceKind;

    use super::*;
    use crate::find;

    #[test]
    fn bins_are_one_die_and_neighbours_are_not() {
        let die = |id: &str| find(id).unwrap().die.clone().unwrap();
        for (one, other) in [
            ("apple-m1-pro-gpu14", "apple-m1-pro-gpu16"),
            ("apple-m2-gpu8", "apple-m2-gpu10"),
            ("apple-m2-max-gpu30", "apple-m2-max-gpu38"),
            ("l40s", "rtx-4090"),
            ("radeon-pro-w7900", "rx-7900-xtx"),
            ("raspberry-pi-5-4gb", "raspberry-pi-500plus-16gb"),
        ] {
            assert_eq!(die(one), die(other));
        }
        assert_ne!(die("apple-m2-gpu10"), die("apple-m2-pro-gpu16"));
        assert_ne!(die("rtx-4080"), die("rtx-4090"));
        assert_eq!(find("intel-n150").unwrap().die.as_deref(), Some("Alder Lake-N"));
        assert_eq!(find("rx-6500-xt").unwrap().die, None);
    }

    #[test]
    fn a_list_that_contradicts_is_refused() {
        let named = |text: &str| {
            let mut devices = [DeviceSpec::named("a", "A", DeviceKind::Gpu)];
            name_dies(&mut devices, text)
        };
        let once = "high = [{ die = 'X', devices = ['a'] }]\n";
        assert_eq!(named(&format!("{once}medium = []")), Ok(()));
        let twice = format!("{once}medium = [{{ die = 'Y', devices = ['a'] }}]");
        assert_eq!(named(&twice), Err("`a` is of `X` and of `Y`".into()));
        let stranger = "high = []\nmedium = [{ die = 'X', devices = ['b'] }]";
        assert_eq!(named(stranger), Err("`X` names `b`, which is no device".into()));
        assert!(named("low = []").is_err());
    }
}
