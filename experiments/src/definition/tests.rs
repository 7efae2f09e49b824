use super::*;

const QUICK: &str = include_str!("../../definitions/synth-quick.toml");

fn quick() -> Definition {
    Definition::parse("synth-quick.toml", QUICK).unwrap()
}

#[test]
fn every_shipped_definition_is_sound() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("definitions");
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let definition = Definition::read(&path).unwrap();
        assert_eq!(
            path.file_stem().unwrap().to_str(),
            Some(definition.name.as_str())
        );
        let cells = definition.cells(60_000, 10_000).unwrap();
        let mut trials: Vec<String> = cells.iter().map(Config::trial_id).collect();
        trials.sort();
        trials.dedup();
        assert_eq!(trials.len(), cells.len(), "{}", path.display());
        names.push(definition.name);
    }
    for expected in [
        "mnist-scatter",
        "cifar10-scatter",
        "mnist-minionn",
        "synth-quick",
    ] {
        assert!(names.iter().any(|n| n == expected), "{expected}");
    }
}

#[test]
fn a_definition_survives_being_written() {
    let text = toml::to_string_pretty(&quick()).unwrap();
    assert_eq!(Definition::parse("again", &text).unwrap(), quick());
}

#[test]
fn rates_follow_the_budget_and_epochs_become_steps() {
    let mut definition = quick();
    definition.optimiser.lr = 8.0;
    definition.optimiser.lr_up_to = vec![
        RateUpTo {
            epsilon: 0.5,
            lr: 2.0,
        },
        RateUpTo {
            epsilon: 1.0,
            lr: 4.0,
        },
    ];
    let rates = [0.1, 0.5, 0.6, 1.0, 2.0, f64::INFINITY].map(|e| definition.lr(e));
    assert_eq!(rates, [2.0, 2.0, 4.0, 4.0, 8.0, 8.0]);
    definition.optimiser.steps = None;
    definition.optimiser.epochs = Some(60.0);
    definition.optimiser.batch = 8192.0;
    let cell = definition.cell(2.0, 1, 60_000, 10_000).unwrap();
    assert_eq!((cell.steps, cell.lr), (440, 8.0));
    assert!(
        !definition
            .cell(f64::INFINITY, 1, 60_000, 10_000)
            .unwrap()
            .private
    );
}

/// Each change makes the definition bad, and the message must name the field and what was expected.
#[test]
fn bad_definitions_name_field_and_expectation() {
    let cases = [
        ("lr = ", "lr = -", "optimiser.lr", "above 0"),
        (
            "momentum = ",
            "momentum = 1",
            "optimiser.momentum",
            "from 0 up to",
        ),
        ("delta = 1e-5", "delta = 1.5", "privacy.delta", "below 1"),
        ("delta = 1e-5", "", "missing field `delta`", "privacy"),
        (
            "[data]",
            "[data]\ncolour = 3",
            "unknown field `colour`",
            "`set`",
        ),
        (
            "name = \"clear\"",
            "name = \"clean\"",
            "unknown variant `clean`",
            "`clear`",
        ),
        (
            "accountant = \"rdp\"",
            "accountant = \"abacus\"",
            "unknown variant `abacus`",
            "`pld`",
        ),
        (
            "batch = ",
            "batch = \"many\" #",
            "invalid type: string",
            "f64",
        ),
        (
            "steps = ",
            "epochs = 1.0\nsteps = ",
            "optimiser.epochs, optimiser.steps",
            "exactly one",
        ),
        ("seeds = [", "seeds = [] #", "trials.seeds", "names no seed"),
        (
            "epsilons = [",
            "epsilons = [0.0, ",
            "privacy.epsilons",
            "above 0",
        ),
        (
            "name = \"synth-quick\"",
            "name = \"../up\"",
            "name",
            "letters",
        ),
        (
            "[optimiser]",
            "[optimiser]\nschedule = { shape = \"cosine\", to = 3.0 }",
            "optimiser.schedule.to",
            "share",
        ),
    ];
    refused_by_name(&cases);
}

