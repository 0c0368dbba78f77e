//! The inspection of a model: shape, tensors by role, operations by phase.

use std::collections::BTreeMap;

use foretoken_spec::{
    Experts, FileContents, InspectReport, InspectedTensor, LayerKind, ModelShape, TensorRole,
    TensorType,
};

use crate::{Records, Report, Sheet, units};

impl Report for InspectReport {
    fn sheets(&self) -> Vec<Sheet> {
        let mut sheets = vec![shape_sheet(self), tensor_sheet(&self.tensors)];
        if !self.ops.is_empty() {
            sheets.push(op_sheet(self));
        }
        sheets
    }

    fn records(&self) -> Records {
        let mut records =
            Records::new(&["name", "role", "layer", "shape", "quant", "parameters", "bytes"]);
        for InspectedTensor { tensor, bytes } in &self.tensors {
            records.rows.push(vec![
                tensor.name.clone(),
                tensor.role.gguf_stem().into(),
                crate::sheet::cell(tensor.layer),
                dimensions(&tensor.shape),
                tensor.tensor_type.name().into(),
                tensor.n_elements().to_string(),
                bytes.to_string(),
            ]);
        }
        records
    }
}

fn dimensions(shape: &[u64]) -> String {
    shape.iter().map(u64::to_string).collect::<Vec<_>>().join("×")
}

fn shape_sheet(report: &InspectReport) -> Sheet {
    let ModelShape {
        architecture,
        n_layers,
        hidden_size,
        n_heads,
        n_kv_heads,
        head_dim,
        intermediate_size,
        vocab_size,
        context_length,
        tied_embeddings,
        ..
    } = &report.model.shape;
    let mut sheet =
        Sheet::new(format!("{} · {}", report.model.name, report.model.quant), &["", ""]);
    let tied = if *tied_embeddings { ", embedding tied to the LM head" } else { "" };
    for (name, value) in [
        ("architecture", format!("{architecture}, family {}", report.model.family)),
        ("parameters", units::count(report.parameters)),
        (
            "weights",
            format!("{} ({} bytes)", units::bytes(report.weight_bytes), report.weight_bytes),
        ),
        ("file", file(report)),
        ("layers", n_layers.to_string()),
        ("hidden size", hidden_size.to_string()),
        ("heads", format!("{n_heads} query, {n_kv_heads} key/value, {head_dim} wide")),
        ("feed-forward", intermediate_size.to_string()),
        ("vocabulary", format!("{vocab_size}{tied}")),
        ("context", format!("{context_length} tokens")),
        ("KV cache", kv_cache(report)),
    ] {
        sheet.row([name.to_owned(), value]);
    }
    for (name, value) in special(&report.model.shape) {
        sheet.row([name.to_owned(), value]);
    }
    sheet
}

/// The size of the file, and what it counts.
fn file(report: &InspectReport) -> String {
    let contents = match report.file_contents {
        FileContents::File => "",
        FileContents::WithTokenizer => ", tokenizer included",
        FileContents::WithoutTokenizer => ", without tokenizer: a real one is some MB larger",
    };
    format!("{} ({} bytes{contents})", units::bytes(report.file_bytes), report.file_bytes)
}

/// Bytes per token, as candle keeps them and as most other engines do.
fn kv_cache(report: &InspectReport) -> String {
    let f16 = units::bytes(2 * report.kv_elements_per_token);
    format!("{} per token (candle, F32), {f16} as F16", units::bytes(report.kv_bytes_per_token))
}

/// What sets the model apart from the plain form; nothing of a llama.
fn special(shape: &ModelShape) -> Vec<(&'static str, String)> {
    let details = &shape.details;
    let mut rows = Vec::new();
    if let Some(experts) = &details.experts {
        let shared = match experts.shared_intermediate_size {
            0 => String::new(),
            width => format!(", shared {width} wide"),
        };
        let Experts { count, used, intermediate_size, .. } = experts;
        rows.push(("experts", format!("{used} of {count}, {intermediate_size} wide{shared}")));
    }
    if let Some(window) = &details.window {
        let windowed = (0..shape.n_layers).filter(|&layer| window.has(layer)).count();
        let of = format!("{windowed} of {} layers", shape.n_layers);
        rows.push(("window", format!("{} tokens in {of}", window.tokens)));
    }
    if let Some(latent) = &details.latent {
        let cached = latent.kv_rank + latent.rope_dim;
        rows.push(("latent", format!("{cached} wide, instead of keys and values")));
    }
    let without = shape.layers().filter(|layer| layer.kind != LayerKind::Attention).count();
    if without > 0 {
        rows.push(("attention", format!("in {} layers only", shape.n_layers as usize - without)));
    }
    rows
}

/// One row per role and type, roles in the order of the file.
fn tensor_sheet(tensors: &[InspectedTensor]) -> Sheet {
    let mut sheet = Sheet::new("tensors", &["role", "type", ">n", "shape", ">weights", ">bytes"]);
    let mut order: Vec<(TensorRole, TensorType)> = Vec::new();
    let mut groups: BTreeMap<_, (u32, String, u64, u64)> = BTreeMap::new();
    for InspectedTensor { tensor, bytes } in tensors {
        let key = (tensor.role, tensor.tensor_type);
        let group = groups.entry(key).or_insert_with(|| {
            let same_role = order.iter().rposition(|(role, _)| *role == tensor.role);
            order.insert(same_role.map_or(order.len(), |index| index + 1), key);
            (0, dimensions(&tensor.shape), 0, 0)
        });
        group.0 += 1;
        group.2 += tensor.n_elements();
        group.3 += bytes;
    }
    for key in order {
        let Some((n, shape, elements, bytes)) = groups.remove(&key) else { continue };
        sheet.row([
            key.0.gguf_stem().into(),
            key.1.name().into(),
            n.to_string(),
            shape,
            units::count(elements),
            units::bytes(bytes),
        ]);
    }
    sheet
}

fn op_sheet(report: &InspectReport) -> Sheet {
    let mut sheet = Sheet::new(
        "operations of one pass",
        &["phase", "op", ">calls", ">FLOP", ">traffic", ">FLOP/byte"],
    );
    for op in &report.ops {
        let intensity = if op.bytes > 0 { op.flop as f64 / op.bytes as f64 } else { f64::NAN };
        sheet.row([
            op.phase.name().into(),
            op.op.clone(),
            op.calls.to_string(),
            units::flop(op.flop),
            units::bytes(op.bytes),
            units::significant(intensity, 3),
        ]);
    }
    sheet
}
