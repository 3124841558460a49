//! What a model file says about its tokens, as plain data: nothing is derived or checked here.

use super::around::Said;
use crate::gguf::{Array, Gguf, Value, optional};
use crate::{Error, Token};

/// What a token is for. The numbers are GGUF's `tokenizer.ggml.token_type`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TokenKind {
    /// A piece of text.
    #[default]
    Normal = 1,
    /// Stands for what the vocabulary cannot write.
    Unknown = 2,
    /// Markup of a conversation or a document; never text.
    Control = 3,
    /// Text that is always one token, found before any other rule.
    UserDefined = 4,
    /// Kept free by the model's makers.
    Unused = 5,
    /// One byte, for text that has no other token.
    Byte = 6,
}

impl TokenKind {
    /// The kind that a file's number means; what is not known is [`TokenKind::Normal`].
    pub fn from_gguf(number: i64) -> Self {
        match number {
            2 => Self::Unknown,
            3 => Self::Control,
            4 => Self::UserDefined,
            5 => Self::Unused,
            6 => Self::Byte,
            _ => Self::Normal,
        }
    }
}

/// A vocabulary as a model file gives it. Missing keys stay empty or `None`;
/// [`Tokenizer::new`](super::Tokenizer::new) knows each family's defaults.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Vocabulary {
    /// The family: `llama` (SentencePiece BPE), `gpt2` (byte-level BPE), `gemma4`, `bert`, `t5`
    /// (Unigram).
    pub model: String,
    /// The pre-tokenizer's name.
    pub pre: String,
    /// Each token's text, by id, in the family's spelling.
    pub tokens: Vec<String>,
    /// Log-probabilities or merge priorities, by id; empty where the family has none.
    pub scores: Vec<f64>,
    /// What each token is for, by id; empty means all are normal.
    pub kinds: Vec<TokenKind>,
    /// BPE merges, best first, each two symbols with a space between.
    pub merges: Vec<String>,
    /// Begins a sequence.
    pub bos: Option<Token>,
    /// Ends a sequence.
    pub eos: Option<Token>,
    /// Ends a turn.
    pub eot: Option<Token>,
    /// Ends a message that awaits a tool's answer.
    pub eom: Option<Token>,
    /// Stands for what the vocabulary cannot write.
    pub unk: Option<Token>,
    /// Separates sequences.
    pub sep: Option<Token>,
    /// Fills up batches.
    pub pad: Option<Token>,
    /// Tokens of fill-in-the-middle training that end an answer: its padding, repository name and
    /// file separator.
    pub fill_in_ends: Vec<Token>,
    /// What stands before the text before a gap, before the text after it, and before what fills
    /// it.
    pub fill_in_marks: [Option<Token>; 3],
    /// Whether prompts begin with BOS.
    pub add_bos: Option<bool>,
    /// Whether prompts end with EOS.
    pub add_eos: Option<bool>,
    /// Whether prompts end with SEP.
    pub add_sep: Option<bool>,
    /// Whether a text is encoded as if a space stood before it.
    pub add_space_prefix: Option<bool>,
    /// Whether words lose their case (`bert`).
    pub lowercase: Option<bool>,
    /// Whether letters lose their accents (`bert`); follows `lowercase` where not given.
    pub strip_accents: Option<bool>,
    /// Whether only the text's beginning is, and not what follows a special token.
    pub space_first_only: bool,
    /// Whether only what does not begin with a space is.
    pub space_unless_there: bool,
    /// Whether runs of spaces become one, and those at the ends none (`t5`).
    pub remove_extra_whitespaces: Option<bool>,
    /// What characters are replaced by before all else (`t5`), as SentencePiece packs it.
    pub charsmap: Vec<u8>,
    /// Whether characters are then cleaned as `bert`'s are (`t5`).
    pub clean: bool,
    /// Characters with a space put before and behind each (`t5`), and those with one behind alone.
    pub spaced: [String; 2],
    /// Whether special tokens swallow the whitespace after them, as Phi-3's do.
    pub swallow_after_special: bool,
    /// Whether characters are composed before all else (Unicode's NFC).
    pub nfc: bool,
    /// Whether the kinds are those that the model's makers gave its tokens, so that none is mended
    /// by its text.
    pub kinds_told: bool,
    /// What is put around texts, where the file tells it apart from single marks.
    pub around: Option<Said>,
}

