use std::fs;
use std::path::Path;
use std::time::Duration;

use clap::{Args, Command, FromArgMatches};

use super::value::Peer;
use super::*;

fn from_file(text: &str) -> Result<Config, String> {
    let mut config = Config::default();
    file::apply(&mut config, "kontiki.toml", text).map_err(|error| error.to_string())?;
    config.check().map_err(|error| error.to_string())?;
    Ok(config)
}

fn refused(text: &str) -> String {
    from_file(text).expect_err("refused")
}

fn flags(arguments: &[&str]) -> ConfigArgs {
    let command = ConfigArgs::augment_args(Command::new("node").no_binary_name(true));
    let matches = command.try_get_matches_from(arguments).expect("known flags");
    ConfigArgs::from_arg_matches(&matches).expect("readable")
}

#[test]
fn a_file_sets_every_kind_of_key() {
    let config = from_file(
        r#"
        id = 2
        dir = "/data"
        peer = ["1=a:7101", "3=[::1]:7103"]
        bootstrap = true
        memory = "512MiB"
        log-keep = 1048576
        election-timeout = "1s"
        log-format = "json"
        "#,
    )
    .expect("fine");
    assert_eq!(config.id, Some(2));
    assert_eq!(config.dir.as_deref(), Some(Path::new("/data")));
    assert_eq!(config.peer[1], Peer { id: 3, address: "[::1]:7103".to_owned() });
    assert!(config.bootstrap);
    assert_eq!((config.memory, config.log_keep), (Size(512 << 20), Size(1 << 20)));
    assert_eq!(config.election_timeout, Duration::from_secs(1));
    assert_eq!(config.log_format, LogFormat::Json);
    assert_eq!(config.maxclients, Config::default().maxclients);
}

#[test]
fn an_unknown_key_is_named_with_its_line_and_a_suggestion() {
    assert_eq!(
        refused("id = 1\n\nelectoin-timeout = \"1s\"\n"),
        "kontiki.toml:3: unknown key `electoin-timeout`\nhint: did you mean `election-timeout`?"
    );
    assert_eq!(
        refused("log_keep = 1"),
        "kontiki.toml:1: unknown key `log_keep`\nhint: did you mean `log-keep`?"
    );
    assert_eq!(
        refused("[raft]\nheartbeat = \"10ms\""),
        "kontiki.toml:1: unknown key `raft`\n\
         hint: there are no sections: all keys stand at the top"
    );
    assert_eq!(
        refused("colour = \"blue\""),
        "kontiki.toml:1: unknown key `colour`\nhint: `kontiki config --defaults` prints all keys"
    );
}

#[test]
fn a_wrong_value_is_named_with_its_line() {
    for (text, problem) in [
        ("id = 0", "kontiki.toml:1: id: expected a number from 1 to 18446744073709551615, not 0"),
        (
            "\nid = \"1\"",
            "kontiki.toml:2: id: expected a number from 1 to 18446744073709551615, not \"1\"",
        ),
        (
            "maxclients = -5",
            "kontiki.toml:1: maxclients: expected a number from 1 to 18446744073709551615, not -5",
        ),
        (
            "memory = \"2 parsecs\"",
            "kontiki.toml:1: memory: expected a number of bytes such as \"64KiB\", \"256MiB\" or \"2GiB\", not \"2 parsecs\"",
        ),
        (
            "heartbeat = 30",
            "kontiki.toml:1: heartbeat: expected a time with its unit such as \"150ms\", \"5s\" or \"2m\", not 30",
        ),
        ("insecure = \"yes\"", "kontiki.toml:1: insecure: expected true or false, not \"yes\""),
        ("peer = [\"a:1\"]", "kontiki.toml:1: peer: expected \"ID=HOST:PORT\", not \"a:1\""),
        ("listen = 1979-05-27", "kontiki.toml:1: listen: expected a text, not a datetime"),
        ("requirepass = \"\"", "kontiki.toml:1: requirepass: expected a text, not \"\""),
    ] {
        assert_eq!(refused(text), problem);
    }
    assert!(refused("id = 1\nid = 2").starts_with("kontiki.toml:2: duplicate key"));
    assert!(refused("id = \n").starts_with("kontiki.toml:1: "));
}

#[test]
fn settings_must_go_together() {
    for (text, key) in [
        ("heartbeat = \"60ms\"", "heartbeat"),
        ("tls-key = \"k\"", "tls-certificate"),
        ("tls-peer-certificates = true", "tls-peer-certificates"),
        ("requirepass = \"a\"\nrequirepass-file = \"b\"", "requirepass"),
        ("bootstrap = true\njoin = \"a:1\"", "bootstrap"),
        ("peer = [\"2=a:1\", \"2=b:1\"]", "peer"),
        ("segment-bytes = \"1MiB\"", "segment-bytes"),
    ] {
        assert!(refused(text).starts_with(&format!("{key}: ")), "{text}: {}", refused(text));
    }
}

