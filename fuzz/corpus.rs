//! The corpus of each fuzz target, without a fuzzer: what was found once stays found, and the rest shows the way in.

use std::{collections::BTreeSet, fs, path::Path};

use taskfence_fuzz::TARGETS;

#[test]
fn every_target_holds_over_its_corpus() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let folders: BTreeSet<_> =
        fs::read_dir(&corpus).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(folders, TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect());
    for (name, target) in TARGETS {
        let mut taken = Vec::new();
        for entry in fs::read_dir(corpus.join(name)).unwrap() {
            let file = entry.unwrap().path();
            let bytes = fs::read(&file).unwrap();
            println!("{name}: {}", file.display());
            taken.push(target(&bytes));
        }
        // A corpus of which all is refused, or nothing, shows one half of the target only.
        assert!(taken.contains(&true) && taken.contains(&false), "{name}: {taken:?}");
    }
}
