//! What the workspaces of a storm run for each message: takes as many seconds as the message says, then repeats it. What is no
//! number, such as the platform's own word after a restart, is repeated at once.
//!
//! Compiled by the storm itself, as a static program for an image that has nothing else. Not part of the test program.

use std::io::Read as _;
use std::time::Duration;

fn main() {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).expect("a message");
    let seconds: f64 = text.trim().parse().unwrap_or(0.0);
    std::thread::sleep(Duration::from_secs_f64(seconds));
    println!("{}", text.trim());
}
