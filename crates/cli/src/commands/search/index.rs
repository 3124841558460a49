//! `ingle search index`: makes an index agree with its folder, once or as long as it is watched.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ingle_model::pull::Progress as _;
use ingle_search::{Counts, Index, Limits, Progress, Report, Settings, Watch};
use serde_json::{Map, Value, json};

use super::models::Reader;
use super::{IndexArgs, PlaceArgs, TakeArgs};
use crate::ui::{Bar, Interrupted, Ui, duration, interrupted};

/// How often the folder is looked at all the same: a system may lose events.
const LOOK: Duration = Duration::from_secs(30);
/// And where nothing tells of changes.
const POLL: Duration = Duration::from_secs(1);
/// Who changes one file often changes another: what comes within this is taken in together.
const GATHER: Duration = Duration::from_millis(50);
/// How often to see whether to end.
const BREATH: Duration = Duration::from_millis(200);

/// Runs the command.
pub(super) fn run(args: &IndexArgs, ui: &Ui) -> anyhow::Result<()> {
    // From before the first look, so that nothing changes unseen between them.
    let watch = args.watch.then(|| watch(&args.folder, ui));
    let mut work = Work::open(&args.folder, &args.place, &args.take, ui)?;
    let (report, took) = work.update(ui)?;
    work.tell(&report, took, ui)?;
    let Some(watch) = watch else { return Ok(()) };
    ui.note("watching; Ctrl-C ends it");
    while wait(watch.as_ref()) {
        match work.update(ui) {
            Ok((report, took)) if report.changes() => work.tell(&report, took, ui)?,
            Ok(_) => {}
            Err(error) if error.is::<Interrupted>() => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The same before a question, told only where something was done; gives the model on.
pub(super) fn bring_up_to_date(
    folder: &Path,
    place: &PlaceArgs,
    take: &TakeArgs,
    ui: &Ui,
) -> anyhow::Result<Reader> {
    let mut work = Work::open(folder, place, take, ui)?;
    let (report, took) = work.update(ui)?;
    if report.changes() {
        ui.note(words(&report, work.index.counts()?, took));
    }
    Ok(work.reader)
}

/// An index, and what it is made with.
struct Work {
    index: Index,
    reader: Reader,
    settings: Settings,
}

impl Work {
    fn open(folder: &Path, place: &PlaceArgs, take: &TakeArgs, ui: &Ui) -> anyhow::Result<Self> {
        let file = place.index.as_deref();
        let index = if take.rebuild { None } else { Some(Index::open(folder, file)?) };
        let own = index.as_ref().map(Index::model).transpose()?.flatten();
        let reader = Reader::of_index(place, own, ui)?;
        let index = match index {
            Some(index) => index,
            // Only now: a model that is not there loses nobody an index.
            None => {
                Index::remove(folder, file)?;
                Index::open(folder, file)?
            }
        };
        let limits = Limits { file_bytes: take.max_file_mb * 1_000_000, ..Limits::default() };
        Ok(Self { index, reader, settings: Settings { limits, ..Settings::default() } })
    }

    fn update(&mut self, ui: &Ui) -> anyhow::Result<(Report, Duration)> {
        let began = Instant::now();
        let mut bar = Hears(ui.lines("files"));
        let report = self.index.update(&self.settings, &self.reader, &mut bar)?;
        drop(bar);
        if report.cancelled {
            ui.note("what is done is kept; the same command goes on from there");
            return Err(Interrupted.into());
        }
        Ok((report, began.elapsed()))
    }

    fn tell(&self, report: &Report, took: Duration, ui: &Ui) -> anyhow::Result<()> {
        let counts = self.index.counts()?;
        if ui.json {
            ui.object(&self.object(report, counts, took))
        } else {
            ui.line(words(report, counts, took))
        }
    }

    fn object(&self, report: &Report, counts: Counts, took: Duration) -> Value {
        let skipped: Map<String, Value> =
            report.skipped.iter().map(|(why, count)| (why.key().into(), (*count).into())).collect();
        json!({
            "folder": self.index.folder().display().to_string(),
            "index": self.index.path().display().to_string(),
            "documents": counts.documents,
            "passages": counts.passages,
            "new": report.new,
            "changed": report.changed,
            "deleted": report.deleted,
            "unchanged": report.unchanged,
            "skipped": skipped,
            "embedded": report.embedded,
            "ms": took.as_secs_f64() * 1e3,
        })
    }
}

/// What was done, in a sentence or two.
fn words(report: &Report, counts: Counts, took: Duration) -> String {
    let Report { new, changed, deleted, embedded, .. } = report;
    let mut text = format!(
        "{} documents, {} passages: {new} new, {changed} changed, {deleted} deleted, {embedded} \
         passages read in {}",
        counts.documents,
        counts.passages,
        duration(took)
    );
    let left = report.skipped.iter().map(|(why, count)| format!("{count} {}", why.name()));
    let left = left.collect::<Vec<_>>().join(", ");
    if !left.is_empty() {
        text += &format!("; left out: {left}");
    }
    text
}

/// Watches the folder; where that cannot be, says so: it is then looked at again and again.
fn watch(folder: &Path, ui: &Ui) -> Option<Watch> {
    match Watch::new(folder) {
        Ok(watch) => Some(watch),
        Err(error) => {
            ui.note(format_args!("{error}; looking at it every second instead"));
            None
        }
    }
}

/// Waits until it is time to look at the folder; false where it is to end.
fn wait(watch: Option<&Watch>) -> bool {
    let most = if watch.is_some() { LOOK } else { POLL };
    let began = Instant::now();
    while began.elapsed() < most {
        if interrupted().load(Ordering::Relaxed) {
            return false;
        }
        match watch {
            Some(watch) if watch.wait(BREATH) => {
                std::thread::sleep(GATHER);
                watch.wait(Duration::ZERO);
                return true;
            }
            Some(_) => {}
            None => std::thread::sleep(BREATH),
        }
    }
    true
}

/// A bar that hears how far an update is.
struct Hears<'a>(Bar<'a>);

impl Progress for Hears<'_> {
    fn begin(&mut self, files: u64) {
        if files > 0 {
            self.0.begin("read", Some(files));
        }
    }

    fn advance(&mut self, files_done: u64) {
        self.0.advance(files_done);
    }

    fn cancelled(&self) -> bool {
        self.0.cancelled()
    }
}
