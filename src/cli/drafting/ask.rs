//! Questions to whoever runs the command, when an option is missing.

use crate::failure::Failure;
use crate::terminal::console::Console;

/// The longest answer, in bytes.
const MAX_ANSWER: usize = 64 * 1024;

/// Asks `question` and reads one line. An empty answer is `None`.
pub fn line(question: &str, console: &mut Console<'_>) -> Result<Option<String>, Failure> {
    write!(console.err, "{question} ")?;
    console.err.flush()?;
    let mut answer = Vec::new();
    // Bytes after the line belong to the next question.
    let mut byte = [0];
    while answer.len() < MAX_ANSWER && console.input.read(&mut byte)? == 1 && byte != *b"\n" {
        answer.extend(byte);
    }
    let answer = String::from_utf8(answer).map_err(|_| Failure::Usage("the answer is not UTF-8".to_owned()))?;
    let answer = answer.trim();
    Ok(if answer.is_empty() { None } else { Some(answer.to_owned()) })
}

/// The same for an answer that there must be. `option` is what can be written instead on the command line.
pub fn needed(question: &str, option: &str, console: &mut Console<'_>) -> Result<String, Failure> {
    line(question, console)?.ok_or_else(|| Failure::Usage(format!("nothing was answered; give {option}")))
}

/// Asks until an answer is empty.
pub fn lines(question: &str, console: &mut Console<'_>) -> Result<Vec<String>, Failure> {
    let mut answers = Vec::new();
    let mut question = question;
    while let Some(answer) = line(question, console)? {
        answers.push(answer);
        question = "another, or an empty line:";
    }
    Ok(answers)
}
