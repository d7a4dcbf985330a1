//! Samples as `f32` batches.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rayon::prelude::*;

use super::{
    Channels, DataError, Dataset, NpyRows, Preprocess, Skipped, geometry, input_check,
    picture::{self, Pixels},
    resample,
};

/// Samples put together for the network.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// Elements in the order of `shape`; pictures as channels, rows, columns.
    pub data: Vec<f32>,
    /// Number of samples, then the shape of one.
    pub shape: Vec<usize>,
    /// Class index of each sample; `None` where it has no label.
    pub labels: Vec<Option<u32>>,
    /// Index in the dataset of each sample; shorter than asked for where files could not be read.
    pub samples: Vec<usize>,
}

impl Batch {
    /// Number of samples.
    pub fn len(&self) -> usize {
        self.samples.len()
    }

    /// Tells whether no sample could be read.
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }
}

/// A small picture for the screen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thumbnail {
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
    /// `height * width` pixels of red, green, blue and opaque alpha.
    pub rgba: Vec<u8>,
}

/// Reads samples of a dataset as a network takes them.
///
/// Pictures are decoded in parallel in the current rayon pool; batches do not depend on the number of its threads.
/// Decoded pictures are kept as 8-bit pixels until the given memory is used up; the first ones stay, since evaluation
/// goes through the samples in a circle, where keeping the latest would never help. One loader may serve many threads.
#[derive(Debug)]
pub struct Loader {
    dataset: Arc<Dataset>,
    preprocess: Preprocess,
    sample_shape: Vec<usize>,
    /// Height and width of the input; `None` for arrays.
    picture_size: Option<(u32, u32)>,
    /// For each channel of the input the number of each 8-bit value.
    tables: Vec<[f32; 256]>,
    cache: Mutex<Cache>,
    unreadable: Mutex<BTreeMap<usize, String>>,
}

#[derive(Debug)]
struct Cache {
    pictures: BTreeMap<usize, Arc<Pixels>>,
    free_bytes: usize,
}

impl Loader {
    /// Prepares reading for a network that takes `sample_shape` (without the batch axis).
    ///
    /// Pictures need `[channels, height, width]`; `preprocess` applies to them alone, arrays are taken as they are.
    /// `cache_budget_bytes` limits the memory for decoded pictures; 0 keeps none.
    ///
    /// # Errors
    /// [`DataError::Shape`] naming both shapes; [`DataError::Preprocess`] if `crop` or `resize` cannot give the size.
    pub fn new(
        dataset: Arc<Dataset>,
        preprocess: Preprocess,
        sample_shape: &[usize],
        cache_budget_bytes: usize,
    ) -> Result<Self, DataError> {
        let picture_size = match dataset.row_shape() {
            Some(row_shape) => {
                input_check::rows(row_shape, sample_shape)?;
                None
            }
            None => Some(input_check::pictures(&preprocess, sample_shape)?),
        };
        let tables = (0..preprocess.channels.count())
            .map(|channel| preprocess.table(channel))
            .collect();
        Ok(Self {
            dataset,
            preprocess,
            sample_shape: sample_shape.to_vec(),
            picture_size,
            tables,
            cache: Mutex::new(Cache {
                pictures: BTreeMap::new(),
                free_bytes: cache_budget_bytes,
            }),
            unreadable: Mutex::default(),
        })
    }

    /// The dataset that is read.
    pub fn dataset(&self) -> &Arc<Dataset> {
        &self.dataset
    }

    /// The preprocessing in use.
    pub fn preprocess(&self) -> &Preprocess {
        &self.preprocess
    }

    /// Shape of one sample, without the batch axis.
    pub fn sample_shape(&self) -> &[usize] {
        &self.sample_shape
    }

    /// What was left out so far: on opening the dataset, then unreadable files by sample.
    pub fn skipped(&self) -> Vec<Skipped> {
        let unreadable = lock(&self.unreadable);
        let found = unreadable.iter().filter_map(|(&index, reason)| {
            let sample = self.dataset.samples.get(index)?;
            Some(Skipped {
                file: sample.name.clone(),
                reason: reason.clone(),
            })
        });
        self.dataset.skipped.iter().cloned().chain(found).collect()
    }

