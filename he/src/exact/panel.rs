//! Ciphertexts and weights cut across, for many sums of products that share operands.
//!
//! A layer multiplies every operand of one kind with many of another: sums of entries `(i, k)` of
//! a matrix product whose entries are polynomials. Taken one sum at a time, each reads all its
//! operands from memory, and memory is far slower than the products. A [`Panel`] holds the
//! ciphertexts of a matrix cut into blocks of 16 evaluations, one block of all of them after the
//! other; a [`WeightPanel`] holds public factors so. [`Products`] computes all sums block by block,
//! where the operands of one block stay in the cache, into [`Sums`]; its parts are independent, so
//! that a caller may compute them on several cores.
//!
//! - [`Products::weighted`]: `sum_k W[i, k] X[k, t]` for all `i` and some `t`;
//! - [`Products::scaled`]: `sum_k w[i, k] X[k]` for some `i`, by integers ([`Scalars`]);
//! - [`Products::of`]: `sum_t D[i, t] X[k, t]`, of degree two, for all `i` and `k`.
//!
//! The results are those of [`Ciphertext::add_dot_plain`] and [`Ciphertext::add_dot`], residue by
//! residue; the tests compare them.
//!
//! ```
//! use rand::SeedableRng;
//! use sphinx_he::exact::{Encoding, IntegerPoly, Panel, Plaintext, Products, SeededCiphertext};
//! use sphinx_he::exact::WeightPanel;
//! use sphinx_he::rlwe::{Parameters, ParametersLiteral, Security, SecretKey};
//!
//! let parameters = Parameters::new(&ParametersLiteral {
//!     log_n: 11,
//!     log_q: vec![50],
//!     log_p: vec![],
//!     error_std_dev: 3.2,
//!     security: Security::Classical128,
//! })?;
//! let mut rng = rand_chacha::ChaCha20Rng::seed_from_u64(1);
//! let secret = SecretKey::generate(&parameters, &mut rng);
//! let encoding = Encoding::scaled(1 << 20);
//! let mut panel = Panel::new(&parameters, 0, encoding, 2, 1)?;
//! let mut weights = WeightPanel::new(&parameters, 0, 1, 1, 2)?;
//! for (row, value) in [5, 6].into_iter().enumerate() {
//!     let x = Plaintext::encode(&parameters, 0, &[value], encoding)?;
//!     let x = SeededCiphertext::encrypt(&x, &secret, &mut rng)?.expand();
//!     let w = IntegerPoly::new(&parameters, 0, &[10 * value], 1)?;
//!     panel.parts_mut().for_each(|mut part| part.put(row, 0, &x));
//!     weights.parts_mut().for_each(|mut part| part.put(0, row, &w));
//! }
//! let products = Products::weighted(&weights, &panel, 0..1)?;
//! let mut sums = products.room(None);
//! sums.parts_mut().for_each(|mut part| products.fill(&mut part));
//! let result = sums.ciphertext(0).select(&[0])?.decrypt(&secret)?;
//! assert_eq!(result.keep_local(), [10 * (25 + 36)]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod scalars;
mod sheet;

use std::ops::Range;

pub use scalars::{Features, Scalars};

use super::{Ciphertext, Encoding, IntegerPoly};
use crate::error::Error;
use crate::ring::Aligned;
use crate::rlwe::Parameters;
use crate::simd::{BLOCK, Kernels};
use sheet::{Part, Sheet};

/// Blocks whose sums are computed by one part: their words of one result are contiguous.
const BLOCKS_AT_ONCE: usize = 16;

/// A matrix of ciphertexts of degree one, of one level and encoding.
#[derive(Debug)]
pub struct Panel {
    parameters: Parameters,
    level: usize,
    encoding: Encoding,
    sheet: Sheet,
}

/// Some blocks of every ciphertext of a [`Panel`], to be filled independently of the others.
#[derive(Debug)]
pub struct PanelPart<'a>(Part<'a>);

