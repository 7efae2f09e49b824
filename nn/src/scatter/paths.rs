//! The paths of the transform: wavelet, modulus, wavelet, modulus, smoothing.
//!
//! Modulus maps are real, so the spectra of two of them come from one complex transform: one map
//! is the real part, the other the imaginary part, and symmetry takes them apart.

use super::filters::{self, Spectrum};
use super::fourier::Fourier;
use super::lanes::{Cell, Lanes};
use super::smooth::Smooth;
use super::{ScatterSettings, Side};
use pulp::{NullaryFnOnce, Simd, bytemuck};

/// Filter values below this share of the largest are left out.
const NEGLIGIBLE: f64 = 1e-7;

/// Both sides of the images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Geometry {
    pub(super) height: Side,
    pub(super) width: Side,
}

/// Work for one call: at most as many planes as there are lanes.
pub(super) struct Job<'a> {
    /// Whole planes of pixels.
    pub(super) planes: &'a [f32],
    /// As many blocks of features.
    pub(super) features: &'a mut [f32],
    /// Features per plane.
    pub(super) block: usize,
}

/// Everything that depends on shapes and settings alone.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    geometry: Geometry,
    settings: ScatterSettings,
    levels: Vec<Level>,
    /// `filters[n][level]` for wavelet number `n = j L + theta`, levels up to `j`.
    filters: Vec<Vec<Filter>>,
}

/// What belongs to maps subsampled by `2^level`.
#[derive(Clone, Debug)]
struct Level {
    height: usize,
    width: usize,
    columns: Fourier,
    rows: Fourier,
    smooth_height: Smooth,
    smooth_width: Smooth,
}

/// A wavelet for spectra of one level, subsampling to the wavelet's own level.
#[derive(Clone, Debug)]
struct Filter {
    /// Where each row of the result begins in `taps`, and their end.
    rows: Vec<usize>,
    taps: Vec<Tap>,
}

/// `row[to] += weight spectrum[from]`.
#[derive(Clone, Copy, Debug)]
struct Tap {
    from: u32,
    to: u32,
    weight: f32,
}

impl Filter {
    /// Folds a table by `2^shrink` on each side and includes the divisors of folding and of the
    /// inverse transform.
    fn new(table: &Spectrum, shrink: usize) -> Self {
        let (height, width) = (table.height >> shrink, table.width >> shrink);
        let largest = table.values.iter().fold(0.0_f64, |m, v| m.max(v.abs()));
        let divisor = table.values.len() as f64;
        let (mut rows, mut taps) = (vec![0], Vec::new());
        for row in 0..height {
            for y in (row..table.height).step_by(height) {
                for x in 0..table.width {
                    let from = y * table.width + x;
                    let value = table.values[from];
                    if value.abs() > NEGLIGIBLE * largest {
                        taps.push(Tap {
                            from: from as u32,
                            to: (x % width) as u32,
                            weight: (value / divisor) as f32,
                        });
                    }
                }
            }
            rows.push(taps.len());
        }
        Self { rows, taps }
    }
}

/// The buffers of one thread, for as many images as `S` has lanes.
pub(super) struct Buffers<S: Simd> {
    simd: S,
    /// Spectrum of the images.
    whole: Vec<Cell<S>>,
    /// Two real maps, or their joint spectrum.
    pair: Vec<Cell<S>>,
    /// The spectra of one and the other.
    parted: [Vec<Cell<S>>; 2],
    /// A product with a filter, its rows transformed.
    halfway: Vec<Cell<S>>,
    line: Vec<Cell<S>>,
    other: Vec<Cell<S>>,
    /// One smoothed column, and the smoothed map.
    column: Vec<S::f32s>,
    map: Vec<S::f32s>,
}

impl Plan {
    pub(super) fn new(geometry: Geometry, settings: ScatterSettings) -> Self {
        let ScatterSettings { scales, angles } = settings;
        let (height, width) = (geometry.height.padded, geometry.width.padded);
        let levels = (0..scales).map(|level| Level {
            height: height >> level,
            width: width >> level,
            columns: Fourier::new(height >> level),
            rows: Fourier::new(width >> level),
            smooth_height: Smooth::new(geometry.height, level, scales),
            smooth_width: Smooth::new(geometry.width, level, scales),
        });
        let filters = (0..scales * angles).map(|n| {
            let j = n / angles;
            let table = filters::wavelet((height, width), j, n % angles, angles);
            // Level 0 for the image, and every level that a smaller wavelet leaves behind.
            let levels = 0..j.max(1);
            levels
                .map(|level| Filter::new(&table.cut(level), j - level))
                .collect()
        });
        Self {
            geometry,
            settings,
            levels: levels.collect(),
            filters: filters.collect(),
        }
    }

