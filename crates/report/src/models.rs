//! The catalogue of models.

use foretoken_spec::CatalogueModel;
use serde::Serialize;

use crate::{Records, Report, Sheet, units};

/// Answer of `models`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Models(pub Vec<CatalogueModel>);

impl Report for Models {
    fn sheets(&self) -> Vec<Sheet> {
        let mut sheet = Sheet::new(
            format!("{} models", self.0.len()),
            &[
                "id",
                "family",
                ">params",
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
            sheet.row([
                model.id.clone(),
                model.family.clone(),
                units::count(model.parameters),
                shape.n_layers.to_string(),
                shape.hidden_size.to_string(),
                format!("{}/{}", shape.n_heads, shape.n_kv_heads),
                shape.intermediate_size.to_string(),
                shape.vocab_size.to_string(),
                shape.context_length.to_string(),
            ]);
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
            ]);
        }
        records
    }
}