impl PanelPart<'_> {
    /// Copies these blocks of a ciphertext that [`Panel::check`] accepts.
    ///
    /// # Panics
    /// If there is no such place, or the ciphertext has fewer primes or another degree.
    pub fn put(&mut self, row: usize, column: usize, ciphertext: &Ciphertext) {
        self.0.put(row, column, [&ciphertext.c0, &ciphertext.c1]);
    }
}

fn check_level(op: &'static str, parameters: &Parameters, got: usize) -> Result<(), Error> {
    let max = parameters.max_level();
    if got > max {
        return Err(Error::NoSuchLevel { op, got, max });
    }
    Ok(())
}

impl Panel {
    /// Zeros, which hide nothing, until they are filled.
    ///
    /// # Errors
    /// [`Error::NoSuchLevel`].
    pub fn new(
        parameters: &Parameters,
        level: usize,
        encoding: Encoding,
        rows: usize,
        columns: usize,
    ) -> Result<Self, Error> {
        check_level("panel of ciphertexts", parameters, level)?;
        Ok(Self {
            parameters: parameters.clone(),
            level,
            encoding,
            sheet: Sheet::new(parameters, level, (rows, columns), 2),
        })
    }

    /// A panel of another size and encoding in the memory of this one, where that is large enough.
    /// What was in it may still be, until every place is filled.
    ///
    /// # Errors
    /// [`Error::NoSuchLevel`].
    pub fn resized(
        self,
        level: usize,
        encoding: Encoding,
        rows: usize,
        columns: usize,
    ) -> Result<Self, Error> {
        check_level("panel of ciphertexts", &self.parameters, level)?;
        let Self {
            parameters, sheet, ..
        } = self;
        match sheet.resized(level, (rows, columns)) {
            Some(sheet) => Ok(Self {
                parameters,
                level,
                encoding,
                sheet,
            }),
            None => Self::new(&parameters, level, encoding, rows, columns),
        }
    }

    /// Number of rows.
    #[must_use]
    pub const fn rows(&self) -> usize {
        self.sheet.rows
    }

    /// Number of columns.
    #[must_use]
    pub const fn columns(&self) -> usize {
        self.sheet.columns
    }

    /// Whether a ciphertext may stand here: degree one, this level and encoding.
    ///
    /// # Errors
    /// [`Error::ForeignParameters`], [`Error::LevelMismatch`], [`Error::EncodingMismatch`],
    /// [`Error::DegreeMismatch`].
    pub fn check(&self, ciphertext: &Ciphertext) -> Result<(), Error> {
        let op = "panel of ciphertexts";
        if ciphertext.parameters != self.parameters {
            return Err(Error::ForeignParameters { op });
        }
        let (left, right) = (self.level, ciphertext.level());
        if left != right {
            return Err(Error::LevelMismatch { op, left, right });
        }
        let (left, right) = (self.encoding, ciphertext.encoding);
        if left != right {
            return Err(Error::EncodingMismatch { op, left, right });
        }
        let (left, right) = (1, ciphertext.degree());
        if left != right {
            return Err(Error::DegreeMismatch { op, left, right });
        }
        Ok(())
    }

    /// All blocks, some at a time, to be filled one beside the other.
    pub fn parts_mut(&mut self) -> impl Iterator<Item = PanelPart<'_>> {
        self.sheet.parts_mut().map(PanelPart)
    }
}

/// A matrix of public factors, of one level and factor.
#[derive(Debug)]
pub struct WeightPanel {
    parameters: Parameters,
    level: usize,
    factor: u64,
    sheet: Sheet,
}

/// Some blocks of every factor of a [`WeightPanel`], to be filled independently of the others.
#[derive(Debug)]
pub struct WeightPart<'a>(Part<'a>);

impl WeightPart<'_> {
    /// Copies these blocks of a factor that [`WeightPanel::check`] accepts.
    ///
    /// # Panics
    /// If there is no such place, or the factor has fewer primes.
    pub fn put(&mut self, row: usize, column: usize, w: &IntegerPoly) {
        self.0.put(row, column, [&w.poly]);
    }
}

