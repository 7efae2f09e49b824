//! Axes: from values to positions, with ticks at round numbers.
//!
//! **Where it sits.** Between the values of a figure and `frame`, which draws what is chosen here.
//!
//! **What must be true.** Every value that was given lies between the ends of the axis; ticks
//! ascend and lie between them too; a tick is labelled with the exact number at its place.
//!
//! **Where it is from.** Steps of 1, 2 and 5 times a power of ten, after Heckbert, *Nice Numbers
//! for Graph Labels*, Graphics Gems, 1990.

/// One labelled place on an axis.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tick {
    pub(crate) value: f64,
    pub(crate) label: String,
}

/// A range of values laid over a range of positions.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Axis {
    low: f64,
    high: f64,
    logarithmic: bool,
    ends: (f64, f64),
    pub(crate) ticks: Vec<Tick>,
}

impl Axis {
    /// An even axis over all of `values`, rounded outwards, with about `count` ticks.
    ///
    /// Values that are not finite are passed over.
    pub(crate) fn linear(values: impl IntoIterator<Item = f64>, count: usize) -> Self {
        let (mut low, mut high) = ends_of(values).unwrap_or((0.0, 1.0));
        if high - low <= 1e-12 * low.abs().max(high.abs()) {
            let margin = if low == 0.0 { 1.0 } else { 0.1 * low.abs() };
            (low, high) = (low - margin, high + margin);
        }
        let (mantissa, exponent) = round_step((high - low) / count.max(1) as f64);
        let step = decimal(mantissa, exponent);
        let (first, last) = ((low / step).floor() as i64, (high / step).ceil() as i64);
        let decimals = usize::try_from(-exponent).unwrap_or(0);
        let tick = |i: i64| {
            let value = i as f64 * step;
            Tick {
                value,
                label: format!("{:.decimals$}", value),
            }
        };
        let ticks: Vec<Tick> = (first..=last).map(tick).collect();
        let (low, high) = (first as f64 * step, last as f64 * step);
        Self {
            low,
            high,
            logarithmic: false,
            ends: (0.0, 1.0),
            ticks,
        }
    }

    /// A logarithmic axis over all of `values` above zero, rounded outwards to 1, 2 or 5 times a
    /// power of ten.
    ///
    /// Values that are not above zero or not finite are passed over.
    pub(crate) fn logarithmic(values: impl IntoIterator<Item = f64>) -> Self {
        let above = values.into_iter().filter(|v| *v > 0.0);
        let (low, high) = ends_of(above).unwrap_or((1.0, 10.0));
        let first = (low.log10().floor() as i32).max(-300);
        let last = (high.log10().floor() as i32 + 1).min(300);
        let all: Vec<(u8, i32)> = (first..=last)
            .flat_map(|e| [1, 2, 5].map(|mantissa| (mantissa, e)))
            .collect();
        let value = |(mantissa, exponent): (u8, i32)| decimal(mantissa, exponent);
        let below = all
            .iter()
            .rposition(|t| value(*t) < low * (1.0 - 1e-9))
            .unwrap_or(0);
        let above = all.iter().position(|t| value(*t) > high * (1.0 + 1e-9));
        let kept = &all[below..=above.unwrap_or(all.len() - 1)];
        let decades = kept.len() > 12;
        let ticks: Vec<Tick> = kept
            .iter()
            .filter(|(mantissa, _)| !decades || *mantissa == 1)
            .map(|t| Tick {
                value: value(*t),
                label: log_label(*t),
            })
            .collect();
        let (low, high) = (value(kept[0]), value(kept[kept.len() - 1]));
        Self {
            low,
            high,
            logarithmic: true,
            ends: (0.0, 1.0),
            ticks,
        }
    }

    /// The same axis, laid from one position to another.
    pub(crate) fn between(mut self, from: f64, to: f64) -> Self {
        self.ends = (from, to);
        self
    }

