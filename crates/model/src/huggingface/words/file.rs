//! `tokenizer.json` as data. What it is for a normalizer or a pre-tokenizer to have which parts is
//! its readers' affair.

use std::collections::BTreeSet;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value as Json;

use crate::Token;

/// The file.
#[derive(Debug, Deserialize)]
pub(super) struct File {
    #[serde(default)]
    pub(super) added_tokens: Vec<Added>,
    /// What is done to texts before all else.
    #[serde(default)]
    pub(super) normalizer: Json,
    /// How texts are cut into what is never joined.
    #[serde(default)]
    pub(super) pre_tokenizer: Json,
    /// What is put around texts.
    #[serde(default)]
    pub(super) post_processor: Json,
    pub(super) model: Model,
}

impl File {
    /// All tokens' texts, and their ids: the model's, and those that were added.
    fn all(&self) -> impl Iterator<Item = (&str, Token)> {
        let added = self.added_tokens.iter().map(|added| (added.content.as_str(), added.id));
        self.model.vocab.texts().chain(added)
    }

    /// All tokens' texts, each once.
    pub(super) fn texts(&self) -> BTreeSet<&str> {
        self.all().map(|(text, _)| text).collect()
    }

    /// The token that stands for what the vocabulary does not know.
    pub(super) fn unknown(&self) -> Option<Token> {
        let named = self.model.unk_token.as_deref();
        let found = self.all().find(|(text, _)| Some(*text) == named);
        found.map(|(_, id)| id).or(self.model.unk_id)
    }
}

/// A token that is found in texts before all else.
#[derive(Debug, Deserialize)]
pub(super) struct Added {
    pub(super) id: Token,
    pub(super) content: String,
    #[serde(default)]
    pub(super) special: bool,
    /// Whether it takes the spaces behind it.
    #[serde(default)]
    pub(super) rstrip: bool,
}

/// The algorithm, and what it knows.
#[derive(Debug, Deserialize)]
pub(super) struct Model {
    #[serde(rename = "type")]
    kind: Option<String>,
    pub(super) vocab: Vocab,
    pub(super) merges: Option<Vec<Merge>>,
    pub(super) unk_token: Option<String>,
    pub(super) unk_id: Option<Token>,
    pub(super) continuing_subword_prefix: Option<String>,
    pub(super) end_of_word_suffix: Option<String>,
    pub(super) max_input_chars_per_word: Option<usize>,
    #[serde(default)]
    pub(super) byte_fallback: bool,
    #[serde(default)]
    pub(super) ignore_merges: bool,
}

impl Model {
    /// A WordPiece model of these words, as older models have nothing else.
    pub(super) fn of_words(words: Vec<(String, Token)>, unk: &str) -> Self {
        Self {
            kind: Some("WordPiece".to_owned()),
            vocab: Vocab::Ids(words),
            merges: None,
            unk_token: Some(unk.to_owned()),
            unk_id: None,
            continuing_subword_prefix: Some("##".to_owned()),
            end_of_word_suffix: None,
            max_input_chars_per_word: Some(100),
            byte_fallback: false,
            ignore_merges: false,
        }
    }

    /// The algorithm's name; older files do not tell it.
    pub(super) fn kind(&self) -> &str {
        match (&self.kind, &self.vocab) {
            (Some(kind), _) => kind,
            (None, Vocab::Scores(_)) => "Unigram",
            (None, Vocab::Ids(_)) if self.merges.is_some() => "BPE",
            (None, Vocab::Ids(_)) => "WordPiece",
        }
    }
}

/// Two symbols that are joined.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Merge {
    Line(String),
    Pair(String, String),
}

/// A vocabulary: ids by texts, or texts in the order of their ids, with scores.
#[derive(Debug)]
pub(super) enum Vocab {
    Ids(Vec<(String, Token)>),
    Scores(Vec<(String, f64)>),
}

impl Vocab {
    pub(super) fn texts(&self) -> Box<dyn Iterator<Item = (&str, Token)> + '_> {
        match self {
            Self::Ids(all) => Box::new(all.iter().map(|(text, id)| (text.as_str(), *id))),
            Self::Scores(all) => {
                Box::new((0..).zip(all).map(|(id, (text, _))| (text.as_str(), id)))
            }
        }
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = Token> + '_ {
        self.texts().map(|(_, id)| id)
    }

    /// A score for each of so many tokens; none where the vocabulary has none.
    pub(super) fn scores(&self, count: usize) -> Vec<f64> {
        let Self::Scores(all) = self else { return Vec::new() };
        let mut scores: Vec<f64> = all.iter().map(|(_, score)| *score).collect();
        scores.resize(count, 0.0);
        scores
    }
}

impl<'de> Deserialize<'de> for Vocab {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Vocab;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("ids by tokens, or a list of tokens and scores")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vocab, A::Error> {
                let mut all = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    all.push(entry);
                }
                Ok(Vocab::Ids(all))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vocab, A::Error> {
                let mut all = Vec::new();
                while let Some(entry) = seq.next_element()? {
                    all.push(entry);
                }
                Ok(Vocab::Scores(all))
            }
        }
        from.deserialize_any(Either)
    }
}
