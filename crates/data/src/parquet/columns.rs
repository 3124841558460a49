//! Rows into a Parquet file: which type a column has is found by looking at all its values, and
//! rows are written in groups, each column of a group at once.

use std::fs::File;
use std::sync::Arc;

use parquet::basic::{Compression, LogicalType, Repetition, Type as Physical};
use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::types::{Type, TypePtr};
use serde_json::Value;

use crate::{Fields, cell};

/// What a column's values are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing but null yet.
    #[default]
    Null,
    Bool,
    Int,
    Double,
    /// Lists of numbers that are `f32` as well as they are `f64`.
    Floats,
    Doubles,
    /// Texts, and JSON where values are of several kinds or of none of these.
    Text,
}

impl Kind {
    /// What holds these values and this one, too.
    pub(crate) fn with(self, value: &Value) -> Self {
        match (self, value) {
            (kind, Value::Null) => kind,
            (Self::Null | Self::Bool, Value::Bool(_)) => Self::Bool,
            (Self::Null | Self::Int, Value::Number(it)) if it.is_i64() => Self::Int,
            (Self::Null | Self::Double, Value::Number(_)) => Self::Double,
            // Large whole numbers are no more exact as floats: they stay as they are written.
            (Self::Int, Value::Number(it)) if it.is_f64() => Self::Double,
            (Self::Null | Self::Floats | Self::Doubles, Value::Array(list)) => self.listing(list),
            _ => Self::Text,
        }
    }

    fn listing(self, list: &[Value]) -> Self {
        if !list.iter().all(Value::is_f64) {
            return Self::Text;
        }
        let single = |it: &Value| {
            let float = it.as_f64().unwrap_or_default();
            (float as f32).to_string().parse() == Ok(float)
        };
        if self != Self::Doubles && list.iter().all(single) { Self::Floats } else { Self::Doubles }
    }

    fn schema(self, name: &str) -> Result<Type, ParquetError> {
        let plain = |physical| {
            Type::primitive_type_builder(name, physical).with_repetition(Repetition::OPTIONAL)
        };
        let list = |physical| {
            let element = Type::primitive_type_builder("element", physical);
            let element = element.with_repetition(Repetition::REQUIRED).build()?;
            let list = Type::group_type_builder("list").with_repetition(Repetition::REPEATED);
            let list = list.with_fields(vec![Arc::new(element)]).build()?;
            let outer = Type::group_type_builder(name).with_repetition(Repetition::OPTIONAL);
            let outer = outer.with_logical_type(Some(LogicalType::List));
            outer.with_fields(vec![Arc::new(list)]).build()
        };
        match self {
            Self::Bool => plain(Physical::BOOLEAN).build(),
            Self::Int => plain(Physical::INT64).build(),
            Self::Double => plain(Physical::DOUBLE).build(),
            Self::Floats => list(Physical::FLOAT),
            Self::Doubles => list(Physical::DOUBLE),
            Self::Null | Self::Text => {
                let text = plain(Physical::BYTE_ARRAY);
                text.with_logical_type(Some(LogicalType::String)).build()
            }
        }
    }
}

/// A file that is being written.
pub(crate) struct Table {
    columns: Vec<(String, Kind)>,
    writer: SerializedFileWriter<File>,
}

impl Table {
    pub(crate) fn new(file: File, columns: Vec<(String, Kind)>) -> Result<Self, ParquetError> {
        let of = |(name, kind): &(String, Kind)| Ok(Arc::new(kind.schema(name)?));
        let fields: Vec<TypePtr> = columns.iter().map(of).collect::<Result<_, ParquetError>>()?;
        let schema = Type::group_type_builder("rows").with_fields(fields).build()?;
        let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
        let writer = SerializedFileWriter::new(file, Arc::new(schema), Arc::new(properties))?;
        Ok(Self { columns, writer })
    }

    /// Writes rows as one group.
    pub(crate) fn group(&mut self, rows: &[Fields]) -> Result<(), ParquetError> {
        let mut group = self.writer.next_row_group()?;
        for (name, kind) in &self.columns {
            let Some(mut column) = group.next_column()? else { break };
            write(&mut column, *kind, rows.iter().map(|row| row.get(name)))?;
            column.close()?;
        }
        group.close()?;
        Ok(())
    }