#[test]
fn flags_win_over_environment_over_file() {
    let file = tempfile("memory = \"1MiB\"\nlog-keep = \"1MiB\"\nheartbeat = \"1ms\"\n");
    let environment = [("KONTIKI_MEMORY", "2MiB"), ("KONTIKI_LOG_KEEP", "2MiB"), ("HOME", "/")];
    let environment = environment.map(|(name, text)| (name.to_owned(), text.to_owned()));
    let config = Config::load(Some(&file), environment, &flags(&["--memory", "3MiB"]));
    fs::remove_file(&file).expect("there");
    let config = config.expect("fine");
    assert_eq!((config.memory, config.log_keep), (Size(3 << 20), Size(2 << 20)));
    assert_eq!(config.heartbeat, Duration::from_millis(1));
}

#[test]
fn flags_are_repeated_switched_and_refused() {
    let none: [(String, String); 0] = [];
    let load = |arguments: &[&str]| Config::load(None, none.clone(), &flags(arguments));
    let config = load(&["--peer", "1=a:1", "--peer=2=b:2,3=c:3", "--bootstrap"]).expect("fine");
    assert_eq!(config.peer.iter().map(|peer| peer.id).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(config.bootstrap);
    assert!(!load(&["--insecure", "--insecure=false"]).expect("fine").insecure);
    assert_eq!(load(&["--id", "1", "--id", "2"]).expect("the last one").id, Some(2));
    let error = load(&["--request-timeout", "5"]).expect_err("refused").to_string();
    assert!(error.starts_with("--request-timeout: expected a time"), "{error}");
    let environment = [("KONTIKI_ID".to_owned(), "one".to_owned())];
    let error = Config::load(None, environment, &ConfigArgs::default()).expect_err("refused");
    assert!(error.to_string().starts_with("KONTIKI_ID: expected a number"), "{error}");
    let derived = ConfigArgs::default().with("id", "7");
    assert_eq!(Config::load(None, none, &derived).expect("fine").id, Some(7));
}

#[test]
fn secrets_may_be_in_files() {
    let path = tempfile("swordfish\nsecond line\n");
    let config = Config { requirepass_file: Some(path.clone()), ..Config::default() };
    assert_eq!(config.password(), Ok(Some("swordfish".to_owned())));
    fs::write(&path, "\n").expect("writable");
    assert!(config.password().is_err(), "an empty password protects nothing");
    fs::remove_file(&path).expect("there");
    assert!(config.password().is_err());
    assert_eq!(Config::default().password(), Ok(None));
    let config = Config { cluster_secret: Some("s".to_owned()), ..Config::default() };
    assert_eq!(config.shared_secret(), Ok(Some("s".to_owned())));
}

#[test]
fn the_printed_defaults_are_the_defaults() {
    let printed = defaults_toml();
    assert_eq!(from_file(&printed), Ok(Config::default()));
    let uncommented: String = printed
        .lines()
        .filter_map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')))
        .map(|line| format!("{line}\n"))
        .collect();
    let mut config = Config::default();
    file::apply(&mut config, "printed", &uncommented).expect("every line is valid");
    for key in keys() {
        assert!(uncommented.contains(&format!("{} = ", key.name)), "{} is missing", key.name);
        if let Some(default) = (key.show)(&Config::default()) {
            assert_eq!((key.show)(&config), Some(default), "{}", key.name);
        }
    }
}

#[test]
fn examples_are_valid() {
    for key in keys() {
        let text = format!("{} = {}", key.name, key.example);
        file::apply(&mut Config::default(), "example", &text).expect("valid");
    }
}

#[test]
fn values_are_shown_as_they_are_read() {
    for (text, shown) in [
        ("memory = \"1024KiB\"", "\"1MiB\""),
        ("memory = 1025", "\"1025B\""),
        ("memory = \"3 GiB\"", "\"3GiB\""),
        ("retry-after = \"1500ms\"", "\"1500ms\""),
        ("retry-after = \"120s\"", "\"2m\""),
        ("advertise = \"a\\\"b\"", "'a\"b'"),
    ] {
        let config = from_file(text).expect("fine");
        let name = text.split(' ').next().expect("a key");
        let key = keys().find(|key| key.name == name).expect("known");
        assert_eq!((key.show)(&config).as_deref(), Some(shown), "{text}");
    }
}

/// `KONTIKI_REWRITE=1 cargo test -p kontiki documented` rewrites the page.
#[test]
fn the_keys_are_documented() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    let expected = reference_markdown();
    if std::env::var_os("KONTIKI_REWRITE").is_some() {
        fs::write(&path, &expected).expect("writable");
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == expected,
        "docs/configuration.md is out of date\n\
         hint: KONTIKI_REWRITE=1 cargo test -p kontiki documented"
    );
}

fn tempfile(text: &str) -> PathBuf {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = format!("kontiki-config-{}-{number}", std::process::id());
    let path = std::env::temp_dir().join(name);
    fs::write(&path, text).expect("writable");
    path
}
