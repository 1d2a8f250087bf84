//! Width, colours and time zone of text output.

use anstyle::{AnsiColor, Style};
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Where there is no terminal, and the most on one: longer lines are hard to read.
const COMFORTABLE: usize = 100;
const NARROWEST: usize = 40;

#[derive(Clone, Debug)]
pub struct Look {
    /// Columns for running text.
    pub width: usize,
    pub colour: bool,
    pub zone: TimeZone,
}

/// What a piece of text is, for its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    Heading,
    /// A fault.
    Bad,
    /// Needs a look.
    Warn,
    Good,
    /// Secondary.
    Dim,
    Name,
}

impl Look {
    /// For standard output as it is.
    pub fn of_stdout() -> Look {
        let columns = terminal_size::terminal_size_of(std::io::stdout()).map(|(w, _)| usize::from(w.0));
        Look {
            width: columns.unwrap_or(COMFORTABLE).clamp(NARROWEST, COMFORTABLE),
            colour: anstream::AutoStream::choice(&std::io::stdout()) != anstream::ColorChoice::Never,
            zone: TimeZone::system(),
        }
    }

    /// For tests: 100 columns, no colours, UTC.
    pub fn plain() -> Look {
        Look { width: COMFORTABLE, colour: false, zone: TimeZone::UTC }
    }

    pub fn paint(&self, tone: Tone, text: &str) -> String {
        if !self.colour {
            return text.to_owned();
        }
        let style = match tone {
            Tone::Heading => Style::new().bold(),
            Tone::Bad => AnsiColor::Red.on_default().bold(),
            Tone::Warn => AnsiColor::Yellow.on_default(),
            Tone::Good => AnsiColor::Green.on_default(),
            Tone::Dim => Style::new().dimmed(),
            Tone::Name => AnsiColor::Cyan.on_default(),
        };
        format!("{style}{text}{style:#}")
    }

    /// Local time to the millisecond.
    pub fn time(&self, ns: u64) -> String {
        match Timestamp::from_nanosecond(i128::from(ns)) {
            Ok(t) => t.to_zoned(self.zone.clone()).strftime("%Y-%m-%d %H:%M:%S%.3f").to_string(),
            Err(_) => format!("{ns} ns"),
        }
    }
}

/// Text from elsewhere (process names, file names, an agent's answer) cannot steer the terminal.
pub fn harmless(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_of_foreign_text_do_not_reach_the_terminal() {
        assert_eq!(harmless("a\x1b[31mb\nc"), "a\u{fffd}[31mb\u{fffd}c");
    }

    #[test]
    fn colours_appear_only_where_they_are_wanted() {
        assert_eq!(Look::plain().paint(Tone::Bad, "x"), "x");
        let coloured = Look { colour: true, ..Look::plain() }.paint(Tone::Bad, "x");
        assert!(coloured.starts_with("\x1b[") && coloured.ends_with("\x1b[0m"), "{coloured:?}");
    }
}
