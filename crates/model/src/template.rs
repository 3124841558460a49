//! A model's own chat template, rendered as the `transformers` library renders it with Jinja2:
//! the same whitespace rules, globals and filters, the same JSON.
//!
//! A template comes with a model file, so it is not trusted: its size, its steps, its depth and
//! its output are bounded, and it sees the conversation and the date, nothing else. It cannot
//! include, import or load. What is not bounded is the memory of one value that a template doubles
//! again and again by itself; the template engine has no hook for that.
//!
//! Absent: content other than text (images, audio), and a default template for models that bring
//! none: a base model continues text, and says so.

mod python;
mod rewrite;
mod variables;

use crate::dialect::Dialect;
use crate::gguf::{Gguf, optional};
use crate::tokenizer::Tokenizer;
use crate::{Error, Token};
use ingle_protocol::Chat;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde, Value};
use minijinja::{Environment, ErrorKind, State};
use std::sync::Arc;

/// The longest template, in bytes; the longest published ones have some 20 thousand.
const SOURCE_LIMIT: usize = 1 << 20;
/// The longest rendered prompt, in bytes: well past any context window.
const OUTPUT_LIMIT: usize = 64 << 20;
/// The most steps of the template engine. A long conversation takes some 100 thousand.
const STEP_LIMIT: u64 = 20_000_000;
const NAME: &str = "chat template";

/// A compiled chat template. Clones share it.
#[derive(Clone, Debug)]
pub struct Template {
    /// For conversations without tools, and with.
    plain: Arc<Environment<'static>>,
    with_tools: Arc<Environment<'static>>,
    dialect: Dialect,
    bos: String,
    eos: String,
}

/// A template's own refusal, carried through the template engine.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refusal(String);

impl Template {
    /// Compiles a template; `bos` and `eos` are the texts of these tokens.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where it is no Jinja template that this version understands.
    pub fn new(source: &str, bos: &str, eos: &str) -> Result<Self, Error> {
        let plain = Arc::new(compile(source)?);
        let with_tools = Arc::clone(&plain);
        let dialect = Dialect::of(source);
        Ok(Self { plain, with_tools, dialect, bos: bos.into(), eos: eos.into() })
    }

    /// The template that a model file brings, or `None`: then it is a base model, which continues
    /// text and knows no conversation.
    ///
    /// # Errors
    /// As [`Template::new`].
    pub fn from_gguf(file: &Gguf, tokenizer: &Tokenizer) -> Result<Option<Self>, Error> {
        let Some(source) = optional(file.str("tokenizer.chat_template"))? else {
            return Ok(None);
        };
        let text = |token: Option<Token>| token.and_then(|token| tokenizer.token_text(token));
        let bos = text(tokenizer.bos()).unwrap_or_default();
        let eos = text(tokenizer.eos()).unwrap_or_default();
        let mut template = Self::new(source, bos, eos)?;
        if let Some(source) = optional(file.str("tokenizer.chat_template.tool_use"))? {
            template.with_tools = Arc::new(compile(source)?);
            template.dialect = Dialect::of(source);
        }
        Ok(Some(template))
    }

    /// The prompt that a conversation is for this model, up to where the assistant's answer begins,
    /// and the dialect that it answers in: tools that its template does not know, or writes as
    /// nobody reads, are told in words.
    ///
    /// # Errors
    /// As [`Template::render`].
    pub fn prompt(&self, chat: &Chat, now_unix_s: i64) -> Result<(String, Dialect), Error> {
        let dialect = self.dialect.in_use(chat);
        let turns = chat.messages.iter();
        let called = turns.clone().any(|turn| turn.role == "tool" || !turn.tool_calls.is_empty());
        if !dialect.is_plain() || chat.offered().is_empty() && !called {
            return Ok((self.render(chat, true, now_unix_s)?, dialect));
        }
        let told = self.render(&Dialect::explain(chat, false), true, now_unix_s);
        // Some templates refuse a system's turn.
        let prompt = match told {
            Err(Error::Refused(_)) => self.render(&Dialect::explain(chat, true), true, now_unix_s),
            other => other,
        };
        Ok((prompt?, dialect))
    }

