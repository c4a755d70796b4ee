//! Why a request has no reply, and what that means to the caller.

/// Why a request has no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No majority answered in time. Nothing was read or written: try again.
    Unavailable,
    /// A bound on waiting work was reached. Nothing was written: try again later.
    Overloaded,
    /// The leader's disk is full. Nothing was written.
    StorageFull,
    /// The write is larger than the log takes. Nothing was written: do not try again.
    TooLarge,
    /// The write may or may not have taken effect, and it is too late to find out.
    Unknown,
    /// The client used this sequence number before, for another command.
    NumberReused,
    /// The same write was asked for again on another call, which gets the answer.
    Superseded,
    /// The command was carried out at another node, and its reply is larger than nodes pass to each
    /// other.
    ReplyTooLarge,
    /// The group that the request was for does not serve its slot. It had no effect.
    NotHere,
    /// The slot is on its way to another group, and whoever asks did not want to wait longer. It had
    /// no effect.
    StandsStill,
}

impl Failure {
    /// Whether the request certainly had no effect and never will.
    pub fn was_not_applied(self) -> bool {
        !matches!(self, Self::Unknown | Self::Superseded | Self::ReplyTooLarge)
    }

    /// Whether it is sensible to send the request again as it is.
    pub fn may_retry(self) -> bool {
        matches!(self, Self::Unavailable | Self::Overloaded | Self::NotHere | Self::StandsStill)
    }

    /// The error line of a Redis client, code first.
    pub fn line(self) -> &'static str {
        match self {
            Self::Unavailable => {
                "CLUSTERDOWN no majority of the group answered in time; nothing was read or \
                 written, try again"
            }
            Self::Overloaded => {
                "TRYAGAIN too much is waiting to be committed; nothing was written, try again later"
            }
            Self::StorageFull => {
                "MISCONF the leader's disk is full; nothing was written, reads go on, free some \
                 space on it"
            }
            Self::TooLarge => "ERR the write is larger than the log takes; nothing was written",
            Self::Unknown => {
                "UNKNOWN outcome unknown: no majority answered in time, the write may or may not \
                 have been applied"
            }
            Self::NumberReused => {
                "ERR this client has used the sequence number for another command; nothing was \
                 written"
            }
            Self::Superseded => "ERR the same write was sent again on another call",
            Self::ReplyTooLarge => {
                "ERR the reply is larger than nodes pass to each other; the command was carried \
                 out, ask a node with a replica of the group, or for less at once"
            }
            Self::StandsStill => {
                "TRYAGAIN the slot is being handed over; nothing was read or written, try again"
            }
            Self::NotHere => {
                "TRYAGAIN the group does not serve the slot; nothing was read or written, try again"
            }
        }
    }
}
