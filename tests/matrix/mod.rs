//! The HTTP fault matrix: each phase of the talk with dStor meets each fault, with the real program and a real dStor. While
//! the fault lasts, the file is in the state that the table says, no more requests are made than are right, and `status`
//! says how things stand. Once it is over, everything is stored, true to the bytes. No secret is ever seen.

mod elsewhere;
mod read;
mod run;
mod table;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// So many cells at a time: they mostly wait.
const AT_A_TIME: usize = 48;

// P1, P5, P6, G1, and the entries that the table names.
#[expect(clippy::print_stdout, reason = "the figure is what the test is for")]
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_fault_in_every_phase_ends_as_the_table_says() {
    let begun = Instant::now();
    let cells = table::cells();
    let all = cells.len();
    let turns = Arc::new(Semaphore::new(AT_A_TIME));
    let mut running = JoinSet::new();
    let mut names = std::collections::HashMap::new();
    for cell in cells {
        let turns = Arc::clone(&turns);
        let task = running.spawn(async move {
            let _turn = turns.acquire().await.expect("never closed");
            run::run(cell).await;
        });
        names.insert(task.id(), cell.name());
    }
    let mut wrong = Vec::new();
    while let Some(ended) = running.join_next_with_id().await {
        if let Err(error) = ended {
            let name = names[&error.id()].clone();
            let why = error.try_into_panic().map_or_else(|error| error.to_string(), words);
            wrong.push(format!("{name}\n    {}", why.replace('\n', "\n    ")));
        }
    }
    let right = all - wrong.len();
    println!("HTTP fault matrix: {right} cells of {all} are right, in {} s", begun.elapsed().as_secs());
    assert!(wrong.is_empty(), "{} cells are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// What a panic said.
fn words(panic: Box<dyn std::any::Any + Send>) -> String {
    match panic.downcast::<String>() {
        Ok(words) => *words,
        Err(panic) => panic.downcast::<&str>().map_or_else(|_| "a panic without words".into(), |words| (*words).into()),
    }
}

#[test]
fn the_table_has_no_cell_twice_and_none_too_few() {
    let names: Vec<String> = table::cells().iter().map(table::Cell::name).collect();
    let different: BTreeSet<&String> = names.iter().collect();
    assert_eq!(different.len(), names.len());
    assert!(names.len() >= 240, "{}", names.len());
}
