//! The TOML file.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::ConfigError;
use super::keys::{Config, keys};
use super::value::Value;

/// Applies a file to the settings. `name` stands in errors, before the line.
pub(super) fn apply(config: &mut Config, name: &str, text: &str) -> Result<(), ConfigError> {
    let place = |offset: usize| format!("{name}:{}", line_of(text, offset));
    let table = DeTable::parse(text).map_err(|error| {
        let offset = error.span().map_or(0, |span| span.start);
        ConfigError::new(place(offset), error.message().to_owned())
    })?;
    let mut entries: Vec<_> = table.get_ref().iter().collect();
    // By position, so that the first mistake in the file is the one reported.
    entries.sort_by_key(|(key, _)| key.span().start);
    for (written, value) in entries {
        let place = place(written.span().start);
        let written = written.get_ref().as_ref();
        let Some(key) = keys().find(|key| key.name == written) else {
            return Err(unknown(place, written, value.get_ref()));
        };
        (key.set)(config, &value_of(value))
            .map_err(|problem| ConfigError::new(place, format!("{written}: {problem}")))?;
    }
    Ok(())
}

fn value_of(value: &Spanned<DeValue<'_>>) -> Value {
    match value.get_ref() {
        DeValue::String(text) => Value::Text(text.clone().into_owned()),
        DeValue::Boolean(truth) => Value::Boolean(*truth),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or(Value::Other("number beyond 64 bits"), Value::Integer),
        DeValue::Array(values) => Value::List(values.iter().map(value_of).collect()),
        other => Value::Other(other.type_str()),
    }
}

fn unknown(place: String, written: &str, value: &DeValue<'_>) -> ConfigError {
    let error = ConfigError::new(place, format!("unknown key `{written}`"));
    match suggestion(written) {
        Some(key) => error.hint(format!("did you mean `{key}`?")),
        None if value.is_table() => error.hint("there are no sections: all keys stand at the top"),
        None => error.hint("`kontiki config --defaults` prints all keys"),
    }
}

/// The key that was probably meant.
fn suggestion(written: &str) -> Option<&'static str> {
    let written = written.replace('_', "-").to_ascii_lowercase();
    let allowed = (written.chars().count() / 3).max(1);
    keys()
        .map(|key| (distance(&written, key.name), key.name))
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, name)| name)
}

/// How many letters must be inserted, removed, replaced or swapped with their neighbour.
fn distance(from: &str, to: &str) -> usize {
    let (from, to): (Vec<_>, Vec<_>) = (from.chars().collect(), to.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=to.len()).collect();
    for (row, letter) in from.iter().enumerate() {
        let mut this = vec![row + 1];
        for (column, other) in to.iter().enumerate() {
            let replaced = last[column] + usize::from(letter != other);
            let mut least = replaced.min(last[column + 1] + 1).min(this[column] + 1);
            let swapped =
                row > 0 && column > 0 && *letter == to[column - 1] && from[row - 1] == *other;
            if swapped {
                least = least.min(before[column - 1] + 1);
            }
            this.push(least);
        }
        before = std::mem::replace(&mut last, this);
    }
    last[to.len()]
}

/// Number of the line in which the byte at `offset` stands, from 1.
fn line_of(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}
