//! Steps on databases outside, against real servers: one contract for both databases, what only one of them can do,
//! and whole nodes on them. Next: `contract.rs`.
//!
//! `PostgreSQL` is started by the tests from an installed package; see `server.rs`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    unreachable_pub,
    reason = "tests"
)]

mod backend;
mod bulkhead;
mod contract;
mod lost;
mod node;
mod postgres;
mod server;
mod sqlite;
mod support;
mod trouble;
mod undecided;

/// Every case once on every database.
macro_rules! on_both {
    ($($file:ident::$case:ident,)+) => {
        mod on_postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                if let Some(base) = crate::backend::Postgres::open().await {
                    crate::support::within(crate::$file::$case(base)).await;
                }
            })+
        }
        mod on_sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                crate::support::within(crate::$file::$case(crate::backend::Sqlite::open().await)).await;
            })+
        }
    };
}

on_both! {
    contract::a_second_commit_gives_the_first_result,
    contract::many_tries_at_once_have_one_effect,
    contract::a_refusal_is_kept_and_its_changes_are_not,
    contract::an_output_that_cannot_be_kept_is_rolled_back_and_refused,
    contract::a_compensation_takes_effect_once,
    contract::many_compensations_at_once_take_back_once,
    contract::a_commit_after_its_compensation_is_refused,
    contract::a_compensation_that_finds_no_marker_is_an_operators,
    contract::a_commit_and_its_compensation_at_once_agree,
    contract::tries_of_one_key_that_differ_agree,
    contract::a_refused_step_is_not_taken_back,
    contract::a_commit_cut_off_before_its_end_leaves_nothing,
    contract::a_compensation_cut_off_before_its_end_leaves_nothing,
    contract::old_markers_are_forgotten,
    contract::many_make_the_table_at_once,
    trouble::trouble_is_no_decision,
    trouble::a_violated_constraint_can_be_a_refusal,
    trouble::a_compensation_in_trouble_is_tried_again,
    trouble::an_effect_that_rolls_back_leaves_no_marker,
    trouble::an_effect_that_commits_by_itself_is_not_repeated,
    trouble::an_effect_whose_marker_cannot_be_written_is_not_kept,
    trouble::an_output_of_another_type_is_no_decision,
    node::a_killed_node_finds_what_it_has_committed,
    node::a_killed_node_finds_what_it_has_taken_back,
    node::a_refusal_ends_the_session_and_changes_nothing,
    undecided::a_commit_that_cannot_succeed_is_listed_and_goes_on_once_it_can,
    undecided::an_abort_ends_a_commit_that_cannot_succeed,
    undecided::a_compensation_that_cannot_succeed_is_listed_with_an_advice_of_its_own,
    lost::a_compensation_without_its_marker_is_listed_and_nothing_is_done,
    lost::a_marker_that_is_brought_back_is_taken_back,
    lost::a_node_does_not_start_on_markers_that_are_not_those_it_has_used,
    lost::a_step_does_not_run_on_markers_that_are_not_those_of_the_start,
    lost::nodes_share_a_database_and_a_fresh_one_starts_on_it,
    lost::markers_that_are_given_up_are_watched_again,
    lost::steps_that_are_no_nodes_say_so,
}
