//! What a build can run on, on this machine.

use foretoken_spec::DeviceHere;
use serde::Serialize;

use crate::sheet::cell;
use crate::units::{bytes, plural};
use crate::{Records, Report, Sheet};

/// Answer of `devices --here`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(transparent)]
pub struct DevicesHere(pub Vec<DeviceHere>);

impl Report for DevicesHere {
    fn sheets(&self) -> Vec<Sheet> {
        let usable = self.0.iter().filter(|device| device.is_usable).count();
        let mut sheet = Sheet::new(
            format!("{} to run on", plural(usable as u32, "device")),
            &["--device", "name", ">memory", ">free", "id"],
        );
        let memory = |value: Option<u64>| value.map_or_else(String::new, bytes);
        for device in self.0.iter().filter(|device| device.is_usable) {
            sheet.row([
                device.device.clone(),
                device.name.clone().unwrap_or_default(),
                memory(device.memory_bytes),
                memory(device.available_bytes),
                device.id.clone().unwrap_or_default(),
            ]);
        }
        for device in self.0.iter().filter(|device| !device.is_usable) {
            let name = device.name.as_ref().map_or_else(String::new, |name| format!(" ({name})"));
            sheet.note(format!(
                "Not {}{name}: {}.",
                device.device,
                device.reason.as_deref().unwrap_or("unknown reason")
            ));
            if let Some(hint) = &device.hint {
                sheet.note(format!("  {hint}"));
            }
        }
        vec![sheet]
    }

    fn records(&self) -> Records {
        let mut records = Records::new(&[
            "device",
            "backend",
            "built",
            "usable",
            "id",
            "name",
            "memory_bytes",
            "available_bytes",
            "reason",
            "hint",
        ]);
        for device in &self.0 {
            records.rows.push(vec![
                device.device.clone(),
                device.backend.to_string(),
                device.is_built.to_string(),
                device.is_usable.to_string(),
                cell(device.id.as_ref()),
                cell(device.name.as_ref()),
                cell(device.memory_bytes),
                cell(device.available_bytes),
                cell(device.reason.as_ref()),
                cell(device.hint.as_ref()),
            ]);
        }
        records
    }
}

#[cfg(test)]
mod tests {
    use foretoken_spec::Backend;

    use super::*;
    use crate::{Format, render};

    fn row(device: &str, backend: Backend) -> DeviceHere {
        DeviceHere {
            device: device.into(),
            backend,
            is_built: true,
            is_usable: true,
            id: Some("nvidia-h100".into()),
            name: Some("NVIDIA H100".into()),
            memory_bytes: Some(80 << 30),
            available_bytes: Some(79 << 30),
            reason: None,
            hint: None,
        }
    }

    #[test]
    fn what_cannot_be_used_says_why_below_the_table() {
        let absent = DeviceHere {
            is_usable: false,
            id: None,
            name: None,
            reason: Some("no driver".into()),
            hint: Some("install it".into()),
            ..row("cuda:1", Backend::Cuda)
        };
        let answer = DevicesHere(vec![row("cuda:0", Backend::Cuda), absent]);
        let table = render(&answer, Format::Table).unwrap();
        assert!(table.contains("1 device to run on") && table.contains("80.0 GiB"), "{table}");
        assert!(
            table.contains("Not cuda:1: no driver.") && table.contains("install it"),
            "{table}"
        );
        let csv = render(&answer, Format::Csv).unwrap();
        assert!(csv.lines().nth(2).unwrap().starts_with("cuda:1,cuda,true,false,,,"), "{csv}");
        let json: serde_json::Value =
            serde_json::from_str(&render(&answer, Format::Json).unwrap()).unwrap();
        assert_eq!(json[1]["usable"], false);
        assert_eq!(json[0]["built"], true);
    }
}
