//! Rows out of a Parquet file. What the library takes for impossible, and a hostile file can hold,
//! is an error here and no end of the program.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};

use parquet::data_type::AsBytes;
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, FileReader};
use parquet::file::serialized_reader::SerializedFileReader;
use parquet::record::reader::RowIter;
use parquet::record::{Field, Row};
use serde_json::{Number, Value};

use crate::COLUMNS;
use crate::read::{Found, Rows};

/// How deep values may be nested.
const DEEP: usize = 64;

/// The rows of a file.
pub(crate) fn read_file(file: File) -> Result<Box<dyn Rows>, String> {
    open(file)
}

/// The rows of a file that is in memory.
pub(crate) fn read_bytes(bytes: Vec<u8>) -> Result<Box<dyn Rows>, String> {
    open(bytes::Bytes::from(bytes))
}

/// How many rows a file says that it has.
pub(crate) fn rows(file: File) -> Result<u64, String> {
    guarded(|| Ok(SerializedFileReader::new(file)?.metadata().file_metadata().num_rows()))
        .map(|rows| rows.max(0) as u64)
}

fn open(source: impl ChunkReader + 'static) -> Result<Box<dyn Rows>, String> {
    guarded(|| {
        let reader = SerializedFileReader::new(source)?;
        let columns = reader.metadata().file_metadata().schema_descr().num_columns();
        if columns > COLUMNS {
            return Err(ParquetError::General(format!("it has more than {COLUMNS} columns")));
        }
        Ok(Box::new(Table(RowIter::from_file_into(Box::new(reader)))) as Box<dyn Rows>)
    })
}

/// Runs the library's code.
fn guarded<T>(run: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(result) => result.map_err(|error| format!("it is no whole Parquet file: {error}")),
        Err(_) => Err("it is no whole Parquet file: its reader failed".to_owned()),
    }
}

struct Table(RowIter<'static>);

impl Rows for Table {
    fn next(&mut self) -> Result<Option<Found>, String> {
        guarded(|| self.0.next().transpose()).map(|row| row.map(|row| fields(&row, 0)))
    }
}

fn fields(row: &Row, depth: usize) -> Found {
    let cell = |(name, field): (&String, &Field)| Ok((name.clone(), value(field, depth)?));
    row.get_column_iter().map(cell).collect()
}

fn value(field: &Field, depth: usize) -> Result<Value, String> {
    if depth > DEEP {
        return Err(format!("values are nested more than {DEEP} deep"));
    }
    let float = |float: f64| Number::from_f64(float).map_or(Value::Null, Value::Number);
    Ok(match field {
        Field::Null => Value::Null,
        Field::Bool(it) => (*it).into(),
        Field::Byte(it) => (*it).into(),
        Field::Short(it) => (*it).into(),
        Field::Int(it) => (*it).into(),
        Field::Long(it) => (*it).into(),
        Field::UByte(it) => (*it).into(),
        Field::UShort(it) => (*it).into(),
        Field::UInt(it) => (*it).into(),
        Field::ULong(it) => (*it).into(),
        // With the fewest digits that are the same `f32`.
        Field::Float(it) => it.to_string().parse().map_or(Value::Null, float),
        Field::Double(it) => float(*it),
        Field::Str(it) => it.as_str().into(),
        // Many writers do not say that their bytes are text.
        Field::Bytes(it) => {
            let text = std::str::from_utf8(it.as_bytes());
            text.map_err(|_| "a column holds bytes that are no text".to_owned())?.into()
        }
        Field::Group(row) => fields(row, depth + 1).map(Value::Object)?,
        Field::ListInternal(list) => {
            list.elements().iter().map(|it| value(it, depth + 1)).collect::<Result<_, _>>()?
        }
        Field::MapInternal(map) => {
            let key = |key: &Field| Ok::<_, String>(crate::cell(&value(key, depth + 1)?));
            let pair = |(name, it): &(Field, Field)| Ok((key(name)?, value(it, depth + 1)?));
            Value::Object(map.entries().iter().map(pair).collect::<Result<_, String>>()?)
        }
        // Times, decimals, halves: as they are written.
        other => other.to_string().into(),
    })
}
