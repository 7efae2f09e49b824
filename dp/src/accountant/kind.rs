//! The accountants by name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::Accountant;
use crate::gdp::GdpAccountant;
use crate::moments::MomentsAccountant;
use crate::pld::PldAccountant;
use crate::quantity::Adjacency;
use crate::rdp::RdpAccountant;

/// Which accountant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AccountantKind {
    /// Renyi divergences at real orders ([`crate::rdp`]).
    Rdp,
    /// The moments accountant of 2016 ([`crate::moments`]).
    Moments,
    /// The composed privacy loss ([`crate::pld`]).
    Pld,
    /// The central-limit estimate ([`crate::gdp`]): never a bound.
    Gdp,
}

impl AccountantKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Rdp, Self::Moments, Self::Pld, Self::Gdp];

    /// The name in files and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rdp => "rdp",
            Self::Moments => "moments",
            Self::Pld => "pld",
            Self::Gdp => "gdp",
        }
    }

    /// The name in statements.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Rdp => "Renyi (RDP), real orders 1.005 to 2001",
            Self::Moments => "moments (2016), integer orders 2 to 33",
            Self::Pld => "privacy loss (PLD), both directions",
            Self::Gdp => "central limit (GDP), an estimate and no bound",
        }
    }

    /// How it comes to (epsilon, delta), with its source.
    #[must_use]
    pub const fn conversion(self) -> &'static str {
        match self {
            Self::Rdp => "Canonne-Kamath-Steinke 2020, Proposition 12 (arXiv:2004.00010v4)",
            Self::Moments => "Abadi et al. 2016, Theorem 2 (arXiv:1607.00133v2)",
            Self::Pld => "none: delta is read off the composed privacy loss",
            Self::Gdp => {
                "Balle-Wang 2018, Theorem 8, at the limit of Bu et al. 2020, Corollary 5.4"
            }
        }
    }

    /// Whether its answers hold up: an upper bound on epsilon.
    #[must_use]
    pub const fn is_bound(self) -> bool {
        !matches!(self, Self::Gdp)
    }

    /// A new accountant that has seen nothing.
    #[must_use]
    pub fn accountant(self, adjacency: Adjacency) -> Box<dyn Accountant> {
        match self {
            Self::Rdp => Box::new(RdpAccountant::new(adjacency)),
            Self::Moments => Box::new(MomentsAccountant::new(adjacency)),
            Self::Pld => Box::new(PldAccountant::new(adjacency)),
            Self::Gdp => Box::new(GdpAccountant::new(adjacency)),
        }
    }
}

impl fmt::Display for AccountantKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is no accountant's.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("unknown accountant {0:?}: expected rdp, moments, pld or gdp")]
pub struct UnknownAccountant(pub String);

impl FromStr for AccountantKind {
    type Err = UnknownAccountant;

    fn from_str(name: &str) -> Result<Self, UnknownAccountant> {
        let mut all = Self::ALL.into_iter();
        all.find(|kind| kind.name() == name)
            .ok_or_else(|| UnknownAccountant(name.to_owned()))
    }
}
