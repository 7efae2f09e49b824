//! Working space of one task, allocated once and used from step to step.

use super::Prepared;
use super::layer::BackKind;
use super::normalise::SPARE;

/// Positions whose patches are computed before they are added up.
pub(super) const PATCH_ROWS: usize = 24;

/// Everything a task writes to while it carries a tile of samples through the network.
///
/// The frames of all canvases are zero from the beginning and never written.
#[derive(Debug)]
pub(crate) struct Workspace {
    /// Per layer, per sample: the input.
    pub(super) x: Vec<Vec<f32>>,
    /// Per layer, per sample: the derivatives of the activation; of the last layer the logits.
    pub(super) slope: Vec<Vec<f32>>,
    /// Per layer, per sample: normalised values, and per channel one over their spread before.
    pub(super) normal: Vec<Vec<f32>>,
    pub(super) inverse: Vec<Vec<f32>>,
    /// Working space of normalisations.
    pub(super) moments: Vec<f64>,
    /// Per layer, per sample: which place of its window a maximum came from.
    pub(super) chosen: Vec<Vec<u32>>,
    /// Per layer: the gradient at the output; for joined layers per sample.
    pub(super) d: Vec<Vec<f32>>,
    /// Per sample: the gradient at the logits.
    pub(super) top: Vec<f32>,
    /// Per sample: the gradient at a joined layer's input.
    pub(super) joined: Vec<f32>,
    /// One sample's gradient at a layer's input.
    pub(super) one: Vec<f32>,
    /// Patches on their way back.
    pub(super) patches: Vec<f32>,
    /// Activations on their way into a pooling.
    pub(super) spare: Vec<f32>,
    /// One sample's gradient of the layers that are not joined.
    pub(super) gradient: Vec<f32>,
    /// Per layer and sample: the squared norm of the gradient, and what it is multiplied by.
    pub(super) norms: Vec<f64>,
    pub(super) factors: Vec<f32>,
}

impl Workspace {
    /// Space for `tile` samples at once.
    pub(super) fn new(prepared: &Prepared, tile: usize) -> Self {
        let layers = &prepared.layers;
        let zeros = |length: usize| vec![0.0_f32; length];
        let largest =
            |length: &dyn Fn(usize) -> usize| (0..layers.len()).map(length).max().unwrap_or(0);
        let back = |l: usize| layers[l].back.as_ref();
        let pooled = |l: usize| {
            let pool = layers[l].pool.map(|pool| pool.output());
            pool.map_or(0, |image| image.height * image.width * layers[l].width)
        };
        let scattered = |l: usize| match back(l).map(|b| (b.kind, b.width)) {
            Some((BackKind::Scattered { .. }, width)) if !prepared.is_joined(l) => width,
            _ => 0,
        };
        let normal = |l: usize| layers[l].norm.map_or(0, |_| tile);
        let d = |l: usize| match prepared.is_joined(l) {
            true => tile * layers[l].d.len(),
            false => layers[l].d.len(),
        };
        Self {
            x: layers.iter().map(|l| zeros(tile * l.x.len())).collect(),
            slope: layers.iter().map(|l| zeros(tile * l.y.len())).collect(),
            normal: (0..layers.len())
                .map(|l| zeros(normal(l) * layers[l].y.len()))
                .collect(),
            inverse: (0..layers.len())
                .map(|l| zeros(normal(l) * layers[l].width))
                .collect(),
            moments: vec![0.0; SPARE * largest(&|l| layers[l].width)],
            chosen: (0..layers.len())
                .map(|l| vec![0; tile * pooled(l)])
                .collect(),
            d: (0..layers.len()).map(|l| zeros(d(l))).collect(),
            top: zeros(tile * layers.last().map_or(0, |l| l.width)),
            joined: zeros(
                tile * largest(&|l| {
                    if prepared.is_joined(l) {
                        layers[l].x.len()
                    } else {
                        0
                    }
                }),
            ),
            one: zeros(largest(&|l| back(l).map_or(0, |b| b.to.len()))),
            patches: zeros(PATCH_ROWS * largest(&scattered)),
            spare: zeros(largest(&|l| layers[l].y.len())),
            gradient: zeros(prepared.explicit_len),
            norms: vec![0.0; tile * layers.len()],
            factors: vec![0.0; tile * layers.len()],
        }
    }
}
