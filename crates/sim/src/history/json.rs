//! One operation as one line of JSON. A byte of a string is one character of the same number, so
//! that every byte string has a text and comes back the same.

use std::fmt::Write;

use bytes::Bytes;
use kontiki_resp::Reply;

use super::{Operation, Outcome, Request};

/// Appends the line, without its end.
pub(super) fn write(operation: &Operation, line: &mut String) {
    let _ = write!(line, "{{\"client\":{},\"op\":", operation.client);
    match &operation.request {
        Request::Command(words) => {
            let mut words = words.iter();
            text(words.next().map_or(&[], |word| word), line);
            line.push_str(",\"key\":");
            key(words.next(), line);
            line.push_str(",\"value\":");
            list(words, line, |word, line| text(word, line));
        }
        Request::Transaction(commands) => {
            line.push_str("\"EXEC\",\"key\":");
            key(commands.first().and_then(|words| words.get(1)), line);
            line.push_str(",\"value\":");
            list(commands.iter(), line, |words, line| {
                list(words.iter(), line, |word, line| text(word, line));
            });
        }
    }
    line.push_str(",\"output\":");
    match &operation.outcome {
        Outcome::Known { reply, .. } => output(reply, line),
        Outcome::Refused { reason, .. } => tagged("refused", reason, line),
        Outcome::Unknown => line.push_str("null"),
    }
    let _ = write!(line, ",\"call\":{},\"return\":", operation.call);
    match operation.returned() {
        Some(at) => {
            let _ = write!(line, "{at}}}");
        }
        None => line.push_str("null}"),
    }
}

fn key(key: Option<&Bytes>, line: &mut String) {
    match key {
        Some(key) => text(key, line),
        None => line.push_str("null"),
    }
}

fn output(reply: &Reply, line: &mut String) {
    match reply {
        Reply::Null => line.push_str("null"),
        Reply::Integer(number) => {
            let _ = write!(line, "{number}");
        }
        Reply::Boolean(truth) => {
            let _ = write!(line, "{truth}");
        }
        Reply::Simple(bytes) | Reply::Bulk(bytes) | Reply::BigNumber(bytes) => text(bytes, line),
        Reply::Verbatim { text: bytes, .. } => text(bytes, line),
        Reply::Double(number) => text(number.to_string().as_bytes(), line),
        Reply::Error(error) => tagged("error", error, line),
        Reply::Array(items) | Reply::Set(items) | Reply::Push(items) => {
            list(items.iter(), line, output);
        }
        Reply::Map(pairs) => list(pairs.iter(), line, |(key, value), line| {
            line.push('[');
            output(key, line);
            line.push(',');
            output(value, line);
            line.push(']');
        }),
    }
}

fn tagged(tag: &str, bytes: &[u8], line: &mut String) {
    let _ = write!(line, "{{\"{tag}\":");
    text(bytes, line);
    line.push('}');
}

fn list<T>(items: impl Iterator<Item = T>, line: &mut String, write: impl Fn(T, &mut String)) {
    line.push('[');
    for (at, item) in items.enumerate() {
        if at > 0 {
            line.push(',');
        }
        write(item, line);
    }
    line.push(']');
}

fn text(bytes: &[u8], line: &mut String) {
    line.push('"');
    for &byte in bytes {
        match byte {
            b'"' | b'\\' => {
                line.push('\\');
                line.push(char::from(byte));
            }
            b' '..=b'~' => line.push(char::from(byte)),
            _ => {
                let _ = write!(line, "\\u{byte:04x}");
            }
        }
    }
    line.push('"');
}

