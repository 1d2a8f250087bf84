//! The report's tables in the project's documents, between two marks.

use anyhow::{Context, Result};
use std::path::Path;

const BEGIN: &str = "<!-- written by `cargo xtask bench -- --write-docs` -->";
const END: &str = "<!-- end -->";

/// Replaces what lies between the marks of a file.
pub fn write(path: &Path, text: &str) -> Result<()> {
    let old = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let new = replaced(&old, text).with_context(|| format!("{} has no place for the tables", path.display()))?;
    std::fs::write(path, new).with_context(|| format!("cannot write {}", path.display()))
}

fn replaced(old: &str, text: &str) -> Option<String> {
    let (before, rest) = old.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n\n{}\n\n{END}{after}", text.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_marks_is_replaced() {
        let old = format!("a\n{BEGIN}\nold\n{END}\nb\n");
        let new = replaced(&old, "| new |\n").unwrap();
        assert_eq!(new, format!("a\n{BEGIN}\n\n| new |\n\n{END}\nb\n"));
        assert_eq!(replaced(&new, "| new |\n").unwrap(), new);
        assert!(replaced("no marks", "x").is_none());
    }

    #[test]
    fn the_documents_have_their_marks() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        for file in crate::DOCUMENTS {
            let text = std::fs::read_to_string(root.join(file)).unwrap();
            assert!(replaced(&text, "").is_some(), "{file}");
        }
    }
}
