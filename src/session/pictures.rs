//! Pictures of evaluation samples, decoded in the background and kept in bounded memory.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::error::SessionError;
use super::open_data::OpenData;
use super::session::Session;
use crate::data::Thumbnail;
use crate::engine::RunError;
use crate::jobs::{CancelToken, JobError};

/// Longest side of a thumbnail in pixels.
const THUMBNAIL_SIDE: u32 = 128;
/// Longest side of a picture that is shown large, in pixels.
const PICTURE_SIDE: u32 = 1024;
/// Thumbnails are kept up to this many bytes, about 700 of the largest.
const THUMBNAIL_BYTES: usize = 48 << 20;
/// Large pictures are kept up to this many bytes.
const PICTURE_BYTES: usize = 32 << 20;
/// Samples that wait to be decoded; more were scrolled past.
const WAITING: usize = 256;
/// A job ends after this time, so that its pictures are seen.
const JOB_TIME: Duration = Duration::from_millis(40);

/// Whether a picture is small or as large as the network's input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PictureSize {
    Small,
    Large,
}

/// A picture, or why there is none.
type Decoded = Result<Thumbnail, String>;

/// What one job decoded.
#[derive(Debug)]
pub(super) struct DecodedPictures {
    size: PictureSize,
    pictures: Vec<(usize, Decoded)>,
}

/// The pictures of the open data.
#[derive(Debug)]
pub(super) struct Pictures {
    small: Shelf,
    large: Shelf,
}

impl Default for Pictures {
    fn default() -> Self {
        Self {
            small: Shelf::new(THUMBNAIL_BYTES),
            large: Shelf::new(PICTURE_BYTES),
        }
    }
}

impl Pictures {
    fn shelf(&mut self, size: PictureSize) -> &mut Shelf {
        match size {
            PictureSize::Small => &mut self.small,
            PictureSize::Large => &mut self.large,
        }
    }
}

/// Pictures of one size.
#[derive(Debug)]
struct Shelf {
    budget_bytes: usize,
    used_bytes: usize,
    held: BTreeMap<usize, Held>,
    /// Samples to decode, the most urgent last.
    waiting: Vec<usize>,
    /// Samples that a job decodes now.
    in_work: Vec<usize>,
    /// Counts the requests.
    clock: u64,
}

#[derive(Debug)]
struct Held {
    picture: Decoded,
    /// The request in which it was wanted last.
    wanted: u64,
}

impl Held {
    fn bytes(&self) -> usize {
        let content = match &self.picture {
            Ok(picture) => picture.rgba.len(),
            Err(reason) => reason.len(),
        };
        content + size_of::<Self>()
    }
}

impl Shelf {
    fn new(budget_bytes: usize) -> Self {
        Self {
            budget_bytes,
            used_bytes: 0,
            held: BTreeMap::new(),
            waiting: Vec::new(),
            in_work: Vec::new(),
            clock: 0,
        }
    }

    /// Puts samples in front of what waits, the first of them to be decoded first.
    fn want(&mut self, samples: &[usize]) {
        self.clock += 1;
        for sample in samples {
            if let Some(held) = self.held.get_mut(sample) {
                held.wanted = self.clock;
            }
        }
        self.waiting.retain(|other| !samples.contains(other));
        let missing = samples
            .iter()
            .filter(|sample| !self.held.contains_key(sample) && !self.in_work.contains(sample));
        self.waiting.extend(missing.rev());
        let too_many = self.waiting.len().saturating_sub(WAITING);
        self.waiting.drain(..too_many);
    }

    /// Takes over what a job decoded; what it did not get to waits again.
    fn take_in(&mut self, pictures: Vec<(usize, Decoded)>) {
        let left = std::mem::take(&mut self.in_work);
        for (sample, picture) in pictures {
            let held = Held {
                picture,
                wanted: self.clock,
            };
            self.used_bytes += held.bytes();
            if let Some(old) = self.held.insert(sample, held) {
                self.used_bytes -= old.bytes();
            }
        }
        let missing = left.iter().rev().filter(|s| !self.held.contains_key(s));
        self.waiting.extend(missing);
        self.make_room();
    }

    /// Lets go of what was wanted longest ago.
    fn make_room(&mut self) {
        if self.used_bytes <= self.budget_bytes {
            return;
        }
        let mut by_age: Vec<(u64, usize)> = self
            .held
            .iter()
            .map(|(sample, held)| (held.wanted, *sample))
            .collect();
        by_age.sort_unstable();
        for (wanted, sample) in by_age {
            // What was asked for last is on the screen now.
            if self.used_bytes <= self.budget_bytes || wanted == self.clock {
                break;
            }
            if let Some(old) = self.held.remove(&sample) {
                self.used_bytes -= old.bytes();
            }
        }
    }

    fn picture(&self, sample: usize) -> Option<&Thumbnail> {
        self.held.get(&sample)?.picture.as_ref().ok()
    }
}

impl Session {
    /// A thumbnail of an evaluation sample as the network sees it, once it is decoded.
    ///
    /// [`super::Action::WantThumbnails`] asks for it. At most 128 pixels a side.
    pub fn thumbnail(&self, sample: usize) -> Option<&Thumbnail> {
        self.pictures.small.picture(sample)
    }

