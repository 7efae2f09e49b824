//! Which records make one picture, and which of them make one series.
//!
//! **What must be true.** One picture, one data set. Two records are of one series if engine,
//! network and every label but those of provenance agree; what differs within the picture, and only that,
//! stands in the name, [how it was computed](NEEDLESS) only where the name would stand twice without it. The result
//! does not depend on the order of the records.

use std::collections::{BTreeMap, BTreeSet};

use super::{FigureError, Options, TOY_NOTE};
use crate::record::{Record, TOY, label};

/// The records behind one line, group of marks or bars.
#[derive(Clone, Debug)]
pub(crate) struct Series<'a> {
    pub(crate) name: String,
    pub(crate) engine: &'a str,
    pub(crate) records: Vec<&'a Record>,
}

/// The records of each data set, in a fixed order.
pub(crate) fn by_dataset<'a>(
    records: impl IntoIterator<Item = &'a Record>,
) -> BTreeMap<&'a str, Vec<&'a Record>> {
    let mut sets: BTreeMap<&str, Vec<&Record>> = BTreeMap::new();
    for record in records {
        sets.entry(&record.dataset).or_default().push(record);
    }
    for set in sets.values_mut() {
        set.sort_by(|a, b| {
            let key = |r: &'a Record| (&r.trial, r.seed, &r.experiment);
            // Trials are unique in a run; across runs the rest of the record decides.
            key(a)
                .cmp(&key(b))
                .then_with(|| format!("{a:?}").cmp(&format!("{b:?}")))
        });
    }
    sets
}

/// The network, among the [parts](Parts).
const MODEL: &str = "model";

/// A fact that tells series apart, and how it is put in a name.
type Parts = BTreeMap<String, String>;

fn parts(record: &Record, extra: fn(&Record) -> Parts) -> Parts {
    let mut parts = extra(record);
    parts.insert(MODEL.into(), record.model.clone());
    if record.is_toy() {
        parts.insert("security".into(), TOY_NOTE.into());
    }
    let labels = record
        .labels
        .iter()
        .filter(|(name, _)| !label::PROVENANCE.contains(&name.as_str()));
    parts.extend(labels.map(|(name, value)| (format!("label {name}"), value.clone())));
    parts
}

/// Groups records into series; `extra` gives more facts that tell them apart, and `ignored` names
/// the labels that do not.
pub(crate) fn series<'a>(
    records: &[&'a Record],
    extra: fn(&Record) -> Parts,
    ignored: &[&str],
) -> Vec<Series<'a>> {
    let mut groups: BTreeMap<(&str, Parts), Vec<&Record>> = BTreeMap::new();
    for record in records {
        let mut parts = parts(record, extra);
        for name in ignored {
            parts.remove(&format!("label {name}"));
        }
        groups
            .entry((&record.engine, parts))
            .or_default()
            .push(record);
    }
    let names = names(groups.keys());
    let named = groups.into_iter().zip(names);
    named
        .map(|(((engine, _), records), name)| Series {
            name,
            engine,
            records,
        })
        .collect()
}

/// What tells series apart, but leaves the name of a series that is told apart without it: whether it is private
/// (its budget says so), what it was for, who priced it, in which arithmetic.
const NEEDLESS: [&str; 4] = [
    label::PRIVATE,
    label::PURPOSE,
    label::ACCOUNTANT,
    "arithmetic",
];

