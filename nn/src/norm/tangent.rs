//! Group normalisation with tangents, for [`crate::matching`].
//!
//! With `s = 1 / sqrt(v + e)`, `h = (x - m) s` and dots for tangents:
//! `s. = -s^2 mean(h x.)`, `h. = s (x. - mean(x.)) + h s. / s`, `y. = scale h. + scale. h + shift.`;
//! and back, from `dx = s (g - mean(g) - h mean(g h))` with `g = scale d`:
//! `dx. = dx s. / s + s (g. - mean(g.) - h. mean(g h) - h mean(g. h + g h.))`.

use super::{Affine, EPSILON, GroupShape};

/// What the way back needs of one sample.
#[derive(Clone, Debug)]
pub(crate) struct TangentNorm {
    /// Normalised values and their tangents.
    h: Vec<f64>,
    moved: Vec<f64>,
    /// Per group `s` and its tangent.
    spread: Vec<(f64, f64)>,
}

fn mean(values: impl Iterator<Item = f64>, n: usize) -> f64 {
    values.sum::<f64>() / n as f64
}

impl GroupShape {
    /// `x` and its tangent become those behind the normalisation.
    pub(crate) fn tangent_forward(
        &self,
        x: &mut [f32],
        tangent: &mut [f32],
        affine: Option<(Affine<'_>, Affine<'_>)>,
    ) -> TangentNorm {
        let n = self.group_values();
        let (mut h, mut moved, mut spread) = (Vec::new(), Vec::new(), Vec::new());
        for (x, tangent) in x.chunks_exact(n).zip(tangent.chunks_exact(n)) {
            let centre = mean(x.iter().map(|v| f64::from(*v)), n);
            let variance = mean(x.iter().map(|v| (f64::from(*v) - centre).powi(2)), n);
            let s = 1.0 / (variance + EPSILON).sqrt();
            let drift = mean(tangent.iter().map(|v| f64::from(*v)), n);
            let values: Vec<f64> = x.iter().map(|v| (f64::from(*v) - centre) * s).collect();
            let along = values.iter().zip(tangent).map(|(h, t)| h * f64::from(*t));
            let s_moved = -s * s * mean(along, n);
            for (h, t) in values.iter().zip(tangent) {
                moved.push(s * (f64::from(*t) - drift) + h * s_moved / s);
            }
            h.extend(values);
            spread.push((s, s_moved));
        }
        let plane = n / self.group_channels();
        for (i, (x, tangent)) in x.iter_mut().zip(tangent).enumerate() {
            let (mut y, mut y_moved) = (h[i], moved[i]);
            if let Some((here, going)) = affine {
                let c = i / plane;
                y_moved = f64::from(here.scales[c]) * y_moved
                    + f64::from(going.scales[c]) * y
                    + f64::from(going.shifts[c]);
                y = f64::from(here.scales[c]) * y + f64::from(here.shifts[c]);
            }
            (*x, *tangent) = (y as f32, y_moved as f32);
        }
        TangentNorm { h, moved, spread }
    }

    /// `d` and its tangent become those before the normalisation.
    pub(crate) fn tangent_backward(
        &self,
        d: &mut [f32],
        tangent: &mut [f32],
        kept: &TangentNorm,
        affine: Option<(Affine<'_>, Affine<'_>)>,
    ) {
        let n = self.group_values();
        let plane = n / self.group_channels();
        for (group, (s, s_moved)) in kept.spread.iter().enumerate() {
            let range = group * n..(group + 1) * n;
            let (h, moved) = (&kept.h[range.clone()], &kept.moved[range.clone()]);
            let scaled = range.clone().map(|i| {
                let (d, t) = (f64::from(d[i]), f64::from(tangent[i]));
                affine.map_or((d, t), |(here, going)| {
                    let (scale, drift) = (here.scales[i / plane], going.scales[i / plane]);
                    let (scale, drift) = (f64::from(scale), f64::from(drift));
                    (scale * d, scale * t + drift * d)
                })
            });
            let scaled: Vec<(f64, f64)> = scaled.collect();
            let centre = mean(scaled.iter().map(|g| g.0), n);
            let centre_moved = mean(scaled.iter().map(|g| g.1), n);
            let along = mean(scaled.iter().zip(h).map(|(g, h)| g.0 * h), n);
            let both = scaled.iter().zip(h.iter().zip(moved));
            let along_moved = mean(both.map(|(g, (h, m))| g.1 * h + g.0 * m), n);
            for (k, i) in range.enumerate() {
                let (g, g_moved) = scaled[k];
                let dx = s * (g - centre - h[k] * along);
                let inner = g_moved - centre_moved - moved[k] * along - h[k] * along_moved;
                d[i] = dx as f32;
                tangent[i] = (dx * s_moved / s + s * inner) as f32;
            }
        }
    }
}
