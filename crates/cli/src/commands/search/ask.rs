//! `ingle search ask`: questions, and the passages that answer them, for people and programs.

use std::io::{BufRead, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ingle_search::{Answer, Embed, Hit, Line, Mode, Question, Rank, Searcher};
use serde_json::{Value, json};

use super::models::Reader;
use super::{AskArgs, FindArgs, PlaceArgs};
use crate::ui::{Failed, Style, Ui, Usage};

/// Bytes of a line of standard input, at most.
const LINE_MOST: u64 = 1 << 16;

/// A mode by its name, for clap.
pub(super) fn mode(name: &str) -> Result<Mode, String> {
    let found = Mode::ALL.iter().find(|row| row.0 == name).map(|row| row.1);
    found.ok_or_else(|| {
        let names = Mode::ALL.map(|row| row.0);
        format!("there are: {}", names.join(", "))
    })
}

/// Runs the command.
pub(super) fn run(args: &AskArgs, ui: &Ui) -> anyhow::Result<()> {
    let here = PathBuf::from(".");
    if !args.stdin {
        let folder = args.folder.as_ref().unwrap_or(&here);
        let question = args.question.as_deref().unwrap_or_default();
        return once(folder, question, &args.place, &args.find, None, ui);
    }
    // With --stdin the one name that is given is the folder's.
    let folder = match (&args.question, &args.folder) {
        (Some(_), Some(_)) => {
            let why = "questions come from standard input: name a folder alone";
            return Err(Usage(why.into()).into());
        }
        (Some(folder), None) => PathBuf::from(folder),
        _ => here,
    };
    let mut asker = Asker::open(&folder, &args.place, &args.find, None, ui)?;
    let (mut input, mut failed) = (std::io::stdin().lock(), false);
    while let Some(line) = line(&mut input)? {
        let question = line.trim();
        if question.is_empty() {
            continue;
        }
        match asker.ask(question) {
            Ok(answer) => asker.show(question, &answer, ui)?,
            Err(error) => {
                failed = true;
                if ui.json {
                    let error = error.to_string();
                    ui.object(&json!({ "question": question, "error": error }))?;
                }
                ui.error(&error.into());
            }
        }
    }
    if failed { Err(Failed.into()) } else { Ok(()) }
}

/// Answers one question.
pub(super) fn once(
    folder: &Path,
    question: &str,
    place: &PlaceArgs,
    find: &FindArgs,
    reader: Option<Reader>,
    ui: &Ui,
) -> anyhow::Result<()> {
    let mut asker = Asker::open(folder, place, find, reader, ui)?;
    let answer = asker.ask(question)?;
    asker.show(question, &answer, ui)
}

/// The next line, if there is one.
fn line(input: &mut impl BufRead) -> anyhow::Result<Option<String>> {
    let mut bytes = Vec::new();
    let count = input.by_ref().take(LINE_MOST).read_until(b'\n', &mut bytes)?;
    if count as u64 == LINE_MOST && !bytes.ends_with(b"\n") {
        let why = format!("a line of standard input has more than {LINE_MOST} bytes");
        return Err(Usage(why).into());
    }
    Ok((count > 0).then(|| String::from_utf8_lossy(&bytes).into_owned()))
}

/// An index with what is needed to ask it.
struct Asker<'a> {
    searcher: Searcher,
    reader: Option<Reader>,
    reranker: Option<Reader>,
    find: &'a FindArgs,
}

impl<'a> Asker<'a> {
    fn open(
        folder: &Path,
        place: &PlaceArgs,
        find: &'a FindArgs,
        reader: Option<Reader>,
        ui: &Ui,
    ) -> anyhow::Result<Self> {
        let searcher = Searcher::open(folder, place.index.as_deref())?;
        let reader = match reader {
            None if find.mode == Mode::Words => None,
            None => Some(Reader::of_index(place, searcher.model()?, ui)?),
            given => given,
        };
        let reranker = find.reranker.as_ref();
        let reranker = reranker.map(|it| Reader::reranker(it, place, ui)).transpose()?;
        Ok(Self { searcher, reader, reranker, find })
    }

    fn ask(&mut self, question: &str) -> ingle_search::Result<Answer> {
        let find = self.find;
        let question = Question {
            mode: find.mode,
            top: find.top.into(),
            per_file: find.per_file.into(),
            rerank: find.rerank.into(),
            ..Question::new(question)
        };
        let embed = self.reader.as_ref().map(|reader| reader as &dyn Embed);
        let rank = self.reranker.as_ref().map(|reader| reader as &dyn Rank);
        self.searcher.ask(&question, embed, rank)
    }

    fn show(&self, question: &str, answer: &Answer, ui: &Ui) -> anyhow::Result<()> {
        if ui.json {
            return ui.object(&object(question, self.find.mode, answer));
        }
        if answer.hits.is_empty() {
            ui.note("nothing found");
        }
        for (hit, number) in answer.hits.iter().zip(1..) {
            show(hit, number, ui)?;
        }
        Ok(())
    }
}

/// A hit, for people: where it is, and its lines that say most.
fn show(hit: &Hit, number: usize, ui: &Ui) -> anyhow::Result<()> {
    let (first, last) = hit.lines;
    let lines = if first == last { first.to_string() } else { format!("{first}-{last}") };
    let place = ui.paint_out(Style::Bold, ui.safe(&format!("{}:{lines}", hit.path)));
    let heading = ui.safe(&hit.heading);
    let stale = if hit.stale { "  (changed since it was read)" } else { "" };
    ui.line(format!("{number:>2}. {place}  {heading}{stale}").trim_end())?;
    for line in &hit.snippet {
        let number = line.number.map_or(String::new(), |number| format!("{number}: "));
        ui.line(format_args!("    {number}{}", marked(line, ui)))?;
    }
    Ok(())
}

/// A line with the question's words in it made bold.
fn marked(line: &Line, ui: &Ui) -> String {
    let (mut shown, mut at) = (String::new(), 0);
    for Range { start, end } in line.marks.iter().cloned() {
        shown += &ui.safe(&line.text[at..start]);
        shown += &ui.paint_out(Style::Bold, ui.safe(&line.text[start..end]));
        at = end;
    }
    shown + &ui.safe(&line.text[at..])
}

/// An answer, for programs.
fn object(question: &str, mode: Mode, answer: &Answer) -> Value {
    let mode = Mode::ALL.iter().find(|row| row.1 == mode).map(|row| row.0);
    let ms = |took: Duration| took.as_secs_f64() * 1e3;
    let took = &answer.took;
    json!({
        "question": question,
        "mode": mode,
        "hits": answer.hits.iter().map(hit_object).collect::<Vec<Value>>(),
        "ms": {
            "total": ms(took.total),
            "embed": ms(took.embed),
            "vectors": ms(took.vectors),
            "words": ms(took.words),
            "rerank": ms(took.rerank),
        },
    })
}

fn hit_object(hit: &Hit) -> Value {
    let placed = &hit.placed;
    json!({
        "path": hit.path,
        "lines": [hit.lines.0, hit.lines.1],
        "bytes": [hit.bytes.0, hit.bytes.1],
        "heading": hit.heading,
        "text": hit.text,
        "score": hit.score,
        "vector": placed.vector.map(|(rank, cosine)| json!({ "rank": rank, "cosine": cosine })),
        "words": placed.words.map(|(rank, bm25)| json!({ "rank": rank, "bm25": bm25 })),
        "rerank": placed.rerank,
        "stale": hit.stale,
        "snippet": hit.snippet.iter().map(|line| {
            json!({ "line": line.number, "text": line.text })
        }).collect::<Vec<Value>>(),
    })
}
