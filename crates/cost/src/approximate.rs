//! Where the cost model is approximate for a model, in plain words.

use foretoken_spec::{LayerKind, ModelSpec, RoleKind};

use crate::{Engine, EngineProfile, Isa, launches, readers};

/// Where the operations of a model are approximate, as sentences; nothing for the plain form.
pub fn approximations(model: &ModelSpec, engine: &EngineProfile) -> Vec<String> {
    let shape = &model.shape;
    let mut said = model.approximations.clone();
    if let Some(experts) = &shape.details.experts {
        said.push(format!(
            "each token is taken to choose {} of {} experts at random, and each expert to be a \
             multiplication of its own",
            experts.used, experts.count
        ));
    }
    let count = |kind| shape.layers().filter(|layer| layer.kind == kind).count();
    let convolutions = count(LayerKind::ShortConvolution);
    if convolutions > 0 {
        said.push(format!(
            "of {convolutions} layers with short convolutions only the products of matrices are \
             modelled, the convolution as elementwise work"
        ));
    }
    let recurrent = count(LayerKind::Recurrent);
    let beside = model.tensors.iter().any(|t| t.role.kind() == RoleKind::Convolution);
    if recurrent > 0 {
        said.push(format!(
            "of {recurrent} recurrent layers only the products of matrices are modelled, the scan \
             as elementwise work"
        ));
    } else if beside && convolutions == 0 {
        said.push("states beside attention are counted as elementwise work".to_owned());
    }
    if let Some(latent) = &shape.details.latent {
        let form = if latent.absorbed { "on the latent itself" } else { "after expansion" };
        said.push(format!("latent attention is taken {form}, as the tensors of the file suggest"));
    }
    if engine.engine == Engine::Candle && engine.isa == Isa::Metal {
        said.push("launches on Metal are counted as CUDA's".to_owned());
    }
    let has_reader = readers::of_architecture(&shape.architecture).is_some();
    if engine.is_candle_on_gpu() && has_reader && !launches::is_counted(shape) {
        said.push(format!(
            "on a GPU the launches of `{}` are counted as those of plain `llama`: its reader makes \
             more",
            shape.architecture
        ));
    }
    if engine.engine == Engine::Candle && !has_reader {
        said.push(format!(
            "candle has no reader for `{}`: the numbers are those of a reader like that of `llama`",
            shape.architecture
        ));
    }
    said
}
