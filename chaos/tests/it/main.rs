//! The tool itself: it passes where all is well, and finds what is wrong on purpose.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::process::Command;

/// Runs the tool for some seconds, on the loopback interface, with kills and clock jumps.
fn run(arguments: &[&str]) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chaos"));
    command.args(["--minutes", "0.05", "--without", "partitions", "--without", "full-disks", "--without", "damage"]);
    let output = command.args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if let Some(folder) = said.lines().find_map(|line| line.strip_prefix("kept            ")) {
        std::fs::remove_dir_all(folder).unwrap();
    }
    (output.status.success(), said + &String::from_utf8_lossy(&output.stderr))
}

#[test]
fn a_short_run_has_no_violation() {
    let (holds, said) = run(&["--seed", "7"]);
    assert!(holds, "{said}");
    for line in [
        "skipped         partitions, as asked for",
        "no progress     ",
        "violations      0",
        "--without damage --seed 7",
    ] {
        assert!(said.contains(line), "`{line}` is not in: {said}");
    }
}

#[test]
fn a_step_that_books_twice_is_found() {
    let (holds, said) = run(&["--sabotage", "book-twice", "--without", "kills"]);
    assert!(!holds && said.contains("Hold was done 2 times"), "{said}");
}

#[test]
fn a_compensation_that_does_nothing_is_found() {
    let (holds, said) = run(&["--sabotage", "forget-back", "--without", "kills"]);
    assert!(!holds && said.contains("callers were told Aborted, and its steps"), "{said}");
}