/// An operation from its line.
pub(super) fn read(line: &str) -> Result<Operation, String> {
    let mut reader = Reader { text: line.as_bytes(), at: 0 };
    let value = reader.value(DEPTH_MAX)?;
    reader.space();
    if reader.at < reader.text.len() {
        return Err(format!("something follows at byte {}", reader.at));
    }
    let Value::Object(fields) = value else { return Err("not an object".to_owned()) };
    let mut fields = Fields(fields);
    let client = fields.number("client")?;
    let call = fields.number("call")?;
    let request = request(&mut fields)?;
    let output = fields.take("output")?;
    let outcome = match fields.take("return")? {
        Value::Null if output == Value::Null => Outcome::Unknown,
        Value::Null => return Err("an output without a return".to_owned()),
        Value::Number(at) => {
            let at = u64::try_from(at).map_err(|_| "return is negative".to_owned())?;
            if at < call {
                return Err("the return is before the call".to_owned());
            }
            match output {
                Value::Object(mut fields) if fields.len() == 1 && fields[0].0 == "refused" => {
                    let reason = fields.remove(0).1.bytes("refused")?;
                    Outcome::Refused { reason, at }
                }
                output => Outcome::Known { reply: reply(output)?, at },
            }
        }
        _ => return Err("return is not a number".to_owned()),
    };
    Ok(Operation { client, request, call, outcome })
}

fn request(fields: &mut Fields) -> Result<Request, String> {
    let op = fields.take("op")?.bytes("op")?;
    let key = fields.take("key")?;
    let Value::List(value) = fields.take("value")? else {
        return Err("value is not a list".to_owned());
    };
    let words = |items: Vec<Value>| -> Result<Vec<Bytes>, String> {
        items.into_iter().map(|item| item.bytes("value")).collect()
    };
    if op.eq_ignore_ascii_case(b"EXEC") {
        let commands = value.into_iter().map(|command| match command {
            Value::List(items) => words(items),
            _ => Err("a command of EXEC is not a list".to_owned()),
        });
        return Ok(Request::Transaction(commands.collect::<Result<_, _>>()?));
    }
    let mut command = vec![op];
    if key != Value::Null {
        command.push(key.bytes("key")?);
    }
    command.extend(words(value)?);
    Ok(Request::Command(command))
}

fn reply(value: Value) -> Result<Reply, String> {
    Ok(match value {
        Value::Null => Reply::Null,
        Value::Truth(truth) => Reply::Boolean(truth),
        Value::Number(number) => {
            Reply::Integer(i64::try_from(number).map_err(|_| "output is out of range".to_owned())?)
        }
        Value::Text(bytes) => Reply::Bulk(bytes.into()),
        Value::List(items) => Reply::Array(items.into_iter().map(reply).collect::<Result<_, _>>()?),
        Value::Object(mut fields) if fields.len() == 1 && fields[0].0 == "error" => {
            Reply::Error(fields.remove(0).1.bytes("error")?)
        }
        Value::Object(_) => return Err("output is an object without an error".to_owned()),
    })
}

#[derive(Debug, PartialEq)]
enum Value {
    Null,
    Truth(bool),
    Number(i128),
    Text(Vec<u8>),
    List(Vec<Value>),
    Object(Vec<(String, Value)>),
}

impl Value {
    fn bytes(self, what: &str) -> Result<Bytes, String> {
        match self {
            Self::Text(bytes) => Ok(bytes.into()),
            _ => Err(format!("{what} is not a string")),
        }
    }
}

struct Fields(Vec<(String, Value)>);

impl Fields {
    fn take(&mut self, name: &str) -> Result<Value, String> {
        let at = self.0.iter().position(|(field, _)| field == name);
        at.map(|at| self.0.swap_remove(at).1).ok_or_else(|| format!("there is no {name}"))
    }

    fn number(&mut self, name: &str) -> Result<u64, String> {
        match self.take(name)? {
            Value::Number(number) => {
                u64::try_from(number).map_err(|_| format!("{name} is out of range"))
            }
            _ => Err(format!("{name} is not a number")),
        }
    }
}

/// Lists within lists: an operation needs four.
const DEPTH_MAX: usize = 8;

