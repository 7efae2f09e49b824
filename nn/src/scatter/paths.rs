//! The paths of the transform: wavelet, modulus, wavelet, modulus, smoothing.
//!
//! Modulus maps are real, so the spectra of two of them come from one complex transform: one map
//! is the real part, the other the imaginary part, and symmetry takes them apart.

use super::filters::{self, Spectrum};
use super::fourier::Fourier;
use super::lanes::{Cell, Lanes};
use super::smooth::Smooth;
use super::{ScatterSettings, Side};

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

/// The buffers of one thread.
pub(super) enum Workspace {
    Sixteen(Buffers<16>),
    Eight(Buffers<8>),
    Four(Buffers<4>),
}

/// Buffers for `N` images.
pub(super) struct Buffers<const N: usize> {
    /// Spectrum of the images.
    whole: Vec<Cell<N>>,
    /// Two real maps, or their joint spectrum.
    pair: Vec<Cell<N>>,
    /// The spectra of one and the other.
    parted: [Vec<Cell<N>>; 2],
    /// A product with a filter, its rows transformed.
    halfway: Vec<Cell<N>>,
    line: Vec<Cell<N>>,
    other: Vec<Cell<N>>,
    /// One smoothed column, and the smoothed map.
    column: Vec<Lanes<N>>,
    map: Vec<Lanes<N>>,
}

impl<const N: usize> Buffers<N> {
    fn new(plan: &Plan) -> Self {
        let (height, width) = (plan.levels[0].height, plan.levels[0].width);
        let (area, side) = (height * width, height.max(width));
        let cells = |n| vec![Cell::ZERO; n];
        Self {
            whole: cells(area),
            pair: cells(area),
            parted: [cells(area), cells(area)],
            halfway: cells(area),
            line: cells(side),
            other: cells(side),
            column: vec![Lanes::ZERO; side],
            map: vec![Lanes::ZERO; area],
        }
    }
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

    pub(super) fn workspace(&self, lanes: usize) -> Workspace {
        match lanes {
            16 => Workspace::Sixteen(Buffers::new(self)),
            8 => Workspace::Eight(Buffers::new(self)),
            _ => Workspace::Four(Buffers::new(self)),
        }
    }

    /// Transforms the planes of a job.
    pub(super) fn run(&self, workspace: &mut Workspace, job: Job<'_>) {
        match workspace {
            Workspace::Sixteen(buffers) => dispatch(self, buffers, job),
            Workspace::Eight(buffers) => dispatch(self, buffers, job),
            Workspace::Four(buffers) => self.paths(buffers, job),
        }
    }

    /// All paths for one job.
    #[inline(always)]
    fn paths<const N: usize>(&self, buffers: &mut Buffers<N>, job: Job<'_>) {
        let mut output = Output {
            block: job.block,
            features: job.features,
        };
        self.load(buffers, job.planes);
        self.smooth_pair(buffers, &mut output);
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
    #[inline(always)]
    fn load<const N: usize>(&self, buffers: &mut Buffers<N>, planes: &[f32]) {
        let Geometry { height, width } = self.geometry;
        let area = height.length * width.length;
        for y in 0..height.padded {
            let row = reflected(y, height) * width.length;
            for x in 0..width.padded {
                let from = row + reflected(x, width);
                let cell = &mut buffers.pair[y * width.padded + x];
                *cell = Cell::ZERO;
                for (lane, plane) in cell.re.0.iter_mut().zip(planes.chunks_exact(area)) {
                    *lane = plane[from];
                }
            }
        }
    }

    /// Zeroth order: smooths the real part of `pair`.
    #[inline(always)]
    fn smooth_pair<const N: usize>(&self, buffers: &mut Buffers<N>, output: &mut Output<'_>) {
        let level = &self.levels[0];
        let Buffers {
            pair, column, map, ..
        } = buffers;
        let mut smoother = Smoother::new(level, column, map);
        for x in 0..level.width {
            let values = (0..level.height).map(|y| pair[y * level.width + x].re);
            smoother.add(x, values);
        }
        output.write(0, smoother.map);
    }

    /// The paths that begin with wavelets `n` to `n + count - 1`, of one scale.
    #[inline(always)]
    fn first_order<const N: usize>(
        &self,
        buffers: &mut Buffers<N>,
        n: usize,
        count: usize,
        output: &mut Output<'_>,
    ) {
        let ScatterSettings { scales, angles } = self.settings;
        let j = n / angles;
        let level = &self.levels[j];
        let last = j + 1 == scales;
        for i in 0..count {
            level.multiply(
                &self.filters[n + i][0],
                &buffers.whole,
                &mut buffers.halfway,
                &mut buffers.line,
                &mut buffers.other,
            );
            let keep = (!last).then_some(i);
            level.modulus(buffers, keep);
            output.write(1 + n + i, &buffers.map[..level.area()]);
        }
        if last {
            return;
        }
        if count == 1 {
            buffers
                .pair
                .iter_mut()
                .for_each(|cell| cell.im = Lanes::ZERO);
        }
        level.forward(buffers);
        level.part(buffers);
        for i in 0..count {
            self.second_order(buffers, n, i, output);
        }
    }

    /// The paths through wavelet `n + i`, whose modulus has spectrum `parted[i]`.
    #[inline(always)]
    fn second_order<const N: usize>(
        &self,
        buffers: &mut Buffers<N>,
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
            let filter = &self.filters[second][j];
            level.multiply(
                filter,
                &buffers.parted[i],
                &mut buffers.halfway,
                &mut buffers.line,
                &mut buffers.other,
            );
            level.modulus(buffers, None);
            output.write(map, &buffers.map[..level.area()]);
            map += 1;
        }
    }
}

