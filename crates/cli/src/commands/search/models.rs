//! The models that search reads with: one makes vectors, one scores pairs.

use std::path::absolute;

use ingle_engine::{Encoder, Options};
use ingle_model::pull::Reference;
use ingle_protocol::{Encoded, Encoding, Fault, Long, Output, Passage, Reads, Vectors, Want};
use ingle_search::{Embed, Rank};

use super::PlaceArgs;
use crate::commands::encoder::{DEFAULT_ENCODER, arrival};
use crate::commands::{model, reference};
use crate::ui::{self, Ui};

/// Tokens that the parts of a passage share which the model cannot read at once.
const OVERLAP: u32 = 16;

/// A model that reads texts.
pub(super) struct Reader {
    encoder: Encoder,
    name: String,
}

impl Reader {
    /// Loads the model that makes vectors: the one that was named, or the index's own.
    pub(super) fn of_index(
        place: &PlaceArgs,
        own: Option<String>,
        ui: &Ui,
    ) -> anyhow::Result<Self> {
        let own = || reference(&own.unwrap_or_else(|| DEFAULT_ENCODER.to_owned()));
        let reference = match &place.model {
            Some(named) => named.clone(),
            None => own().map_err(anyhow::Error::msg)?,
        };
        let reader = Self::open(&reference, place, ui)?;
        reader.reads().can(&reader.name, &Want::default())?;
        Ok(reader)
    }

    /// Loads a model that scores pairs.
    pub(super) fn reranker(
        reference: &Reference,
        place: &PlaceArgs,
        ui: &Ui,
    ) -> anyhow::Result<Self> {
        let reader = Self::open(reference, place, ui)?;
        let labels = reader.reads().labels.len();
        if labels == 1 {
            return Ok(reader);
        }
        let name = &reader.name;
        anyhow::bail!("`{name}` is no reranker: it has {labels} labels, and those have one")
    }

    fn open(reference: &Reference, place: &PlaceArgs, ui: &Ui) -> anyhow::Result<Self> {
        // The index remembers it, and is asked from elsewhere, too.
        let reference = match reference {
            Reference::Path(path) => Reference::Path(absolute(path)?),
            other => other.clone(),
        };
        let path = model::fetch(&reference, ui)?;
        let name = reference.to_string();
        let options = place.compute.on(Options { warn: ui::warn, ..Options::default() });
        let encoder = Encoder::open(&name, &path, &options, &mut |_| {})?;
        Ok(Self { encoder, name })
    }

    fn reads(&self) -> &Reads {
        self.encoder.reads()
    }

    fn read(&self, inputs: Vec<Passage>, want: Want, long: Long) -> Result<Encoded, Fault> {
        let encoding = Encoding { inputs, want, long, ..Encoding::default() };
        self.encoder.encode(&encoding, &arrival())
    }

    /// Vectors of texts, under the first of these instructions that the model has.
    fn vectors(&self, texts: &[&str], prompts: &[&str]) -> Result<Vec<Vec<f32>>, Fault> {
        let known = prompts.iter().find(|name| self.reads().prompts.iter().any(|it| it == *name));
        let prompt = known.map(|name| (*name).to_owned());
        let want = Want::Vector(Vectors { prompt, ..Vectors::default() });
        let inputs = texts.iter().map(|text| Passage::text(*text)).collect();
        let read = self.read(inputs, want, Long::Chunk { tokens: None, overlap: OVERLAP })?.read;
        let vector = |output| match output {
            Output::Vector(vector) => Ok(vector),
            _ => Err(Fault::ours("the encoder told something else than a vector")),
        };
        read.into_iter().map(|read| vector(read.output)).collect()
    }
}

impl Embed for Reader {
    fn name(&self) -> &str {
        &self.name
    }

    fn dimensions(&self) -> usize {
        self.reads().dimensions as usize
    }

    fn documents(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, Fault> {
        self.vectors(texts, &["document", "passage"])
    }

    fn query(&self, text: &str) -> Result<Vec<f32>, Fault> {
        let vectors = self.vectors(&[text], &["query"])?;
        vectors.into_iter().next().ok_or_else(|| Fault::ours("the encoder told nothing"))
    }
}

impl Rank for Reader {
    fn name(&self) -> &str {
        &self.name
    }

    fn scores(&self, question: &str, texts: &[&str]) -> Result<Vec<f32>, Fault> {
        let inputs = texts.iter().map(|text| Passage::pair(question, *text)).collect();
        let want = Want::Scores { probabilities: false };
        let score = |output| match output {
            Output::Scores(scores) if scores.len() == 1 => Ok(scores[0]),
            _ => Err(Fault::ours("the encoder told something else than a score")),
        };
        let read = self.read(inputs, want, Long::KeepStart(None))?.read;
        read.into_iter().map(|read| score(read.output)).collect()
    }
}
