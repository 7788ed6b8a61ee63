//! A replay on a terminal: draws, reads keys, and lets time pass.

use std::time::{Duration, Instant};

use chrono::Local;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use super::cut_off;
use super::player::Player;
use super::screen::draw;
use super::terminal::{Key, Terminal, keys};
use crate::cli::failure::Outcome;
use crate::cli::when::When;
use crate::moments::replay::Line;

/// Between two looks at the clock while it plays: smooth, and hardly any work.
const TICK: Duration = Duration::from_millis(50);
/// Lines taken in between two screens.
const BATCH: usize = 4096;
/// A longer answer is no moment.
const ASKED_MAX: usize = 40;

/// Shows the replay until a person ends it.
pub(super) async fn run(mut lines: mpsc::Receiver<Outcome<Line>>, speed: Option<u16>) -> Outcome {
    // What has no answer is said before the screen is taken.
    let Some(Line::State(state)) = lines.recv().await.transpose()? else { return Err(cut_off()) };
    let mut player = Player::new(state);
    (player.playing, player.speed) = (speed.is_some(), speed.unwrap_or(1));
    let mut asked: Option<String> = None;
    let terminal = Terminal::take()?;
    let mut keys = keys();
    let (mut ended, mut resized) = (signal(SignalKind::terminate())?, signal(SignalKind::window_change())?);
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut batch, mut looked) = (Vec::new(), Instant::now());
    loop {
        Terminal::show(&draw(&player, asked.as_deref(), Terminal::size()))?;
        tokio::select! {
            key = keys.recv() => match key {
                Some(key) if !press(key, &mut player, &mut asked) => {}
                Some(_) | None => break,
            },
            count = lines.recv_many(&mut batch, BATCH), if !player.whole => {
                if count == 0 {
                    return Err(cut_off());
                }
                for line in batch.drain(..) {
                    player.read(line?);
                }
            }
            _ = tick.tick(), if player.playing => {}
            _ = resized.recv() => {}
            _ = ended.recv() => break,
        }
        player.pass(looked.elapsed());
        looked = Instant::now();
    }
    drop(terminal);
    Ok(())
}

/// What a key does; whether it ends the replay.
fn press(key: Key, player: &mut Player, asked: &mut Option<String>) -> bool {
    if key == Key::Interrupt {
        return true;
    }
    if let Some(text) = asked {
        match key {
            Key::Letter(letter) if text.len() < ASKED_MAX => text.push(letter),
            Key::Backspace => drop(text.pop()),
            Key::Enter => {
                // What is no moment stays to be mended.
                if go_to(text, player) {
                    *asked = None;
                }
            }
            Key::Escape => *asked = None,
            Key::Letter(_) | Key::Left | Key::Right | Key::Home | Key::End | Key::Interrupt => {}
        }
        return false;
    }
    match key {
        Key::Letter('q') => return true,
        Key::Letter(' ') => player.playing = !player.playing,
        Key::Right | Key::Letter('l') => player.step(true),
        Key::Left | Key::Letter('h') => player.step(false),
        Key::Letter('n') => player.skip(true),
        Key::Letter('p') => player.skip(false),
        Key::Letter('+' | '=') => player.change_speed(true),
        Key::Letter('-') => player.change_speed(false),
        Key::Home => player.go(0),
        Key::End => player.go(usize::MAX),
        Key::Letter('g') => *asked = Some(String::new()),
        Key::Letter(_) | Key::Escape | Key::Enter | Key::Backspace | Key::Interrupt => {}
    }
    if !matches!(key, Key::Letter(' ' | '+' | '=' | '-')) {
        player.playing = false;
    }
    false
}

fn go_to(text: &str, player: &mut Player) -> bool {
    // A time of day is one of the span, not of today.
    match When::parse_as_of(text, &player.state.to.at.with_timezone(&Local)) {
        Ok(When::Position(position)) => player.seek_position(position),
        Ok(When::Time(at)) => player.seek_time(at),
        Err(_) => return false,
    }
    true
}
