//! Adapters over the wire: llama.cpp's lists of them, by number and scale, and vLLM's requests to
//! load and unload one. Absent: choosing one by the model's name, which a server does.

use serde_json::{Map, Value, json};

use super::check::{self, Read};
use super::strict::Strict;
use super::values::{model, read_object, short};
use crate::{Adapter, Fault, Which};

/// The most adapters that a list names.
const MOST: usize = 64;
/// The largest scale, either way.
const SCALE_MAX: f64 = 1000.0;

/// `[{"id": 0, "scale": 1.0}]`, llama.cpp's; `name` instead of `id` is this server's own.
pub(super) fn wanted(at: &str, value: &Value) -> Read<Vec<Adapter>> {
    let one = |(i, value): (usize, &Value)| {
        let at = format!("{at}[{i}]");
        let map = check::object(&at, value)?;
        check::only(&at, map, ["id", "name", "scale"].into_iter())?;
        let given = |name: &str| map.get(name).filter(|value| !value.is_null());
        let which = match (given("id"), given("name")) {
            (Some(id), None) => {
                Which::Number(check::count(&format!("{at}.id"), id, 0, u32::MAX)? as usize)
            }
            (None, Some(name)) => Which::Name(model(&format!("{at}.name"), name)?),
            _ => return check::bad(&at, "must have an 'id' or a 'name'"),
        };
        let scale = given("scale").map_or(Ok(1.0), |scale| {
            check::number(&format!("{at}.scale"), scale, -SCALE_MAX, SCALE_MAX)
        })?;
        Ok(Adapter { which, scale })
    };
    check::array(at, value, MOST)?.iter().enumerate().map(one).collect()
}

/// What [`wanted`] reads.
pub(super) fn write_wanted(adapters: &[Adapter]) -> Value {
    let one = |adapter: &Adapter| {
        let scale = adapter.scale;
        match &adapter.which {
            Which::Name(name) => json!({ "name": name, "scale": scale }),
            Which::Number(id) => json!({ "id": id, "scale": scale }),
        }
    };
    adapters.iter().map(one).collect()
}

/// Reads llama.cpp's `POST /lora-adapters`: how much of which adapters requests get that say
/// nothing of it.
pub fn read_scales(body: &[u8]) -> Result<Vec<Adapter>, Fault> {
    match serde_json::from_slice(body) {
        Ok(Strict(value)) => wanted("lora", &value),
        Err(error) => Err(Fault::caller(format!("the body is no JSON: {error}"))),
    }
}

/// An adapter as it is listed.
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterLine {
    /// Its name.
    pub name: String,
    /// Its file's or folder's name, without what is before it.
    pub file: String,
    /// How much of it requests get that say nothing of it.
    pub scale: f32,
}

/// The answer to llama.cpp's `GET /lora-adapters`, in the order of their numbers.
pub fn write_list(lines: &[AdapterLine]) -> String {
    let one = |(id, line): (usize, &AdapterLine)| json!({ "id": id, "name": line.name, "path": line.file, "scale": line.scale });
    Value::Array(lines.iter().enumerate().map(one).collect()).to_string()
}

/// The answer to llama.cpp's `POST /lora-adapters`.
pub fn write_success() -> String {
    json!({ "success": true }).to_string()
}

/// An adapter to be loaded: vLLM's `POST /v1/load_lora_adapter`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loading {
    /// What it is to be called.
    pub name: String,
    /// Where it is on the server's machine.
    pub path: String,
    /// The model that it is for; empty for the server's default.
    pub model: String,
}

/// Reads a request to load an adapter.
pub fn read_load(body: &[u8]) -> Result<Loading, Fault> {
    const KNOWN: [&str; 4] = ["lora_name", "lora_path", "base_model_name", "load_inplace"];
    let body = read_object(body)?;
    check::only("", &body, KNOWN.into_iter())?;
    if let Some(Value::Bool(true)) = body.get("load_inplace") {
        let why = "is supported only as false: unload the adapter of that name first";
        return check::bad("load_inplace", why);
    }
    let path = needed("lora_path", &body)?;
    let base = body.get("base_model_name").filter(|value| !value.is_null());
    Ok(Loading {
        name: needed("lora_name", &body)?,
        path,
        model: base.map_or(Ok(String::new()), |value| model("base_model_name", value))?,
    })
}

