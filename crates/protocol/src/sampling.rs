//! How the next token is chosen, as numbers: each rule with the values at which it changes nothing.
//! Absent: the choosing.

use crate::Token;

/// How the next token is chosen. Applied in this order: penalties, bias and DRY, tokens that may
/// not come, top-n-sigma, temperature, top-k, typical, top-p, min-p, XTC (or Mirostat alone after
/// the temperature), then a draw. Each rule weighs what the ones before it kept. Temperature comes
/// before the cuts, as in vLLM and Transformers; llama.cpp, by default, has it last. Another
/// [`order`](Self::order) may be asked for; bias, and tokens that may not come, go first then.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// Logits are divided by this; 0 means greedy.
    pub temperature: f32,
    /// Keep the `k` likeliest tokens; 0 keeps all.
    pub top_k: u32,
    /// Keep the smallest set of likeliest tokens whose mass reaches this; 1 keeps all.
    pub top_p: f32,
    /// Keep tokens at least this fraction as likely as the likeliest; 0 keeps all.
    pub min_p: f32,
    /// Locally typical sampling's mass (Meister et al., 2022); 1 keeps all.
    pub typical_p: f32,
    /// Divide positive (multiply negative) logits of seen tokens by this; 1 changes nothing.
    pub repetition_penalty: f32,
    /// Subtracted once per earlier occurrence in the generated text.
    pub frequency_penalty: f32,
    /// Subtracted once if the token occurred in the generated text.
    pub presence_penalty: f32,
    /// Added to the logits of these tokens; minus infinity forbids one.
    pub logit_bias: Vec<(Token, f32)>,
    /// The same for each token that one of these texts is encoded to.
    pub text_bias: Vec<(String, f32)>,
    /// The rules in their order: what is not in it is not applied, and what is in it twice is
    /// applied twice. Not with Mirostat, unless it is the usual one.
    pub order: Vec<Stage>,
    /// Keep tokens whose logit is at most so many standard deviations below the greatest (Tang et
    /// al., 2024); 0 keeps all.
    pub top_n_sigma: f32,
    /// Lets the temperature follow the distribution.
    pub dynamic_temperature: DynamicTemperature,
    /// Leaves out the likeliest tokens, at times.
    pub xtc: Xtc,
    /// In the place of all cuts.
    pub mirostat: Mirostat,
    /// Penalizes what would repeat a sequence.
    pub dry: Dry,
    /// Only these tokens may come; empty for all.
    pub allowed_tokens: Vec<Token>,
    /// None of these texts is written, wherever the tokens that spell it would come in turn.
    pub bad_words: Vec<String>,
    /// Tokens that end the answer, beside the model's own; no part of it.
    pub stop_tokens: Vec<Token>,
    /// No token ends the answer before so many have come.
    pub min_tokens: u32,
    /// Seed of the draw; `None` takes a fresh one.
    pub seed: Option<u64>,
    /// Do not stop at the model's end-of-generation tokens. An answer with a grammar still ends
    /// where the grammar has nothing more to say.
    pub ignore_eos: bool,
}

impl Default for Sampling {
    /// Plain sampling from the model's own distribution.
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            typical_p: 1.0,
            repetition_penalty: 1.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            logit_bias: Vec::new(),
            text_bias: Vec::new(),
            order: Stage::USUAL.to_vec(),
            top_n_sigma: 0.0,
            dynamic_temperature: DynamicTemperature::default(),
            xtc: Xtc::default(),
            mirostat: Mirostat::default(),
            dry: Dry::default(),
            allowed_tokens: Vec::new(),
            bad_words: Vec::new(),
            stop_tokens: Vec::new(),
            min_tokens: 0,
            seed: None,
            ignore_eos: false,
        }
    }
}

/// A rule that has a place in the [`order`](Sampling::order).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Those of repetition, frequency and presence.
    Penalties,
    /// Don't repeat yourself.
    Dry,
    /// A cut by standard deviations of the logits.
    TopNSigma,
    /// Temperature, dynamic or not.
    Temperature,
    /// A cut by count.
    TopK,
    /// Locally typical sampling.
    Typical,
    /// A cut by mass.
    TopP,
    /// A cut by the likeliest token's part.
    MinP,
    /// Exclude top choices.
    Xtc,
}

impl Stage {
    /// The order where no other is asked for.
    pub const USUAL: [Self; 9] = [
        Self::Penalties,
        Self::Dry,
        Self::TopNSigma,
        Self::Temperature,
        Self::TopK,
        Self::Typical,
        Self::TopP,
        Self::MinP,
        Self::Xtc,
    ];

    /// Its name, as llama.cpp has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Penalties => "penalties",
            Self::Dry => "dry",
            Self::TopNSigma => "top_n_sigma",
            Self::Temperature => "temperature",
            Self::TopK => "top_k",
            Self::Typical => "typ_p",
            Self::TopP => "top_p",
            Self::MinP => "min_p",
            Self::Xtc => "xtc",
        }
    }

    /// Its letter, as llama.cpp has it.
    pub fn letter(self) -> char {
        match self {
            Self::Penalties => 'e',
            Self::Dry => 'd',
            Self::TopNSigma => 's',
            Self::Temperature => 't',
            Self::TopK => 'k',
            Self::Typical => 'y',
            Self::TopP => 'p',
            Self::MinP => 'm',
            Self::Xtc => 'x',
        }
    }
}

/// The temperature goes from `temperature - range` to `temperature + range` as the distribution's
/// entropy goes from none to the greatest there is: `low + (high - low) * (entropy /
/// greatest)^exponent`, as llama.cpp has it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DynamicTemperature {
    /// 0 leaves the temperature as it is.
    pub range: f32,
    /// Of the entropy's part.
    pub exponent: f32,
}

impl Default for DynamicTemperature {
    fn default() -> Self {
        Self { range: 0.0, exponent: 1.0 }
    }
}

/// "Exclude top choices": with this probability, of the tokens that are at least so likely all but
/// the least likely one are left out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Xtc {
    /// 0 never does.
    pub probability: f32,
    /// Above 0.5 no two tokens can reach it.
    pub threshold: f32,
}

impl Default for Xtc {
    fn default() -> Self {
        Self { probability: 0.0, threshold: 0.1 }
    }
}

/// Mirostat (Basu et al., 2021): keeps each token's surprise near a target.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mirostat {
    /// 1 or 2; 0 is off.
    pub version: u8,
    /// The target, in bits.
    pub tau: f32,
    /// How fast it is followed.
    pub eta: f32,
}

impl Default for Mirostat {
    fn default() -> Self {
        Self { version: 0, tau: 5.0, eta: 0.1 }
    }
}

/// "Don't repeat yourself": a token that would make a sequence of `n` tokens at the end occur once
/// more loses `multiplier * base^(n - allowed_length)`, if `n` is at least `allowed_length`.
#[derive(Clone, Debug, PartialEq)]
pub struct Dry {
    /// 0 penalizes nothing.
    pub multiplier: f32,
    /// How much worse each token more is.
    pub base: f32,
    /// The longest sequence, in tokens before the one to come, that costs nothing to repeat is one
    /// shorter.
    pub allowed_length: u32,
    /// Looks at so many of the last tokens of prompt and answer; 0 looks at all.
    pub last_n: u32,
    /// No sequence goes over a token that writes one of these.
    pub breakers: Vec<String>,
}

impl Default for Dry {
    fn default() -> Self {
        let breakers = ["\n", ":", "\"", "*"].map(str::to_owned).to_vec();
        Self { multiplier: 0.0, base: 1.75, allowed_length: 2, last_n: 0, breakers }
    }
}
