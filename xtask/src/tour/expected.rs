//! Comparing what was printed with what the README shows.

use crate::Outcome;

/// Whether `printed` is what `wanted` shows: `...` within a line stands for any text, a line that is `...` alone for
/// any lines. White space at the ends of lines does not count, nor do blank lines at the end.
pub(super) fn matches(wanted: &str, printed: &str) -> Outcome {
    let wanted: Vec<&str> = wanted.trim_end().lines().map(str::trim_end).collect();
    let got: Vec<&str> = printed.trim_end().lines().map(str::trim_end).collect();
    if lines_match(&wanted, &got) {
        return Ok(());
    }
    let first = wanted.iter().zip(&got).find(|(want, have)| !line_matches(want, have));
    let hint = match first {
        Some((want, have)) => format!("expected `{want}`, got `{have}`"),
        None => format!("expected {} lines, got {}", wanted.len(), got.len()),
    };
    Err(format!("the output differs: {hint}\n--- printed\n{printed}"))
}

fn lines_match(wanted: &[&str], got: &[&str]) -> bool {
    match (wanted, got) {
        ([], []) => true,
        (["...", rest @ ..], got) => (0..=got.len()).any(|skip| lines_match(rest, &got[skip..])),
        ([want, rest @ ..], [have, more @ ..]) => line_matches(want, have) && lines_match(rest, more),
        _ => false,
    }
}

fn line_matches(want: &str, have: &str) -> bool {
    let pieces: Vec<&str> = want.split("...").collect();
    let [first, middle @ .., last] = pieces.as_slice() else { return want == have };
    let Some(mut rest) = have.strip_prefix(first) else { return false };
    for piece in middle {
        let Some(at) = rest.find(piece) else { return false };
        rest = &rest[at + piece.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_stand_for_anything() {
        assert!(matches("a ... c\n...\nend", "a b c\n1\n2\nend  \n\n").is_ok());
        assert!(matches("a\n...", "a").is_ok());
        assert!(matches("x...y...z", "x1y2z").is_ok());
        assert!(matches("x...y", "x1z").is_err());
        assert!(matches("a\nb", "a").is_err());
        assert!(matches("a", "a\nb").is_err());
        assert!(matches("same", "same").is_ok());
    }
}
