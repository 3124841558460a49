//! Everything that reaches the terminal: results on standard output, all else on standard error.
//! Colour and progress appear only where a person looks; a reader that goes away (`ingle list |
//! head -1`) ends the program quietly; Ctrl-C is a flag that long work asks about.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use ingle_model::pull::Progress;

/// The exit code after a failure.
const FAILED: u8 = 1;
/// The exit code after a wrong command line.
const USAGE: u8 = 2;
/// The exit code after Ctrl-C.
const INTERRUPTED: u8 = 130;

/// The command line is wrong in a way that only the command could see; exit code 2.
#[derive(Debug)]
pub(crate) struct Usage(pub(crate) String);

/// Ctrl-C ended the work; exit code 130.
#[derive(Debug)]
pub(crate) struct Interrupted;

/// Whoever reads standard output is gone; nothing is left to do, and nothing is wrong.
#[derive(Debug)]
struct ReaderGone;

/// The reason was shown already; only the exit code is left.
#[derive(Debug)]
pub(crate) struct Failed;

macro_rules! errors {
    ($($kind:ident: |$it:ident| $text:expr,)*) => {
        $(impl Display for $kind {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                let $it = self;
                f.write_str($text)
            }
        }
        impl std::error::Error for $kind {})*
    };
}

errors! {
    Usage: |it| &it.0,
    Interrupted: |_it| "interrupted",
    ReaderGone: |_it| "the reader of standard output is gone",
    Failed: |_it| "failed",
}

/// A style of text on a terminal.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Style {
    /// Of lesser weight: receipts, notes.
    Dim,
    /// Headings and names.
    Bold,
    /// Errors.
    Red,
    /// Next steps.
    Cyan,
}

/// How this run talks.
#[derive(Debug)]
pub(crate) struct Ui {
    /// Results are JSON, one object a line.
    pub(crate) json: bool,
    /// No progress, no notes.
    pub(crate) quiet: bool,
    colour_out: bool,
    colour_err: bool,
}

