//! What goes out to one listener, as the body of its response.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use tokio::time::{Interval, MissedTickBehavior, interval_at};

use super::frame;
use super::hub::{End, Hub, Listening, Wire};

/// Between two signs of life where nothing happens; below what proxies wait for.
const KEEP_ALIVE: Duration = Duration::from_secs(25);
/// Events written together where several wait.
const TOGETHER: usize = 64;

/// See the module. When it is dropped, its listener leaves.
#[derive(Debug)]
pub struct Outgoing {
    hub: Arc<Hub>,
    id: u64,
    wire: Wire,
    backlog: VecDeque<Bytes>,
    queue: tokio::sync::mpsc::Receiver<Bytes>,
    end: Arc<End>,
    keep_alive: Interval,
    over: bool,
}

impl Outgoing {
    /// What was told before it came, then what comes.
    pub fn new(hub: Arc<Hub>, wire: Wire, listening: Listening, backlog: VecDeque<Bytes>) -> Self {
        let mut keep_alive = interval_at(tokio::time::Instant::now() + KEEP_ALIVE, KEEP_ALIVE);
        keep_alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let Listening { id, queue, end, .. } = listening;
        Self { hub, id, wire, backlog, queue, end, keep_alive, over: false }
    }

    fn closing(&self) -> Option<Bytes> {
        let (reason, last) = (self.end.reason(), self.end.last());
        match self.wire {
            Wire::Socket => Some(frame::closing(reason, last)),
            Wire::Events => reason.map(|reason| frame::last_event(reason, last)),
        }
    }
}

fn together(pieces: &mut Vec<Bytes>) -> Option<Bytes> {
    if pieces.len() <= 1 {
        return pieces.pop();
    }
    let mut whole = BytesMut::with_capacity(pieces.iter().map(Bytes::len).sum());
    pieces.drain(..).for_each(|piece| whole.extend_from_slice(&piece));
    Some(whole.freeze())
}

impl Stream for Outgoing {
    type Item = Result<Bytes, std::io::Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.over {
            return Poll::Ready(None);
        }
        if !this.backlog.is_empty() {
            let count = this.backlog.len().min(TOGETHER);
            return Poll::Ready(together(&mut this.backlog.drain(..count).collect()).map(Ok));
        }
        let mut pieces = Vec::new();
        match this.queue.poll_recv_many(cx, &mut pieces, TOGETHER) {
            Poll::Ready(0) => {
                this.over = true;
                return Poll::Ready(this.closing().map(Ok));
            }
            Poll::Ready(_) => return Poll::Ready(together(&mut pieces).map(Ok)),
            Poll::Pending => {}
        }
        if this.keep_alive.poll_tick(cx).is_ready() {
            let sign = match this.wire {
                Wire::Socket => frame::ping(),
                Wire::Events => Bytes::from_static(b": keep-alive\n\n"),
            };
            return Poll::Ready(Some(Ok(sign)));
        }
        Poll::Pending
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        self.hub.leave(self.id);
    }
}
