//! Files: written whole or by whole lines, read with errors that name file, line and field.

mod atomic;
mod input;
mod lines;
mod page;
mod read;
mod speeds;
mod store;

pub use atomic::{AtomicFile, check_writable, make_folder, require_space, write_atomic};
pub use input::read_input;
pub use lines::JsonLines;
pub use page::{check_page, write_page};
pub use read::{read_calibration, read_lines, read_measurements, read_profile, require_backend};
pub use speeds::{SpeedFiles, complete_models, cross_device, public_store, transfer_error};
pub use store::{
    CROSS_DEVICE, Stored, calibration_folder, dataset_files, datasets_folder, find_calibration,
    is_same_machine, newest_calibration,
};