    #[cfg(test)]
    pub(super) const fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// Buffers for [`Self::run`].
    pub(super) fn buffers<S: Simd>(&self, simd: S) -> Buffers<S> {
        let (height, width) = (self.levels[0].height, self.levels[0].width);
        let (area, side) = (height * width, height.max(width));
        let zero = simd.splat_f32s(0.0);
        let cells = |n| vec![[zero; 2]; n];
        Buffers {
            simd,
            whole: cells(area),
            pair: cells(area),
            parted: [cells(area), cells(area)],
            halfway: cells(area),
            line: cells(side),
            other: cells(side),
            column: vec![zero; side],
            map: vec![zero; area],
        }
    }

    /// All paths for one job.
    pub(super) fn run<S: Simd>(&self, buffers: &mut Buffers<S>, job: Job<'_>) {
        let mut output = Output {
            block: job.block,
            features: job.features,
        };
        self.load(buffers, job.planes);
        self.zeroth_order(buffers, &mut output);
        self.levels[0].forward(buffers);
        std::mem::swap(&mut buffers.whole, &mut buffers.pair);
        let angles = self.settings.angles;
        for j in 0..self.settings.scales {
            for first in (0..angles).step_by(2) {
                let count = (angles - first).min(2);
                self.first_order(buffers, j * angles + first, count, &mut output);
            }
        }
    }

    /// Pads the planes by reflection into the real part of `pair`.
    fn load<S: Simd>(&self, buffers: &mut Buffers<S>, planes: &[f32]) {
        let Geometry { height, width } = self.geometry;
        let area = height.length * width.length;
        let cells: &mut [f32] = bytemuck::cast_slice_mut(&mut buffers.pair);
        cells.fill(0.0);
        for (at, cell) in cells.chunks_exact_mut(2 * S::F32_LANES).enumerate() {
            let y = reflected(at / width.padded, height);
            let x = reflected(at % width.padded, width);
            for (lane, plane) in cell.iter_mut().zip(planes.chunks_exact(area)) {
                *lane = plane[y * width.length + x];
            }
        }
    }

    /// Smooths the real part of `pair`.
    fn zeroth_order<S: Simd>(&self, buffers: &mut Buffers<S>, output: &mut Output<'_>) {
        let level = &self.levels[0];
        let Buffers {
            simd,
            pair,
            line,
            column,
            map,
            ..
        } = buffers;
        let map = &mut map[..level.area()];
        map.fill(simd.splat_f32s(0.0));
        for x in 0..level.width {
            gather(line, pair, x, level.width);
            simd.vectorize(Smoothing {
                simd: *simd,
                level,
                x,
                line: &mut line[..level.height],
                column,
                map,
            });
        }
        output.write::<S>(0, map);
    }

    /// The paths that begin with wavelets `n` to `n + count - 1`, of one scale.
    fn first_order<S: Simd>(
        &self,
        buffers: &mut Buffers<S>,
        n: usize,
        count: usize,
        output: &mut Output<'_>,
    ) {
        let ScatterSettings { scales, angles } = self.settings;
        let j = n / angles;
        let level = &self.levels[j];
        let last = j + 1 == scales;
        for i in 0..count {
            level.multiply(&self.filters[n + i][0], buffers, None);
            level.modulus(buffers, (!last).then_some(i));
            output.write::<S>(1 + n + i, &buffers.map[..level.area()]);
        }
        if last {
            return;
        }
        if count == 1 {
            let zero = buffers.simd.splat_f32s(0.0);
            buffers.pair.iter_mut().for_each(|cell| cell[1] = zero);
        }
        level.forward(buffers);
        buffers.simd.vectorize(Parting {
            simd: buffers.simd,
            level,
            pair: &buffers.pair,
            parted: &mut buffers.parted,
        });
        for i in 0..count {
            self.second_order(buffers, n, i, output);
        }
    }

