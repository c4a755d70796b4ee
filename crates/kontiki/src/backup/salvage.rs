//! recover-with-loss: what is left of a store whose majority is gone for good, as a backup.

use std::fs::{self, File};
use std::io::BufWriter;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use kontiki_client::Row;
use kontiki_node::salvage::{KeyRow, Salvage};

use super::file::{Head, Totals, Writer};
use super::{beside, sync_folder};
use crate::cli::SalvageArgs;

pub(crate) fn run(args: &SalvageArgs) -> Result<()> {
    if !args.accept_loss {
        bail!(
            "this gives up every write that only the lost nodes have, acknowledged ones too\n\
             hint: as long as one of the lost directories can come back, bring it back and start its \
             node: nothing is lost then. If not, say so: \
             --i-accept-that-acknowledged-writes-may-be-lost"
        );
    }
    if args.file.exists() {
        bail!("{} exists\nhint: another name", args.file.display());
    }
    let scratch = beside(&args.file, "scratch");
    fs::create_dir(&scratch).with_context(|| format!("cannot make {}", scratch.display()))?;
    let done = recover(args, &scratch);
    let _ = fs::remove_dir_all(&scratch);
    let Totals { keys, bytes } = done?;
    println!("{keys} keys, {bytes} bytes: {}", args.file.display());
    println!(
        "hint: `kontiki restore {}` fills a new store; never start the old directories again, lost ones \
         that turn up among them",
        args.file.display()
    );
    Ok(())
}

fn recover(args: &SalvageArgs, scratch: &Path) -> Result<Totals> {
    let found = Salvage::open(&args.from, scratch)?;
    let groups = found.groups();
    for note in found.notes() {
        println!("{note}");
    }
    for group in &groups {
        println!(
            "group {}: {} slots, with its entries to {}, from {}; later ones are lost",
            group.group,
            group.slots.len(),
            group.last,
            group.path.display()
        );
    }
    let missing = found.missing();
    if !missing.is_empty() {
        println!(
            "lost as a whole, since no directory has them: {} slots: {missing}",
            missing.len()
        );
    }
    let head = Head {
        cluster: found.cluster(),
        taken_at_ms: SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as u64,
        epoch: found.epoch(),
        groups: groups.iter().map(|group| (group.group.0, group.last.index.0)).collect(),
    };
    let partial = beside(&args.file, "partial");
    let failed = || format!("cannot write {}", partial.display());
    let mut writer =
        Writer::begin(BufWriter::new(File::create(&partial).with_context(failed)?), &head)
            .with_context(failed)?;
    found.read(|rows| writer.rows(&rows.into_iter().map(as_row).collect::<Vec<_>>()))?;
    let (file, totals) = writer.end().with_context(failed)?;
    file.into_inner().map_err(|error| error.into_error()).with_context(failed)?.sync_all()?;
    fs::rename(&partial, &args.file)
        .with_context(|| format!("cannot name the backup {}", args.file.display()))?;
    sync_folder(&args.file)?;
    Ok(totals)
}

fn as_row(KeyRow { key, value, expires }: KeyRow) -> Row {
    Row { key, value, expires_at_ms: expires.map(|time| time.0) }
}
