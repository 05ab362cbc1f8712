//! Chapters 3 and 4: two processes over Zenoh, each killed with SIGKILL in the middle of a sale and started again.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use fleet::Ports;

/// What the shop says of its six orders, whoever is killed meanwhile.
const TOLD: &str = include_str!("../../../../docs/tutorial/3-two-machines.md");

/// A process that prints nothing for so long has failed.
const LINE_WAIT_MAX: Duration = Duration::from_mins(2);

/// A process that is killed when the test ends.
struct Process {
    child: Child,
    lines: Receiver<String>,
}

impl Process {
    /// Starts a program with the chapter's file, with the data and the endpoint of this test.
    fn start(program: &str, file: &str, data: PathBuf, [key, endpoint]: [&str; 2]) -> Self {
        let mut command = Command::new(program);
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).stdout(Stdio::piped());
        command.env("ACCOMPANIST__STORE__FOLDER", data).env(key, format!("[\"{endpoint}\"]"));
        let mut child = command.spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (line, lines) = channel();
        thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|printed| line.send(printed)));
        Self { child, lines }
    }

    fn bank(data: &Path, endpoint: &str) -> Self {
        let listen = ["ACCOMPANIST__ZENOH__LISTEN", endpoint];
        let bank = Self::start(env!("CARGO_BIN_EXE_bank"), "bank.toml", data.join("bank"), listen);
        assert_eq!(bank.line(), "the bank is open");
        bank
    }

    fn shop(data: &Path, endpoint: &str) -> Self {
        let connect = ["ACCOMPANIST__ZENOH__CONNECT", endpoint];
        let shop = Self::start(env!("CARGO_BIN_EXE_shop"), "shop.toml", data.join("shop"), connect);
        assert_eq!(shop.line(), "the shop is open");
        shop
    }

    /// The next line that it prints; empty when it has ended.
    fn line(&self) -> String {
        match self.lines.recv_timeout(LINE_WAIT_MAX) {
            Ok(line) => line,
            Err(RecvTimeoutError::Disconnected) => String::new(),
            Err(RecvTimeoutError::Timeout) => panic!("nothing was printed for {LINE_WAIT_MAX:?}"),
        }
    }

    /// The next lines, as far as the one about that order.
    fn until(&self, order: &str) -> Vec<String> {
        let mut lines = Vec::new();
        while !lines.last().is_some_and(|line: &String| line.starts_with(order)) {
            lines.push(self.line());
            assert_ne!(lines.last().unwrap(), "", "it ended before {order}");
        }
        lines
    }

    /// As `kill -9` does.
    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill(); // It may have ended by itself.
        let _ = self.child.wait();
    }
}

fn told() -> Vec<&'static str> {
    let told: Vec<_> = TOLD.lines().filter(|line| line.starts_with("order-")).collect();
    assert_eq!(told.len(), 6, "the chapter shows the shop's six lines");
    told
}

#[test]
fn six_orders_end_as_told_though_the_bank_and_the_shop_are_killed_in_the_middle() {
    let data = tempfile::tempdir().unwrap();
    let endpoint = Ports::default().endpoint().unwrap();
    let bank = Process::bank(data.path(), &endpoint);
    let shop = Process::shop(data.path(), &endpoint);

    let mut lines = shop.until("order-1");
    bank.kill(); // In the second that it takes for order 2, or right before it.
    let bank = Process::bank(data.path(), &endpoint);
    lines.extend(shop.until("order-3"));
    shop.kill(); // In the middle of order 4.
    let mut shop = Process::shop(data.path(), &endpoint);
    // It asks for all orders again, and is told again what has become of them.
    let again = shop.until("order-3");
    assert_eq!(again, lines);
    lines.extend(shop.until("order-6"));
    assert_eq!(lines, told());
    assert!(shop.child.wait().unwrap().success());
    bank.kill();
}
