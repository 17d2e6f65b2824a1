//! `taskfence completions`: what a shell needs to complete this command.

use clap::Args;
use clap_complete::Shell;

use crate::failure::Failure;
use crate::terminal::console::Console;
use crate::terminal::exit::Exit;

/// Print the completions for a shell
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  source <(taskfence completions bash)
  taskfence completions zsh > ~/.zfunc/_taskfence
  taskfence completions fish > ~/.config/fish/completions/taskfence.fish")]
pub struct Completions {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

impl Completions {
    /// Runs the command.
    pub fn run(&self, console: &mut Console<'_>) -> Result<Exit, Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut crate::command(), "taskfence", &mut script);
        console.out.write_all(&script)?;
        Ok(Exit::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::terminal::console::Capture;
    use clap::ValueEnum;

    #[test]
    fn every_shell_learns_every_command() {
        for shell in Shell::value_variants() {
            let mut capture = Capture::default();
            let shell = shell.to_possible_value().unwrap();
            assert_eq!(capture.run(&["completions", shell.get_name()]), Exit::Done, "{}", capture.err());
            for word in ["explain", "completions", "subject-issuer"] {
                assert!(capture.out().contains(word), "{word} in the completions of {}", shell.get_name());
            }
        }
    }
}
