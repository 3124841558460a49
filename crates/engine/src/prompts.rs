//! Prompts that are more than a text: gaps between two texts, told by the tokens that their models
//! were taught them with, and prompts of which only the end is kept, since that was asked for.
//! Absent: conversations, which templates render.

use ingle_model::tokenizer::{Special, Tokenizer};
use ingle_protocol::{Fault, Gap, Token, Truncation};

/// The tokens of a gap's prompt, what stands before it first.
pub(crate) fn gap(tokenizer: &Tokenizer, gap: &Gap) -> Result<Vec<Token>, Fault> {
    let Some(marks) = tokenizer.gap_marks() else {
        let message = "this model has no tokens for filling in the middle: ask one that was taught it, as \
             many models of code were, or send the text before the gap alone";
        return Err(Fault::caller(message).at("suffix"));
    };
    let parts = [&gap.prefix, &gap.suffix, &gap.begun];
    let begin = tokenizer.bos().filter(|_| tokenizer.adds_bos());
    let marked = marks
        .into_iter()
        .zip(parts)
        .flat_map(|(mark, text)| [mark].into_iter().chain(tokenizer.encode(text, Special::Plain)));
    Ok(begin.into_iter().chain(marked).collect())
}

/// What is kept of a prompt, and what is to be said of what was cut.
pub(crate) fn truncate(
    prompt: &mut Vec<Token>,
    truncation: Option<Truncation>,
    context: usize,
    new_max: Option<u32>,
) -> Result<Option<String>, Fault> {
    let most = match truncation {
        None => return Ok(None),
        Some(Truncation::Last(most)) => most as usize,
        Some(Truncation::Fitting) => {
            context.saturating_sub(new_max.map_or(1, |most| most.max(1) as usize))
        }
    };
    if most == 0 {
        let message = "truncate_prompt_tokens leaves nothing of the prompt: the answer's limit \
                       alone fills the context; ask for fewer tokens";
        return Err(Fault::caller(message).at("truncate_prompt_tokens"));
    }
    let all = prompt.len();
    if all <= most {
        return Ok(None);
    }
    prompt.drain(..all - most);
    Ok(Some(format!(
        "the prompt was cut to its last {most} of {all} tokens, as truncate_prompt_tokens asks"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_prompt_is_kept() {
        let check = |truncation, new_max, expect: Option<usize>, noted: bool| {
            let mut prompt: Vec<Token> = (0..10).collect();
            let told = truncate(&mut prompt, truncation, 8, new_max);
            assert_eq!(told.is_ok(), expect.is_some());
            if let (Ok(note), Some(kept)) = (told, expect) {
                assert_eq!(prompt, (10 - kept as Token..10).collect::<Vec<_>>());
                assert_eq!(note.is_some(), noted, "{note:?}");
            }
        };
        check(None, Some(3), Some(10), false);
        check(Some(Truncation::Last(4)), Some(3), Some(4), true);
        check(Some(Truncation::Last(10)), None, Some(10), false);
        check(Some(Truncation::Last(99)), None, Some(10), false);
        check(Some(Truncation::Fitting), Some(3), Some(5), true);
        check(Some(Truncation::Fitting), None, Some(7), true);
        check(Some(Truncation::Fitting), Some(0), Some(7), true);
        check(Some(Truncation::Fitting), Some(8), None, false);
        check(Some(Truncation::Last(0)), None, None, false);
    }
}
