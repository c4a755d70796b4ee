//! As much of S3 as a job needs, over HTTP on loopback, with what goes wrong on demand.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

/// The only bucket.
pub(super) const BUCKET: &str = "books";
/// The only key id that is let in.
pub(super) const KEY_ID: &str = "someone";
/// Objects on a page of a list.
const PAGE: usize = 3;

#[derive(Default)]
struct Held {
    objects: BTreeMap<String, Vec<u8>>,
    uploads: BTreeMap<String, BTreeMap<u32, Vec<u8>>>,
}

#[derive(Default)]
struct Shared {
    held: Mutex<Held>,
    numbers: AtomicU64,
    /// So many requests are answered with 503 from here on.
    unavailable: AtomicU64,
    /// So many answers with an object are cut in their middle from here on.
    cuts: AtomicU64,
    requests: AtomicU64,
    parts: AtomicU64,
}

/// A running server; its threads end with the process.
pub(super) struct S3Server {
    shared: Arc<Shared>,
    address: String,
}

impl S3Server {
    pub(super) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let shared = Arc::<Shared>::default();
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&serving);
                std::thread::spawn(move || {
                    // Clients go as they like.
                    let _ = shared.serve(stream);
                });
            }
        });
        Self { shared, address }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) fn put(&self, key: &str, bytes: impl Into<Vec<u8>>) {
        self.shared.held.lock().expect("a lock").objects.insert(key.to_owned(), bytes.into());
    }

    /// The objects whose keys begin with `prefix`.
    pub(super) fn objects(&self, prefix: &str) -> BTreeMap<String, Vec<u8>> {
        let held = self.shared.held.lock().expect("a lock");
        let found = held.objects.iter().filter(|(key, _)| key.starts_with(prefix));
        found.map(|(key, bytes)| (key.clone(), bytes.clone())).collect()
    }

    /// Uploads that were begun, and neither finished nor given up.
    pub(super) fn uploads_open(&self) -> usize {
        self.shared.held.lock().expect("a lock").uploads.len()
    }

    /// From here on: so many times 503, so many cut answers.
    pub(super) fn fail(&self, unavailable: u64, cuts: u64) {
        self.shared.unavailable.store(unavailable, SeqCst);
        self.shared.cuts.store(cuts, SeqCst);
    }

    /// Failures that were asked for and have not come up yet.
    pub(super) fn failures_left(&self) -> u64 {
        self.shared.unavailable.load(SeqCst) + self.shared.cuts.load(SeqCst)
    }

    /// Parts that were uploaded.
    pub(super) fn parts(&self) -> u64 {
        self.shared.parts.load(SeqCst)
    }

    pub(super) fn requests(&self) -> u64 {
        self.shared.requests.load(SeqCst)
    }
}

struct Request {
    method: String,
    /// Of the path: the bucket and, if there is one, the key.
    bucket: String,
    key: String,
    query: BTreeMap<String, String>,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

struct Answer {
    status: &'static str,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    /// What `HEAD` says the length is.
    length: Option<usize>,
}

impl Answer {
    fn of(status: &'static str, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: Vec::new(), body: body.into(), length: None }
    }

    fn error(status: &'static str, code: &str) -> Self {
        Self::of(status, format!("<Error><Code>{code}</Code><Message>{code}</Message></Error>"))
    }

    fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

fn take(count: &AtomicU64) -> bool {
    count.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok()
}

impl Shared {
    fn serve(&self, stream: TcpStream) -> io::Result<()> {
        let mut writer = stream.try_clone()?;
        let mut reader = BufReader::new(stream);
        while let Some(request) = read(&mut reader)? {
            self.requests.fetch_add(1, SeqCst);
            let answer = if take(&self.unavailable) {
                Answer::error("503 Service Unavailable", "SlowDown")
            } else {
                self.answer(&request)
            };
            let mut head = format!("HTTP/1.1 {}\r\n", answer.status);
            let length = answer.length.unwrap_or(answer.body.len());
            let _ = write!(head, "content-length: {length}\r\n");
            for (name, value) in &answer.headers {
                let _ = write!(head, "{name}: {value}\r\n");
            }
            writer.write_all(head.as_bytes())?;
            writer.write_all(b"\r\n")?;
            let is_object = request.method == "GET" && !request.key.is_empty();
            if is_object && answer.body.len() > 1 && take(&self.cuts) {
                writer.write_all(&answer.body[..answer.body.len() / 2])?;
                return Ok(());
            }
            writer.write_all(&answer.body)?;
        }
        Ok(())
    }

