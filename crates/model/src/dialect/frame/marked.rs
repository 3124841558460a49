//! Arguments in the forms that are no JSON: keys and values in marks (GLM, Qwen Coder), or objects
//! whose keys and texts have no quotes (Gemma). A schema is read into shapes that such a form can
//! be held to, and these are written as rules; one that asks for more is not read at all, so that
//! nothing of it is ignored.
//!
//! Absent: references between schemas, patterns and formats of texts that stand bare. A strict tool
//! that needs them speaks the plain form.

use super::super::{Syntax, Tags, body};
use super::{Writer, literal, pattern};
use crate::schema;
use serde_json::{Map, Value, json};

/// What a value may be.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Shape {
    /// A bare text of so many characters.
    Text(u64, Option<u64>),
    /// One of these bare texts.
    Texts(Vec<String>),
    /// A value as JSON writes it, by this schema.
    Json(String),
    Object(Vec<Field>),
    /// So many of a shape.
    List(Box<Shape>, u64, Option<u64>),
    /// One of several.
    Any(Vec<Shape>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Field {
    name: String,
    required: bool,
    shape: Shape,
}

/// Keywords that ask nothing of a value.
const WORDS: &[&str] = &[
    "title",
    "description",
    "default",
    "examples",
    "$comment",
    "$schema",
    "readOnly",
    "writeOnly",
    "deprecated",
];

/// The deepest schema that is read.
const DEPTH_MAX: usize = 16;

/// Arguments that a call in this form can be held to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::dialect) struct Arguments(Vec<Field>);

impl Arguments {
    /// The arguments of a schema; `None` where it asks for what the form cannot be held to.
    pub(in crate::dialect) fn read(syntax: Syntax, parameters: &str) -> Option<Self> {
        let schema: Value = serde_json::from_str(parameters).ok()?;
        match syntax {
            Syntax::Tagged(_) => fields(&schema, &tagged).map(Self),
            Syntax::Braced => fields(&schema, &|value| braced(value, 0)).map(Self),
            _ => None,
        }
    }
}

/// The properties of an object that has no others.
fn fields(schema: &Value, shape: &dyn Fn(&Value) -> Option<Shape>) -> Option<Vec<Field>> {
    let own = ["type", "properties", "required", "additionalProperties"];
    let map = only(schema, &own)?;
    if map.get("type").is_some_and(|kind| kind != "object") {
        return None;
    }
    let none = Map::new();
    let properties = map.get("properties").map_or(Some(&none), Value::as_object)?;
    let empty = Vec::new();
    let required = map.get("required").map_or(Some(&empty), Value::as_array)?;
    // One that is required and has no schema may be anything.
    if !required.iter().all(|name| name.as_str().is_some_and(|it| properties.contains_key(it))) {
        return None;
    }
    let one = |(name, value): (&String, &Value)| {
        let bare = |c: char| c.is_ascii_alphanumeric() || "_-.$".contains(c);
        let plain = !name.is_empty() && name.chars().all(bare);
        let required = required.iter().any(|other| other == name);
        plain.then(|| Some(Field { name: name.clone(), required, shape: shape(value)? }))?
    };
    properties.iter().map(one).collect()
}

/// A schema that has these keywords and words beside them, and no others.
fn only<'a>(schema: &'a Value, known: &[&str]) -> Option<&'a Map<String, Value>> {
    let map = schema.as_object()?;
    let fits = |key: &String| known.contains(&key.as_str()) || WORDS.contains(&key.as_str());
    map.keys().all(fits).then_some(map)
}

/// A value of a call in marks: what is declared a text is bare, all else is JSON.
fn tagged(schema: &Value) -> Option<Shape> {
    if schema["type"] == "string" {
        return text(schema);
    }
    let mut schema = schema.clone();
    unmarked(&mut schema, 0)?;
    Some(Shape::Json(schema.to_string()))
}

