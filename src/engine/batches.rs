//! Samples of a dataset as input tensors, in fixed order.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use candle_core::{Device, Tensor};
use rayon::prelude::*;

use super::activations::Activations;
use super::error::RunError;
use crate::data::{self, Loader};
use crate::jobs::CancelToken;
use crate::model::{self, Graph, ValueId};

/// Activations of a batch that are aimed at, in bytes.
const BATCH_BYTES: usize = 192 << 20;
/// Beyond this a larger batch gains nothing on a CPU and makes progress coarse.
const LARGEST_BATCH: usize = 64;
/// Samples of the first batch where an early result is wanted.
const EARLY_BATCH: usize = 16;
/// Samples that each thread reads before reading can be stopped.
const READ_PER_THREAD: usize = 8;

/// Which samples run, and how many at a time.
#[derive(Clone, Debug)]
pub struct Batches {
    loader: Arc<Loader>,
    indices: Arc<[usize]>,
    input: ValueId,
    batch_size: usize,
    /// Length of the first batch; the second is so much shorter that the others start where they would.
    first_batch: usize,
    /// The file declares this batch; a shorter last batch is filled up to it.
    fixed_batch: Option<usize>,
    /// Nanoseconds spent reading samples, over all clones.
    decode_nanos: Arc<AtomicU64>,
    /// Every batch, where they were read beforehand.
    held: Option<Arc<[Batch]>>,
    /// Stops reading.
    cancel: CancelToken,
}

/// One batch on its way through the network.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The graph input, ready to be fed.
    pub fed: Activations,
    /// Number of samples, without those that only fill up a fixed batch.
    pub len: usize,
    /// Label of each sample, where it has one.
    pub labels: Vec<Option<u32>>,
    /// Index of each sample in the dataset.
    pub samples: Vec<usize>,
}

impl Batches {
    /// Cuts samples into batches that suit the graph; `batch_size` overrides the choice by memory.
    ///
    /// The samples are taken in an order in which every batch comes from all over the list, so that
    /// results of the first batches speak for the whole even where the list is sorted by class.
    ///
    /// # Errors
    /// The graph has more than one input.
    pub fn new(
        graph: &Graph,
        loader: Arc<Loader>,
        indices: &[usize],
        batch_size: Option<usize>,
    ) -> Result<Self, RunError> {
        let &[input] = graph.inputs() else {
            return Err(RunError::message(format!(
                "The model has {} inputs, but a dataset feeds one; run it with `quantscope run` and one --input for each",
                graph.inputs().len()
            )));
        };
        let fixed_batch = model::fixed_batch(graph);
        let batch_size = fixed_batch
            .or(batch_size)
            .unwrap_or_else(|| batch_by_memory(graph))
            .max(1);
        Ok(Self {
            loader,
            indices: interleaved(indices).into(),
            input,
            batch_size,
            first_batch: batch_size,
            fixed_batch,
            decode_nanos: Arc::default(),
            held: None,
            cancel: CancelToken::default(),
        })
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.indices.len()
    }

    /// Whether there is nothing to run.
    pub fn is_empty(&self) -> bool {
        self.indices.is_empty()
    }

    /// Seconds spent so far reading and preparing samples.
    pub fn decode_secs(&self) -> f64 {
        self.decode_nanos.load(Ordering::Relaxed) as f64 * 1e-9
    }

    /// Where the samples come from.
    pub fn loader(&self) -> &Arc<Loader> {
        &self.loader
    }

    /// The same batches over the first `count` samples.
    pub fn first(&self, count: usize) -> Self {
        self.part(0..count)
    }

    /// Batches of the same size over some of the samples, by their places in the order of the batches.
    pub fn part(&self, places: Range<usize>) -> Self {
        let end = places.end.min(self.len());
        self.over(self.indices[places.start.min(end)..end].into())
    }

    /// Batches of the same size over the samples that `others`, of the same dataset, do not hold.
    pub fn without(&self, others: &Self) -> Self {
        let left_out: HashSet<usize> = others.indices.iter().copied().collect();
        let kept = self.indices.iter().copied();
        self.over(kept.filter(|index| !left_out.contains(index)).collect())
    }