    fn answer(&self, request: &Request) -> Answer {
        let signed = request.headers.get("authorization").is_some_and(|value| {
            value.starts_with(&format!("AWS4-HMAC-SHA256 Credential={KEY_ID}/"))
                && value.contains("/eu-test-1/s3/aws4_request")
        });
        if !signed {
            return Answer::error("403 Forbidden", "AccessDenied");
        }
        if request.bucket != BUCKET {
            return Answer::error("404 Not Found", "NoSuchBucket");
        }
        let mut held = self.held.lock().expect("a lock");
        let upload = request.query.get("uploadId").cloned().unwrap_or_default();
        match (request.method.as_str(), request.key.is_empty()) {
            ("GET", true) => list(&held, &request.query),
            ("POST", true) => delete_all(&mut held, &request.body),
            ("GET" | "HEAD", false) => match held.objects.get(&request.key) {
                Some(bytes) => object(request, bytes),
                None => Answer::error("404 Not Found", "NoSuchKey"),
            },
            ("PUT", false) if !upload.is_empty() => {
                let number = request.query["partNumber"].parse().expect("a number");
                let Some(parts) = held.uploads.get_mut(&upload) else {
                    return Answer::error("404 Not Found", "NoSuchUpload");
                };
                parts.insert(number, request.body.clone());
                self.parts.fetch_add(1, SeqCst);
                Answer::of("200 OK", "").with("etag", format!("\"part-{number}\""))
            }
            ("PUT", false) => {
                held.objects.insert(request.key.clone(), request.body.clone());
                Answer::of("200 OK", "").with("etag", "\"whole\"")
            }
            ("POST", false) if upload.is_empty() => {
                let upload = format!("upload-{}", self.numbers.fetch_add(1, SeqCst));
                let key = &request.key;
                let text = format!(
                    "<InitiateMultipartUploadResult><Bucket>{BUCKET}</Bucket><Key>{key}</Key>\
                     <UploadId>{upload}</UploadId></InitiateMultipartUploadResult>"
                );
                held.uploads.insert(upload, BTreeMap::new());
                Answer::of("200 OK", text)
            }
            ("POST", false) => {
                let Some(parts) = held.uploads.remove(&upload) else {
                    return Answer::error("404 Not Found", "NoSuchUpload");
                };
                let whole = parts.into_values().flatten().collect();
                held.objects.insert(request.key.clone(), whole);
                let text = "<CompleteMultipartUploadResult><ETag>\"whole\"</ETag>\
                            </CompleteMultipartUploadResult>";
                Answer::of("200 OK", text)
            }
            ("DELETE", false) => {
                if upload.is_empty() {
                    held.objects.remove(&request.key);
                } else {
                    held.uploads.remove(&upload);
                }
                Answer::of("204 No Content", "")
            }
            _ => Answer::error("405 Method Not Allowed", "MethodNotAllowed"),
        }
    }
}

fn object(request: &Request, bytes: &[u8]) -> Answer {
    let answer = |status, body: &[u8]| {
        Answer::of(status, body)
            .with("etag", format!("\"{}\"", bytes.len()))
            .with("last-modified", "Mon, 01 Jan 2024 00:00:00 GMT")
    };
    if request.method == "HEAD" {
        return Answer { length: Some(bytes.len()), ..answer("200 OK", b"") };
    }
    let range = request.headers.get("range").and_then(|range| range.strip_prefix("bytes="));
    let Some((from, to)) = range.and_then(|range| range.split_once('-')) else {
        return answer("200 OK", bytes);
    };
    let from: usize = from.parse().expect("a number");
    let to = to.parse().map_or(bytes.len(), |last: usize| bytes.len().min(last + 1));
    let range = format!("bytes {from}-{}/{}", to.saturating_sub(1), bytes.len());
    answer("206 Partial Content", &bytes[from..to]).with("content-range", range)
}

fn list(held: &Held, query: &BTreeMap<String, String>) -> Answer {
    let prefix = query.get("prefix").cloned().unwrap_or_default();
    let after = query.get("continuation-token").cloned().unwrap_or_default();
    let mut found =
        held.objects.iter().filter(|(key, _)| key.starts_with(&prefix) && **key > after);
    let page: Vec<_> = found.by_ref().take(PAGE).collect();
    let is_more = found.next().is_some();
    let mut text = format!(
        "<ListBucketResult><Name>{BUCKET}</Name><Prefix>{prefix}</Prefix><KeyCount>{}</KeyCount>\
         <MaxKeys>{PAGE}</MaxKeys><IsTruncated>{is_more}</IsTruncated>",
        page.len()
    );
    for (key, bytes) in &page {
        let length = bytes.len();
        let _ = write!(
            text,
            "<Contents><Key>{key}</Key><LastModified>2024-01-01T00:00:00.000Z</LastModified>\
             <ETag>\"{length}\"</ETag><Size>{length}</Size></Contents>"
        );
    }
    if let (true, Some((last, _))) = (is_more, page.last()) {
        let _ = write!(text, "<NextContinuationToken>{last}</NextContinuationToken>");
    }
    Answer::of("200 OK", text + "</ListBucketResult>")
}

fn delete_all(held: &mut Held, body: &[u8]) -> Answer {
    let body = String::from_utf8_lossy(body).into_owned();
    let mut text = "<DeleteResult>".to_owned();
    for part in body.split("<Key>").skip(1) {
        let key = part.split("</Key>").next().unwrap_or_default();
        held.objects.remove(key);
        let _ = write!(text, "<Deleted><Key>{key}</Key></Deleted>");
    }
    Answer::of("200 OK", text + "</DeleteResult>")
}

/// The next request; `None` at the end of the connection.
fn read(reader: &mut impl BufRead) -> io::Result<Option<Request>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").and_then(|length| length.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body)?;
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let query = pairs.map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(name), decoded(&value.replace('+', "%20")))
    });
    let query = query.collect();
    let path = path.trim_start_matches('/');
    let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
    let (bucket, key) = (decoded(bucket), decoded(key));
    Ok(Some(Request { method, bucket, key, query, headers, body }))
}

/// Without percent-encoding.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        let byte = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match byte.filter(|_| *first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
