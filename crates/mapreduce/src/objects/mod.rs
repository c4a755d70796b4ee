//! Object stores, by URL: `file:///PATH`, with the feature `s3` `s3://BUCKET/KEY` and, within one
//! process, `memory:///KEY`.
//!
//! A key is spelled as it is, without percent-encoding. All calls block: not for threads that serve
//! sockets.

#[cfg(feature = "s3")]
mod s3;

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::Path as FilePath;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt};
use tokio::runtime::{Builder, Runtime};
use tokio_stream::StreamExt;

/// Fetched at a time by readers that read on.
pub(crate) const CHUNK_BYTES: u64 = 4 << 20;
/// Uploaded at a time.
const PART_BYTES: usize = 8 << 20;

/// Whether this names objects in a store rather than files: it begins with a scheme and `://`.
pub fn is_url(name: &[u8]) -> bool {
    let scheme = name.iter().take_while(|byte| byte.is_ascii_alphanumeric()).count();
    scheme > 1 && name.get(scheme..).is_some_and(|rest| rest.starts_with(b"://"))
}

/// Where calls to stores run.
pub(crate) fn runtime() -> io::Result<&'static Runtime> {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    if let Some(runtime) = RUNTIME.get() {
        return Ok(runtime);
    }
    let made = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    Ok(RUNTIME.get_or_init(|| made))
}

fn block_on<T>(call: impl Future<Output = object_store::Result<T>>) -> io::Result<T> {
    runtime()?.block_on(call).map_err(told)
}

/// An error of a store as one of ours.
fn told(error: object_store::Error) -> io::Error {
    use object_store::Error;
    let kind = match &error {
        Error::NotFound { .. } => io::ErrorKind::NotFound,
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
            io::ErrorKind::PermissionDenied
        }
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, error)
}

type Store = Arc<dyn ObjectStore>;

/// The store at `root`, such as `file://`. The same one each time.
fn store(root: &str) -> io::Result<Store> {
    static STORES: Mutex<BTreeMap<String, Store>> = Mutex::new(BTreeMap::new());
    let mut stores = STORES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(store) = stores.get(root) {
        return Ok(Arc::clone(store));
    }
    let made: Store = match root {
        "memory://" => Arc::new(InMemory::new()),
        "file://" => Arc::new(LocalFileSystem::new()),
        other => match other.split_once("://") {
            #[cfg(feature = "s3")]
            Some(("s3", bucket)) => s3::open(bucket)?,
            _ => {
                let known = if cfg!(feature = "s3") { " and s3://BUCKET" } else { "" };
                let why = format!("there is no access to {other}, only to file:///PATH{known}");
                return Err(io::Error::new(io::ErrorKind::Unsupported, why));
            }
        },
    };
    stores.insert(root.to_owned(), Arc::clone(&made));
    Ok(made)
}

/// A place in a store: an object, or what many begin with.
#[derive(Clone)]
pub struct Place {
    root: String,
    store: Store,
    path: Path,
}

impl Place {
    /// The place that a URL names.
    ///
    /// # Errors
    /// A store that is not known, or a key that cannot be one.
    pub fn of(url: &[u8]) -> io::Result<Self> {
        let invalid = |why: String| io::Error::new(io::ErrorKind::InvalidInput, why);
        let text = std::str::from_utf8(url).map_err(|_| invalid("it is no UTF-8".into()))?;
        let (scheme, rest) =
            text.split_once("://").ok_or_else(|| invalid("it is no URL".into()))?;
        let (host, key) = rest.split_once('/').unwrap_or((rest, ""));
        let root = format!("{scheme}://{host}");
        let path =
            Path::parse(key.trim_matches('/')).map_err(|error| invalid(error.to_string()))?;
        Ok(Self { store: store(&root)?, root, path })
    }

    /// The place `name` below this one.
    pub(crate) fn child(&self, name: &str) -> Self {
        Self { path: self.path.clone().join(name), ..self.clone() }
    }

    fn url_of(&self, path: &Path) -> Vec<u8> {
        format!("{}/{path}", self.root).into_bytes()
    }

