//! Pictures named by a table `file,label[,name…]`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Component, Path},
};

use super::{
    DataError, Dataset, DatasetKind, Sample, Skipped,
    dataset::{read_classes, unrecognised},
    folder::{Folder, picture_reason},
};

/// Class indices at or beyond this are refused, so that a typing error cannot ask for gigabytes of class names.
pub(super) const CLASSES_MAX: u32 = 1_000_000;

/// One row of the table.
struct Row {
    line: usize,
    file: String,
    label: String,
    name: String,
}

pub(super) fn open(root: &Path, top: &Folder) -> Result<Dataset, DataError> {
    let path = root.join("labels.csv");
    let bytes = fs::read(&path).map_err(|source| DataError::Io {
        action: "read the labels",
        path: path.clone(),
        source,
    })?;
    let fail = |(line, reason)| DataError::Csv {
        path: path.clone(),
        line,
        reason,
    };
    let text = String::from_utf8(bytes).map_err(|e| {
        let line = e
            .as_bytes()
            .iter()
            .take(e.utf8_error().valid_up_to())
            .filter(|&&b| b == b'\n')
            .count()
            + 1;
        fail((
            line,
            "it is not valid UTF-8. Save the table again as UTF-8".to_owned(),
        ))
    })?;
    let table = Table::parse(&text).map_err(fail)?;
    let (labels, classes) = table.labels(read_classes(root, top)?).map_err(fail)?;
    let (samples, skipped) = find_files(root, &table.rows, &labels, table.skipped);
    if samples.is_empty() {
        let first = skipped.first().map_or_else(String::new, |s| {
            format!(" First: {:?}, {}.", s.file, s.reason)
        });
        let remedy = format!(
            "labels.csv names no picture that is there ({} rows).{first} Paths are relative to this folder.",
            table.rows.len()
        );
        return Err(unrecognised(root, top, &remedy));
    }
    Ok(Dataset::new(
        root,
        DatasetKind::LabelsCsv,
        samples,
        classes,
        skipped,
    ))
}

/// The rows whose file is there, once each.
fn find_files(
    root: &Path,
    rows: &[Row],
    labels: &[Option<u32>],
    mut skipped: Vec<Skipped>,
) -> (Vec<Sample>, Vec<Skipped>) {
    let mut samples = Vec::new();
    let mut seen = BTreeSet::new();
    for (row, &label) in rows.iter().zip(labels) {
        match find_file(root, &row.file) {
            Ok((name, _)) if !seen.insert(name.clone()) => {
                skipped.push(Skipped {
                    file: name,
                    reason: format!("named again in line {} of labels.csv", row.line),
                });
            }
            Ok((name, size_bytes)) => samples.push(Sample {
                name,
                label,
                size_bytes,
            }),
            Err(reason) => skipped.push(Skipped {
                file: row.file.clone(),
                reason,
            }),
        }
    }
    (samples, skipped)
}

/// The plain relative name and the size of a file of the table, or why it cannot be used.
fn find_file(root: &Path, given: &str) -> Result<(String, u64), String> {
    let name = match relative_name(given) {
        Some(name) if root.join(&name).is_file() => name,
        // Tables written on Windows; a backslash can be part of a name elsewhere, hence only as a second try.
        first => relative_name(&given.replace('\\', "/"))
            .filter(|name| first.is_none() || root.join(name).is_file())
            .or(first)
            .ok_or("the path leads out of the dataset's folder; expected one relative to it")?,
    };
    picture_reason(&name)?;
    match fs::metadata(root.join(&name)) {
        Ok(metadata) if metadata.is_file() => Ok((name, metadata.len())),
        Ok(_) => Err("not a regular file".to_owned()),
        Err(e) => Err(format!("named in labels.csv, but it cannot be opened: {e}")),
    }
}