    /// The paths through wavelet `n + i`, whose modulus has spectrum `parted[i]`.
    fn second_order<S: Simd>(
        &self,
        buffers: &mut Buffers<S>,
        n: usize,
        i: usize,
        output: &mut Output<'_>,
    ) {
        let ScatterSettings { scales, angles } = self.settings;
        let j = n / angles;
        // Maps before: one, all of the first order, and those of smaller or earlier wavelets.
        let mut map = 1 + scales * angles;
        map += (0..j)
            .map(|j| angles * (scales - 1 - j) * angles)
            .sum::<usize>();
        map += (n % angles + i) * (scales - 1 - j) * angles;
        for second in (j + 1) * angles..scales * angles {
            let level = &self.levels[second / angles];
            level.multiply(&self.filters[second][j], buffers, Some(i));
            level.modulus(buffers, None);
            output.write::<S>(map, &buffers.map[..level.area()]);
            map += 1;
        }
    }
}

/// The pixel that place `at` of a padded side shows.
fn reflected(at: usize, side: Side) -> usize {
    let frame = (side.padded - side.length) / 2;
    let distance = at.abs_diff(frame);
    if distance >= side.length && at > frame {
        2 * (side.length - 1) - distance
    } else {
        distance
    }
}

impl Level {
    /// Samples of a smoothed map.
    const fn area(&self) -> usize {
        self.smooth_height.outputs * self.smooth_width.outputs
    }

    /// Multiplies a spectrum, of the images or of `parted`, by a filter, folds it to this level and
    /// transforms the rows, all with real and imaginary part exchanged: a forward transform of
    /// exchanged values is the inverse transform, exchanged and without its divisor.
    fn multiply<S: Simd>(&self, filter: &Filter, buffers: &mut Buffers<S>, part: Option<usize>) {
        let simd = buffers.simd;
        let spectrum = part.map_or(&buffers.whole, |part| &buffers.parted[part]);
        let rows = buffers.halfway.chunks_exact_mut(self.width);
        for (row, ends) in rows.zip(filter.rows.windows(2)) {
            let taps = &filter.taps[ends[0]..ends[1]];
            row.fill([simd.splat_f32s(0.0); 2]);
            simd.vectorize(Product {
                simd,
                taps,
                spectrum,
                row,
            });
            self.rows.run(simd, row, &mut buffers.other);
        }
    }

    /// Transforms the columns of `halfway`, takes the modulus and smooths it into `map`; `keep`
    /// says in which part of `pair` to keep the modulus itself.
    fn modulus<S: Simd>(&self, buffers: &mut Buffers<S>, keep: Option<usize>) {
        let Buffers {
            simd,
            pair,
            halfway,
            line,
            other,
            column,
            map,
            ..
        } = buffers;
        let (simd, map) = (*simd, &mut map[..self.area()]);
        map.fill(simd.splat_f32s(0.0));
        for x in 0..self.width {
            let line = &mut line[..self.height];
            gather(line, halfway, x, self.width);
            self.columns.run(simd, line, other);
            simd.vectorize(Moduli { simd, line });
            simd.vectorize(Smoothing {
                simd,
                level: self,
                x,
                line,
                column,
                map,
            });
            if let Some(part) = keep {
                let cells = pair[x..].iter_mut().step_by(self.width);
                cells.zip(line).for_each(|(cell, [re, _])| cell[part] = *re);
            }
        }
    }

    /// The two-dimensional forward transform of `pair`, in place.
    fn forward<S: Simd>(&self, buffers: &mut Buffers<S>) {
        let Buffers {
            simd,
            pair,
            line,
            other,
            ..
        } = buffers;
        for row in pair.chunks_exact_mut(self.width).take(self.height) {
            self.rows.run(*simd, row, other);
        }
        for x in 0..self.width {
            let line = &mut line[..self.height];
            gather(line, pair, x, self.width);
            self.columns.run(*simd, line, other);
            let cells = pair[x..].iter_mut().step_by(self.width);
            cells.zip(line).for_each(|(cell, value)| *cell = *value);
        }
    }
}

