//! Figures on paper and in tables: what is written, not how it looks.

use std::sync::Arc;

use quantscope::figure::{
    Axis, Bar, Cell, CellMap, Content, Figure, FigureFormat, Ink, Interval, Marker, Plot, Ramp,
    Scale, Series, Shape,
};

/// Names that have to be escaped in both kinds of files.
const AWKWARD: [&str; 3] = ["conv<1> & \"co\"", "a,b", "plain"];

fn names() -> Arc<[String]> {
    AWKWARD.map(str::to_owned).into()
}

fn series(name: &str, shape: Shape) -> Series {
    Series {
        name: name.to_owned(),
        ink: Ink::Series(0),
        shape,
    }
}

fn plot(series: Vec<Series>) -> Figure {
    Figure {
        title: "Error of <layers> & more".to_owned(),
        note: "on 8 samples".to_owned(),
        content: Content::Plot(Plot {
            x: Axis::new("layer number", "").with_names(names()),
            y: Axis::new("SQNR", "dB").including([0.0]),
            series,
        }),
    }
}

/// One series of every shape.
fn all_shapes() -> Figure {
    plot(vec![
        series(
            "line",
            Shape::Line {
                points: vec![[0.0, 10.5], [1.0, f64::NAN], [2.0, 30.0]],
                marker: Some(Marker::Square),
            },
        ),
        series(
            "points",
            Shape::Points {
                points: vec![[1.0, 5.0]],
                marker: Marker::Diamond,
                names: vec!["best plan".to_owned()],
                labelled: vec![0],
            },
        ),
        series(
            "bars",
            Shape::Bars(vec![
                Bar {
                    x: [0.0, 1.0],
                    y: [0.0, 7.0],
                },
                Bar {
                    x: [1.0, 2.0],
                    y: [2.0, 3.0],
                },
            ]),
        ),
        series(
            "band",
            Shape::Band(vec![
                Interval {
                    x: 0.0,
                    y: [1.0, 2.0],
                },
                Interval {
                    x: 2.0,
                    y: [2.0, 4.0],
                },
            ]),
        ),
        series("level", Shape::Level(20.0)),
        series("grid", Shape::Uprights(vec![0.5, 1.5, 1.75])),
        series("ends", Shape::Ends([0.25, 1.25])),
        series("clip", Shape::Span([0.0, 2.0])),
    ])
}

fn map() -> Figure {
    let value = |index: usize| (index != 4).then_some(index as f64);
    Figure {
        title: "Local SQNR".to_owned(),
        note: String::new(),
        content: Content::Map(CellMap {
            rows: Axis::new("layer", "").with_names(names()),
            columns: Axis::new("width", "")
                .with_names(["8 bits", "4 bits"].map(str::to_owned).into()),
            value: Axis::new("local SQNR", "dB"),
            cells: (0..6)
                .map(|index| Cell {
                    value: value(index),
                    text: value(index)
                        .map(|value| value.to_string())
                        .unwrap_or_default(),
                    shade: index as f64 / 6.0,
                    framed: index == 2,
                })
                .collect(),
            ramp: Ramp::Sequential,
            ends: ["worse", "better"].map(str::to_owned),
            framed: "width of the plan".to_owned(),
        }),
    }
}

/// Names of all elements and their texts; fails where the document is not well formed.
#[track_caller]
fn parsed(svg: &str) -> (Vec<String>, Vec<String>) {
    let mut open: Vec<String> = Vec::new();
    let (mut elements, mut texts) = (Vec::new(), Vec::new());
    for piece in svg.split('<').skip(1) {
        let (tag, text) = piece.split_once('>').unwrap();
        assert!(!text.contains('>'), "{piece}");
        assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
        if let Some(closed) = tag.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(closed));
        } else {
            let name = tag.split([' ', '/']).next().unwrap().to_owned();
            if !tag.ends_with('/') {
                open.push(name.clone());
            }
            elements.push(name);
            texts.push(text.trim().to_owned());
        }
    }
    assert!(open.is_empty(), "{open:?}");
    texts.retain(|text| !text.is_empty());
    (elements, texts)
}

/// The fields of every line of a table.
fn table(csv: &str) -> Vec<Vec<String>> {
    let (mut lines, mut line) = (Vec::new(), Vec::new());
    let (mut field, mut quoted) = (String::new(), false);
    let mut letters = csv.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' if quoted && letters.peek() == Some(&'"') => field.extend(letters.next()),
            '"' => quoted = !quoted,
            ',' if !quoted => line.push(std::mem::take(&mut field)),
            '\n' if !quoted => {
                line.push(std::mem::take(&mut field));
                lines.push(std::mem::take(&mut line));
            }
            letter => field.push(letter),
        }
    }
    assert!(line.is_empty() && field.is_empty(), "the last line ends");
    lines
}