/// The path without `.` parts; `None` if it is absolute, empty or uses `..`.
fn relative_name(given: &str) -> Option<String> {
    let mut parts = Vec::new();
    for component in Path::new(given).components() {
        match component {
            Component::Normal(part) => parts.push(part.to_str()?),
            Component::CurDir => {}
            _ => return None,
        }
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}

/// Class index of each row, and the class names.
type Labels = (Vec<Option<u32>>, Vec<String>);

struct Table {
    rows: Vec<Row>,
    skipped: Vec<Skipped>,
}

impl Table {
    /// Errors carry the line.
    fn parse(text: &str) -> Result<Self, (usize, String)> {
        let mut records = records(text.strip_prefix('\u{feff}').unwrap_or(text))?.into_iter();
        let header = records.next().map(|(_, fields)| fields).unwrap_or_default();
        let column = |name: &str| {
            header
                .iter()
                .position(|field| field.trim().eq_ignore_ascii_case(name))
        };
        let (Some(file), Some(label)) = (column("file"), column("label")) else {
            return Err((
                1,
                format!(
                    "its header is {:?}; expected file,label or file,label,name",
                    header.join(",")
                ),
            ));
        };
        let name = column("name");
        let mut table = Self {
            rows: Vec::new(),
            skipped: Vec::new(),
        };
        for (line, fields) in records {
            let field = |column: usize| fields.get(column).map(|field| field.trim().to_owned());
            match (field(file), field(label)) {
                (Some(file), Some(label)) if !file.is_empty() => {
                    let name = name.and_then(field).unwrap_or_default();
                    table.rows.push(Row {
                        line,
                        file,
                        label,
                        name,
                    });
                }
                _ => table.skipped.push(Skipped {
                    file: format!("labels.csv:{line}"),
                    reason: "the line has no file or no label".to_owned(),
                }),
            }
        }
        Ok(table)
    }

    /// Class index of each row and the class names.
    ///
    /// If every label is an integer they are indices, else all are class names, sorted. An empty label is none.
    fn labels(&self, named: Option<Vec<String>>) -> Result<Labels, (usize, String)> {
        let given: Vec<&Row> = self
            .rows
            .iter()
            .filter(|row| !row.label.is_empty())
            .collect();
        if given.iter().all(|row| row.label.parse::<i128>().is_ok()) {
            return self.indices(named);
        }
        let mut classes: Vec<String> = given.iter().map(|row| row.label.clone()).collect();
        classes.sort();
        classes.dedup();
        if let Some(named) = named.filter(|named| classes.iter().all(|class| named.contains(class)))
        {
            classes = named;
        }
        let index: BTreeMap<&str, u32> = classes
            .iter()
            .enumerate()
            .map(|(i, c)| (c.as_str(), i as u32))
            .collect();
        let labels = self
            .rows
            .iter()
            .map(|row| index.get(row.label.as_str()).copied())
            .collect();
        Ok((labels, classes))
    }

    fn indices(&self, named: Option<Vec<String>>) -> Result<Labels, (usize, String)> {
        let mut names: BTreeMap<u32, &str> = BTreeMap::new();
        let mut labels = Vec::with_capacity(self.rows.len());
        for row in &self.rows {
            if row.label.is_empty() {
                labels.push(None);
                continue;
            }
            let label = row
                .label
                .parse()
                .ok()
                .filter(|&label: &u32| label < CLASSES_MAX)
                .ok_or_else(|| {
                    (
                        row.line,
                        format!(
                            "label {:?}; expected a class index from 0 to {}",
                            row.label,
                            CLASSES_MAX - 1
                        ),
                    )
                })?;
            if !row.name.is_empty() {
                names.entry(label).or_insert(&row.name);
            }
            labels.push(Some(label));
        }
        let classes = match (named, names.is_empty()) {
            (Some(named), _) => named,
            (None, true) => Vec::new(),
            (None, false) => {
                let count = labels.iter().flatten().max().map_or(0, |&label| label + 1);
                (0..count)
                    .map(|label| {
                        names
                            .get(&label)
                            .map_or_else(|| label.to_string(), |n| (*n).to_owned())
                    })
                    .collect()
            }
        };
        Ok((labels, classes))
    }
}

/// The line a record begins on, and its fields.
type Record = (usize, Vec<String>);

/// Splits a table into records with the line each begins on, after RFC 4180; empty lines are left out.
///
/// A field in quotes may hold commas, line ends and doubled quotes; lines end with LF or CR LF.
fn records(text: &str) -> Result<Vec<Record>, (usize, String)> {
    let mut records = Vec::new();
    let mut record = Vec::new();
    let mut field = String::new();
    let (mut line, mut record_line) = (1, 1);
    let mut chars = text.chars().peekable();
    let mut end_record = |record: &mut Vec<String>, line: usize| {
        let fields = std::mem::take(record);
        if fields.iter().any(|field| !field.trim().is_empty()) {
            records.push((line, fields));
        }
    };
    while let Some(c) = chars.next() {
        match c {
            '"' if field.trim().is_empty() => {
                field.clear();
                line += quoted_field(&mut chars, &mut field)
                    .ok_or_else(|| (line, "a quote is opened and never closed".to_owned()))?;
            }
            ',' => record.push(std::mem::take(&mut field)),
            '\r' if chars.peek() == Some(&'\n') => {}
            '\n' | '\r' => {
                record.push(std::mem::take(&mut field));
                end_record(&mut record, record_line);
                line += 1;
                record_line = line;
            }
            other => field.push(other),
        }
    }
    record.push(field);
    end_record(&mut record, record_line);
    Ok(records)
}

/// Reads up to the closing quote and gives the number of line ends inside; `None` if it does not close.
fn quoted_field(
    chars: &mut std::iter::Peekable<std::str::Chars<'_>>,
    field: &mut String,
) -> Option<usize> {
    let mut line_ends = 0;
    loop {
        match chars.next()? {
            '"' if chars.peek() == Some(&'"') => {
                chars.next();
                field.push('"');
            }
            '"' => return Some(line_ends),
            c => {
                line_ends += usize::from(c == '\n');
                field.push(c);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> (Vec<(String, Option<u32>)>, Vec<String>) {
        let table = Table::parse(text).unwrap();
        let (labels, classes) = table.labels(None).unwrap();
        (
            table
                .rows
                .iter()
                .map(|row| row.file.clone())
                .zip(labels)
                .collect(),
            classes,
        )
    }

    #[test]
    fn spellings_of_tables() {
        let expected = (
            vec![
                ("a.png".to_owned(), Some(1)),
                ("b,c.png".to_owned(), Some(0)),
            ],
            Vec::new(),
        );
        for text in [
            "file,label\na.png,1\n\"b,c.png\",0\n",
            "\u{feff}file,label\r\na.png,1\r\n\"b,c.png\",0",
            "File , Label\n a.png , 1\n\n \"b,c.png\",0\n\n",
            "label,file,extra\n1,a.png,x\n0,\"b,c.png\"\n",
            "\"file\",\"label\"\n\"a.png\",\"1\"\n\"b,c.png\",\"0\"",
        ] {
            assert_eq!(parse(text), expected, "{text:?}");
        }
    }

    #[test]
    fn quotes_and_line_ends_inside_fields() {
        let records = records("a,\"say \"\"hi\"\"\nthere\",c\nd,e,f").unwrap();
        assert_eq!(
            records[0],
            (1, vec!["a".into(), "say \"hi\"\nthere".into(), "c".into()])
        );
        assert_eq!(
            records[1].0, 3,
            "the line number counts the line end inside the quotes"
        );
    }

    #[test]
    fn labels_are_indices_or_names() {
        type Case = (
            &'static str,
            &'static [Option<u32>],
            &'static [&'static str],
        );
        let cases: [Case; 6] = [
            ("file,label\na,3\nb,0", &[Some(3), Some(0)], &[]),
            (
                "file,label,name\na,2,cat\nb,0,dog\nc,2,other",
                &[Some(2), Some(0), Some(2)],
                &["dog", "1", "cat"],
            ),
            (
                "file,label\na,dog\nb,cat\nc,dog",
                &[Some(1), Some(0), Some(1)],
                &["cat", "dog"],
            ),
            ("file,label\na,dog\nb,7", &[Some(1), Some(0)], &["7", "dog"]),
            ("file,label\na,\nb,1", &[None, Some(1)], &[]),
            ("file,label\na,\nb,", &[None, None], &[]),
        ];
        for (text, labels, classes) in cases {
            let (rows, names) = parse(text);
            assert_eq!(
                rows.into_iter().map(|(_, label)| label).collect::<Vec<_>>(),
                labels,
                "{text:?}"
            );
            assert_eq!(names, classes, "{text:?}");
        }
    }

    #[test]
    fn bad_tables_name_the_line() {
        for (text, line, expected) in [
            ("", 1, "expected file,label"),
            ("picture;label\na;1", 1, "\"picture;label\""),
            ("file,label\na,1\nb,-1", 3, "label \"-1\""),
            ("file,label\na,1\nb,1000000", 3, "to 999999"),
            ("file,label\na,99999999999", 2, "99999999999"),
            ("file,label\n\n\"a,1\n", 3, "never closed"),
        ] {
            let error = Table::parse(text)
                .and_then(|table| table.labels(None))
                .unwrap_err();
            assert_eq!(error.0, line, "{text:?}");
            assert!(error.1.contains(expected), "{text:?}: {}", error.1);
        }
    }

    #[test]
    fn paths_stay_inside() {
        for (given, expected) in [
            ("a/b.png", Some("a/b.png")),
            ("./a//b.png", Some("a/b.png")),
            ("../b.png", None),
            ("a/../b.png", None),
            ("/etc/b.png", None),
            ("", None),
        ] {
            assert_eq!(relative_name(given).as_deref(), expected, "{given:?}");
        }
    }

    #[test]
    fn names_from_classes_txt_fix_the_order() {
        let table = Table::parse("file,label\na,dog\nb,cat").unwrap();
        let named = |names: &[&str]| Some(names.iter().map(|n| (*n).to_owned()).collect());
        let (labels, classes) = table.labels(named(&["dog", "bird", "cat"])).unwrap();
        assert_eq!((labels, classes.len()), (vec![Some(0), Some(2)], 3));
        let (labels, classes) = table.labels(named(&["dog"])).unwrap();
        assert_eq!(
            (labels, classes),
            (
                vec![Some(1), Some(0)],
                vec!["cat".to_owned(), "dog".to_owned()]
            )
        );
    }
}
