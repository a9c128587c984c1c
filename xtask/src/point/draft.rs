//! Points as TOML: one drafted from its parts, and one taken out of its file to be looked at alone.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use patcher::{PointSet, point::Position};
use toml::{Table, Value};

/// An alternate in the making.
#[derive(Debug, Clone)]
pub struct Alternate {
    pub file: String,
    pub function: Option<String>,
    pub params: Vec<(String, String)>,
    pub position: Position,
    pub matching: Option<String>,
}

/// A point in the making.
#[derive(Debug, Clone)]
pub struct Draft {
    pub id: String,
    pub purpose: String,
    pub insert: String,
    pub at: Vec<Alternate>,
}

impl Alternate {
    /// The alternate as one line of `at`, as the files of points write it.
    pub fn toml(&self) -> String {
        let mut fields = vec![format!("file = {}", quoted(&self.file))];
        fields.extend(self.function.iter().map(|function| format!("function = {}", quoted(function))));
        if !self.params.is_empty() {
            let params: Vec<_> = self.params.iter().map(|(name, of)| format!("{name} = {}", quoted(of))).collect();
            fields.push(format!("params = {{ {} }}", params.join(", ")));
        }
        fields.push(format!("position = \"{}\"", self.position));
        fields.extend(self.matching.iter().map(|regex| format!("match = {}", literal(regex))));
        format!("{{ {} }}", fields.join(", "))
    }
}

impl Draft {
    /// The point as a file of points has it.
    pub fn toml(&self) -> String {
        let mut text = format!(
            "[[point]]\nid      = {}\npurpose = {}\ninsert  = {}\nat = [\n",
            quoted(&self.id),
            quoted(&self.purpose),
            literal(&self.insert)
        );
        for alternate in &self.at {
            text.push_str(&format!("  {},\n", alternate.toml()));
        }
        text.push_str("]\n");
        text
    }

    /// The point as the planner takes it.
    ///
    /// # Errors
    /// It is not a valid point.
    pub fn parse(&self) -> Result<PointSet> {
        Ok(PointSet::parse([("draft.toml", self.toml())])?)
    }
}

/// A basic string: quotes and backslashes escaped.
fn quoted(text: &str) -> String {
    Value::String(text.to_owned()).to_string()
}

/// A literal string, as regular expressions and code read best; one that cannot be literal is escaped.
fn literal(text: &str) -> String {
    if text.contains(['\'', '\n', '\r']) { quoted(text) } else { format!("'{text}'") }
}

/// One point out of the file that declares it, for looking at parts of it alone.
pub struct Declared {
    table: Table,
}

impl Declared {
    /// Finds it.
    ///
    /// # Errors
    /// The file cannot be read, or does not have it.
    pub fn read(source: &Path, id: &str) -> Result<Self> {
        let text = fs::read_to_string(source).with_context(|| format!("cannot read {}", source.display()))?;
        let file: Table = toml::from_str(&text).with_context(|| format!("{} is not valid", source.display()))?;
        let points = file.get("point").and_then(Value::as_array).into_iter().flatten();
        let mut tables = points.filter_map(Value::as_table);
        let table = tables.find(|point| point.get("id").and_then(Value::as_str) == Some(id));
        let table = table.with_context(|| format!("{} has no point `{id}`", source.display()))?;
        Ok(Self { table: table.clone() })
    }

    /// The whole point.
    ///
    /// # Errors
    /// It is not valid.
    pub fn whole(&self) -> Result<PointSet> {
        parse(self.table.clone())
    }

    /// The point with one alternate and no declared absence.
    ///
    /// # Errors
    /// It is not valid.
    pub fn with_alternate(&self, index: usize) -> Result<PointSet> {
        let mut table = self.table.clone();
        table.remove("absent");
        let at = table.get("at").and_then(Value::as_array).and_then(|at| at.get(index)).cloned();
        table.insert("at".to_owned(), Value::Array(at.into_iter().collect()));
        parse(table)
    }

    /// The point without any place, and one declared absence: absent if that holds, else lost.
    ///
    /// # Errors
    /// It is not valid.
    pub fn with_absence(&self, index: usize) -> Result<PointSet> {
        let mut table = self.table.clone();
        let absent = table.get("absent").and_then(Value::as_array).and_then(|absent| absent.get(index)).cloned();
        table.insert("absent".to_owned(), Value::Array(absent.into_iter().collect()));
        let mut nowhere = Table::new();
        nowhere.insert("file".to_owned(), "no such file".into());
        nowhere.insert("position".to_owned(), "includes-end".into());
        nowhere.insert("insert".to_owned(), patcher::strip::INCLUDE_LINE.into());
        table.remove("insert");
        table.insert("at".to_owned(), Value::Array(vec![nowhere.into()]));
        parse(table)
    }
}

fn parse(point: Table) -> Result<PointSet> {
    let mut file = Table::new();
    file.insert("point".to_owned(), Value::Array(vec![point.into()]));
    Ok(PointSet::parse([("point.toml", toml::to_string(&file)?)])?)
}
