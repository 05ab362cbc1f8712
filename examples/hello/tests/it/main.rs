//! The example's words.

#![allow(clippy::expect_used, reason = "tests")]

use std::process::Command;

#[test]
fn example_sells_refuses_and_puts_back() {
    let run = Command::new(env!("CARGO_BIN_EXE_hello")).output().expect("the example starts");
    let (said, complaints) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success(), "{said}{complaints}");
    assert_eq!(
        said,
        "\
In one process, with no store and no network:
   3 books? sold 3 books
  11 books? there are not so many on the shelf (sold-out)
   5 books? the bank pays 100 at most (no-cover)
On two nodes, each with its own store:
   3 books? sold 3 books; 7 on the shelf
  11 books? aborted: there are not so many on the shelf (sold-out); 7 on the shelf
   5 books? aborted: the bank pays 100 at most (no-cover); 7 on the shelf
"
    );
}
