//! The value that a combiner has folded so far.

/// One key's value in the combiner's table.
pub struct Held<'a> {
    /// The room that the value has where it lies.
    room: &'a mut [u8],
    length: usize,
    /// The value, once it has outgrown the room.
    grown: &'a mut Vec<u8>,
    is_grown: bool,
}

impl<'a> Held<'a> {
    /// A value of `length` bytes at the start of `room`; `grown` takes it if it gets longer.
    pub(crate) fn new(room: &'a mut [u8], length: usize, grown: &'a mut Vec<u8>) -> Held<'a> {
        Held { length: length.min(room.len()), room, grown, is_grown: false }
    }

    /// The value.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        if self.is_grown { self.grown } else { self.room.get(..self.length).unwrap_or_default() }
    }

    /// The value, to be changed in place.
    #[inline]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        if self.is_grown {
            self.grown
        } else {
            self.room.get_mut(..self.length).unwrap_or_default()
        }
    }

    /// Puts another value in its place.
    pub fn replace(&mut self, value: &[u8]) {
        if !self.is_grown
            && let Some(room) = self.room.get_mut(..value.len())
        {
            room.copy_from_slice(value);
            self.length = value.len();
            return;
        }
        self.is_grown = true;
        self.grown.clear();
        self.grown.extend_from_slice(value);
    }

    /// Adds bytes at the end of the value.
    pub fn append(&mut self, bytes: &[u8]) {
        if !self.is_grown {
            let end = self.length + bytes.len();
            if let Some(room) = self.room.get_mut(self.length..end) {
                room.copy_from_slice(bytes);
                self.length = end;
                return;
            }
            self.is_grown = true;
            self.grown.clear();
            self.grown.extend_from_slice(self.room.get(..self.length).unwrap_or_default());
        }
        self.grown.extend_from_slice(bytes);
    }

    /// The length in the room, or nothing if the value has outgrown it.
    #[inline]
    pub(crate) fn length_in_room(&self) -> Option<usize> {
        (!self.is_grown).then_some(self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_grows_out_of_its_room_and_keeps_its_bytes() {
        let (mut room, mut grown) = (*b"ab....", Vec::new());
        let mut held = Held::new(&mut room, 2, &mut grown);
        held.append(b"cd");
        assert_eq!((held.bytes(), held.length_in_room()), (&b"abcd"[..], Some(4)));
        held.append(b"efg");
        assert_eq!((held.bytes(), held.length_in_room()), (&b"abcdefg"[..], None));
        held.bytes_mut()[0] = b'A';
        held.append(b"h");
        assert_eq!(held.bytes(), b"Abcdefgh");
        held.replace(b"x");
        assert_eq!(held.bytes(), b"x");
    }

    #[test]
    fn a_replacement_that_fits_stays_in_the_room() {
        let (mut room, mut grown) = (*b"ab..", Vec::new());
        let mut held = Held::new(&mut room, 2, &mut grown);
        held.replace(b"wxyz");
        assert_eq!((held.bytes(), held.length_in_room()), (&b"wxyz"[..], Some(4)));
        held.replace(b"");
        assert_eq!((held.bytes(), held.length_in_room()), (&b""[..], Some(0)));
    }
}
