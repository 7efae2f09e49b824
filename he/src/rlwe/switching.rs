//! Key switching: from a ciphertext under one secret to one under another.
//!
//! Sits above gadgets and divisions by special primes. A [`SwitchingKey`] from `s'` to `s` holds,
//! for each digit `d`, a pair `(b_d, a_d)` modulo `Q P` with `b_d + a_d s = P g_d s' + e_d`. For a
//! polynomial `c` with digits `c_d` (see the gadget) the sums `u = sum_d c_d b_d` and
//! `v = sum_d c_d a_d` satisfy `u + v s = P c s' + sum_d c_d e_d`, so `(u, v) / P` encrypts `c s'`
//! under `s`, with the error `sum_d c_d e_d / P` and the rounding of the division.
//!
//! The digits are transformed once: for one key ([`Workspace`] alone), row by row, so that the rows
//! of all digits for one prime stay in the cache; for many keys ([`Hoisted`]), all of them, to be
//! reused. Sums over digits are reduced once.
//!
//! What must be true: the key was made for the same parameters, at a level not below the
//! ciphertext's. The callers check it.
//!
//! Sources: Gentry, Halevi and Smart, ePrint 2012/099, section 3.1; Han and Ki, ePrint 2019/688,
//! section 3; Halevi and Shoup, *Faster homomorphic linear transformations in HElib*, ePrint
//! 2018/244, section 4.1, for hoisting.

use rand_core::CryptoRng;
use zeroize::{Zeroize, Zeroizing};

use super::encryption::draw_errors;
use super::gadget::Gadget;
use super::parameters::MAX_PRIMES;
use super::{Down, Parameters};
use crate::error::ParameterError;
use crate::ring::{Aligned, Eval, Poly};
use crate::sample::{SEED_BYTES, Stream, uniform_row};
use crate::simd::{self, Kernels};

/// Rows modulo the primes of a level and the special primes, back to back, in evaluation form.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Wide {
    words: Aligned,
    /// Words before the first row.
    start: usize,
    degree: usize,
    /// Number of primes of `Q`.
    primes: usize,
}

/// Cache lines by which rows that are read side by side lie apart modulo a page: with degrees that
/// are powers of two they would all fall on the same lines of the cache.
const STAGGER: usize = 5;
/// Words of a cache line, and cache lines of a page.
const LINE: usize = 8;
const PAGE: usize = 64;

/// Words before row list `index` of those read side by side.
const fn stagger(index: usize) -> usize {
    (STAGGER * index % PAGE) * LINE
}

impl Zeroize for Wide {
    fn zeroize(&mut self) {
        self.words.zeroize();
    }
}

impl Wide {
    pub(crate) fn zero(down: &Down, level: usize) -> Self {
        Self::with_rows(
            down.special().degree(),
            level + 1,
            down.special().moduli().len(),
        )
    }

    pub(crate) fn with_rows(degree: usize, primes: usize, special: usize) -> Self {
        Self {
            words: Aligned::zeros((primes + special) * degree),
            start: 0,
            degree,
            primes,
        }
    }

    /// The same rows, placed for being read beside others.
    fn staggered(self, index: usize) -> Self {
        let start = stagger(index);
        let rows = &self.words[self.start..];
        let mut words = Aligned::zeros(start + rows.len());
        words[start..].copy_from_slice(rows);
        Self {
            words,
            start,
            ..self
        }
    }

    /// Bytes of the rows.
    fn memory(&self) -> usize {
        8 * (self.words.len() - self.start)
    }

    /// Row `row` of an accumulator at `level`, at most this one's.
    pub(crate) fn row(&self, level: usize, row: usize) -> &[u64] {
        let index = if row <= level {
            row
        } else {
            row - level - 1 + self.primes
        };
        let from = self.start + index * self.degree;
        &self.words[from..from + self.degree]
    }

    /// All rows in order.
    pub(crate) fn rows(&self) -> impl Iterator<Item = &[u64]> {
        self.words[self.start..].chunks_exact(self.degree)
    }

