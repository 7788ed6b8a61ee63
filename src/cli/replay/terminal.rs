//! The terminal while it shows a screen: keys one by one, no echo, and everything as it was afterwards.

use std::io::{self, Read as _, Write as _};

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::sync::mpsc;

/// Keys that may wait; who types faster than the screen follows loses some.
const KEYS_MAX: usize = 64;
/// Where the terminal does not say how large it is.
const SIZE_DEFAULT: (usize, usize) = (80, 24);

/// What a person pressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Left,
    Right,
    Home,
    End,
    Escape,
    Enter,
    Backspace,
    /// Ctrl-C or Ctrl-D.
    Interrupt,
    Letter(char),
}

/// The terminal in raw mode on its other screen; dropping it puts it back.
#[derive(Debug)]
pub(super) struct Terminal(Termios);

impl Terminal {
    /// Takes it over.
    pub(super) fn take() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Flush, &raw)?;
        let terminal = Self(before);
        write(b"\x1b[?1049h\x1b[?25l")?;
        Ok(terminal)
    }

    /// Columns and lines.
    pub(super) fn size() -> (usize, usize) {
        match tcgetwinsize(io::stdout()) {
            Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col.into(), size.ws_row.into()),
            Ok(_) | Err(_) => SIZE_DEFAULT,
        }
    }

    /// Shows these lines and nothing else.
    pub(super) fn show(lines: &[String]) -> io::Result<()> {
        let text: Vec<String> = lines.iter().map(|line| format!("{line}\x1b[K")).collect();
        write(format!("\x1b[H{}\x1b[J", text.join("\r\n")).as_bytes())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Nobody is left to tell.
        let _ = write(b"\x1b[?25h\x1b[?1049l");
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.0);
    }
}

fn write(bytes: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes)?;
    stdout.flush()
}

/// Keys as they are pressed. The thread that waits for them ends with the process.
pub(super) fn keys() -> mpsc::Receiver<Key> {
    let (sender, receiver) = mpsc::channel(KEYS_MAX);
    std::thread::spawn(move || {
        let mut bytes = [0; 64];
        while let Ok(count @ 1..) = io::stdin().lock().read(&mut bytes) {
            for key in decode(&bytes[..count]) {
                if sender.is_closed() {
                    return;
                }
                // A queue that is full is a person who leans on a key.
                let _ = sender.try_send(key);
            }
        }
    });
    receiver
}

/// What a terminal sends for keys. A sequence arrives whole, in one read.
fn decode(mut bytes: &[u8]) -> Vec<Key> {
    const SEQUENCES: [(&[u8], Key); 10] = [
        (b"\x1b[D", Key::Left),
        (b"\x1bOD", Key::Left),
        (b"\x1b[C", Key::Right),
        (b"\x1bOC", Key::Right),
        (b"\x1b[H", Key::Home),
        (b"\x1bOH", Key::Home),
        (b"\x1b[1~", Key::Home),
        (b"\x1b[F", Key::End),
        (b"\x1bOF", Key::End),
        (b"\x1b[4~", Key::End),
    ];
    let mut keys = Vec::new();
    while let Some((first, rest)) = bytes.split_first() {
        if let Some((sequence, key)) = SEQUENCES.iter().find(|(sequence, _)| bytes.starts_with(sequence)) {
            keys.push(*key);
            bytes = &bytes[sequence.len()..];
            continue;
        }
        bytes = rest;
        match first {
            b'\x1b' if rest.is_empty() => keys.push(Key::Escape),
            // A key that means nothing here.
            b'\x1b' => bytes = &[],
            b'\r' | b'\n' => keys.push(Key::Enter),
            b'\x7f' | b'\x08' => keys.push(Key::Backspace),
            b'\x03' | b'\x04' => keys.push(Key::Interrupt),
            0x20..=0x7e => keys.push(Key::Letter(char::from(*first))),
            _ => {}
        }
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_told_apart_and_what_means_nothing_is_left_out() {
        assert_eq!(decode(b"\x1b[C\x1bODq"), [Key::Right, Key::Left, Key::Letter('q')]);
        assert_eq!(decode(b"\x1b"), [Key::Escape]);
        assert_eq!(decode(b"\x1b[15~"), []);
        assert_eq!(decode(b"1\x7f\r\x03"), [Key::Letter('1'), Key::Backspace, Key::Enter, Key::Interrupt]);
        assert_eq!(decode(b"\x1b[H\x1b[4~"), [Key::Home, Key::End]);
    }
}
