//! Where a byte-level BPE vocabulary may never merge across: its pre-tokenizer, one row a
//! published pattern. A row lists the names that `tokenizer.ggml.pre` gives it, and the steps that
//! cut a text into ever smaller pieces.
//!
//! The patterns are those of the models' own `tokenizer.json` (as llama.cpp's vocabulary loader
//! names them). They run on `regex`, which has neither backtracking nor look-around: no text can
//! make it slow or fail. The look-aheads that the patterns do use are all of two shapes, and each
//! is a rule of its own here: whitespace that leaves its last character to the next word
//! ([`Spaces`]), and digits grouped in threes from the right ([`Step::Thousands`]).
//!
//! Where llama.cpp approximates a pattern, a row keeps to the model's own: for `gpt-4o`, `tekken`
//! and their kin a word may begin with a combining mark, and `tiny_aya` groups digits up to any
//! script's word boundary. On texts without such cases the pieces are the same.
//!
//! Absent: `whitespace` and `hybriddna`, which are other algorithms under a BPE name (words are
//! lower-cased and dropped, DNA is cut in k-mers); a file that asks for them is refused by name.

use crate::Error;
use regex::Regex;

/// What a match of the last alternative, `\s+`, gives back, so that ` word` keeps its space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spaces {
    /// Nothing: the pattern has no `\s+(?!\S)`.
    Keep,
    /// `\s+(?!\S)|\s+`: its last character, unless the piece ends there or it is the only one.
    GiveBack,
    /// The same where an earlier alternative takes all whitespace that ends in a newline.
    GiveBackUnlessNewline,
    /// As before, in blocks of 512, 256, … 4, then at most 2, each not followed by a word.
    Halving,
}

/// One pass over the pieces so far.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Each match of the alternatives, and each stretch between two matches, is a piece.
    Split(&'static [&'static str], Spaces),
    /// Runs of digits (the first pattern) are cut in threes from their right end, if what
    /// follows the run does not match the second pattern.
    Thousands(&'static str, &'static str),
}

/// A pre-tokenizer.
#[derive(Debug)]
pub(super) struct Row {
    /// The values of `tokenizer.ggml.pre` that mean it.
    names: &'static [&'static str],
    steps: &'static [Step],
    /// A piece that is itself a token is not merged up from bytes.
    pub(super) whole_words: bool,
    /// A prompt begins with BOS unless the file says otherwise.
    pub(super) add_bos: bool,
    /// Spaces are written as `▁` and merges run over characters, not over mapped bytes; what has
    /// no token falls back to `<0xXX>`.
    pub(super) characters: bool,
}

use Spaces::{GiveBack, GiveBackUnlessNewline, Halving, Keep};
use Step::{Split, Thousands};

const PLAIN: Row =
    Row { names: &[], steps: &[], whole_words: false, add_bos: false, characters: false };

const SUFFIX: &str = "'(?:[stmd]|re|ve|ll)";
const SUFFIX_ANY_CASE: &str = "'(?:[sStTmMdD]|[rR][eE]|[vV][eE]|[lL][lL])";
const WORD: &str = r"[^\r\n\p{L}\p{N}]?\p{L}+";
const SIGNS: &str = r" ?[^\s\p{L}\p{N}]+[\r\n]*";
const SIGNS_OR_SLASH: &str = r" ?[^\s\p{L}\p{N}]+[\r\n/]*";
const LINES: &str = r"\s*[\r\n]+";
const SPACES: &str = r"\s+";
/// Words in camel case, cut before an upper-case letter that follows a lower-case one.
const CAMEL_LOWER: &str =
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+";
const CAMEL_UPPER: &str =
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*";
/// The same with an English suffix attached.
const CAMEL_LOWER_SUFFIX: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?:'(?:[sStTmMdD]|[rR][eE]|[vV][eE]|[lL][lL]))?";
const CAMEL_UPPER_SUFFIX: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?:'(?:[sStTmMdD]|[rR][eE]|[vV][eE]|[lL][lL]))?";
/// One sign glued to the ASCII word after it.
const SIGN_WORD: &str = r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+"##;
const WORD_MARKS: &str = r"[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+";
const HAN_KANA: &str = "[\u{4E00}-\u{9FA5}\u{3040}-\u{309F}\u{30A0}-\u{30FF}]+";
const HAN_HANGUL: &str = "[\u{4E00}-\u{9FA5}\u{800}-\u{4E00}\u{AC00}-\u{D7FF}]+";
const DIGIT: Step = Split(&[r"\p{N}"], Keep);
const DIGITS_UP_TO_3: Step = Split(&[r"\p{N}{1,3}"], Keep);
const NO_SENTENCE_SIGNS: Step =
    Split(&[" ?[^(\\s|.,!?\u{2026}\u{3002}\u{FF0C}\u{3001}\u{964}\u{6D4}\u{60C})]+"], Keep);
