//! What is remembered of each member. They are few, and looked at after every step, so this is a list
//! and not a map.

use kontiki_types::Member;

#[derive(Debug)]
pub(super) struct ByMember<T>(Vec<(Member, T)>);

impl<T> Default for ByMember<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> ByMember<T> {
    /// What was known of `member` so far.
    pub(super) fn insert(&mut self, member: Member, of: T) -> Option<T> {
        match self.0.iter_mut().find(|(other, _)| *other == member) {
            Some((_, known)) => Some(std::mem::replace(known, of)),
            None => {
                self.0.push((member, of));
                None
            }
        }
    }

    pub(super) fn remove(&mut self, member: Member) {
        self.0.retain(|(other, _)| *other != member);
    }
}
