use super::*;
use crate::architectures::by_name;

#[test]
fn names_and_folders_are_asked_for() {
    let options = LoadOptions::default();
    let unknown = load("imagenet", None, &options).unwrap_err();
    assert!(matches!(&unknown, DataError::UnknownName { name } if name == "imagenet"));
    assert!(
        unknown
            .to_string()
            .contains("synth-digits, synth-shapes, mnist, fashion-mnist, cifar10")
    );
    let no_folder = load("mnist", None, &options).unwrap_err();
    assert!(matches!(no_folder, DataError::NoFolder { .. }));
}

#[test]
fn sets_are_checked_against_networks() {
    let mut set = synth_digits::generate(1, 50);
    let network = |classes| {
        let architecture = by_name("linear", set.shape, classes).unwrap();
        Network::new(&architecture).unwrap()
    };
    let (ten, three) = (network(10), network(3));
    assert_eq!(set.check_fits(&ten), Ok(()));
    assert!(set.check_fits(&three).unwrap_err().what.contains("classes"));
    set.labels.pop();
    assert_eq!(
        set.check_fits(&ten),
        Err(MisfitError {
            what: "number of labels",
            found: 49,
            expected: 50
        })
    );
    set.labels.push(0);
    set.images = Tensor::zeros(50, 783);
    assert_eq!(set.check_fits(&ten).unwrap_err().found, 783);
    assert!(!set.is_empty() && set.len() == 50);
}
