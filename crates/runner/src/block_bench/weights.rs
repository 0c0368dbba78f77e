//! The tensors of single layers, read as the readers read them.

use std::io::{Read, Seek};

use candle_core::quantized::QMatMul;
use candle_core::quantized::gguf_file::Content;
use candle_core::{Device, Module, Result, Tensor};
use foretoken_spec::{RoleKind, TensorRole, TensorSpec};

/// Where a model is read from: a file, or synthetic weights.
pub(crate) trait ReadSeek: Read + Seek {}

impl<T: Read + Seek> ReadSeek for T {}

/// An opened model file.
pub(crate) struct ModelFile<'a> {
    content: Content,
    source: Box<dyn ReadSeek + 'a>,
}

impl<'a> ModelFile<'a> {
    pub(crate) fn read(mut source: Box<dyn ReadSeek + 'a>) -> Result<Self> {
        Ok(Self { content: Content::read(&mut source)?, source })
    }

    /// Reads these tensors: matrices as they are stored, all others as F32.
    pub(super) fn tensors<'t>(
        &mut self,
        tensors: impl Iterator<Item = &'t TensorSpec>,
        device: &Device,
    ) -> Result<LayerTensors> {
        let mut layer = LayerTensors::default();
        for tensor in tensors {
            let read = self.content.tensor(&mut self.source, &tensor.name, device)?;
            if tensor.role.kind() == RoleKind::Matrix {
                layer.matrices.push((tensor.role, QMatMul::from_qtensor(read)?));
            } else {
                layer.others.push((tensor.role, read.dequantize(device)?));
            }
        }
        Ok(layer)
    }
}

/// Tensors of one layer by role.
#[derive(Default)]
pub(super) struct LayerTensors {
    matrices: Vec<(TensorRole, QMatMul)>,
    others: Vec<(TensorRole, Tensor)>,
}

impl LayerTensors {
    /// The product of rows with a matrix.
    pub(super) fn multiply(&self, role: TensorRole, x: &Tensor) -> Result<Tensor> {
        match self.matrices.iter().find(|(of, _)| *of == role) {
            Some((_, matrix)) => matrix.forward(x),
            None => candle_core::bail!("the layer has no {}", role.gguf_stem()),
        }
    }

    /// A bias or a convolution.
    pub(super) fn other(&self, role: TensorRole) -> Option<&Tensor> {
        self.others.iter().find(|(of, _)| *of == role).map(|(_, tensor)| tensor)
    }
}
