//! The words that the table uses.

/// An enum whose variants have names for clients.
macro_rules! words {
    ($(#[$doc:meta])* $type:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $type {
            $($(#[$variant_doc])* $variant,)*
        }

        impl $type {
            /// All, in Redis' order.
            pub const ALL: [Self; [$($word),*].len()] = [$(Self::$variant),*];

            /// The word for clients.
            pub const fn word(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }
        }
    };
}

words! {
    /// A property of a command.
    Flag {
        /// It may change the state.
        Write = "write",
        /// It does not change the state.
        Readonly = "readonly",
        /// It may take more memory.
        Denyoom = "denyoom",
        /// It is about the server.
        Admin = "admin",
        /// Scripts must not use it.
        Noscript = "noscript",
        /// It runs while Redis loads its data.
        Loading = "loading",
        /// It runs on a replica that is behind.
        Stale = "stale",
        /// It is not among the slow commands.
        SkipSlowlog = "skip_slowlog",
        /// It takes constant or logarithmic time.
        Fast = "fast",
        /// It needs no login.
        NoAuth = "no_auth",
        /// It runs while a script does.
        AllowBusy = "allow_busy",
    }
}

words! {
    /// An ACL category.
    Category {
        /// Keys, whatever they hold.
        Keyspace = "@keyspace",
        /// Reads.
        Read = "@read",
        /// Writes.
        Write = "@write",
        /// Strings.
        String = "@string",
        /// Bitmaps.
        Bitmap = "@bitmap",
        /// The server.
        Admin = "@admin",
        /// Fast commands.
        Fast = "@fast",
        /// All others.
        Slow = "@slow",
        /// What can do harm.
        Dangerous = "@dangerous",
        /// The connection.
        Connection = "@connection",
        /// Transactions.
        Transaction = "@transaction",
        /// Scripts and functions.
        Scripting = "@scripting",
    }
}

words! {
    /// What kind of command it is.
    Group {
        /// Strings and numbers.
        String = "string",
        /// Bits.
        Bitmap = "bitmap",
        /// Keys, whatever they hold.
        Generic = "generic",
        /// The connection.
        Connection = "connection",
        /// Transactions.
        Transactions = "transactions",
        /// The server.
        Server = "server",
        /// Scripts and functions.
        Scripting = "scripting",
        /// Who has which slot.
        Cluster = "cluster",
    }
}