/// Runs the paths compiled for the vector extension that has this many lanes.
fn dispatch<const N: usize>(plan: &Plan, buffers: &mut Buffers<N>, job: Job<'_>) {
    pulp::Arch::new().dispatch(|| plan.paths(buffers, job));
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

    /// Multiplies a spectrum by a filter, folds it to this level and transforms the rows, all
    /// with real and imaginary part exchanged, which makes the transform an inverse one.
    #[inline(always)]
    fn multiply<const N: usize>(
        &self,
        filter: &Filter,
        spectrum: &[Cell<N>],
        halfway: &mut [Cell<N>],
        line: &mut [Cell<N>],
        other: &mut [Cell<N>],
    ) {
        for (y, row) in halfway
            .chunks_exact_mut(self.width)
            .take(self.height)
            .enumerate()
        {
            line[..self.width].fill(Cell::ZERO);
            for tap in &filter.taps[filter.rows[y]..filter.rows[y + 1]] {
                let value = spectrum[tap.from as usize].exchanged().scale(tap.weight);
                let sum = &mut line[tap.to as usize];
                *sum = *sum + value;
            }
            let swapped = self.rows.run(line, other);
            let result = if swapped { &*other } else { &*line };
            row.copy_from_slice(&result[..self.width]);
        }
    }

    /// Transforms the columns of `halfway`, takes the modulus and smooths it into `map`; `keep`
    /// says in which part of `pair` to keep the modulus itself.
    #[inline(always)]
    fn modulus<const N: usize>(&self, buffers: &mut Buffers<N>, keep: Option<usize>) {
        let Buffers {
            pair,
            halfway,
            line,
            other,
            column,
            map,
            ..
        } = buffers;
        let mut smoother = Smoother::new(self, column, map);
        for x in 0..self.width {
            for y in 0..self.height {
                line[y] = halfway[y * self.width + x];
            }
            let swapped = self.columns.run(line, other);
            let result = if swapped { &mut *other } else { &mut *line };
            for (y, cell) in result[..self.height].iter_mut().enumerate() {
                cell.re = cell.modulus();
                match keep {
                    Some(0) => pair[y * self.width + x].re = cell.re,
                    Some(_) => pair[y * self.width + x].im = cell.re,
                    None => {}
                }
            }
            smoother.add(x, result[..self.height].iter().map(|cell| cell.re));
        }
    }

    /// The two-dimensional forward transform of `pair`, in place.
    #[inline(always)]
    fn forward<const N: usize>(&self, buffers: &mut Buffers<N>) {
        let Buffers {
            pair, line, other, ..
        } = buffers;
        for row in pair.chunks_exact_mut(self.width).take(self.height) {
            if self.rows.run(row, line) {
                row.copy_from_slice(&line[..self.width]);
            }
        }
        for x in 0..self.width {
            for y in 0..self.height {
                line[y] = pair[y * self.width + x];
            }
            let swapped = self.columns.run(line, other);
            let result = if swapped { &*other } else { &*line };
            for y in 0..self.height {
                pair[y * self.width + x] = result[y];
            }
        }
    }

    /// Takes apart the joint spectrum of two real maps: `(Z(k) + conj Z(-k)) / 2` and
    /// `(Z(k) - conj Z(-k)) / 2i`.
    #[inline(always)]
    fn part<const N: usize>(&self, buffers: &mut Buffers<N>) {
        let Buffers { pair, parted, .. } = buffers;
        let [first, second] = parted;
        for y in 0..self.height {
            let opposite = (self.height - y) % self.height * self.width;
            for x in 0..self.width {
                let here = pair[y * self.width + x];
                let there = pair[opposite + (self.width - x) % self.width];
                let there = Cell {
                    re: there.re,
                    im: Lanes::ZERO - there.im,
                };
                first[y * self.width + x] = (here + there).scale(0.5);
                second[y * self.width + x] = (here - there).times_minus_i().scale(0.5);
            }
        }
    }
}

/// Smooths a map that comes column by column.
struct Smoother<'a, const N: usize> {
    level: &'a Level,
    column: &'a mut [Lanes<N>],
    map: &'a mut [Lanes<N>],
}

impl<'a, const N: usize> Smoother<'a, N> {
    #[inline(always)]
    fn new(level: &'a Level, column: &'a mut [Lanes<N>], map: &'a mut [Lanes<N>]) -> Self {
        let map = &mut map[..level.area()];
        map.fill(Lanes::ZERO);
        Self { level, column, map }
    }

    /// Adds column `x`.
    #[inline(always)]
    fn add(&mut self, x: usize, values: impl Iterator<Item = Lanes<N>>) {
        let (down, across) = (&self.level.smooth_height, &self.level.smooth_width);
        let column = &mut self.column[..down.outputs];
        column.fill(Lanes::ZERO);
        for (y, value) in values.enumerate() {
            for (sum, weight) in column.iter_mut().zip(down.column(y)) {
                *sum = *sum + value.scale(*weight);
            }
        }
        for (row, value) in self.map.chunks_exact_mut(across.outputs).zip(column) {
            for (sum, weight) in row.iter_mut().zip(across.column(x)) {
                *sum = *sum + value.scale(*weight);
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
    #[inline(always)]
    fn write<const N: usize>(&mut self, index: usize, map: &[Lanes<N>]) {
        let area = map.len();
        for (lane, features) in self.features.chunks_exact_mut(self.block).enumerate() {
            let features = &mut features[index * area..(index + 1) * area];
            for (feature, value) in features.iter_mut().zip(map) {
                *feature = value.0[lane];
            }
        }
    }
}
