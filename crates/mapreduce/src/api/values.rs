//! The values of one key, one after the other.

use crate::error::TaskError;

/// Where values come from.
pub trait ValueSource {
    /// The next value of the current key, or nothing after the last one.
    ///
    /// # Errors
    /// When map output cannot be read.
    fn next_value(&mut self) -> Result<Option<&[u8]>, TaskError>;
}

/// The values of one key, as a stream: only one of them is in memory.
pub struct Values<'a> {
    source: &'a mut dyn ValueSource,
    ended: bool,
}

impl<'a> Values<'a> {
    /// The values of `source`.
    pub fn new(source: &'a mut dyn ValueSource) -> Values<'a> {
        Values { source, ended: false }
    }

    /// The next value, which lives until the next call; nothing after the last one.
    ///
    /// # Errors
    /// When map output cannot be fetched or is damaged; hand it on.
    #[expect(clippy::should_implement_trait, reason = "the value borrows from the stream")]
    pub fn next(&mut self) -> Result<Option<&[u8]>, TaskError> {
        if self.ended {
            return Ok(None);
        }
        let value = self.source.next_value()?;
        self.ended = value.is_none();
        Ok(value)
    }

    /// Skips the values that nobody asked for.
    pub(crate) fn drain(&mut self) -> Result<(), TaskError> {
        while self.next()?.is_some() {}
        Ok(())
    }
}