#[test]
fn svg_is_well_formed_and_keeps_text_as_text() {
    let (elements, texts) = parsed(&all_shapes().to_svg());
    let count = |name: &str| elements.iter().filter(|element| *element == name).count();
    assert_eq!(count("svg"), 1);
    assert_eq!(count("title"), 1);
    assert_eq!(count("clipPath"), 1);
    // Two points and the legend's; the one without a value has no mark.
    assert_eq!(
        elements.iter().filter(|name| *name == "polygon").count(),
        3 + 2 + 1
    );
    for text in [
        "Error of &lt;layers&gt; &amp; more",
        "on 8 samples",
        "layer number",
        "SQNR in dB",
        "band",
        "best plan",
    ] {
        assert!(texts.iter().any(|shown| shown == text), "{text}: {texts:?}");
    }
}

#[test]
fn svg_of_a_map_names_rows_columns_and_values() {
    let (elements, texts) = parsed(&map().to_svg());
    for text in [
        "conv&lt;1&gt; &amp; &quot;co&quot;",
        "8 bits",
        "local SQNR in dB",
        "worse",
        "width of the plan",
        "5",
    ] {
        assert!(texts.iter().any(|shown| shown == text), "{text}: {texts:?}");
    }
    assert!(elements.iter().filter(|name| *name == "rect").count() > 6);
    assert!(!texts.iter().any(|text| text == "4"), "cell 4 has no value");
}

#[test]
fn what_lies_far_outside_the_shown_part_stays_finite() {
    let mut figure = all_shapes();
    if let Content::Plot(plot) = &mut figure.content {
        plot.x.range = Some([0.5, 0.5 + 1e-12]);
        plot.y.range = Some([1.0, 2.0]);
    }
    let svg = figure.to_svg();
    parsed(&svg);
    assert!(!svg.contains("NaN") && !svg.contains("inf"));
}

#[test]
fn a_plot_without_data_is_still_a_plot() {
    for figure in [
        plot(Vec::new()),
        plot(vec![series("level", Shape::Level(f64::NAN))]),
    ] {
        let svg = figure.to_svg();
        parsed(&svg);
        assert!(!svg.contains("NaN"), "{svg}");
        assert_eq!(&figure.to_png().unwrap()[1..4], b"PNG");
    }
}

#[test]
fn csv_has_a_line_for_every_element() {
    let lines = table(&all_shapes().to_csv());
    let header = [
        "series",
        "name",
        "layer name",
        "layer number from",
        "layer number to",
        "SQNR in dB from",
        "SQNR in dB to",
    ];
    assert_eq!(lines[0], header);
    assert_eq!(lines.len(), 1 + 3 + 1 + 2 + 2 + 1 + 3 + 1 + 1);
    assert!(lines.iter().all(|line| line.len() == header.len()));
    assert_eq!(lines[1], ["line", "", AWKWARD[0], "0", "", "10.5", ""]);
    assert_eq!(lines[2], ["line", "", AWKWARD[1], "1", "", "", ""]);
    assert_eq!(
        lines[4],
        ["points", "best plan", AWKWARD[1], "1", "", "5", ""]
    );
}

#[test]
fn csv_of_a_map_has_a_line_for_every_row() {
    let lines = table(&map().to_csv());
    assert_eq!(
        lines[0],
        [
            "layer",
            "8 bits: local SQNR in dB",
            "4 bits: local SQNR in dB"
        ]
    );
    assert_eq!(lines[1], [AWKWARD[0], "0", "1"]);
    assert_eq!(lines[3], [AWKWARD[2], "", "5"]);
    assert_eq!(lines.len(), 4);
}

#[test]
fn counts_keep_their_numbers_on_a_logarithmic_axis() {
    let mut figure = plot(vec![series(
        "bars",
        Shape::Bars(vec![Bar {
            x: [0.0, 1.0],
            y: [0.0, 12345.0],
        }]),
    )]);
    if let Content::Plot(plot) = &mut figure.content {
        plot.y = Axis {
            scale: Scale::LogCount,
            ..Axis::new("count", "")
        };
    }
    assert!(figure.to_csv().contains("12345"));
    let (_, texts) = parsed(&figure.to_svg());
    assert!(texts.iter().any(|text| text == "10 k"), "{texts:?}");
}

#[test]
fn png_is_a_white_picture_with_something_on_it() {
    for figure in [all_shapes(), map()] {
        let png = figure.encoded(FigureFormat::Png).unwrap();
        let picture = image::load_from_memory(&png).unwrap().into_rgb8();
        assert_eq!(picture.width(), 1520);
        assert_eq!(picture.get_pixel(0, 0).0, [255; 3]);
        let dark = picture.pixels().filter(|pixel| pixel.0[0] < 100).count();
        assert!(dark > 1000, "{dark} dark pixels");
    }
}
