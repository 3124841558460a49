//! What a file is by its name, which says how it becomes text. One table; what is in no row is not
//! read. Absent: guessing from contents.

use std::path::Path;

/// How a file becomes text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It is text: paragraphs and sentences.
    Plain,
    /// Text with headings.
    Markdown,
    /// Tags and entities around text.
    Html,
    /// Lines, whose ends mean something.
    Code,
    /// A row a record, the first row naming the columns.
    Table,
    /// A JSON value a line.
    JsonLines,
    /// No extension: text if all of it is valid UTF-8.
    Nameless,
}

/// Each kind's extensions.
const KINDS: &[(Kind, &[&str])] = &[
    (Kind::Plain, &["txt", "text", "log", "rst", "org", "adoc", "asciidoc", "tex", "bib", "srt"]),
    (Kind::Plain, &["vtt", "eml", "typ", "pod", "texi", "me"]),
    (Kind::Markdown, &["md", "markdown", "mdown", "mkd", "mdx", "qmd", "rmd"]),
    (Kind::Html, &["html", "htm", "xhtml"]),
    (Kind::Table, &["csv", "tsv"]),
    (Kind::JsonLines, &["jsonl", "ndjson"]),
    (Kind::Code, &["rs", "py", "pyi", "js", "mjs", "cjs", "ts", "mts", "tsx", "jsx", "vue"]),
    (Kind::Code, &["svelte", "c", "h", "cc", "cpp", "cxx", "hpp", "hh", "cu", "cuh", "m", "mm"]),
    (Kind::Code, &["java", "kt", "kts", "scala", "groovy", "gradle", "clj", "cljs", "cs", "fs"]),
    (Kind::Code, &["vb", "go", "swift", "dart", "zig", "nim", "d", "v", "sv", "vhd", "rb", "php"]),
    (Kind::Code, &["pl", "pm", "lua", "r", "jl", "hs", "lhs", "ml", "mli", "elm", "ex", "exs"]),
    (Kind::Code, &["erl", "hrl", "lisp", "el", "scm", "rkt", "f", "f90", "for", "pas", "ada"]),
    (Kind::Code, &["asm", "s", "sh", "bash", "zsh", "fish", "ps1", "bat", "cmd", "awk", "sed"]),
    (Kind::Code, &["sql", "graphql", "gql", "proto", "thrift", "cmake", "mk", "ninja", "nix"]),
    (Kind::Code, &["tf", "hcl", "css", "scss", "sass", "less", "wgsl", "glsl", "vert", "frag"]),
    (Kind::Code, &["toml", "yaml", "yml", "ini", "cfg", "conf", "properties", "env", "json"]),
    (Kind::Code, &["json5", "jsonc", "xml", "xsd", "xsl", "plist", "diff", "patch", "gbnf"]),
];

impl Kind {
    /// The kind of a file of this name.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let Some(extension) = path.extension() else { return Some(Self::Nameless) };
        let extension = extension.to_str()?.to_ascii_lowercase();
        let has = |row: &&(Self, &[&str])| row.1.contains(&extension.as_str());
        KINDS.iter().find(has).map(|row| row.0)
    }

    /// Whether ends of lines mean something.
    pub(crate) fn is_lines(self) -> bool {
        matches!(self, Self::Code | Self::Table | Self::JsonLines)
    }

    /// Its name in the index.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Markdown => "markdown",
            Self::Html => "html",
            Self::Code => "code",
            Self::Table => "table",
            Self::JsonLines => "jsonl",
            Self::Nameless => "nameless",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_files_are() {
        let check = |name: &str, expect| assert_eq!(Kind::of(Path::new(name)), expect, "{name}");
        check("a/b.TXT", Some(Kind::Plain));
        check("a.md", Some(Kind::Markdown));
        check("a.tar.gz", None);
        check("README", Some(Kind::Nameless));
        check("a.rs", Some(Kind::Code));
        check("a.", None);
        check("photo.jpeg", None);
    }

    #[test]
    fn an_extension_stands_in_one_row() {
        let mut all: Vec<&str> = KINDS.iter().flat_map(|row| row.1).copied().collect();
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
    }
}
