//! Figures as tables of comma-separated values (RFC 4180), numbers in full.

use super::figure::{CellMap, Content, Figure, Plot, Series, Shape};

impl Figure {
    /// The data of the figure; the first line names the columns with their units.
    ///
    /// A plot has one line for each point, bar or mark, whatever part of it is shown; a map has one
    /// line for each row. Lines end in `\n`.
    pub fn to_csv(&self) -> String {
        match &self.content {
            Content::Plot(plot) => plot_table(plot),
            Content::Map(map) => map_table(map),
        }
    }
}

/// One element of a series; an end that it does not have is `None`.
#[derive(Default)]
struct Element<'a> {
    name: Option<&'a str>,
    x: [Option<f64>; 2],
    y: [Option<f64>; 2],
}

fn plot_table(plot: &Plot) -> String {
    let all: Vec<(&Series, Vec<Element<'_>>)> = plot
        .series
        .iter()
        .map(|series| (series, elements(&series.shape)))
        .collect();
    let any = |has: fn(&Element<'_>) -> bool| all.iter().any(|(_, of)| of.iter().any(has));
    let (has_x_end, has_y_end) = (any(|e| e.x[1].is_some()), any(|e| e.y[1].is_some()));
    let has_names = any(|element| element.name.is_some());
    let places = !plot.x.names.is_empty();
    let (x, y) = (plot.x.text(), plot.y.text());
    let mut header = vec!["series".to_owned()];
    header.extend(has_names.then(|| "name".to_owned()));
    header.extend(places.then(|| plot.x.label.replace(" number", " name")));
    if has_x_end {
        header.extend([format!("{x} from"), format!("{x} to")]);
    } else {
        header.push(x);
    }
    if has_y_end {
        header.extend([format!("{y} from"), format!("{y} to")]);
    } else {
        header.push(y);
    }
    let mut table = line(&header);
    for (series, elements) in &all {
        for element in elements {
            let mut fields = vec![series.name.clone()];
            fields.extend(has_names.then(|| element.name.unwrap_or_default().to_owned()));
            if places {
                let name = element.x[0].and_then(|x| plot.x.name(x));
                fields.push(name.unwrap_or_default().to_owned());
            }
            fields.push(number(element.x[0]));
            fields.extend(has_x_end.then(|| number(element.x[1])));
            fields.push(number(element.y[0]));
            fields.extend(has_y_end.then(|| number(element.y[1])));
            table.push_str(&line(&fields));
        }
    }
    table
}

fn elements(shape: &Shape) -> Vec<Element<'_>> {
    let point = |[x, y]: [f64; 2]| Element {
        x: [Some(x), None],
        y: [Some(y), None],
        name: None,
    };
    match shape {
        Shape::Line { points, .. } => points.iter().copied().map(point).collect(),
        Shape::Points { points, names, .. } => {
            let names = names.iter().map(|name| Some(name.as_str()));
            points
                .iter()
                .zip(names.chain(std::iter::repeat(None)))
                .map(|(at, name)| Element { name, ..point(*at) })
                .collect()
        }
        Shape::Bars(bars) => bars
            .iter()
            .map(|bar| Element {
                name: None,
                x: bar.x.map(Some),
                y: bar.y.map(Some),
            })
            .collect(),
        Shape::Band(band) => band
            .iter()
            .map(|interval| Element {
                name: None,
                x: [Some(interval.x), None],
                y: interval.y.map(Some),
            })
            .collect(),
        Shape::Level(y) => vec![Element {
            y: [Some(*y), None],
            ..Element::default()
        }],
        Shape::Uprights(xs) => xs
            .iter()
            .map(|x| Element {
                x: [Some(*x), None],
                ..Element::default()
            })
            .collect(),
        Shape::Ends(ends) | Shape::Span(ends) => vec![Element {
            x: ends.map(Some),
            ..Element::default()
        }],
    }
}

fn map_table(map: &CellMap) -> String {
    let mut header = vec![map.rows.text()];
    let value = map.value.text();
    let columns = map.columns.names.iter();
    header.extend(columns.map(|name| format!("{name}: {value}")));
    let mut table = line(&header);
    let rows = map.cells.chunks(map.columns.names.len().max(1));
    for (name, cells) in map.rows.names.iter().zip(rows) {
        let mut fields = vec![name.clone()];
        fields.extend(cells.iter().map(|cell| number(cell.value)));
        table.push_str(&line(&fields));
    }
    table
}

/// A number in full, so that reading it gives the same one; nothing for what is not there.
fn number(value: Option<f64>) -> String {
    match value {
        Some(value) if value.is_nan() => String::new(),
        Some(value) if value.is_infinite() => if value > 0.0 { "inf" } else { "-inf" }.to_owned(),
        // Whole numbers have no exponent and no point.
        Some(value) => format!("{value}"),
        None => String::new(),
    }
}

fn line(fields: &[String]) -> String {
    let fields: Vec<String> = fields.iter().map(|field| quoted(field)).collect();
    fields.join(",") + "\n"
}

/// A field, in quotes where it has to be.
fn quoted(field: &str) -> String {
    if field.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}
