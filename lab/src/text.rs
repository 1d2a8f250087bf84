//! Text for people: at most 100 columns, and colour only where it is wanted.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write};

const COLUMNS: usize = 100;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    Plain,
    Heading,
    Good,
    Bad,
    Dim,
}

/// Standard output as a page.
pub struct Page {
    colour: bool,
}

impl Page {
    /// For standard output as it is; `NO_COLOR` (no-color.org) is respected.
    pub fn of_stdout() -> Self {
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let forced = set("CLICOLOR_FORCE");
        Self { colour: !set("NO_COLOR") && (forced || (std::io::stdout().is_terminal() && !dumb)) }
    }

    /// Whether programs whose output we pass on should use colour.
    pub fn colour(&self) -> bool {
        self.colour
    }

    /// A reader who has seen enough and closed the pipe is no reason to stop half-way.
    pub fn line(&self, text: &str) {
        let mut out = std::io::stdout();
        let _ = writeln!(out, "{text}").and_then(|()| out.flush());
    }

    pub fn blank(&self) {
        self.line("");
    }

    pub fn paint(&self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Plain => return text.to_owned(),
            _ if !self.colour => return text.to_owned(),
            Tone::Heading => "1",
            Tone::Good => "32",
            Tone::Bad => "1;31",
            Tone::Dim => "2",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }

    pub fn heading(&self, text: &str) {
        self.line(&self.paint(Tone::Heading, text));
    }

    /// Wrapped, every line indented.
    pub fn paragraph(&self, indent: usize, text: &str) {
        self.item(&" ".repeat(indent), text);
    }

    /// Wrapped behind a label; further lines stand below the text.
    pub fn item(&self, label: &str, text: &str) {
        self.line(&hanging(label, text));
    }

    /// The same with a label in colour.
    pub fn judged(&self, tone: Tone, label: &str, text: &str) {
        let text = hanging(label, text);
        let rest = text.strip_prefix(label).unwrap_or_default();
        self.line(&format!("{}{rest}", self.paint(tone, label)));
    }

    /// Sets apart what follows.
    pub fn rule(&self) {
        self.line(&self.paint(Tone::Dim, &"\u{2500}".repeat(COLUMNS)));
    }

    /// What another program printed, as it is.
    pub fn quote(&self, text: &str) {
        for line in text.trim_end().lines() {
            self.line(line);
        }
    }
}

fn hanging(label: &str, text: &str) -> String {
    let indent = label.chars().count();
    let mut out = label.to_owned();
    let mut column = indent;
    for word in text.split_whitespace() {
        let len = word.chars().count();
        if column > indent && column + 1 + len > COLUMNS {
            let _ = write!(out, "\n{:indent$}", "");
            column = indent;
        }
        if column > indent {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += len;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_text_is_wrapped_below_its_start() {
        let text = "word ".repeat(40);
        let lines = hanging("   1.000 s  ", &text);
        assert!(lines.lines().count() > 1);
        for line in lines.lines() {
            assert!(line.chars().count() <= COLUMNS, "{line}");
        }
        assert!(lines.lines().nth(1).unwrap().starts_with("            word"));
    }

    #[test]
    fn a_word_longer_than_the_page_stays_whole() {
        let word = "x".repeat(120);
        assert_eq!(hanging("  ", &word), format!("  {word}"));
    }

    #[test]
    fn no_colour_means_no_escapes() {
        let plain = Page { colour: false };
        assert_eq!(plain.paint(Tone::Bad, "x"), "x");
        assert_eq!(Page { colour: true }.paint(Tone::Good, "x"), "\x1b[32mx\x1b[0m");
    }
}