impl WeightPanel {
    /// Zeros until they are filled with polynomials that carry `factor`.
    ///
    /// # Errors
    /// [`Error::NoSuchLevel`], [`Error::InvalidEncoding`] for factor 0.
    pub fn new(
        parameters: &Parameters,
        level: usize,
        factor: u64,
        rows: usize,
        columns: usize,
    ) -> Result<Self, Error> {
        let op = "panel of weights";
        check_level(op, parameters, level)?;
        Encoding::scaled(factor.into()).check(op)?;
        Ok(Self {
            parameters: parameters.clone(),
            level,
            factor,
            sheet: Sheet::new(parameters, level, (rows, columns), 1),
        })
    }

    /// Number of rows: sums of one column of ciphertexts.
    #[must_use]
    pub const fn rows(&self) -> usize {
        self.sheet.rows
    }

    /// Whether a polynomial may stand here.
    ///
    /// # Errors
    /// [`Error::ForeignParameters`], [`Error::LevelMismatch`] for fewer primes,
    /// [`Error::EncodingMismatch`] for another factor.
    pub fn check(&self, w: &IntegerPoly) -> Result<(), Error> {
        let op = "panel of weights";
        if w.parameters != self.parameters {
            return Err(Error::ForeignParameters { op });
        }
        let (left, right) = (self.level, w.level());
        if right < left {
            return Err(Error::LevelMismatch { op, left, right });
        }
        if w.factor != self.factor {
            return Err(Error::EncodingMismatch {
                op,
                left: Encoding::scaled(self.factor.into()),
                right: Encoding::scaled(w.factor.into()),
            });
        }
        Ok(())
    }

    /// All blocks, some at a time, to be filled one beside the other.
    pub fn parts_mut(&mut self) -> impl Iterator<Item = WeightPart<'_>> {
        self.sheet.parts_mut().map(WeightPart)
    }
}

/// Sums of products to be computed.
#[derive(Debug)]
pub struct Products<'a> {
    left: Left<'a>,
    right: &'a Panel,
    encoding: Encoding,
}

