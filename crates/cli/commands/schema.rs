//! `schema` (hidden): writes the JSON Schemas that are committed under `docs/schema`.

use foretoken_report::schemas;

use crate::Outcome;
use crate::args::SchemaArgs;
use crate::files::{make_folder, write_atomic};
use crate::output::Output;

/// Writes one file per output and file kind.
pub fn run(args: &SchemaArgs, output: &Output) -> anyhow::Result<Outcome> {
    for (name, schema) in schemas() {
        let path = args.out.join(name);
        make_folder(&path, output)?;
        write_atomic(&path, format!("{schema:#}\n").as_bytes())?;
        output.note(&format!("wrote {}", path.display()));
    }
    Ok(Outcome::Good)
}
