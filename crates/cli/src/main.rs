//! The `ingle` program: reads the command line, runs one command, and turns its result into an
//! exit code. What a command does stands in its own file under `commands/`; how anything reaches
//! the terminal stands in `ui`. No other code prints but a server's access log.
#![forbid(unsafe_code)]

mod commands;
mod ui;

use std::process::ExitCode;

use clap::Parser;

/// Requests are many small pieces of memory that come and go on several threads; the system's
/// allocator takes a tenth of the time of a call that is passed on, and gives less back.
#[global_allocator]
static MEMORY: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Runs trained models on your own machine.
///
/// Ingle answers from models that run on hardware you own, and says with every answer where the
/// data went, what it cost and how long it took.
#[derive(Debug, Parser)]
#[command(name = "ingle", version, max_term_width = 100, after_long_help = AFTER_HELP)]
struct Cli {
    #[command(subcommand)]
    command: commands::Command,

    /// Write the result to standard output as JSON, one object a line
    #[arg(long, global = true)]
    json: bool,

    /// Show no progress and no notes (errors are still shown)
    #[arg(short, long, global = true)]
    quiet: bool,
}

const AFTER_HELP: &str = "\
Examples:
  ingle pull smollm2            Fetch the default model (98 MB)
  ingle list                    Show which models are here
  ingle show smollm2            Show what is in a model file

Environment:
  INGLE_HOME       Where models and records are kept (default: the platform's data directory)
  INGLE_LEDGER     The ledger of calls, a file or postgres://… (default: in INGLE_HOME)
  INGLE_OFFLINE    Set to 1 to never fetch anything
  NO_COLOR         Set to anything to switch colour off

Exit codes:
  0    done
  1    failed; the reason is on standard error
  2    the command line is wrong
  130  interrupted by Ctrl-C";

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return ui::usage_exit(&error),
    };
    let mut ui = ui::Ui::new(cli.json, cli.quiet);
    let result = commands::run(cli.command, &mut ui);
    ui.finish(result)
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, FromArgMatches};

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_teaches_by_example() {
        for command in Cli::command().get_subcommands() {
            let help = command.get_after_long_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Examples:"), "`{}` shows no examples", command.get_name());
            let mut matches = command.clone();
            assert!(!matches.render_long_help().to_string().is_empty());
        }
        let parsed = Cli::command().try_get_matches_from(["ingle", "list", "--json"]);
        let cli = Cli::from_arg_matches(&parsed.expect("parses")).expect("parses");
        assert!(cli.json, "global flags stand after the command, too");
    }
}
