//! What is to be seen of a job that goes on, and jobs without reduces.

use std::time::Duration;

use kontiki_mapreduce::client::Client;
use kontiki_mapreduce::input::list;
use kontiki_mapreduce::jobs::Jobs;
use kontiki_mapreduce::shuffle::{Fetch, RunReader};
use kontiki_mapreduce::spec::Application;
use kontiki_mapreduce::streaming::Commands;
use kontiki_mapreduce::task::output_name;
use tokio::time::{sleep, timeout};

use crate::cluster::{Farm, PATIENCE, any_port, coordinator, ended, worker};

#[tokio::test(flavor = "multi_thread")]
async fn the_status_has_what_user_code_says_and_buckets_can_be_read_while_the_job_runs() {
    let mapper = "sed 's/^/key\t/'";
    let reducer = "echo reporter:status:counting sheep >&2; cat; sleep 2";
    let farm = Farm::new(Application::Streaming(Commands::new(mapper, reducer)), 1 << 20);
    let coordinator = coordinator(&farm.folder("coordinator"), any_port());
    let url = format!("http://{}", coordinator.address());
    let client = Client::new(&url).unwrap();
    let job = farm.submit(&client).await;
    let _worker = worker(&farm.folder("w1"), &url);
    let said = async {
        while !client.status().await.unwrap().contains("counting sheep") {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, said).await.expect("it is in the status");
    let outputs = client.map_outputs(job).await.unwrap();
    let records = tokio::task::spawn_blocking(move || {
        let mut records = Vec::new();
        for reduce in 0..farm.description.reduces {
            let bucket = outputs.bucket(0, reduce).unwrap();
            for run in &bucket.runs {
                let mut reader = RunReader::new(&outputs, &bucket.file, reduce, *run, 1 << 20);
                while reader.advance().unwrap() {
                    records.push((reader.key().to_vec(), reader.value().to_vec()));
                }
            }
        }
        assert!(outputs.bucket(7, 0).is_err(), "there is one map");
        (farm, records)
    });
    let (farm, records) = records.await.unwrap();
    let lines = std::fs::read(farm.folder("in.txt")).unwrap().split(|byte| *byte == b'\n').count();
    assert!(lines - 1 <= records.len() && records.len() <= lines, "{} of {lines}", records.len());
    assert!(records.iter().all(|(key, value)| key == b"key" && value.starts_with(b"\t")));
    assert_eq!(ended(&client, job).await.state, 1);
    farm.check_output();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_reduces_each_map_puts_its_output_in_place() {
    let application = Application::Streaming(Commands::new("sleep 0.1; sed 's/a/b/'", ""));
    let mut farm = Farm::new(application, 4000);
    farm.description.reduces = 0;
    let coordinator = coordinator(&farm.folder("coordinator"), any_port());
    let url = format!("http://{}", coordinator.address());
    let client = Client::new(&url).unwrap();
    let job = farm.submit(&client).await;
    // One leaves half-way: what is in place stays.
    let first = worker(&farm.folder("w1"), &url);
    let begun = async {
        while client.wait(job, Duration::from_millis(20)).await.unwrap().maps.unwrap().done == 0 {}
    };
    timeout(PATIENCE, begun).await.expect("a map is done");
    let _second = worker(&farm.folder("w2"), &url);
    first.send(()).unwrap();
    let status = ended(&client, job).await;
    assert_eq!((status.state, status.error.as_str()), (1, ""));
    assert_eq!(status.maps.unwrap().reruns, 0, "what is in place is not lost");
    let maps = farm.description.maps.len() as u32;
    let read = |map| std::fs::read(farm.output.join(output_name(map))).unwrap();
    let found: Vec<u8> = (0..maps).flat_map(read).collect();
    let files = list(&[farm.folder("in.txt").to_str().unwrap()]).unwrap();
    let alone = farm.folder("alone");
    let program = Jobs::new().program(&farm.description.application).unwrap();
    program.sequential_maps(&files, &alone).unwrap();
    assert!(maps > 3 && found == std::fs::read(alone).unwrap());
}