    fn over(&self, indices: Arc<[usize]>) -> Self {
        let mut part = self.clone();
        part.held = None;
        part.indices = indices;
        part
    }

    /// The same samples in smaller batches, for work that should be interrupted often.
    pub fn in_batches_of(&self, batch_size: usize) -> Self {
        let mut smaller = self.clone();
        smaller.held = None;
        if self.fixed_batch.is_none() {
            smaller.batch_size = self.batch_size.min(batch_size).max(1);
            smaller.first_batch = self.first_batch.min(smaller.batch_size);
        }
        smaller
    }

    /// The same batches, read now and held in memory as network inputs, so that a run reads nothing.
    ///
    /// # Errors
    /// [`RunError`] if a batch cannot be made.
    pub fn in_memory(&self) -> Result<Self, RunError> {
        let held: Result<Arc<[Batch]>, RunError> = (0..self.count())
            .flat_map(|batch| self.get_all(batch..batch + 1))
            .collect();
        let mut read = self.clone();
        read.held = Some(held?);
        Ok(read)
    }

    /// Samples of a full batch.
    pub fn batch_size(&self) -> usize {
        self.batch_size
    }

    /// The same batches, the first one cut in two, so that a first result comes early.
    pub fn with_early_start(&self) -> Self {
        let mut early = self.clone();
        if self.fixed_batch.is_none() {
            early.first_batch = self.batch_size.min(EARLY_BATCH);
            early.held = None;
        }
        early
    }

    /// The same batches for one job: reading them stops when the job is cancelled.
    pub fn stopped_by(&self, cancel: &CancelToken) -> Self {
        let mut stopped = self.clone();
        stopped.cancel = cancel.clone();
        stopped
    }

    /// Number of batches.
    pub fn count(&self) -> usize {
        let extra = usize::from(self.first_batch < self.batch_size.min(self.indices.len()));
        self.indices.len().div_ceil(self.batch_size) + extra
    }

    /// Number of samples that a batch feeds to the network, those that fill up a fixed batch included.
    pub(super) fn fed_len(&self, batch: usize) -> usize {
        self.fixed_batch.unwrap_or_else(|| self.range(batch).len())
    }

    /// Number of samples of a batch, those that cannot be read included.
    pub(super) fn samples_of(&self, batch: usize) -> usize {
        self.range(batch).len()
    }

    /// Where a batch lies in the list of samples.
    fn range(&self, batch: usize) -> Range<usize> {
        let early = self.first_batch < self.batch_size;
        let bound = |batch: usize| match (batch, early) {
            (0, _) => 0,
            (1, true) => self.first_batch,
            (_, true) => (batch - 1) * self.batch_size,
            (_, false) => batch * self.batch_size,
        };
        let end = bound(batch + 1).min(self.indices.len());
        bound(batch).min(end)..end
    }

