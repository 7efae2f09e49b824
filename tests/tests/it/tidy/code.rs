//! Just enough of Rust's lexis to tell code from comments and literals.

/// `text` with comments and the contents of literals replaced by blanks, line for line.
pub(crate) fn blank(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = skipped(rest, out.chars().next_back());
        if length == 0 {
            out.push(first);
            rest = &rest[first.len_utf8()..];
        } else {
            out.extend(
                rest[..length]
                    .chars()
                    .map(|c| if c == '\n' { c } else { ' ' }),
            );
            rest = &rest[length..];
        }
    }
    out
}

/// Bytes of the comment or literal at the beginning of `rest`, or zero.
fn skipped(rest: &str, before: Option<char>) -> usize {
    let in_word = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return rest.find("*/").map_or(rest.len(), |end| end + 2);
    }
    if rest.starts_with('"') {
        return quoted(rest);
    }
    if !in_word && (rest.starts_with("r\"") || rest.starts_with("r#") || rest.starts_with("br")) {
        return raw(rest);
    }
    if rest.starts_with('\'') {
        character(rest)
    } else {
        0
    }
}

fn quoted(rest: &str) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

fn raw(rest: &str) -> usize {
    let opening = rest.trim_start_matches('b').trim_start_matches('r');
    let hashes = opening.len() - opening.trim_start_matches('#').len();
    if !opening[hashes..].starts_with('"') {
        return 0;
    }
    let end = format!("\"{}", "#".repeat(hashes));
    let start = rest.len() - opening.len() + hashes + 1;
    rest[start..]
        .find(&end)
        .map_or(rest.len(), |at| start + at + end.len())
}

/// A character literal; a lifetime is none.
fn character(rest: &str) -> usize {
    let mut chars = rest.char_indices().skip(1);
    match (chars.next(), chars.next()) {
        (Some((_, '\\')), Some(_)) => chars.find(|(_, c)| *c == '\'').map_or(0, |(at, _)| at + 1),
        (Some(_), Some((at, '\''))) => at + 1,
        _ => 0,
    }
}

/// Identifiers and keywords of a line.
pub(crate) fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !c.is_alphanumeric() && c != '_')
        .filter(|word| !word.is_empty())
}

/// What may stand before `fn` in a definition; before a function pointer stands something else.
const QUALIFIERS: [&str; 8] = [
    "pub", "crate", "super", "const", "async", "unsafe", "extern", "default",
];

/// Every function of blanked, formatted code: line of its signature, name, and lines of its body
/// that are neither empty nor mere comment.
pub(crate) fn functions(code: &str) -> Vec<(usize, String, usize)> {
    let lines: Vec<&str> = code.lines().collect();
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let mut words = words(line).skip_while(|word| QUALIFIERS.contains(word));
        let (Some("fn"), Some(name)) = (words.next(), words.next()) else {
            continue;
        };
        let indent = line.len() - line.trim_start().len();
        let end = lines[start..].iter().position(|l| closes(l, indent));
        let item = &lines[start..=end.map_or(lines.len() - 1, |end| start + end)];
        let opening = item.iter().position(|l| l.trim_end().ends_with('{'));
        let body = opening.map_or(item, |at| &item[at + 1..item.len() - 1]);
        let length = body.iter().filter(|l| !l.trim().is_empty()).count();
        found.push((start + 1, name.to_owned(), length));
    }
    found
}

/// Whether a line ends an item that began at this indentation.
fn closes(line: &str, indent: usize) -> bool {
    let depth = line.len() - line.trim_start().len();
    let ending = line.trim_end();
    depth == indent && (ending.ends_with('}') || ending.ends_with(';'))
}

#[test]
fn comments_and_literals_are_blanked() {
    let text =
        "let a = \"un\\\"safe\"; // unsafe\nlet b = 'x'; let c: &'static str = r#\"fn \"\"#;";
    let code = blank(text);
    assert_eq!(code.lines().count(), 2);
    assert!(
        !code.contains("safe") && !code.contains("fn") && !code.contains("'x'"),
        "{code}"
    );
    assert!(code.contains("&'static str = "), "{code}");
}

#[test]
fn functions_are_measured() {
    let code = "impl A {\n    fn one() -> u8 {\n        1\n    }\n\n    fn two(\n        a: u8,\n    \
                ) -> u8 {\n        a\n    }\n    fn three();\n}\n";
    let lengths: Vec<usize> = functions(code)
        .into_iter()
        .map(|(_, _, length)| length)
        .collect();
    assert_eq!(lengths, [1, 1, 1]);
}
