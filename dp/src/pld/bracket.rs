//! What the accountant answers: an epsilon from both sides.

/// An epsilon from both sides.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bracket {
    /// No smaller epsilon holds for the worst pair of neighbouring outputs.
    pub lower: f64,
    /// The upper bound less what the grid added to it, to first order; not a bound.
    pub estimate: f64,
    /// The bound to be relied on.
    pub upper: f64,
    /// The Renyi order, one more than the tilt, at which the upper bound was composed; infinite
    /// where no grid was needed.
    pub order: f64,
}

impl Bracket {
    pub(super) const fn exact(epsilon: f64) -> Self {
        Self {
            lower: epsilon,
            estimate: epsilon,
            upper: epsilon,
            order: f64::INFINITY,
        }
    }
}

/// Both bounds are moved outwards by this much, relatively and absolutely: far above what is known
/// to be uncertain, for what the proof does not model (the last bits of library functions).
const MARGIN: (f64, f64) = (2e-6, 5e-7);

/// A bracket with the margin added.
pub(super) fn widened([lower, estimate, upper]: [f64; 3], order: f64) -> Bracket {
    let (relative, absolute) = MARGIN;
    Bracket {
        lower: (lower * (1.0 - relative) - absolute).max(0.0),
        estimate,
        upper: if upper > 0.0 {
            upper.mul_add(1.0 + relative, absolute)
        } else {
            0.0
        },
        order,
    }
}