    /// Decodes the batches in order; unreadable samples are left out.
    ///
    /// Batches that are smaller than the pool of threads are decoded several at a time, so that every
    /// thread has a picture to decode. Larger ones are decoded when they are asked for: a batch that
    /// is decoded while another runs would only take the threads from it.
    pub fn iter(&self) -> impl Iterator<Item = Result<Batch, RunError>> + '_ {
        let at_a_time = rayon::current_num_threads().div_ceil(self.batch_size);
        let count = self.count();
        (0..count)
            .step_by(at_a_time)
            .flat_map(move |first| self.get_all(first..count.min(first + at_a_time)))
            .filter(|batch| !matches!(batch, Ok(batch) if batch.len == 0))
    }

    /// Decodes one batch, which is empty if none of its samples can be read.
    ///
    /// # Errors
    /// [`RunError`] if an array can no longer be read, or the job is cancelled.
    pub fn get(&self, batch: usize) -> Result<Batch, RunError> {
        self.get_all(batch..batch + 1)
            .pop()
            .ok_or_else(|| RunError::message(format!("There is no batch {batch}")))?
    }

    /// Decodes some batches at the same time.
    fn get_all(&self, batches: Range<usize>) -> Vec<Result<Batch, RunError>> {
        if let Some(held) = &self.held {
            return held[batches].iter().cloned().map(Ok).collect();
        }
        let started = Instant::now();
        let batches = batches
            .into_par_iter()
            .map(|batch| self.load(batch))
            .collect();
        let nanos = started.elapsed().as_nanos() as u64;
        self.decode_nanos.fetch_add(nanos, Ordering::Relaxed);
        batches
    }

    fn load(&self, batch: usize) -> Result<Batch, RunError> {
        let batch = self.read(&self.indices[self.range(batch)])?;
        let len = batch.samples.len();
        let mut shape = batch.shape;
        let mut data = batch.data;
        if let Some(fixed) = self.fixed_batch
            && len > 0
            && len < fixed
        {
            let last = data[data.len() - data.len() / len..].to_vec();
            for _ in len..fixed {
                data.extend_from_slice(&last);
            }
            if let Some(first) = shape.first_mut() {
                *first = fixed;
            }
        }
        let mut fed = Activations::new();
        fed.insert(self.input, Tensor::from_vec(data, shape, &Device::Cpu)?);
        Ok(Batch {
            fed,
            len,
            labels: batch.labels,
            samples: batch.samples,
        })
    }
}

impl Batches {
    /// Reads samples a few at a time, so that it can be stopped in between.
    fn read(&self, indices: &[usize]) -> Result<data::Batch, RunError> {
        let at_once = READ_PER_THREAD * rayon::current_num_threads();
        let mut whole = self.loader.batch(&[])?;
        for piece in indices.chunks(at_once) {
            self.cancel.check()?;
            let piece = self.loader.batch(piece)?;
            whole.data.extend(piece.data);
            whole.labels.extend(piece.labels);
            whole.samples.extend(piece.samples);
        }
        if let Some(samples) = whole.shape.first_mut() {
            *samples = whole.samples.len();
        }
        Ok(whole)
    }
}

/// A fixed permutation that steps through the list by about the golden ratio of its length.
///
/// ```text
/// order[k] = list[k · step mod n],  step coprime to n, near 0.618 · n
/// ```
fn interleaved(indices: &[usize]) -> Vec<usize> {
    let len = indices.len();
    let golden = (len as f64 * 0.618_033_988_749_895) as usize;
    let step = (golden.max(1)..=len.max(1))
        .find(|step| coprime(*step, len))
        .unwrap_or(1);
    (0..len).map(|k| indices[k * step % len]).collect()
}

fn coprime(a: usize, b: usize) -> bool {
    let (mut a, mut b) = (a, b);
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a == 1
}

