//! What `/metrics` tells of the process and of the server's own doings beside answers: memory,
//! version, settings, the log, TLS, traces. Absent: what answers take (`metrics.rs`).

use std::sync::atomic::{AtomicU64, Ordering};

use ingle_gateway::Metric;

use crate::State;
use crate::tls::Tls;
use crate::traces::Tracer;

/// The process's row of a table: a name, its help, whether it only grows, its value.
type Row = (&'static str, &'static str, bool, u64);

pub(crate) fn rows(state: &State) -> Vec<Metric> {
    let memory = resident_bytes().map(|bytes| {
        ("process_resident_memory_bytes", "Memory of the process that is in RAM.", false, bytes)
    });
    let tls = state.tls.as_deref().map(of_tls);
    let traces = state.tracer.as_deref().map(of_traces);
    let rows = memory.into_iter().chain(of_settings(state)).chain(tls.into_iter().flatten());
    let rows = rows.chain(traces.into_iter().flatten());
    let metric = |(name, help, counter, value): Row| Metric {
        name,
        help,
        counter,
        model: None,
        value: value as f64,
    };
    rows.map(metric).collect()
}

#[rustfmt::skip]
fn of_settings(state: &State) -> [Row; 4] {
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let reloads = &state.reloads;
    let stale = u64::from(reloads.stale.load(Ordering::Relaxed));
    [
        ("ingle_server_config_reloads_total", "Changed settings that were taken in.", true, count(&reloads.applied)),
        ("ingle_server_config_reload_failures_total", "Changed settings that were wrong.", true, count(&reloads.failed)),
        ("ingle_server_config_stale", "Whether the last settings were wrong, so that older ones hold.", false, stale),
        ("ingle_server_access_log_lost_total", "Lines of the access log that were not written.", true, count(&state.lost_lines)),
    ]
}

#[rustfmt::skip]
fn of_tls(tls: &Tls) -> [Row; 4] {
    let [failed, reloads, failed_reloads, not_after_s] = tls.counts();
    [
        ("ingle_server_tls_handshake_failures_total", "Connections that came to no TLS.", true, failed),
        ("ingle_server_tls_reloads_total", "Changed certificates that were taken in.", true, reloads),
        ("ingle_server_tls_reload_failures_total", "Changed certificates that were not sound.", true, failed_reloads),
        ("ingle_server_tls_certificate_not_after_seconds", "When the certificate expires, since 1970.", false, not_after_s),
    ]
}

#[rustfmt::skip]
fn of_traces(tracer: &Tracer) -> [Row; 3] {
    let [sent, dropped, failed_posts] = tracer.counts();
    [
        ("ingle_server_spans_sent_total", "Spans that the collector took.", true, sent),
        ("ingle_server_spans_dropped_total", "Spans that it did not take, or not in time.", true, dropped),
        ("ingle_server_span_post_failures_total", "Posts to the collector that failed.", true, failed_posts),
    ]
}

/// As Linux tells it; `None` elsewhere.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}
