//! The table of all commands.
use crate::Reply;
use bytes::Bytes;

/// A command as the table knows it.
#[derive(Debug)]
pub struct Entry {
    /// Lower-case name.
    pub name: &'static str,
    /// Number of arguments with the name; negative: at least so many.
    pub arity: i8,
}
impl Entry {
    /// Whether a request of so many arguments, the name included, fits the arity.
    pub fn accepts(&self, arguments: usize) -> bool {
        let wanted = usize::from(self.arity.unsigned_abs());
        if self.arity < 0 { arguments >= wanted } else { arguments == wanted }
    }
}
/// The command called `name`, in any case.
pub fn lookup(name: &[u8]) -> Option<&'static Entry> {
    let _ = name;
    None
}
/// Answers COMMAND and its subcommands; `args` follow the word COMMAND.
pub fn command(args: &[Bytes]) -> Reply {
    let _ = args;
    Reply::Nil
}
