//! Rows as bytes of a format, one after another. Parquet is absent here: it is written as a whole
//! (`parquet.rs`).

use serde_json::Value;

use crate::{ERROR, Error, Fields, Format};

/// Floats as JSON, each with the fewest digits that give the same `f32` again.
pub fn vector(floats: &[f32]) -> Value {
    let shortest = |float: &f32| {
        // The shortest digits of the `f32` are short as an `f64`, too.
        float.to_string().parse::<f64>().ok().map_or(Value::Null, Value::from)
    };
    Value::Array(floats.iter().map(shortest).collect())
}

/// What stands in a cell of text: texts as they are, nothing for null, JSON for the rest.
pub fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        value => value.to_string(),
    }
}

/// Writes rows in one format.
#[derive(Debug)]
pub struct Writer {
    format: Format,
    /// The columns that are added to the input's; the first is what lines of text are made of.
    added: Vec<String>,
    /// Of a table, once it is known.
    heading: Option<Vec<String>>,
    begun: bool,
}

impl Writer {
    /// Rows get the columns `added`, the first of which is the result itself.
    ///
    /// # Errors
    /// Parquet cannot be written row by row.
    pub fn new(format: Format, added: &[&str]) -> Result<Self, Error> {
        if format == Format::Parquet {
            let why = "Parquet is written as a whole: name a file to write to";
            return Err(Error::new("standard output", why));
        }
        let added = added.iter().map(|name| (*name).to_owned()).collect();
        Ok(Self { format, added, heading: None, begun: false })
    }

    /// The same with a table's columns known beforehand.
    #[must_use]
    pub fn with_heading(self, heading: Vec<String>) -> Self {
        Self { heading: Some(heading), ..self }
    }

    /// Writes a row behind what `out` holds. A table's heading is the first row's columns, those
    /// added, and the one for errors, unless all are known.
    ///
    /// # Errors
    /// Where a table has no column for what is in the row.
    pub fn write(&mut self, row: &Fields, out: &mut Vec<u8>) -> Result<(), String> {
        match self.format {
            Format::Lines => {
                let result = self.added.first().and_then(|name| row.get(name));
                // What has line ends in it would be several rows.
                let line = cell(result.unwrap_or(&Value::Null)).replace(['\n', '\r'], " ");
                out.extend_from_slice(line.as_bytes());
                out.push(b'\n');
                Ok(())
            }
            Format::Jsonl | Format::Parquet => {
                serde_json::to_writer(&mut *out, row).map_err(|error| error.to_string())?;
                out.push(b'\n');
                Ok(())
            }
            Format::Csv => self.table(row, b',', out),
            Format::Tsv => self.table(row, b'\t', out),
        }
    }

    fn table(&mut self, row: &Fields, delimiter: u8, out: &mut Vec<u8>) -> Result<(), String> {
        let heading = self.heading.get_or_insert_with(|| heading(row, &self.added));
        if let Some(name) = row.keys().find(|name| !heading.contains(name)) {
            return Err(format!(
                "the heading has no column {name:?}, since the first row has none: write to a \
                 file, whose heading is made last, or as --output-format jsonl"
            ));
        }
        let mut writer = csv::WriterBuilder::new().delimiter(delimiter).from_writer(Vec::new());
        let wrong = |error: csv::Error| error.to_string();
        if !std::mem::replace(&mut self.begun, true) {
            writer.write_record(&*heading).map_err(wrong)?;
        }
        let cells = heading.iter().map(|name| row.get(name).map(cell).unwrap_or_default());
        writer.write_record(cells).map_err(wrong)?;
        out.extend(writer.into_inner().map_err(|error| error.to_string())?);
        Ok(())
    }
}

fn heading(row: &Fields, added: &[String]) -> Vec<String> {
    let mut heading: Vec<String> = row.keys().filter(|name| *name != ERROR).cloned().collect();
    let more = added.iter().map(String::as_str).chain([ERROR]);
    for name in more {
        if !heading.iter().any(|known| known == name) {
            heading.push(name.to_owned());
        }
    }
    heading
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn write(format: Format, rows: &[Value]) -> Result<String, String> {
        let mut writer = Writer::new(format, &["label", "score"]).expect("rows");
        let mut out = Vec::new();
        for row in rows {
            writer.write(row.as_object().expect("an object"), &mut out)?;
        }
        Ok(String::from_utf8(out).expect("UTF-8"))
    }

    #[test]
    fn floats_have_the_fewest_digits_that_are_the_same() {
        for (float, expect) in [(0.1_f32, "[0.1]"), (1.0, "[1.0]"), (-3.4e-8, "[-3.4e-8]")] {
            assert_eq!(vector(&[float]).to_string(), expect);
            let back: Vec<f32> = serde_json::from_str(expect).expect("JSON");
            assert_eq!(back, [float]);
        }
        assert_eq!(vector(&[f32::NAN, f32::INFINITY]).to_string(), "[null,null]");
    }

    #[test]
    fn rows_in_each_format() {
        let rows = [
            json!({ "a": "x,\"y\"", "label": "b\nc", "score": 0.5 }),
            json!({ "a": null, "label": [1, 2] }),
        ];
        let check = |format, expect: &str| assert_eq!(write(format, &rows).expect("ok"), expect);
        check(Format::Lines, "b c\n[1,2]\n");
        check(
            Format::Jsonl,
            "{\"a\":\"x,\\\"y\\\"\",\"label\":\"b\\nc\",\"score\":0.5}\n\
             {\"a\":null,\"label\":[1,2]}\n",
        );
        let table = "a,label,score,error\n\"x,\"\"y\"\"\",\"b\nc\",0.5,\n,\"[1,2]\",,\n";
        check(Format::Csv, table);
        check(
            Format::Tsv,
            "a\tlabel\tscore\terror\n\"x,\"\"y\"\"\"\t\"b\nc\"\t0.5\t\n\t[1,2]\t\t\n",
        );
        let more = [json!({ "a": 1 }), json!({ "b": 1 })];
        let why = write(Format::Csv, &more).expect_err("no column");
        assert!(why.contains("\"b\""), "{why}");
        assert!(Writer::new(Format::Parquet, &[]).is_err());
    }
}