    /// The prompt that a conversation is for this model; with `add_generation_prompt`, up to where
    /// the assistant's answer begins. `now_unix_s` is the date that the template may ask for, in
    /// seconds since 1970, shown in UTC.
    ///
    /// The prompt may begin with BOS: encode it with
    /// [`encode_prompt`](Tokenizer::encode_prompt), which adds no second one.
    ///
    /// # Errors
    /// [`Error::Refused`] where the template refuses the conversation, fails on it or exceeds a
    /// limit, and where a tool or the extra variables are no JSON.
    pub fn render(
        &self,
        chat: &Chat,
        add_generation_prompt: bool,
        now_unix_s: i64,
    ) -> Result<String, Error> {
        let continued = chat.messages.last().filter(|_| chat.continue_final);
        let prompt = add_generation_prompt && continued.is_none();
        let environment = if chat.offered().is_empty() { &self.plain } else { &self.with_tools };
        let variables = variables::of(chat, prompt, &self.bos, &self.eos)?;
        let date = Value::from_function(move |format: &str| python::strftime(format, now_unix_s));
        let context = minijinja::context! {
            strftime_now => date,
            ..Value::from(Serde(&variables))
        };
        let mut out = Bounded::default();
        let template = environment.get_template(NAME).map_err(failed)?;
        let result = template.render_captured_to(context, &mut out);
        if out.full {
            return Err(Error::Refused(format!(
                "the prompt that the model's chat template makes is longer than {OUTPUT_LIMIT} \
                 bytes; send fewer or shorter messages"
            )));
        }
        result.map_err(failed)?;
        let text = String::from_utf8(out.bytes).map_err(|error| {
            Error::Refused(format!("the model's chat template wrote what is no text: {error}"))
        })?;
        match continued {
            Some(last) => cut_after(text, &last.content),
            None => Ok(text),
        }
    }
}

/// The prompt up to the end of its last turn's content, so that the model goes on there. Templates
/// may trim a content; then what was trimmed is not there to go on after.
fn cut_after(mut prompt: String, content: &str) -> Result<String, Error> {
    let found = [content, content.trim_start(), content.trim()]
        .into_iter()
        .find_map(|text| prompt.rfind(text).map(|at| at + text.len()));
    let Some(end) = found else {
        return Err(Error::Refused(
            "the model's chat template changes the last message, so that it cannot be continued: \
             end the conversation with a user's message"
                .into(),
        ));
    };
    prompt.truncate(end);
    Ok(prompt)
}

/// A writer that takes so much and no more.
#[derive(Default)]
struct Bounded {
    bytes: Vec<u8>,
    full: bool,
}