/// A name for each of these: its engine, its network, then the rest of what differs.
fn names<'a>(groups: impl Iterator<Item = &'a (&'a str, Parts)> + Clone) -> Vec<String> {
    let keys: BTreeSet<&String> = groups.clone().flat_map(|(_, parts)| parts.keys()).collect();
    let mut told: Vec<(&str, Parts)> = groups.cloned().collect();
    for key in keys {
        let values: BTreeSet<_> = told.iter().map(|(_, parts)| parts.get(key)).collect();
        if values.len() == 1 {
            told.iter_mut().for_each(|(_, parts)| {
                parts.remove(key);
            });
        }
    }
    for name in NEEDLESS {
        let key = format!("label {name}");
        let without = |(engine, parts): &(&str, Parts)| {
            let mut parts = parts.clone();
            // That a run is not private is never left out.
            parts.retain(|part, value| *part != key || (name == label::PRIVATE && value == "no"));
            (engine.to_string(), parts)
        };
        let shorter: Vec<_> = told.iter().map(without).collect();
        for (at, short) in shorter.iter().enumerate() {
            if shorter.iter().filter(|other| *other == short).count() == 1 {
                told[at].1.clone_from(&short.1);
            }
        }
    }
    let name = |(engine, mut parts): (&str, Parts)| {
        let model = parts.remove(MODEL);
        let rest = parts.iter().map(|(part, value)| in_words(part, value));
        let words = model.into_iter().chain(rest);
        words.fold(engine.to_owned(), |name, word| name + ", " + &word)
    };
    told.into_iter().map(name).collect()
}

fn in_words(part: &str, value: &str) -> String {
    match part.strip_prefix("label ") {
        Some(label::SERIES) | None => value.into(),
        Some(label::PRIVATE) if value == "no" => "not private".into(),
        Some(label::PRIVATE) if value == "yes" => "private".into(),
        Some("arithmetic") => format!("{value} arithmetic"),
        Some("epochs") => format!("{value} epochs"),
        Some(name) => format!("{name}: {value}"),
    }
}

/// No further facts.
pub(crate) fn nothing_more(_: &Record) -> Parts {
    Parts::new()
}

/// The title with its note, once it is sure that toy and secure records are not mixed silently.
///
/// Records without encryption (`none`) may stand beside either.
pub(crate) fn title(
    figure: &'static str,
    title: &str,
    records: &[&Record],
    options: &Options,
) -> Result<String, FigureError> {
    let note = options.note.as_deref().unwrap_or_default();
    let toy = records.iter().find(|record| record.is_toy());
    let secure = records
        .iter()
        .find(|r| r.security != TOY && r.security != "none");
    let said = note.contains(TOY_NOTE);
    match (toy, secure) {
        (Some(toy), Some(secure)) if !said => Err(FigureError::MixedSecurity {
            figure,
            toy: toy.trial.clone(),
            other: secure.trial.clone(),
            security: secure.security.clone(),
        }),
        (Some(_), _) if !said && note.is_empty() => Ok(format!("{title} ({TOY_NOTE})")),
        (Some(_), _) if !said => Ok(format!("{title} ({TOY_NOTE}; {note})")),
        _ if note.is_empty() => Ok(title.into()),
        _ => Ok(format!("{title} ({note})")),
    }
}

/// Refuses records of one mark that share a seed: they are not repetitions of one another.
pub(crate) fn one_per_seed(
    figure: &'static str,
    series: &str,
    records: &[&Record],
) -> Result<(), FigureError> {
    let mut seeds: BTreeMap<u64, &Record> = BTreeMap::new();
    for record in records {
        if let Some(first) = seeds.insert(record.seed, record) {
            return Err(FigureError::Ambiguous {
                figure,
                series: series.into(),
                seed: record.seed,
                first: first.trial.clone(),
                second: record.trial.clone(),
            });
        }
    }
    Ok(())
}

/// Whether a record has pairs `(x, y)` in two of its series, once these are sure to fit together: `x`
/// ascends from at least one, and each has a good `y`.
pub(crate) fn has_pairs(
    (figure, record): (&'static str, &Record),
    x: &str,
    (y, problem): (&str, &'static str),
    good: impl Fn(f64) -> bool,
) -> Result<bool, FigureError> {
    let series = |name: &str| record.samples.get(name).filter(|s| !s.is_empty());
    let Some(all) = series(x) else {
        return Ok(false);
    };
    let fault = |name, problem| Err(FigureError::value(figure, record, name, problem));
    if !all.is_sorted_by(|a, b| a < b) || all.iter().any(|x| *x < 1.0) {
        return fault(x, "must ascend from at least one");
    }
    let values = series(y).filter(|values| values.len() == all.len());
    match values {
        Some(values) if values.iter().all(|y| good(*y)) => Ok(true),
        _ => fault(y, problem),
    }
}