struct Reader<'a> {
    text: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn space(&mut self) {
        while self.text.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
    }

    fn fails<T>(&self, expected: &str) -> Result<T, String> {
        Err(format!("{expected} is missing at byte {}", self.at))
    }

    /// The next byte that is not a space, without taking it.
    fn peek(&mut self) -> Option<u8> {
        self.space();
        self.text.get(self.at).copied()
    }

    fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn word(&mut self, word: &str, value: Value) -> Result<Value, String> {
        if self.text[self.at..].starts_with(word.as_bytes()) {
            self.at += word.len();
            return Ok(value);
        }
        self.fails(word)
    }

    fn value(&mut self, depth: usize) -> Result<Value, String> {
        let Some(inside) = depth.checked_sub(1) else { return Err("too deep".to_owned()) };
        match self.peek() {
            Some(b'n') => self.word("null", Value::Null),
            Some(b't') => self.word("true", Value::Truth(true)),
            Some(b'f') => self.word("false", Value::Truth(false)),
            Some(b'"') => self.text().map(Value::Text),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b'[') => {
                let mut items = Vec::new();
                self.items(b']', |reader| {
                    items.push(reader.value(inside)?);
                    Ok(())
                })?;
                Ok(Value::List(items))
            }
            Some(b'{') => {
                let mut fields = Vec::new();
                self.items(b'}', |reader| {
                    reader.space();
                    let name = String::from_utf8_lossy(&reader.text()?).into_owned();
                    if !reader.eat(b':') {
                        return reader.fails("a colon");
                    }
                    fields.push((name, reader.value(inside)?));
                    Ok(())
                })?;
                Ok(Value::Object(fields))
            }
            _ => self.fails("a value"),
        }
    }

    fn items(
        &mut self,
        end: u8,
        mut item: impl FnMut(&mut Self) -> Result<(), String>,
    ) -> Result<(), String> {
        self.at += 1;
        if self.eat(end) {
            return Ok(());
        }
        loop {
            item(self)?;
            if self.eat(end) {
                return Ok(());
            }
            if !self.eat(b',') {
                return self.fails("a comma");
            }
        }
    }

    fn number(&mut self) -> Result<Value, String> {
        let rest = &self.text[self.at..];
        let length = rest
            .iter()
            .enumerate()
            .position(|(at, byte)| !(byte.is_ascii_digit() || at == 0 && *byte == b'-'))
            .unwrap_or(rest.len());
        let number = std::str::from_utf8(&rest[..length]).ok().and_then(|text| text.parse().ok());
        match number {
            Some(number) if !matches!(rest.get(length), Some(b'.' | b'e' | b'E')) => {
                self.at += length;
                Ok(Value::Number(number))
            }
            _ => self.fails("a whole number"),
        }
    }

    fn text(&mut self) -> Result<Vec<u8>, String> {
        if self.text.get(self.at) != Some(&b'"') {
            return self.fails("a string");
        }
        self.at += 1;
        let mut bytes = Vec::new();
        loop {
            let Some(&byte) = self.text.get(self.at) else { return self.fails("a quote") };
            self.at += 1;
            match byte {
                b'"' => return Ok(bytes),
                b'\\' => bytes.push(self.escape()?),
                b' '..=b'~' => bytes.push(byte),
                // The only characters above that are bytes have two bytes in UTF-8.
                0xc2 | 0xc3 => {
                    let low = self.text.get(self.at).copied().unwrap_or_default();
                    self.at += 1;
                    bytes.push((byte & 0b11) << 6 | low & 0x3f);
                }
                _ => return Err(format!("not a byte at byte {}", self.at - 1)),
            }
        }
    }

    fn escape(&mut self) -> Result<u8, String> {
        let Some(&byte) = self.text.get(self.at) else { return self.fails("an escape") };
        self.at += 1;
        Ok(match byte {
            b'"' | b'\\' | b'/' => byte,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'b' => 8,
            b'f' => 12,
            b'u' => {
                let digits = self.text.get(self.at..self.at + 4);
                let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
                let number = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
                self.at += 4;
                let byte = number.and_then(|number| u8::try_from(number).ok());
                byte.ok_or_else(|| format!("no byte is escaped at byte {}", self.at))?
            }
            _ => return Err(format!("no escape at byte {}", self.at)),
        })
    }
}

#[cfg(test)]
mod tests;
