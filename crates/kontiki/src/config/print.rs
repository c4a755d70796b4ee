//! The settings for people: a commented file, and the page of the documentation.

use super::keys::{Config, Key, SECTIONS};

/// A file with every key, its meaning and its default; everything is commented out.
pub(crate) fn defaults_toml() -> String {
    let defaults = Config::default();
    let mut text = "\
# Settings of a Kontiki node. Every key is here with its default, or with an example where there
# is none; remove the `#` before the key to change it. Environment variables (`memory` is
# KONTIKI_MEMORY) override this file, and flags (--memory) override both.
# Sizes: \"64KiB\", \"256MiB\", \"2GiB\". Times: \"150ms\", \"5s\", \"2m\".
"
    .to_owned();
    for section in SECTIONS {
        text += &format!("\n# == {} ==\n", section.title);
        for key in section.keys {
            text += "\n";
            for line in key.doc {
                text += &format!("# {}\n", line.trim());
            }
            text += &format!("#{} = {}\n", key.name, default_or_example(key, &defaults).0);
        }
    }
    text
}

/// The default as TOML and `true`, or an example and `false`.
fn default_or_example(key: &Key, defaults: &Config) -> (String, bool) {
    match (key.show)(defaults) {
        Some(default) => (default, true),
        None => (key.example.to_owned(), false),
    }
}

/// The page `docs/configuration.md`.
#[cfg(test)]
pub(crate) fn reference_markdown() -> String {
    let defaults = Config::default();
    let mut text = "\
# Configuration

`kontiki node` takes its settings from a TOML file (`--config FILE`), from the environment and from
flags. A key has the same name in all three: `memory = \"512MiB\"` in the file,
`KONTIKI_MEMORY=512MiB` in the environment, `--memory 512MiB` as a flag. Flags override the
environment, which overrides the file. `kontiki up --config FILE` gives the file to all its nodes.

`kontiki config --defaults` prints a commented file with every key. An unknown key is an error that
names the line and the key that was probably meant.

Sizes are text with a unit (`\"64KiB\"`, `\"256MiB\"`, `\"2GiB\"`) or a number of bytes, times are text with
a unit (`\"150ms\"`, `\"5s\"`, `\"2m\"`). What happens beyond a limit is in [limits.md](limits.md).

This page is generated from the keys themselves; a test keeps it equal to them.
"
    .to_owned();
    for section in SECTIONS {
        text += &format!("\n## {}\n\n| key | default | meaning |\n|---|---|---|\n", section.title);
        for key in section.keys {
            let (value, is_default) = default_or_example(key, &defaults);
            let default = match is_default {
                true => format!("`{value}`"),
                false => format!("none; such as `{value}`"),
            };
            text += &format!("| `{}` | {default} | {} |\n", key.name, key.meaning());
        }
    }
    text
}