const LINE_RUNS: Step = Split(&[r"[^\n]+|[\n]+"], Keep);
const DEEPSEEK_WORDS: Step = Split(
    &[SIGN_WORD, WORD_MARKS, r" ?[\p{P}\p{S}]+[\r\n]*", LINES, SPACES],
    GiveBackUnlessNewline,
);
/// The letters with case that DeepSeek LLM's tokenizer lists one by one (not quite today's
/// `\p{LC}`).
const DEEPSEEK_CASED: &str = "\\s?[A-Za-z\u{B5}\u{C0}-\u{D6}\u{D8}-\u{F6}\u{F8}-\u{1BA}\u{1BC}-\u{1BF}\u{1C4}-\u{293}\u{295}-\u{2AF}\u{370}-\u{373}\u{376}\u{377}\u{37B}-\u{37D}\u{37F}\u{386}\u{388}-\u{38A}\u{38C}\u{38E}-\u{3A1}\u{3A3}-\u{3F5}\u{3F7}-\u{481}\u{48A}-\u{52F}\u{531}-\u{556}\u{10A0}-\u{10C5}\u{13A0}-\u{13F5}\u{13F8}-\u{13FD}\u{1C90}-\u{1CBA}\u{1CBD}-\u{1CBF}\u{1D00}-\u{1D2B}\u{1D6B}-\u{1D77}\u{1D79}-\u{1D9A}\u{1E00}-\u{1F15}\u{1F18}-\u{1F1D}\u{1F20}-\u{1F45}\u{1F48}-\u{1F4D}\u{1F50}-\u{1F57}\u{1F59}\u{1F5B}\u{1F5D}\u{1F5F}-\u{1F7D}\u{1F80}-\u{1FB4}\u{1FB6}-\u{1FBC}\u{1FBE}\u{1FC2}-\u{1FC4}\u{1FC6}-\u{1FCC}\u{1FD0}-\u{1FD3}\u{1FD6}-\u{1FDB}\u{1FE0}-\u{1FEC}\u{1FF2}-\u{1FF4}\u{1FF6}-\u{1FFC}\u{2102}\u{2107}\u{210A}-\u{2113}\u{2115}\u{2119}-\u{211D}\u{2124}\u{2126}\u{2128}\u{212A}-\u{212D}\u{212F}-\u{2134}\u{2139}\u{213C}-\u{213F}\u{2145}-\u{2149}\u{214E}\u{2183}\u{2184}\u{2C00}-\u{2C7B}\u{2C7E}-\u{2CE4}\u{2CEB}-\u{2CEE}\u{2CF2}\u{2CF3}\u{A640}-\u{A66D}\u{A680}-\u{A69B}\u{A722}-\u{A76F}\u{A771}-\u{A787}\u{A78B}-\u{A78E}\u{AB70}-\u{ABBF}\u{FB00}-\u{FB06}\u{FB13}-\u{FB17}\u{FF21}-\u{FF3A}\u{FF41}-\u{FF5A}\u{10400}-\u{1044F}\u{104B0}-\u{104D3}\u{104D8}-\u{104FB}\u{10C80}-\u{10CB2}\u{10CC0}-\u{10CF2}\u{118A0}-\u{118DF}\u{1E900}-\u{1E943}]+";
const AFMOE_SCRIPTS: &str = "[\u{4E00}-\u{9FFF}\u{3400}-\u{4DBF}\u{8C48}-\u{FAFF}\u{3040}-\u{309F}\u{30A0}-\u{30FF}\u{FF65}-\u{FF9F}\u{2F00}-\u{2FDF}\u{E40}-\u{E7F}\u{E80}-\u{EFF}\u{1780}-\u{17FF}\u{1000}-\u{109F}\u{AA60}-\u{AA7F}\u{A9E0}-\u{A9FF}\u{AC00}-\u{D7AF}\u{1100}-\u{11FF}]+";

