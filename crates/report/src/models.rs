//! The catalogue of models.

use foretoken_spec::CatalogueModel;
use serde::Serialize;

use crate::sheet::cell;
use crate::{Records, Report, Sheet, units};

/// Answer of `models`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Models(pub Vec<CatalogueModel>);

impl Report for Models {
    fn sheets(&self) -> Vec<Sheet> {
        let mut sheet = Sheet::new(
            units::plural(self.0.len() as u32, "model"),
            &[
                "id",
                "family",
                ">params",
                ">active",
                ">experts",
                ">layers",
                ">hidden",
                ">heads/kv",
                ">ffn",
                ">vocab",
                ">context",
            ],
        );
        for model in &self.0 {
            let shape = &model.shape;
            let experts = shape.details.experts.as_ref();
            sheet.row([
                model.id.clone(),
                model.family.clone(),
                units::count(model.parameters),
                experts.map_or_else(String::new, |_| units::count(model.active_parameters)),
                experts.map_or_else(String::new, |e| format!("{}/{}", e.used, e.count)),
                shape.n_layers.to_string(),
                shape.hidden_size.to_string(),
                format!("{}/{}", shape.n_heads, shape.n_kv_heads),
                shape.intermediate_size.to_string(),
                shape.vocab_size.to_string(),
                shape.context_length.to_string(),
            ]);
        }
        if self.0.iter().any(|model| model.shape.details.experts.is_some()) {
            sheet.note(
                "active: weights that one token meets; experts: those that it meets, of all.",
            );
        } else {
            sheet.fold_constant(&["active", "experts"]);
        }
        vec![sheet]
    }

    fn records(&self) -> Records {
        let mut records = Records::new(&[
            "id",
            "hf_name",
            "family",
            "architecture",
            "parameters",
            "n_layers",
            "hidden_size",
            "n_heads",
            "n_kv_heads",
            "head_dim",
            "intermediate_size",
            "vocab_size",
            "context_length",
            "tied_embeddings",
            "active_parameters",
            "experts",
            "experts_used",
            "quant",
        ]);
        for model in &self.0 {
            let shape = &model.shape;
            records.rows.push(vec![
                model.id.clone(),
                model.hf_name.clone(),
                model.family.clone(),
                shape.architecture.clone(),
                model.parameters.to_string(),
                shape.n_layers.to_string(),
                shape.hidden_size.to_string(),
                shape.n_heads.to_string(),
                shape.n_kv_heads.to_string(),
                shape.head_dim.to_string(),
                shape.intermediate_size.to_string(),
                shape.vocab_size.to_string(),
                shape.context_length.to_string(),
                shape.tied_embeddings.to_string(),
                model.active_parameters.to_string(),
                cell(shape.details.experts.as_ref().map(|e| e.count)),
                cell(shape.details.experts.as_ref().map(|e| e.used)),
                model.quant.clone(),
            ]);
        }
        records
    }
}
