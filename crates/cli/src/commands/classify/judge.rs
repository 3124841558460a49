//! Who says which label a text has: a model that writes, by what labels weigh as its answer; an
//! encoder's own head; or one that was trained over an encoder's vectors.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use ingle_engine::{Arrival, Local, Options};
use ingle_heads::{FILE_BYTES, Head};
use ingle_protocol::wire::decisions::{Labelling, Shape};
use ingle_protocol::{Blame, Passage, Request, Vectors, Want, Weighing};
use serde_json::{Value, json};

use super::Args;
use crate::commands::encoder::{BATCH, DEFAULT_ENCODER, Reader};
use crate::commands::{DEFAULT_MODEL, model, reference};
use crate::ui::{self, Ui, Usage};

/// Texts that a model that writes weighs side by side.
const SIDE_BY_SIDE: usize = 8;

/// Logits of a text, a number a label, or why there are none.
pub(super) type Logits = Result<Vec<f64>, String>;

/// Who judges.
pub(super) enum Judge {
    Writer { model: Box<Local>, labelling: Box<Labelling>, prior: Option<Vec<f64>> },
    Reader { reader: Reader },
    Head { reader: Reader, head: Head },
}

impl Judge {
    /// The one that was asked for.
    pub(super) fn open(args: &Args, ui: &Ui) -> Result<Self> {
        let asked = |usual: &str| match &args.model {
            Some(model) => Ok(model.clone()),
            None => reference(usual).map_err(anyhow::Error::msg),
        };
        if let Some(path) = &args.head {
            let head = Head::read(&model::read(path, FILE_BYTES as u64)?);
            let head = head.map_err(|error| Usage(format!("{path}: {error}")))?;
            let reader = Reader::open(&asked(&head.encoder)?, &args.read, ui)?;
            let have = reader.reads().dimensions as usize;
            if have != head.dimensions() {
                let (name, want) = (&head.encoder, head.dimensions());
                let why = format!(
                    "{path} was trained on vectors of `{name}` with {want} floats, and `{}` makes \
                     {have}",
                    reader.name()
                );
                return Err(Usage(why).into());
            }
            reader.can(&Want::Vector(vectors(&head)))?;
            return Ok(Self::Head { reader, head });
        }
        if args.labels.is_empty() {
            let reader = Reader::open(&asked(DEFAULT_ENCODER)?, &args.read, ui)?;
            if reader.reads().labels.len() < 2 {
                let why = format!(
                    "`{}` has no labels of its own\nhint: --labels asks a model that writes, and \
                     --head a head that `ingle train head` made",
                    reader.name()
                );
                return Err(Usage(why).into());
            }
            return Ok(Self::Reader { reader });
        }
        let options = Options { warn: ui::warn, running: SIDE_BY_SIDE, ..Options::default() };
        let options = args.read.compute.on(options);
        let local = model::open(&asked(DEFAULT_MODEL)?, &options, ui)?;
        Self::writer(args, local)
    }

    fn writer(args: &Args, model: Local) -> Result<Self> {
        let labels = args.labels.iter().map(|label| label.trim().to_owned());
        let labels: Vec<String> = labels.collect();
        let twice = labels.iter().enumerate().any(|(at, label)| labels[..at].contains(label));
        if labels.len() < 2 || twice || labels.iter().any(String::is_empty) {
            let why = "--labels are at least two, none empty, no two alike, with commas between";
            return Err(Usage(why.to_owned()).into());
        }
        let name = model.info().name.clone();
        let labelling = Box::new(Labelling {
            request: Request { model: name, ..Request::default() },
            shape: if model.chats() { Shape::Chat } else { Shape::Text },
            question: args.question.clone(),
            labels,
        });
        let prior = match args.no_prior {
            true => None,
            false => Some(model.weigh(&labelling.prior(), &arrival())?.logprobs),
        };
        Ok(Self::Writer { model: Box::new(model), labelling, prior })
    }

    /// What it tells apart.
    pub(super) fn labels(&self) -> &[String] {
        match self {
            Self::Writer { labelling, .. } => &labelling.labels,
            Self::Reader { reader } => &reader.reads().labels,
            Self::Head { head, .. } => &head.labels,
        }
    }

    /// The temperature that it comes with.
    pub(super) fn temperature(&self) -> f64 {
        match self {
            Self::Head { head, .. } => head.temperature,
            _ => 1.0,
        }
    }

    /// What results depend on, of a task.
    pub(super) fn task(&self) -> Value {
        match self {
            Self::Writer { model, labelling, prior } => json!({
                "model": model.info().name, "question": labelling.question,
                "labels": labelling.labels, "prior": prior.is_some(),
            }),
            Self::Reader { reader } => json!({ "reader": reader.task() }),
            Self::Head { reader, head } => json!({ "reader": reader.task(), "head": head.write() }),
        }
    }

    /// Texts to be judged at once.
    pub(super) fn batch(&self) -> usize {
        match self {
            Self::Writer { .. } => SIDE_BY_SIDE,
            _ => BATCH,
        }
    }

    pub(super) fn judge(&self, texts: Vec<String>) -> Result<Vec<Logits>> {
        match self {
            Self::Writer { model, labelling, prior } => {
                let all = texts.iter().map(|text| labelling.weighing(text)).collect();
                let free = |logprobs: Vec<f64>| match prior {
                    Some(prior) => logprobs.iter().zip(prior).map(|(it, free)| it - free).collect(),
                    None => logprobs,
                };
                let told = weigh(model, all)?.into_iter();
                Ok(told.map(|one| one.map(free)).collect())
            }
            Self::Reader { reader } => {
                let passages = texts.into_iter().map(Passage::text).collect();
                let scores = reader.scores(passages, false)?.into_iter();
                let wide = |scores: Vec<f32>| scores.into_iter().map(f64::from).collect();
                Ok(scores.map(|one| one.map(wide)).collect())
            }
            Self::Head { reader, head } => {
                let vectors = reader.vectors(texts, &vectors(head))?.into_iter();
                let logits = |vector: Vec<f32>| head.logits(&vector).map_err(|it| it.to_string());
                Ok(vectors.map(|one| one.and_then(logits)).collect())
            }
        }
    }
}

/// Vectors as those that a head was trained on.
fn vectors(head: &Head) -> Vectors {
    Vectors { prompt: head.prompt.clone(), ..Vectors::default() }
}

fn arrival() -> Arrival {
    let cancelled = Arc::new(AtomicBool::new(false));
    Arrival { at: Instant::now(), load: Duration::ZERO, cancelled }
}

/// Weighs all side by side. What is the caller's fault is one text's; any other ends all.
fn weigh(model: &Local, all: Vec<Weighing>) -> Result<Vec<Result<Vec<f64>, String>>> {
    let told = thread::scope(|scope| {
        let weigh = |one: Weighing| scope.spawn(move || model.weigh(&one, &arrival()));
        let threads: Vec<_> = all.into_iter().map(weigh).collect();
        let told = threads.into_iter().map(|it| it.join().expect("a bug ends the work"));
        told.collect::<Vec<_>>()
    });
    let told = told.into_iter().map(|one| match one {
        Ok(weighed) => Ok(Ok(weighed.logprobs)),
        Err(fault) if fault.blame == Blame::Caller => Ok(Err(fault.message)),
        Err(fault) => Err(fault.into()),
    });
    told.collect()
}
