//! What steps on a database promise, on every database. Next: `trouble.rs`.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use accompanist::prelude::*;
use accompanist::sql::{COMPENSATED_BEFORE, SqlSteps};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tokio::sync::Notify;

use crate::backend::{Backend, Connected};
use crate::support::fresh_key;

/// One effect, with a text as its output, so that some output is borrowed from nobody.
async fn commit<B: Backend>(steps: &SqlSteps<B::Db>, key: &IdempotencyKey, output: &str) -> Result<String, Abort> {
    let effect = async |connection: &mut Connected<B>| {
        B::affect(&mut *connection, "done").await?;
        Ok(output.to_owned())
    };
    steps.commit(key, effect).await
}

async fn compensate<B: Backend>(steps: &SqlSteps<B::Db>, key: &IdempotencyKey) -> Result<(), Retry> {
    steps.compensate(key, async |connection| Ok(B::affect(connection, "undone").await?)).await
}

async fn effects<B: Backend>(base: &B) -> [i64; 2] {
    [base.count("done").await, base.count("undone").await]
}

pub async fn a_second_commit_gives_the_first_result<B: Backend>(base: B) {
    let (steps, key) = (base.steps(), fresh_key());
    assert_eq!(commit::<B>(&steps, &key, "first").await.unwrap(), "first");
    assert_eq!(commit::<B>(&steps, &key, "second").await.unwrap(), "first");
    assert_eq!(effects(&base).await, [1, 0]);
    // Another step is another step, of the same session too.
    let other = IdempotencyKey { path: key.path.child(1), ..key };
    assert_eq!(commit::<B>(&steps, &other, "other").await.unwrap(), "other");
    assert_eq!(effects(&base).await, [2, 0]);
}

pub async fn many_tries_at_once_have_one_effect<B: Backend>(base: B) {
    let (key, asked) = (fresh_key(), Arc::new(AtomicU32::new(0)));
    let tries = (0..16_u32).map(|number| {
        let (steps, key, asked) = (base.steps(), key.clone(), asked.clone());
        tokio::spawn(async move {
            let effect = async |connection: &mut Connected<B>| {
                asked.fetch_add(1, SeqCst);
                B::affect(connection, "done").await?;
                Ok(number)
            };
            steps.commit(&key, effect).await.unwrap()
        })
    });
    let mut outputs = Vec::new();
    for ended in tries.collect::<Vec<_>>() {
        outputs.push(ended.await.unwrap());
    }
    assert!(outputs.iter().all(|output| *output == outputs[0]), "{outputs:?}");
    assert_eq!((effects(&base).await, asked.load(SeqCst)), ([1, 0], 1));
}

pub async fn a_refusal_is_kept_and_its_changes_are_not<B: Backend>(base: B) {
    let (steps, key, asked) = (base.steps(), fresh_key(), AtomicU32::new(0));
    let refuse = async |connection: &mut Connected<B>| {
        let number = asked.fetch_add(1, SeqCst);
        B::affect(connection, "done").await?;
        Err(Abort::new("no-cover", format!("refusal {number}")).into())
    };
    let refused: Result<u32, Abort> = steps.commit(&key, refuse).await;
    assert_eq!(refused, Err(Abort::new("no-cover", "refusal 0")));
    assert_eq!(effects(&base).await, [0, 0]);
    // It stays refused, even if the effect would succeed by now.
    assert_eq!(commit::<B>(&steps, &key, "late").await, Err(Abort::new("no-cover", "refusal 0")));
    assert_eq!((effects(&base).await, asked.load(SeqCst)), ([0, 0], 1));
}

/// No release can write it down.
struct Blank;
impl Serialize for Blank {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("it is blank"))
    }
}
impl<'de> Deserialize<'de> for Blank {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Ok(Self)
    }
}

pub async fn an_output_that_cannot_be_kept_is_rolled_back_and_refused<B: Backend>(base: B) {
    let (steps, key) = (base.steps(), fresh_key());
    for _ in 0..2 {
        let effect = async |connection: &mut Connected<B>| {
            B::affect(connection, "done").await?;
            Ok(Blank)
        };
        let refused = steps.commit(&key, effect).await.map(|Blank| ()).unwrap_err();
        assert_eq!(refused.code(), Abort::NOT_ENCODABLE);
        assert!(refused.message().contains("Blank") && refused.message().contains("it is blank"), "{refused}");
    }
    compensate::<B>(&steps, &key).await.unwrap();
    assert_eq!(effects(&base).await, [0, 0]);
}

