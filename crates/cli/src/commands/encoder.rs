//! What every command that reads with an encoder has in common: which one, what becomes of long
//! texts, and reading many of which some may be refused.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args as ClapArgs;
use ingle_engine::{Arrival, Encoder, Options};
use ingle_model::pull::Reference;
use ingle_protocol::{
    Blame, Encoded, Encoding, Fault, Long, Output, Passage, Reads, Vectors, Want,
};
use serde_json::{Value, json};

use super::model::{self, ComputeArgs};
use crate::ui::{self, Ui, Usage};

/// The model that reads where none is named.
pub(crate) const DEFAULT_ENCODER: &str = "minilm";

/// Texts that are given to the encoder at once: enough to keep it busy, few enough that progress
/// is seen and little is lost.
pub(crate) const BATCH: usize = 128;

/// How texts are read.
#[derive(Clone, Debug, ClapArgs)]
pub(crate) struct ReadArgs {
    /// What becomes of a text that is longer than the model reads: `refuse` it (the row fails),
    /// read its `start`, its `end`, or `chunks` of it, whose mean is taken (vectors only)
    #[arg(long, value_name = "WHAT", default_value = "refuse", value_parser = long)]
    pub(crate) long: Long,

    #[command(flatten)]
    pub(crate) compute: ComputeArgs,
}

/// Tokens that neighbouring chunks have in common.
const OVERLAP: u32 = 32;

fn long(name: &str) -> Result<Long, String> {
    match name {
        "refuse" => Ok(Long::Refuse),
        "start" => Ok(Long::KeepStart(None)),
        "end" => Ok(Long::KeepEnd(None)),
        "chunks" => Ok(Long::Chunk { tokens: None, overlap: OVERLAP }),
        _ => Err("there are: refuse, start, end, chunks".to_owned()),
    }
}

/// The name of that choice, as it is written.
fn long_name(long: Long) -> &'static str {
    match long {
        Long::Refuse => "refuse",
        Long::KeepStart(_) => "start",
        Long::KeepEnd(_) => "end",
        Long::Chunk { .. } => "chunks",
    }
}

/// An encoder, and how it reads.
pub(crate) struct Reader {
    encoder: Encoder,
    name: String,
    long: Long,
}

impl Reader {
    /// Fetches the model if it is not here, and loads it.
    pub(crate) fn open(reference: &Reference, args: &ReadArgs, ui: &Ui) -> Result<Self> {
        let path = model::fetch(reference, ui)?;
        let name = reference.to_string();
        let options = args.compute.on(Options { warn: ui::warn, ..Options::default() });
        let encoder = Encoder::open(&name, &path, &options, &mut |_| {})?;
        Ok(Self { encoder, name, long: args.long })
    }

    /// What it can tell.
    pub(crate) fn reads(&self) -> &Reads {
        self.encoder.reads()
    }

    /// The name that it was opened under.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// What results depend on, of a task.
    pub(crate) fn task(&self) -> Value {
        json!({ "model": self.name, "long": long_name(self.long) })
    }

    /// Refuses what it cannot tell of any text.
    pub(crate) fn can(&self, want: &Want) -> Result<()> {
        let reads = self.reads();
        reads.can(&self.name, want).map_err(|fault| Usage(fault.message))?;
        let Want::Vector(vectors) = want else { return Ok(()) };
        if let Some(prompt) = vectors.prompt.as_ref().filter(|it| !reads.prompts.contains(it)) {
            let known = match reads.prompts.join(", ") {
                none if none.is_empty() => "it has none".to_owned(),
                known => format!("there are: {known}"),
            };
            let why = format!("`{}` has no prompt of the name {prompt:?}; {known}", self.name);
            return Err(Usage(why).into());
        }
        match vectors.dimensions {
            Some(asked) if asked == 0 || asked > reads.dimensions => {
                let (name, most) = (&self.name, reads.dimensions);
                Err(Usage(format!("`{name}` makes vectors of 1 to {most} floats")).into())
            }
            _ => Ok(()),
        }
    }

    /// Reads texts. One that is refused does not lose the others; what is no text's fault ends all.
    pub(crate) fn read(
        &self,
        passages: Vec<Passage>,
        want: &Want,
    ) -> Result<Vec<Result<Output, String>>> {
        let encoding = Encoding {
            model: self.name.clone(),
            inputs: passages,
            want: want.clone(),
            long: self.long,
            ..Encoding::default()
        };
        each(encoding, &mut |encoding| self.encoder.encode(encoding, &arrival()))
    }

