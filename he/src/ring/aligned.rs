//! Words that start on a cache line.
//!
//! Every row of a polynomial begins at a multiple of 64 bytes, the width of the largest vector
//! register: a load that straddles two lines costs twice. Rows of `N >= 8` words are whole lines,
//! so one aligned allocation for all rows aligns each of them.
//!
//! ```
//! use sphinx_he::ring::Aligned;
//! let words = Aligned::zeros(24);
//! assert_eq!(words.as_ptr().addr() % 64, 0);
//! assert_eq!(words[..], [0; 24]);
//! ```

use std::ops::{Deref, DerefMut};

use zeroize::Zeroize;

/// Words of a cache line.
const LINE: usize = 8;

/// A fixed number of words, the first of which lies at a multiple of 64 bytes.
///
/// Seven words more than asked for are allocated, and the slice begins where the line does; nothing
/// is reallocated after that, and a move leaves the allocation where it is.
pub struct Aligned {
    words: Vec<u64>,
    start: usize,
}

impl Aligned {
    /// `len` zeros.
    #[must_use]
    pub fn zeros(len: usize) -> Self {
        let words = vec![0; len + LINE - 1];
        let start = Self::start(&words);
        let mut out = Self { words, start };
        out.truncate(len);
        out
    }

    /// Index of the first word at a multiple of 64 bytes.
    fn start(words: &[u64]) -> usize {
        let past = words.as_ptr().addr() / size_of::<u64>() % LINE;
        (LINE - past) % LINE
    }

    /// Keeps the first `len` words.
    pub fn truncate(&mut self, len: usize) {
        self.words.truncate(self.start + len);
    }
}

impl Deref for Aligned {
    type Target = [u64];

    #[inline]
    fn deref(&self) -> &[u64] {
        &self.words[self.start..]
    }
}

impl DerefMut for Aligned {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u64] {
        &mut self.words[self.start..]
    }
}

impl Clone for Aligned {
    fn clone(&self) -> Self {
        let mut words = Vec::with_capacity(self.len() + LINE - 1);
        let start = Self::start(&words);
        words.resize(start, 0);
        words.extend_from_slice(self);
        Self { words, start }
    }
}

impl PartialEq for Aligned {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Aligned {}

impl From<&[u64]> for Aligned {
    fn from(words: &[u64]) -> Self {
        let mut out = Self::zeros(words.len());
        out.copy_from_slice(words);
        out
    }
}

impl Zeroize for Aligned {
    fn zeroize(&mut self) {
        self.words.zeroize();
        self.start = 0;
    }
}

impl std::fmt::Debug for Aligned {
    /// The length only: the words may be secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Aligned")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_and_cuts_stay_aligned() {
        for len in [0, 1, 7, 8, 9, 100, 1 << 15] {
            let mut words = Aligned::zeros(len);
            words.iter_mut().zip(1..).for_each(|(x, i)| *x = i);
            let moved = vec![words.clone(), words.clone()].swap_remove(0);
            assert_eq!(moved, words);
            words.truncate(len / 2);
            assert_eq!(words[..], moved[..len / 2]);
            for aligned in [&words, &moved, &Aligned::from(&moved[..])] {
                assert_eq!(aligned.as_ptr().addr() % 64, 0);
            }
            words.zeroize();
            assert!(words.iter().all(|&x| x == 0));
        }
    }
}
