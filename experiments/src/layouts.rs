//! How the layouts of an encrypted run are chosen: for which network, in which rings, and what the
//! client keeps to itself.
//!
//! ```
//! use sphinx_experiments::layouts::Local;
//! let local: Local = "forward:0,gradient:2".parse()?;
//! assert_eq!(local.to_string(), "forward:0,gradient:2");
//! assert_eq!("auto".parse::<Local>()?, Local::Auto);
//! assert!("sideways:0".parse::<Local>().is_err());
//! # Ok::<(), String>(())
//! ```

use std::fmt;
use std::str::FromStr;

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use sphinx_protocol::plan::{LocalChoice, LocalPhase, Phase, Preferences, Prices};

use crate::netsim::{LAN, Profile, WAN};

/// Networks between client and server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NetworkName {
    /// 10 Gbit/s and 0.1 ms
    Lan,
    /// 100 Mbit/s and 40 ms
    Wan,
}

impl NetworkName {
    /// Its figures.
    #[must_use]
    pub const fn profile(self) -> Profile {
        match self {
            Self::Lan => LAN,
            Self::Wan => WAN,
        }
    }
}

/// Rings that a plan may take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ring {
    /// N = 4096
    #[default]
    #[value(name = "4096")]
    Short,
    /// N = 8192
    #[value(name = "8192")]
    Long,
    /// Whichever is cheaper
    Auto,
}

/// Products that the client keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Local {
    /// None: everything is outsourced.
    #[default]
    None,
    /// These, by phase and layer.
    Named(Vec<(String, usize)>),
    /// Whatever is cheaper so.
    Auto,
}

/// The products by name.
const NAMES: [(&str, Phase); 3] = [
    ("forward", Phase::Forward),
    ("backward", Phase::Backward),
    ("gradient", Phase::Gradient),
];

impl FromStr for Local {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => return Ok(Self::None),
            "auto" => return Ok(Self::Auto),
            _ => {}
        }
        let one = |part: &str| {
            let (name, layer) = part.split_once(':')?;
            let (name, _) = NAMES.iter().find(|(known, _)| *known == name)?;
            Some(((*name).to_owned(), layer.parse().ok()?))
        };
        let parts = text.split(',').map(|part| {
            one(part).ok_or_else(|| {
                format!(
                    "`{part}`: expected none, auto, or a list such as forward:0,gradient:1 \
                     (forward, backward or gradient, and a layer)"
                )
            })
        });
        Ok(Self::Named(parts.collect::<Result<_, _>>()?))
    }
}

impl fmt::Display for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Auto => f.write_str("auto"),
            Self::Named(parts) => {
                let parts = parts.iter().map(|(name, layer)| format!("{name}:{layer}"));
                f.write_str(&parts.collect::<Vec<_>>().join(","))
            }
        }
    }
}

impl TryFrom<String> for Local {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Local> for String {
    fn from(local: Local) -> Self {
        local.to_string()
    }
}

/// How layouts are chosen, as it is recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layouts {
    /// For this network between the parties; without one for 10 Gbit/s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkName>,
    /// What the client keeps.
    #[serde(default)]
    pub local: Local,
    /// The rings that may be taken.
    #[serde(default)]
    pub ring: Ring,
}

impl Layouts {
    /// Whether nothing was asked for.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        *self == Self::default()
    }

    /// What the planner is told.
    #[must_use]
    pub fn preferences(&self) -> Preferences {
        let prices = Prices::default();
        let named = |parts: &[(String, usize)]| {
            let parts = parts.iter().filter_map(|(name, layer)| {
                let (_, phase) = NAMES.iter().find(|(known, _)| known == name)?;
                let (phase, layer) = (*phase, *layer);
                Some(LocalPhase { phase, layer })
            });
            LocalChoice::Named(parts.collect())
        };
        Preferences {
            prices: match self.network {
                Some(network) => prices.over(network.profile().bits_per_second),
                None => prices,
            },
            local: match &self.local {
                Local::None => named(&[]),
                Local::Named(parts) => named(parts),
                Local::Auto => LocalChoice::Auto,
            },
            log_degrees: match self.ring {
                Ring::Short => vec![12],
                Ring::Long => vec![13],
                Ring::Auto => vec![12, 13],
            },
        }
    }
}

/// The flags of how layouts are chosen (engine packed).
#[derive(Clone, Debug, Args)]
pub struct LayoutArgs {
    /// Choose layouts for this network between client and server [default: 10 Gbit/s]; `plan` then
    /// predicts for two machines like this one
    #[arg(long, value_enum, value_name = "NETWORK")]
    pub network: Option<NetworkName>,
    /// Products that the client computes itself: none, a list such as forward:0,gradient:1, or auto for
    /// whatever is cheaper so
    #[arg(long, value_name = "PHASES", default_value_t = Local::None)]
    pub local: Local,
    /// Degree of the ring
    #[arg(long, value_enum, default_value = "4096")]
    pub ring: Ring,
}

impl LayoutArgs {
    /// As they are recorded.
    #[must_use]
    pub fn layouts(&self) -> Layouts {
        Layouts {
            network: self.network,
            local: self.local.clone(),
            ring: self.ring,
        }
    }
}
