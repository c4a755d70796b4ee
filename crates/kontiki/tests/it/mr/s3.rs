//! Input and output in S3, as the programs of a user reach it: by variables of the environment.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use super::s3_server::{BUCKET, KEY_ID, S3Server};
use super::{kontiki, sorted};

/// `kontiki mr run` with what the server asks for.
fn run(endpoint: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(kontiki());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("AWS_") {
            command.env_remove(name);
        }
    }
    command
        .env("AWS_ACCESS_KEY_ID", KEY_ID)
        .env("AWS_SECRET_ACCESS_KEY", "secret")
        .env("AWS_REGION", "eu-test-1")
        .env("AWS_ENDPOINT_URL", endpoint)
        .args(["mr", "run", "--workers", "2", "--quiet"])
        .args(arguments);
    command
}

fn stderr(done: &Output) -> String {
    String::from_utf8_lossy(&done.stderr).into_owned()
}

fn succeed(mut command: Command) {
    let done = command.output().expect("kontiki runs");
    assert!(done.status.success(), "{}", stderr(&done));
}

/// Some books in the bucket; what `wc` gives for them.
fn books(server: &S3Server, folder: &Path) -> Vec<u8> {
    let files = folder.join("books");
    let mut generate = Command::new(kontiki());
    generate.args(["mr", "gen", "text", "--size", "60KiB", "--files", "8", "--output"]);
    assert!(generate.arg(&files).status().expect("kontiki runs").success());
    for file in fs::read_dir(&files).expect("files").flatten() {
        let name = format!("in/a b/{}", file.file_name().to_string_lossy());
        server.put(&name, fs::read(file.path()).expect("a file"));
    }
    let output = folder.join("expected");
    let mut alone = Command::new(kontiki());
    alone.args(["mr", "run", "wc", "--quiet", "--sequential", "--input"]).arg(&files);
    succeed({
        alone.arg("--output").arg(&output);
        alone
    });
    super::union(&output)
}

fn union(server: &S3Server, prefix: &str) -> Vec<u8> {
    sorted(&server.objects(prefix).into_values().flatten().collect::<Vec<u8>>())
}

/// Lists of several pages, patterns, splits within objects, threads and processes.
#[test]
fn a_job_reads_and_writes_a_bucket() {
    let server = S3Server::start();
    let folder = tempfile::tempdir().expect("a folder");
    let expected = books(&server, folder.path());
    for (name, more) in [("threads", &["--reduces", "5"][..]), ("processes", &["--processes"])] {
        let input = format!("s3://{BUCKET}/in/a b/part-*");
        let output = format!("s3://{BUCKET}/out/{name}");
        let arguments = ["wc", "--split-size", "5000", "--input", &input, "--output", &output];
        succeed(run(&server.url(), &[&arguments[..], more].concat()));
        assert!(union(&server, &format!("out/{name}/")) == expected, "{name}");
    }
    assert_eq!(server.objects("out/threads/").len(), 5);
    assert_eq!(server.uploads_open(), 0);
}

/// More than one part up, more than one range down, byte for byte; 503 and connections that are cut
/// in the middle of an object on the way.
#[test]
fn failures_that_pass_are_got_over() {
    let server = S3Server::start();
    let lines: Vec<u8> =
        (0..900_000_u32).flat_map(|line| format!("{line:09}\n").into_bytes()).collect();
    server.put("in/large", lines.clone());
    let (input, output) = (format!("s3://{BUCKET}/in/large"), format!("s3://{BUCKET}/out"));
    let arguments =
        ["--mapper", "cat", "--reducer", "NONE", "--input", &input, "--output", &output];
    server.fail(3, 2);
    succeed(run(&server.url(), &arguments));
    assert_eq!(server.failures_left(), 0, "they all came up");
    assert!(server.parts() >= 2, "{} parts", server.parts());
    let objects = server.objects("out/");
    assert_eq!(objects.keys().collect::<Vec<_>>(), ["out/mr-out-0"]);
    assert!(objects["out/mr-out-0"] == lines);
}

/// Each is told by what is wrong with it, and nothing is written.
#[test]
fn what_does_not_pass_is_told_before_any_work() {
    let server = S3Server::start();
    server.put("in/text", "some words\n");
    server.put("full/mr-out-0", "");
    let input = format!("s3://{BUCKET}/in");
    let output = format!("s3://{BUCKET}/out");
    let check = |command: &mut Command, expect: &[&str]| {
        let done = command.output().expect("kontiki runs");
        let said = stderr(&done);
        assert!(!done.status.success(), "{said}");
        for text in expect {
            assert!(said.contains(text), "no {text} in {said}");
        }
        assert_eq!(server.objects("").len(), 2, "nothing was written");
        assert_eq!(server.parts(), 0);
    };
    let to = |input: &str, output: &str| {
        run(&server.url(), &["wc", "--input", input, "--output", output])
    };
    check(&mut to(&format!("s3://{BUCKET}/absent"), &output), &["there is no", "absent"]);
    check(&mut to(&format!("s3://{BUCKET}/in/*.txt"), &output), &["nothing matches", "in/*.txt"]);
    check(&mut to("s3://other/in", &output), &["s3://other/in"]);
    check(&mut to(&input, &format!("s3://{BUCKET}/full")), &["full", "is not empty"]);
    check(&mut to(&input, "s3://other/out"), &["the output s3://other/out", "NoSuchBucket"]);
    check(to(&input, &output).env("AWS_ACCESS_KEY_ID", "nobody"), &["403", "AccessDenied"]);
    check(to(&input, &output).env_remove("AWS_ACCESS_KEY_ID"), &["AWS_ACCESS_KEY_ID"]);
    check(&mut to("s3:///in", &output), &["bucket"]);
    check(&mut to("gs://bucket/in", &output), &["no access to gs://bucket"]);
    let before = server.requests();
    check(to(&input, &output).env("AWS_ENDPOINT_URL", "http://127.0.0.1:1"), &["127.0.0.1:1"]);
    assert_eq!(server.requests(), before);
    // Nothing comes of what user code left when it failed for good.
    let failing =
        ["--mapper", "cat", "--reducer", "exit 3", "--input", &input, "--output", &output];
    check(&mut run(&server.url(), &failing), &["exit"]);
    assert_eq!(server.uploads_open(), 0);
}