    /// Reads the samples `indices` in the given order.
    ///
    /// Files that cannot be read are left out of the batch and noted in [`Self::skipped`], once.
    ///
    /// # Errors
    /// [`DataError::Index`] for a sample that does not exist; [`DataError::Io`] or [`DataError::Npy`] if an array can
    /// no longer be read.
    pub fn batch(&self, indices: &[usize]) -> Result<Batch, DataError> {
        let len = self.dataset.samples.len();
        if let Some(&index) = indices.iter().find(|&&index| index >= len) {
            return Err(DataError::Index { index, len });
        }
        let (data, samples) = match &self.dataset.rows {
            Some(rows) => (rows.read_f32(indices)?, indices.to_vec()),
            None => self.pictures(indices),
        };
        let labels = samples
            .iter()
            .map(|&i| self.dataset.samples.get(i).and_then(|sample| sample.label))
            .collect();
        let shape = [&[samples.len()], self.sample_shape.as_slice()].concat();
        Ok(Batch {
            data,
            shape,
            labels,
            samples,
        })
    }

    /// Sample `index` as the network sees it, scaled down to at most `side_max` pixels.
    ///
    /// Colours are shown in their natural order. An array of shape `[1 or 3, height, width]` is shown from its smallest
    /// to its largest value.
    ///
    /// # Errors
    /// [`DataError::Thumbnail`] if the file cannot be read or the array has another shape; [`DataError::Index`].
    pub fn thumbnail(&self, index: usize, side_max: u32) -> Result<Thumbnail, DataError> {
        let len = self.dataset.samples.len();
        let sample = self
            .dataset
            .samples
            .get(index)
            .ok_or(DataError::Index { index, len })?;
        let fail = |reason: String| DataError::Thumbnail {
            name: sample.name.clone(),
            reason,
        };
        let pixels = match &self.dataset.rows {
            Some(rows) => Arc::new(self.row_pixels(rows, index)?.ok_or_else(|| {
                fail(format!(
                    "its shape is {:?}; expected [1 or 3, height, width]",
                    self.sample_shape
                ))
            })?),
            None => self.pixels(index).map_err(fail)?,
        };
        Ok(shrink(&pixels, side_max))
    }

    /// All elements of the readable pictures, and which these are.
    fn pictures(&self, indices: &[usize]) -> (Vec<f32>, Vec<usize>) {
        let decoded: Vec<Option<Arc<Pixels>>> = indices
            .par_iter()
            .map(|&index| self.pixels(index).ok())
            .collect();
        let readable: Vec<(usize, Arc<Pixels>)> = indices
            .iter()
            .copied()
            .zip(decoded)
            .filter_map(|(index, pixels)| Some((index, pixels?)))
            .collect();
        let elements: usize = self.sample_shape.iter().product();
        let mut data = vec![0.0; elements * readable.len()];
        data.par_chunks_exact_mut(elements)
            .zip(&readable)
            .for_each(|(out, (_, pixels))| self.normalise(pixels, out));
        (data, readable.into_iter().map(|(index, _)| index).collect())
    }

    /// Interleaved 8-bit channels to planes of numbers.
    fn normalise(&self, pixels: &Pixels, out: &mut [f32]) {
        let plane = pixels.width as usize * pixels.height as usize;
        let reversed = self.preprocess.channels == Channels::Bgr;
        for (channel, (out, table)) in out.chunks_exact_mut(plane).zip(&self.tables).enumerate() {
            let number = |value: u8| table[usize::from(value)];
            let (triples, _) = pixels.data.as_chunks::<3>();
            match (
                pixels.channels,
                if reversed { 2 - channel } else { channel },
            ) {
                (1, _) => out
                    .iter_mut()
                    .zip(&pixels.data)
                    .for_each(|(x, &v)| *x = number(v)),
                (_, 0) => out
                    .iter_mut()
                    .zip(triples)
                    .for_each(|(x, &[v, _, _])| *x = number(v)),
                (_, 1) => out
                    .iter_mut()
                    .zip(triples)
                    .for_each(|(x, &[_, v, _])| *x = number(v)),
                (_, _) => out
                    .iter_mut()
                    .zip(triples)
                    .for_each(|(x, &[_, _, v])| *x = number(v)),
            }
        }
    }

    /// Pixels of a picture at the network's size, from the cache or decoded now; else why it is unreadable.
    fn pixels(&self, index: usize) -> Result<Arc<Pixels>, String> {
        if let Some(pixels) = lock(&self.cache).pictures.get(&index) {
            return Ok(Arc::clone(pixels));
        }
        if let Some(reason) = lock(&self.unreadable).get(&index) {
            return Err(reason.clone());
        }
        match self.decode(index) {
            Ok(pixels) => {
                let pixels = Arc::new(pixels);
                lock(&self.cache).keep(index, &pixels);
                Ok(pixels)
            }
            Err(reason) => {
                lock(&self.unreadable).insert(index, reason.clone());
                Err(reason)
            }
        }
    }

