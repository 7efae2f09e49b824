//! One linear layer and what follows it, as tables of places.
//!
//! Every linear layer here is a set of *positions*, at each of which the same weights meet the
//! *taps* of the input: a convolution has one position per output place and `channels kernel^2`
//! taps, a dense layer one position and all its inputs as taps. So its three products are
//! [`crate::gemm::multiply_at`] with these tables:
//!
//! | product | rows | steps | right matrix |
//! |---|---|---|---|
//! | forward | positions | taps | weights, `[tap][output]` |
//! | gradient | taps | positions | `D`, `[position][output]` |
//! | backward, *direct* (stride 1) | places of the input | outputs and mirrored taps of framed `D` | weights, `[tap, output][channel]` |
//! | backward, *scattered* | positions | outputs | weights, `[output][tap]`; the patches are then added up |

use super::canvas::Canvas;
use crate::activation::Activation;
use crate::conv::ConvShape;
use crate::gemm::{LANES, Rows, Step, Steps};
use crate::network::{ImageShape, LinearKind, Network};
use crate::norm::GroupShape;
use crate::pool::PoolShape;

/// Direct backward products may have this many more places than positions, in quarters: beyond it
/// the multiplications with the frame cost more than adding up patches.
const DIRECT_QUARTERS: usize = 5;

/// One linear layer and what follows it.
#[derive(Clone, Debug)]
pub(super) struct Layer {
    /// Number of outputs per position.
    pub(super) outputs: usize,
    /// The same, padded to whole vectors.
    pub(super) width: usize,
    /// The input's canvas, that of the output, and that of the gradient at the output.
    pub(super) x: Canvas,
    pub(super) y: Canvas,
    pub(super) d: Canvas,
    /// Positions in the input.
    pub(super) positions: Rows,
    /// Taps from a position, each with its row of the weights.
    pub(super) taps: Steps,
    /// For each tap its place in an output's weights as the network lays them out.
    pub(super) order: Vec<u32>,
    /// Taps and positions with their roles exchanged, for the gradient.
    pub(super) tap_rows: Rows,
    pub(super) position_steps: Steps,
    /// How the gradient reaches the input; the first layer's input is data.
    pub(super) back: Option<Back>,
    /// What follows.
    pub(super) norm: Option<GroupShape>,
    pub(super) affine: bool,
    pub(super) activation: Activation,
    pub(super) pool: Option<PoolShape>,
}

/// How a gradient reaches a layer's input.
#[derive(Clone, Debug)]
pub(super) struct Back {
    pub(super) rows: Rows,
    pub(super) steps: Steps,
    /// Columns of the right matrix.
    pub(super) width: usize,
    /// The canvas in which the gradient at the input is left.
    pub(super) to: Canvas,
    pub(super) kind: BackKind,
}

/// The two ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BackKind {
    /// The product is the gradient.
    Direct,
    /// The product's rows are patches, cut into `runs` runs of `run` values, one canvas line apart.
    Scattered { runs: usize, run: usize },
}

fn narrow(place: usize) -> Option<u32> {
    u32::try_from(place).ok()
}

fn rows(places: impl Iterator<Item = usize>) -> Option<Rows> {
    places.map(narrow).collect::<Option<_>>().map(Rows::new)
}

fn steps(places: impl Iterator<Item = (usize, usize)>) -> Option<Steps> {
    let step = |(x, b)| {
        Some(Step {
            x: narrow(x)?,
            b: narrow(b)?,
        })
    };
    places.map(step).collect::<Option<_>>().map(Steps::new)
}

