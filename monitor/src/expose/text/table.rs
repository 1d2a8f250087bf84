//! Columns.

use super::look::{Look, Tone, harmless};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    Left,
    Right,
}

/// Cells with an optional tone; the widths are those of the widest.
pub struct Table {
    head: Vec<(&'static str, Align)>,
    rows: Vec<Vec<(String, Option<Tone>)>>,
}

impl Table {
    pub fn new(head: &[(&'static str, Align)]) -> Table {
        Table { head: head.to_vec(), rows: Vec::new() }
    }

    pub fn row(&mut self, cells: Vec<(String, Option<Tone>)>) {
        self.rows.push(cells.into_iter().map(|(text, tone)| (harmless(&text), tone)).collect());
    }

    pub fn render(&self, look: &Look) -> String {
        let widths: Vec<usize> = (0..self.head.len())
            .map(|i| {
                let cells = self.rows.iter().filter_map(|r| r.get(i)).map(|(text, _)| text.chars().count());
                cells.max().unwrap_or(0).max(self.head[i].0.len())
            })
            .collect();
        let head: Vec<_> = self.head.iter().map(|(name, _)| ((*name).to_owned(), Some(Tone::Heading))).collect();
        let mut out = String::new();
        if head.iter().any(|(name, _)| !name.is_empty()) {
            self.line(&mut out, &head, &widths, look);
        }
        for row in &self.rows {
            self.line(&mut out, row, &widths, look);
        }
        out
    }

    fn line(&self, out: &mut String, cells: &[(String, Option<Tone>)], widths: &[usize], look: &Look) {
        let mut line = String::new();
        for (i, (text, tone)) in cells.iter().enumerate() {
            let padding = " ".repeat(widths[i].saturating_sub(text.chars().count()));
            // Padding is outside of the colours, or it would be counted and underlined with them.
            let text = tone.map_or_else(|| text.clone(), |t| look.paint(t, text));
            match self.head[i].1 {
                Align::Left => line.push_str(&(text + &padding)),
                Align::Right => line.push_str(&(padding + &text)),
            }
            line.push_str("  ");
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
}
