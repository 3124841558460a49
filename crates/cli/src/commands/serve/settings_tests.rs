//! Files of settings: what they may say, how the command line goes before them, and that the page
//! of documentation and the example say what there is.

use std::fmt::Write as _;

use super::*;

/// What a file of this text and these flags make of a server, or what is wrong with them.
fn read(text: &str, flags: &[&str]) -> Result<Settings, String> {
    static COUNT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let name = format!("ingle-settings-{}-{count}.toml", std::process::id());
    let path = std::env::temp_dir().join(name);
    std::fs::write(&path, text).expect("may be");
    let settings = read_at(&path, flags);
    std::fs::remove_file(&path).expect("is there");
    settings.map_err(|told| told.replace(&path.display().to_string(), "F"))
}

fn read_at(path: &Path, flags: &[&str]) -> Result<Settings, String> {
    let words = ["ingle", "--quiet", "serve", "--config"].iter().map(OsString::from);
    let flags = flags.iter().map(OsString::from);
    let argv: Vec<OsString> = words.chain([path.into()]).chain(flags).collect();
    Settings::read(&argv).map_err(|error| error.to_string())
}

/// The values of one setting.
fn values(settings: &Settings, name: &str) -> String {
    settings.told.get(name).expect("is one").0.join(", ")
}

#[test]
fn a_file_says_what_flags_say_and_flags_go_before_it() {
    // file, flags, setting, value
    let rows: &[(&str, &[&str], &str, &str)] = &[
        ("", &[], "port", "8080"),
        ("port = 9000", &[], "port", "9000"),
        ("port = 0x10", &[], "port", "16"),
        ("port = \"9000\"", &[], "port", "9000"),
        ("port = 9000", &["--port", "9001"], "port", "9001"),
        ("port = 9000", &["--port", "8080"], "port", "8080"),
        ("allow_pull = true", &[], "allow_pull", "true"),
        ("allow_pull = false", &[], "allow_pull", "false"),
        ("keep_alive = -1", &[], "keep_alive", "-1"),
        ("keep_alive = \"5m\"", &[], "keep_alive", "5m"),
        ("models = [\"a=smollm2\", \"gemma3\"]", &[], "models", "a=smollm2, gemma3"),
        ("models = [\"a=smollm2\", \"gemma3\"]", &["smollm2"], "models", "smollm2"),
        ("cors_origin = [\"https://a.example\"]", &[], "cors_origin", "https://a.example"),
        ("threads = 3\nkernels = \"portable\"", &[], "threads", "3"),
        ("threads = 3\nkernels = \"portable\"", &[], "kernels", "portable"),
    ];
    for (text, flags, name, expect) in rows {
        let settings = read(text, flags).unwrap_or_else(|told| panic!("{text}: {told}"));
        assert_eq!(values(&settings, name), *expect, "{text} {flags:?}");
    }
    assert_eq!(read("port = 9000", &[]).expect("is right").args.port, 9000);
}

#[test]
fn what_a_file_may_not_say_is_told_by_its_place() {
    let rows: &[(&str, &[&str], &str)] = &[
        ("\nprot = 1", &[], "F:2:1: there is no setting `prot`; there are: models, as, "),
        ("prot = 1", &[], "max_answers"),
        ("config = \"x\"", &[], "F:1:1: there is no setting `config`"),
        ("a = 1\nport = 70000", &[], "F:1:1: "),
        ("host = \"::1\"\nport = 70000", &[], "F:2:1: invalid value '70000'"),
        ("port = [1]", &[], "F:1:8: `port` takes one text or number"),
        ("port = 1979-05-27", &[], "F:1:8: `port` takes one"),
        ("allow_pull = \"yes\"", &[], "F:1:14: `allow_pull` takes true or false"),
        ("models = \"smollm2\"", &[], "F:1:10: `models` takes a list"),
        ("models = [\"smollm2\", \"--json\"]", &[], "F:1:22: `models` takes"),
        ("models = [\"a =x\"]", &[], "F:1:1: "),
        ("[port]\nx = 1", &[], "F:1:"),
        ("port 9000", &[], "F:1:"),
        ("port = 1\nport = 2", &[], "F:2:1: duplicate key"),
        ("kernels = \"none\"", &[], "F:1:1: invalid value 'none'"),
        ("no_prefix_cache = true", &["--prefix-cache-dir", "x"], "cannot be used with"),
        ("[[keys]]\nname = 3", &[], "F:2:8: "),
        ("keys_file = \"/no/such/file\"", &[], "/no/such/file"),
    ];
    for (text, flags, expect) in rows {
        let told = read(text, flags).map(|_| "right").expect_err(text);
        assert!(told.contains(expect), "{text}: {told}");
    }
}