/// The largest batch whose activations, all held at once, stay within the aim.
fn batch_by_memory(graph: &Graph) -> usize {
    let shapes = model::infer_shapes(graph, 1);
    let elements: usize = graph
        .nodes()
        .iter()
        .flat_map(|node| &node.outputs)
        .filter_map(|id| shapes.get(*id))
        .map(|shape| shape.iter().product::<usize>())
        .sum();
    (BATCH_BYTES / (elements * size_of::<f32>()).max(1)).clamp(1, LARGEST_BATCH)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::data::{Dataset, write_f32};
    use crate::model::{Dim, ElementType, GraphBuilder, Metadata, ModelFormat, Op, Unary};

    /// `x [N or batch, 3, 32, 32] → Relu → y`.
    fn graph(batch: Option<usize>) -> Graph {
        let mut builder = GraphBuilder::new();
        let batch = batch.map_or(Dim::Symbol("N".to_owned()), Dim::Fixed);
        let shape = [vec![batch], [3, 32, 32].map(Dim::Fixed).to_vec()].concat();
        let x = builder.input("x", ElementType::F32, shape);
        let y = builder.node("relu", Op::Unary(Unary::Relu), &[x], "y");
        builder.output(y);
        let metadata = Metadata {
            name: "m".to_owned(),
            format: ModelFormat::Onnx,
            sha256: String::new(),
            producer: None,
            opset: None,
            architecture: None,
        };
        builder.finish(metadata).unwrap()
    }

    /// Pictures `0000.png`, … of 32×32 pixels.
    fn pictures(count: usize) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for n in 0..count {
            let pixels = (0..3 * 32 * 32).map(|i| (i * 7 + n * 31 + (i >> 5) * n) as u8);
            let picture = image::RgbImage::from_raw(32, 32, pixels.collect()).unwrap();
            let path = folder.path().join(format!("{n:04}.png"));
            picture.save(path).unwrap();
        }
        folder
    }

    fn batches(folder: &Path, batch: Option<usize>, cache_bytes: usize) -> Batches {
        let dataset = Arc::new(Dataset::open(folder).unwrap());
        let all: Vec<usize> = (0..dataset.samples.len()).collect();
        let preprocess = "imagenet".parse().unwrap();
        let loader = Loader::new(dataset, preprocess, &[3, 32, 32], cache_bytes).unwrap();
        Batches::new(&graph(batch), Arc::new(loader), &all, None).unwrap()
    }

    /// Samples and inputs of every batch.
    fn everything(batches: &Batches) -> Vec<(Vec<usize>, Vec<f32>)> {
        let content = |batch: Result<Batch, RunError>| {
            let batch = batch.unwrap();
            let input = batch.fed.get(batches.input).unwrap();
            let numbers = input
                .plain()
                .unwrap()
                .flatten_all()
                .unwrap()
                .to_vec1()
                .unwrap();
            (batch.samples, numbers)
        };
        batches.iter().map(content).collect()
    }

    #[test]
    fn a_second_pass_over_2000_pictures_decodes_none() {
        let folder = pictures(2000);
        let batches = batches(folder.path(), None, 8 << 20);
        let first = everything(&batches);
        assert_eq!(
            first
                .iter()
                .map(|(samples, _)| samples.len())
                .sum::<usize>(),
            2000
        );
        drop(folder);
        assert!(
            everything(&batches) == first,
            "without the files, bit for bit"
        );
    }

    #[test]
    fn batches_are_the_same_on_any_number_of_threads() {
        let folder = pictures(23);
        std::fs::write(folder.path().join("0004.png"), "no picture").unwrap();
        for batch in [None, Some(1), Some(4)] {
            let on = |threads: usize| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
                pool.unwrap()
                    .install(|| everything(&batches(folder.path(), batch, 0)))
            };
            let expected = on(1);
            assert_eq!(
                expected
                    .iter()
                    .map(|(samples, _)| samples.len())
                    .sum::<usize>(),
                22
            );
            for threads in [2, 3, 8] {
                assert!(on(threads) == expected, "{batch:?} on {threads} threads");
            }
        }
    }

    #[test]
    fn an_array_that_can_no_longer_be_read_is_an_error_of_its_batch() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("inputs.npy");
        write_f32(&path, &[3, 3, 32, 32], &vec![0.5; 3 * 3072]).unwrap();
        let batches = batches(folder.path(), Some(1), 0);
        assert_eq!(everything(&batches).len(), 3);
        std::fs::remove_file(path).unwrap();
        assert!(batches.iter().all(|batch| batch.is_err()));
    }

    #[test]
    fn interleaving_keeps_every_sample_once() {
        for len in [0, 1, 2, 3, 10, 64, 756, 2000] {
            let list: Vec<usize> = (0..len).collect();
            let mut order = interleaved(&list);
            order.sort_unstable();
            assert_eq!(order, list);
        }
    }

    #[test]
    fn the_first_batch_comes_from_everywhere() {
        let list: Vec<usize> = (0..1000).collect();
        let first = &interleaved(&list)[..50];
        for quarter in 0..4 {
            let hits = first
                .iter()
                .filter(|index| **index / 250 == quarter)
                .count();
            assert!((10..=15).contains(&hits), "{hits} of quarter {quarter}");
        }
    }
}
