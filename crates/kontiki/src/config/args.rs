//! Every key as a flag.

use clap::{Arg, ArgAction, ArgMatches, Args, Command, Error, FromArgMatches};

use super::keys::{Config, Key, SECTIONS, keys};
use super::value::Value;
use super::{ConfigError, value};

/// Keys that the program has as flags of its own, for every command.
const ELSEWHERE: [&str; 2] = ["log_level", "log_format"];

/// The flags that were given, for `#[command(flatten)]`.
#[derive(Clone, Debug, Default)]
pub(crate) struct ConfigArgs(Vec<(&'static str, Vec<String>)>);

impl ConfigArgs {
    /// Flags as if given.
    #[cfg(test)]
    pub(crate) fn with(mut self, field: &'static str, text: impl Into<String>) -> Self {
        self.0.push((field, vec![text.into()]));
        self
    }

    pub(super) fn apply(&self, config: &mut Config) -> Result<(), ConfigError> {
        for (field, texts) in &self.0 {
            let Some(key) = keys().find(|key| key.field == *field) else { continue };
            let place = format!("--{}", key.name);
            config.set(key, &value_of(key, texts), &place)?;
        }
        Ok(())
    }
}

fn value_of(key: &Key, texts: &[String]) -> value::Value {
    match texts {
        _ if key.repeated => Value::List(texts.iter().cloned().map(Value::Loose).collect()),
        [.., text] => Value::Loose(text.clone()),
        [] => Value::Boolean(true),
    }
}

impl Args for ConfigArgs {
    fn augment_args(mut command: Command) -> Command {
        for section in SECTIONS {
            for key in section.keys.iter().filter(|key| !ELSEWHERE.contains(&key.field)) {
                command = command.arg(argument(key, section.title));
            }
        }
        command
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

fn argument(key: &'static Key, section: &'static str) -> Arg {
    let defaults = Config::default();
    let default = (key.show)(&defaults).filter(|_| key.placeholder.is_some());
    let help = match default {
        Some(default) => format!("{} [default: {}]", key.meaning(), default.trim_matches('"')),
        None => key.meaning(),
    };
    let argument = Arg::new(key.field).long(key.name).help(help).help_heading(section);
    match key.placeholder {
        // `--insecure` alone, or `--insecure=false` against a file that says otherwise.
        None => argument
            .action(ArgAction::Append)
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .value_name("BOOL")
            .hide_possible_values(true),
        Some(name) => argument.action(ArgAction::Append).value_name(name),
    }
}

impl FromArgMatches for ConfigArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let given = keys().filter(|key| !ELSEWHERE.contains(&key.field)).filter_map(|key| {
            let texts = matches.get_many::<String>(key.field)?;
            Some((key.field, texts.cloned().collect()))
        });
        Ok(Self(given.collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
