//! How settings of each type are read and shown.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use kontiki_node::Redirect;

/// What a source says of a setting.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    /// From the environment or a flag: text whatever is meant.
    Loose(String),
    /// A TOML string.
    Text(String),
    /// A TOML integer.
    Integer(i64),
    /// A TOML boolean.
    Boolean(bool),
    /// A TOML array, or a flag given several times.
    List(Vec<Value>),
    /// Something else of TOML, by its name.
    Other(&'static str),
}

impl Value {
    fn text(&self) -> Option<&str> {
        match self {
            Self::Loose(text) | Self::Text(text) => Some(text),
            _ => None,
        }
    }

    fn unsigned(&self) -> Option<u64> {
        match self {
            Self::Integer(number) => u64::try_from(*number).ok(),
            Self::Loose(text) => text.parse().ok(),
            _ => None,
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Loose(text) | Self::Text(text) => write!(f, "\"{text}\""),
            Self::Integer(number) => write!(f, "{number}"),
            Self::Boolean(truth) => write!(f, "{truth}"),
            Self::List(_) => f.write_str("a list"),
            Self::Other(kind) => write!(f, "a {kind}"),
        }
    }
}

/// A type that settings have.
pub(super) trait Setting: Sized {
    /// What stands for the value in `--flag VALUE`; `None`: the flag alone says it.
    const PLACEHOLDER: Option<&'static str>;
    /// Whether a flag may be given several times.
    const REPEATED: bool = false;

    /// The setting, or what is wrong with the value.
    fn read(value: &Value) -> Result<Self, String>;

    /// As TOML; `None` if there is nothing.
    fn shown(&self) -> Option<String>;
}

fn wrong(expected: &str, value: &Value) -> String {
    format!("expected {expected}, not {value}")
}

/// A TOML string.
fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

impl<T: Setting> Setting for Option<T> {
    const PLACEHOLDER: Option<&'static str> = T::PLACEHOLDER;

    fn read(value: &Value) -> Result<Self, String> {
        T::read(value).map(Some)
    }

    fn shown(&self) -> Option<String> {
        self.as_ref()?.shown()
    }
}

impl Setting for bool {
    const PLACEHOLDER: Option<&'static str> = None;

    fn read(value: &Value) -> Result<Self, String> {
        match value {
            Value::Boolean(truth) => Ok(*truth),
            Value::Loose(text) if text == "true" => Ok(true),
            Value::Loose(text) if text == "false" => Ok(false),
            _ => Err(wrong("true or false", value)),
        }
    }

    fn shown(&self) -> Option<String> {
        Some(self.to_string())
    }
}

macro_rules! number {
    ($type:ty) => {
        impl Setting for $type {
            const PLACEHOLDER: Option<&'static str> = Some("NUMBER");

            fn read(value: &Value) -> Result<Self, String> {
                let number = value.unsigned().and_then(|number| Self::try_from(number).ok());
                let number = number.filter(|number| *number > 0);
                number.ok_or_else(|| wrong(&format!("a number from 1 to {}", Self::MAX), value))
            }

            fn shown(&self) -> Option<String> {
                Some(self.to_string())
            }
        }
    };
}

// Ids and limits start from 1: a limit of 0 would serve nobody.
number!(u64);
number!(usize);
number!(u32);

impl Setting for String {
    const PLACEHOLDER: Option<&'static str> = Some("TEXT");

    fn read(value: &Value) -> Result<Self, String> {
        match value.text() {
            Some("") | None => Err(wrong("a text", value)),
            Some(text) => Ok(text.to_owned()),
        }
    }

    fn shown(&self) -> Option<String> {
        Some(quoted(self))
    }
}

impl Setting for PathBuf {
    const PLACEHOLDER: Option<&'static str> = Some("PATH");

    fn read(value: &Value) -> Result<Self, String> {
        String::read(value).map(Self::from).map_err(|_| wrong("a path", value))
    }

    fn shown(&self) -> Option<String> {
        Some(quoted(&self.display().to_string()))
    }
}

/// Units of sizes, the largest first.
const SIZE_UNITS: [(&str, u32); 5] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10), ("B", 0)];

/// A number of bytes: `256MiB` or `268435456`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Size(pub(crate) u64);

impl Size {
    fn parse(text: &str) -> Option<u64> {
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().ok()?;
        let unit = unit.trim_start();
        let shift = match unit {
            "" => 0,
            _ => SIZE_UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?.1,
        };
        number.checked_mul(1 << shift)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |(_, shift): &&(&str, u32)| self.0.trailing_zeros() >= *shift;
        let (unit, shift) = SIZE_UNITS.iter().find(fits).unwrap_or(&("B", 0));
        write!(f, "{}{unit}", self.0 >> shift)
    }
}