/// A bare text.
fn text(schema: &Value) -> Option<Shape> {
    let map = only(schema, &["type", "enum", "const", "minLength", "maxLength"])?;
    let chosen = match (map.get("enum"), map.get("const")) {
        (None, None) => {
            let (low, high) = bounds(map, "minLength", "maxLength")?;
            return Some(Shape::Text(low, high));
        }
        (Some(Value::Array(all)), None) => all.clone(),
        (None, Some(one)) => vec![one.clone()],
        _ => return None,
    };
    if map.contains_key("minLength") || map.contains_key("maxLength") || chosen.is_empty() {
        return None;
    }
    let plain = |value: &Value| {
        let text = value.as_str().filter(|text| !text.contains('<') && text.trim() == *text)?;
        Some(text.to_owned())
    };
    chosen.iter().map(plain).collect::<Option<_>>().map(Shape::Texts)
}

fn bounds(map: &Map<String, Value>, low: &str, high: &str) -> Option<(u64, Option<u64>)> {
    let low = map.get(low).map_or(Some(0), Value::as_u64)?;
    let high = map.get(high).map(Value::as_u64);
    // As far as a grammar counts.
    match high {
        None => (low <= 1000).then_some((low, None)),
        Some(high) => high.filter(|high| low <= *high && *high <= 1000).map(|it| (low, Some(it))),
    }
}

/// Makes a schema one whose JSON holds no mark: none of its texts has `</` in it. `None` where that
/// cannot be said of all of them.
fn unmarked(schema: &mut Value, depth: usize) -> Option<()> {
    const PATTERN: &str = "^([^<]|<[^/<])*<?$";
    if let Some(chosen) = schema.get("enum").or_else(|| schema.get("const")) {
        return (!chosen.to_string().contains("</")).then_some(());
    }
    let kinds = match schema.get("type") {
        Some(Value::String(kind)) => vec![kind.clone()],
        Some(Value::Array(kinds)) => {
            kinds.iter().map(|kind| kind.as_str().map(str::to_owned)).collect::<Option<_>>()?
        }
        _ => Vec::new(),
    };
    let map = schema.as_object_mut().filter(|_| depth < DEPTH_MAX)?;
    if let Some(Value::Array(any)) = map.get_mut("anyOf") {
        return any.iter_mut().try_for_each(|one| unmarked(one, depth + 1));
    }
    for kind in &kinds {
        match kind.as_str() {
            "null" | "boolean" | "integer" | "number" => {}
            "string" if !["pattern", "format", "allOf"].iter().any(|it| map.contains_key(*it)) => {
                map.insert("pattern".into(), json!(PATTERN));
            }
            "array" => unmarked(map.get_mut("items")?, depth + 1)?,
            "object" if map.get("additionalProperties") == Some(&Value::Bool(false)) => {
                let properties = map.get_mut("properties")?.as_object_mut()?;
                let marked = |name: &String| name.contains('<');
                if properties.keys().any(marked) || map_has(map, &["patternProperties"]) {
                    return None;
                }
                let properties = map.get_mut("properties")?.as_object_mut()?;
                properties.values_mut().try_for_each(|one| unmarked(one, depth + 1))?;
            }
            _ => return None,
        }
    }
    (!kinds.is_empty() && !map_has(map, &["$ref", "oneOf", "allOf", "prefixItems"])).then_some(())
}

fn map_has(map: &Map<String, Value>, keys: &[&str]) -> bool {
    keys.iter().any(|key| map.contains_key(*key))
}

/// A value between brackets.
fn braced(schema: &Value, depth: usize) -> Option<Shape> {
    if depth == DEPTH_MAX {
        return None;
    }
    if let Some(any) = schema.get("anyOf") {
        only(schema, &["anyOf"])?;
        let any = any.as_array().filter(|any| !any.is_empty())?;
        return any.iter().map(|one| braced(one, depth + 1)).collect::<Option<_>>().map(Shape::Any);
    }
    if let Some(Value::Array(kinds)) = schema.get("type") {
        let one = |kind: &Value| {
            let mut alone = schema.clone();
            alone["type"] = kind.clone();
            braced(&alone, depth + 1)
        };
        let plain = only(schema, &["type"]).is_some() && !kinds.is_empty();
        return plain.then(|| kinds.iter().map(one).collect::<Option<_>>().map(Shape::Any))?;
    }
    match (schema["type"].as_str(), schema.get("enum")) {
        (Some("string"), _) => text(schema),
        (None, Some(Value::Array(all))) if all.iter().all(Value::is_string) => {
            let texts = json!({ "enum": only(schema, &["enum"])?["enum"] });
            text(&texts)
        }
        (Some("integer" | "number" | "boolean" | "null"), _) => {
            Some(Shape::Json(schema.to_string()))
        }
        (Some("array"), None) => {
            let map = only(schema, &["type", "items", "minItems", "maxItems"])?;
            let (low, high) = bounds(map, "minItems", "maxItems")?;
            Some(Shape::List(Box::new(braced(map.get("items")?, depth + 1)?), low, high))
        }
        (Some("object"), None) => {
            fields(schema, &|value| braced(value, depth + 1)).map(Shape::Object)
        }
        _ => None,
    }
}

