//! How a call ended, and all that a ledger wants to know of it. Numbers and names alone: no word of
//! a prompt or an answer, and no key. Absent: money, which is for who has the prices.

use std::time::Duration;

use ingle_protocol::{End, Event, Fault, Finish, Receipt, Step, Timings, Usage};

/// How a call ended and what it took.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// How it ended: `Stop`, `Length`, `ToolCalls`, `Cancelled` or `Failed`.
    pub end: End,
    /// Why, where it failed.
    pub fault: Option<Fault>,
    /// The provider that answered, or was asked last; empty where none was.
    pub provider: String,
    /// The model that answered or was asked last, as its provider calls it.
    pub model: String,
    /// Candidates that were considered, each once, the one that answered last.
    pub route: Vec<Step>,
    /// The hosts to which any byte of the request left this machine, each once. Servers that were
    /// reached over loopback are none of them.
    pub hosts: Vec<String>,
    /// Bytes of request bodies that were handed to connections, loopback's too.
    pub bytes_out: u64,
    /// Tries, hedges included.
    pub tries: u32,
    /// Tokens of the answer that was told. What other tries may be charged for stands with them.
    pub usage: Usage,
    /// Whether `usage` is an estimate, because the answer was cut before its provider told any.
    pub estimated: bool,
    /// The stop text that ended the answer, where its provider told of one.
    pub stop: Option<String>,
    /// What the provider said the caller should know.
    pub notes: Vec<String>,
    /// Each try, in the order in which they began.
    pub attempts: Vec<Attempt>,
    /// Where the time went.
    pub times: Times,
}

impl Outcome {
    /// Whether any of the request's data left this machine.
    pub fn left_machine(&self) -> bool {
        !self.hosts.is_empty()
    }

    /// Its receipt, as far as it is known here: `cost_micros` is 0.
    pub fn receipt(&self) -> Receipt {
        let finish = match self.end {
            End::Length => Finish::Length,
            End::ToolCalls => Finish::ToolCalls,
            End::Cancelled => Finish::Cancelled,
            End::Stop | End::Refused | End::Failed | End::Lost => Finish::Stop,
        };
        Receipt {
            model: self.model.clone(),
            route: self.route.clone(),
            left_machine: self.left_machine(),
            cost_micros: 0,
            finish,
            stop: self.stop.clone(),
            notes: self.notes.clone(),
            usage: self.usage,
            timings: self.times.timings(),
        }
    }

    /// The last event, for the caller: `Failed` where it failed, or else `Done`.
    pub fn event(&self) -> Event {
        match &self.fault {
            Some(fault) => Event::Failed(fault.clone()),
            None => Event::Done(Box::new(self.receipt())),
        }
    }
}

/// One try.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Attempt {
    /// Whom it asked.
    pub provider: String,
    /// For which model.
    pub model: String,
    /// Where.
    pub host: String,
    /// Whether it was asked beside another.
    pub hedge: bool,
    /// Whether the connection led elsewhere than to this machine.
    pub left_machine: bool,
    /// Bytes of the request's body that were handed to the connection. Where there is any, its
    /// provider may charge for it, whatever came back.
    pub bytes_out: u64,
    /// What became of it.
    pub ended: Ended,
    /// What it has to be reckoned with: as its provider told, or estimated from what came; nothing
    /// where it was not sent, or was refused with a status.
    pub usage: Usage,
    /// Whether `usage` is an estimate.
    pub estimated: bool,
    /// Where its time went, from its own start; `queued` is how long after the call's start that
    /// was.
    pub times: Times,
}

/// What became of a try.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Ended {
    /// It was cancelled: its caller went away, or another answered first.
    #[default]
    Cancelled,
    /// It answered, to the end.
    Answered,
    /// It was answered with another status than success.
    Status(u16),
    /// It failed for this reason, before or within its answer.
    Failed(String),
}

/// Where the time went; zero for what was not reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// From the call's start until the try that was told of began.
    pub queued: Duration,
    /// From the try's start to its connection; next to nothing where one was kept.
    pub connected: Duration,
    /// From the try's start to its answer's first byte.
    pub first_byte: Duration,
    /// From the start to the first piece of the answer.
    pub first_token: Duration,
    /// From the start to the end.
    pub total: Duration,
}

impl Times {
    fn timings(&self) -> Timings {
        Timings {
            load: Duration::ZERO,
            queued: self.queued,
            first_token: self.first_token,
            total: self.total,
        }
    }
}
