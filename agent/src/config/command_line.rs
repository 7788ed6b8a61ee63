//! Reading `AGENT_COMMAND`: a JSON array, or words with quotes. No shell, no expansion, no globbing.

/// Program and arguments; `None` if there is no program, a quote is open, or a NUL byte is in it.
pub(super) fn parse(text: &str) -> Option<Vec<String>> {
    let trimmed = text.trim();
    let argv: Vec<String> =
        if trimmed.starts_with('[') { serde_json::from_str(trimmed).ok()? } else { words(trimmed)? };
    let usable = argv.first().is_some_and(|program| !program.is_empty())
        && argv.iter().all(|word| !word.contains('\0'));
    usable.then_some(argv)
}

/// Splits at white space. Single quotes keep everything, double quotes know `\"` and `\\`, outside of quotes a
/// backslash keeps the next character.
fn words(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some('"'), '\\') if matches!(chars.peek(), Some('"' | '\\')) => {
                word.get_or_insert_default().extend(chars.next());
            }
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '\\') => word.get_or_insert_default().push(chars.next()?),
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (Some(_) | None, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

#[cfg(test)]
mod tests {
    use super::parse;

    fn argv(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn a_json_array_is_taken_as_it_is() {
        assert_eq!(parse(r#" ["sh", "-c", "cat; exit 3"] "#), Some(argv(&["sh", "-c", "cat; exit 3"])));
    }

    #[test]
    fn a_command_line_is_split_at_spaces_outside_of_quotes() {
        assert_eq!(parse(r"python3 -u agent.py"), Some(argv(&["python3", "-u", "agent.py"])));
        assert_eq!(
            parse(r#"sh -c 'echo "hi" $X' "a \"b\"" c\ d "" "#),
            Some(argv(&["sh", "-c", r#"echo "hi" $X"#, r#"a "b""#, "c d", ""]))
        );
    }

    #[test]
    fn a_command_without_a_program_or_with_an_open_quote_is_refused() {
        for bad in ["", "   ", "[]", r#"[""]"#, r#"["a", 1]"#, "['a']", "sh -c 'x", "sh \\", "a\0b"] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }
}
