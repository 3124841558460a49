//! One file a command, and one row here. A command's file has `Args` (its flags, with the help
//! text) and `run(Args, &mut Ui)`; nothing else names it.

mod encoder;
mod ledger;
mod model;
mod report;
mod rows;

use ingle_model::pull::Reference;

use crate::ui::Ui;

/// Makes the modules, the list that clap reads, and the dispatch from one table of commands.
macro_rules! commands {
    ($($variant:ident => $module:ident,)*) => {
        $(mod $module;)*

        /// What the program can be told to do.
        #[derive(Debug, clap::Subcommand)]
        #[allow(clippy::large_enum_variant, reason = "there is one, and it is made once")]
        pub(crate) enum Command {
            $(#[allow(missing_docs, reason = "the help text stands on Args")] $variant($module::Args),)*
        }

        /// Runs one command.
        pub(crate) fn run(command: Command, ui: &mut Ui) -> anyhow::Result<()> {
            match command {
                $(Command::$variant(args) => $module::run(args, ui),)*
            }
        }
    };
}

commands! {
    Run => run,
    Extract => extract,
    Search => search,
    Embed => embed,
    Classify => classify,
    Rerank => rerank,
    Train => train,
    Serve => serve,
    Route => route,
    Key => key,
    Batch => batch,
    Cost => cost,
    Audit => audit,
    Pull => pull,
    List => list,
    Show => show,
    Rm => rm,
    Score => score,
    Tokenize => tokenize,
    Bench => bench,
    Inspect => inspect,
    Quantize => quantize,
    Doctor => doctor,
    Health => health,
}

/// The model that runs where none is named.
const DEFAULT_MODEL: &str = "smollm2";

/// Reads a model reference for clap; its complaint then names the argument.
fn reference(text: &str) -> Result<Reference, String> {
    text.parse().map_err(|error: ingle_model::Error| error.to_string())
}
