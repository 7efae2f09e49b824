//! What a composition is made for.

/// The point of the privacy profile that is asked about.
#[derive(Debug, Clone, Copy)]
pub(super) enum Target {
    /// Epsilon at this logarithm of delta.
    LnDelta(f64),
    /// Delta at this epsilon.
    Epsilon(f64),
}

impl Target {
    /// Whether a composition for one may serve the other.
    pub(super) fn is_near(self, other: Self) -> bool {
        match (self, other) {
            (Self::LnDelta(a), Self::LnDelta(b)) => (a - b).abs() < 2.5,
            (Self::Epsilon(a), Self::Epsilon(b)) => (a - b).abs() < 0.2 * (a + b),
            _ => false,
        }
    }
}
