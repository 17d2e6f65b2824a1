//! The three standard streams and the clock of one run. Commands use nothing else of the process, so that tests can replace it.

use std::io::{Read, Write};

/// The streams and the time of one run.
pub struct Console<'a> {
    pub input: &'a mut dyn Read,
    pub out: &'a mut dyn Write,
    pub err: &'a mut dyn Write,
    /// Whether standard output may hold the escape sequences of colours.
    pub colour: bool,
    /// Seconds since 1970-01-01T00:00:00Z.
    pub now: u64,
}

/// A console that keeps what is written, for tests.
#[cfg(test)]
#[derive(Default)]
pub struct Capture {
    input: Vec<u8>,
    out: Vec<u8>,
    err: Vec<u8>,
}

#[cfg(test)]
impl Capture {
    /// The time every captured run happens at.
    pub const NOW: u64 = 1_790_000_000;

    /// A console with this to read on standard input.
    pub fn reading(input: impl Into<Vec<u8>>) -> Self {
        Self { input: input.into(), ..Self::default() }
    }

    /// Runs `taskfence` with these arguments and forgets what earlier runs wrote.
    pub fn run(&mut self, args: &[&str]) -> crate::Exit {
        self.out.clear();
        self.err.clear();
        let mut console = Console {
            input: &mut self.input.as_slice(),
            out: &mut self.out,
            err: &mut self.err,
            colour: false,
            now: Self::NOW,
        };
        crate::run(std::iter::once("taskfence").chain(args.iter().copied()).map(Into::into), &mut console)
    }

    /// What was written to standard output.
    pub fn out(&self) -> &str {
        std::str::from_utf8(&self.out).unwrap()
    }

    /// What was written to standard error.
    pub fn err(&self) -> &str {
        std::str::from_utf8(&self.err).unwrap()
    }
}