#[test]
fn a_change_is_told_by_name() {
    let one = read("port = 9000\nmax_answers = 5", &[]).expect("is right");
    let two =
        read("port = 9001\ndrain = 7\nthreads = 2", &["--max-answers", "5"]).expect("is right");
    let (live, restart) = two.changed(&one);
    assert_eq!((live.join(" "), restart.join(" ")), ("drain".into(), "port threads".into()));
    assert_eq!(one.changed(&one), (vec![], vec![]));
}

fn help(arg: &Arg) -> String {
    arg.get_help().map(ToString::to_string).unwrap_or_default()
}

#[test]
fn every_live_setting_is_one() {
    let table = table();
    for name in LIVE.iter().chain(SECRET) {
        assert!(table.iter().any(|setting| setting.name == *name), "{name}");
    }
    assert!(table.iter().all(|setting| setting.name != KEYS && !help(&setting.arg).is_empty()));
}

/// What is printed as being in force, secrets aside, means the same when it is read.
#[test]
fn what_is_written_is_read_as_it_was() {
    let text = "models = [\"a=smollm2\"]\nkeep_alive = \"5m\"\nisolate_keys = true\nhost = \"::1\"\n\
                cors_origin = [\"https://a.example\", \"https://b.example\"]\ndrain = 7";
    let settings = read(text, &["--threads", "2"]).expect("is right");
    let mut again = String::new();
    for setting in table().iter().filter(|it| !SECRET.contains(&it.name.as_str())) {
        let values = &settings.told[&setting.name].0;
        if !values.is_empty() {
            writeln!(again, "{} = {}", setting.name, written(setting.kind, values)).expect("fits");
        }
    }
    let again = read(&again, &[]).unwrap_or_else(|told| panic!("{told}: {again}"));
    assert_eq!(again.changed(&settings), (vec![], vec![]));
}

fn docs(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(name)
}

#[test]
fn the_example_can_be_read() {
    let settings =
        read_at(&docs("ingle.example.toml"), &[]).unwrap_or_else(|told| panic!("{told}"));
    assert!(settings.keys.len() >= 2, "it shows keys");
    // What the example leaves out as a comment is a setting, too.
    let text = std::fs::read_to_string(docs("ingle.example.toml")).expect("is there");
    let all = text.replace("\n#: ", "\n");
    assert!(all.lines().count() > 20 && all != text);
    read(&all, &[]).unwrap_or_else(|told| panic!("{told}"));
}

#[test]
fn the_page_has_all_settings() {
    let mut page = "## All settings\n\n| setting | value | default | holds | what it is |\n\
                    |---|---|---|---|---|\n"
        .to_owned();
    for Setting { name, kind, arg, .. } in table() {
        let kind = match kind {
            Kind::Switch => "true or false",
            Kind::One => "one",
            Kind::Many => "list",
        };
        let live = if LIVE.contains(&name.as_str()) { "at once" } else { "at start" };
        let default = arg.get_default_values().iter().map(|it| format!("`{}`", it.display()));
        let default = default.collect::<Vec<_>>().join(", ");
        let help = help(&arg).replace('|', "\\|").replace('\n', " ");
        writeln!(page, "| `{name}` | {kind} | {default} | {live} | {help} |").expect("fits");
    }
    let path = docs("SERVING.md");
    let old = std::fs::read_to_string(&path).expect("the page is there");
    let (head, _) = old.split_once("## All settings").expect("the page holds the mark");
    let new = format!("{head}{page}");
    if std::env::var_os("UPDATE_PAGES").is_some() {
        std::fs::write(&path, &new).expect("the page can be written");
        return;
    }
    assert!(old == new, "UPDATE_PAGES=1 cargo test -p ingle-cli settings writes docs/SERVING.md");
}
