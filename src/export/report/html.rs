//! A page of HTML, part by part.

use std::fmt::Write as _;

use crate::figure::Figure;

const STYLE: &str = include_str!("style.css");

/// A page that is being written.
#[derive(Debug)]
pub(super) struct Page {
    text: String,
    figures: usize,
}

/// A cell of a table.
#[derive(Clone, Debug)]
pub(super) enum TableCell {
    /// Words, on the left.
    Words(String),
    /// A number, on the right.
    Number(String),
    /// A name that heads its row, and what is said below it in small.
    Head(String, String),
}

impl Page {
    /// The beginning of a page up to its title.
    pub(super) fn new(title: &str) -> Self {
        let title = escaped(title);
        let text = format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<meta name=\"generator\" content=\"Quantscope {}\">\n<title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n",
            env!("CARGO_PKG_VERSION")
        );
        Self { text, figures: 0 }
    }

    /// The whole page.
    pub(super) fn finish(mut self) -> String {
        self.text.push_str("</main>\n</body>\n</html>\n");
        self.text
    }

    fn put(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        self.text.write_fmt(text).ok();
    }

    /// A heading, which begins a section.
    pub(super) fn heading(&mut self, text: &str) {
        self.put(format_args!("<h2>{}</h2>\n", escaped(text)));
    }

    /// A paragraph.
    pub(super) fn paragraph(&mut self, text: &str) {
        self.put(format_args!("<p>{}</p>\n", escaped(text)));
    }

    /// What is to be copied as it stands.
    pub(super) fn code(&mut self, text: &str) {
        self.put(format_args!("<pre><code>{}</code></pre>\n", escaped(text)));
    }

    /// Large numbers: name, number, and what is said below.
    pub(super) fn numbers(&mut self, numbers: &[[String; 3]]) {
        self.text.push_str("<dl class=\"numbers\">\n");
        for [name, number, note] in numbers {
            let [name, number, note] = [name, number, note].map(|text| escaped(text));
            self.put(format_args!(
                "<div><dt>{name}</dt><dd><strong>{number}</strong><br><small>{note}</small></dd></div>\n"
            ));
        }
        self.text.push_str("</dl>\n");
    }

    /// Names with what they stand for.
    pub(super) fn facts(&mut self, facts: &[(&str, String)]) {
        self.text.push_str("<table class=\"facts\">\n<tbody>\n");
        for (name, value) in facts {
            self.put(format_args!(
                "<tr><th scope=\"row\">{}</th><td>{}</td></tr>\n",
                escaped(name),
                escaped(value)
            ));
        }
        self.text.push_str("</tbody>\n</table>\n");
    }

    /// A table with its caption and the heads of its columns.
    pub(super) fn table(&mut self, caption: &str, heads: &[&str], rows: &[Vec<TableCell>]) {
        self.put(format_args!(
            "<table>\n<caption>{}</caption>\n<thead>\n<tr>",
            escaped(caption)
        ));
        for (at, head) in heads.iter().enumerate() {
            let first = rows.first().and_then(|row| row.get(at));
            let class = match first {
                Some(TableCell::Number(_)) => " class=\"number\"",
                _ => "",
            };
            self.put(format_args!(
                "<th scope=\"col\"{class}>{}</th>",
                escaped(head)
            ));
        }
        self.text.push_str("</tr>\n</thead>\n<tbody>\n");
        for row in rows {
            self.text.push_str("<tr>");
            for cell in row {
                self.cell(cell);
            }
            self.text.push_str("</tr>\n");
        }
        self.text.push_str("</tbody>\n</table>\n");
    }

    fn cell(&mut self, cell: &TableCell) {
        match cell {
            TableCell::Words(text) => self.put(format_args!("<td>{}</td>", escaped(text))),
            TableCell::Number(text) => {
                self.put(format_args!("<td class=\"number\">{}</td>", escaped(text)));
            }
            TableCell::Head(name, below) => self.put(format_args!(
                "<th scope=\"row\">{}<br><small>{}</small></th>",
                escaped(name),
                escaped(below)
            )),
        }
    }

    /// A figure with its caption below.
    pub(super) fn figure(&mut self, figure: &Figure, caption: &str) {
        self.figures += 1;
        let svg = figure.to_inline_svg(&format!("figure-{}-", self.figures));
        let number = self.figures;
        self.put(format_args!(
            "<figure>\n{svg}<figcaption>Figure {number}. {}</figcaption>\n</figure>\n",
            escaped(caption)
        ));
    }
}

/// Text as it may stand in HTML, between tags and in quotes.
pub(super) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\0' => escaped.push('\u{fffd}'),
            letter => escaped.push(letter),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_from_files_stays_text() {
        let evil = "<script>alert(\"'&\")</script>";
        let mut page = Page::new(evil);
        page.heading(evil);
        page.paragraph(evil);
        page.code(evil);
        page.numbers(&[[evil, evil, evil].map(str::to_owned)]);
        page.facts(&[("name", evil.to_owned())]);
        let head = TableCell::Head(evil.to_owned(), evil.to_owned());
        page.table(evil, &["layer"], &[vec![head]]);
        let text = page.finish();
        assert!(!text.contains("<script"), "{text}");
        assert_eq!(
            text.matches("&lt;script&gt;alert(&quot;&#39;&amp;&quot;)")
                .count(),
            12
        );
    }
}