    pub(crate) fn rows_mut(&mut self) -> impl Iterator<Item = &mut [u64]> {
        self.words[self.start..].chunks_exact_mut(self.degree)
    }
}

/// Both halves of the key of one digit.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct KeyDigit {
    pub(crate) b: Wide,
    pub(crate) a: Wide,
}

impl KeyDigit {
    /// The halves of digit `d`.
    pub(crate) fn new(d: usize, b: Wide, a: Wide) -> Self {
        Self {
            b: b.staggered(3 * d),
            a: a.staggered(3 * d + 1),
        }
    }
}

/// A key that carries ciphertexts from one secret to another.
///
/// In memory both halves of each digit; on the wire the first half and a seed.
#[derive(Clone)]
pub struct SwitchingKey {
    pub(crate) parameters: Parameters,
    pub(crate) level: usize,
    pub(crate) gadget: std::sync::Arc<Gadget>,
    pub(crate) seed: [u8; SEED_BYTES],
    pub(crate) digits: Vec<KeyDigit>,
}

impl std::fmt::Debug for SwitchingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SwitchingKey")
            .field("level", &self.level)
            .field("groups", &self.gadget.groups())
            .finish_non_exhaustive()
    }
}

/// The public half of digit `d`: row `r` is sub-stream `64 d + r` of the seed.
pub(crate) fn expand_digit(
    parameters: &Parameters,
    down: &Down,
    level: usize,
    seed: &[u8; SEED_BYTES],
    d: usize,
) -> Wide {
    let mut mask = Wide::zero(down, level);
    let mut stream = Stream::new("key mask", &parameters.digest(), seed);
    for (r, row) in mask.rows_mut().enumerate() {
        // rows of the special primes keep their numbers at every level
        let index = if r <= level {
            r
        } else {
            r - level + parameters.max_level()
        };
        uniform_row(
            &mut stream,
            (128 * d + index) as u64,
            down.table(level, r).0,
            row,
        );
    }
    mask
}

impl SwitchingKey {
    /// The key at `level` that carries `hidden` (over `Q`) to `under` (over `Q P`).
    pub(crate) fn generate<R: CryptoRng + ?Sized>(
        parameters: &Parameters,
        gadget: &std::sync::Arc<Gadget>,
        level: usize,
        hidden: &Poly<Eval>,
        under: &Wide,
        rng: &mut R,
    ) -> Result<Self, ParameterError> {
        let down = parameters.switching()?;
        let mut seed = [0; SEED_BYTES];
        rng.fill_bytes(&mut seed);
        let digit = |(d, digit): (usize, super::gadget::LevelDigit<'_>)| {
            let a = expand_digit(parameters, down, level, &seed, d);
            let mut b = Wide::zero(down, level);
            let errors = draw_errors(parameters, rng);
            let mut lifted = Zeroizing::new(vec![0; parameters.degree()]);
            for (r, row) in b.rows_mut().enumerate() {
                let (q, table) = down.table(level, r);
                simd::add_signed_assign(q, row, &errors);
                table.forward(row);
                simd::mul_sub_assign(q, row, a.row(level, r), under.row(level, r));
                if digit.contains(r) {
                    lifted.copy_from_slice(hidden.row(r));
                    simd::scale_assign(q, &mut lifted, down.factor(r));
                    simd::add_assign(q, row, &lifted);
                }
            }
            KeyDigit::new(d, b, a)
        };
        Ok(Self {
            parameters: parameters.clone(),
            level,
            gadget: gadget.clone(),
            seed,
            digits: gadget.at(level).enumerate().map(digit).collect(),
        })
    }

    /// The highest level it serves.
    #[must_use]
    pub const fn level(&self) -> usize {
        self.level
    }

    /// Sizes of the groups of primes that are its digits.
    #[must_use]
    pub fn groups(&self) -> Vec<usize> {
        self.gadget.groups()
    }