    /// The vectors of texts.
    pub(crate) fn vectors(
        &self,
        texts: Vec<String>,
        vectors: &Vectors,
    ) -> Result<Vec<Result<Vec<f32>, String>>> {
        let passages = texts.into_iter().map(Passage::text).collect();
        let read = self.read(passages, &Want::Vector(vectors.clone()))?;
        let vector = |output| match output {
            Output::Vector(vector) => Ok(vector),
            _ => Err("the encoder told something else; this is a bug".to_owned()),
        };
        Ok(read.into_iter().map(|one| one.and_then(vector)).collect())
    }

    /// A score a label, for each text or pair of texts.
    pub(crate) fn scores(
        &self,
        passages: Vec<Passage>,
        probabilities: bool,
    ) -> Result<Vec<Result<Vec<f32>, String>>> {
        let read = self.read(passages, &Want::Scores { probabilities })?;
        let scores = |output| match output {
            Output::Scores(scores) => Ok(scores),
            _ => Err("the encoder told something else; this is a bug".to_owned()),
        };
        Ok(read.into_iter().map(|one| one.and_then(scores)).collect())
    }
}

/// Work of our own, that begins now.
pub(crate) fn arrival() -> Arrival {
    let cancelled = Arc::new(AtomicBool::new(false));
    Arrival { at: Instant::now(), load: Duration::ZERO, cancelled }
}

/// Encodes all at once, or where that is refused each half by itself, down to the ones at fault.
fn each(
    mut encoding: Encoding,
    encode: &mut dyn FnMut(&Encoding) -> Result<Encoded, Fault>,
) -> Result<Vec<Result<Output, String>>> {
    match encode(&encoding) {
        Ok(encoded) => Ok(encoded.read.into_iter().map(|read| Ok(read.output)).collect()),
        Err(fault) if fault.blame != Blame::Caller => Err(fault.into()),
        Err(fault) if encoding.inputs.len() <= 1 => Ok(vec![Err(fault.message)]),
        Err(_) => {
            let half = encoding.inputs.len() / 2;
            let rest = encoding.inputs.split_off(half);
            let rest = Encoding { inputs: rest, ..encoding.clone() };
            let mut read = each(encoding, encode)?;
            read.extend(each(rest, encode)?);
            Ok(read)
        }
    }
}

#[cfg(test)]
mod tests {
    use ingle_protocol::{Finish, Read, Receipt, Written};

    use super::*;

    fn text(passage: &Passage) -> &str {
        match &passage.text {
            Written::Text(text) => text,
            Written::Tokens(_) => "",
        }
    }

    fn texts(encoding: &Encoding) -> Vec<&str> {
        encoding.inputs.iter().map(text).collect()
    }

    /// Tells lengths, and refuses what begins with `!`.
    fn encode(encoding: &Encoding) -> Result<Encoded, Fault> {
        if texts(encoding).iter().any(|text| text.starts_with('!')) {
            return Err(Fault::caller("too long"));
        }
        let read = |text: &&str| Read {
            output: Output::Vector(vec![text.len() as f32]),
            tokens: 1,
            cut: false,
        };
        let read = texts(encoding).iter().map(read).collect();
        let receipt = Receipt {
            model: "m".into(),
            route: Vec::new(),
            left_machine: false,
            cost_micros: 0,
            finish: Finish::Stop,
            stop: None,
            notes: Vec::new(),
            usage: Default::default(),
            timings: Default::default(),
        };
        Ok(Encoded { read, labels: Vec::new(), receipt })
    }

    #[test]
    fn who_is_refused_loses_nobody_else() {
        let check = |text: &str| {
            let inputs = text.split(' ').map(Passage::text).collect();
            let encoding = Encoding { inputs, ..Encoding::default() };
            let told = each(encoding, &mut encode).expect("is theirs").into_iter();
            let told = told.map(|one| match one {
                Ok(Output::Vector(vector)) => vector[0].to_string(),
                Ok(_) => "something else".to_owned(),
                Err(why) => why,
            });
            let expect = text.split(' ').map(|text| match text.starts_with('!') {
                true => "too long".to_owned(),
                false => text.len().to_string(),
            });
            assert_eq!(told.collect::<Vec<_>>(), expect.collect::<Vec<_>>(), "{text}");
        };
        ["a", "!", "a bb ccc", "! bb !", "a bb ! dddd eeeee", "! ! !"].into_iter().for_each(check);
    }

    #[test]
    fn what_is_no_texts_fault_ends_all() {
        let inputs = vec![Passage::text("a"), Passage::text("b")];
        let encoding = Encoding { inputs, ..Encoding::default() };
        let told = each(encoding, &mut |_| Err(Fault::ours("broken")));
        assert!(told.is_err());
    }
}
