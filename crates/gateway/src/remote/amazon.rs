//! Amazon's binary event stream, as Bedrock sends it: frames with checksums, each of which holds
//! one event of the model's own format. Bytes in, events out. Written by "Event stream encoding" in
//! AWS's documentation. Absent: writing frames, but for tests.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ingle_protocol::{Blame, Fault, Retry};
use serde_json::Value;

/// Before the headers: the frame's length, theirs, and a checksum of both.
const PRELUDE: usize = 12;
/// Behind the payload: a checksum of all before it.
const END: usize = 4;

/// Cuts a stream's bytes, as they come, into events.
#[derive(Debug)]
pub(super) struct Frames {
    held: Vec<u8>,
    most: usize,
}

impl Frames {
    /// For frames of at most so many bytes.
    pub(super) fn new(most: usize) -> Self {
        Self { held: Vec::new(), most }
    }

    /// Takes the next bytes, split anywhere, and gives the events that are complete, each as the
    /// name and the data it has in the model's own format.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<Vec<(Option<String>, String)>, Fault> {
        self.held.extend_from_slice(bytes);
        let (mut at, mut events) = (0, Vec::new());
        while let Some(length) = self.next_length(at)? {
            events.extend(event(&self.held[at..at + length])?);
            at += length;
        }
        self.held.drain(..at);
        Ok(events)
    }

    /// The length of the frame at `at`, if all of it is here.
    fn next_length(&self, at: usize) -> Result<Option<usize>, Fault> {
        let held = &self.held[at..];
        if held.len() < PRELUDE {
            return Ok(None);
        }
        if crc32(&held[..8]) != number(&held[8..]) {
            return Err(wrong("a frame's head does not fit its checksum"));
        }
        let (length, headers) = (number(held) as usize, number(&held[4..]) as usize);
        if length > self.most || length < PRELUDE + END || headers > length - PRELUDE - END {
            return Err(wrong("a frame says that it is longer than it may be"));
        }
        Ok((held.len() >= length).then_some(length))
    }

    /// The stream has ended: nothing of a frame may be left.
    pub(super) fn end(&self) -> Result<(), Fault> {
        let left = self.held.is_empty();
        if left { Ok(()) } else { Err(wrong("the stream ended within a frame")) }
    }
}

/// The event of a whole frame, whose lengths were checked.
fn event(frame: &[u8]) -> Result<Option<(Option<String>, String)>, Fault> {
    let end = frame.len() - END;
    if crc32(&frame[..end]) != number(&frame[end..]) {
        return Err(wrong("a frame does not fit its checksum"));
    }
    let payload = PRELUDE + number(&frame[4..]) as usize;
    let headers = headers(&frame[PRELUDE..payload])?;
    let header = |name: &str| {
        let found = headers.iter().find(|(key, _)| key == name);
        found.map_or("", |(_, value)| value.as_str())
    };
    let told: Value = serde_json::from_slice(&frame[payload..end]).unwrap_or(Value::Null);
    match header(":message-type") {
        "event" if header(":event-type") == "chunk" => {}
        "event" => return Ok(None),
        _ => {
            let kind = [header(":exception-type"), header(":error-code")];
            let kind = kind.into_iter().find(|kind| !kind.is_empty()).unwrap_or("an error");
            let message = told["message"].as_str().unwrap_or(header(":error-message"));
            return Err(exception(kind, message));
        }
    }
    let bytes = told["bytes"].as_str().and_then(|text| STANDARD.decode(text).ok());
    let data = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
    let Some(data) = data else { return Err(wrong("an event holds no text")) };
    let name = serde_json::from_str::<Value>(&data).ok();
    let name = name.and_then(|event| event["type"].as_str().map(str::to_owned));
    Ok(Some((name, data)))
}

/// Names and values of a frame's headers; those of other types than text have an empty value.
fn headers(mut bytes: &[u8]) -> Result<Vec<(String, String)>, Fault> {
    let mut headers = Vec::new();
    while !bytes.is_empty() {
        let (name, kind) = (part(&mut bytes, 1)?, take(&mut bytes, 1)?[0]);
        let value = match kind {
            0 | 1 => &[],
            2 => take(&mut bytes, 1)?,
            3 => take(&mut bytes, 2)?,
            4 => take(&mut bytes, 4)?,
            5 | 8 => take(&mut bytes, 8)?,
            6 | 7 => part(&mut bytes, 2)?,
            9 => take(&mut bytes, 16)?,
            _ => return Err(wrong("a frame's header has an unknown type")),
        };
        let value = if kind == 7 { value } else { &[] };
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        headers.push((text(name), text(value)));
    }
    Ok(headers)
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Result<&'a [u8], Fault> {
    let split = bytes.split_at_checked(count);
    let (part, rest) = split.ok_or_else(|| wrong("a frame's headers are cut off"))?;
    *bytes = rest;
    Ok(part)
}

