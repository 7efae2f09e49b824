//! Sums weighted by integers: no factor is a polynomial.
//!
//! Where every coefficient of a ciphertext belongs to another sample, one weight multiplies all of
//! them: it is an integer, and takes neither a transform nor the memory of a polynomial. A layer is
//! then a matrix of integers times a column of ciphertexts, one for each feature;
//! [`Scalars`] is that matrix, with the terms that are not there left out (an output of a
//! convolution meets few inputs), and [`Features`] are the ciphertexts, cut into blocks of 64
//! evaluations.
//!
//! The results are those of [`Ciphertext::add_dot_plain`] by constant polynomials, residue by
//! residue; the tests compare them.
//!
//! ```
//! use rand::SeedableRng;
//! use sphinx_he::exact::{Encoding, Features, Plaintext, Products, Scalars, SeededCiphertext};
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
//! // Two features of three samples.
//! let mut features = Features::new(&parameters, 0, encoding, 2)?;
//! for (at, values) in [[1, 2, 3], [10, 20, 30]].into_iter().enumerate() {
//!     let x = Plaintext::encode(&parameters, 0, &values, encoding)?;
//!     let x = SeededCiphertext::encrypt(&x, &secret, &mut rng)?.expand();
//!     features.check(&x)?;
//!     features.parts_mut().for_each(|mut part| part.put(at, 0, &x));
//! }
//! let scalars = Scalars::new(&parameters, 0, 2, [vec![(0, 5), (1, -1)]])?;
//! let products = Products::scaled(&scalars, 0..1, &features)?;
//! let mut sums = products.room(None);
//! sums.parts_mut().for_each(|mut part| products.fill(&mut part));
//! let result = sums.ciphertext(0).select(&[0, 1, 2])?.decrypt(&secret)?;
//! assert_eq!(result.keep_local(), [-5, -10, -15]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::ops::Range;

use super::{Ciphertext, Encoding, Left, Panel, PanelPart, Products, Sheet, SumsPart};
use super::{check_count, check_level, check_pair};
use crate::error::Error;
use crate::rlwe::Parameters;
use crate::simd::Kernels;

/// Evaluations in a block: what a sum keeps in registers.
const BLOCK: usize = 64;

/// A column of ciphertexts of degree one, of one level and encoding.
#[derive(Debug)]
pub struct Features(Panel);

impl Features {
    /// Zeros, which hide nothing, until they are filled.
    ///
    /// # Errors
    /// [`Error::NoSuchLevel`].
    pub fn new(
        parameters: &Parameters,
        level: usize,
        encoding: Encoding,
        count: usize,
    ) -> Result<Self, Error> {
        check_level("column of ciphertexts", parameters, level)?;
        Ok(Self(Panel {
            parameters: parameters.clone(),
            level,
            encoding,
            sheet: Sheet::cut(parameters, level, BLOCK, (count, 1), 2),
        }))
    }

    /// Whether a ciphertext may stand here.
    ///
    /// # Errors
    /// As [`Panel::check`].
    pub fn check(&self, ciphertext: &Ciphertext) -> Result<(), Error> {
        self.0.check(ciphertext)
    }

    /// All blocks, to be filled one beside the other; there is one column.
    pub fn parts_mut(&mut self) -> impl Iterator<Item = PanelPart<'_>> {
        self.0.parts_mut()
    }
}

/// A matrix of public integers, most of which may be absent.
#[derive(Debug)]
pub struct Scalars {
    parameters: Parameters,
    level: usize,
    columns: usize,
    /// Where the terms of every row end.
    ends: Vec<usize>,
    /// The column of every term.
    at: Vec<u32>,
    /// The residue of every term, prime by prime.
    residues: Vec<Vec<u64>>,
}

impl Scalars {
    /// Every row a list of columns and integers.
    ///
    /// # Errors
    /// [`Error::NoSuchLevel`]; [`Error::TooManyValues`] for a term beyond the last column.
    pub fn new(
        parameters: &Parameters,
        level: usize,
        columns: usize,
        rows: impl IntoIterator<Item = Vec<(u32, i64)>>,
    ) -> Result<Self, Error> {
        let op = "matrix of integers";
        check_level(op, parameters, level)?;
        let moduli = &parameters.moduli()[..=level];
        let mut out = Self {
            parameters: parameters.clone(),
            level,
            columns,
            ends: Vec::new(),
            at: Vec::new(),
            residues: vec![Vec::new(); moduli.len()],
        };
        for row in rows {
            for (at, w) in row {
                if at as usize >= columns {
                    let (got, limit) = (at as usize + 1, columns);
                    return Err(Error::TooManyValues { op, got, limit });
                }
                out.at.push(at);
                for (residues, q) in out.residues.iter_mut().zip(moduli) {
                    residues.push(q.reduce_i64(w));
                }
            }
            out.ends.push(out.at.len());
        }
        Ok(out)
    }

    /// Number of rows: sums.
    #[must_use]
    pub const fn rows(&self) -> usize {
        self.ends.len()
    }

    fn terms(&self, row: usize) -> Range<usize> {
        let before = row.checked_sub(1);
        before.map_or(0, |before| self.ends[before])..self.ends[row]
    }
}

impl<'a> Products<'a> {
    /// `sum_k W[i, k] X[k]` for every row `i` of `rows`.
    ///
    /// # Errors
    /// [`Error::ForeignParameters`], [`Error::LevelMismatch`]; [`Error::TooManyValues`] where rows
    /// do not exist, or columns and ciphertexts do not meet.
    pub fn scaled(
        scalars: &'a Scalars,
        rows: Range<usize>,
        x: &'a Features,
    ) -> Result<Self, Error> {
        let op = "sums weighted by integers";
        let (left, right) = (&scalars.parameters, &x.0.parameters);
        check_pair(op, (left, scalars.level), (right, x.0.level))?;
        check_count(op, scalars.columns, x.0.sheet.rows)?;
        if rows.end > scalars.rows() || rows.start > rows.end {
            let (got, limit) = (rows.end.max(rows.start), scalars.rows());
            return Err(Error::TooManyValues { op, got, limit });
        }
        Ok(Self {
            encoding: x.0.encoding,
            left: Left::Scalars(scalars, rows),
            right: &x.0,
        })
    }
}

impl SumsPart<'_> {
    /// One block of the sums of some rows.
    pub(super) fn scale(
        &mut self,
        (scalars, x): (&Scalars, &Sheet),
        rows: &Range<usize>,
        from: usize,
        offset: usize,
    ) {
        let (kernels, prime) = (Kernels::active(), self.prime);
        let q = self.parameters.moduli()[prime];
        let words = x.at(prime, from);
        let mut terms = Vec::new();
        for (index, row) in rows.clone().enumerate() {
            let range = scalars.terms(row);
            let columns = scalars.at[range.clone()].iter();
            let pairs = columns.zip(&scalars.residues[prime][range]);
            terms.clear();
            terms.extend(pairs.map(|(&k, &w)| {
                let start = k as usize * x.pitch();
                (&words[start..start + x.place()], w)
            }));
            let mut sums = [0; 2 * BLOCK];
            let sums = &mut sums[..x.place()];
            kernels.weigh_add_assign(&q, sums, &terms);
            self.store(index, 2, offset, sums, x.block);
        }
    }
}