#[derive(Debug)]
enum Left<'a> {
    Weights(&'a WeightPanel, Range<usize>),
    Scalars(&'a Scalars, Range<usize>),
    Ciphertexts(&'a Panel),
}

impl<'a> Products<'a> {
    /// `sum_k W[i, k] X[k, t]` for every column `t` of `columns`, and within it every row `i`.
    ///
    /// # Errors
    /// [`Error::ForeignParameters`], [`Error::LevelMismatch`], the errors of an encoding that
    /// takes no factor or grows too large; [`Error::TooManyValues`] where rows and columns do not
    /// meet or columns do not exist.
    pub fn weighted(
        weights: &'a WeightPanel,
        x: &'a Panel,
        columns: Range<usize>,
    ) -> Result<Self, Error> {
        let op = "weighted sums";
        let (left, right) = (&weights.parameters, &x.parameters);
        check_pair(op, (left, weights.level), (right, x.level))?;
        check_count(op, weights.sheet.columns, x.sheet.rows)?;
        if columns.end > x.sheet.columns || columns.start > columns.end {
            let (got, limit) = (columns.end.max(columns.start), x.sheet.columns);
            return Err(Error::TooManyValues { op, got, limit });
        }
        Ok(Self {
            encoding: x.encoding.times_factor(op, weights.factor)?,
            left: Left::Weights(weights, columns),
            right: x,
        })
    }

    /// `sum_t D[i, t] X[k, t]` for every row `i` of `d`, and within it every row `k` of `x`; of
    /// degree two.
    ///
    /// # Errors
    /// As [`Self::weighted`], and the errors of encodings that do not multiply.
    pub fn of(d: &'a Panel, x: &'a Panel) -> Result<Self, Error> {
        let op = "sums of products";
        check_pair(op, (&d.parameters, d.level), (&x.parameters, x.level))?;
        check_count(op, d.sheet.columns, x.sheet.columns)?;
        Ok(Self {
            encoding: d.encoding.times(op, x.encoding)?,
            left: Left::Ciphertexts(d),
            right: x,
        })
    }

    /// Number of sums.
    #[must_use]
    pub fn count(&self) -> usize {
        match &self.left {
            Left::Weights(weights, columns) => weights.sheet.rows * columns.len(),
            Left::Scalars(_, rows) => rows.len(),
            Left::Ciphertexts(d) => d.sheet.rows * self.right.sheet.rows,
        }
    }

    const fn degree(&self) -> usize {
        match self.left {
            Left::Weights(..) | Left::Scalars(..) => 1,
            Left::Ciphertexts(_) => 2,
        }
    }

    /// Room for the sums, in the memory of earlier ones where it is large enough. It holds nothing
    /// of use until every part is [filled](Self::fill).
    #[must_use]
    pub fn room(&self, earlier: Option<Sums>) -> Sums {
        let (parameters, level) = (&self.right.parameters, self.right.level);
        let polys = self.degree() + 1;
        let words = (level + 1) * parameters.degree() * polys * self.count();
        let blocks = self.right.sheet.blocks();
        let earlier = earlier.map(|sums| sums.words).filter(|w| w.len() >= words);
        Sums {
            parameters: parameters.clone(),
            level,
            encoding: self.encoding,
            count: self.count(),
            polys,
            part: self.right.sheet.block * BLOCKS_AT_ONCE.min(blocks),
            words: earlier.unwrap_or_else(|| Aligned::zeros(words)),
        }
    }

    /// Computes one part of [`Self::room`]. Does not allocate where there is vector code.
    pub fn fill(&self, part: &mut SumsPart<'_>) {
        let block = self.right.sheet.block;
        for at in 0..part.size / block {
            let from = part.first / block + at;
            match &self.left {
                Left::Weights(weights, columns) => {
                    let pair = (&weights.sheet, &self.right.sheet);
                    part.weigh(pair, columns, from, at * block);
                }
                Left::Scalars(scalars, rows) => {
                    let pair = (*scalars, &self.right.sheet);
                    part.scale(pair, rows, from, at * block);
                }
                Left::Ciphertexts(d) => {
                    part.multiply((&d.sheet, &self.right.sheet), from, at * block);
                }
            }
        }
    }
}

fn check_pair(
    op: &'static str,
    left: (&Parameters, usize),
    right: (&Parameters, usize),
) -> Result<(), Error> {
    if left.0 != right.0 {
        return Err(Error::ForeignParameters { op });
    }
    let (left, right) = (left.1, right.1);
    if left != right {
        return Err(Error::LevelMismatch { op, left, right });
    }
    Ok(())
}

fn check_count(op: &'static str, got: usize, limit: usize) -> Result<(), Error> {
    if got == limit {
        Ok(())
    } else {
        Err(Error::TooManyValues { op, got, limit })
    }
}

/// Computed sums, cut across.
#[derive(Debug)]
pub struct Sums {
    parameters: Parameters,
    level: usize,
    encoding: Encoding,
    count: usize,
    /// Polynomials of a sum.
    polys: usize,
    /// Evaluations of a part.
    part: usize,
    /// Prime by prime, part by part, sum by sum, polynomial by polynomial; perhaps more than that.
    words: Aligned,
}

/// Some evaluations of all sums, to be computed independently of the others.
#[derive(Debug)]
pub struct SumsPart<'a> {
    parameters: &'a Parameters,
    prime: usize,
    first: usize,
    size: usize,
    words: &'a mut [u64],
}

impl Sums {
    /// Number of sums.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// All parts, for [`Products::fill`].
    pub fn parts_mut(&mut self) -> impl Iterator<Item = SumsPart<'_>> {
        let (parts, size) = (self.parameters.degree() / self.part, self.part);
        let words = (self.count * self.polys * size).max(1);
        let parameters = &self.parameters;
        let chunks = self.words.chunks_exact_mut(words).enumerate();
        let chunks = chunks.take((self.level + 1) * parts);
        chunks.map(move |(at, words)| SumsPart {
            parameters,
            prime: at / parts,
            first: at % parts * size,
            size,
            words,
        })
    }

    /// One sum.
    ///
    /// # Panics
    /// If there is no such sum.
    #[must_use]
    pub fn ciphertext(&self, index: usize) -> Ciphertext {
        assert!(index < self.count, "sum {index} of {}", self.count);
        let degree = self.polys - 1;
        let mut out = Ciphertext::zero(&self.parameters, self.level, degree, self.encoding);
        let (size, parts) = (self.part, self.parameters.degree() / self.part);
        let polys = [Some(&mut out.c0), Some(&mut out.c1), out.c2.as_mut()];
        for (poly, out) in polys.into_iter().flatten().enumerate() {
            for prime in 0..=self.level {
                for (part, out) in out.row_mut(prime).chunks_exact_mut(size).enumerate() {
                    let place = (prime * parts + part) * self.count + index;
                    let start = (place * self.polys + poly) * size;
                    out.copy_from_slice(&self.words[start..start + size]);
                }
            }
        }
        out
    }
}

