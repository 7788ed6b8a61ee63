//! A pseudo-terminal with a program on it: what a person would type goes in, what they would see comes out.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::num::NonZeroU16;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use crate::support::eventually::eventually_blocking;

/// From a key to its effect on the screen, on a machine that others use too.
const SEEN_LIMIT: Duration = Duration::from_secs(20);

/// See the module.
pub(super) struct Terminal {
    controller: File,
    screen: Arc<Mutex<vt100::Parser>>,
    child: Child,
}

fn nonzero(number: u16) -> NonZeroU16 {
    NonZeroU16::new(number).expect("a terminal has rows and columns")
}

impl Terminal {
    /// Makes the terminal of this size and starts the program on it, as the leader of its session. What the command says of
    /// its standard streams is replaced.
    pub(super) fn run(mut command: Command, (columns, rows): (u16, u16)) -> Self {
        let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&controller).unwrap();
        unlockpt(&controller).unwrap();
        let path = ptsname(&controller, Vec::new()).unwrap().into_string().unwrap();
        set_size(&controller, (columns, rows));
        let end = || {
            File::from(
                rustix::fs::open(
                    &*path,
                    rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY,
                    rustix::fs::Mode::empty(),
                )
                .unwrap(),
            )
        };
        let child = command.stdin(end()).stdout(end()).stderr(end()).spawn().expect("the program starts");
        let controller = File::from(controller);
        let screen = Arc::new(Mutex::new(vt100::Parser::new(nonzero(rows), nonzero(columns), 0)));
        let (shown, mut output) = (Arc::clone(&screen), controller.try_clone().unwrap());
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // An error says that nobody has the other end open any more.
            while let Ok(count @ 1..) = output.read(&mut bytes) {
                shown.lock().unwrap().process(&bytes[..count]);
            }
        });
        Self { controller, screen, child }
    }

    /// Presses keys.
    pub(super) fn press(&mut self, keys: &str) {
        self.controller.write_all(keys.as_bytes()).unwrap();
    }

    /// Makes the window larger or smaller; the kernel tells the program.
    pub(super) fn resize(&mut self, (columns, rows): (u16, u16)) {
        self.screen.lock().unwrap().set_size(nonzero(rows), nonzero(columns));
        set_size(&self.controller, (columns, rows));
    }

    /// The lines as they are shown.
    pub(super) fn lines(&self) -> Vec<String> {
        let screen = self.screen.lock().unwrap();
        let (_, columns) = screen.screen().size();
        screen.screen().rows(0, columns.get()).map(|line| line.trim_end().to_owned()).collect()
    }

    /// Waits until the screen has a line with all of these parts, and answers that line. A screen comes in pieces: what is expected of
    /// one line has to be asked for at once.
    pub(super) fn line_with(&self, parts: &[&str]) -> String {
        eventually_blocking(&format!("{parts:?} is shown"), SEEN_LIMIT, || {
            let lines = self.lines();
            let found = lines.iter().find(|line| parts.iter().all(|part| line.contains(part)));
            found.cloned().ok_or_else(|| lines.join("\n"))
        })
    }

    /// Waits until this is shown in reverse.
    pub(super) fn reverses(&self, part: &str) {
        eventually_blocking(&format!("`{part}` stands out"), SEEN_LIMIT, || {
            let reversed = self.reversed();
            if reversed.contains(part) { Ok(()) } else { Err(reversed) }
        });
    }

    /// The text that is shown in reverse.
    fn reversed(&self) -> String {
        let screen = self.screen.lock().unwrap();
        let (rows, columns) = screen.screen().size();
        let places = (0..rows.get()).flat_map(|row| (0..columns.get()).map(move |column| (row, column)));
        let cells = places.filter_map(|(row, column)| screen.screen().cell(row, column));
        cells.filter(|cell| cell.inverse()).map(|cell| cell.contents().to_owned()).collect()
    }

    /// Whether the program has the other screen, on which nothing of before is lost.
    pub(super) fn is_other_screen(&self) -> bool {
        self.screen.lock().unwrap().screen().alternate_screen()
    }

    /// Whether keys are shown and the cursor is, as where a shell reads a line.
    pub(super) fn is_as_before(&self) -> bool {
        let modes = tcgetattr(&self.controller).unwrap().local_modes;
        let cursor_hidden = self.screen.lock().unwrap().screen().hide_cursor();
        modes.contains(LocalModes::ECHO | LocalModes::ICANON) && !cursor_hidden
    }

    /// The program's pid.
    pub(super) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a pid is an i32")
    }

    /// Waits for the program's end.
    pub(super) fn ended(&mut self) -> ExitStatus {
        let child = &mut self.child;
        let status = eventually_blocking("the program ends", SEEN_LIMIT, || {
            child.try_wait().expect("a child can be waited for").ok_or("it still runs")
        });
        // What it wrote last may still be on its way to the screen.
        eventually_blocking("the screen of before is back", SEEN_LIMIT, || {
            if self.is_other_screen() { Err(self.lines().join("\n")) } else { Ok(()) }
        });
        status
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may have ended, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn set_size(terminal: impl std::os::fd::AsFd, (columns, rows): (u16, u16)) {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(terminal, size).unwrap();
}
