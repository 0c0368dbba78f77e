//! `models`: the catalogue.

use foretoken_catalog::{Preset, presets};
use foretoken_report::Models;
use foretoken_spec::CatalogueModel;

use crate::Outcome;
use crate::args::ModelsArgs;
use crate::output::{Hinted, Output};

/// Lists the presets, or those whose id, family or name contains the filter.
pub fn run(args: &ModelsArgs, output: &Output) -> anyhow::Result<Outcome> {
    let filter = args.filter.as_deref().unwrap_or_default().to_lowercase();
    let fits = |preset: &&Preset| {
        [&preset.id, &preset.family, &preset.hf_name]
            .iter()
            .any(|name| name.to_lowercase().contains(&filter))
    };
    let models: Vec<CatalogueModel> = presets().iter().filter(fits).map(entry).collect();
    if models.is_empty() {
        let hint = "`foretoken models` lists all of them";
        return Err(Hinted::new(format!("no preset contains `{filter}`"), hint).into());
    }
    output.print(&Models(models))?;
    Ok(Outcome::Good)
}

fn entry(preset: &Preset) -> CatalogueModel {
    CatalogueModel {
        id: preset.id.clone(),
        hf_name: preset.hf_name.clone(),
        family: preset.family.clone(),
        parameters: preset.parameters,
        active_parameters: preset.spec(preset.default_scheme).n_active_parameters(),
        quant: preset.default_scheme.name().to_owned(),
        shape: preset.shape.clone(),
        source: preset.source.clone(),
        checked: preset.checked.clone(),
        tokenizer_bytes: preset.tokenizer_bytes,
    }
}