impl SumsPart<'_> {
    /// Writes one block of every polynomial of the sum `index`.
    fn store(&mut self, index: usize, polys: usize, offset: usize, sums: &[u64], block: usize) {
        let start = index * polys * self.size;
        let out = self.words[start..start + polys * self.size].chunks_exact_mut(self.size);
        for (out, sum) in out.zip(sums.chunks_exact(block)) {
            out[offset..offset + block].copy_from_slice(sum);
        }
    }

    fn weigh(
        &mut self,
        (weights, x): (&Sheet, &Sheet),
        columns: &Range<usize>,
        from: usize,
        offset: usize,
    ) {
        let (kernels, prime) = (Kernels::active(), self.prime);
        let q = self.parameters.moduli()[prime];
        let (block, rows) = (x.block, weights.rows);
        let x_words = x.at(prime, from);
        let row = |i: usize| weights.row(prime, from, i);
        for i in (0..rows).step_by(2) {
            for (at, t) in columns.clone().enumerate() {
                let (column, index) = (&x_words[t * x.place()..], at * rows + i);
                let mut sums = [0; 4 * BLOCK];
                if i + 1 < rows {
                    let sums = &mut sums[..4 * block];
                    let pair = [row(i), row(i + 1)];
                    kernels.weigh_block_pair(&q, sums, pair, column, x.pitch());
                    let (first, second) = sums.split_at(2 * block);
                    self.store(index, 2, offset, first, block);
                    self.store(index + 1, 2, offset, second, block);
                } else {
                    let sums = &mut sums[..2 * block];
                    kernels.weigh_block(&q, sums, row(i), column, x.pitch());
                    self.store(index, 2, offset, sums, block);
                }
            }
        }
    }

    fn multiply(&mut self, (d, x): (&Sheet, &Sheet), from: usize, offset: usize) {
        let (kernels, prime) = (Kernels::active(), self.prime);
        let q = self.parameters.moduli()[prime];
        let (block, rows) = (x.block, x.rows);
        let row = |k: usize| x.row(prime, from, k);
        for k in (0..rows).step_by(2) {
            for i in 0..d.rows {
                let (d, index) = (d.row(prime, from, i), i * rows + k);
                let mut sums = [0; 6 * BLOCK];
                if k + 1 < rows {
                    let sums = &mut sums[..6 * block];
                    kernels.multiply_block_pair(&q, sums, [row(k), row(k + 1)], d);
                    let (first, second) = sums.split_at(3 * block);
                    self.store(index, 3, offset, first, block);
                    self.store(index + 1, 3, offset, second, block);
                } else {
                    let sums = &mut sums[..3 * block];
                    kernels.multiply_block(&q, sums, row(k), d);
                    self.store(index, 3, offset, sums, block);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
