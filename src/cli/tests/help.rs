//! The help of every command, as it is printed.

use crate::tests::snapshot;

#[test]
fn every_help() {
    // The width does not depend on the terminal that the tests run in.
    let mut command = crate::command().term_width(100);
    command.build();
    visit(&mut command, "help");
}

fn visit(command: &mut clap::Command, name: &str) {
    snapshot::check(name, &command.render_long_help().to_string());
    for inner in command.get_subcommands_mut().filter(|inner| inner.get_name() != "help") {
        let name = format!("{name}-{}", inner.get_name());
        visit(inner, &name);
    }
}