    /// The position of a value; values beyond an end lie beyond it.
    pub(crate) fn place(&self, value: f64) -> f64 {
        let share = if self.logarithmic {
            (value / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        self.ends.0 + share * (self.ends.1 - self.ends.0)
    }
}

fn ends_of(values: impl IntoIterator<Item = f64>) -> Option<(f64, f64)> {
    values
        .into_iter()
        .filter(|v| v.is_finite())
        .fold(None, |ends, v| match ends {
            None => Some((v, v)),
            Some((low, high)) => Some((v.min(low), v.max(high))),
        })
}

/// The smallest of 1, 2, 5 times a power of ten that is at least `least`.
fn round_step(least: f64) -> (u8, i32) {
    let exponent = least.log10().floor().clamp(-300.0, 300.0) as i32;
    let found = [(1, exponent), (2, exponent), (5, exponent)];
    let fits = |(mantissa, exponent): &(u8, i32)| decimal(*mantissa, *exponent) >= least;
    found.into_iter().find(fits).unwrap_or((1, exponent + 1))
}

/// `mantissa * 10^exponent`, rounded once.
fn decimal(mantissa: u8, exponent: i32) -> f64 {
    // Parsing rounds correctly; multiplying by a power of ten would round twice.
    format!("{mantissa}e{exponent}").parse().unwrap_or(f64::NAN)
}

fn log_label((mantissa, exponent): (u8, i32)) -> String {
    if (-4..=5).contains(&exponent) {
        format!("{}", decimal(mantissa, exponent))
    } else {
        format!("{mantissa}e{exponent}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn labels(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|t| t.label.as_str()).collect()
    }

    #[test]
    fn ticks_are_round_numbers() {
        assert_eq!(
            labels(&Axis::linear([0.0, 97.0], 5)),
            ["0", "20", "40", "60", "80", "100"]
        );
        assert_eq!(
            labels(&Axis::linear([0.13, 0.29], 4)),
            ["0.10", "0.15", "0.20", "0.25", "0.30"]
        );
        assert_eq!(
            labels(&Axis::logarithmic([0.3, 8.0])),
            ["0.2", "0.5", "1", "2", "5", "10"]
        );
        assert_eq!(labels(&Axis::logarithmic([2.0])), ["1", "2", "5"]);
        let wide = Axis::logarithmic([0.004, 90_000.0]);
        assert_eq!(labels(&wide)[..3], ["0.01", "0.1", "1"]);
    }

    #[test]
    fn places_are_even_or_logarithmic() {
        let even = Axis::linear([0.0, 10.0], 5).between(100.0, 200.0);
        assert_eq!(
            (even.place(0.0), even.place(2.5), even.place(10.0)),
            (100.0, 125.0, 200.0)
        );
        let log = Axis::logarithmic([1.5, 80.0]).between(0.0, 2.0);
        assert!((log.place(10.0) - 1.0).abs() < 1e-12 && log.place(100.0) == 2.0);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..Default::default() })]

        /// Every value lies on the axis, ticks ascend, and their labels read back as their values.
        #[test]
        fn axes_hold_their_values(
            values in proptest::collection::vec((1.0..10.0, -9..9), 1..6),
            count in 2_usize..9,
            negative in any::<bool>(),
        ) {
            let values: Vec<f64> = values.into_iter().map(|(m, e): (f64, i32)| m * 10_f64.powi(e)).collect();
            let sign = if negative { -1.0 } else { 1.0 };
            let even = Axis::linear(values.iter().map(|v| sign * v), count);
            let log = Axis::logarithmic(values.iter().copied());
            for (axis, sign) in [(&even, sign), (&log, 1.0)] {
                prop_assert!((2..=40).contains(&axis.ticks.len()), "{:?}", axis);
                prop_assert!(axis.ticks.windows(2).all(|t| t[0].value < t[1].value));
                for value in &values {
                    let share = axis.place(sign * value);
                    prop_assert!((-1e-6..=1.0 + 1e-6).contains(&share), "{} {:?}", value, axis);
                }
                for tick in &axis.ticks {
                    let read: f64 = tick.label.parse().unwrap();
                    let span = axis.high - axis.low;
                    prop_assert!((read - tick.value).abs() <= 1e-9 * span, "{:?}", tick);
                }
            }
        }
    }
}