impl Ui {
    /// Looks at the terminal and the environment.
    pub(crate) fn new(json: bool, quiet: bool) -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        let colour_out = wanted && io::stdout().is_terminal() && !json;
        Self { json, quiet, colour_out, colour_err: wanted && io::stderr().is_terminal() }
    }

    /// Writes text to standard output at once. The one way to print a result.
    pub(crate) fn out(&self, text: impl Display) -> anyhow::Result<()> {
        let mut stdout = io::stdout().lock();
        match write!(stdout, "{text}").and_then(|()| stdout.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(ReaderGone.into()),
            other => Ok(other?),
        }
    }

    /// Writes what a model said, safely.
    pub(crate) fn say(&self, text: &str) -> anyhow::Result<()> {
        self.out(self.safe(text))
    }

    /// A text that is not our own, for standard output. On a terminal its control characters are
    /// shown, not obeyed: no text may move the cursor or ring the bell.
    pub(crate) fn safe(&self, text: &str) -> String {
        if io::stdout().is_terminal() { harmless(text) } else { text.to_owned() }
    }

    /// Writes one line to standard output.
    pub(crate) fn line(&self, text: impl Display) -> anyhow::Result<()> {
        self.out(format_args!("{text}\n"))
    }

    /// Writes one JSON object as one line to standard output.
    pub(crate) fn object(&self, value: &serde_json::Value) -> anyhow::Result<()> {
        self.json_line(&value.to_string())
    }

    /// Writes one line of JSON to standard output, with nothing in it that a terminal obeys.
    pub(crate) fn json_line(&self, line: &str) -> anyhow::Result<()> {
        self.line(escaped(line))
    }

    /// Writes rows in columns, the first row being the heading. Columns named in `right` are
    /// numbers.
    pub(crate) fn table(&self, rows: &[Vec<String>], right: &[usize]) -> anyhow::Result<()> {
        let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
        let chars = |cell: Option<&String>| cell.map_or(0, |cell| cell.chars().count());
        let widths: Vec<usize> = (0..columns)
            .map(|column| rows.iter().map(|row| chars(row.get(column))).max().unwrap_or(0))
            .collect();
        for (index, row) in rows.iter().enumerate() {
            let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
                if right.contains(&column) {
                    format!("{cell:>width$}")
                } else {
                    format!("{cell:<width$}")
                }
            });
            let line = cells.collect::<Vec<_>>().join("  ");
            let line = line.trim_end();
            self.line(if index == 0 { self.paint_out(Style::Bold, line) } else { line.into() })?;
        }
        Ok(())
    }

    /// A line about the work, for a person, on standard error; not shown when quiet.
    pub(crate) fn note(&self, text: impl Display) {
        if !self.quiet {
            self.err(Style::Dim, text);
        }
    }

    /// A line on standard error in a style.
    pub(crate) fn err(&self, style: Style, text: impl Display) {
        // Where standard error is closed there is nobody to tell.
        let _ = writeln!(io::stderr().lock(), "{}", paint(self.colour_err, style, text));
    }

    /// Text for standard output in a style, where it is a terminal.
    pub(crate) fn paint_out(&self, style: Style, text: impl Display) -> String {
        paint(self.colour_out, style, text)
    }

    /// Shows an error: its first line behind `error:`, its next steps in their own colour.
    pub(crate) fn error(&self, error: &anyhow::Error) {
        let text = told(error);
        let mut lines = text.lines();
        let label = paint(self.colour_err, Style::Red, "error:");
        let mut shown = format!("{label} {}", lines.next().unwrap_or_default());
        for line in lines {
            let hint = line.trim_start().strip_prefix("hint:");
            shown.push('\n');
            match hint {
                Some(hint) => {
                    shown.push_str(&paint(self.colour_err, Style::Cyan, "hint:"));
                    shown.push_str(hint);
                }
                None => shown.push_str(line),
            }
        }
        let _ = writeln!(io::stderr().lock(), "{shown}");
    }

    /// Shows what went wrong, if anything, and gives the exit code.
    pub(crate) fn finish(&self, result: anyhow::Result<()>) -> ExitCode {
        let Err(error) = result else { return ExitCode::SUCCESS };
        if error.is::<ReaderGone>() {
            return ExitCode::SUCCESS;
        }
        let code = exit_code(&error);
        if code == INTERRUPTED {
            self.note("interrupted");
        } else if !error.is::<Failed>() {
            self.error(&error);
        }
        ExitCode::from(code)
    }

    /// Something that went wrong and is no reason to stop; shown when quiet, too.
    pub(crate) fn warn(&self, text: impl Display) {
        let label = paint(self.colour_err, Style::Red, "failed:");
        let _ = writeln!(io::stderr().lock(), "{label} {text}");
    }

    /// A bar for so many pieces of work, with their rate and the time that is left.
    pub(crate) fn counter(&self, total: u64) -> Counter {
        let shown = !self.quiet && io::stderr().is_terminal() && total > 1;
        let bar = shown.then(|| {
            let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
            let template = "{pos} of {len} {wide_bar} {per_sec:>12} {eta:>5} left";
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        Counter { bar }
    }

    /// A bar for a fetch, labelled with what is fetched.
    pub(crate) fn progress(&self, title: &str) -> Bar<'_> {
        self.bar(title, BYTES)
    }

    /// A bar for work that is counted, labelled with what is worked on.
    pub(crate) fn lines(&self, title: &str) -> Bar<'_> {
        self.bar(title, LINES)
    }

    fn bar(&self, title: &str, template: &'static str) -> Bar<'_> {
        Bar { ui: self, title: title.into(), template, bar: None, stop: interrupted() }
    }
}

/// The error and its causes, but for those that it already tells in its own words.
fn told(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

fn exit_code(error: &anyhow::Error) -> u8 {
    let interrupted = error.chain().any(|cause| {
        cause.is::<Interrupted>()
            || matches!(cause.downcast_ref(), Some(ingle_model::Error::Interrupted))
    });
    match error {
        _ if interrupted => INTERRUPTED,
        error if error.is::<Usage>() => USAGE,
        _ => FAILED,
    }
}

/// The text with control characters, line ends and tabs aside, as their pictures (U+2400 on).
fn harmless(text: &str) -> String {
    let picture = |c: char| match c {
        '\n' | '\t' => c,
        '\u{7f}' => '\u{2421}',
        c if c < ' ' => char::from_u32(0x2400 + u32::from(c)).unwrap_or('\u{fffd}'),
        c if c.is_control() => '\u{fffd}',
        c => c,
    };
    text.chars().map(picture).collect()
}

/// A line of JSON that means the same, in which characters that move a cursor, ring a bell or turn
/// text around are written as their numbers. They stand in strings alone.
fn escaped(line: &str) -> String {
    let turns = |c: char| {
        let marks = ['\u{61c}', '\u{200e}', '\u{200f}'];
        marks.contains(&c) || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let mut safe = String::with_capacity(line.len());
    for c in line.chars() {
        if c.is_control() || turns(c) {
            safe.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            safe.push(c);
        }
    }
    safe
}

fn paint(colour: bool, style: Style, text: impl Display) -> String {
    let code = match style {
        Style::Dim => "2",
        Style::Bold => "1",
        Style::Red => "1;31",
        Style::Cyan => "36",
    };
    if colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_string() }
}

/// Shows what clap has to say (help, version or a complaint) and gives its exit code.
pub(crate) fn usage_exit(error: &clap::Error) -> ExitCode {
    let _ = error.print(); // help may be piped into something that stops reading
    if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS }
}

