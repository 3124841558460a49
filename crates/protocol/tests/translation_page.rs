//! `docs/TRANSLATION.md` shows what survives from one format to another, as the tables in the code
//! have it.

mod support;

use ingle_protocol::Format;
use ingle_protocol::wire::speak::{Loss, Otherwise, Target, losses, told_by};
use support::ends_with;

/// The formats that callers may ask in.
const FROM: [(Target, &str); 4] = [
    (Target::Chat, "Chat"),
    (Target::Responses, "Responses"),
    (Target::Messages, "Messages"),
    (Target::Ollama, "Ollama"),
];
const FORMATS: [(Format, &str); 5] = [
    (Format::Chat, "chat"),
    (Format::Responses, "responses"),
    (Format::Messages, "messages"),
    (Format::Ollama, "Ollama"),
    (Format::Gemini, "Gemini"),
];

fn requests() -> String {
    let heads: Vec<&str> = Target::ALL.iter().map(|target| target.name()).collect();
    let cell = |row: &Loss, target: &Target| match row.otherwise {
        _ if row.said.contains(target) => "kept",
        Otherwise::Refused => "refused",
        Otherwise::Left(_) => "left out",
    };
    let line = |row: &Loss| {
        let cells: Vec<&str> = Target::ALL.iter().map(|target| cell(row, target)).collect();
        format!("| `{}` | {} |\n", row.name, cells.join(" | "))
    };
    let lines: String = losses().iter().map(line).collect();
    let left = losses().iter().filter_map(|row| match row.otherwise {
        Otherwise::Left(why) => Some(format!("- `{}`: {why}.\n", row.name)),
        Otherwise::Refused => None,
    });
    let rule = "---|".repeat(heads.len());
    let left: String = left.collect();
    format!(
        "| | {} |\n|---|{rule}\n{lines}\nWhat is left out, and why that does no harm:\n\n{left}",
        heads.join(" | ")
    )
}

fn pairs() -> String {
    let lost = |from: Target, to: Target, wanted: fn(&Otherwise) -> bool| {
        let rows = losses().iter().filter(|row| row.asked.contains(&from));
        let rows = rows.filter(|row| !row.said.contains(&to) && wanted(&row.otherwise));
        let names: Vec<String> = rows.map(|row| format!("`{}`", row.name)).collect();
        if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
    };
    let mut out = String::from("| from | to | refused | left out |\n|---|---|---|---|\n");
    for (from, name) in FROM {
        for to in Target::ALL.into_iter().filter(|to| *to != from) {
            let refused = lost(from, to, |it| *it == Otherwise::Refused);
            let left = lost(from, to, |it| *it != Otherwise::Refused);
            out += &format!("| {name} | {} | {refused} | {left} |\n", to.name());
        }
    }
    out
}

fn answers() -> String {
    let names: Vec<&str> = FORMATS.iter().map(|format| format.1).collect();
    let cell = |(heard, written): (bool, bool)| match (heard, written) {
        (true, true) => "heard, told",
        (true, false) => "heard",
        (false, true) => "told",
        (false, false) => "",
    };
    let rows = told_by().iter().map(|row| {
        let cells = FORMATS
            .iter()
            .map(|(format, _)| cell((row.heard.contains(format), row.written.contains(format))));
        format!("| {} | {} |\n", row.name, cells.collect::<Vec<_>>().join(" | "))
    });
    let rows: String = rows.collect();
    format!("| | {} |\n|---|{}\n{rows}", names.join(" | "), "---|".repeat(names.len()))
}

#[test]
fn the_page_shows_the_tables() {
    let text = format!(
        "## Requests\n\n{}\n## From one format to another\n\n{}\n## Answers\n\n{}",
        requests(),
        pairs(),
        answers()
    );
    ends_with("TRANSLATION.md", "## Requests\n", &text);
}