pub async fn a_compensation_takes_effect_once<B: Backend>(base: B) {
    let (steps, key) = (base.steps(), fresh_key());
    commit::<B>(&steps, &key, "first").await.unwrap();
    for _ in 0..3 {
        compensate::<B>(&steps, &key).await.unwrap();
        assert_eq!(effects(&base).await, [1, 1]);
    }
    let late = commit::<B>(&steps, &key, "late").await.unwrap_err();
    assert_eq!((late.code(), effects(&base).await), (COMPENSATED_BEFORE, [1, 1]));
}

pub async fn many_compensations_at_once_take_back_once<B: Backend>(base: B) {
    let (steps, key) = (base.steps(), fresh_key());
    commit::<B>(&steps, &key, "first").await.unwrap();
    let tries = (0..16).map(|_| {
        let (steps, key) = (steps.clone(), key.clone());
        tokio::spawn(async move { while compensate::<B>(&steps, &key).await.is_err() {} })
    });
    for ended in tries.collect::<Vec<_>>() {
        ended.await.unwrap();
    }
    assert_eq!(effects(&base).await, [1, 1]);
}

pub async fn a_commit_after_its_compensation_is_refused<B: Backend>(base: B) {
    let (steps, key) = (base.steps(), fresh_key());
    commit::<B>(&steps, &key, "first").await.unwrap();
    compensate::<B>(&steps, &key).await.unwrap();
    for _ in 0..2 {
        assert_eq!(commit::<B>(&steps, &key, "late").await.unwrap_err().code(), COMPENSATED_BEFORE);
    }
    compensate::<B>(&steps, &key).await.unwrap();
    assert_eq!(effects(&base).await, [1, 1]);
}

/// Nothing is there: the runtime compensates only what was committed, so that is no "nothing to do".
pub async fn a_compensation_that_finds_no_marker_is_an_operators<B: Backend>(base: B) {
    let (steps, key) = (base.steps(), fresh_key());
    for _ in 0..2 {
        let lost = compensate::<B>(&steps, &key).await.unwrap_err();
        assert!(lost.is_for_operator() && lost.to_string().contains("its marker is not in the table"), "{lost}");
    }
    // It leaves nothing behind: a marker that is brought back is found.
    commit::<B>(&steps, &key, "first").await.unwrap();
    compensate::<B>(&steps, &key).await.unwrap();
    assert_eq!(effects(&base).await, [1, 1]);
}

pub async fn a_commit_and_its_compensation_at_once_agree<B: Backend>(base: B) {
    let steps = base.steps();
    for expected in 1..=20 {
        let key = fresh_key();
        let late = tokio::spawn({
            let (steps, key) = (steps.clone(), key.clone());
            async move { commit::<B>(&steps, &key, "done").await }
        });
        while compensate::<B>(&steps, &key).await.is_err() {}
        // It was done, and then taken back; never taken back before.
        late.await.unwrap().unwrap();
        assert_eq!(effects(&base).await, [expected, expected]);
    }
}

pub async fn tries_of_one_key_that_differ_agree<B: Backend>(base: B) {
    let mut expected = 0;
    for _ in 0..10 {
        let key = fresh_key();
        let tries = (0..8).map(|number| {
            let (steps, key) = (base.steps(), key.clone());
            tokio::spawn(async move {
                let effect = async |connection: &mut Connected<B>| {
                    B::affect(connection, "done").await?;
                    if number % 2 == 0 { Err(Abort::new("even", number.to_string()).into()) } else { Ok(number) }
                };
                steps.commit(&key, effect).await
            })
        });
        let mut results = Vec::new();
        for ended in tries.collect::<Vec<_>>() {
            results.push(ended.await.unwrap());
        }
        results.push(base.steps().commit(&key, async |_| Ok(99)).await);
        assert!(results.iter().all(|result| *result == results[0]), "{results:?}");
        expected += i64::from(results[0].is_ok());
        assert_eq!(effects(&base).await, [expected, 0]);
    }
}