/// Writes the rules of one call's arguments.
pub(super) struct Rules<'a> {
    writer: &'a Writer<'a>,
    /// What all its rules' names begin with.
    prefix: String,
    count: usize,
    rules: &'a mut Vec<String>,
}

impl<'a> Rules<'a> {
    pub(super) fn new(writer: &'a Writer<'a>, prefix: &str, rules: &'a mut Vec<String>) -> Self {
        Self { writer, prefix: prefix.to_owned(), count: 0, rules }
    }

    /// A call from its name on. Without arguments that can be held to, any in the form.
    pub(super) fn call(&mut self, name: &str, arguments: Option<&Arguments>) -> String {
        match self.writer.dialect.family.syntax {
            Syntax::Tagged(tags) if tags.name.end.is_empty() => {
                format!("{} {}", literal(format!("{name}\n")), self.tagged(tags, arguments))
            }
            Syntax::Tagged(tags) => {
                let head = format!("\n{}{name}{}\n", tags.name.begin, tags.name.end);
                let fields = self.tagged(tags, arguments);
                format!("{} {fields} {}", self.writer.mark(&head), literal("</function>\n"))
            }
            _ => {
                let body = match arguments {
                    Some(arguments) => self.object(&arguments.0),
                    None => self.any_object(),
                };
                format!("{} {body}", literal(format!("call:{name}")))
            }
        }
    }

    /// A rule, or, in capitals, a terminal; its name.
    fn rule(&mut self, kind: &str, body: &str) -> String {
        self.count += 1;
        let name = format!("{kind}_{}_{}", self.prefix, self.count);
        self.rules.push(format!("{name}: {body}"));
        name
    }

    fn tagged(&mut self, tags: &'static Tags, arguments: Option<&Arguments>) -> String {
        let Some(arguments) = arguments else {
            let value = self.tagged_value(tags, &Shape::Text(0, None));
            let (begin, end) = (self.writer.mark(tags.key.begin), self.writer.mark(tags.key.end));
            return format!("({begin} /[a-zA-Z0-9_.-]{{1,64}}/ {end} {value})*");
        };
        let field = |field: &Field| {
            let key = format!("{}{}{}", tags.key.begin, field.name, tags.key.end);
            let value = self.tagged_value(tags, &field.shape);
            let often = if field.required { "" } else { "?" };
            format!("({} {value}){often}", self.writer.mark(&key))
        };
        arguments.0.iter().map(field).collect::<Vec<_>>().join(" ")
    }

    /// From the mark that ends a key to the line feed behind the value.
    fn tagged_value(&mut self, tags: &'static Tags, shape: &Shape) -> String {
        // Where nothing begins a value, lines do.
        let bare = tags.value.begin.is_empty();
        let begin = if bare { "\n".to_owned() } else { format!("\n{}", tags.value.begin) };
        let end = format!("{}{}\n", if bare { "\n" } else { "" }, tags.value.end);
        let value = match shape {
            Shape::Text(low, high) => {
                return format!("{} {}", self.writer.mark(&begin), self.text(*low, *high, &end));
            }
            Shape::Texts(all) => texts(all),
            Shape::Json(schema) => format!("%json {}", schema::prepared(schema)),
            _ => unreachable!("marks hold texts and JSON"),
        };
        format!("{} {value} {}", self.writer.mark(&begin), self.writer.mark(&end))
    }

