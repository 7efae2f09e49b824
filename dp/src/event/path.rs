//! Where in a tree of events a sub-event stands.

use std::fmt;

/// One step down from an event to a part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Branch {
    /// The part with this number, counted from zero, of a composition.
    Part(usize),
    /// What is repeated.
    Repeated,
    /// What is run on a batch.
    Batch,
}

/// The steps down from the whole event to a sub-event; printed like `whole[1].repeated.batch`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct EventPath(Vec<Branch>);

impl EventPath {
    /// The steps, from the top.
    #[must_use]
    pub fn branches(&self) -> &[Branch] {
        &self.0
    }

    /// Runs `f` one step further down.
    pub(crate) fn within<T>(&mut self, branch: Branch, f: impl FnOnce(&mut Self) -> T) -> T {
        self.0.push(branch);
        let result = f(self);
        self.0.pop();
        result
    }
}

impl fmt::Display for EventPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("whole")?;
        for branch in &self.0 {
            match branch {
                Branch::Part(i) => write!(f, "[{i}]")?,
                Branch::Repeated => f.write_str(".repeated")?,
                Branch::Batch => f.write_str(".batch")?,
            }
        }
        Ok(())
    }
}