/// A misspelt name is never passed over in silence.
#[test]
fn a_typo_is_refused_by_name() {
    let cases = [
        (
            "[optimiser]",
            "[features]\ndecorelation = 0.25\n\n[optimiser]",
            "unknown field `decorelation`",
            "`decorrelation`",
        ),
        (
            "[optimiser]",
            "[features]\nmirror = true\n\n[optimiser]",
            "features",
            "scatter-linear",
        ),
        (
            "[optimiser]",
            "[optimiser]\naugmentation = { veiws = 4 }",
            "unknown field `veiws`",
            "`views`",
        ),
        (
            "momentum = ",
            "momentom = ",
            "unknown field `momentom`",
            "`momentum`",
        ),
        ("[trials]", "[trails]", "unknown field `trails`", "`trials`"),
    ];
    refused_by_name(&cases);
}

fn refused_by_name(cases: &[(&str, &str, &str, &str)]) {
    for (from, to, field, expectation) in cases {
        assert!(QUICK.contains(from), "{from}");
        let error = Definition::parse("bad.toml", &QUICK.replacen(from, to, 1)).unwrap_err();
        let told = crate::usage::explain(&error);
        assert_eq!(crate::usage::exit_code(&error), 2, "{told}");
        for word in ["bad.toml", field, expectation] {
            assert!(told.contains(word), "{to}: no {word:?} in {told}");
        }
    }
}

/// `bias = "paper"` reaches the cell, makes it another trial and survives being written, in the definition and in the
/// configuration of a run; the default leaves no trace in either.
#[test]
fn the_rule_of_biases_is_part_of_a_trial() {
    let with = |engine: &str| QUICK.replacen("name = \"clear\"", engine, 1);
    let cell = |text: &str| {
        let definition = Definition::parse("bias", text).unwrap();
        let written = toml::to_string_pretty(&definition).unwrap();
        assert_eq!(Definition::parse("again", &written).unwrap(), definition);
        let cell = definition.cell(4.0, 1, 2000, 500).unwrap();
        let kept = toml::to_string(&cell).unwrap();
        assert_eq!(toml::from_str::<Config>(&kept).unwrap(), cell);
        for text in [&written, &kept] {
            assert_eq!(
                text.contains("bias = \"paper\""),
                cell.bias == BiasRule::Paper
            );
            assert!(!text.contains("bias = \"private\""));
        }
        cell
    };
    let (default, said) = (
        cell(QUICK),
        cell(&with("name = \"clear\"\nbias = \"private\"")),
    );
    assert_eq!(default.trial_id(), said.trial_id());
    let published = cell(&with("name = \"clear\"\nbias = \"paper\""));
    assert_eq!(published.bias, BiasRule::Paper);
    assert_ne!(published.trial_id(), default.trial_id());
    // The twin on the grid clips what `paper` clips.
    let twin = cell(&with("name = \"clear\"\ngrid = true\nbias = \"paper\""));
    let paper = cell(&with("name = \"paper\"\nbias = \"paper\""));
    assert!(twin.clip_samples && paper.clip_samples && !published.clip_samples);
    refused_by_name(&[
        (
            "name = \"clear\"",
            "name = \"packed\"\nbias = \"paper\"",
            "engine.bias",
            "`clear`",
        ),
        (
            "name = \"clear\"",
            "name = \"clear\"\nbias = \"none\"",
            "unknown variant `none`",
            "`paper`",
        ),
    ]);
}

#[test]
fn labels_are_kept_and_may_not_hide_what_every_record_says() {
    let labelled = format!("labels = {{ epochs = \"60\" }}\n{QUICK}");
    let definition = Definition::parse("labelled", &labelled).unwrap();
    assert_eq!(definition.labels["epochs"], "60");
    let same = |d: &Definition| d.cell(2.0, 1, 2000, 500).unwrap().trial_id();
    assert_eq!(same(&definition), same(&quick()), "no part of a trial");
    let hiding = format!("labels = {{ accountant = \"mine\" }}\n{QUICK}");
    let error = Definition::parse("hiding", &hiding).unwrap_err();
    assert!(format!("{error:#}").contains("labels"), "{error:#}");
}
