//! What the float engine is told, and what it refuses.

use thiserror::Error;

/// Most binary digits behind the point that a grid may have.
pub const MAX_SHIFT: u32 = 52;

/// How [`Clear`](super::Clear) clips, rounds and updates. All of it is public.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClearConfig {
    /// Bound C on the norm of one sample's gradient, over weights and biases of all layers
    /// jointly; `None` leaves gradients as they are.
    pub clip_bound: Option<f32>,
    /// Step size of SGD.
    pub learning_rate: f64,
    /// Momentum of SGD, from 0 up to but not including 1.
    pub momentum: f64,
    /// What the noised sum is divided by: a public constant such as the mean batch size.
    pub divisor: f64,
    /// The grid of sums: values are multiples of `2^-shift`.
    pub shift: u32,
}

impl Default for ClearConfig {
    /// No clipping, learning rate 0.1, no momentum, divisor 1, grid `2^-20`.
    fn default() -> Self {
        Self {
            clip_bound: None,
            learning_rate: 0.1,
            momentum: 0.0,
            divisor: 1.0,
            shift: 20,
        }
    }
}

/// What the float engine refuses.
#[derive(Clone, Copy, Debug, Error, PartialEq)]
pub enum ClearError {
    /// The parameter vector does not fit the network.
    #[error("{found} parameters for a network of {expected}; give one per place in its layout")]
    Parameters {
        /// Length given.
        found: usize,
        /// Length needed.
        expected: usize,
    },
    /// A clip bound that is not a positive number, or is below one step of the grid.
    #[error("clip bound {bound} on the grid 2^-{shift}: must be finite and at least one grid step")]
    ClipBound {
        /// The bound given.
        bound: f32,
        /// The grid.
        shift: u32,
    },
    /// Not one clip bound per linear layer.
    #[error("{found} clip bounds for {expected} linear layers; give one per layer")]
    LayerBounds {
        /// Bounds given.
        found: usize,
        /// Linear layers there are.
        expected: usize,
    },
    /// A learning rate, momentum or divisor that is no use.
    #[error("{name} = {value}; must be finite, {expected}")]
    Setting {
        /// Which one.
        name: &'static str,
        /// The value given.
        value: f64,
        /// What would be right.
        expected: &'static str,
    },
    /// A grid finer than `f64` resolves.
    #[error("shift {shift}; must be at most {MAX_SHIFT}")]
    Shift {
        /// The shift given.
        shift: u32,
    },
    /// A linear layer that does not exist.
    #[error(
        "{operation}: layer {layer}, expected one below the {layers} linear layers of the network"
    )]
    Layer {
        /// What was asked for.
        operation: &'static str,
        /// The layer named.
        layer: usize,
        /// Linear layers there are.
        layers: usize,
    },
    /// A tensor of the wrong shape.
    #[error("{operation} at layer {layer}: {what} = {found}, expected {expected}")]
    Shape {
        /// What was asked for.
        operation: &'static str,
        /// At which layer.
        layer: usize,
        /// Which quantity is off.
        what: &'static str,
        /// Its value.
        found: usize,
        /// What it should be.
        expected: usize,
    },
    /// A training call before `begin`.
    #[error("{operation}: no step was begun; call begin first")]
    NotBegun {
        /// What was asked for.
        operation: &'static str,
    },
    /// More rows than the step's capacity.
    #[error(
        "forward at layer {layer}: {rows} rows in a step of capacity {capacity}; begin it with more"
    )]
    Capacity {
        /// At which layer.
        layer: usize,
        /// Rows given.
        rows: usize,
        /// Capacity named by `begin`.
        capacity: usize,
    },
    /// A network beyond the tables of [`crate::prepared`].
    #[error(
        "{operation}: a layer needs more than 2^32 values of working space; use a smaller network"
    )]
    TooLarge {
        /// What was asked for.
        operation: &'static str,
    },
    /// A collection that does not hold each layer once.
    #[error("collect: layer {layer} was submitted {found} times; each layer must be there once")]
    Collected {
        /// Which layer.
        layer: usize,
        /// How often it was found.
        found: usize,
    },
}

pub(super) fn check_settings(config: &ClearConfig) -> Result<(), ClearError> {
    let refuse = |name, value, expected| {
        Err(ClearError::Setting {
            name,
            value,
            expected,
        })
    };
    if !config.learning_rate.is_finite() || config.learning_rate <= 0.0 {
        return refuse("learning rate", config.learning_rate, "above 0");
    }
    if !(0.0..1.0).contains(&config.momentum) {
        return refuse("momentum", config.momentum, "at least 0 and below 1");
    }
    if !config.divisor.is_finite() || config.divisor <= 0.0 {
        return refuse("divisor", config.divisor, "above 0");
    }
    Ok(())
}

/// The largest multiple of `2^-shift` that is not above `bound`.
pub(super) fn bound_on_grid(bound: f32, shift: u32) -> Result<f64, ClearError> {
    let step = (1_u64 << shift) as f64;
    let floor = (f64::from(bound) * step).floor();
    if !floor.is_finite() || floor < 1.0 {
        return Err(ClearError::ClipBound { bound, shift });
    }
    Ok(floor / step)
}
