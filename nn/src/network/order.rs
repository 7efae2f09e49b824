//! In which order layers may stand: linear, perhaps normalisation, activation, perhaps pooling, and so on to a dense end.

use super::{ArchitectureError, LayerSpec, MAX_LAYERS};

/// What stands before a layer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    Start,
    Linear,
    Norm,
    Activation,
    Pooling,
}

/// Checks the order of the layers; sizes come later.
pub(super) fn check(layers: &[LayerSpec]) -> Result<(), ArchitectureError> {
    if layers.len() > MAX_LAYERS {
        return Err(ArchitectureError::TooManyLayers {
            found: layers.len(),
        });
    }
    let is_dense = |spec: &LayerSpec| matches!(spec, LayerSpec::Dense { .. });
    if !layers.iter().any(is_dense) {
        return Err(ArchitectureError::NoDense);
    }
    let mut before = Before::Start;
    for (layer, found) in layers.iter().enumerate() {
        before = follow(before, layer, *found)?;
    }
    match layers.last() {
        Some(found) if !is_dense(found) => Err(ArchitectureError::NotDenseAtEnd {
            layer: layers.len() - 1,
            found: *found,
        }),
        _ => Ok(()),
    }
}

fn follow(before: Before, layer: usize, found: LayerSpec) -> Result<Before, ArchitectureError> {
    match found {
        LayerSpec::Dense { .. } | LayerSpec::Conv { .. } => match before {
            Before::Linear | Before::Norm => {
                Err(ArchitectureError::AdjacentLinear { layer, found })
            }
            _ => Ok(Before::Linear),
        },
        LayerSpec::GroupNorm { .. } => match before {
            Before::Linear => Ok(Before::Norm),
            _ => Err(ArchitectureError::MisplacedNorm { layer, found }),
        },
        // Refused for what it is, wherever it stands.
        LayerSpec::BatchNorm => Err(ArchitectureError::BatchNorm { layer }),
        LayerSpec::MaxPool { .. } | LayerSpec::AvgPool { .. } => match before {
            Before::Activation => Ok(Before::Pooling),
            _ => Err(ArchitectureError::MisplacedPooling { layer, found }),
        },
        LayerSpec::Relu | LayerSpec::Tanh | LayerSpec::Sigmoid | LayerSpec::Square => {
            match before {
                Before::Linear | Before::Norm => Ok(Before::Activation),
                _ => Err(ArchitectureError::MisplacedActivation { layer, found }),
            }
        }
    }
}
