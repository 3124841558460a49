//! A batch's input, read through before any of it is answered: every line has to be one, and no two
//! may have the same `custom_id`. What is wrong with a line's request is found when it is answered,
//! and is that line's error.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read};

use ingle_protocol::wire::openai::{self, BatchError};
use ingle_records::{LineSpan, NewBatch, Records, Result};

use crate::records::now_s;

/// What is wrong is told of at most so many lines.
const ERRORS_MOST: usize = 100;

/// Takes a batch's lines, or refuses them. True where they were taken.
pub(super) fn take(
    records: &Records,
    batch: &NewBatch,
    lines_most: usize,
    bytes_most: usize,
) -> Result<bool> {
    let file = match records.open_file(&batch.input_file) {
        Ok(file) => file,
        Err(error) => {
            tracing::error!(%error, "a batch's input cannot be read");
            let message = "the input file cannot be read on this server".to_owned();
            let errors = [whole("invalid_input_file", message)];
            records.refuse_batch(&batch.id, &openai::write_batch_errors(&errors), now_s())?;
            return Ok(false);
        }
    };
    match read(BufReader::new(file), &batch.endpoint, lines_most, bytes_most) {
        Ok(lines) => records.accept_batch(&batch.id, &lines, now_s()),
        Err(errors) => {
            records.refuse_batch(&batch.id, &openai::write_batch_errors(&errors), now_s())?;
            Ok(false)
        }
    }
}

/// An error of the input as a whole.
fn whole(code: &'static str, message: String) -> BatchError {
    BatchError { code, line: None, message, param: None }
}

/// Where the lines stand, or what is wrong with them. Empty lines are none.
fn read(
    mut input: impl BufRead,
    endpoint: &str,
    lines_most: usize,
    bytes_most: usize,
) -> std::result::Result<Vec<LineSpan>, Vec<BatchError>> {
    let (mut lines, mut errors) = (Vec::new(), Vec::new());
    let mut seen = HashMap::new();
    let (mut start, mut text) = (0, Vec::new());
    for number in 1.. {
        text.clear();
        let most = bytes_most as u64 + 2;
        let bytes = match input.by_ref().take(most).read_until(b'\n', &mut text) {
            Ok(0) => break,
            Ok(bytes) => bytes as u64,
            Err(error) => {
                errors.push(whole("invalid_input_file", format!("it cannot be read: {error}")));
                break;
            }
        };
        if bytes == most {
            let message = format!("the line has more than {bytes_most} bytes");
            errors.push(BatchError { line: Some(number), ..whole("line_too_long", message) });
            break;
        }
        let line = text.trim_ascii();
        if !line.is_empty() {
            match check(line, endpoint, number, &mut seen) {
                Ok(custom_id) => lines.push(LineSpan { custom_id, start, bytes }),
                Err(error) => errors.push(error),
            }
        }
        start += bytes;
        if lines.len() > lines_most {
            let message = format!("a batch has at most {lines_most} lines: make several of it");
            errors.push(whole("too_many_lines", message));
        }
        if errors.len() >= ERRORS_MOST || lines.len() > lines_most {
            break;
        }
    }
    if lines.is_empty() && errors.is_empty() {
        errors.push(whole("empty_file", "the input file has no lines".to_owned()));
    }
    if errors.is_empty() { Ok(lines) } else { Err(errors) }
}

/// A line's name, where it is one and has not come before.
fn check(
    line: &[u8],
    endpoint: &str,
    number: u64,
    seen: &mut HashMap<String, u64>,
) -> std::result::Result<String, BatchError> {
    let at = |error: BatchError| BatchError { line: Some(number), ..error };
    let custom_id = openai::read_batch_line(line, endpoint).map_err(at)?.custom_id;
    match seen.insert(custom_id.clone(), number) {
        None => Ok(custom_id),
        Some(before) => {
            let message = format!("'custom_id' is that of line {before}, too");
            let param = Some("custom_id");
            Err(at(BatchError { param, ..whole("duplicate_custom_id", message) }))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const URL: &str = "/v1/completions";

    fn line(id: &str) -> String {
        format!(r#"{{"custom_id":"{id}","method":"POST","url":"{URL}","body":{{}}}}"#)
    }

    #[test]
    fn lines_are_found_where_they_stand() {
        let text = format!("{}\n\n  {}\r\n \t\n{}", line("a"), line("b"), line("ü"));
        let spans = read(text.as_bytes(), URL, 3, 1000).expect("all are lines");
        let ids: Vec<&str> = spans.iter().map(|span| span.custom_id.as_str()).collect();
        assert_eq!(ids, ["a", "b", "ü"]);
        for span in spans {
            let text = &text.as_bytes()[span.start as usize..][..span.bytes as usize];
            let again = openai::read_batch_line(text.trim_ascii(), URL).expect("is one");
            assert_eq!(again.custom_id, span.custom_id);
        }
    }

    #[test]
    fn what_is_wrong_is_said_of_each_line() {
        let check = |text: &str, expect: &[(&str, Option<u64>)]| {
            let errors = read(text.as_bytes(), URL, 3, 200).expect_err("is wrong");
            let told: Vec<_> = errors.iter().map(|error| (error.code, error.line)).collect();
            assert_eq!(told, expect, "{text}");
        };
        let [a, b, c, d] = ["a", "b", "c", "d"].map(line);
        check("", &[("empty_file", None)]);
        check("\n \n", &[("empty_file", None)]);
        check(&format!("{a}\n{a}\n"), &[("duplicate_custom_id", Some(2))]);
        check(
            &format!("{{\n\n{a}\n{b}\n{a}\nx"),
            &[
                ("invalid_json_line", Some(1)),
                ("duplicate_custom_id", Some(5)),
                ("invalid_json_line", Some(6)),
            ],
        );
        check(&format!("{a}\n{b}\n{c}\n{d}\n"), &[("too_many_lines", None)]);
        check(&format!("{a}\n{}", "x".repeat(300)), &[("line_too_long", Some(2))]);
        let many = "x\n".repeat(1000);
        let expect: Vec<_> = (1..=100).map(|line| ("invalid_json_line", Some(line))).collect();
        check(&many, &expect);
    }
}