    /// A bare text and the mark behind it, which it does not hold, nor that of the call's end.
    fn text(&mut self, low: u64, high: Option<u64>, end: &str) -> String {
        let high = high.map_or(String::new(), |high| high.to_string());
        let call = self.writer.dialect.family.call.end;
        let marks = [end.trim(), call].map(|mark| pattern(mark.as_bytes())).join("|");
        // Whoever reads it takes a line feed on either side for the form's.
        let own = "~/\\n(.|\\n)*/ & ~/(.|\\n)*\\n/";
        let text = format!("/(.|\\n){{{low},{high}}}/ & {own} & ~/(.|\\n)*({marks})(.|\\n)*/");
        match self.writer.mark(end) {
            mark if mark.starts_with('"') && !mark.contains("<[") => {
                self.rule("TEXT", &format!("({text}) {mark}"))
            }
            mark => {
                let text = self.rule("TEXT", &text);
                // A terminal of no text is none.
                let often = if low == 0 { "?" } else { "" };
                format!("{text}{often} {mark}")
            }
        }
    }

    fn braced(&mut self, shape: &Shape) -> String {
        let quote = body::QUOTE;
        match shape {
            Shape::Text(low, high) => {
                format!("{} {}", self.writer.mark(quote), self.text(*low, *high, quote))
            }
            Shape::Texts(all) => {
                let mark = self.writer.mark(quote);
                format!("{mark} {} {mark}", texts(all))
            }
            Shape::Json(schema) => format!("%json {}", schema::prepared(schema)),
            Shape::Object(fields) => self.object(fields),
            Shape::List(item, low, high) => {
                let item = self.braced(item);
                let item = self.rule("item", &item);
                list(&item, *low, *high)
            }
            Shape::Any(all) => {
                let all: Vec<String> = all.iter().map(|one| self.braced(one)).collect();
                format!("({})", all.join(" | "))
            }
        }
    }

    /// Fields in their order; commas stand between those that are there.
    fn object(&mut self, fields: &[Field]) -> String {
        let (mut first, mut more) = ("\"\"".to_owned(), "\"\"".to_owned());
        for field in fields.iter().rev() {
            let key = literal(format!("{}:", field.name));
            let value = format!("{key} {}", self.braced(&field.shape));
            let value = self.rule("field", &value);
            let (with, behind) = (format!("{value} {more}"), format!("\",\" {value} {more}"));
            (first, more) = match field.required {
                true => (self.rule("first", &with), self.rule("more", &behind)),
                false => (
                    self.rule("first", &format!("{with} | {first}")),
                    self.rule("more", &format!("{behind} | {more}")),
                ),
            };
        }
        format!("\"{{\" {first} \"}}\"")
    }

    /// Any object in brackets.
    fn any_object(&mut self) -> String {
        let (object, value) = (format!("object_{}", self.prefix), format!("value_{}", self.prefix));
        let text = self.braced(&Shape::Text(0, None));
        let scalar = r#"{"type":["number","boolean","null"]}"#;
        let scalar = self.braced(&Shape::Json(scalar.to_owned()));
        let key = "/[a-zA-Z0-9_.-]{1,64}/ \":\"";
        let rows = [
            format!("{object}: \"{{\" ({key} {value} (\",\" {key} {value})*)? \"}}\""),
            format!("{value}: {text} | {scalar} | {object} | {}", list(&value, 0, None)),
        ];
        self.rules.extend(rows);
        object
    }
}

fn texts(all: &[String]) -> String {
    format!("({})", all.iter().map(literal).collect::<Vec<_>>().join(" | "))
}

/// So many items in brackets.
fn list(item: &str, low: u64, high: Option<u64>) -> String {
    let rest = |low: u64| match high {
        Some(high) => format!("(\",\" {item}){{{low},{}}}", high.saturating_sub(1)),
        None => format!("(\",\" {item}){{{low},}}"),
    };
    match (low, high) {
        (_, Some(0)) => "\"[]\"".to_owned(),
        (0, _) => format!("\"[\" ({item} {})? \"]\"", rest(0)),
        (low, _) => format!("\"[\" {item} {} \"]\"", rest(low - 1)),
    }
}