impl Vocabulary {
    /// Reads the `tokenizer.ggml.*` keys.
    ///
    /// # Errors
    /// [`Error::Missing`] where a file has no tokens, [`Error::Unsupported`] where ids do not fit.
    pub fn from_gguf(file: &Gguf) -> Result<Self, Error> {
        let key = |name: &str| format!("tokenizer.ggml.{name}");
        let text = |key: &str| Ok::<_, Error>(optional(file.str(key))?.unwrap_or_default());
        let texts = |name: &str| {
            let found = optional(file.strs(&key(name)))?;
            Ok::<_, Error>(
                found.into_iter().flat_map(|all| all.iter()).map(str::to_owned).collect(),
            )
        };
        // Some files write -1 for "none".
        let id = |name: &str| {
            let value = file.get(&key(&format!("{name}_token_id")))?;
            Token::try_from(value.as_integer()?).ok()
        };
        let flag = |name: &str| optional(file.bool(&key(name)));
        let tokens: Vec<String> = texts("tokens")?;
        if tokens.is_empty() {
            return Err(Error::Missing("its vocabulary (tokenizer.ggml.tokens)".into()));
        }
        let kinds = optional(file.ints(&key("token_type")))?.unwrap_or_default();
        let name = text("general.name")?.to_lowercase();
        let own = |name: &str| optional(file.ints(&format!("tokenizer.ingle.{name}")));
        let around = match (own("single")?, own("pair")?) {
            (Some(single), Some(pair)) => {
                let types = ["single_types", "pair_types"].map(own);
                let [of_single, of_pair] = types;
                let types = [of_single?.unwrap_or_default(), of_pair?.unwrap_or_default()];
                Some(Said { single, pair, types })
            }
            _ => None,
        };
        let switch = |name: &str| optional(file.bool(&format!("tokenizer.ingle.{name}")));
        Ok(Self {
            model: text(&key("model"))?.to_owned(),
            pre: text(&key("pre"))?.to_owned(),
            tokens,
            scores: scores(file)?,
            kinds: kinds.into_iter().map(TokenKind::from_gguf).collect(),
            merges: texts("merges")?,
            bos: id("bos"),
            eos: id("eos"),
            eot: id("eot"),
            eom: id("eom"),
            unk: id("unknown"),
            sep: id("seperator"), // GGUF's own spelling
            pad: id("padding"),
            fill_in_ends: ["fim_pad", "fim_rep", "fim_sep"].into_iter().filter_map(id).collect(),
            // The second of the names is the older one.
            fill_in_marks: [("fim_pre", "prefix"), ("fim_suf", "suffix"), ("fim_mid", "middle")]
                .map(|(name, older)| id(name).or_else(|| id(older))),
            add_bos: flag("add_bos_token")?,
            add_eos: flag("add_eos_token")?,
            add_sep: flag("add_sep_token")?,
            add_space_prefix: flag("add_space_prefix")?,
            lowercase: flag("normalizer.lowercase")?,
            strip_accents: flag("normalizer.strip_accents")?,
            space_first_only: switch("space_first_only")?.unwrap_or(false),
            space_unless_there: switch("space_unless_there")?.unwrap_or(false),
            remove_extra_whitespaces: flag("remove_extra_whitespaces")?,
            charsmap: charsmap(file)?,
            clean: switch("clean")?.unwrap_or(false),
            spaced: spaced(file)?,
            // No key of others says it; llama.cpp goes by the name as well.
            swallow_after_special: switch("swallow_after_special")?
                .unwrap_or(name.contains("phi-3") || name.contains("phi3")),
            nfc: switch("nfc")?.unwrap_or(false),
            kinds_told: switch("kinds_told")?.unwrap_or(false),
            around,
        })
    }
}

/// Scores; where a file has them unrounded too, those.
fn scores(file: &Gguf) -> Result<Vec<f64>, Error> {
    match optional(file.f64s("tokenizer.ingle.scores"))? {
        Some(unrounded) => Ok(unrounded),
        None => Ok(optional(file.f64s("tokenizer.ggml.scores"))?.unwrap_or_default()),
    }
}

/// Characters with spaces on both sides, and those with one behind.
fn spaced(file: &Gguf) -> Result<[String; 2], Error> {
    let text = |key: &str| Ok::<_, Error>(optional(file.str(key))?.unwrap_or_default().to_owned());
    Ok([text("tokenizer.ingle.spaced")?, text("tokenizer.ingle.spaced_behind")?])
}

/// `tokenizer.ggml.precompiled_charsmap`; files have it as signed or unsigned bytes.
fn charsmap(file: &Gguf) -> Result<Vec<u8>, Error> {
    const KEY: &str = "tokenizer.ggml.precompiled_charsmap";
    match file.get(KEY) {
        None => Ok(Vec::new()),
        Some(Value::Array(Array::U8s(bytes))) => Ok(bytes.clone()),
        Some(Value::Array(Array::I8s(bytes))) => {
            Ok(bytes.iter().map(|byte| byte.cast_unsigned()).collect())
        }
        Some(other) => {
            Err(Error::Unsupported(format!("{KEY} is a {}, not bytes", other.type_name())))
        }
    }
}