/// Reads vLLM's `POST /v1/unload_lora_adapter`: the adapter's name. The number that vLLM has beside
/// it is not looked at, as there.
pub fn read_unload(body: &[u8]) -> Result<String, Fault> {
    let body = read_object(body)?;
    check::only("", &body, ["lora_name", "lora_int_id"].into_iter())?;
    needed("lora_name", &body)
}

fn needed(name: &str, body: &Map<String, Value>) -> Read<String> {
    match body.get(name) {
        None | Some(Value::Null) => check::bad(name, "is missing"),
        Some(value) => match check::string(name, value)? {
            "" => check::bad(name, "is empty"),
            text => short(name, text),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_name_adapters_and_scales() {
        let check = |json: &str, expect: Result<Vec<(Which, f32)>, &str>| {
            let read = read_scales(json.as_bytes());
            match expect {
                Ok(expect) => {
                    let read = read.expect(json);
                    let told: Vec<_> =
                        read.iter().map(|one| (one.which.clone(), one.scale)).collect();
                    assert_eq!(told, expect, "{json}");
                    let again = read_scales(write_wanted(&read).to_string().as_bytes());
                    assert_eq!(again, Ok(read), "{json}");
                }
                Err(param) => {
                    let fault = read.expect_err(json);
                    assert_eq!(fault.param.unwrap_or_default(), param, "{json}");
                }
            }
        };
        check("[]", Ok(vec![]));
        check(
            r#"[{"id": 0, "scale": 0.5}, {"id": 7}]"#,
            Ok(vec![(Which::Number(0), 0.5), (Which::Number(7), 1.0)]),
        );
        check(r#"[{"name": "a", "scale": -2}]"#, Ok(vec![(Which::Name("a".into()), -2.0)]));
        check("{}", Err("lora"));
        check("[1]", Err("lora[0]"));
        check(r#"[{"scale": 1}]"#, Err("lora[0]"));
        check(r#"[{"id": 0, "name": "a"}]"#, Err("lora[0]"));
        check(r#"[{"id": -1}]"#, Err("lora[0].id"));
        check(r#"[{"id": 0, "scale": 1e9}]"#, Err("lora[0].scale"));
        check(r#"[{"id": 0, "scales": 1}]"#, Err("lora[0].scales"));
        check(r#"[{"id": 0, "id": 1}]"#, Err(""));
        check("[", Err(""));
    }

    #[test]
    fn loading_has_a_name_and_a_path() {
        let check = |json: &str, expect: Result<[&str; 3], &str>| {
            let read = read_load(json.as_bytes());
            let told = read.as_ref().map(|it| [&*it.name, &it.path, &it.model]);
            let wrong = |fault: &Fault| fault.param.clone().unwrap_or_default();
            assert_eq!(told.map_err(wrong), expect.map_err(str::to_owned), "{json}");
        };
        check(r#"{"lora_name": "a", "lora_path": "/b"}"#, Ok(["a", "/b", ""]));
        check(
            r#"{"lora_name": "a", "lora_path": "b", "base_model_name": "m", "load_inplace": false}"#,
            Ok(["a", "b", "m"]),
        );
        check(r#"{"lora_path": "b"}"#, Err("lora_name"));
        check(r#"{"lora_name": "a"}"#, Err("lora_path"));
        check(r#"{"lora_name": "", "lora_path": "b"}"#, Err("lora_name"));
        check(r#"{"lora_name": "a", "lora_path": "b", "load_inplace": true}"#, Err("load_inplace"));
        check(r#"{"lora_name": "a", "lora_path": "b", "other": 1}"#, Err("other"));
        let unload = |json: &str| read_unload(json.as_bytes());
        assert_eq!(unload(r#"{"lora_name": "a", "lora_int_id": 3}"#).as_deref(), Ok("a"));
        assert!(unload(r#"{"lora_int_id": 3}"#).is_err());
    }
}
