//! How much memory all models of a server may need together.
//!
//! Every model in use takes a [`Share`] as large as what its plan may make the server hold, before
//! anything is held, and gives it back when nobody uses it any more. So the sum of all shares
//! bounds the memory for polynomials, however many clients there are.

use std::sync::{Arc, Mutex, PoisonError};

use crate::error::Error;

/// Bytes that may be taken, and those that are.
#[derive(Debug)]
pub(super) struct Budget {
    limit: usize,
    taken: Mutex<usize>,
}

impl Budget {
    pub(super) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            limit,
            taken: Mutex::default(),
        })
    }

    fn change(&self, by: impl FnOnce(usize) -> Option<usize>) -> Option<usize> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let next = by(*taken)?;
        *taken = next;
        Some(next)
    }

    /// Takes so many bytes.
    pub(super) fn take(self: &Arc<Self>, bytes: usize) -> Result<Share, Error> {
        let fits = |taken: usize| {
            let next = taken.checked_add(bytes)?;
            (next <= self.limit).then_some(next)
        };
        self.change(fits).ok_or(Error::Memory {
            needed: bytes,
            limit: self.limit,
        })?;
        Ok(Share {
            budget: Arc::clone(self),
            bytes,
        })
    }
}

/// Bytes taken from a budget; they go back when this is dropped.
#[derive(Debug)]
pub(super) struct Share {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget
            .change(|taken| Some(taken.saturating_sub(self.bytes)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_never_exceed_the_limit_and_come_back() {
        let budget = Budget::new(10);
        let first = budget.take(6).unwrap();
        assert!(matches!(
            budget.take(5),
            Err(Error::Memory {
                needed: 5,
                limit: 10
            })
        ));
        let second = budget.take(4).unwrap();
        assert!(budget.take(1).is_err());
        drop(first);
        assert!(budget.take(usize::MAX).is_err());
        drop(budget.take(6).unwrap());
        drop(second);
        assert!(budget.take(10).is_ok());
    }
}
