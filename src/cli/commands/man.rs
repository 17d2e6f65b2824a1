//! `taskfence man`: the manual pages, made from the same texts as `--help`.

use std::path::PathBuf;

use clap::{Args, Command};

use crate::failure::Failure;
use crate::input::file::{self, Access, Existing};
use crate::terminal::console::Console;
use crate::terminal::exit::Exit;

/// Print the manual page, or write the pages of every command
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  taskfence man | man -l -
  taskfence man --out /usr/local/share/man/man1")]
pub struct Man {
    /// Write a page for each command into this folder, and replace those that are there
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

impl Man {
    /// Runs the command.
    pub fn run(&self, console: &mut Console<'_>) -> Result<Exit, Failure> {
        let mut command = crate::command().disable_help_subcommand(true);
        // Gives every command its full name.
        command.build();
        let Some(folder) = &self.out else {
            console.out.write_all(page(&command)?.text.as_bytes())?;
            return Ok(Exit::Done);
        };
        let pages = pages(&command)?;
        for Page { name, text } in &pages {
            file::write(&folder.join(name), text, Access::Everyone, Existing::Replace)?;
        }
        for Page { name, .. } in &pages {
            writeln!(console.out, "wrote {}", folder.join(name).display())?;
        }
        Ok(Exit::Done)
    }
}

struct Page {
    name: String,
    text: String,
}

/// The pages of `command` and of all below it.
fn pages(command: &Command) -> Result<Vec<Page>, Failure> {
    let mut all = vec![page(command)?];
    for inner in command.get_subcommands() {
        all.extend(pages(inner)?);
    }
    Ok(all)
}

fn page(command: &Command) -> Result<Page, Failure> {
    let man = clap_mangen::Man::new(command.clone()).manual("Taskfence");
    let mut text = Vec::new();
    man.render(&mut text)?;
    Ok(Page { name: man.get_filename(), text: String::from_utf8_lossy(&text).into_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::terminal::console::Capture;
    use std::fs;

    #[test]
    fn there_is_a_page_for_every_command() {
        let folder = tempfile::tempdir().unwrap();
        let mut capture = Capture::default();
        assert_eq!(capture.run(&["man", "--out", folder.path().to_str().unwrap()]), Exit::Done, "{}", capture.err());
        let text = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        assert!(text("taskfence.1").contains(".TH taskfence 1"), "{}", text("taskfence.1"));
        for (page, word) in [("taskfence-signal-revoke.1", "subject\\-issuer"), ("taskfence-explain.1", "break_glass")]
        {
            assert!(text(page).contains(word), "{word} in {page}: {}", text(page));
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), capture.out().lines().count());

        assert_eq!(capture.run(&["man"]), Exit::Done, "{}", capture.err());
        assert_eq!(capture.out(), text("taskfence.1"));
        assert_eq!(capture.run(&["man", "--out", "/nonexistent"]), Exit::Failed);
    }
}
