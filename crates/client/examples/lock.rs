//! A lock with a lease and a fencing token, built on `put_if_version`.
//!
//! The lock is a key whose value names the holder and its lease. Whoever creates the key holds the
//! lock; the holder writes it again to renew, and deletes it to release. A waiter that has watched
//! the key stay at one version for the whole lease takes it over, with the version as condition,
//! so that of two waiters one wins. No wall clock is involved: each process measures durations.
//!
//! # What it promises, and what no such lock can
//! - The version at which the lock was taken is a *fencing token*: later holders have higher ones.
//! - Two processes can believe that they hold the lock: a holder that is paused (swapped out, in a
//!   debugger, on a suspended machine) past its lease does not know that it was succeeded.
//!   [`Held::is_current`] narrows this to the pause between asking and acting. Only a resource
//!   that remembers the highest token it has seen and refuses lower ones excludes it. For what is
//!   kept in the same store, do better: put the guarded write and `Compare` of the lock's version
//!   into one transaction.
//! - The lease must exceed the longest failover by far, or holders lose the lock in one.
//! - Clocks must run at about the same speed (a difference of 5 % is allowed for), not show the
//!   same time.
//! - It is not fair and not reentrant. Waiters poll.
//!
//! `cargo run -p kontiki-client --example lock [-- ADDRESS]` takes the lock, works, releases it.

use std::time::{Duration, Instant};

use kontiki_client::{Client, Compare, Error, Op, Options, Outcome, Version, Versioned};

/// A lock of some name, as one participant sees it.
pub struct Lock {
    client: Client,
    key: String,
    holder: String,
    lease: Duration,
}

/// The lock while it is held. Dropped without [`Held::release`], it frees itself after the lease.
pub struct Held<'a> {
    lock: &'a Lock,
    /// When it was taken.
    token: Version,
    /// When it was last written.
    version: Version,
    until: Instant,
}

/// What a waiter has seen of the key, and since when.
struct Watched {
    version: Version,
    since: Instant,
}

impl Lock {
    /// A lock kept under `key`. `holder` must differ between participants that run at the same
    /// time.
    pub fn new(client: Client, key: &str, holder: &str, lease: Duration) -> Self {
        Self { client, key: key.to_owned(), holder: holder.to_owned(), lease }
    }

    /// Waits until the lock is free or its holder has let the lease pass, and takes it.
    ///
    /// # Errors
    /// The store did not answer. The lock may be held then: it frees itself after the lease.
    ///
    /// # Cancel safety
    /// As with an error.
    pub async fn acquire(&self) -> Result<Held<'_>, Error> {
        let mut watched: Option<Watched> = None;
        loop {
            let start = Instant::now();
            let read = self.client.get(&self.key).await?;
            if let Some(version) = self.claimable(read.as_ref(), &mut watched) {
                match self.client.put_if_version(&self.key, self.value(), version).await {
                    Ok(token) => return Ok(self.held(token, start)),
                    Err(Error::VersionMismatch { .. }) => {}
                    // Perhaps it is ours already, so the value tells.
                    Err(error) if error.outcome() == Outcome::Unknown => {
                        match self.client.get(&self.key).await? {
                            Some(read) if read.value == self.value() => {
                                return Ok(self.held(read.version, start));
                            }
                            _ => {}
                        }
                    }
                    Err(error) => return Err(error),
                }
            }
            tokio::time::sleep((self.lease / 20).min(Duration::from_millis(100))).await;
        }
    }

    /// The version under which the lock can be taken at this moment, if it can.
    fn claimable(
        &self,
        read: Option<&Versioned>,
        watched: &mut Option<Watched>,
    ) -> Option<Version> {
        let Some(read) = read else { return Some(Version::ABSENT) };
        match watched {
            Some(watched) if watched.version == read.version => {
                // Started after the holder's own clock, and waits a little longer than it.
                let lease = lease_of(&read.value);
                (watched.since.elapsed() >= lease + lease / 20).then_some(read.version)
            }
            _ => {
                *watched = Some(Watched { version: read.version, since: Instant::now() });
                None
            }
        }
    }

    fn held(&self, token: Version, start: Instant) -> Held<'_> {
        Held { lock: self, token, version: token, until: start + self.lease }
    }

    fn value(&self) -> String {
        format!("{} {}", self.lease.as_millis(), self.holder)
    }
}

/// The lease that a holder wrote; a value of somebody else's making never expires.
fn lease_of(value: &[u8]) -> Duration {
    let text = String::from_utf8_lossy(value);
    let millis = text.split(' ').next().and_then(|millis| millis.parse().ok());
    millis.map_or(Duration::MAX / 2, Duration::from_millis)
}

impl Held<'_> {
    /// Grows from holder to holder: give it to the resource with each request.
    pub fn fencing_token(&self) -> Version {
        self.token
    }

    /// Whether the lease still runs, by this process's clock. See the caveats above.
    pub fn is_current(&self) -> bool {
        Instant::now() < self.until
    }

    /// Starts the lease anew; `false` if the lock was lost. Call it every third of the lease.
    ///
    /// # Errors
    /// The store did not answer: try again while [`Held::is_current`].
    pub async fn renew(&mut self) -> Result<bool, Error> {
        let (lock, start) = (self.lock, Instant::now());
        let written = lock.client.put_if_version(&lock.key, lock.value(), self.version).await;
        match written {
            Ok(version) => self.version = version,
            Err(Error::VersionMismatch { .. }) => return self.renewed_unawares().await,
            Err(error) => return Err(error),
        }
        self.until = start + lock.lease;
        Ok(true)
    }

    /// An earlier renewal whose outcome was unknown may be why the version is another one.
    async fn renewed_unawares(&mut self) -> Result<bool, Error> {
        let read = self.lock.client.get(&self.lock.key).await?;
        match read {
            // Nobody could take the lock over while the lease ran.
            Some(read) if self.is_current() && read.value == self.lock.value() => {
                self.version = read.version;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// Frees the lock; `false` if it was lost before.
    ///
    /// # Errors
    /// The store did not answer: the lock frees itself after the lease.
    pub async fn release(self) -> Result<bool, Error> {
        let Lock { client, key, .. } = self.lock;
        let mine = Compare::version(key, self.version);
        Ok(client.transaction([mine], [Op::delete(key)]).await?.is_some())
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7101".to_owned());
    let client = Client::connect([address], Options::default()).await?;
    let holder = format!("process {}", std::process::id());
    let lock = Lock::new(client, "lock:example", &holder, Duration::from_secs(5));
    let mut held = lock.acquire().await?;
    println!("{holder} holds the lock, fencing token {}", held.fencing_token());
    for step in 1..=3 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        if !held.renew().await? {
            println!("lost the lock, so stopping");
            return Ok(());
        }
        println!("step {step} done");
    }
    println!("released: {}", held.release().await?);
    Ok(())
}
