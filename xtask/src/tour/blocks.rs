//! The blocks of a Markdown file that belong to the tour.

use crate::Outcome;

/// One block of commands, with what they print if the file says so.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Block {
    /// The line of the file where the block opens, from 1.
    pub(super) at: usize,
    /// The commands; one that goes on over several lines is one of them.
    pub(super) lines: Vec<String>,
    /// What the last one's exit code should be.
    pub(super) exit: i32,
    /// What they print on stdout.
    pub(super) output: Option<String>,
}

pub(super) fn of(markdown: &str) -> Outcome<Vec<Block>> {
    let mut blocks: Vec<Block> = Vec::new();
    // Whether only blank lines lie between here and the last block of the tour.
    let mut follows = false;
    let mut lines = (1..).zip(markdown.lines());
    while let Some((at, line)) = lines.next() {
        let Some(info) = line.trim_start().strip_prefix("```") else {
            follows &= line.trim().is_empty();
            continue;
        };
        let mut body = Vec::new();
        loop {
            match lines.next() {
                Some((_, line)) if line.trim() == "```" => break,
                Some((_, line)) => body.push(line),
                None => return Err(format!("README.md:{at}: the block is not closed")),
            }
        }
        let words: Vec<&str> = info.split_whitespace().collect();
        match words.as_slice() {
            ["sh", "tour", rest @ ..] => {
                let exit = match rest {
                    [] => 0,
                    [word] => word
                        .strip_prefix("exit=")
                        .and_then(|code| code.parse().ok())
                        .ok_or_else(|| format!("README.md:{at}: {word}: expected exit=CODE"))?,
                    _ => return Err(format!("README.md:{at}: expected ```sh tour [exit=CODE]")),
                };
                blocks.push(Block { at, lines: commands(&body), exit, output: None });
                follows = true;
            }
            [_, "output"] if follows => {
                if let Some(block) = blocks.last_mut() {
                    block.output = Some(body.join("\n"));
                }
                follows = false;
            }
            [_, "output"] => return Err(format!("README.md:{at}: output that follows no block of the tour")),
            _ => follows = false,
        }
    }
    Ok(blocks)
}

/// The commands of a block: blank lines and comments are left out; a trailing backslash, an open quote or an open here
/// document goes on.
fn commands(body: &[&str]) -> Vec<String> {
    let mut commands = Vec::new();
    let mut open = String::new();
    for line in body {
        if open.is_empty() && (line.trim().is_empty() || line.trim_start().starts_with('#')) {
            continue;
        }
        if !open.is_empty() {
            open.push('\n');
        }
        open.push_str(line.trim_end());
        if goes_on(&open) {
            continue;
        }
        let command = open.trim().trim_start_matches("$ ").replace("cargo run --release -- ", "nacre ");
        commands.push(command);
        open.clear();
    }
    if !open.is_empty() {
        commands.push(open);
    }
    commands
}

fn goes_on(text: &str) -> bool {
    if text.ends_with('\\') {
        return true;
    }
    if let Some(word) = here_document(text) {
        return !text.lines().skip(1).any(|line| line.trim() == word);
    }
    let mut quote = None;
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        match (quote, c) {
            (None | Some('"'), '\\') => {
                characters.next();
            }
            (None, '\'' | '"') => quote = Some(c),
            (Some(open), c) if open == c => quote = None,
            _ => {}
        }
    }
    quote.is_some()
}

/// The word that ends the here document that the first line opens.
fn here_document(text: &str) -> Option<&str> {
    let (_, after) = text.lines().next()?.split_once("<<")?;
    let word = after.trim_start_matches('-').split_whitespace().next()?.trim_matches(['\'', '"']);
    (!word.is_empty() && !word.starts_with('<')).then_some(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_marked_blocks_belong_to_the_tour() {
        let text = "# a\n```sh\nno\n```\n```sh tour\nyes\n\n# why\ncargo run --release -- get t k\n```\n\n```json output\n{}\n```\n";
        let blocks = of(text).unwrap();
        assert_eq!(blocks.len(), 1);
        assert_eq!(blocks[0].at, 5);
        assert_eq!(blocks[0].lines, ["yes", "nacre get t k"]);
        assert_eq!(blocks[0].output.as_deref(), Some("{}"));
    }

    #[test]
    fn output_must_follow_its_block() {
        assert!(of("```sh tour\na\n```\ntext between\n```text output\nb\n```\n").is_err());
        assert!(of("```sh tour exit=x\na\n```\n").is_err());
        assert!(of("```sh tour\na\n").is_err());
    }

    #[test]
    fn commands_go_on_over_lines() {
        let body = ["a \\", "  b", "python - <<'E'", "print(1)", "", "E", "echo 'x", "y'", "c"];
        assert_eq!(commands(&body), ["a \\\n  b", "python - <<'E'\nprint(1)\n\nE", "echo 'x\ny'", "c"]);
    }
}
