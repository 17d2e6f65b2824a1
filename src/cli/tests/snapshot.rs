//! Texts that people see, kept in `snapshots/` and compared. After a change that is meant:
//! `INSTA_UPDATE=always cargo test -p taskfence-cli`, and look at the difference.

use insta::Settings;

/// Compares `text` with the snapshot called `name`.
pub fn check(name: &str, text: &str) {
    let mut settings = Settings::clone_current();
    settings.set_snapshot_path(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/snapshots"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}