impl std::io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.bytes.len() + bytes.len() > OUTPUT_LIMIT {
            self.full = true;
            return Err(std::io::Error::other("the output is too long"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A Jinja environment as `transformers` sets one up.
fn compile(source: &str) -> Result<Environment<'static>, Error> {
    if source.len() > SOURCE_LIMIT {
        return Err(Error::Unsupported(format!(
            "the model's chat template has {} bytes; at most {SOURCE_LIMIT} are supported",
            source.len()
        )));
    }
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    environment.set_syntax(syntax.expect("the usual delimiters are sound"));
    environment.set_fuel(Some(STEP_LIMIT));
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.set_unknown_method_callback(python::method);
    environment.add_test("iterable", python::is_iterable);
    environment.add_test("sequence", python::is_sequence);
    environment.add_filter("tojson", to_json);
    environment.add_filter("indent", indent);
    environment.add_filter("batch", python::batch);
    environment.add_filter("slice", python::slice);
    environment.add_filter("format", python::format);
    environment.add_function("raise_exception", |message: &str| -> Result<Value, _> {
        Err(minijinja::Error::new(ErrorKind::InvalidOperation, "the template refuses")
            .with_source(Refusal(message.into())))
    });
    environment.add_template_owned(NAME, rewrite::rewritten(source)).map_err(|error| {
        Error::Unsupported(format!(
            "the model's chat template cannot be read: {error:#}; \
             use plain completion, or another file of this model"
        ))
    })?;
    Ok(environment)
}

/// `transformers`' own filter: Python's `json.dumps` without ASCII escapes.
fn to_json(_: &State, value: &Value, options: Kwargs) -> Result<String, minijinja::Error> {
    let style = python::JsonStyle {
        ascii: options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
        indent: options.get::<Option<usize>>("indent")?,
        separators: options.get::<Option<Vec<String>>>("separators")?,
        sort_keys: options.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
    };
    options.assert_all_used()?;
    python::dumps(value, &style)
}

/// Jinja2's own filter, which keeps a text's last newline.
fn indent(
    text: &str,
    width: Option<Value>,
    first: Option<bool>,
    blank: Option<bool>,
    options: Kwargs,
) -> Result<String, minijinja::Error> {
    let flag = |given: Option<bool>, name| match given {
        Some(given) => Ok(given),
        None => options.get::<Option<bool>>(name).map(Option::unwrap_or_default),
    };
    let (first, blank) = (flag(first, "first")?, flag(blank, "blank")?);
    let width = match width {
        Some(width) => Some(width),
        None => options.get::<Option<Value>>("width")?,
    };
    options.assert_all_used()?;
    python::indent(text, &width.unwrap_or_else(|| Value::from(4)), first, blank)
}

/// A rendering's failure in words for the one who asked.
fn failed(error: minijinja::Error) -> Error {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(inner) = cause {
        if let Some(Refusal(message)) = inner.downcast_ref::<Refusal>() {
            return Error::Refused(format!("the model's chat template refuses: {message}"));
        }
        cause = inner.source();
    }
    if error.kind() == ErrorKind::OutOfFuel {
        return Error::Refused(format!(
            "the model's chat template took more than {STEP_LIMIT} steps; send fewer messages, or \
             use plain completion"
        ));
    }
    Error::Refused(format!(
        "the model's chat template failed on this conversation: {error:#}; \
         check the messages' roles and their order, or use plain completion"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ingle_protocol::{Effort, Message, Reasoning, Tool, ToolCall, ToolChoice};

    fn chat(turns: &[(&str, &str)]) -> Chat {
        let message = |&(role, content): &(&str, &str)| Message {
            role: role.into(),
            content: content.into(),
            ..Message::default()
        };
        Chat { messages: turns.iter().map(message).collect(), ..Chat::default() }
    }

    fn render(source: &str, chat: &Chat) -> Result<String, String> {
        let template = Template::new(source, "<s>", "</s>").map_err(|error| error.to_string())?;
        template.render(chat, true, 1_751_619_906).map_err(|error| error.to_string())
    }

    fn check(source: &str, expected: &str) {
        let chat = chat(&[("user", "Hi <b>"), ("assistant", "Ho")]);
        assert_eq!(render(source, &chat).as_deref(), Ok(expected), "{source}");
    }

    #[test]
    fn templates_see_what_transformers_shows_them() {
        check("{{ bos_token }}{{ messages[0].content }}{{ eos_token }}", "<s>Hi <b></s>");
        check("{{ messages | length }}{{ messages[-1]['role'] }}", "2assistant");
        check(
            "{{ tools is none }} {{ documents is none }} {{ nothing is defined }}",
            "True True False",
        );
        check("{{ messages[0].tool_calls is defined }}", "False");
        check("{% if add_generation_prompt %}\n  {{- 'go' }}\n{% endif %}\n", "go\n");
        check(
            "  {% set x = namespace(n=0) %}\n{% for m in messages %}{% set x.n = x.n + 1 %}{% if loop.last %}{% break %}{% endif %}{% endfor %}{{ x.n }}",
            "2",
        );
        check("{{ ' a '.strip() + 'b'.upper() + 'x,y'.split(',')[1] }}", "aBy");
        check("{{ '** %5.1f%% **' | format(2) }}{{ '{:>3}'.format(7) }}", "**   2.0% **  7");
        check("{{ [1, 2, 3] | batch(2) | list | length }}", "2");
        check("{{ messages[0].items() | list | length }}{{ messages[0].get('none', 'd') }}", "2d");
        check("a{% generation %}b{{ 'c' }}\n{%- endgeneration -%}\n d", "abcd");
        check(
            "{{ strftime_now('%d %b %Y, %H:%M:%S %B %A %-d %j') }}",
            "04 Jul 2025, 09:05:06 July Friday 4 185",
        );
    }

    /// What Jinja2 3.1 gave.
    #[test]
    fn values_print_and_compute_as_in_python() {
        for (source, expected) in [
            (
                "{{ 1.0 }} {{ [1, 'a', none, true] }} {{ {'a': 'b'} }} {{ 'a' ~ 1.5 ~ none }}",
                "1.0 [1, 'a', None, True] {'a': 'b'} a1.5None",
            ),
            ("{{ 7 / 2 }} {{ 6 / 2 }} {{ 7 // 2 }} {{ 2 ** 3 }}", "3.5 3.0 3 8"),
            ("{{ 'ab'[0] }} {{ 'abc'[::-1] }} {{ messages[1:] | length }}", "a cba 1"),
            (
                "{{ 'a\nb' | indent }}|{{ 'x' | title }}|{{ ['b','a'] | sort | join(',') }}|{{ 'aXb' | replace('X', '-') }}",
                "a\n    b|X|a,b|a-b",
            ),
            ("{{ {'b':1,'a':2} | dictsort }}", "[('a', 2), ('b', 1)]"),
            (
                "{{ 'x' is string }}{{ 1 is number }}{{ {} is mapping }}{{ [] is sequence }}{{ 'a' is sequence }}",
                "TrueTrueTrueTrueTrue",
            ),
            (
                "{{ none is iterable }}{{ 'a' is iterable }}{{ {} is iterable }}{{ 1 is iterable }}",
                "FalseTrueTrueFalse",
            ),
            (
                "{{ none is sequence }}{{ {} is sequence }}{{ x is sequence }}{{ x is iterable }}",
                "FalseTrueTrueTrue",
            ),
            (r#"{{ "it's" }} {{ ['it\'s', 'q"'] }}"#, r#"it's ["it's", 'q"']"#),
            (
                "{{ messages }}",
                "[{'role': 'user', 'content': 'Hi <b>'}, {'role': 'assistant', 'content': 'Ho'}]",
            ),
            (
                "{{ 'a\n\nb\n' | indent(2, first=true) }}|{{ 'a\n\nb' | indent('> ', true, true) }}",
                "  a\n\n  b\n|> a\n> \n> b",
            ),
        ] {
            check(source, expected);
        }
    }

    #[test]
    fn json_is_as_python_writes_it() {
        for (value, expected) in [
            ("{'b': [1, 2.0, true, none], 'a': {}}", r#"{"b": [1, 2.0, true, null], "a": {}}"#),
            (
                "['é\"\\\\\\n\\t', '<&>', [], '\u{7F}\u{1}']",
                "[\"é\\\"\\\\\\n\\t\", \"<&>\", [], \"\u{7F}\\u0001\"]",
            ),
            (
                "[1e16, 0.00001, 1.5e-7, -0.0, 123456789.125]",
                "[1e+16, 1e-05, 1.5e-07, -0.0, 123456789.125]",
            ),
        ] {
            check(&format!("{{{{ {value} | tojson }}}}"), expected);
        }
        check(
            "{{ {'a': [1, {}], 'b': []} | tojson(indent=2) }}",
            "{\n  \"a\": [\n    1,\n    {}\n  ],\n  \"b\": []\n}",
        );
        check(
            "{{ {'b': 1, 'a': 'é'} | tojson(separators=(',', ':'), sort_keys=true, ensure_ascii=true) }}",
            "{\"a\":\"\\u00e9\",\"b\":1}",
        );
    }

    #[test]
    fn a_templates_refusal_is_told_in_its_own_words() {
        let source = "{% if messages[0].role != 'system' %}{{ raise_exception('System first!') }}{% endif %}";
        let error = render(source, &chat(&[("user", "Hi")])).expect_err("it refuses");
        assert_eq!(error, "the model's chat template refuses: System first!");
    }

    #[test]
    fn bounds_hold() {
        for (source, expected) in [
            (
                "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
                "steps",
            ),
            ("{% for i in range(99999) %}{{ 'x' * 10000 }}{% endfor %}", "longer than"),
            ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "failed on this conversation"),
            ("{% include 'other' %}", "failed on this conversation"),
            ("{{ messages | tojson(indent=1000000000) }}", "failed on this conversation"),
            ("{{ '%999999999d' | format(1) }}", "no wider than"),
            ("{{ '%-*d' | format(999999999, 1) }}", "no wider than"),
            ("{{ '{:>999999999}'.format(1) }}", "no wider than"),
            ("{{ [1] | batch(999999999, 0) }}", "parts of at most"),
            ("{{ [1] | slice(999999999) }}", "parts of at most"),
            ("{{ 'x' * 99999999999 }}", "failed on this conversation"),
            ("{{ messages[0].content.a.b }}", "failed on this conversation"),
            ("{% for %}", "cannot be read"),
            ("{{ 'x' | nonesuch }}", "failed on this conversation"),
        ] {
            let error = render(source, &chat(&[("user", "Hi")])).expect_err(source);
            assert!(error.contains(expected), "{source}: {error}");
        }
        let deep = format!("{{{{ {}1{} }}}}", "(".repeat(100_000), ")".repeat(100_000));
        for source in [deep, "{% if 1 %}".repeat(50_000), "{{ [".repeat(50_000)] {
            Template::new(&source, "", "").expect_err("too deep");
        }
        let error = Template::new(&" ".repeat(SOURCE_LIMIT + 1), "", "").expect_err("too long");
        assert!(error.to_string().contains("bytes"), "{error}");
    }

    #[test]
    fn tools_and_extra_variables_are_json() {
        let mut chat = chat(&[("user", "Hi")]);
        let tool = |name: &str, parameters: &str| Tool {
            name: name.into(),
            parameters: parameters.into(),
            ..Tool::default()
        };
        let all = tool("f", r#"{"z": 1, "a": 2}"#);
        chat.tools = vec![Tool { description: Some("Does.".into()), ..all }, tool("g", "")];
        chat.template_kwargs = r#"{"style": "terse", "add_generation_prompt": false}"#.into();
        let source = "{{ tools[0] | tojson }} {{ tools[1].function | tojson }} {{ style }} \
                      {{ add_generation_prompt }}";
        let told = "{\"type\": \"function\", \"function\": {\"name\": \"f\", \"description\": \
                    \"Does.\", \"parameters\": {\"z\": 1, \"a\": 2}}} {\"name\": \"g\", \
                    \"parameters\": {\"type\": \"object\", \"properties\": {}}} terse False";
        assert_eq!(render(source, &chat).as_deref(), Ok(told));
        chat.tool_choice = ToolChoice::None;
        assert_eq!(render("{{ tools is none }}", &chat).as_deref(), Ok("True"));
        chat.tool_choice = ToolChoice::Auto;
        for (parameters, kwargs, expected) in [
            ("{", "", "the parameters of tools[0] are no JSON"),
            ("{}", "[1]", "extra variables are no JSON object"),
        ] {
            chat.tools = vec![tool("f", parameters)];
            chat.template_kwargs = kwargs.into();
            let error = render(source, &chat).expect_err("no JSON");
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn reasoning_is_told_under_the_names_that_templates_know() {
        let source = "{{ enable_thinking is defined }} {{ enable_thinking }} {{ thinking }} \
                      {{ reasoning_effort }} {{ messages[-1].reasoning_content }}";
        let mut chat = chat(&[("user", "Hi"), ("assistant", "Ho")]);
        chat.messages[1].reasoning = Some("Hm.".into());
        assert_eq!(render(source, &chat).as_deref(), Ok("False    Hm."));
        chat.reasoning = Reasoning { on: Some(false), effort: Some(Effort::Low), ..chat.reasoning };
        assert_eq!(render(source, &chat).as_deref(), Ok("True False False low Hm."));
        chat.template_kwargs = r#"{"thinking": true}"#.into();
        assert_eq!(render(source, &chat).as_deref(), Ok("True False True low Hm."));
    }

    #[test]
    fn the_last_turn_may_be_continued() {
        let source = "{% for m in messages %}<{{ m.role }}>{{ m.content }}<end>{% endfor %}\
                      {% if add_generation_prompt %}<assistant>{% endif %}";
        let trimmed = source.replace("m.content", "m.content | trim");
        let upper = source.replace("m.content", "m.content | upper");
        let mut chat = chat(&[("user", "Ho"), ("assistant", " Ho ")]);
        assert_eq!(
            render(source, &chat).as_deref(),
            Ok("<user>Ho<end><assistant> Ho <end><assistant>")
        );
        chat.continue_final = true;
        assert_eq!(render(source, &chat).as_deref(), Ok("<user>Ho<end><assistant> Ho "));
        assert_eq!(render(&trimmed, &chat).as_deref(), Ok("<user>Ho<end><assistant>Ho"));
        let error = render(&upper, &chat).expect_err("is not there");
        assert!(error.contains("cannot be continued"), "{error}");
    }

    #[test]
    fn a_calls_arguments_are_an_object_where_they_can_be() {
        let call = |arguments: &str| ToolCall {
            id: "1".into(),
            name: "f".into(),
            arguments: arguments.into(),
        };
        let turn = Message {
            role: "assistant".into(),
            tool_calls: vec![call("{\"b\": 1, \"a\": 2}"), call("not json"), call("[1]")],
            ..Message::default()
        };
        let chat = Chat { messages: vec![turn], ..Chat::default() };
        let source =
            "{% for c in messages[0].tool_calls %}{{ c.function.arguments | tojson }};{% endfor %}";
        assert_eq!(
            render(source, &chat).as_deref(),
            Ok("{\"b\": 1, \"a\": 2};\"not json\";\"[1]\";")
        );
    }
}
