//! Counters and histograms in Prometheus' text format: the server's own, then the provider's. All
//! label values come from tables, or are names of keys and of the provider's models, so their
//! number is bounded.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ingle_gateway::Metric;
use ingle_protocol::Receipt;
use ingle_protocol::wire::receipt::finish_name;

use crate::owners::Owners;

/// The server's own numbers.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    requests: Mutex<BTreeMap<(String, u16), u64>>,
    finishes: Mutex<BTreeMap<&'static str, u64>>,
    pub(crate) abandoned: AtomicU64,
    pub(crate) stream_errors: AtomicU64,
    prompt_tokens: AtomicU64,
    cached_tokens: AtomicU64,
    completion_tokens: AtomicU64,
    pub(crate) owners: Owners,
    queued: Histogram,
    prefill: Histogram,
    decode: Histogram,
    per_token: Histogram,
    prompt_lengths: Lengths,
    answer_lengths: Lengths,
    pub(crate) first_token: Histogram,
    pub(crate) inter_token: Histogram,
    answer: Histogram,
}

/// Upper edges, in seconds: 1 ms to 2 minutes, some three a decade.
const EDGES: [f64; 16] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0,
];

/// Upper edges, in tokens: 1 to half a million, doubling.
const TOKEN_EDGES: [f64; 20] = [
    1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0,
    16384.0, 32768.0, 65536.0, 131_072.0, 262_144.0, 524_288.0,
];

/// How many durations fell below each edge, and their sum.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    /// The last one is for what is above all edges.
    buckets: [AtomicU64; EDGES.len() + 1],
    sum_micros: AtomicU64,
}

/// How many answers had at most so many tokens, and all of their tokens.
#[derive(Debug, Default)]
struct Lengths {
    /// The last one is for what is above all edges.
    buckets: [AtomicU64; TOKEN_EDGES.len() + 1],
    sum: AtomicU64,
}

impl Lengths {
    fn observe(&self, tokens: u32) {
        count(&self.buckets, &TOKEN_EDGES, tokens.into());
        add(&self.sum, tokens.into());
    }

    fn write(&self, out: &mut String, name: &str, help: &str) {
        let sum = self.sum.load(Ordering::Relaxed) as f64;
        histogram(out, (name, help), (&self.buckets, &TOKEN_EDGES), sum);
    }
}

