//! Nothing in the project names one developer's machine, or the hosts of a package registry.

use super::Finding;
use crate::tree::Tree;

/// Put together here so that this file holds none of them.
const FOLDERS: [&str; 2] = [concat!("/wo", "rk/"), concat!("/ro", "ot/")];
const HOSTS: [&str; 7] = [
    concat!("index.", "crates.io"),
    concat!("static.", "crates.io"),
    concat!("crates.io", "-index"),
    concat!("registry.", "npmjs.org"),
    concat!("py", "pi.org"),
    concat!("files.", "pythonhosted.org"),
    concat!("deb.", "debian.org"),
];

pub fn inspect(tree: &Tree) -> Vec<Finding> {
    tree.iter().flat_map(|(path, text)| inspect_file(path, text)).collect()
}

fn inspect_file(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let mut found = |what, hint| findings.push(Finding::at(path, number + 1, what, hint));
        for folder in FOLDERS.iter().filter(|folder| names_folder(line, folder)) {
            found(format!("names the folder {folder}"), "use a path relative to the project");
        }
        // Cargo writes where its packages come from; nobody chose it.
        if path != "Cargo.lock" {
            for host in HOSTS.iter().filter(|host| line.contains(*host)) {
                found(format!("names the registry host {host}"), "name the package, not its host");
            }
        }
    }
    findings
}

/// Whether `line` has the folder at the start of a path: `https://x/work/` is another thing.
fn names_folder(line: &str, folder: &str) -> bool {
    line.match_indices(folder).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        before.is_none_or(|c| !c.is_alphanumeric() && !matches!(c, '.' | '_' | '-' | '}' | '$'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, text: &str, expect: usize) {
        assert_eq!(inspect(&Tree::of(&[(path, text)])).len(), expect, "in {text}");
    }

    #[test]
    fn planted_paths_and_hosts_are_found() {
        let folder = FOLDERS[0];
        check("README.md", &format!("run {folder}x"), 1);
        check("bench/run.sh", &format!("cd \"{folder}main\""), 1);
        check("package-lock.json", &format!("\"https://{}/x\"", HOSTS[3]), 1);
    }

    #[test]
    fn relative_paths_and_the_lock_file_are_not() {
        check("README.md", "target/work/x and $HOME/work/x", 0);
        check("Cargo.lock", &format!("registry+https://{}", HOSTS[2]), 0);
    }
}
