//! The command line as a whole: its arguments, exit codes and help.

use crate::Cli;
use crate::terminal::console::Capture;
use crate::terminal::exit::Exit;
use clap::CommandFactory;

#[test]
fn the_command_line_is_well_formed() {
    Cli::command().debug_assert();
}

#[test]
fn exit_codes() {
    let table: &[(&[&str], u8)] = &[
        (&["--help"], 0),
        (&["--version"], 0),
        (&["help", "signal", "revoke"], 0),
        (&["signal", "complete", "--help"], 0),
        (&[], 64),
        (&["signal"], 64),
        (&["frobnicate"], 64),
        (&["check"], 64),
        (&["keys", "new", "--alg", "HS256", "--out", "x"], 64),
        (&["check", "/nonexistent/taskfence.yaml"], 1),
        (&["keys", "new", "--alg", "ES256", "--out", "/nonexistent/key"], 1),
        (&["check", "-"], 3),
    ];
    for (args, code) in table {
        let mut capture = Capture::default();
        let exit = capture.run(args);
        assert_eq!(exit.code(), *code, "{args:?}: {}", capture.err());
        assert_eq!(capture.err().is_empty(), *code == 0, "{args:?} says why it failed");
    }
}

#[test]
fn every_help_says_what_the_command_does() {
    fn visit(command: &clap::Command, path: &str) {
        let path = format!("{path} {}", command.get_name());
        assert!(command.get_about().is_some(), "{path} has no description");
        for argument in command.get_arguments() {
            assert!(argument.get_help().is_some(), "{path} does not explain {}", argument.get_id());
        }
        if !command.has_subcommands() {
            let examples = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(examples.contains("taskfence "), "{path} shows no example");
        }
        for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
            visit(inner, &path);
        }
    }
    let mut command = Cli::command();
    command.build();
    visit(&command, "");
}

#[test]
fn the_help_lists_every_exit_code() {
    let mut capture = Capture::default();
    capture.run(&["--help"]);
    for exit in [Exit::Done, Exit::Failed, Exit::Denied, Exit::BadConfig, Exit::Usage] {
        assert!(capture.out().contains(&format!("\n  {:<4}", exit.code())), "{exit:?} is missing");
    }
}