    /// An evaluation sample as the network sees it, once it is decoded; at most 1024 pixels a side.
    ///
    /// [`super::Action::WantPictures`] asks for it.
    pub fn picture(&self, sample: usize) -> Option<&Thumbnail> {
        self.pictures.large.picture(sample)
    }

    /// Why there is no picture of a sample; `None` if there is one, or it was not decoded yet.
    pub fn why_no_picture(&self, sample: usize) -> Option<&str> {
        [&self.pictures.small, &self.pictures.large]
            .into_iter()
            .find_map(|shelf| shelf.held.get(&sample)?.picture.as_ref().err())
            .map(String::as_str)
    }

    pub(super) fn want_pictures(&mut self, samples: &[usize], size: PictureSize) {
        if self.data.is_some() {
            self.pictures.shelf(size).want(samples);
            self.decode_next();
        }
    }

    /// Forgets all pictures, which belong to data that is closed.
    pub(super) fn forget_pictures(&mut self) {
        self.jobs.pictures.clear();
        self.pictures = Pictures::default();
    }

    pub(super) fn poll_pictures(&mut self) -> bool {
        let Some(outcome) = self.jobs.pictures.outcome() else {
            return false;
        };
        match outcome {
            Ok(decoded) => self.pictures.shelf(decoded.size).take_in(decoded.pictures),
            Err(error) => self.give_up_pictures(&error),
        }
        self.decode_next();
        true
    }

    /// What a failed job was to decode is not tried again.
    fn give_up_pictures(&mut self, error: &JobError) {
        for size in [PictureSize::Small, PictureSize::Large] {
            let shelf = self.pictures.shelf(size);
            let failed = shelf.in_work.iter();
            let failed = failed.map(|sample| (*sample, Err(error.to_string())));
            let failed = failed.collect();
            shelf.take_in(failed);
        }
    }

    fn decode_next(&mut self) {
        let Some(data) = self.data.clone() else {
            return;
        };
        if self.jobs.pictures.is_running() {
            return;
        }
        let size = if self.pictures.large.waiting.is_empty() {
            PictureSize::Small
        } else {
            PictureSize::Large
        };
        let shelf = self.pictures.shelf(size);
        let at = shelf.waiting.len().saturating_sub(64);
        let mut samples = shelf.waiting.split_off(at);
        if samples.is_empty() {
            return;
        }
        samples.reverse();
        shelf.in_work.clone_from(&samples);
        self.jobs.pictures.start(&self.wake, move |context| {
            decode(&data, size, &samples, &context.cancel)
        });
    }
}

/// Decodes samples in order until the time of a job is over, one at least.
fn decode(
    data: &OpenData,
    size: PictureSize,
    samples: &[usize],
    cancel: &CancelToken,
) -> Result<DecodedPictures, SessionError> {
    let side = match size {
        PictureSize::Small => THUMBNAIL_SIDE,
        PictureSize::Large => PICTURE_SIDE,
    };
    let started = Instant::now();
    let mut pictures = Vec::new();
    for &sample in samples {
        cancel.check().map_err(RunError::from)?;
        let picture = data.evaluation.loader().thumbnail(sample, side);
        pictures.push((sample, picture.map_err(|error| error.to_string())));
        if started.elapsed() > JOB_TIME {
            break;
        }
    }
    Ok(DecodedPictures { size, pictures })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture() -> Thumbnail {
        Thumbnail {
            width: 16,
            height: 16,
            rgba: vec![0; 1024],
        }
    }

    fn held(shelf: &Shelf) -> Vec<usize> {
        shelf.held.keys().copied().collect()
    }

    #[test]
    fn what_was_wanted_longest_ago_goes_first() {
        let mut shelf = Shelf::new(4 * 1200);
        for samples in [[0, 1], [2, 3], [0, 4]] {
            shelf.want(&samples);
            let new = samples.iter().filter(|s| !shelf.held.contains_key(s));
            let new = new.map(|sample| (*sample, Ok(picture()))).collect();
            shelf.take_in(new);
        }
        assert_eq!(held(&shelf), [0, 2, 3, 4], "1 is the oldest");
        assert!(shelf.used_bytes <= shelf.budget_bytes);
    }

    #[test]
    fn what_is_on_the_screen_stays_even_beyond_the_budget() {
        let mut shelf = Shelf::new(1200);
        shelf.want(&[5, 6, 7]);
        shelf.take_in([5, 6, 7].map(|sample| (sample, Ok(picture()))).to_vec());
        assert_eq!(held(&shelf), [5, 6, 7]);
    }

    #[test]
    fn the_newest_request_is_decoded_first_and_in_its_order() {
        let mut shelf = Shelf::new(1 << 20);
        shelf.want(&[1, 2, 3]);
        shelf.want(&[9, 2]);
        let order: Vec<usize> = shelf.waiting.iter().rev().copied().collect();
        assert_eq!(order, [9, 2, 1, 3]);
        shelf.in_work = shelf.waiting.split_off(2);
        shelf.take_in(vec![(9, Ok(picture()))]);
        let order: Vec<usize> = shelf.waiting.iter().rev().copied().collect();
        assert_eq!(order, [2, 1, 3], "what the job did not get to waits again");
    }
}