    fn decode(&self, index: usize) -> Result<Pixels, String> {
        let (Some(sample), Some((height, width))) =
            (self.dataset.samples.get(index), self.picture_size)
        else {
            return Err("it is not a picture".to_owned());
        };
        let gray = self.preprocess.channels.count() == 1;
        let decoded = picture::decode(&self.dataset.root.join(&sample.name), gray)?;
        if decoded.data.is_empty() {
            return Err("it has no pixels".to_owned());
        }
        Ok(geometry::apply(decoded, &self.preprocess, height, width))
    }

    /// A row of an array as grey or colour from its smallest to its largest finite value.
    fn row_pixels(&self, rows: &NpyRows, row: usize) -> Result<Option<Pixels>, DataError> {
        let &[channels @ (1 | 3), height, width] = self.sample_shape.as_slice() else {
            return Ok(None);
        };
        let values = rows.read_f32(&[row])?;
        let finite = || values.iter().copied().filter(|x| x.is_finite());
        let min = finite().fold(f32::INFINITY, f32::min);
        let range = finite().fold(f32::NEG_INFINITY, f32::max) - min;
        let byte = |x: f32| {
            if range > 0.0 {
                ((x - min) / range * 255.0).round() as u8
            } else {
                0
            }
        };
        let plane = height * width;
        let data = (0..values.len())
            .filter_map(|i| values.get(i % channels * plane + i / channels).copied())
            .map(byte)
            .collect();
        Ok(Some(Pixels {
            width: width as u32,
            height: height as u32,
            channels,
            data,
        }))
    }
}

impl Cache {
    fn keep(&mut self, index: usize, pixels: &Arc<Pixels>) {
        let bytes = pixels.data.len() + size_of::<Pixels>();
        if bytes <= self.free_bytes && !self.pictures.contains_key(&index) {
            self.free_bytes -= bytes;
            self.pictures.insert(index, Arc::clone(pixels));
        }
    }
}

