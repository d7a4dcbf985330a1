//! A part of work that is split among machines.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::error::SearchError;

/// Part `index` of `count`, written `I/N`.
///
/// Work items are numbered from 0, and the part holds those that leave `index` when divided by `count`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Shard {
    index: usize,
    count: usize,
}

impl Shard {
    /// All of it.
    pub const WHOLE: Self = Self { index: 0, count: 1 };

    /// Whether the part holds a work item.
    pub fn holds(self, item: usize) -> bool {
        item % self.count.max(1) == self.index
    }

    /// Whether the work is not split.
    pub fn is_whole(self) -> bool {
        self.count <= 1
    }

    /// Number of parts.
    pub fn count(self) -> usize {
        self.count.max(1)
    }

    /// Every part of the same split.
    pub fn all(self) -> impl Iterator<Item = Self> {
        let count = self.count();
        (0..count).map(move |index| Self { index, count })
    }
}

impl fmt::Display for Shard {
    /// Counts from 1, as job runners mostly do.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index + 1, self.count)
    }
}

impl From<Shard> for String {
    fn from(shard: Shard) -> Self {
        shard.to_string()
    }
}

impl TryFrom<String> for Shard {
    type Error = SearchError;

    fn try_from(text: String) -> Result<Self, SearchError> {
        text.parse()
    }
}

impl FromStr for Shard {
    type Err = SearchError;

    /// `1/N` to `N/N`; `0/N` is `N/N`, so that job runners that count from 0 need no arithmetic.
    fn from_str(text: &str) -> Result<Self, SearchError> {
        let wrong = || SearchError::Spelling {
            what: "shard",
            text: text.to_owned(),
            reason: "expected I/N with I from 1 to N, for example 2/4".to_owned(),
        };
        let (index, count) = text.split_once('/').ok_or_else(wrong)?;
        let parse = |part: &str| part.trim().parse::<usize>().map_err(|_error| wrong());
        let (index, count) = (parse(index)?, parse(count)?);
        if count == 0 || count > 1_000_000 || index > count {
            return Err(wrong());
        }
        let index = if index == 0 { count - 1 } else { index - 1 };
        Ok(Self { index, count })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_share_all_items_out() {
        let parts = ["1/3", "2/3", "0/3"].map(|text| text.parse::<Shard>().unwrap());
        for item in 0..10 {
            let holders = parts.iter().filter(|part| part.holds(item)).count();
            assert_eq!(holders, 1, "{item}");
        }
        assert_eq!(parts[2].to_string(), "3/3");
        assert!((0..10).all(|item| Shard::WHOLE.holds(item)));
    }

    #[test]
    fn wrong_parts_are_refused() {
        for text in ["", "1", "4/3", "0/0", "a/3", "-1/3"] {
            let message = text.parse::<Shard>().unwrap_err().to_string();
            assert!(message.contains("I/N"), "{message}");
        }
    }
}
