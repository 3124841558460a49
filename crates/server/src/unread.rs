//! What answers from elsewhere take while nobody reads them: a provider may be quick and its caller
//! slow, so it is counted for all of them together. Absent: answers of this machine, which their
//! tokens bound.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ingle_protocol::{CallPart, Event, Fault};

use crate::State;
use crate::places::{Place, Places};

/// Bytes of each choice that count for nothing: almost all have less.
const FREE_BYTES: usize = 1 << 20;
/// What an event takes beside its words.
const EVENT_BYTES: usize = 128;
/// What a token's scores take, each.
const SCORE_BYTES: usize = 64;

/// The room for one choice's events.
#[derive(Clone, Debug)]
pub(crate) struct Unread {
    all: Arc<Places>,
    most: usize,
    /// What is left of those that count for nothing; `None` where none does.
    free: Option<usize>,
    full: Arc<AtomicBool>,
}

impl Unread {
    /// Room for an answer, which is bounded where it is from elsewhere. All choices of one answer
    /// have copies of one.
    pub(crate) fn new(state: &State, elsewhere: bool) -> Self {
        Self {
            all: Arc::clone(&state.unread),
            most: state.config().limits.all_unread_bytes,
            free: elsewhere.then_some(FREE_BYTES),
            full: Arc::default(),
        }
    }

    /// What one more event takes, if anything; an error where there is no room for it.
    pub(crate) fn add(&mut self, event: &Event) -> Result<Option<Place>, ()> {
        let Some(free) = &mut self.free else { return Ok(None) };
        let bytes = bytes(event);
        let counted = bytes.saturating_sub(*free);
        *free -= bytes - counted;
        if counted == 0 {
            return Ok(None);
        }
        let place = self.all.take(counted, self.most);
        if place.is_none() {
            self.full.store(true, Ordering::Release);
        }
        place.map(Some).ok_or(())
    }

    /// Whether an event of the answer found no room.
    pub(crate) fn was_full(&self) -> bool {
        self.full.load(Ordering::Acquire)
    }

    /// What the caller is told then.
    pub(crate) fn fault(&self, after: Duration) -> Fault {
        let message = "so much of answers waits to be read that there is no room for the rest of \
                       this one: read faster, or try again later";
        Fault::not_ready(after, message)
    }
}

/// The bytes that an event takes; its end always has room.
fn bytes(event: &Event) -> usize {
    let words = match event {
        Event::Done(_) | Event::Failed(_) => return 0,
        Event::Text(piece) | Event::Reasoning(piece) => {
            let scores = piece.scores.iter().map(|score| 1 + score.top.len()).sum::<usize>();
            piece.text.len() + scores * SCORE_BYTES + piece.tokens.len() * 4
        }
        Event::ToolCall { part: CallPart::Begin { id, name }, .. } => id.len() + name.len(),
        Event::ToolCall { part: CallPart::Arguments(text), .. } | Event::Passed(text) => text.len(),
        Event::ToolCall { part: CallPart::End, .. } => 0,
        Event::Prompt(tokens) => tokens.len() * SCORE_BYTES,
        Event::Beams(beams) => beams.iter().map(|beam| beam.text.len()).sum(),
    };
    EVENT_BYTES.saturating_add(words)
}

#[cfg(test)]
mod tests {
    use ingle_protocol::Piece;

    use super::*;

    fn text(bytes: usize) -> Event {
        Event::Text(Piece { text: "x".repeat(bytes), ..Piece::default() })
    }

    fn room(all: &Arc<Places>, free: Option<usize>) -> Unread {
        Unread { all: Arc::clone(all), most: 1_000, free, full: Arc::default() }
    }

    #[test]
    fn what_is_beyond_the_first_bytes_counts_until_it_is_read() {
        let all = Arc::<Places>::default();
        let mut one = room(&all, Some(200));
        assert!(one.add(&text(50)).is_ok_and(|place| place.is_none()));
        let read = one.add(&text(72)).expect("there is room").expect("it counts");
        assert_eq!(all.taken(), 178);
        let waits = one.add(&text(500)).expect("there is room");
        assert_eq!(all.taken(), 806);
        assert!(one.add(&text(67)).is_err() && one.was_full());
        assert!(room(&all, Some(200)).add(&text(72)).is_ok(), "another's first bytes have room");
        drop(read);
        assert!(one.add(&text(67)).is_ok());
        drop(waits);
        assert_eq!(all.taken(), 0);
    }

    #[test]
    fn what_is_of_this_machine_and_an_end_need_no_room() {
        let all = Arc::<Places>::default();
        let full = all.take(1_000, 1_000);
        assert!(room(&all, None).add(&text(5_000)).is_ok_and(|place| place.is_none()));
        let mut one = room(&all, Some(0));
        assert!(one.add(&text(0)).is_err());
        assert!(one.add(&Event::Failed(Fault::ours("it broke"))).is_ok());
        drop(full);
    }
}
