//! A model's tokens as the grammar library wants them: a trie of what each token writes, and how a
//! text that a grammar forces is cut into tokens. That is always the model's own tokenizer's way.
//!
//! Only what writes text is a word. Markup stands apart, behind a byte that no text has; so does
//! every token that ends an answer, whatever its kind: a grammar allows those by accepting.

use ingle_model::tokenizer::{TokenKind, Tokenizer};
use ingle_protocol::Token;
use llguidance::toktrie::{TokEnv, TokRxInfo, TokTrie, TokenizerEnv};
use std::sync::Arc;

/// The trie's depth is bounded; no token that a model writes is as long.
const WORD_BYTES_MAX: usize = 1000;

/// The byte that the trie keeps for markup.
const MARK: u8 = TokTrie::SPECIAL_TOKEN_MARKER;

struct Words {
    tokenizer: Tokenizer,
    trie: TokTrie,
}

/// The trie and the tokenizer of a model. Takes some ten milliseconds.
pub(super) fn words(tokenizer: &Tokenizer) -> TokEnv {
    let ids = 0..tokenizer.vocab_len() as Token;
    let words: Vec<Vec<u8>> = ids.map(|token| word(tokenizer, token)).collect();
    // Answers end by other ids than this one's, see `Guide`; where there is none, none is named.
    let end = tokenizer.ends().first().copied().unwrap_or(llguidance::toktrie::INVALID_TOKEN);
    let trie = TokTrie::from(&TokRxInfo::new(words.len() as u32, end), &words);
    let trie = match tokenizer.ends() {
        [] => trie,
        ends => trie.with_eos_tokens(ends),
    };
    Arc::new(Words { tokenizer: tokenizer.clone(), trie })
}

fn word(tokenizer: &Tokenizer, token: Token) -> Vec<u8> {
    let written = tokenizer.bytes_with_markup(token).unwrap_or_default();
    let text = matches!(
        tokenizer.kind(token),
        Some(TokenKind::Normal | TokenKind::UserDefined | TokenKind::Byte)
    );
    match text && !tokenizer.is_end(token) {
        _ if written.is_empty() || written.len() > WORD_BYTES_MAX => Vec::new(),
        true if written[0] == MARK => Vec::new(),
        true => written.to_vec(),
        false => [&[MARK], written].concat(),
    }
}

impl TokenizerEnv for Words {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    /// Tokens that write exactly these bytes, as far as the vocabulary can: where the tokenizer
    /// changes a text, or finds markup in it, the longest words that fit.
    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<Token> {
        let own = |text: &str| self.tokenizer.encode_continuation(text);
        let tokens = self.trie.tokenize_with_greedy_fallback(bytes, own);
        if self.trie.decode_raw(&tokens) == bytes {
            tokens
        } else {
            self.trie.greedy_tokenize(bytes)
        }
    }
}
