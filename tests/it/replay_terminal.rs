//! `covalence replay` on a terminal, as a person uses it: keys go in, and the screen shows the moment that they lead to.

use rustix::process::Signal;

use self::terminal::Terminal;
use super::support::eventually::eventually;
use super::support::platform::{ONLINE_LIMIT, Platform, Settings};
use super::support::processes;

mod terminal;

const LEFT: &str = "\x1b[D";
const RIGHT: &str = "\x1b[C";
const HOME: &str = "\x1b[H";
const END: &str = "\x1b[F";
const INTERRUPT: &str = "\x03";

/// Columns and rows.
const WIDE: (u16, u16) = (110, 24);
const NARROW: (u16, u16) = (60, 7);

/// A team of two, one of which died and came back, and the positions around that.
struct Night {
    platform: Platform,
    begin: u64,
    died: u64,
    head: u64,
}

impl Night {
    async fn lived_through() -> Self {
        let platform = Platform::start(Settings::process()).await;
        let admin = platform.admin();
        let ids = admin.create_online(&["Ada".to_owned(), "Bob".to_owned()]).await;
        let begin = admin.log(None, 0).await.expect("the log answers").last().expect("facts").position;
        platform.kill_workspace(&ids[0]);
        let (died, head) = eventually("Ada is back", ONLINE_LIMIT, async || {
            let facts = admin.log(None, begin).await?;
            let place = |tag: &str| facts.iter().find(|fact| fact.tag == tag).map(|fact| fact.position);
            let died = place("workspace.went_offline.v1").ok_or("not offline")?;
            place("fleet.restart_settled.v1").map(|back| (died, back)).ok_or_else(|| "not back".to_owned())
        })
        .await;
        Self { platform, begin, died, head }
    }

    fn replayed(&self, size: (u16, u16)) -> Terminal {
        let (from, to) = (self.begin.to_string(), self.head.to_string());
        // A session of its own, whose terminal this is: the kernel tells it when the window changes.
        let replay = ["replay", "--from", &from, "--to", &to];
        Terminal::run(self.platform.cli_through(&["setsid", "--ctty"], &replay), size)
    }

    fn at(&self, position: u64) -> String {
        format!("position {position} of {}", self.head)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_lead_through_the_past_and_leave_the_terminal_as_it_was() {
    let night = Night::lived_through().await;
    let mut terminal = night.replayed(WIDE);

    // It begins paused, with the state before the first fact.
    let facts = format!("fact 0 of {}", night.head - night.begin);
    terminal.line_with(&["‖ ×1 ", &night.at(night.begin), &facts]);
    terminal.line_with(&["the state that it begins with"]);
    terminal.line_with(&["Ada ", "online"]);
    assert!(terminal.is_other_screen() && !terminal.is_as_before());

    terminal.press(RIGHT);
    terminal.line_with(&[&night.at(night.begin + 1)]);
    terminal.press(LEFT);
    terminal.line_with(&[&night.at(night.begin)]);
    terminal.press(END);
    terminal.line_with(&[&night.at(night.head)]);
    terminal.line_with(&["Ada ", "online", " 2 "]);
    terminal.press(HOME);
    terminal.line_with(&[&night.at(night.begin)]);

    terminal.press(&format!("g{}", night.died));
    terminal.line_with(&["go to (a position, or a time): ", &night.died.to_string()]);
    terminal.press("\r");
    terminal.line_with(&[&night.at(night.died)]);
    terminal.line_with(&["Ada ", "offline"]);
    terminal.line_with(&["status online → offline"]);
    terminal.reverses("offline");
    terminal.press("p");
    terminal.line_with(&[&night.at(night.died - 1)]);

    terminal.press(HOME);
    terminal.press(&"+".repeat(9));
    terminal.line_with(&["‖ ×1000", &night.at(night.begin)]);
    terminal.press(" ");
    // It stops by itself where the facts end.
    terminal.line_with(&["‖ ×1000", &night.at(night.head)]);

    terminal.press("q");
    assert!(terminal.ended().success());
    assert!(terminal.is_as_before());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_window_of_another_size_is_drawn_anew_and_every_end_gives_the_terminal_back() {
    let night = Night::lived_through().await;
    let mut terminal = night.replayed(WIDE);
    terminal.line_with(&["q quit"]);
    terminal.line_with(&["NAME", "RESTARTS"]);
    terminal.resize(NARROW);
    // Five lines of seven are taken: the two that are left show one of the two, and say so.
    eventually("it is drawn for the small window", ONLINE_LIMIT, async || {
        let lines = terminal.lines();
        let fits = lines.len() == usize::from(NARROW.1)
            && lines[3].starts_with("NAME")
            && !lines[3].contains("RESTARTS");
        if fits && lines[6].starts_with("space play/pause") { Ok(()) } else { Err(lines.join("\n")) }
    })
    .await;
    terminal.resize(WIDE);
    terminal.line_with(&["NAME", "RESTARTS"]);

    terminal.press(INTERRUPT);
    assert!(terminal.ended().success());
    assert!(terminal.is_as_before());

    let mut terminal = night.replayed(WIDE);
    terminal.line_with(&["q quit"]);
    processes::signal(terminal.pid(), Signal::TERM);
    assert!(terminal.ended().success());
    assert!(terminal.is_as_before());
}
