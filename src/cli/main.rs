//! `taskfence`: checks a configuration and explains what it does with a request, makes keys and tokens for demos and
//! tests, and tells running filters what has changed.

#![forbid(unsafe_code)]

mod commands;
mod doctor;
mod drafting;
mod envoy;
mod envoy_checks;
mod export;
mod failure;
mod input;
mod offline;
mod page;
mod remote;
mod rendering;
mod signing;
mod terminal;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::io::{IsTerminal, stderr, stdin, stdout};
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};

use crate::failure::Failure;
use crate::terminal::console::Console;
use crate::terminal::exit::Exit;

/// The allocator of musl, which static binaries have otherwise, makes a hub several times slower.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let mut console = Console {
        input: &mut stdin().lock(),
        out: &mut stdout().lock(),
        err: &mut stderr(),
        colour: stdout().is_terminal() && !no_colour,
        now: terminal::time::now(),
    };
    run(std::env::args_os(), &mut console).into()
}

/// Continuous authorization for Envoy: every request stays inside the task its token was granted for
///
/// The filter itself is `taskfence.wasm` and runs in Envoy. This binary is what you use beside it: it checks the
/// configuration and explains requests with the code the filter runs, makes keys and tokens to try it with, and signs
/// and pushes the signals that end a token, a session or a task at once.
#[derive(Debug, Parser)]
#[command(name = "taskfence", version, max_term_width = 110, after_help = AFTER_HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Init(Box<commands::init::Init>),
    Check(commands::check::Check),
    Explain(Box<commands::explain::Explain>),
    Test(commands::test::Test),
    Doctor(Box<commands::doctor::Doctor>),
    Render(commands::render::Render),
    Schema(commands::schema::Schema),
    Capabilities(commands::capabilities::Capabilities),
    #[command(subcommand)]
    Keys(commands::keys::Keys),
    #[command(subcommand)]
    Token(commands::token::Token),
    #[command(subcommand)]
    Signal(Box<commands::signal::Signal>),
    Hub(Box<commands::hub::Hub>),
    Status(commands::status::Status),
    State(Box<commands::state::State>),
    Stop(Box<commands::stop::Stop>),
    Undo(commands::undo::Undo),
    Watch(commands::watch::Watch),
    Timeline(commands::timeline::Timeline),
    Report(Box<commands::report::Report>),
    Export(commands::export::Export),
    Completions(commands::completions::Completions),
    Man(commands::man::Man),
}

const AFTER_HELP: &str = "\
Examples:
  taskfence check taskfence.yaml
  taskfence explain --config taskfence.yaml --token @token.jwt \\
      --url https://orders.mesh/v1/orders/1881
  taskfence keys new --alg ES256 --out demo
  taskfence token mint --key demo.private.jwk --issuer https://jit.example \\
      --audience https://orders.mesh --subject alice --client agent-a7 --task task-42
  taskfence signal complete --task task-42 --key hub.private.jwk \\
      --issuer https://idp.example --audience https://orders.mesh/signals \\
      --to http://127.0.0.1:10001/signals

Exit codes:
  0   done, or allowed
  1   the operation failed: a file, the network, a signal that was refused,
      a case of `taskfence test` that went otherwise
  2   denied
  3   the configuration, or the file of cases, is bad
  64  wrong usage";

/// Runs one command line to its end; everything the command says goes to `console`.
fn run(args: impl IntoIterator<Item = OsString>, console: &mut Console<'_>) -> Exit {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => return explain_usage(&error, console),
    };
    let outcome = match cli.command {
        Command::Init(init) => init.run(console),
        Command::Check(check) => check.run(console),
        Command::Explain(explain) => explain.run(console),
        Command::Test(test) => test.run(console),
        Command::Doctor(doctor) => doctor.run(console),
        Command::Render(render) => render.run(console),
        Command::Schema(schema) => schema.run(console),
        Command::Capabilities(capabilities) => capabilities.run(console),
        Command::Keys(keys) => keys.run(console),
        Command::Token(token) => token.run(console),
        Command::Signal(signal) => signal.run(console),
        Command::Hub(hub) => hub.run(console),
        Command::Status(status) => status.run(console),
        Command::State(state) => state.run(console),
        Command::Stop(stop) => stop.run(console),
        Command::Undo(undo) => undo.run(console),
        Command::Watch(watch) => watch.run(console),
        Command::Timeline(timeline) => timeline.run(console),
        Command::Report(report) => report.run(console),
        Command::Export(export) => export.run(console),
        Command::Completions(completions) => completions.run(console),
        Command::Man(man) => man.run(console),
    };
    match outcome {
        Ok(exit) => exit,
        Err(failure) => report(&failure, console),
    }
}

/// The command line, for what is made from it.
fn command() -> clap::Command {
    Cli::command()
}

fn explain_usage(error: &clap::Error, console: &mut Console<'_>) -> Exit {
    let text = error.render();
    let asked_for = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    let written = if asked_for { write!(console.out, "{text}") } else { write!(console.err, "{text}") };
    match written {
        Ok(()) if asked_for => Exit::Done,
        Ok(()) => Exit::Usage,
        Err(_) => Exit::Failed,
    }
}

fn report(failure: &Failure, console: &mut Console<'_>) -> Exit {
    // Whoever read our output has gone away (`taskfence ... | head`): there is nobody left to tell.
    if !failure.is_broken_pipe() {
        let written = match failure {
            Failure::BadFile(bad) => bad.print(console.err),
            other => writeln!(console.err, "error: {other}"),
        };
        // Nor is there anywhere left to report that standard error itself cannot be written.
        drop(written);
    }
    failure.exit()
}