impl Layer {
    /// The tables of linear layer `index`, fed by images of shape `input`; `None` if a place does
    /// not fit 32 bits.
    pub(super) fn new(network: &Network, index: usize, input: ImageShape) -> Option<Self> {
        let shape = network.linears()[index];
        let between = network.between(index);
        let frame = match shape.kind {
            LinearKind::Dense => 0,
            LinearKind::Conv(conv) => conv.padding(),
        };
        let x = match index {
            0 => Canvas::tight(input, frame),
            _ => Canvas::padded(input, frame),
        };
        let output = match shape.kind {
            LinearKind::Dense => ImageShape {
                channels: shape.outputs,
                height: 1,
                width: 1,
            },
            LinearKind::Conv(conv) => conv.output(),
        };
        let y = Canvas::padded(output, 0);
        let direct = match shape.kind {
            LinearKind::Conv(conv) if index > 0 => is_direct(conv),
            _ => false,
        };
        let d = match shape.kind {
            LinearKind::Conv(conv) if direct => {
                Canvas::padded(output, conv.kernel() - 1 - conv.padding())
            }
            _ => y,
        };
        let (positions, taps, order) = tables(shape.kind, x)?;
        let width = y.lane();
        let back = match (index, shape.kind) {
            (0, _) => None,
            (_, LinearKind::Conv(conv)) if direct => Some(direct_back(conv, x, d)?),
            (_, kind) => Some(scattered_back(kind, x, d)?),
        };
        let taps_with_rows = taps
            .iter()
            .enumerate()
            .map(|(k, place)| (*place, k * width));
        let at = positions.iter().copied().zip(d.places());
        Some(Self {
            outputs: output.channels,
            width,
            x,
            y,
            d,
            taps: steps(taps_with_rows)?,
            tap_rows: rows(taps.iter().copied())?,
            position_steps: steps(at)?,
            positions: rows(positions.iter().copied())?,
            order,
            back,
            norm: network.norm_after(index),
            affine: !network.layout()[index].scales.is_empty(),
            activation: between.activation,
            pool: between.pool,
        })
    }

    /// Shape of the images handed to the next layer.
    pub(super) fn next_input(&self) -> ImageShape {
        self.pool.map_or(self.y.image(), |pool| pool.output())
    }

    /// Whether there is one position only.
    pub(super) fn is_single(&self) -> bool {
        self.positions.len() == 1
    }

    /// Whether its gradient can be summed over samples by one product.
    pub(super) fn can_join(&self) -> bool {
        self.is_single() && self.norm.is_none()
    }

    /// Length of the gradients of scales and shifts, padding included.
    pub(super) fn affine_len(&self) -> usize {
        if self.affine { 2 * self.width } else { 0 }
    }

    /// Length of the weights' gradient of one sample, padding included.
    pub(super) fn gradient_len(&self) -> usize {
        self.order.len() * self.width
    }
}

fn is_direct(conv: ConvShape) -> bool {
    let places = conv.input().height * conv.input().width;
    conv.stride() == 1 && 4 * places <= DIRECT_QUARTERS * conv.positions()
}

/// Positions in the canvas, taps from a position, and each tap's place in the network's layout.
fn tables(kind: LinearKind, x: Canvas) -> Option<(Vec<usize>, Vec<usize>, Vec<u32>)> {
    let ImageShape {
        channels,
        height,
        width,
    } = x.image();
    let (lines, columns, positions) = match kind {
        LinearKind::Dense => (height, width, vec![0]),
        LinearKind::Conv(conv) => {
            let (output, stride) = (conv.output(), conv.stride());
            let at =
                |p: usize| x.framed_place(p / output.width * stride, p % output.width * stride);
            let positions = (0..conv.positions()).map(at).collect();
            (conv.kernel(), conv.kernel(), positions)
        }
    };
    let (mut taps, mut order) = (Vec::new(), Vec::new());
    for i in 0..lines {
        for j in 0..columns {
            for c in 0..channels {
                taps.push(x.framed_place(i, j) + c);
                order.push(narrow((c * lines + i) * columns + j)?);
            }
        }
    }
    Some((positions, taps, order))
}

fn direct_back(conv: ConvShape, x: Canvas, d: Canvas) -> Option<Back> {
    let to = Canvas::padded(x.image(), 0);
    let (input, outputs, kernel) = (x.image(), conv.output().channels, conv.kernel());
    let place = |q: usize| d.framed_place(q / input.width, q % input.width);
    let step = |n: usize| {
        let (tap, o) = (n / outputs, n % outputs);
        (
            d.framed_place(tap / kernel, tap % kernel) + o,
            n * to.lane(),
        )
    };
    Some(Back {
        rows: rows((0..input.height * input.width).map(place))?,
        steps: steps((0..kernel * kernel * outputs).map(step))?,
        width: to.lane(),
        to,
        kind: BackKind::Direct,
    })
}

fn scattered_back(kind: LinearKind, x: Canvas, d: Canvas) -> Option<Back> {
    let (width, runs, run) = match kind {
        LinearKind::Dense => (x.len(), 1, x.len()),
        LinearKind::Conv(conv) => {
            let run = conv.kernel() * x.lane();
            (conv.kernel() * run, conv.kernel(), run)
        }
    };
    debug_assert!(width.is_multiple_of(LANES));
    Some(Back {
        rows: rows(d.places())?,
        steps: steps((0..d.image().channels).map(|o| (o, o * width)))?,
        width,
        to: x,
        kind: BackKind::Scattered { runs, run },
    })
}
