//! Reads a policy.

impl super::Table {
    /// Reads a policy's text; `file` is its name, for errors.
    ///
    /// # Errors
    /// What is wrong, and where. A policy with one error is refused whole.
    pub fn read(file: &str, text: &str) -> Result<Self, super::Wrong>;

    /// What `micros` a call cost at this candidate, and its price's date; `None` unknown.
    pub fn cost(&self, at: &Candidate, tokens: &Tokens, batch: bool) -> Option<(u64, String)>;

    /// What the call would have cost at `[compare]`'s model.
    pub fn instead(&self, tokens: &Tokens) -> Option<u64>;

    /// Names of headers that some rule asks of, lower case: what `Origin::headers` has to carry.
    pub fn headers(&self) -> Vec<&str>;

    /// Whether requests have to be looked at for personal data and secrets before they are decided.
    pub fn wants_detection(&self) -> bool;
}