/// Bytes whose number stands before them, in so many bytes itself.
fn part<'a>(bytes: &mut &'a [u8], width: usize) -> Result<&'a [u8], Fault> {
    let count = take(bytes, width)?.iter().fold(0, |count, byte| count << 8 | usize::from(*byte));
    take(bytes, count)
}

/// The number in the first four bytes, which are there.
fn number(bytes: &[u8]) -> u32 {
    bytes[..4].iter().fold(0, |number, byte| number << 8 | u32::from(*byte))
}

/// The checksum of IEEE 802.3.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            let shifted = crc >> 1;
            if crc & 1 == 1 { shifted ^ 0xEDB8_8320 } else { shifted }
        })
    })
}

fn wrong(message: &str) -> Fault {
    let message = format!("the event stream is broken: {message}");
    Fault { blame: Blame::Provider, retry: Retry::Elsewhere, param: None, message }
}

/// What Bedrock tells of within a stream, by its names of errors.
fn exception(kind: &str, message: &str) -> Fault {
    let message: String = message.chars().take(1_000).collect();
    let retry = match kind {
        "validationException" => return Fault::caller(message),
        "throttlingException" => Retry::After(Duration::from_secs(1)),
        _ => Retry::Elsewhere,
    };
    let message = format!("{kind}: {message}");
    Fault { blame: Blame::Provider, retry, param: None, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(headers: &[(&str, &str)], payload: &str) -> Vec<u8> {
        let mut head = Vec::new();
        for (name, value) in headers {
            head.push(name.len() as u8);
            head.extend_from_slice(name.as_bytes());
            head.push(7);
            head.extend_from_slice(&(value.len() as u16).to_be_bytes());
            head.extend_from_slice(value.as_bytes());
        }
        let length = PRELUDE + head.len() + payload.len() + END;
        let mut frame = (length as u32).to_be_bytes().to_vec();
        frame.extend_from_slice(&(head.len() as u32).to_be_bytes());
        frame.extend_from_slice(&crc32(&frame).to_be_bytes());
        frame.extend_from_slice(&head);
        frame.extend_from_slice(payload.as_bytes());
        frame.extend_from_slice(&crc32(&frame).to_be_bytes());
        frame
    }

    fn chunk(data: &str) -> Vec<u8> {
        let payload = format!("{{\"bytes\":\"{}\",\"p\":\"abc\"}}", STANDARD.encode(data));
        frame(&[(":message-type", "event"), (":event-type", "chunk")], &payload)
    }

    #[test]
    fn the_checksum_is_the_usual_one() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
    }

    #[test]
    fn frames_split_anywhere_become_events() {
        let mut bytes = chunk("{\"type\":\"message_start\"}");
        bytes.extend(frame(&[(":message-type", "event"), (":event-type", "other")], "{}"));
        bytes.extend(chunk("{\"type\":\"ping\"}"));
        let whole = Frames::new(4096).take(&bytes).expect("well-formed");
        let names: Vec<&str> = whole.iter().filter_map(|(name, _)| name.as_deref()).collect();
        assert_eq!(names, ["message_start", "ping"]);
        for size in 1..40 {
            let (mut frames, mut events) = (Frames::new(4096), Vec::new());
            for part in bytes.chunks(size) {
                events.extend(frames.take(part).expect("well-formed"));
            }
            frames.end().expect("at its end");
            assert_eq!(events, whole, "{size}");
        }
    }

    #[test]
    fn what_is_broken_is_told_of() {
        let good = chunk("{\"type\":\"ping\"}");
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            assert!(Frames::new(4096).take(&bad).is_err(), "{at}");
        }
        let mut frames = Frames::new(4096);
        assert_eq!(frames.take(&good[..good.len() - 1]), Ok(Vec::new()));
        assert!(frames.end().is_err());
        assert!(Frames::new(20).take(&good).is_err());
        let said = |kind: &str| {
            let headers = [(":message-type", "exception"), (":exception-type", kind)];
            let frame = frame(&headers, "{\"message\":\"why\"}");
            Frames::new(4096).take(&frame).expect_err("an exception").retry
        };
        assert_eq!(said("validationException"), Retry::Never);
        assert_eq!(said("throttlingException"), Retry::After(Duration::from_secs(1)));
        assert_eq!(said("modelStreamErrorException"), Retry::Elsewhere);
    }
}
