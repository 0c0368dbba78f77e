//! What the model of all devices was made from.

use foretoken_spec::FitDevicesReport;

use crate::{Records, Report, Sheet};

impl Report for FitDevicesReport {
    fn sheets(&self) -> Vec<Sheet> {
        let mut sheet = Sheet::new(
            format!("model of all devices · {}", self.file),
            &["processor", "phase", ">configurations", ">devices"],
        );
        for domain in &self.domains {
            sheet.row([
                domain.processor.clone(),
                domain.phase.name().into(),
                domain.configurations.to_string(),
                domain.devices.to_string(),
            ]);
        }
        sheet.note(format!(
            "{} rows read, {} of them usable: {} configurations, in {:.0} s",
            self.rows_read, self.rows_usable, self.configurations, self.seconds
        ));
        for reason in &self.left_out {
            sheet.note(format!("{} rows left out: {}", reason.rows, reason.reason));
        }
        sheet.note(format!("data: {}", self.data.join(", ")));
        vec![sheet]
    }

    fn records(&self) -> Records {
        let mut records = Records::new(&["processor", "phase", "configurations", "devices"]);
        for domain in &self.domains {
            records.rows.push(vec![
                domain.processor.clone(),
                domain.phase.name().into(),
                domain.configurations.to_string(),
                domain.devices.to_string(),
            ]);
        }
        records
    }
}
