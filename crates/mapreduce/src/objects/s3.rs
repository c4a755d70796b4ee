//! S3, and what speaks like it: `s3://BUCKET/KEY`, set up by the usual variables `AWS_*`.
//!
//! A call that fails in a way that may pass (no connection, a cut one, a status of 5xx, 429) is made
//! again, a few times, for half a minute at the most.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::AmazonS3Builder;
use object_store::{BackoffConfig, ClientOptions, RetryConfig};
// What speaks HTTP below: a dependency so that it is built without a provider of cryptography of its own.
use reqwest as _;

use super::Store;

/// Calls after the first one.
const RETRIES: usize = 6;
/// No further call after this.
const RETRY_TIMEOUT: Duration = Duration::from_secs(30);
/// A call must be answered within this; a part of an upload is 8 MiB.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// One of these says where credentials come from.
const CREDENTIALS: [&str; 5] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_METADATA_ENDPOINT",
];

/// The bucket, by what is in the environment.
pub(super) fn open(bucket: &str) -> io::Result<Store> {
    let invalid = |why: String| io::Error::new(io::ErrorKind::InvalidInput, why);
    if bucket.is_empty() {
        return Err(invalid("it names no bucket: s3://BUCKET/KEY".into()));
    }
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let unsigned = std::env::var("AWS_SKIP_SIGNATURE").is_ok_and(|value| value != "false");
    if !unsigned && !CREDENTIALS.into_iter().any(is_set) {
        return Err(invalid(
            "no credentials for S3\nhint: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or \
             AWS_SKIP_SIGNATURE=true for a public bucket"
                .into(),
        ));
    }
    let endpoint = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"]
        .into_iter()
        .find_map(|name| std::env::var(name).ok().filter(|url| !url.is_empty()));
    // Whoever writes http:// means it.
    let plain = endpoint.is_some_and(|url| url.starts_with("http://"));
    // For the client below, which takes the process's choice. It may have been made.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let backoff = BackoffConfig { max_backoff: Duration::from_secs(5), ..BackoffConfig::default() };
    let retry = RetryConfig { max_retries: RETRIES, retry_timeout: RETRY_TIMEOUT, backoff };
    let options = ClientOptions::new()
        .with_allow_http(plain)
        .with_timeout(CALL_TIMEOUT)
        .with_connect_timeout(CONNECT_TIMEOUT);
    let built = AmazonS3Builder::from_env()
        .with_client_options(options)
        .with_retry(retry)
        .with_bucket_name(bucket)
        .build();
    Ok(Arc::new(built.map_err(|error| invalid(error.to_string()))?))
}