/// Copies column `x` of a map of this width.
fn gather<T: Copy>(line: &mut [T], map: &[T], x: usize, width: usize) {
    let cells = map[x..].iter().step_by(width);
    line.iter_mut()
        .zip(cells)
        .for_each(|(to, from)| *to = *from);
}

/// Adds a row of a product with a filter to `row`, real and imaginary part exchanged.
struct Product<'a, S: Simd> {
    simd: S,
    taps: &'a [Tap],
    spectrum: &'a [Cell<S>],
    row: &'a mut [Cell<S>],
}

impl<S: Simd> NullaryFnOnce for Product<'_, S> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let simd = self.simd;
        for tap in self.taps {
            let [re, im] = self.spectrum[tap.from as usize];
            let sum = &mut self.row[tap.to as usize];
            sum[0] = simd.add_scaled(sum[0], tap.weight, im);
            sum[1] = simd.add_scaled(sum[1], tap.weight, re);
        }
    }
}

/// Puts the moduli of a line into its real parts.
struct Moduli<'a, S: Simd> {
    simd: S,
    line: &'a mut [Cell<S>],
}

impl<S: Simd> NullaryFnOnce for Moduli<'_, S> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        for cell in self.line {
            cell[0] = self.simd.modulus(*cell);
        }
    }
}

/// Smooths the real part of column `x` and adds it to the smoothed map.
struct Smoothing<'a, S: Simd> {
    simd: S,
    level: &'a Level,
    x: usize,
    line: &'a mut [Cell<S>],
    column: &'a mut [S::f32s],
    map: &'a mut [S::f32s],
}

impl<S: Simd> NullaryFnOnce for Smoothing<'_, S> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let simd = self.simd;
        let (down, across) = (&self.level.smooth_height, &self.level.smooth_width);
        let column = &mut self.column[..down.outputs];
        for (o, out) in column.iter_mut().enumerate() {
            let mut sum = simd.splat_f32s(0.0);
            for (weight, [value, _]) in down.row(o).iter().zip(self.line.iter()) {
                sum = simd.add_scaled(sum, *weight, *value);
            }
            *out = sum;
        }
        let weights = across.column(self.x);
        for (sums, value) in self.map.chunks_exact_mut(across.outputs).zip(column) {
            for (sum, weight) in sums.iter_mut().zip(weights) {
                *sum = simd.add_scaled(*sum, *weight, *value);
            }
        }
    }
}

/// Takes apart the joint spectrum of two real maps: `(Z(k) + conj Z(-k)) / 2` and
/// `(Z(k) - conj Z(-k)) / 2i`.
struct Parting<'a, S: Simd> {
    simd: S,
    level: &'a Level,
    pair: &'a [Cell<S>],
    parted: &'a mut [Vec<Cell<S>>; 2],
}

impl<S: Simd> NullaryFnOnce for Parting<'_, S> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let simd = self.simd;
        let Level { height, width, .. } = *self.level;
        let [first, second] = self.parted;
        for y in 0..height {
            let here = &self.pair[y * width..(y + 1) * width];
            let opposite = (height - y) % height * width;
            let there = &self.pair[opposite..opposite + width];
            let first = &mut first[y * width..(y + 1) * width];
            let second = &mut second[y * width..(y + 1) * width];
            for x in 0..width {
                let ([a, b], [c, d]) = (here[x], there[if x == 0 { 0 } else { width - x }]);
                let half = |v| simd.mul_f32s(simd.splat_f32s(0.5), v);
                first[x] = [half(simd.add_f32s(a, c)), half(simd.sub_f32s(b, d))];
                second[x] = [half(simd.add_f32s(b, d)), half(simd.sub_f32s(c, a))];
            }
        }
    }
}

/// Where features go.
struct Output<'a> {
    block: usize,
    features: &'a mut [f32],
}

impl Output<'_> {
    /// Writes map number `index` of every plane.
    fn write<S: Simd>(&mut self, index: usize, map: &[S::f32s]) {
        let area = map.len();
        let values: &[f32] = bytemuck::cast_slice(map);
        for (lane, features) in self.features.chunks_exact_mut(self.block).enumerate() {
            let features = &mut features[index * area..(index + 1) * area];
            for (feature, value) in features.iter_mut().zip(values.chunks_exact(S::F32_LANES)) {
                *feature = value[lane];
            }
        }
    }
}
