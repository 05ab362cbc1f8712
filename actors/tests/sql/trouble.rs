//! Trouble with a database, on every database: it is never a decision, and what does not pass is logged.

use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use accompanist::prelude::*;

use crate::backend::{Backend, Connected};
use crate::support::{fresh_key, until, warnings};

pub async fn trouble_is_no_decision<B: Backend>(base: B) {
    let (steps, key) = (base.steps(), fresh_key());
    let committed = steps.commit(&key, async |connection| {
        B::affect(&mut *connection, "done").await?;
        B::run(connection, "INSERT INTO later (name) VALUES ('a')").await?;
        Ok(5_u32)
    });
    let correct = async {
        until("warnings", async || warnings(&key, "correct the statement, or the tables") >= 3).await;
        assert_eq!(base.count("done").await, 0);
        base.run_outside("CREATE TABLE later (name TEXT)").await;
    };
    assert_eq!(tokio::join!(committed, correct).0, Ok(5));
    assert_eq!(base.count("done").await, 1);
}

pub async fn a_violated_constraint_can_be_a_refusal<B: Backend>(base: B) {
    let (steps, key, tries) = (base.steps(), fresh_key(), AtomicU32::new(0));
    base.run_outside("INSERT INTO once (name) VALUES ('taken')").await;
    let effect = async |connection: &mut Connected<B>| {
        B::affect(&mut *connection, "done").await?;
        match B::run(connection, "INSERT INTO once (name) VALUES ('taken')").await {
            Err(sqlx::Error::Database(error)) if error.is_unique_violation() && tries.fetch_add(1, SeqCst) > 1 => {
                Err(Abort::new("taken", "somebody has that name").into())
            }
            other => Ok(other?),
        }
    };
    assert_eq!(steps.commit(&key, effect).await.unwrap_err().code(), "taken");
    assert_eq!(warnings(&key, "return an `Abort` for it"), 2);
    assert_eq!(base.count("done").await, 0);
    assert_eq!(steps.commit(&key, async |_| Ok(())).await.unwrap_err().code(), "taken");
}

pub async fn a_compensation_in_trouble_is_tried_again<B: Backend>(base: B) {
    let (steps, key) = (base.steps(), fresh_key());
    steps.commit(&key, async |connection| Ok(B::affect(connection, "done").await?)).await.unwrap();
    let trouble = steps.compensate(&key, async |connection| {
        B::affect(&mut *connection, "undone").await?;
        Ok(B::run(connection, "DELETE FROM later").await?)
    });
    assert!(trouble.await.unwrap_err().to_string().contains("later"));
    assert_eq!(warnings(&key, "correct the statement, or the tables"), 1);
    let refused = steps.compensate(&key, async |connection| {
        B::affect(connection, "undone").await?;
        Err(Abort::new("no", "not now").into())
    });
    assert_eq!(refused.await, Err(Retry::new("not now (no)")));
    assert_eq!(warnings(&key, "a compensation cannot be refused"), 1);
    assert_eq!(base.count("undone").await, 0);
    steps.compensate(&key, async |connection| Ok(B::affect(connection, "undone").await?)).await.unwrap();
    assert_eq!(base.count("undone").await, 1);
}

pub async fn an_effect_that_rolls_back_leaves_no_marker<B: Backend>(base: B) {
    let (steps, key, tries) = (base.steps(), fresh_key(), AtomicU32::new(0));
    let effect = async |connection: &mut Connected<B>| {
        if tries.fetch_add(1, SeqCst) == 0 {
            B::run(&mut *connection, "ROLLBACK").await?;
            return Ok(0);
        }
        B::affect(connection, "done").await?;
        Ok(1)
    };
    assert_eq!(steps.commit(&key, effect).await, Ok(1));
    assert_eq!(base.count("done").await, 1);
}

pub async fn an_effect_that_commits_by_itself_is_not_repeated<B: Backend>(base: B) {
    let (steps, key) = (base.steps(), fresh_key());
    let committed = steps.commit(&key, async |connection| {
        B::affect(&mut *connection, "done").await?;
        B::run(&mut *connection, "COMMIT").await?;
        Ok(B::run(connection, "DELETE FROM later").await?)
    });
    let seen = until("warnings", async || warnings(&key, "the state `abandoned`") >= 3);
    tokio::select! {
        result = committed => panic!("{result:?}"),
        () = seen => {}
    }
    assert_eq!(base.count("done").await, 1);
    // The connections that it has spoilt are nobody else's.
    for _ in 0..12 {
        let key = fresh_key();
        let sound = steps.commit(&key, async |connection| Ok(B::affect(connection, "sound").await?));
        assert_eq!(sound.await, Ok(()));
    }
    assert_eq!(base.count("sound").await, 12);
}

pub async fn an_output_of_another_type_is_no_decision<B: Backend>(base: B) {
    let (steps, key) = (base.steps(), fresh_key());
    steps.commit(&key, async |connection| Ok(B::affect(connection, "done").await?)).await.unwrap();
    let other = steps.commit(&key, async |_| Ok("text".to_owned()));
    let seen = until("warnings", async || warnings(&key, "the type of its step's output") >= 2);
    tokio::select! {
        result = other => panic!("{result:?}"),
        () = seen => {}
    }
    assert_eq!((base.count("done").await, steps.commit(&key, async |_| Ok(())).await), (1, Ok(())));
}

pub async fn an_effect_whose_marker_cannot_be_written_is_not_kept<B: Backend>(base: B) {
    let (steps, key, other) = (base.steps(), fresh_key(), fresh_key());
    steps.commit(&other, async |connection| Ok(B::affect(connection, "done").await?)).await.unwrap();
    base.run_outside(B::FORBID).await;
    let committed = steps.commit(&key, async |connection| Ok(B::affect(connection, "done").await?));
    let allow = async {
        until("warnings", async || warnings(&key, "forbidden") >= 2).await;
        let undo = async |connection: &mut Connected<B>| Ok(B::affect(connection, "undone").await?);
        steps.compensate(&other, undo).await.unwrap_err();
        assert_eq!([base.count("done").await, base.count("undone").await], [1, 0]);
        base.run_outside(B::ALLOW).await;
    };
    tokio::join!(committed, allow).0.unwrap();
    assert_eq!([base.count("done").await, base.count("undone").await], [2, 0]);
}