pub async fn a_refused_step_is_not_taken_back<B: Backend>(base: B) {
    let (steps, key) = (base.steps(), fresh_key());
    let refused: Result<(), _> = steps.commit(&key, async |_| Err(Abort::new("no", "never").into())).await;
    compensate::<B>(&steps, &key).await.unwrap();
    assert_eq!(effects(&base).await, [0, 0]);
    assert_eq!(steps.commit(&key, async |_| Ok(())).await, refused);
}

pub async fn a_commit_cut_off_before_its_end_leaves_nothing<B: Backend>(base: B) {
    let (key, affected) = (fresh_key(), Arc::new(Notify::new()));
    let cut_off = tokio::spawn({
        let (steps, key, affected) = (base.steps(), key.clone(), affected.clone());
        async move {
            let effect = async |connection: &mut Connected<B>| {
                B::affect(connection, "done").await?;
                affected.notify_one();
                pending::<()>().await;
                Ok(())
            };
            steps.commit(&key, effect).await
        }
    });
    affected.notified().await;
    cut_off.abort();
    assert!(cut_off.await.unwrap_err().is_cancelled());
    assert_eq!(commit::<B>(&base.steps(), &key, "again").await.unwrap(), "again");
    assert_eq!(effects(&base).await, [1, 0]);
}

pub async fn a_compensation_cut_off_before_its_end_leaves_nothing<B: Backend>(base: B) {
    let (steps, key, affected) = (base.steps(), fresh_key(), Arc::new(Notify::new()));
    commit::<B>(&steps, &key, "first").await.unwrap();
    let cut_off = tokio::spawn({
        let (steps, key, affected) = (steps.clone(), key.clone(), affected.clone());
        async move {
            let effect = async |connection: &mut Connected<B>| {
                B::affect(connection, "undone").await?;
                affected.notify_one();
                pending().await
            };
            steps.compensate(&key, effect).await
        }
    });
    affected.notified().await;
    cut_off.abort();
    assert!(cut_off.await.unwrap_err().is_cancelled());
    while compensate::<B>(&steps, &key).await.is_err() {}
    assert_eq!(effects(&base).await, [1, 1]);
}

pub async fn old_markers_are_forgotten<B: Backend>(base: B) {
    let (steps, old, young) = (base.steps(), fresh_key(), fresh_key());
    for key in [&old, &young] {
        commit::<B>(&steps, key, "first").await.unwrap();
        base.let_age(key).await;
    }
    // What was written last counts, not what came first.
    compensate::<B>(&steps, &young).await.unwrap();
    // More than go into one transaction.
    base.run_outside(
        "INSERT INTO accompanist_steps (key, state, written_at)
         WITH RECURSIVE counted (number) AS (SELECT 1 UNION ALL SELECT number + 1 FROM counted WHERE number < 2500)
         SELECT 'more/' || number, 'compensated', (SELECT MIN(written_at) FROM accompanist_steps) FROM counted",
    )
    .await;
    assert_eq!(steps.forget_before(Duration::from_hours(2)).await.unwrap(), 0);
    assert_eq!(steps.forget_before(Duration::MAX).await.unwrap(), 0);
    assert_eq!(steps.forget_before(Duration::from_mins(30)).await.unwrap(), 2501);
    assert_eq!(steps.forget_before(Duration::from_mins(30)).await.unwrap(), 0);
    assert_eq!(commit::<B>(&steps, &young, "late").await.unwrap_err().code(), COMPENSATED_BEFORE);
    assert_eq!(commit::<B>(&steps, &old, "repeated").await.unwrap(), "repeated");
    assert_eq!(effects(&base).await, [3, 1]);
}

pub async fn many_make_the_table_at_once<B: Backend>(base: B) {
    base.run_outside("DROP TABLE accompanist_steps").await;
    let made = (0..8).map(|_| tokio::spawn(SqlSteps::standalone(base.steps().pool().clone())));
    for made in made.collect::<Vec<_>>() {
        made.await.unwrap().unwrap();
    }
    assert_eq!(commit::<B>(&base.steps(), &fresh_key(), "first").await.unwrap(), "first");
}