    /// Bytes of its residues in memory.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.digits
            .iter()
            .map(|d| d.a.memory() + d.b.memory())
            .sum()
    }
}

/// Memory that operations work in, made once per parameter set; they allocate nothing after that.
///
/// Holds no secrets: only ciphertexts and public keys pass through it.
#[derive(Debug)]
pub struct Workspace {
    pub(crate) switch: SwitchMemory,
    /// The parts of a product before relinearisation.
    pub(crate) product: [Aligned; 3],
}

/// The memory of key switching.
#[derive(Debug)]
pub(crate) struct SwitchMemory {
    parameters: Parameters,
    /// Digits in coefficient form, each with a spare row.
    coefficients: Aligned,
    /// One row per digit, [`stagger`]ed by steps of three.
    rows: Aligned,
    /// The sums `u` and `v`.
    pub(crate) sums: [Aligned; 2],
    /// Two rows.
    pub(crate) buffer: [Aligned; 2],
}

/// The digits of one polynomial in evaluation form, to be used with many keys.
#[derive(Clone, Debug)]
pub struct Hoisted {
    level: usize,
    digits: Vec<Wide>,
    groups: Vec<usize>,
}

impl std::fmt::Debug for Wide {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wide")
            .field("rows", &self.rows().count())
            .finish()
    }
}

impl Workspace {
    /// Memory for these parameters.
    #[must_use]
    pub fn new(parameters: &Parameters) -> Self {
        let (n, level) = (parameters.degree(), parameters.max_level());
        let words = parameters.switching().map_or(0, |down| down.words(level));
        let rows = |count: usize| Aligned::zeros(count * n);
        let digits = if words == 0 { 0 } else { level + 1 };
        Self {
            switch: SwitchMemory {
                coefficients: rows(2 * digits),
                rows: Aligned::zeros(digits * (n + stagger(3))),
                sums: [Aligned::zeros(words), Aligned::zeros(words)],
                buffer: [rows(1), rows(1)],
                parameters: parameters.clone(),
            },
            product: [rows(digits), rows(digits), rows(digits)],
        }
    }

    /// The parameters it was made for.
    #[must_use]
    pub const fn parameters(&self) -> &Parameters {
        &self.switch.parameters
    }

    /// Its bytes.
    #[must_use]
    pub fn memory(&self) -> usize {
        let switch = &self.switch;
        let arrays = switch
            .sums
            .iter()
            .chain(&switch.buffer)
            .chain(&self.product);
        8 * (switch.coefficients.len() + switch.rows.len() + arrays.map(|x| x.len()).sum::<usize>())
    }
}

impl SwitchMemory {
    /// The digits of `c` in coefficient form, ready to be carried to other primes.
    fn cut(&mut self, gadget: &Gadget, level: usize, c: &[u64]) {
        let (n, tables) = (self.parameters.degree(), self.parameters.ring().tables());
        for (d, digit) in gadget.at(level).enumerate() {
            let start = (digit.first + d) * n;
            let block = &mut self.coefficients[start..start + digit.extension.width() * n];
            for (k, row) in block.chunks_exact_mut(n).take(digit.count).enumerate() {
                let prime = digit.first + k;
                row.copy_from_slice(&c[prime * n..(prime + 1) * n]);
                tables[prime].inverse(row);
            }
            digit.extension.prepare(block);
        }
    }

