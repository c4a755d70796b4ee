//! Who belongs to a group, and what its majorities are (§6).

use alloc::vec::Vec;

use kontiki_types::Member;

/// Most members a configuration may name, over all its lists.
pub const MEMBERS_MAX: usize = 64;

/// A configuration of a group.
///
/// Each list is sorted and free of duplicates. A node appears at most once in `voters` and
/// `learners` together. In a joint configuration `outgoing` holds the voters of the configuration
/// that is being left; a decision then needs a majority of `voters` *and* one of `outgoing`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    /// Members that vote and count towards every majority.
    pub voters: Vec<Member>,
    /// Empty unless the configuration is joint: the voters of the one before.
    pub outgoing: Vec<Member>,
    /// Members that get the log and do not count.
    pub learners: Vec<Member>,
}

impl Membership {
    /// A plain (not joint) configuration. Sorts the lists and drops duplicates.
    pub fn new(voters: impl Into<Vec<Member>>, learners: impl Into<Vec<Member>>) -> Self {
        let sorted = |mut members: Vec<Member>| {
            members.sort_unstable();
            members.dedup();
            members
        };
        Self {
            voters: sorted(voters.into()),
            outgoing: Vec::new(),
            learners: sorted(learners.into()),
        }
    }

    /// Whether decisions need both of two majorities.
    pub fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Whether `member` has a vote in either majority.
    pub fn is_voter(&self, member: Member) -> bool {
        self.voters.contains(&member) || self.outgoing.contains(&member)
    }

    /// Whether `member` is in any list.
    pub fn contains(&self, member: Member) -> bool {
        self.is_voter(member) || self.learners.contains(&member)
    }

    /// All members, list by list; one that is in two lists (joint only) comes twice.
    pub fn members(&self) -> impl Iterator<Item = Member> + '_ {
        self.voters.iter().chain(&self.outgoing).chain(&self.learners).copied()
    }

    /// Whether the members for which `yes` holds make a majority: of `voters`, and of `outgoing`
    /// if the configuration is joint. A configuration without voters has no majority.
    pub fn majority(&self, mut yes: impl FnMut(Member) -> bool) -> bool {
        let mut of = |members: &[Member]| {
            members.iter().filter(|&&member| yes(member)).count() > members.len() / 2
        };
        of(&self.voters) && (self.outgoing.is_empty() || of(&self.outgoing))
    }

    /// Whether the lists keep what the type promises. Configurations that come from outside are
    /// checked before they are used.
    pub fn is_well_formed(&self) -> bool {
        let ascending = |members: &[Member]| members.windows(2).all(|pair| pair[0] < pair[1]);
        let one_replica_per_node = || {
            let mut nodes: Vec<_> =
                self.voters.iter().chain(&self.learners).map(|member| member.node).collect();
            nodes.sort_unstable();
            nodes.windows(2).all(|pair| pair[0] != pair[1])
        };
        self.members().count() <= MEMBERS_MAX
            && ascending(&self.voters)
            && ascending(&self.outgoing)
            && ascending(&self.learners)
            && (!self.voters.is_empty() || self.outgoing.is_empty())
            && one_replica_per_node()
    }
}