    /// Writes the end.
    pub(crate) fn close(self) -> Result<File, ParquetError> {
        self.writer.into_inner()
    }
}

/// A column's values; a definition level of 0 is null, the highest a value, and in lists 1 is an
/// empty one. A repetition level of 1 goes on with the list before.
fn write<'a>(
    column: &mut SerializedColumnWriter<'_>,
    kind: Kind,
    cells: impl Iterator<Item = Option<&'a Value>>,
) -> Result<(), ParquetError> {
    let mut levels = Levels::default();
    let cells = cells.map(|cell| cell.filter(|value| !value.is_null()));
    match (column.untyped(), kind) {
        (ColumnWriter::BoolColumnWriter(writer), _) => {
            let values = levels.plain(cells, |it| it.as_bool().unwrap_or_default());
            writer.write_batch(&values, Some(&levels.defined), None)?;
        }
        (ColumnWriter::Int64ColumnWriter(writer), _) => {
            let values = levels.plain(cells, |it| it.as_i64().unwrap_or_default());
            writer.write_batch(&values, Some(&levels.defined), None)?;
        }
        (ColumnWriter::DoubleColumnWriter(writer), Kind::Double) => {
            let values = levels.plain(cells, |it| it.as_f64().unwrap_or_default());
            writer.write_batch(&values, Some(&levels.defined), None)?;
        }
        (ColumnWriter::DoubleColumnWriter(writer), _) => {
            let values = levels.lists(cells, |float| float);
            writer.write_batch(&values, Some(&levels.defined), Some(&levels.repeated))?;
        }
        (ColumnWriter::FloatColumnWriter(writer), _) => {
            let values = levels.lists(cells, |float| float as f32);
            writer.write_batch(&values, Some(&levels.defined), Some(&levels.repeated))?;
        }
        (ColumnWriter::ByteArrayColumnWriter(writer), _) => {
            let values = levels.plain(cells, |it| ByteArray::from(cell(it).into_bytes()));
            writer.write_batch(&values, Some(&levels.defined), None)?;
        }
        _ => unreachable!("no column has another type; this is a bug"),
    }
    Ok(())
}

#[derive(Default)]
struct Levels {
    defined: Vec<i16>,
    repeated: Vec<i16>,
}

impl Levels {
    fn plain<'a, T>(
        &mut self,
        cells: impl Iterator<Item = Option<&'a Value>>,
        of: impl Fn(&Value) -> T,
    ) -> Vec<T> {
        let mut values = Vec::new();
        for cell in cells {
            self.defined.push(i16::from(cell.is_some()));
            values.extend(cell.map(&of));
        }
        values
    }

    fn lists<'a, T>(
        &mut self,
        cells: impl Iterator<Item = Option<&'a Value>>,
        of: impl Fn(f64) -> T,
    ) -> Vec<T> {
        let mut values = Vec::new();
        for cell in cells {
            let list = cell.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
            if list.is_empty() {
                self.defined.push(i16::from(cell.is_some()));
                self.repeated.push(0);
            }
            for (at, value) in list.iter().enumerate() {
                self.defined.push(2);
                self.repeated.push(i16::from(at > 0));
                values.push(of(value.as_f64().unwrap_or_default()));
            }
        }
        values
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_column_has_the_narrowest_kind() {
        let check = |values: Value, expect: Kind| {
            let values = values.as_array().expect("a list").clone();
            let kind = values.iter().fold(Kind::default(), Kind::with);
            assert_eq!(kind, expect, "{values:?}");
        };
        check(json!([]), Kind::Null);
        check(json!([null, true]), Kind::Bool);
        check(json!([1, null, -2]), Kind::Int);
        check(json!([1, 2.5]), Kind::Double);
        check(json!([2.5, 1]), Kind::Double);
        check(json!([u64::MAX, 1]), Kind::Double);
        check(json!([1, u64::MAX]), Kind::Text);
        check(json!([1, true]), Kind::Text);
        check(json!(["a", null]), Kind::Text);
        check(json!([[0.5, 0.1], []]), Kind::Floats);
        check(json!([[0.5], [0.123_456_789_012], [0.5]]), Kind::Doubles);
        check(json!([[1]]), Kind::Text);
        check(json!([[0.5, "a"]]), Kind::Text);
        check(json!([{ "a": 1 }]), Kind::Text);
    }
}
