//! Input and output in object stores: `file://` between workers, `memory://` in one process.

use kontiki_mapreduce::client::{Client, SubmitOptions};
use kontiki_mapreduce::description::Description;
use kontiki_mapreduce::destination::Destination;
use kontiki_mapreduce::input::{SPLIT_BYTES, list, plan};
use kontiki_mapreduce::local::{LocalJob, Progress, run};
use kontiki_mapreduce::objects::Place;
use kontiki_mapreduce::spec::Application;
use kontiki_mapreduce::streaming::{Commands, Streaming};
use kontiki_mapreduce::task::{Compiled, Program, output_name};

use crate::cluster::{any_port, coordinator, ended, worker};
use crate::{FIXTURE, sequential, sorted};

fn place(url: &str) -> Place {
    Place::of(url.as_bytes()).unwrap()
}

fn read(url: &str, outputs: u32) -> Vec<Vec<u8>> {
    (0..outputs)
        .map(|number| place(&format!("{url}/{}", output_name(number))).read().unwrap().to_vec())
        .collect()
}

#[test]
fn objects_are_found_by_prefix_and_by_pattern() {
    let root = "memory:///found";
    for name in ["a.txt", "b/c.txt", "b/.hidden", "b/d.gz", "_log/e.txt", "z"] {
        place(&format!("{root}/in/{name}")).write(name.as_bytes().to_vec()).unwrap();
    }
    let names = |input: &str| -> Result<Vec<String>, String> {
        let files = list(&[format!("{root}/{input}")]).map_err(|error| error.to_string())?;
        let name = |name: &[u8]| String::from_utf8(name.to_vec()).unwrap();
        Ok(files.iter().map(|file| name(&file.name).replace(&format!("{root}/in/"), "")).collect())
    };
    for (input, found) in [
        ("in", &["a.txt", "b/c.txt", "b/d.gz", "z"][..]),
        ("in/b/", &["b/c.txt", "b/d.gz"]),
        ("in/z", &["z"]),
        ("in/*.txt", &["a.txt"]),
        ("in/**/*.txt", &["_log/e.txt", "a.txt", "b/c.txt"]),
        ("in/?/[cd].*", &["b/c.txt", "b/d.gz"]),
    ] {
        assert_eq!(names(input).unwrap(), found, "{input}");
    }
    assert!(names("in/x").unwrap_err().contains("there is no"));
    assert!(names("in/*.zst").unwrap_err().contains("nothing matches"));
}

#[test]
fn a_job_reads_and_writes_objects() {
    let url = "memory:///words";
    let text = FIXTURE.repeat(50);
    place(&format!("{url}/in/text")).write(text.clone()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("text");
    std::fs::write(&path, &text).unwrap();
    let expected = |program: &dyn Program| {
        sorted(&[sequential(program, &list(&[path.to_str().unwrap()]).unwrap())])
    };
    let failing = Streaming::new(Commands::new("cat", "exit 1"));
    let words = Compiled(kontiki_mapreduce::apps::WordCount);
    for (name, program) in [("words", &words as &dyn Program), ("failing", &failing)] {
        let output = format!("{url}/out-{name}");
        let maps = plan(&list(&[format!("{url}/in")]).unwrap(), 3000);
        let work = tempfile::tempdir().unwrap();
        let job = LocalJob {
            program,
            maps: &maps,
            reduces: 3,
            workers: 2,
            memory_bytes: 16 << 20,
            skip_bad_records: false,
            output: output.as_ref(),
            work: work.path(),
        };
        let destination = Destination::of(output.as_ref()).unwrap();
        assert!(maps.len() > 3 && destination.is_empty().unwrap());
        let done = run(&job, &Progress::default());
        if name == "failing" {
            assert!(done.is_err() && destination.is_empty().unwrap());
            continue;
        }
        done.unwrap();
        assert!(sorted(&read(&output, 3)) == expected(program));
        destination.remove_outputs(3);
        assert!(destination.is_empty().unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_read_objects_and_upload_their_output() {
    let root = tempfile::tempdir().unwrap();
    let url = format!("file://{}", root.path().display());
    std::fs::create_dir_all(root.path().join("in")).unwrap();
    let path = root.path().join("in/text");
    std::fs::write(&path, FIXTURE.repeat(50)).unwrap();
    let listed = format!("{url}/in");
    let files = tokio::task::spawn_blocking(move || list(&[listed]).unwrap()).await.unwrap();
    for (name, application, split_bytes) in [
        ("index", Application::Indexer, 3000),
        ("slow", Application::Streaming(Commands::new("cat", "sleep 0.3; sort")), SPLIT_BYTES),
    ] {
        let output = format!("{url}/out-{name}");
        let maps = plan(&files, split_bytes);
        let description = Description::new(application.clone(), maps, 3, output.as_ref());
        let coordinator = coordinator(&root.path().join(format!("c-{name}")), any_port());
        let address = format!("http://{}", coordinator.address());
        let client = Client::new(&address).unwrap();
        let options = SubmitOptions::default();
        let job = client.submit(&description, &options).await.unwrap();
        let _workers = ["w1", "w2"].map(|worker_name| {
            worker(&root.path().join(format!("{worker_name}-{name}")), &address)
        });
        let status = ended(&client, job).await;
        assert_eq!((status.state, status.error.as_str()), (1, ""));
        let program = kontiki_mapreduce::jobs::Jobs::new().program(&application).unwrap();
        let files = files.clone();
        let (found, expected) = tokio::task::spawn_blocking(move || {
            (sorted(&read(&output, 3)), sorted(&[sequential(&*program, &files)]))
        })
        .await
        .unwrap();
        assert!(found == expected, "{name}");
    }
    let left: Vec<_> = std::fs::read_dir(root.path().join("out-index")).unwrap().collect();
    assert_eq!(left.len(), 3, "nothing but outputs: {left:?}");
}
