//! Matrix products: the one module of this crate that calls `unsafe` code.
//!
//! [`multiply`] takes two strided [`View`]s and leaves the work to `matrixmultiply`; the layers
//! that are read and tested first, [`crate::dense`] and [`crate::conv`], stand on it.
//!
//! [`multiply_at`] is our own product, made for [`crate::prepared`]. The left matrix is not laid
//! out anywhere: its element at row `m` and step `k` is read at `x[rows[m] + steps[k]]`, which
//! covers a dense layer, the patches of a convolution and their transpose without copying one of
//! them. The right matrix is a row of contiguous values per step. Every element of the result is
//! one chain of fused multiply-adds in the order of the steps, whatever the blocking, the vector
//! width or the number of threads: **the same bits on every processor**, where that of
//! `matrixmultiply` may differ in the last bit.
//!
//! Both check, before the first raw pointer is formed, that no index can leave its slice.
//! [`vectorised`] runs safe code compiled for the widest vectors that the processor has.
//!
//! Why not a safe loop: measured in `benches/step.rs`; a kernel that keeps its block of the
//! result in registers is several times faster than what the compiler makes of three nested loops.
#![expect(
    unsafe_code,
    reason = "vector instructions, and matrixmultiply's interface of raw pointers; checked here"
)]

use std::sync::OnceLock;

/// A read-only matrix laid over a slice by two strides (in elements).
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> View<'a> {
    /// A contiguous row-major matrix.
    pub(crate) fn new(values: &'a [f32], rows: usize, columns: usize) -> Self {
        assert_eq!(
            rows.checked_mul(columns),
            Some(values.len()),
            "a view covers its slice"
        );
        Self {
            values,
            rows,
            columns,
            row_stride: columns,
            column_stride: 1,
        }
    }

    /// The same values with rows and columns exchanged; nothing is copied.
    pub(crate) fn transposed(self) -> Self {
        Self {
            values: self.values,
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
        }
    }
}

/// `c = a b + beta c`, with `c` row-major and contiguous.
///
/// The additions behind one element of `c` happen in an order that depends on the inner
/// dimension alone, so splitting the rows of `a` over several calls changes nothing.
pub(crate) fn multiply(a: View<'_>, b: View<'_>, beta: f32, c: &mut [f32]) {
    assert_eq!(a.columns, b.rows, "inner dimensions agree");
    assert_eq!(
        a.rows.checked_mul(b.columns),
        Some(c.len()),
        "the output has the product's shape"
    );
    // SAFETY: a View covers its slice exactly (checked in `new`, kept by `transposed`), so all
    // indices i * row_stride + j * column_stride with i < rows and j < columns are in bounds;
    // `c` holds a.rows x b.columns elements, is contiguous, and borrowed mutably, so it aliases
    // neither input. Strides fit isize because slices are at most isize::MAX bytes long.
    unsafe {
        matrixmultiply::sgemm(
            a.rows,
            a.columns,
            b.columns,
            1.0,
            a.values.as_ptr(),
            a.row_stride as isize,
            a.column_stride as isize,
            b.values.as_ptr(),
            b.row_stride as isize,
            b.column_stride as isize,
            beta,
            c.as_mut_ptr(),
            b.columns as isize,
            1,
        );
    }
}

/// Values per column block of [`multiply_at`]: widths are multiples of this.
pub(crate) const LANES: usize = 16;

/// Bytes of the right matrix that a block of steps may take: about half of a first-level cache.
const BLOCK_BYTES: usize = 24 << 10;

/// Where the rows of a left matrix begin in its slice.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rows {
    at: Vec<u32>,
    most: usize,
}

impl Rows {
    /// Rows at these places.
    pub(crate) fn new(at: Vec<u32>) -> Self {
        let most = at.iter().copied().max().unwrap_or(0) as usize;
        Self { at, most }
    }

    /// How many.
    pub(crate) fn len(&self) -> usize {
        self.at.len()
    }

    /// Where they begin.
    pub(crate) fn places(&self) -> &[u32] {
        &self.at
    }
}