impl Histogram {
    pub(crate) fn observe(&self, time: Duration) {
        count(&self.buckets, &EDGES, time.as_secs_f64());
        add(&self.sum_micros, u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    }

    fn write(&self, out: &mut String, name: &str, help: &str) {
        let sum = self.sum_micros.load(Ordering::Relaxed) as f64 / 1e6;
        histogram(out, (name, help), (&self.buckets, &EDGES), sum);
    }
}

/// Counts a value in the first bucket whose edge it does not pass.
fn count(buckets: &[AtomicU64], edges: &[f64], value: f64) {
    let bucket = edges.iter().position(|edge| value <= *edge).unwrap_or(edges.len());
    add(&buckets[bucket], 1);
}

/// Writes buckets, each with those below it, as the format demands.
fn histogram(
    out: &mut String,
    (name, help): (&str, &str),
    (buckets, edges): (&[AtomicU64], &[f64]),
    sum: f64,
) {
    head(out, name, help, "histogram");
    let mut below = 0;
    for (bucket, edge) in buckets.iter().zip(edges) {
        below += bucket.load(Ordering::Relaxed);
        line(out, format_args!("{name}_bucket{{le=\"{edge}\"}} {below}"));
    }
    below += buckets[edges.len()].load(Ordering::Relaxed);
    line(out, format_args!("{name}_bucket{{le=\"+Inf\"}} {below}"));
    line(out, format_args!("{name}_sum {sum}"));
    line(out, format_args!("{name}_count {below}"));
}

fn add(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}

fn head(out: &mut String, name: &str, help: &str, kind: &str) {
    let help = help.replace('\\', "\\\\").replace('\n', "\\n");
    line(out, format_args!("# HELP {name} {help}\n# TYPE {name} {kind}"));
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    writeln!(out, "{text}").expect("writing to a string cannot fail");
}

/// Rows of one name have one head, as the format demands.
fn write_provider(out: &mut String, rows: &[Metric]) {
    let mut before = "";
    for row in rows {
        if before != row.name {
            head(out, row.name, row.help, if row.counter { "counter" } else { "gauge" });
            before = row.name;
        }
        match &row.model {
            Some(model) => {
                let model = label(model);
                line(out, format_args!("{}{{model=\"{model}\"}} {}", row.name, row.value));
            }
            None => line(out, format_args!("{} {}", row.name, row.value)),
        }
    }
}

/// A label's value, escaped.
fn label(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

impl Metrics {
    /// A request got its status. `route` is a path of the router, not the caller's.
    pub(crate) fn answered(&self, route: &str, status: u16) {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        *requests.entry((route.to_owned(), status)).or_default() += 1;
    }

    /// A choice came to its end.
    pub(crate) fn done(&self, owner: &str, receipt: &Receipt, time: Duration) {
        add(&self.prompt_tokens, receipt.usage.prompt_tokens.into());
        add(&self.cached_tokens, receipt.usage.cached_tokens.into());
        add(&self.completion_tokens, receipt.usage.completion_tokens.into());
        self.observe_parts(receipt);
        self.answer.observe(time);
        self.owners.done(owner, &receipt.usage);
        let mut finishes = self.finishes.lock().unwrap_or_else(PoisonError::into_inner);
        *finishes.entry(finish_name(receipt.finish)).or_default() += 1;
    }

    /// Where a choice's time went, as far as it came.
    fn observe_parts(&self, receipt: &Receipt) {
        let (times, usage) = (&receipt.timings, &receipt.usage);
        self.prompt_lengths.observe(usage.prompt_tokens);
        self.answer_lengths.observe(usage.completion_tokens);
        self.queued.observe(times.queued);
        if !times.first_token.is_zero() {
            self.prefill.observe(times.first_token.saturating_sub(times.queued));
            let decode = times.total.saturating_sub(times.first_token);
            self.decode.observe(decode);
            if usage.completion_tokens > 1 {
                self.per_token.observe(decode / (usage.completion_tokens - 1));
            }
        }
    }

    /// The text for `/metrics`.
    pub(crate) fn write(&self, in_flight: usize, provider: &[Metric]) -> String {
        let mut out = String::new();
        let name = "ingle_server_requests_total";
        head(&mut out, name, "HTTP requests by route and status.", "counter");
        for ((route, status), count) in
            &*self.requests.lock().unwrap_or_else(PoisonError::into_inner)
        {
            let labels = format_args!("route=\"{route}\",status=\"{status}\"");
            line(&mut out, format_args!("{name}{{{labels}}} {count}"));
        }
        let name = "ingle_server_answers_total";
        head(&mut out, name, "Choices that came to their end, by finish.", "counter");
        for (finish, count) in &*self.finishes.lock().unwrap_or_else(PoisonError::into_inner) {
            line(&mut out, format_args!("{name}{{finish=\"{finish}\"}} {count}"));
        }
        self.owners.write(&mut out, head);
        let name = "ingle_server_answers_in_flight";
        head(&mut out, name, "Choices under way.", "gauge");
        line(&mut out, format_args!("{name} {in_flight}"));
        self.write_counters(&mut out);
        self.write_histograms(&mut out);
        write_provider(&mut out, provider);
        out
    }

    #[rustfmt::skip]
    fn write_counters(&self, out: &mut String) {
        let rows = [
            ("ingle_server_abandoned_total", "Answers whose caller went away.", &self.abandoned),
            ("ingle_server_stream_errors_total", "Streams that ended with an error.", &self.stream_errors),
            ("ingle_server_prompt_tokens_total", "Tokens of prompts.", &self.prompt_tokens),
            ("ingle_server_cached_tokens_total", "Tokens of prompts found in the prefix cache.", &self.cached_tokens),
            ("ingle_server_completion_tokens_total", "Tokens generated.", &self.completion_tokens),
        ];
        for (name, help, counter) in rows {
            head(out, name, help, "counter");
            line(out, format_args!("{name} {}", counter.load(Ordering::Relaxed)));
        }
    }

    #[rustfmt::skip]
    fn write_histograms(&self, out: &mut String) {
        let rows = [
            ("ingle_server_queue_seconds", "From a request to its first computed token.", &self.queued),
            ("ingle_server_prefill_seconds", "From a choice's first computed token to its first generated one.", &self.prefill),
            ("ingle_server_decode_seconds", "From a choice's first generated token to its end.", &self.decode),
            ("ingle_server_time_per_output_token_seconds", "The mean of a choice between its tokens.", &self.per_token),
            ("ingle_server_time_to_first_token_seconds", "From a request to its first piece.", &self.first_token),
            ("ingle_server_inter_token_seconds", "Between two pieces of a choice.", &self.inter_token),
            ("ingle_server_answer_seconds", "From a request to a choice's end.", &self.answer),
        ];
        for (name, help, histogram) in rows {
            histogram.write(out, name, help);
        }
        let rows = [
            ("ingle_server_request_prompt_tokens", "Tokens of a choice's prompt.", &self.prompt_lengths),
            ("ingle_server_request_completion_tokens", "Tokens of a choice's answer.", &self.answer_lengths),
        ];
        for (name, help, lengths) in rows {
            lengths.write(out, name, help);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_cumulative() {
        let metrics = Metrics::default();
        for ms in [1, 2, 30, 500_000] {
            metrics.first_token.observe(Duration::from_millis(ms));
        }
        metrics.answered("/x", 200);
        metrics.answered("/x", 200);
        let own = |model: Option<&str>, value| Metric {
            name: "own",
            help: "a\nb",
            counter: true,
            model: model.map(Into::into),
            value,
        };
        let text = metrics.write(3, &[own(None, 1.5), own(Some("a\\\"b\n"), 2.0)]);
        let name = "ingle_server_time_to_first_token_seconds";
        let expect = [
            format!("{name}_bucket{{le=\"0.001\"}} 1\n"),
            format!("{name}_bucket{{le=\"0.0025\"}} 2\n"),
            format!("{name}_bucket{{le=\"120\"}} 3\n"),
            format!("{name}_bucket{{le=\"+Inf\"}} 4\n"),
            format!("{name}_sum 500.033\n{name}_count 4\n"),
            "ingle_server_requests_total{route=\"/x\",status=\"200\"} 2\n".to_owned(),
            "ingle_server_answers_in_flight 3\n".to_owned(),
            "# HELP own a\\nb\n# TYPE own counter\nown 1.5\nown{model=\"a\\\\\\\"b\\n\"} 2\n"
                .to_owned(),
        ];
        for line in expect {
            assert!(text.contains(&line), "{line} in {text}");
        }
    }
}
