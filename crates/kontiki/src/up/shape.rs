//! How many nodes, groups and replicas there are to be: those of the store that is there, or what was
//! asked for.

use std::path::Path;

use anyhow::{Result, bail};
use kontiki_node::{Founded, founded, is_formatted};
use kontiki_types::NodeId;

use crate::cli::UpArgs;

/// What a new store has that nobody asked anything else of.
const NODES: u64 = 3;
const GROUPS: u32 = 3;
const REPLICAS: u64 = 3;

/// More nodes than `--nodes` can ask for.
const NODES_MAX: u64 = 9;

/// What is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) nodes: u64,
    pub(super) groups: usize,
    pub(super) replicas: usize,
}

impl Shape {
    /// Of the store in `--dir`, or of a new one. An option that contradicts what is there is refused.
    pub(super) fn of(args: &UpArgs) -> Result<Self> {
        match Found::look(&args.dir)? {
            Some(found) => found.shape(args),
            None => new(args),
        }
    }
}

fn new(args: &UpArgs) -> Result<Shape> {
    let nodes = args.nodes.unwrap_or(NODES);
    let replicas = args.replicas.unwrap_or(REPLICAS.min(nodes));
    if replicas > nodes {
        bail!("--replicas {replicas} on {nodes} nodes\nhint: at most one replica per node");
    }
    let groups = args.groups.unwrap_or(GROUPS) as usize;
    Ok(Shape { nodes, groups, replicas: replicas as usize })
}

/// The store that is there.
struct Found {
    dir: String,
    /// The last of the nodes with a directory.
    last: u64,
    /// Not known if all directories of founders are gone.
    founded: Option<Founded>,
}

impl Found {
    fn look(dir: &Path) -> Result<Option<Self>> {
        let path = |id: u64| dir.join(format!("node-{id}"));
        let mut there = Vec::new();
        for id in 1..=NODES_MAX {
            if is_formatted(&path(id))? {
                there.push(id);
            }
        }
        let Some(&last) = there.last() else { return Ok(None) };
        let mut known = None;
        for id in there {
            known = match known {
                None => founded(&path(id))?,
                known => known,
            };
        }
        Ok(Some(Self { dir: dir.display().to_string(), last, founded: known }))
    }

    fn shape(&self, args: &UpArgs) -> Result<Shape> {
        let Self { dir, founded, .. } = self;
        let nodes = self.nodes(args.nodes)?;
        let (groups, replicas) = match founded {
            Some(founded) => (founded.groups, founded.replicas),
            None => (GROUPS as usize, REPLICAS as usize),
        };
        if let Some(asked) = args.groups
            && asked as usize != groups
        {
            let began = match groups {
                1 => "one group".to_owned(),
                more => format!("{more} groups"),
            };
            let sharding = match groups {
                1 => "`kontiki cluster enable-sharding` and then ",
                _ => "",
            };
            bail!(
                "--groups {asked}, but the store in {dir} began with {began}\n\
                 hint: leave out --groups; {sharding}`kontiki cluster join` add groups to a store \
                 that is there, or choose another --dir"
            );
        }
        if let Some(asked) = args.replicas
            && asked as usize != replicas
        {
            bail!(
                "--replicas {asked}, but the groups of the store in {dir} began with {replicas}\n\
                 hint: leave out --replicas, or choose another --dir"
            );
        }
        Ok(Shape { nodes, groups, replicas })
    }

    /// All nodes with a directory, and founders whose directory is gone, which are then warned of.
    fn nodes(&self, asked: Option<u64>) -> Result<u64> {
        let founders = self.founded.iter().flat_map(|founded| &founded.nodes);
        let last = founders.map(|NodeId(id)| *id).max().unwrap_or(0).max(self.last);
        match asked {
            Some(asked) if asked != last => bail!(
                "--nodes {asked}, but the store in {} has {last}\n\
                 hint: leave out --nodes; `kontiki node --join` starts another node of a cluster, \
                 or choose another --dir",
                self.dir
            ),
            _ => Ok(last),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn shape(dir: &Path, words: &[&str]) -> Result<Shape> {
        let path = dir.to_str().expect("text");
        let words = ["kontiki", "up", "--dir", path].into_iter().chain(words.iter().copied());
        let Command::Up(args) = Cli::try_parse_from(words)?.command else { bail!("not up") };
        Shape::of(&args)
    }

    fn make(dir: &Path, nodes: u64, replicas: usize, groups: usize) {
        let paths: Vec<_> =
            (1..=nodes).map(|id| (NodeId(id), dir.join(format!("node-{id}")))).collect();
        let nodes: Vec<_> = paths.iter().map(|(id, path)| (*id, path.as_path())).collect();
        kontiki_node::format_cluster(&nodes, replicas, groups).expect("formatted");
    }

    #[test]
    fn a_new_store_has_three_groups_unless_another_number_is_asked_for() {
        let dir = tempfile::tempdir().expect("a folder");
        let is = |nodes, groups, replicas| Shape { nodes, groups, replicas };
        assert_eq!(shape(dir.path(), &[]).expect("new"), is(3, 3, 3));
        assert_eq!(shape(dir.path(), &["--groups", "1"]).expect("new"), is(3, 1, 3));
        assert_eq!(shape(dir.path(), &["--nodes", "1"]).expect("new"), is(1, 3, 1));
        let five = shape(dir.path(), &["--nodes", "5", "--replicas", "5"]);
        assert_eq!(five.expect("new"), is(5, 3, 5));
        assert!(shape(dir.path(), &["--nodes", "2", "--replicas", "3"]).is_err());
    }

    #[test]
    fn a_store_that_is_there_stays_as_it_is() {
        let dir = tempfile::tempdir().expect("a folder");
        make(dir.path(), 5, 3, 1);
        let there = Shape { nodes: 5, groups: 1, replicas: 3 };
        assert_eq!(shape(dir.path(), &[]).expect("there"), there);
        let same = ["--nodes", "5", "--groups", "1", "--replicas", "3"];
        assert_eq!(shape(dir.path(), &same).expect("there"), there);
        for (words, named) in [
            (["--groups", "3"], "began with one group"),
            (["--nodes", "3"], "has 5"),
            (["--replicas", "5"], "began with 3"),
        ] {
            let refused = shape(dir.path(), &words).expect_err("it contradicts").to_string();
            assert!(refused.contains(named) && refused.contains("hint:"), "{refused}");
        }
    }

    #[test]
    fn a_founder_whose_directory_is_gone_still_counts() {
        let dir = tempfile::tempdir().expect("a folder");
        make(dir.path(), 3, 3, 3);
        std::fs::remove_dir_all(dir.path().join("node-3")).expect("removed");
        assert_eq!(shape(dir.path(), &[]).expect("there").nodes, 3);
    }
}