/// One step of the inner sum: where it stands from a row's begin, and its row of the right matrix.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    pub(crate) x: u32,
    pub(crate) b: u32,
}

/// The steps of the inner sum, in the order of the additions.
#[derive(Clone, Debug, Default)]
pub(crate) struct Steps {
    at: Vec<Step>,
    most_x: usize,
    most_b: usize,
}

impl Steps {
    /// Steps at these places.
    pub(crate) fn new(at: Vec<Step>) -> Self {
        let most = |place: fn(&Step) -> u32| at.iter().map(place).max().unwrap_or(0) as usize;
        let (most_x, most_b) = (most(|s| s.x), most(|s| s.b));
        Self { at, most_x, most_b }
    }

    /// The first `count` steps, or all.
    pub(crate) fn first(&self, count: usize) -> &[Step] {
        &self.at[..count.min(self.at.len())]
    }
}

/// What the result holds before the first addition.
#[derive(Clone, Copy)]
pub(crate) enum Start<'a> {
    /// Zeros.
    Zero,
    /// What is there already.
    Keep,
    /// The same row everywhere.
    Row(&'a [f32]),
}

/// A left matrix: `rows.len()` rows, the element at row `m` and step `k` being
/// `x[rows[m] + steps[k].x]`; of the rows only `range`, of the steps only the first `depth`.
#[derive(Clone, Copy)]
pub(crate) struct Left<'a> {
    pub(crate) x: &'a [f32],
    pub(crate) rows: &'a Rows,
    pub(crate) range: (usize, usize),
    pub(crate) steps: &'a Steps,
    pub(crate) depth: usize,
}

impl<'a> Left<'a> {
    /// All rows and all steps.
    pub(crate) fn all(x: &'a [f32], rows: &'a Rows, steps: &'a Steps) -> Self {
        let (range, depth) = ((0, rows.len()), steps.at.len());
        Self {
            x,
            rows,
            range,
            steps,
            depth,
        }
    }
}

/// `c[m][n] = start + sum over k of x[rows[m] + steps[k].x] b[steps[k].b + n]`, for `width`
/// columns, a multiple of [`LANES`]; `c` is contiguous.
///
/// # Panics
/// If an index could leave its slice, or `c` is not `rows x width`.
pub(crate) fn multiply_at(
    left: Left<'_>,
    b: &[f32],
    width: usize,
    start: Start<'_>,
    c: &mut [f32],
) {
    let rows = &left.rows.at[left.range.0..left.range.1];
    let steps = left.steps.first(left.depth);
    assert!(width.is_multiple_of(LANES), "whole column blocks");
    assert_eq!(rows.len().checked_mul(width), Some(c.len()), "shape of c");
    if let Start::Row(row) = start {
        assert_eq!(row.len(), width, "length of the first row");
    }
    if rows.is_empty() || width == 0 {
        return;
    }
    // Of all rows and steps, so of those used here too.
    assert!(
        steps.is_empty() || left.rows.most + left.steps.most_x < left.x.len(),
        "the left matrix lies inside its slice"
    );
    assert!(
        steps.is_empty() || left.steps.most_b + width <= b.len(),
        "the right matrix lies inside its slice"
    );
    let task = Task {
        x: left.x,
        rows,
        b,
        width,
    };
    match machine() {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the processor has the features, and the places were checked above.
        Machine::Avx512 => unsafe { avx512::product(&task, steps, start, c) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Machine::Avx2 => unsafe { avx2::product(&task, steps, start, c) },
        Machine::Plain => plain::product(&task, steps, start, c),
    }
}

/// What all blocks of a product share.
struct Task<'a> {
    x: &'a [f32],
    rows: &'a [u32],
    b: &'a [f32],
    width: usize,
}

/// The vector instructions at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Machine {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    Plain,
}

/// Asked once.
fn machine() -> Machine {
    static MACHINE: OnceLock<Machine> = OnceLock::new();
    *MACHINE.get_or_init(|| {
        #[cfg(target_arch = "x86_64")]
        {
            let has_fma = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            let has_512 = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl");
            match (has_fma, has_512) {
                (true, true) => return Machine::Avx512,
                (true, false) => return Machine::Avx2,
                _ => {}
            }
        }
        Machine::Plain
    })
}