    /// Both sums over the digits of `c`, given by its rows at `level`: all rows of an accumulator.
    pub(crate) fn switch(&mut self, down: &Down, key: &SwitchingKey, level: usize, c: &[u64]) {
        self.cut(&key.gadget, level, c);
        let (n, kernels) = (self.parameters.degree(), Kernels::active());
        let max_level = self.parameters.max_level();
        let [u, v] = &mut self.sums;
        for r in down.rows(level) {
            let (q, table) = down.table(level, r);
            let target = if r <= level { r } else { r - level + max_level };
            for ((d, digit), row) in key
                .gadget
                .at(level)
                .enumerate()
                .zip(self.rows.chunks_exact_mut(n + stagger(3)))
            {
                if !digit.contains(r) {
                    let start = (digit.first + d) * n;
                    let block = &self.coefficients[start..start + digit.extension.width() * n];
                    let row = &mut row[..n];
                    digit.extension.row(target, row, block);
                    table.forward_lazy_with(kernels, row);
                }
            }
            let mut terms: [(&[u64], &[u64], &[u64]); MAX_PRIMES] = [(&[], &[], &[]); MAX_PRIMES];
            let mut count = 0;
            for (((digit, row), half), term) in key
                .gadget
                .at(level)
                .zip(self.rows.chunks_exact(n + stagger(3)))
                .zip(&key.digits)
                .zip(&mut terms)
            {
                let digit = if digit.contains(r) {
                    &c[r * n..(r + 1) * n]
                } else {
                    &row[..n]
                };
                *term = (digit, half.b.row(level, r), half.a.row(level, r));
                count += 1;
            }
            let range = r * n..(r + 1) * n;
            kernels.dot_pair(q, &mut u[range.clone()], &mut v[range], &terms[..count]);
        }
    }

    /// All digits of `c` in evaluation form.
    pub(crate) fn hoist(&mut self, down: &Down, gadget: &Gadget, c: &Poly<Eval>) -> Hoisted {
        let zero = || Wide::zero(down, c.level());
        let mut out = Hoisted {
            level: c.level(),
            digits: gadget
                .at(c.level())
                .enumerate()
                .map(|(d, _)| zero().staggered(3 * d + 2))
                .collect(),
            groups: gadget.groups(),
        };
        self.hoist_into(down, gadget, c, &mut out);
        out
    }

    /// As [`Self::hoist`], into memory of the same level and gadget.
    pub(crate) fn hoist_into(
        &mut self,
        down: &Down,
        gadget: &Gadget,
        c: &Poly<Eval>,
        out: &mut Hoisted,
    ) {
        self.cut(gadget, c.level(), c.words());
        let (n, level) = (self.parameters.degree(), c.level());
        let max_level = self.parameters.max_level();
        for ((d, digit), wide) in gadget.at(level).enumerate().zip(&mut out.digits) {
            let start = (digit.first + d) * n;
            let block = &self.coefficients[start..start + digit.extension.width() * n];
            for (r, row) in wide.rows_mut().enumerate() {
                if digit.contains(r) {
                    row.copy_from_slice(c.row(r));
                } else {
                    let target = if r <= level { r } else { r - level + max_level };
                    digit.extension.row(target, row, block);
                    down.table(level, r)
                        .1
                        .forward_lazy_with(Kernels::active(), row);
                }
            }
        }
    }

    /// Both sums over digits that are there already.
    pub(crate) fn switch_hoisted(&mut self, down: &Down, key: &SwitchingKey, hoisted: &Hoisted) {
        let (n, level, kernels) = (self.parameters.degree(), hoisted.level, Kernels::active());
        let [u, v] = &mut self.sums;
        for r in down.rows(level) {
            let mut terms: [(&[u64], &[u64], &[u64]); MAX_PRIMES] = [(&[], &[], &[]); MAX_PRIMES];
            for ((wide, half), term) in hoisted.digits.iter().zip(&key.digits).zip(&mut terms) {
                *term = (
                    wide.row(level, r),
                    half.b.row(level, r),
                    half.a.row(level, r),
                );
            }
            let (range, q) = (r * n..(r + 1) * n, down.table(level, r).0);
            let terms = &terms[..hoisted.digits.len()];
            kernels.dot_pair(q, &mut u[range.clone()], &mut v[range], terms);
        }
    }
}

impl Hoisted {
    /// The level of the ciphertext it was made of.
    #[must_use]
    pub const fn level(&self) -> usize {
        self.level
    }

    pub(crate) fn fits(&self, key: &SwitchingKey) -> bool {
        key.gadget.has_groups(&self.groups) && self.level <= key.level
    }
}
