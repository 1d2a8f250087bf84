//! Running text in lines of a given width.

use super::look::harmless;

/// `text` in lines of at most `width` columns, the first after `first`, the others after `next`. A word that is too
/// long (an IPv6 address on a narrow terminal) gets a line of its own. Ends with a newline.
pub fn wrap(text: &str, width: usize, first: &str, next: &str) -> String {
    let text = harmless(&text.replace('\n', " "));
    let mut out = String::new();
    let mut column = 0;
    let mut lead = first;
    for word in words(&text) {
        let length = word.chars().count();
        if column > 0 && column + 1 + length > width {
            out.push('\n');
            column = 0;
            lead = next;
        }
        if column == 0 {
            out.push_str(lead);
            column = lead.chars().count();
        } else {
            out.push(' ');
            column += 1;
        }
        out.push_str(&word);
        column += length;
    }
    out.push('\n');
    out
}

/// Words; a number and its unit are one, because they are read together.
fn words(text: &str) -> Vec<String> {
    const UNITS: [&str; 15] =
        ["ns", "us", "µs", "ms", "s", "min", "h", "d", "B", "KiB", "MiB", "GiB", "TiB", "%", "bytes"];
    let mut out: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        let unit = word.trim_end_matches(|c: char| ".,;:)".contains(c));
        match out.last_mut() {
            Some(last) if UNITS.contains(&unit) && last.ends_with(|c: char| c.is_ascii_digit()) => {
                last.push(' ');
                last.push_str(word);
            }
            _ => out.push(word.to_owned()),
        }
    }
    out
}

/// Both first and later lines after the same indent.
pub fn paragraph(text: &str, width: usize, indent: &str) -> String {
    wrap(text, width, indent, indent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_stay_within_the_width_and_later_ones_hang() {
        assert_eq!(wrap("one two three four", 11, "- ", "  "), "- one two\n  three\n  four\n");
    }

    #[test]
    fn a_number_stays_with_its_unit() {
        assert_eq!(paragraph("it took 4.8 s; then more", 11, ""), "it took\n4.8 s; then\nmore\n");
    }

    #[test]
    fn a_word_longer_than_the_line_is_not_cut() {
        assert_eq!(paragraph("a bcdefghijkl m", 6, ""), "a\nbcdefghijkl\nm\n");
    }
}