fn lock<V>(mutex: &Mutex<V>) -> MutexGuard<'_, V> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Scales down to at most `side_max` and adds alpha.
fn shrink(pixels: &Pixels, side_max: u32) -> Thumbnail {
    let longest = pixels.width.max(pixels.height).max(1);
    let side = |length: u32| {
        let length = u64::from(length);
        if longest <= side_max {
            length
        } else {
            (length * u64::from(side_max) / u64::from(longest)).max(1)
        }
    };
    let (width, height) = (side(pixels.width), side(pixels.height));
    let small = resample::window(pixels, (width, height), 0..width, 0..height);
    let rgba = small
        .data
        .chunks_exact(small.channels)
        .flat_map(|pixel| match *pixel {
            [r, g, b] => [r, g, b, 255],
            [v, ..] => [v, v, v, 255],
            [] => [0, 0, 0, 255],
        })
        .collect();
    Thumbnail {
        width: small.width,
        height: small.height,
        rgba,
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use image::{Rgb, RgbImage};

    use super::{
        super::{Split, select, split_calibration, write_f32, write_i64},
        *,
    };

    /// Noisy pictures `0.png`, `1.png`, … of the given size.
    fn pictures(count: u32, width: u32, height: u32) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for n in 0..count {
            let picture = RgbImage::from_fn(width, height, |x, y| {
                Rgb([
                    (x * 7 + n * 13) as u8,
                    (y * 11 + x * n) as u8,
                    (x * y + n) as u8,
                ])
            });
            picture.save(dir.path().join(format!("{n}.png"))).unwrap();
        }
        dir
    }

    fn loader(dir: &Path, text: &str, shape: &[usize], budget: usize) -> Result<Loader, DataError> {
        Loader::new(
            Arc::new(Dataset::open(dir).unwrap()),
            text.parse().unwrap(),
            shape,
            budget,
        )
    }

    #[test]
    fn numbers_are_exact_and_in_planes() {
        let dir = tempfile::tempdir().unwrap();
        let picture = RgbImage::from_raw(2, 1, vec![0, 128, 255, 10, 20, 30]).unwrap();
        picture.save(dir.path().join("a.png")).unwrap();
        let batch = |text: &str| {
            loader(dir.path(), text, &[3, 1, 2], 0)
                .unwrap()
                .batch(&[0])
                .unwrap()
        };
        let imagenet = batch("imagenet");
        let at = |pixel: f32, mean: f32, std: f32| (pixel / 255.0 - mean) / std;
        let expected = [
            at(0.0, 0.485, 0.229),
            at(10.0, 0.485, 0.229),
            at(128.0, 0.456, 0.224),
            at(20.0, 0.456, 0.224),
            at(255.0, 0.406, 0.225),
            at(30.0, 0.406, 0.225),
        ];
        assert_eq!(imagenet.data, expected);
        assert_eq!(
            (imagenet.shape.as_slice(), imagenet.len()),
            ([1, 3, 1, 2].as_slice(), 1)
        );
        assert_eq!(
            batch("raw;channels=bgr").data,
            [255., 30., 128., 20., 0., 10.]
        );
        // The mean is in the order that the network sees.
        assert_eq!(
            batch("raw;channels=bgr;mean=5,8,0").data,
            [250., 25., 120., 12., 0., 10.]
        );
        let gray = loader(dir.path(), "raw;channels=gray", &[1, 1, 2], 0)
            .unwrap()
            .batch(&[0])
            .unwrap();
        assert_eq!(gray.data, [104., 18.]);
    }

    #[test]
    fn batches_do_not_depend_on_threads_or_cache() {
        let dir = pictures(9, 40, 30);
        let all: Vec<usize> = (0..9).rev().collect();
        let run = |threads: usize, budget: usize| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            let loader = loader(dir.path(), "imagenet", &[3, 16, 16], budget).unwrap();
            let first = pool.install(|| loader.batch(&all)).unwrap();
            assert_eq!(pool.install(|| loader.batch(&all)).unwrap(), first);
            first
        };
        let expected = run(1, 0);
        assert_eq!(expected.samples, all);
        for (threads, budget) in [(1, usize::MAX), (2, 0), (2, 2000), (2, usize::MAX)] {
            assert_eq!(
                run(threads, budget),
                expected,
                "{threads} threads, {budget} bytes"
            );
        }
    }

    #[test]
    fn the_cache_stays_within_its_budget() {
        let dir = pictures(6, 16, 16);
        let one = 3 * 16 * 16 + size_of::<Pixels>();
        let loader = loader(dir.path(), "unit", &[3, 16, 16], one * 2 + 1).unwrap();
        let before = loader.batch(&[0, 1, 2, 3, 4, 5]).unwrap();
        assert_eq!(lock(&loader.cache).pictures.len(), 2);
        for n in 0..6 {
            fs::remove_file(dir.path().join(format!("{n}.png"))).unwrap();
        }
        let after = loader.batch(&[0, 1, 2, 3, 4, 5]).unwrap();
        assert_eq!(after.len(), 2, "what is cached is not read again");
        let kept = after.samples[0];
        assert_eq!(after.data[..768], before.data[kept * 768..][..768]);
    }

    #[test]
    fn unreadable_files_are_left_out_and_noted_once() {
        let dir = pictures(3, 8, 8);
        let whole = fs::read(dir.path().join("0.png")).unwrap();
        fs::write(dir.path().join("1.png"), &whole[..whole.len() / 2]).unwrap();
        fs::write(dir.path().join("notes.txt"), "x").unwrap();
        let loader = loader(dir.path(), "unit", &[3, 8, 8], 0).unwrap();
        for _ in 0..2 {
            let batch = loader.batch(&[0, 1, 2]).unwrap();
            assert_eq!(
                (batch.samples.as_slice(), batch.shape[0], batch.labels.len()),
                ([0, 2].as_slice(), 2, 2)
            );
            assert_eq!(batch.data.len(), 2 * 3 * 64);
        }
        let skipped = loader.skipped();
        assert_eq!(
            skipped.iter().map(|s| s.file.as_str()).collect::<Vec<_>>(),
            ["notes.txt", "1.png"]
        );
        assert!(
            skipped[1].reason.contains("cannot be decoded"),
            "{skipped:?}"
        );
        let nothing = loader.batch(&[1]).unwrap();
        assert!(nothing.is_empty() && nothing.shape == [0, 3, 8, 8]);
        assert!(matches!(
            loader.batch(&[3]),
            Err(DataError::Index { index: 3, len: 3 })
        ));
        assert!(
            loader
                .thumbnail(1, 8)
                .unwrap_err()
                .to_string()
                .contains("\"1.png\"")
        );
    }

    #[test]
    fn pictures_that_cannot_fit_the_model_are_refused_at_once() {
        let dir = pictures(1, 8, 8);
        let cases: [(&str, &[usize], &str); 8] = [
            ("unit", &[1, 8, 8], "channels=gray"),
            ("unit;channels=gray", &[3, 8, 8], "channels=rgb"),
            ("unit", &[4, 8, 8], "inputs.npy"),
            ("unit", &[10], "three axes"),
            ("unit", &[3, 0, 8], "[3, 0, 8]"),
            ("unit", &[3, usize::MAX, 8], "plausible"),
            ("unit;crop=7", &[3, 8, 8], "input size, 8x8"),
            ("unit;resize=7", &[3, 8, 8], "at least the shorter side"),
        ];
        for (text, shape, expected) in cases {
            let message = loader(dir.path(), text, shape, 0).unwrap_err().to_string();
            assert!(message.contains(expected), "{text} {shape:?}: {message}");
        }
    }

    #[test]
    fn arrays_are_taken_as_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let data: Vec<f32> = (0..12_u8).map(f32::from).collect();
        write_f32(&dir.path().join("inputs.npy"), &[3, 1, 2, 2], &data).unwrap();
        write_i64(&dir.path().join("labels.npy"), &[3], &[2, 0, 1]).unwrap();
        let loader_of = |shape: &[usize]| loader(dir.path(), "imagenet", shape, 0);
        let loader = loader_of(&[1, 2, 2]).unwrap();
        let batch = loader.batch(&[2, 0]).unwrap();
        assert_eq!(batch.data, [8., 9., 10., 11., 0., 1., 2., 3.]);
        assert_eq!(
            (batch.shape.as_slice(), batch.labels),
            ([2, 1, 2, 2].as_slice(), vec![Some(1), Some(2)])
        );
        let message = loader_of(&[1, 49, 10]).unwrap_err().to_string();
        assert!(
            message.contains("[1, 2, 2]") && message.contains("[1, 49, 10]"),
            "{message}"
        );
        let shown = loader.thumbnail(1, 64).unwrap();
        assert_eq!(
            (shown.width, shown.height, &shown.rgba[..8]),
            (2, 2, [0, 0, 0, 255, 85, 85, 85, 255].as_slice())
        );
    }

    #[test]
    fn thumbnails_show_what_the_network_sees() {
        let dir = pictures(1, 100, 50);
        let loader = loader(
            dir.path(),
            "raw;channels=bgr;letterbox=114",
            &[3, 40, 40],
            0,
        )
        .unwrap();
        let shown = loader.thumbnail(0, 20).unwrap();
        assert_eq!(
            (shown.width, shown.height, shown.rgba.len()),
            (20, 20, 1600)
        );
        assert_eq!(
            shown.rgba[1596..],
            [114, 114, 114, 255],
            "the letterbox is there"
        );
        let (red, blue) = (shown.rgba[19 * 4], shown.rgba[19 * 4 + 2]);
        assert!(red > blue, "colours are in natural order: {red} {blue}");
        assert!(matches!(
            loader.thumbnail(1, 20),
            Err(DataError::Index { .. })
        ));
    }

    /// A folder of the shared test data, or a note that the test was skipped.
    fn shared(name: &str) -> Option<std::path::PathBuf> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../shared/data")
            .join(name);
        if !path.is_dir() {
            println!("skipped: {} is not there", path.display());
        }
        path.is_dir().then_some(path)
    }

    #[test]
    fn shared_datasets_open_and_load() {
        let cases: [(&str, usize, usize, &str, &[usize]); 6] = [
            ("cifar10/test", 2000, 10, "imagenet", &[3, 32, 32]),
            ("imagenet500", 500, 999, "imagenet", &[3, 224, 224]),
            ("kws", 1000, 12, "raw", &[1, 49, 10]),
            ("drive", 20, 0, "unit", &[3, 512, 512]),
            (
                "coco128",
                128,
                80,
                "raw;channels=bgr;letterbox=114",
                &[3, 416, 416],
            ),
            (
                "mnist/test",
                1000,
                10,
                "mean=0.1307;std=0.3081;channels=gray",
                &[1, 28, 28],
            ),
        ];
        for (name, count, classes, text, shape) in cases {
            let Some(path) = shared(name) else { continue };
            let dataset = Arc::new(Dataset::open(&path).unwrap());
            assert_eq!(
                (dataset.samples.len(), dataset.class_count()),
                (count, classes),
                "{name}"
            );
            assert_eq!(
                dataset.fingerprint(),
                Dataset::open(&path).unwrap().fingerprint(),
                "{name}"
            );
            let Split {
                calibration,
                evaluation,
            } = split_calibration(&dataset, 8, 0);
            let chosen = select(&dataset, &evaluation, Some(8), 0);
            assert!(chosen.iter().all(|i| !calibration.contains(i)), "{name}");
            let loader = Loader::new(dataset, text.parse().unwrap(), shape, 0).unwrap();
            let batch = loader.batch(&chosen).unwrap();
            assert_eq!((batch.len(), &batch.shape[1..]), (8, shape), "{name}");
            assert!(batch.data.iter().all(|x| x.is_finite()), "{name}");
        }
    }
}
