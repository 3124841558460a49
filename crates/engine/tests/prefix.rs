//! Cached prefixes: who shares them.

mod support;

use ingle_engine::Options;
use ingle_protocol::{Input, Request};
use support::{answer, open, request, tiny};

/// As if each row came after the ones before: the salt, and how many prompt tokens it finds.
#[test]
fn a_prefix_is_shared_within_its_salt() {
    let model = open(&tiny("qwen3"), &Options { threads: Some(1), ..Options::default() });
    let prompt: Vec<u32> = (0..100).collect();
    let check = |salt: &str, cached: u32| {
        let mut request: Request = request(Input::Tokens(prompt.clone()), 2);
        request.cache_salt = salt.to_owned();
        let told = answer(&model, &request);
        assert_eq!(told.receipt().usage.cached_tokens, cached, "{salt:?}");
        told.text()
    };
    let first = check("", 0);
    let rows = [("a", 0), ("b", 0), ("a", 96), ("", 96), ("b", 96), ("c", 0)];
    assert!(rows.iter().all(|&(salt, cached)| check(salt, cached) == first));
    let refused = Request { cache_salt: "x".repeat(5000), ..request(Input::Tokens(prompt), 2) };
    let fault = support::ask(&model, &refused).map(|_| ()).expect_err("is refused");
    assert_eq!(fault.param.as_deref(), Some("cache_salt"));
}
