//! What is said of a key or a value that serde refuses, in the words of a settings file.

/// The least similarity at which a word is suggested as the one that was meant; 1 is equality.
const ALIKE: f64 = 0.8;

/// What serde says is wrong.
pub(super) enum Refused<'a> {
    /// There is no such key; these are the keys of its table.
    Key(Vec<&'a str>),
    /// There is no such word; these are the words.
    Word(&'a str, Vec<&'a str>),
    /// Anything else, in words for users.
    Other(String),
}

/// Reads serde's message.
pub(super) fn refused(message: &str) -> Refused<'_> {
    let mut words = message.split('`').skip(1).step_by(2);
    if message.starts_with("unknown field") {
        Refused::Key(words.skip(1).collect())
    } else if message.starts_with("unknown variant") {
        let word = words.next().unwrap_or_default();
        Refused::Word(word, words.collect())
    } else {
        Refused::Other(reworded(message))
    }
}

/// Rewords serde's message about a value of another type, or out of the range of its type.
fn reworded(message: &str) -> String {
    let message = message.trim_end().replace('\n', " ");
    let wrong = ["invalid type: ", "invalid value: "].iter().find_map(|start| message.strip_prefix(start));
    let Some((found, expected)) = wrong.and_then(|wrong| wrong.rsplit_once(", expected ")) else { return message };
    let expected = match expected {
        "a duration" => "a time with its unit, such as `20ms` or `7days`",
        "usize" | "u64" => "a whole number, 0 or more",
        "u32" => "a whole number from 0 to 4294967295",
        "f64" | "f32" => "a number",
        "a string" | "path string" => "a text in quotation marks",
        "a boolean" => "`true` or `false`",
        "a sequence" => "a list in brackets",
        "a map" => "a table",
        expected if expected.starts_with("struct ") => "a table",
        expected => expected,
    };
    format!("it is {found}, and has to be {expected}")
}

/// Suggests the word that was most likely meant, or else lists those that there are.
pub(super) fn hint<'a>(word: &str, known: &[&'a str]) -> (String, Option<&'a str>) {
    match meant(word, known.iter().copied()) {
        Some(meant) => (format!(": did you mean `{meant}`?"), Some(meant)),
        None if known.is_empty() => (", nor any other".into(), None),
        None => (format!("; there are: {}", known.join(", ")), None),
    }
}

fn meant<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let likeness = |known: &&str| strsim::jaro_winkler(word, known);
    let alike = known.into_iter().filter(|known| likeness(known) >= ALIKE);
    alike.max_by(|one, other| likeness(one).total_cmp(&likeness(other)))
}
