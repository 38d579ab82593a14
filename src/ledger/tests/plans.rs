//! Nothing that is asked often reads a whole table: at a million files that is invisible until it hurts.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::ControlFlow;

use rusqlite::trace::{TraceEvent, TraceEventCodes};

use super::*;

thread_local! {
    static HEARD: RefCell<BTreeSet<String>> = const { RefCell::new(BTreeSet::new()) };
}

fn hear(event: TraceEvent<'_>) {
    if let TraceEvent::Stmt(_, sql) = event {
        // Triggers are told as comments; their plans are part of their statement's.
        if !sql.starts_with("--") {
            HEARD.with_borrow_mut(|heard| heard.insert(sql.to_owned()));
        }
    }
}

/// Every statement that `work` runs, with SQLite's plan for it.
fn plans(ledger: &Ledger, work: impl FnOnce()) -> Vec<(String, Vec<String>)> {
    HEARD.take();
    ledger.db.trace_v2(TraceEventCodes::SQLITE_TRACE_STMT, Some(hear));
    work();
    ledger.db.trace_v2(TraceEventCodes::empty(), None);
    HEARD.take().into_iter().map(|sql| (sql.clone(), plan(&ledger.db, &sql))).collect()
}

fn plan(db: &Connection, sql: &str) -> Vec<String> {
    let mut explain = db.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).expect("a statement");
    for parameter in 1..=explain.parameter_count() {
        explain.raw_bind_parameter(parameter, 0).expect("bound");
    }
    let mut rows = explain.raw_query();
    let mut steps = Vec::new();
    while let Some(row) = rows.next().expect("a step") {
        steps.push(row.get(3).expect("its text"));
    }
    steps
}

/// Steps that go through all rows of a table that grows with the number of files.
fn whole_tables(steps: &[String]) -> Vec<&String> {
    const LARGE: [&str; 14] =
        ["files", "changes", "directories", "reasons", "readings", "history", "f", "c", "d", "r", "b", "h", "e", "g"];
    let is_whole = |step: &&String| {
        let mut words = step.split(' ');
        let scans = words.next() == Some("SCAN") && words.next().is_some_and(|table| LARGE.contains(&table));
        // The first row in the order of the queue's own index is no search of the table; and what is not there as it should
        // be are few, or it is they that are asked for.
        scans
            && !["INDEX changes_due", "INDEX readings_bad", "INDEX reasons_secret"]
                .iter()
                .any(|index| step.ends_with(index))
    };
    steps.iter().filter(is_whole).collect()
}

#[test]
fn nothing_that_is_asked_for_each_file_reads_a_whole_table() {
    let world = World::new();
    let World { ledger, mirror, .. } = &world;
    world.put("a/b/c", &stored(1));
    world.put("a/x", &failed(1));
    let plans = plans(ledger, || {
        for urgency in [Urgency::Event, Urgency::Scan] {
            world.push(&at("new/dir/file"), urgency);
        }
        ledger.outlook().expect("an outlook");
        world.push(&at("new/dir/beside"), Urgency::Event);
        let claim = ledger.claim(0, 1).expect("claimed").remove(0);
        let beside = ledger.claim_beside(&claim, 0, 1, |_| (true, ControlFlow::Continue(()))).expect("claimed");
        assert_eq!(beside.len(), 1);
        world.settle(&beside[0], &Settlement::Gone);
        ledger.defer(&claim, 0).expect("deferred");
        ledger.postpone(&claim, "timeout", "no answer", false, 0).expect("postponed");
        ledger.settle(&claim, &stored(1), Some(0), 0).expect("settled");
        world.settle(&world.claim_one(), &Settlement::Gone);
        for settlement in [
            Settlement::Nothing,
            stored(2),
            failed(1),
            Settlement::Refreshed(stat(1), 0),
            Settlement::Skipped(stat(1), 0, crate::mirror::Skip::TooLarge),
            Settlement::Descended,
            Settlement::Ignored,
            Settlement::Gone,
        ] {
            world.put("a", &settlement);
        }
        for which in [Below::Present, Below::Taken] {
            for dir in ["", "a", "a/b"] {
                ledger.has_below(*mirror, &at(dir), which).expect("an answer");
            }
        }
        ledger.listing(*mirror, &at("a")).expect("a listing");
        ledger.file(*mirror, &at("a/b/c")).expect("a row");
        ledger.some_stored(*mirror, 10).expect("some");
        ledger.counts(*mirror).expect("counts");
        ledger.count_bad(*mirror).expect("counts");
        ledger.count_guarded(*mirror).expect("counts");
        ledger.life(*mirror, &at("a/b/c")).expect("a life");
        ledger.count_then(*mirror, &at("a"), 1).expect("counted");
        ledger.naming(*mirror, 20).expect("a few");
        ledger.repair(&[], 0).expect("pushed");
        let readable = ledger.readable(&[], 1, None, 1);
        for file in readable.expect("listed") {
            let reading = Reading { found: Found::Missing, at: 0 };
            ledger.record_readings([(&file, reading, Proof::Read)]).expect("recorded");
        }
        for prefix in ["", "a", "a/b"] {
            world.entries(prefix);
        }
    });
    assert!(plans.len() > 25, "only {} statements were heard", plans.len());
    for (sql, steps) in plans {
        // Asked now and then, for what no index is worth its price.
        if sql.contains("ORDER BY coalesce(r.read_at") {
            continue;
        }
        assert_eq!(whole_tables(&steps), [""; 0], "{sql}\n{steps:#?}");
    }
}

