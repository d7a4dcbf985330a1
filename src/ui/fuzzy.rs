//! Finding a name by some of its letters.

/// How well a name fits, and which of its characters were typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FuzzyMatch {
    /// Higher is better.
    pub(crate) score: i32,
    /// Places of the typed characters, counted in characters, ascending.
    pub(crate) places: Vec<usize>,
}

/// Looks for the characters of `query` in `name`, in their order but not side by side; case and
/// spaces of the query do not count. `None` if they are not all there.
///
/// Of all ways to find them the best is taken: letters side by side and at the beginnings of words
/// count more, letters far from the beginning count less.
pub(crate) fn fuzzy_match(query: &str, name: &str) -> Option<FuzzyMatch> {
    let query: Vec<char> = query
        .chars()
        .filter(|letter| !letter.is_whitespace())
        .map(lower)
        .collect();
    let name: Vec<char> = name.chars().map(lower).collect();
    if query.is_empty() {
        return Some(FuzzyMatch {
            score: 0,
            places: Vec::new(),
        });
    }
    // best[end] is the best way to find the letters so far with the last of them at `end`.
    let mut best: Vec<Option<FuzzyMatch>> = (0..name.len())
        .map(|end| {
            (name[end] == query[0]).then(|| FuzzyMatch {
                score: worth(&name, end) - end.min(8) as i32,
                places: vec![end],
            })
        })
        .collect();
    for letter in &query[1..] {
        best = (0..name.len())
            .map(|end| (name[end] == *letter).then(|| extended(&best, &name, end))?)
            .collect();
    }
    best.into_iter().flatten().max_by_key(|found| {
        (
            found.score,
            std::cmp::Reverse(found.places.first().copied()),
        )
    })
}

fn lower(letter: char) -> char {
    letter.to_lowercase().next().unwrap_or(letter)
}

/// What a letter at a place is worth: more at the beginning of a word.
fn worth(name: &[char], place: usize) -> i32 {
    let begins = place == 0 || !name[place - 1].is_alphanumeric();
    if begins { 10 } else { 1 }
}

/// The best of the earlier ways, with one more letter at `end`.
fn extended(best: &[Option<FuzzyMatch>], name: &[char], end: usize) -> Option<FuzzyMatch> {
    best[..end]
        .iter()
        .enumerate()
        .filter_map(|(before, found)| {
            let found = found.as_ref()?;
            let beside = if before + 1 == end { 12 } else { 0 };
            Some((found.score + beside, found))
        })
        .max_by_key(|(score, _)| *score)
        .map(|(score, found)| FuzzyMatch {
            score: score + worth(name, end),
            places: found.places.iter().copied().chain([end]).collect(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_found_where_they_mean_most() {
        for (query, name, places) in [
            ("rl", "Reset layout", Some(vec![0, 6])),
            ("lay", "Reset layout", Some(vec![6, 7, 8])),
            ("w8", "Preset W8A8", Some(vec![7, 8])),
            ("dark t", "Dark theme", Some(vec![0, 1, 2, 3, 5])),
            ("ÉT", "Été", Some(vec![0, 1])),
            ("", "Undo", Some(vec![])),
            ("xyz", "Undo", None),
            ("oo", "Undo", None),
        ] {
            let found = fuzzy_match(query, name).map(|found| found.places);
            assert_eq!(found, places, "{query} in {name}");
        }
    }

    #[test]
    fn a_name_that_begins_with_the_letters_comes_first() {
        let score = |name| fuzzy_match("un", name).unwrap().score;
        assert!(score("Undo") > score("Run"));
    }
}