const GPT2: Step =
    Split(&[SUFFIX, r" ?\p{L}+", r" ?\p{N}+", r" ?[^\s\p{L}\p{N}]+", SPACES], GiveBack);
const LLAMA3: Step =
    Split(&[SUFFIX_ANY_CASE, WORD, r"\p{N}{1,3}", SIGNS, LINES, SPACES], GiveBackUnlessNewline);
const QWEN2: Step =
    Split(&[SUFFIX_ANY_CASE, WORD, r"\p{N}", SIGNS, LINES, SPACES], GiveBackUnlessNewline);
const O200K: Step = Split(
    &[CAMEL_LOWER_SUFFIX, CAMEL_UPPER_SUFFIX, r"\p{N}{1,3}", SIGNS_OR_SLASH, LINES, SPACES],
    GiveBackUnlessNewline,
);

/// Every pre-tokenizer that this version knows.
static ROWS: &[Row] = &[
    Row {
        names: &[
            "llama3",
            "llama-v3",
            "llama-bpe",
            "falcon3",
            "falcon-h1",
            "pixtral",
            "midm-2.0",
            "lfm2",
            "jina-v5-nano",
        ],
        steps: &[LLAMA3],
        whole_words: true,
        add_bos: true,
        ..PLAIN
    },
    Row { names: &["dbrx", "smaug-bpe", "chatglm-bpe"], steps: &[LLAMA3], ..PLAIN },
    Row { names: &["glm4", "glm5"], steps: &[LLAMA3], whole_words: true, ..PLAIN },
    Row {
        names: &["jais-2"],
        steps: &[Split(&[SUFFIX_ANY_CASE, WORD, r"\p{N}{1,3}", SIGNS, LINES, SPACES], Halving)],
        ..PLAIN
    },
    Row {
        names: &[
            "qwen2",
            "deepseek-r1-qwen",
            "kormo",
            "f2llmv2",
            "megrez",
            "stablelm2",
            "hunyuan",
            "solar-open",
            "grok-2",
        ],
        steps: &[QWEN2],
        ..PLAIN
    },
    Row {
        names: &["qwen35"],
        steps: &[Split(
            &[
                SUFFIX_ANY_CASE,
                r"[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+",
                r"\p{N}",
                r" ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*",
                LINES,
                SPACES,
            ],
            GiveBackUnlessNewline,
        )],
        ..PLAIN
    },
    Row {
        names: &["ufakzeka"],
        steps: &[Split(&[WORD, r"\p{N}", SIGNS, LINES, SPACES], GiveBackUnlessNewline)],
        ..PLAIN
    },
    Row { names: &["laguna"], steps: &[LINE_RUNS, QWEN2], ..PLAIN },
    Row {
        names: &["minicpm5"],
        steps: &[
            DIGITS_UP_TO_3,
            Split(&[SUFFIX_ANY_CASE, WORD, r"\p{N}+", SIGNS, LINES, SPACES], GiveBackUnlessNewline),
        ],
        whole_words: true,
        ..PLAIN
    },
    Row {
        names: &["seed-coder"],
        steps: &[Split(
            &[SUFFIX_ANY_CASE, WORD, r"\p{N}", r" ?[^\s\p{L}\p{N}\r\n]+", LINES, SPACES],
            GiveBackUnlessNewline,
        )],
        ..PLAIN
    },
    Row {
        names: &["bailingmoe", "bailingmoe2", "llada-moe"],
        steps: &[Split(
            &[SUFFIX_ANY_CASE, WORD, r"\p{N}", SIGNS, r"\s*[\r\n]", SPACES],
            GiveBackUnlessNewline,
        )],
        ..PLAIN
    },
    Row {
        names: &["exaone-moe"],
        steps: &[Split(
            &[
                SUFFIX_ANY_CASE,
                r"[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+",
                r"\p{N}",
                r" ?[^\s\p{L}\p{N}]+[\r\n/]?",
                r"\s*[\r\n]",
                SPACES,
            ],
            GiveBackUnlessNewline,
        )],
        ..PLAIN
    },
    Row {
        names: &[
            "gpt-2",
            "phi-2",
            "jina-es",
            "jina-de",
            "gigachat",
            "jina-v2-es",
            "jina-v2-de",
            "a.x-4.0",
            "mellum",
            "modern-bert",
            "jina-v1-en",
            "jina-v2-code",
            "roberta-bpe",
            "exaone4",
            "mpt",
            "olmo",
            "jais",
            "trillion",
            "granite-docling",
        ],
        steps: &[GPT2],
        ..PLAIN
    },
    Row {
        names: &[
            "smollm",
            "starcoder",
            "refact",
            "command-r",
            "codeshell",
            "exaone",
            "minerva-7b",
            "mellum2",
        ],
        steps: &[DIGIT, GPT2],
        ..PLAIN
    },
    Row {
        names: &["default"],
        steps: &[
            Split(&[r"[\p{P}\$\+<=>\^~\|]+"], Keep),
            GPT2,
            Split(&[r"\p{N}+"], Keep),
            Split(&["[0-9][0-9][0-9]"], Keep),
        ],
        ..PLAIN
    },
    Row {
        names: &["falcon"],
        steps: &[Split(&[r"[\p{P}\$\+<=>\^~\|`]+"], Keep), GPT2, Split(&["[0-9][0-9][0-9]"], Keep)],
        ..PLAIN
    },
    Row {
        names: &["chameleon"],
        steps: &[
            Split(&["<sentinel:[0-9]+>"], Keep),
            Split(&["IMGIMG[A-I]{1,4}Z"], Keep),
            Split(&["[\\t\\n]|    |  "], Keep),
            DIGIT,
            Split(&[r"[\p{P}!-/:-@\[-`{-~]"], Keep),
            GPT2,
        ],
        add_bos: true,
        ..PLAIN
    },
    Row {
        names: &["deepseek-llm"],
        steps: &[
            Split(&[r"[\r\n]"], Keep),
            Split(&[DEEPSEEK_CASED], Keep),
            Split(
                &[
                    "\\s?[!-/:-~\u{FF01}-\u{FF0F}\u{FF1A}-\u{FF5E}\u{2018}-\u{201F}\u{3000}-\u{3002}]+",
                ],
                Keep,
            ),
            Split(&[r"\s+$"], Keep),
            Split(&[HAN_HANGUL], Keep),
            Split(&[r"\p{N}+"], Keep),
        ],
        ..PLAIN
    },
    Row {
        names: &["deepseek-coder"],
        steps: &[
            Split(&[r"[\r\n]"], Keep),
            Split(&[r"\s?\p{L}+"], Keep),
            Split(&[r"\s?\p{P}+"], Keep),
            Split(&[HAN_HANGUL], Keep),
            DIGIT,
        ],
        ..PLAIN
    },
    Row {
        names: &["deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"],
        steps: &[DIGITS_UP_TO_3, Split(&[HAN_KANA], Keep), DEEPSEEK_WORDS],
        ..PLAIN
    },
    Row {
        names: &["spark2_5"],
        steps: &[
            DIGITS_UP_TO_3,
            Split(&[HAN_KANA], Keep),
            Split(&[SIGN_WORD, WORD_MARKS, r" ?[\p{P}\p{S}]+", r"[\r\n]", SPACES], GiveBack),
            DIGIT,
        ],
        ..PLAIN
    },
    Row {
        names: &["afmoe"],
        steps: &[Thousands(r"\p{N}+", "[^\\s\\S]"), Split(&[AFMOE_SCRIPTS], Keep), DEEPSEEK_WORDS],
        ..PLAIN
    },
    Row {
        names: &["youtu"],
        steps: &[
            Split(
                &[
                    "[\u{AC00}-\u{D7A3}\u{3131}-\u{318E}]+",
                    "[\u{FF01}\u{2026}\u{201C}\u{201D}\u{2018}\u{2019}\u{2014}\u{FF1A}\u{FF1B}\u{FF0C}\u{3001}-\u{303F}\u{FE30}-\u{FE4F}]+",
                    "[\u{3105}-\u{312F}]+",
                    HAN_KANA,
                ],
                Keep,
            ),
            Split(
                &[CAMEL_LOWER_SUFFIX, CAMEL_UPPER_SUFFIX, r"\p{N}", SIGNS_OR_SLASH, LINES, SPACES],
                GiveBackUnlessNewline,
            ),
        ],
        whole_words: true,
        ..PLAIN
    },
    Row { names: &["poro-chat", "bloom", "gpt3-finnish"], steps: &[NO_SENTENCE_SIGNS], ..PLAIN },
    Row { names: &["viking"], steps: &[NO_SENTENCE_SIGNS, DIGIT], ..PLAIN },
    Row {
        names: &["tekken"],
        steps: &[Split(
            &[CAMEL_LOWER, CAMEL_UPPER, r"\p{N}", SIGNS_OR_SLASH, LINES, SPACES],
            GiveBackUnlessNewline,
        )],
        whole_words: true,
        add_bos: true,
        ..PLAIN
    },
    Row {
        names: &["gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"],
        steps: &[O200K],
        ..PLAIN
    },
    Row { names: &["granite-embed-multi-97m"], steps: &[O200K], whole_words: true, ..PLAIN },
    Row { names: &["tiny_aya", "cohere2moe"], steps: &[Thousands(r"\d+", r"\w"), O200K], ..PLAIN },
    Row {
        names: &["superbpe"],
        steps: &[Split(&[r"\p{N}+"], Keep), Thousands(r"\d+", "[^\\s\\S]")],
        ..PLAIN
    },
    Row {
        names: &["kimi-k2"],
        steps: &[Split(
            &[
                r"\p{Han}+",
                r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+(?:'(?:[sStTmMdD]|[rR][eE]|[vV][eE]|[lL][lL]))?",
                r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*(?:'(?:[sStTmMdD]|[rR][eE]|[vV][eE]|[lL][lL]))?",
                r"\p{N}{1,3}",
                SIGNS,
                LINES,
                SPACES,
            ],
            GiveBackUnlessNewline,
        )],
        ..PLAIN
    },
    Row {
        names: &["gemma4", "granite-embed-multi-311m"],
        steps: &[LINE_RUNS],
        add_bos: true,
        characters: true,
        ..PLAIN
    },
    Row { names: &["sarvam-moe"], steps: &[LINE_RUNS], characters: true, ..PLAIN },
];

/// The row that a file's `tokenizer.ggml.pre` names; empty means `default`, as files have it that
/// are older than the key.
pub(super) fn find(name: &str) -> Result<&'static Row, Error> {
    let wanted = if name.is_empty() { "default" } else { name };
    ROWS.iter().find(|row| row.names.contains(&wanted)).ok_or_else(|| {
        Error::Unsupported(format!(
            "this version does not know the pre-tokenizer '{wanted}' (tokenizer.ggml.pre); \
             use a newer version of Ingle or another model"
        ))
    })
}

/// A row, ready to run.
#[derive(Debug)]
pub(super) struct Splitter {
    steps: Vec<Compiled>,
}

#[derive(Debug)]
enum Compiled {
    Split(Regex, Spaces),
    Thousands(Regex, Regex),
}

impl Splitter {
    pub(super) fn new(row: &Row) -> Self {
        Self { steps: row.steps.iter().map(Compiled::new).collect() }
    }

    /// Appends the lengths in bytes of the text's pieces, which together are the whole text.
    pub(super) fn split(&self, text: &str, lengths: &mut Vec<usize>) {
        let from = lengths.len();
        if !text.is_empty() {
            lengths.push(text.len());
        }
        let mut finer = Vec::new();
        for step in &self.steps {
            finer.clear();
            let mut rest = text;
            for &length in &lengths[from..] {
                let (piece, after) = rest.split_at(length);
                step.cut(piece, &mut finer);
                rest = after;
            }
            lengths.truncate(from);
            lengths.append(&mut finer);
        }
    }
}

impl Compiled {
    fn new(step: &Step) -> Self {
        let compile = |pattern: &str| Regex::new(pattern).expect("the table's patterns are tested");
        match step {
            Split(alternatives, spaces) => Self::Split(compile(&alternatives.join("|")), *spaces),
            Thousands(digits, not_before) => {
                Self::Thousands(compile(digits), compile(&format!(r"\A(?:{not_before})")))
            }
        }
    }

    fn cut(&self, piece: &str, lengths: &mut Vec<usize>) {
        let mut done = 0;
        let mut push = |end: usize, done: &mut usize| {
            if end > *done {
                lengths.push(end - *done);
                *done = end;
            }
        };
        match self {
            Self::Split(regex, spaces) => {
                while let Some(found) = regex.find_at(piece, done) {
                    push(found.start(), &mut done);
                    let after = &piece[found.end()..];
                    let mut at = found.start();
                    loop {
                        at += spaces.kept(&piece[at..found.end()], after);
                        push(at, &mut done);
                        if *spaces != Halving || piece[at..found.end()].chars().nth(1).is_none() {
                            break;
                        }
                    }
                }
            }
            Self::Thousands(digits, not_before) => {
                for run in digits.find_iter(piece) {
                    if not_before.is_match(&piece[run.end()..]) {
                        continue;
                    }
                    push(run.start(), &mut done);
                    let count = run.as_str().chars().count();
                    for (i, (at, _)) in run.as_str().char_indices().enumerate().skip(1) {
                        if (count - i) % 3 == 0 {
                            push(run.start() + at, &mut done);
                        }
                    }
                    push(run.end(), &mut done);
                }
            }
        }
        push(piece.len(), &mut done);
    }
}

impl Spaces {
    /// How many of a match's bytes stay matched. Never 0.
    fn kept(self, matched: &str, after: &str) -> usize {
        let Some(last) = matched.chars().next_back().filter(|c| c.is_whitespace()) else {
            return matched.len();
        };
        let newline = matches!(last, '\r' | '\n');
        match self {
            Keep => matched.len(),
            GiveBackUnlessNewline | Halving if newline => matched.len(),
            Halving => {
                let count = matched.chars().take(513).count() - usize::from(!after.is_empty());
                let block = [512, 256, 128, 64, 32, 16, 8, 4, 2, 1];
                let take = block.into_iter().find(|&b| b <= count).unwrap_or(1);
                matched.chars().take(take).map(char::len_utf8).sum()
            }
            _ if after.is_empty() || matched.len() == last.len_utf8() => matched.len(),
            _ => matched.len() - last.len_utf8(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(name: &str, text: &str) -> String {
        let mut lengths = Vec::new();
        Splitter::new(find(name).expect("a known name")).split(text, &mut lengths);
        let mut at = 0;
        let mut out = Vec::new();
        for length in lengths {
            out.push(&text[at..at + length]);
            at += length;
        }
        assert_eq!(at, text.len());
        out.join("·")
    }

    #[test]
    fn every_name_is_in_one_row_and_every_pattern_compiles() {
        let mut seen = std::collections::BTreeSet::new();
        for row in ROWS {
            Splitter::new(row);
            for name in row.names {
                assert!(seen.insert(name), "{name} stands twice");
            }
        }
    }

    #[test]
    fn an_unknown_name_is_named() {
        let error = find("nonesuch").expect_err("no such row").to_string();
        assert!(error.contains("'nonesuch'"), "{error}");
    }

    #[test]
    fn texts_are_cut_where_the_patterns_say() {
        for (name, text, want) in [
            ("gpt-2", "Hello  world's 2024!", "Hello· · world·'s· 2024·!"),
            ("gpt-2", "a\n\n b  ", "a·\n\n· b·  "),
            ("smollm", "x 123", "x· ·1·2·3"),
            ("llama-bpe", "It'S 12345\n\n  if", "It·'S· ·123·45·\n\n· · if"),
            ("qwen2", "a...\r\n b", "a·...\r\n· b"),
            ("qwen2", "   \n   x", "   \n·  · x"),
            ("deepseek-v3", "1234 日本語ab\t\tc", "123·4· ·日本語·ab·\t·\tc"),
            ("spark2_5", " \n \nx", " \n ·\n·x"),
            ("tekken", "helloWorld HTTPServer", "hello·World· HTTPServer"),
            ("gpt-4o", "don't/\n/x", "don't·/\n/·x"),
            ("superbpe", "1234567 x", "1·234·567· x"),
            ("tiny_aya", "1234567 12345km", "1·234·567· ·123·45·km"),
            ("afmoe", "a1234b", "a·1·234·b"),
            ("kimi-k2", "你好abc你", "你好·abc·你"),
            ("gemma4", "a▁b\n\nc", "a▁b·\n\n·c"),
            ("jais-2", "       x", "    ·  · x"),
            ("falcon", "a`b 12345", "a·`·b· ·123·45"),
        ] {
            assert_eq!(pieces(name, text), want, "{name}: {text:?}");
        }
    }
}