/// Shows what is wrong and yet no reason to stop. For threads, which have no [`Ui`].
pub(crate) fn warn(text: &str) {
    let label = paint(Ui::new(false, false).colour_err, Style::Bold, "warning:");
    let _ = writeln!(io::stderr().lock(), "{label} {text}");
}

/// Raised where work is to end.
static INTERRUPT: AtomicBool = AtomicBool::new(false);
/// Whether signals are followed elsewhere.
static HANDED_OVER: AtomicBool = AtomicBool::new(false);

/// The flag that Ctrl-C (or a termination signal) raises. The first raises the flag, so that work
/// can end cleanly; a second one ends the program at once. Asking for it installs the handler.
pub(crate) fn interrupted() -> &'static AtomicBool {
    static INSTALLED: OnceLock<()> = OnceLock::new();
    #[expect(clippy::disallowed_methods, reason = "a second Ctrl-C means at once")]
    INSTALLED.get_or_init(|| {
        // Where no handler can be set, Ctrl-C ends the program, as it would without one.
        let _ = ctrlc::set_handler(|| {
            if HANDED_OVER.load(Ordering::SeqCst) {
                return;
            }
            if INTERRUPT.swap(true, Ordering::SeqCst) {
                std::process::exit(INTERRUPTED.into());
            }
        });
    });
    &INTERRUPT
}

/// Leaves signals to somebody who can tell them apart: a server reads its settings again on one,
/// and says by [`interrupt`] when work is to end.
pub(crate) fn hand_over() {
    interrupted();
    HANDED_OVER.store(true, Ordering::SeqCst);
}

/// Raises the flag.
pub(crate) fn interrupt() {
    INTERRUPT.store(true, Ordering::SeqCst);
}

/// How much of some work is done, on standard error: a bar on a terminal, silence elsewhere.
#[derive(Debug)]
pub(crate) struct Counter {
    bar: Option<ProgressBar>,
}

impl Counter {
    /// One piece more is done.
    pub(crate) fn step(&self) {
        if let Some(bar) = &self.bar {
            bar.inc(1);
        }
    }

    /// Writes something else to the terminal, out of the bar's way.
    pub(crate) fn over(&self, write: impl FnOnce()) {
        match &self.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}
/// A bar of bytes.
const BYTES: &str = "{msg} {wide_bar} {decimal_bytes:>9} of {decimal_total_bytes} \
                     {decimal_bytes_per_sec:>11} {eta:>4}";
/// A bar of anything else.
const LINES: &str = "{msg} {wide_bar} {pos:>6} of {len} {per_sec:>11} {eta:>4}";

/// A fetch's progress on standard error: a bar on a terminal, silence elsewhere.
#[derive(Debug)]
pub(crate) struct Bar<'a> {
    ui: &'a Ui,
    title: String,
    /// How it looks where it is known how much there is.
    template: &'static str,
    bar: Option<ProgressBar>,
    stop: &'static AtomicBool,
}

impl Bar<'_> {
    /// What was done before, and says nothing of how fast it goes.
    pub(crate) fn resume(&mut self, done: u64) {
        self.advance(done);
        if let Some(bar) = &self.bar {
            bar.reset_eta();
        }
    }

    /// Writes something else to the terminal, out of the bar's way.
    pub(crate) fn over(&self, write: impl FnOnce()) {
        match &self.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }
}