impl Setting for Size {
    const PLACEHOLDER: Option<&'static str> = Some("SIZE");

    fn read(value: &Value) -> Result<Self, String> {
        let size = value.unsigned().or_else(|| Self::parse(value.text()?));
        size.filter(|size| *size > 0).map(Self).ok_or_else(|| {
            wrong("a number of bytes such as \"64KiB\", \"256MiB\" or \"2GiB\"", value)
        })
    }

    fn shown(&self) -> Option<String> {
        Some(quoted(&self.to_string()))
    }
}

/// Units of durations in microseconds, the largest first.
const TIME_UNITS: [(&str, u64); 5] =
    [("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000), ("ms", 1000), ("us", 1)];

impl Setting for Duration {
    const PLACEHOLDER: Option<&'static str> = Some("TIME");

    fn read(value: &Value) -> Result<Self, String> {
        let parse = |text: &str| {
            let digits = text.find(|c: char| !c.is_ascii_digit())?;
            let (number, unit) = text.split_at(digits);
            let micros = TIME_UNITS.iter().find(|(name, _)| *name == unit.trim_start())?.1;
            Some(Self::from_micros(number.parse::<u64>().ok()?.checked_mul(micros)?))
        };
        let time = value.text().and_then(parse).filter(|time| !time.is_zero());
        time.ok_or_else(|| wrong("a time with its unit such as \"150ms\", \"5s\" or \"2m\"", value))
    }

    fn shown(&self) -> Option<String> {
        let micros = u64::try_from(self.as_micros()).unwrap_or(u64::MAX);
        let fits = |(_, unit): &&(&str, u64)| micros.is_multiple_of(*unit);
        let (unit, each) = TIME_UNITS.iter().find(fits).unwrap_or(&("us", 1));
        Some(quoted(&format!("{}{unit}", micros / each)))
    }
}

/// A node and where it is: `2=10.0.0.2:7101`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Peer {
    /// The node, from 1.
    pub(crate) id: u64,
    /// `HOST:PORT`.
    pub(crate) address: String,
}

impl Setting for Peer {
    const PLACEHOLDER: Option<&'static str> = Some("ID=HOST:PORT");

    fn read(value: &Value) -> Result<Self, String> {
        let parse = |text: &str| {
            let (id, address) = text.trim().split_once('=')?;
            let (host, port) = address.rsplit_once(':')?;
            let _: u16 = port.parse().ok()?;
            let id = id.parse().ok().filter(|id| *id > 0)?;
            (!host.is_empty()).then(|| Self { id, address: address.to_owned() })
        };
        value.text().and_then(parse).ok_or_else(|| wrong("\"ID=HOST:PORT\"", value))
    }

    fn shown(&self) -> Option<String> {
        Some(quoted(&format!("{}={}", self.id, self.address)))
    }
}

impl Setting for Vec<Peer> {
    const PLACEHOLDER: Option<&'static str> = Peer::PLACEHOLDER;
    const REPEATED: bool = true;

    fn read(value: &Value) -> Result<Self, String> {
        match value {
            Value::List(values) => {
                let each: Result<Vec<Self>, _> = values.iter().map(Self::read).collect();
                Ok(each?.concat())
            }
            Value::Loose(text) => {
                let one = |text: &str| Peer::read(&Value::Loose(text.to_owned()));
                text.split(',').map(one).collect()
            }
            Value::Text(_) => Ok(vec![Peer::read(value)?]),
            _ => Err(wrong("a list of \"ID=HOST:PORT\"", value)),
        }
    }

    fn shown(&self) -> Option<String> {
        let each: Vec<_> = self.iter().filter_map(Setting::shown).collect();
        (!each.is_empty()).then(|| format!("[{}]", each.join(", ")))
    }
}

/// How a log line looks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Setting for LogFormat {
    const PLACEHOLDER: Option<&'static str> = Some("FORMAT");

    fn read(value: &Value) -> Result<Self, String> {
        match value.text() {
            Some("text") => Ok(Self::Text),
            Some("json") => Ok(Self::Json),
            _ => Err(wrong("\"text\" or \"json\"", value)),
        }
    }

    fn shown(&self) -> Option<String> {
        Some(quoted(match self {
            Self::Text => "text",
            Self::Json => "json",
        }))
    }
}

impl Setting for Redirect {
    const PLACEHOLDER: Option<&'static str> = Some("WHOM");

    fn read(value: &Value) -> Result<Self, String> {
        let named = value.text().and_then(Self::named);
        named.ok_or_else(|| wrong("\"auto\", \"always\" or \"never\"", value))
    }

    fn shown(&self) -> Option<String> {
        Some(quoted(self.name()))
    }
}

impl std::str::FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::read(&Value::Loose(text.to_owned()))
    }
}

impl std::str::FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::read(&Value::Loose(text.to_owned()))
    }
}
