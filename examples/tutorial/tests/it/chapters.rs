//! Chapters 1 and 2: what the programs print, which is what the chapters show.

use std::process::Command;

fn printed(program: &str) -> String {
    let run = Command::new(program).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    String::from_utf8(run.stdout).unwrap()
}

/// A chapter has what a program prints as a block of text of its own.
fn check(chapter: &str, printed: &str) {
    assert!(chapter.contains(&format!("```text\n{printed}```\n")), "the chapter does not show this:\n{printed}");
}

#[test]
fn chapter_1_shows_what_ask_prints() {
    check(include_str!("../../../../docs/tutorial/1-hello.md"), &printed(env!("CARGO_BIN_EXE_ask")));
}

#[test]
fn chapter_2_shows_what_saga_prints() {
    check(include_str!("../../../../docs/tutorial/2-saga.md"), &printed(env!("CARGO_BIN_EXE_saga")));
}