impl Progress for Bar<'_> {
    fn begin(&mut self, label: &str, total: Option<u64>) {
        self.done();
        if self.ui.quiet || !io::stderr().is_terminal() {
            return;
        }
        let template = match total {
            Some(_) => self.template,
            None if self.template == LINES => "{msg} {spinner} {pos:>6} {per_sec:>11} {elapsed:>4}",
            None => "{msg} {spinner} {decimal_bytes:>9} {elapsed:>4}",
        };
        let target = ProgressDrawTarget::stderr();
        let bar = ProgressBar::with_draw_target(total, target);
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(format!("{}: {label}", self.title));
        bar.enable_steady_tick(Duration::from_millis(200));
        self.bar = Some(bar);
    }

    fn advance(&mut self, bytes_done: u64) {
        if let Some(bar) = &self.bar {
            // What pip has on disk may for a moment be more than what travels.
            bar.set_position(bar.length().map_or(bytes_done, |total| bytes_done.min(total)));
        }
    }

    fn done(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    fn cancelled(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn note(&mut self, line: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| self.ui.note(line)),
            None => self.ui.note(line),
        }
    }
}

impl Drop for Bar<'_> {
    fn drop(&mut self) {
        self.done();
    }
}

/// A size for people: decimal units, three digits.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let decimals = if unit == 0 || value >= 99.95 {
        0
    } else if value >= 9.995 {
        1
    } else {
        2
    };
    format!("{value:.decimals$} {}", UNITS[unit])
}

/// A count for people: `135 M`.
pub(crate) fn count(number: u64) -> String {
    match number {
        0..10_000 => number.to_string(),
        10_000..1_000_000 => format!("{:.0} k", number as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.0} M", number as f64 / 1e6),
        _ => format!("{:.1} B", number as f64 / 1e9),
    }
}

/// A duration for people.
pub(crate) fn duration(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    match time.as_secs() {
        0 => format!("{:.0} ms", seconds * 1e3),
        1..10 => format!("{seconds:.2} s"),
        10..100 => format!("{seconds:.1} s"),
        whole => format!("{} min {:02} s", whole / 60, whole % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_shown_and_not_obeyed() {
        assert_eq!(harmless("a\n\tb\u{1b}[2J\u{7f}\u{9b}é"), "a\n\tb\u{241b}[2J\u{2421}\u{fffd}é");
    }

    #[test]
    fn json_means_the_same_and_has_nothing_that_a_terminal_obeys() {
        let check = |text: &str, expect: &str| {
            let value = serde_json::Value::from(text);
            let line = escaped(&value.to_string());
            assert_eq!(line, expect);
            assert_eq!(serde_json::from_str::<serde_json::Value>(&line).ok(), Some(value));
        };
        check("plain \u{e9} \u{1f980}", "\"plain \u{e9} \u{1f980}\"");
        check("\u{1b}[2J\n", "\"\\u001b[2J\\n\"");
        check("\u{7f}\u{9b}31m", "\"\\u007f\\u009b31m\"");
        check("a\u{202e}b\u{2066}c\u{2029}", "\"a\\u202eb\\u2066c\\u2029\"");
    }

    #[test]
    fn sizes_have_three_digits() {
        let cases = [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.00 kB"),
            (98_362_432, "98.4 MB"),
            (253_113_024, "253 MB"),
            (999_600_000, "1.00 GB"),
            (u64::MAX, "18446744 TB"),
        ];
        for (bytes, expect) in cases {
            assert_eq!(size(bytes), expect);
        }
    }

    #[test]
    fn durations_and_counts() {
        let durations =
            [(5, "5 ms"), (1500, "1.50 s"), (12_340, "12.3 s"), (125_000, "2 min 05 s")];
        for (ms, expect) in durations {
            assert_eq!(duration(Duration::from_millis(ms)), expect);
        }
        for (number, expect) in [(12, "12"), (134_515_008, "135 M"), (1_100_000_000, "1.1 B")] {
            assert_eq!(count(number), expect);
        }
    }

    #[test]
    fn causes_are_told_once() {
        let source = std::io::Error::other("no room");
        let error = ingle_model::Error::Io { path: "a.gguf".into(), source };
        assert_eq!(told(&anyhow::Error::from(error)), "a.gguf: no room");
        let error = anyhow::anyhow!("inner").context("outer");
        assert_eq!(told(&error), "outer: inner");
    }

    #[test]
    fn errors_have_their_exit_codes() {
        let cases: [(anyhow::Error, u8); 4] = [
            (Usage("no".into()).into(), USAGE),
            (Interrupted.into(), INTERRUPTED),
            (anyhow::Error::from(ingle_model::Error::Interrupted).context("pull"), INTERRUPTED),
            (anyhow::anyhow!("broken"), FAILED),
        ];
        for (error, code) in cases {
            assert_eq!(exit_code(&error), code, "{error:?}");
        }
    }
}