/// Work to be compiled for the widest vectors; `run` must be `#[inline(always)]`.
pub(crate) trait Vectorise {
    /// The work. Safe code: a wider compilation changes its speed, not its bits.
    fn run(self);
}

/// Runs `work` as compiled for the processor at hand.
pub(crate) fn vectorised<W: Vectorise>(work: W) {
    match machine() {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the processor has the features.
        Machine::Avx512 => unsafe { avx512::run(work) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the processor has the features.
        Machine::Avx2 => unsafe { avx2::run(work) },
        Machine::Plain => work.run(),
    }
}

/// Defines a module for one instruction set: `$lanes` values per vector, and for `NV` vectors of
/// columns blocks of as many rows as leave registers for a row of the right matrix.
#[cfg(target_arch = "x86_64")]
macro_rules! instruction_set {
    (
        $name:ident, $features:literal, $vector:ident, $lanes:literal,
        $load:ident, $store:ident, $set:ident, $fma:ident, $zero:ident,
        [$($nv:literal => $($mr:literal)*),*]
    ) => {
        mod $name {
            use super::{BLOCK_BYTES, Start, Step, Task, Vectorise};
            use std::arch::x86_64::*;

            #[target_feature(enable = $features)]
            pub(super) fn run<W: Vectorise>(work: W) {
                work.run();
            }

            /// # Safety
            /// For every row `m` and step `k`, `rows[m] + k.x` must lie in `x` and
            /// `k.b .. k.b + width` in `b`; `c` must hold `rows.len() * width` values.
            #[target_feature(enable = $features)]
            pub(super) unsafe fn product(
                task: &Task<'_>,
                steps: &[Step],
                start: Start<'_>,
                c: &mut [f32],
            ) {
                let most = const { let all = [$($nv),*]; let (mut i, mut most) = (0, 0);
                    while i < all.len() { if all[i] > most { most = all[i]; } i += 1; } most };
                let mut column = 0;
                while column < task.width {
                    let vectors = ((task.width - column) / $lanes).min(most);
                    let depth = BLOCK_BYTES / (4 * $lanes * vectors);
                    let mut begun = 0;
                    while begun < steps.len().max(1) {
                        let block = &steps[begun..steps.len().min(begun + depth)];
                        let start = if begun == 0 { start } else { Start::Keep };
                        // SAFETY: the caller's, for a block of columns and of steps.
                        unsafe {
                            match vectors {
                                $($nv => {
                                    let mut row = 0;
                                    $(while row + $mr <= task.rows.len() {
                                        block_of::<$mr, $nv>(task, block, start, c, row, column);
                                        row += $mr;
                                    })*
                                })*
                                _ => {}
                            }
                        }
                        begun += depth;
                    }
                    column += vectors * $lanes;
                }
            }

            /// `MR` rows from `row` by `NV` vectors of columns from `column`, kept in registers.
            ///
            /// # Safety
            /// As [`product`], and the block must lie inside the result.
            #[target_feature(enable = $features)]
            unsafe fn block_of<const MR: usize, const NV: usize>(
                task: &Task<'_>,
                steps: &[Step],
                start: Start<'_>,
                c: &mut [f32],
                row: usize,
                column: usize,
            ) {
                // SAFETY: `row + MR <= rows.len()` and `column + NV * lanes <= width`, by the
                // loops above; so all of `c`, `b` and `x` that is touched is inside, by the
                // contract of `product`.
                unsafe {
                    let c = c.as_mut_ptr().add(row * task.width + column);
                    let mut sums: [[$vector; NV]; MR] = [[$zero(); NV]; MR];
                    match start {
                        Start::Zero => {}
                        Start::Keep => {
                            for m in 0..MR {
                                for n in 0..NV {
                                    sums[m][n] = $load(c.add(m * task.width + n * $lanes));
                                }
                            }
                        }
                        Start::Row(first) => {
                            let first = first.as_ptr().add(column);
                            for m in 0..MR {
                                for n in 0..NV {
                                    sums[m][n] = $load(first.add(n * $lanes));
                                }
                            }
                        }
                    }
                    let mut x = [task.x.as_ptr(); MR];
                    for m in 0..MR {
                        x[m] = x[m].add(*task.rows.get_unchecked(row + m) as usize);
                    }
                    let b = task.b.as_ptr().add(column);
                    for step in steps {
                        let b = b.add(step.b as usize);
                        let mut right = [$zero(); NV];
                        for n in 0..NV {
                            right[n] = $load(b.add(n * $lanes));
                        }
                        for m in 0..MR {
                            let left = $set(*x[m].add(step.x as usize));
                            for n in 0..NV {
                                sums[m][n] = $fma(left, right[n], sums[m][n]);
                            }
                        }
                    }
                    for m in 0..MR {
                        for n in 0..NV {
                            $store(c.add(m * task.width + n * $lanes), sums[m][n]);
                        }
                    }
                }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
instruction_set!(
    avx512, "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma", __m512, 16,
    _mm512_loadu_ps, _mm512_storeu_ps, _mm512_set1_ps, _mm512_fmadd_ps, _mm512_setzero_ps,
    [1 => 12 4 1, 2 => 12 4 1, 3 => 8 4 1, 4 => 6 4 2 1]
);

#[cfg(target_arch = "x86_64")]
instruction_set!(
    avx2, "avx2,fma", __m256, 8,
    _mm256_loadu_ps, _mm256_storeu_ps, _mm256_set1_ps, _mm256_fmadd_ps, _mm256_setzero_ps,
    [2 => 6 2 1]
);

/// The same chain of additions without vector instructions; a fused multiply-add in software is
/// slow, but gives the same bits.
mod plain {
    use super::{LANES, Start, Step, Task};

    pub(super) fn product(task: &Task<'_>, steps: &[Step], start: Start<'_>, c: &mut [f32]) {
        for (row, c) in task.rows.iter().zip(c.chunks_exact_mut(task.width)) {
            for (block, c) in c.chunks_exact_mut(LANES).enumerate() {
                let column = block * LANES;
                match start {
                    Start::Zero => c.fill(0.0),
                    Start::Keep => {}
                    Start::Row(first) => c.copy_from_slice(&first[column..column + LANES]),
                }
                for step in steps {
                    let left = task.x[(row + step.x) as usize];
                    let begin = step.b as usize + column;
                    for (c, b) in c.iter_mut().zip(&task.b[begin..begin + LANES]) {
                        *c = left.mul_add(*b, *c);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The slow twin: three loops, in `f64`.
    fn plain(a: &[f32], b: &[f32], m: usize, k: usize, n: usize) -> Vec<f64> {
        let mut c = vec![0.0; m * n];
        for i in 0..m {
            for j in 0..n {
                c[i * n + j] = (0..k)
                    .map(|l| f64::from(a[i * k + l]) * f64::from(b[l * n + j]))
                    .sum();
            }
        }
        c
    }

    fn transpose(a: &[f32], rows: usize, columns: usize) -> Vec<f32> {
        let mut t = vec![0.0; a.len()];
        for i in 0..rows {
            for j in 0..columns {
                t[j * rows + i] = a[i * columns + j];
            }
        }
        t
    }

    proptest! {
        #[test]
        fn agrees_with_three_loops(m in 0_usize..20, k in 0_usize..40, n in 0_usize..20, seed in any::<u32>()) {
            let value = |i: usize| ((i as u32).wrapping_mul(2_654_435_761).wrapping_add(seed) >> 16) as f32 / 32768.0 - 1.0;
            let a: Vec<f32> = (0..m * k).map(value).collect();
            let b: Vec<f32> = (0..k * n).map(|i| value(i + 1000)).collect();
            let want = plain(&a, &b, m, k, n);
            let (at, bt) = (transpose(&a, m, k), transpose(&b, k, n));
            let pairs = [
                (View::new(&a, m, k), View::new(&b, k, n)),
                (View::new(&at, k, m).transposed(), View::new(&bt, n, k).transposed()),
            ];
            for (a, b) in pairs {
                let mut c = vec![1.0; m * n];
                multiply(a, b, 0.5, &mut c);
                for (got, want) in c.iter().zip(&want) {
                    prop_assert!((f64::from(*got) - want - 0.5).abs() < 1e-5, "{got} {want}");
                }
            }
        }
    }

    /// Rows, steps, right matrix and start of a random product, and what it should be.
    fn check_indirect(m: usize, k: usize, blocks: usize, seed: u32, start: u8) {
        let value = |i: usize| {
            let mixed = (i as u32 ^ seed).wrapping_mul(2_654_435_761);
            (mixed ^ mixed >> 15) as f32 / 2_147_483_648.0 - 1.0
        };
        let width = blocks * LANES;
        let x: Vec<f32> = (0..400).map(value).collect();
        let b: Vec<f32> = (0..k * width + 7).map(|i| value(i + 1000)).collect();
        let rows: Vec<u32> = (0..m).map(|i| (i as u32 * 37 + seed) % 200).collect();
        let steps = (0..k).map(|i| Step {
            x: (i as u32 * 91 + seed) % 200,
            b: (i * width) as u32 + seed % 8,
        });
        let (rows, steps) = (Rows::new(rows), Steps::new(steps.collect()));
        let first: Vec<f32> = (0..width).map(|i| value(i + 9000)).collect();
        let before: Vec<f32> = (0..m * width).map(|i| value(i + 5000)).collect();
        let mut want = before.clone();
        for (i, want) in want.iter_mut().enumerate() {
            let (row, column) = (i / width, i % width);
            let mut sum = match start {
                0 => 0.0,
                1 => *want,
                _ => first[column],
            };
            for step in &steps.at {
                let left = x[(rows.at[row] + step.x) as usize];
                sum = left.mul_add(b[step.b as usize + column], sum);
            }
            *want = sum;
        }
        let start = match start {
            0 => Start::Zero,
            1 => Start::Keep,
            _ => Start::Row(&first),
        };
        let left = Left::all(&x, &rows, &steps);
        let mut got = before.clone();
        multiply_at(left, &b, width, start, &mut got);
        assert!(got == want, "{m} {k} {blocks}: the bits differ");
        let task = Task {
            x: &x,
            rows: &rows.at,
            b: &b,
            width,
        };
        let mut got = before.clone();
        plain::product(&task, &steps.at, start, &mut got);
        assert!(
            got == want,
            "{m} {k} {blocks}: the bits of the plain loop differ"
        );
        #[cfg(target_arch = "x86_64")]
        if machine() == Machine::Avx512 {
            let mut got = before;
            // SAFETY: a processor with AVX-512 has AVX2; the places were checked by `multiply_at`.
            unsafe { avx2::product(&task, &steps.at, start, &mut got) };
            assert!(got == want, "{m} {k} {blocks}: the bits of AVX2 differ");
        }
    }

    proptest! {
        /// Bit for bit the chain of fused multiply-adds, on every instruction set at hand.
        #[test]
        fn indirect_products_have_the_bits_of_one_chain(
            m in 0_usize..30, k in 0_usize..40, blocks in 1_usize..7, seed in any::<u32>(), start in 0_u8..3,
        ) {
            check_indirect(m, k, blocks, seed >> 8, start);
        }
    }

    #[test]
    fn blocks_of_steps_continue_the_chain() {
        for (m, k, blocks) in [(7, 1000, 4), (13, 900, 1), (9, 385, 5), (3, 0, 2)] {
            for start in 0..3 {
                check_indirect(m, k, blocks, 5, start);
            }
        }
    }

    #[test]
    #[should_panic(expected = "inside its slice")]
    fn places_outside_are_refused() {
        let (rows, steps) = (Rows::new(vec![0, 9]), Steps::new(vec![Step { x: 1, b: 0 }]));
        let left = Left::all(&[0.0; 10], &rows, &steps);
        multiply_at(left, &[0.0; 16], 16, Start::Zero, &mut [0.0; 32]);
    }
}