    /// Length of the object; `None` if there is none.
    pub(crate) fn length(&self) -> io::Result<Option<u64>> {
        match block_on(self.store.head(&self.path)) {
            Ok(found) => Ok(Some(found.size)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All objects below, as URLs in byte order, with their lengths.
    pub(crate) fn list(&self) -> io::Result<Vec<(Vec<u8>, u64)>> {
        let prefix = (!self.path.as_ref().is_empty()).then_some(&self.path);
        let mut objects = block_on(async {
            let (mut objects, mut found) = (Vec::new(), self.store.list(prefix));
            while let Some(found) = found.next().await.transpose()? {
                objects.push((self.url_of(&found.location), found.size));
            }
            Ok(objects)
        })?;
        objects.sort();
        Ok(objects)
    }

    /// Puts the bytes of a file into the object, which is not there before [`Upload::finish`].
    pub(crate) fn upload(&self, file: &FilePath) -> io::Result<Upload> {
        let mut upload = Upload(Some(block_on(self.store.put_multipart(&self.path))?));
        let mut source = std::fs::File::open(file)?;
        loop {
            let mut part = Vec::new();
            (&mut source).take(PART_BYTES as u64).read_to_end(&mut part)?;
            if part.is_empty() {
                return Ok(upload);
            }
            if let Some(upload) = &mut upload.0 {
                block_on(upload.put_part(Bytes::from(part).into()))?;
            }
        }
    }

    /// Removes the object. One that is not there is removed.
    pub(crate) fn remove(&self) -> io::Result<()> {
        match block_on(self.store.delete(&self.path)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// The bytes of the object.
    ///
    /// # Errors
    /// There is none, or it cannot be read.
    pub fn read(&self) -> io::Result<Bytes> {
        block_on(async { self.store.get(&self.path).await?.bytes().await })
    }

    /// Makes `bytes` the object.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, bytes: impl Into<Bytes>) -> io::Result<()> {
        block_on(self.store.put(&self.path, bytes.into().into())).map(drop)
    }
}

/// An upload that is not to be seen yet. Dropped, it is given up.
pub(crate) struct Upload(Option<Box<dyn MultipartUpload>>);

impl Upload {
    /// Makes it the object, at once and as a whole.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        match self.0.take() {
            Some(mut upload) => block_on(upload.complete()).map(drop),
            None => Ok(()),
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let (Some(mut upload), Ok(runtime)) = (self.0.take(), runtime()) {
            // What stays of it is not to be seen; the store has rules to remove it.
            runtime.spawn(async move {
                let _ = upload.abort().await;
            });
        }
    }
}

/// An object that is read from any place on.
pub(crate) struct ObjectReader {
    place: Place,
    bytes: u64,
    chunk_bytes: u64,
    chunk: Mutex<(u64, Bytes)>,
}

impl ObjectReader {
    /// Opens an object of this length; fetches so much at a time.
    pub(crate) fn new(place: Place, bytes: u64, chunk_bytes: u64) -> Self {
        Self { place, bytes, chunk_bytes: chunk_bytes.max(1), chunk: Mutex::default() }
    }

    /// Reads at `offset`; 0 bytes at the end.
    pub(crate) fn read_at(&self, room: &mut [u8], offset: u64) -> io::Result<usize> {
        if offset >= self.bytes {
            return Ok(0);
        }
        let mut chunk = self.chunk.lock().unwrap_or_else(PoisonError::into_inner);
        let is_there =
            |(start, bytes): &(u64, Bytes)| (*start..*start + bytes.len() as u64).contains(&offset);
        if !is_there(&chunk) {
            let end = self.bytes.min(offset.saturating_add(self.chunk_bytes));
            let Place { store, path, .. } = &self.place;
            *chunk = (offset, block_on(store.get_range(path, offset..end))?);
        }
        let (start, bytes) = &*chunk;
        let from = usize::try_from(offset - start).unwrap_or(usize::MAX);
        let found = bytes.get(from..).unwrap_or_default();
        let length = found.len().min(room.len());
        if length == 0 && !room.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let (Some(room), Some(found)) = (room.get_mut(..length), found.get(..length)) {
            room.copy_from_slice(found);
        }
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upload_is_to_be_seen_when_it_is_finished_and_objects_are_read_in_ranges() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = format!("file://{}", folder.path().display());
        for root in [root.as_str(), "memory:///objects/test"] {
            let place = Place::of(format!("{root}/out/").as_bytes()).expect("a place");
            assert_eq!(place.list().expect("listed"), []);
            let file = folder.path().join("bytes");
            let bytes: Vec<u8> = (0..PART_BYTES * 2 + 5).map(|at| (at % 251) as u8).collect();
            std::fs::write(&file, &bytes).expect("written");
            let object = place.child("a b");
            drop(object.upload(&file).expect("uploaded"));
            assert_eq!(object.length().expect("looked"), None, "it was given up");
            let upload = object.upload(&file).expect("uploaded");
            assert_eq!(object.length().expect("looked"), None, "it is not finished");
            upload.finish().expect("finished");
            let length = bytes.len() as u64;
            assert_eq!(object.length().expect("looked"), Some(length));
            let url = format!("{root}/out/a b").into_bytes();
            assert_eq!(place.list().expect("listed"), [(url.clone(), length)]);
            let reader = ObjectReader::new(Place::of(&url).expect("a place"), length, 1000);
            let mut room = [0; 700];
            for offset in [0_u64, 700, 1400, length - 1, 5, length] {
                let read = reader.read_at(&mut room, offset).expect("read");
                let expected = &bytes[offset as usize..][..read];
                assert!(&room[..read] == expected && (read > 0 || offset == length), "{offset}");
            }
            object.remove().expect("removed");
            object.remove().expect("it is gone");
            assert_eq!(place.list().expect("listed"), []);
        }
    }

    #[test]
    fn what_is_no_place_is_refused() {
        for bad in ["gs://bucket/key", "file://host/x", "file:///a//b/../c", "nothing"] {
            assert!(Place::of(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(is_url(b"s3://bucket/key") && !is_url(b"s3:/bucket") && !is_url(b"a/b://c"));
    }
}