#[test]
fn what_status_asks_begins_with_the_few_that_have_a_reason() {
    let world = World::new();
    world.put("a/b/c", &stored(1));
    world.put("a/x", &failed(1));
    let plans = plans(&world.ledger, || {
        world.ledger.agent().expect("read");
        world.ledger.active_mirrors().expect("read");
        world.counts();
        assert_eq!(world.ledger.problems(10).expect("read").len(), 1);
        world.ledger.count_bad(world.mirror).expect("read");
        world.ledger.naming(world.mirror, 20).expect("read");
        world.ledger.last_stored_at(world.mirror).expect("read");
        world.ledger.steering().expect("read");
        world.ledger.outlook().expect("read");
    });
    assert!(plans.len() >= 10, "{plans:?}");
    for (sql, steps) in plans {
        // One directory after the other is all files as well, unless a few are enough.
        let each_directory = |step: &String| step == "SEARCH f USING PRIMARY KEY (directory_id=?)";
        assert!(!steps.iter().any(each_directory) || sql.contains("LIMIT ?2"), "{sql}\n{steps:#?}");
        let few = ["SCAN r", "SCAN c USING INDEX changes_failing"];
        let whole: Vec<_> = whole_tables(&steps).into_iter().filter(|step| !few.contains(&step.as_str())).collect();
        assert_eq!(whole, [""; 0], "{sql}\n{steps:#?}");
    }
}

#[test]
fn claiming_takes_the_first_of_the_queue_without_sorting_it() {
    let world = World::new();
    world.push(&at("a"), Urgency::Event);
    let plans = plans(&world.ledger, || drop(world.claim(0)));
    let (_, steps) = plans.iter().find(|(sql, _)| sql.starts_with("SELECT")).expect("the claiming query");
    assert!(steps[0].contains("USING INDEX changes_due (due_at<?)"), "{steps:#?}");
    assert!(!steps.iter().any(|step| step.contains("TEMP B-TREE")), "{steps:#?}");
}

#[test]
fn what_there_was_then_comes_in_order_without_sorting_the_rest_of_a_directory() {
    let world = World::new();
    world.put("a/b/c", &stored(1));
    let plans = plans(&world.ledger, || {
        world.ledger.count_then(world.mirror, &at("a"), 1).expect("counted");
    });
    let (_, steps) = plans.iter().find(|(sql, _)| sql.contains("FROM history h")).expect("the query for that time");
    assert!(!steps.iter().any(|step| step.contains("TEMP B-TREE")), "{steps:#?}");
}

#[test]
fn claiming_in_another_directory_goes_on_in_the_queue_without_sorting_it() {
    let world = World::new();
    for path in ["a/1", "a/2", "b/1"] {
        world.push(&at(path), Urgency::Event);
    }
    let mut asked = Vec::new();
    let plans = plans(&world.ledger, || {
        let may = |claim: &Claim| {
            asked.push(claim.path.to_string());
            false
        };
        assert!(matches!(world.ledger.claim_if(500, may), Ok(FirstDue::Refused)));
    });
    let (_, steps) = plans.iter().find(|(sql, _)| sql.starts_with("SELECT")).expect("the claiming query");
    assert!(steps[0].contains("USING INDEX changes_due ((due_at,directory_id)>") && steps.len() == 2, "{steps:#?}");
    assert_eq!(asked, ["a/1", "b/1"], "the first of each directory");
    let not_in_a = |claim: &Claim| !claim.path.is_within(&at("a"));
    let FirstDue::Taken(claim) = world.ledger.claim_if(500, not_in_a).expect("looked") else { panic!("b is due") };
    assert_eq!(claim.path, at("b/1"));
    assert!(matches!(world.ledger.claim_if(500, not_in_a), Ok(FirstDue::Refused)), "the others are refused");
    assert_eq!(world.claim(500).len(), 2);
    assert!(matches!(world.ledger.claim_if(500, |_| true), Ok(FirstDue::Nothing)));
}

#[test]
fn claiming_beside_a_change_reads_its_own_directory_and_no_other() {
    let world = World::new();
    world.push(&at("a"), Urgency::Event);
    let claim = world.claim_one();
    let all = |_| (true, ControlFlow::Continue(()));
    let plans = plans(&world.ledger, || drop(world.ledger.claim_beside(&claim, 0, 0, all)));
    let (_, steps) = plans.iter().find(|(sql, _)| sql.starts_with("SELECT")).expect("the claiming query");
    assert!(steps[0].contains("USING PRIMARY KEY (directory_id=?)"), "{steps:#?}");
}

#[test]
fn a_plan_that_reads_a_whole_table_is_noticed() {
    let world = World::new();
    for sql in [
        "SELECT count(*) FROM files WHERE size = ?1",
        "SELECT 1 FROM changes c WHERE c.claimed = 1",
        "UPDATE directories SET parent_id = ?1 WHERE path = ?2",
        "SELECT 1 FROM files ORDER BY directory_id",
    ] {
        assert_eq!(whole_tables(&plan(&world.ledger.db, sql)).len(), 1, "{sql}");
    }
}
