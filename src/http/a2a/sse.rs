//! An agent's event stream on its way to the caller: unbuffered, with a comment now and then so that nobody in between,
//! and no impatient client, takes silence for the end.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, stream};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Below the five seconds after which common A2A clients give up on a silent stream.
pub const KEEP_ALIVE: Duration = Duration::from_secs(4);
const COMMENT: Bytes = Bytes::from_static(b": keep-alive\n\n");
/// Pieces between agent and caller: a caller that reads slowly slows the agent down after so many.
pub const PIECES: usize = 32;

/// Whether what was sent so far ends between two events, where a comment may stand.
#[derive(Clone, Copy, Debug, Default)]
struct Boundary {
    line_empty: bool,
    ended: bool,
}

impl Boundary {
    fn start() -> Self {
        Self { line_empty: true, ended: true }
    }

    fn pass(&mut self, piece: &[u8]) {
        for byte in piece {
            match byte {
                b'\n' => {
                    self.ended = self.line_empty;
                    self.line_empty = true;
                }
                b'\r' => {}
                _ => {
                    self.line_empty = false;
                    self.ended = false;
                }
            }
        }
    }
}

/// Whether a stream whose last piece this is stands between two events. A line end that is split over two pieces is taken
/// for the middle of one, which costs an explanation and damages nothing.
pub fn is_between_events(last: &[u8]) -> bool {
    last.is_empty() || last.ends_with(b"\n\n") || last.ends_with(b"\r\n\r\n")
}

/// Pieces as they come, with a comment after each stretch of silence between events.
pub fn kept_alive<E>(
    pieces: mpsc::Receiver<Result<Bytes, E>>,
    every: Duration,
) -> impl Stream<Item = Result<Bytes, E>> {
    stream::unfold((pieces, Boundary::start()), move |(mut pieces, mut boundary)| async move {
        loop {
            match timeout(every, pieces.recv()).await {
                Ok(Some(piece)) => {
                    if let Ok(piece) = &piece {
                        boundary.pass(piece);
                    }
                    return Some((piece, (pieces, boundary)));
                }
                Ok(None) => return None,
                Err(_) if boundary.ended => return Some((Ok(COMMENT), (pieces, boundary))),
                Err(_) => {}
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use futures_util::StreamExt as _;
    use tokio::sync::mpsc;

    use super::{COMMENT, kept_alive};

    const EVERY: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn a_comment_fills_silence_between_events_and_never_cuts_one() {
        let (send, receive) = mpsc::channel::<Result<Bytes, ()>>(8);
        let mut stream = Box::pin(kept_alive(receive, EVERY));
        assert_eq!(stream.next().await, Some(Ok(COMMENT)));
        send.send(Ok(Bytes::from_static(b"data: {\"a\":"))).await.unwrap();
        assert_eq!(stream.next().await, Some(Ok(Bytes::from_static(b"data: {\"a\":"))));
        let silence = tokio::time::timeout(3 * EVERY, stream.next()).await;
        assert!(silence.is_err(), "a comment inside an event would damage it");
        send.send(Ok(Bytes::from_static(b"1}\r\n\r\n"))).await.unwrap();
        assert_eq!(stream.next().await, Some(Ok(Bytes::from_static(b"1}\r\n\r\n"))));
        assert_eq!(stream.next().await, Some(Ok(COMMENT)));
        drop(send);
        assert_eq!(stream.next().await, None);
    }
}
