//! Batches of a server: listed, looked at, ended. Absent: beginning one, which takes a file that
//! OpenAI's clients upload, and fetching what came of it.

use std::time::Duration;

use anyhow::anyhow;
use clap::Args as ClapArgs;
use ingle_server::Remote;
use serde_json::Value;

use crate::ui::{Ui, Usage};

/// Which server, and how it is asked.
#[derive(Debug, ClapArgs)]
pub(super) struct At {
    /// The server's address
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    url: String,

    /// A key of it with the scope `batch`; better given in the environment, where other users of
    /// the machine do not see it
    #[arg(long, value_name = "KEY", env = "INGLE_API_KEY", hide_env_values = true)]
    api_key: Option<String>,

    /// How long to wait for its answer
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    timeout: u16,

    /// Believe whatever certificate it shows: for a server on this machine, whose certificate is
    /// for another name
    #[arg(long)]
    insecure: bool,
}

/// Which batches are listed.
#[derive(Debug, ClapArgs)]
pub(super) struct ListArgs {
    /// At most so many, the newest first
    #[arg(long, value_name = "N", default_value_t = 20)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=100))]
    limit: u32,

    /// Those behind this one
    #[arg(long, value_name = "ID", value_parser = id)]
    after: Option<String>,

    #[command(flatten)]
    at: At,
}

/// Which batch.
#[derive(Debug, ClapArgs)]
pub(super) struct OneArgs {
    /// Its id, as `ingle batch list` shows it
    #[arg(value_parser = id)]
    id: String,

    #[command(flatten)]
    at: At,
}

/// A part of an address, so nothing that could be more than one.
fn id(text: &str) -> Result<String, String> {
    let right = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if (1..=128).contains(&text.len()) && text.chars().all(right) {
        return Ok(text.to_owned());
    }
    Err("an id has letters, digits, `_` and `-`, as `ingle batch list` shows it".to_owned())
}

impl At {
    fn remote(&self) -> Remote {
        Remote {
            url: self.url.clone(),
            key: self.api_key.clone(),
            patience: Duration::from_secs(self.timeout.into()),
            believe: self.insecure,
        }
    }
}

/// What came where it went well; else what the server says is wrong.
fn right(answer: Result<(u16, Value), String>) -> anyhow::Result<Value> {
    let (status, told) = answer.map_err(|why| anyhow!("{why}"))?;
    if status == 200 {
        return Ok(told);
    }
    let message = told["error"]["message"].as_str().unwrap_or("it does not say why");
    let hint = match status {
        401 | 403 => "\nhint: give a key with the scope `batch` as INGLE_API_KEY",
        _ => "",
    };
    Err(Usage(format!("the server refuses it ({status}): {message}{hint}")).into())
}

/// A batch as a row: its id, where it stands, how many of its lines are done, and what for.
fn row(batch: &Value) -> Vec<String> {
    let text = |name: &str| batch[name].as_str().unwrap_or_default().to_owned();
    let count = |name: &str| batch["request_counts"][name].as_u64().unwrap_or(0);
    let done = format!("{} of {}", count("completed") + count("failed"), count("total"));
    let failed = match count("failed") {
        0 => String::new(),
        failed => format!("{failed} failed"),
    };
    vec![text("id"), text("status"), done, failed, text("endpoint")]
}

pub(super) fn list(args: &ListArgs, ui: &Ui) -> anyhow::Result<()> {
    let after = args.after.iter().map(|id| format!("&after={id}"));
    let path = format!("/v1/batches?limit={}{}", args.limit, after.collect::<String>());
    let told = right(args.at.remote().get(&path))?;
    if ui.json {
        return ui.object(&told);
    }
    let rows: Vec<Vec<String>> = told["data"].as_array().into_iter().flatten().map(row).collect();
    if rows.is_empty() {
        ui.note("there are no batches");
        return Ok(());
    }
    ui.table(&rows, &[])?;
    if told["has_more"] == true {
        ui.note(format_args!("there are more: --after {}", rows[rows.len() - 1][0]));
    }
    Ok(())
}

pub(super) fn show(args: &OneArgs, ui: &Ui) -> anyhow::Result<()> {
    tell(&right(args.at.remote().get(&format!("/v1/batches/{}", args.id)))?, ui)
}

pub(super) fn cancel(args: &OneArgs, ui: &Ui) -> anyhow::Result<()> {
    tell(&right(args.at.remote().post(&format!("/v1/batches/{}/cancel", args.id)))?, ui)
}

/// One batch, with its files and what is wrong with its input.
fn tell(batch: &Value, ui: &Ui) -> anyhow::Result<()> {
    if ui.json {
        return ui.object(batch);
    }
    ui.table(&[row(batch)], &[])?;
    let files = ["input_file_id", "output_file_id", "error_file_id"];
    let files = files.iter().filter_map(|name| {
        let name = name.trim_end_matches("_file_id");
        Some(vec![name.to_owned(), batch[format!("{name}_file_id")].as_str()?.to_owned()])
    });
    ui.table(&files.collect::<Vec<_>>(), &[])?;
    for error in batch["errors"]["data"].as_array().into_iter().flatten() {
        let line = error["line"].as_u64().map(|line| format!("line {line}: ")).unwrap_or_default();
        ui.line(format_args!("{line}{}", error["message"].as_str().unwrap_or_default()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rows_of_batches() {
        let counts = |total, completed, failed| json!({ "total": total, "completed": completed, "failed": failed });
        let batch = |counts: Value| {
            let path = "/v1/embeddings";
            json!({ "id": "batch_1", "status": "in_progress", "endpoint": path,
                    "request_counts": counts })
        };
        let cells = |counts: Value| row(&batch(counts))[2..4].to_vec();
        assert_eq!(cells(counts(9, 5, 0)), ["5 of 9", ""]);
        assert_eq!(cells(counts(9, 5, 2)), ["7 of 9", "2 failed"]);
        assert_eq!(cells(Value::Null), ["0 of 0", ""]);
    }

    #[test]
    fn ids_are_one_part_of_an_address() {
        for (text, expect) in
            [("batch_0a-9", true), ("", false), ("a/cancel", false), ("a?b", false), ("..", false)]
        {
            assert_eq!(id(text).is_ok(), expect, "{text}");
        }
    }

    #[test]
    fn refusals_say_what_to_do() {
        let refused = |status| {
            let told = json!({ "error": { "message": "no" } });
            right(Ok((status, told))).expect_err("it refuses").to_string()
        };
        assert!(refused(401).contains("INGLE_API_KEY"));
        assert!(refused(404).contains("(404): no") && !refused(404).contains("hint"));
    }
}
