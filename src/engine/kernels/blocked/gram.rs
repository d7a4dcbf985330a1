//! Sums of products of what the windows of a convolution read.
//!
//! A change `d` of the weight changes the output by `d` times the windows of the input, so that
//!
//! ```text
//! Σ (change of the output)² = Σ_m d[m]ᵀ G d[m] = ⟨G, Σ_m d[m] d[m]ᵀ⟩    with G = Σ windows window windowᵀ
//! ```
//! The matrix `G` of the input serves all changes and all output channels, and with the sums of the
//! windows it gives the squares of the output itself. It is far cheaper than its
//! size says: an element is a sum over pixels of products at the distance of two kernel elements, so
//! that pairs of the same distance share their sums but for some rows and columns at the edges. Of many
//! images, the sums at all distances are found together in their spectra.

use std::sync::Arc;

use candle_core::{Result, Storage, Tensor, bail};

use super::super::conv::windows;
use super::super::geometry::ConvGeometry;
use super::super::parallel::for_each;
use super::super::planes::Windows;
use super::super::{checked_len, contiguous_f32};
use super::products::{ChannelSums, Product, TileSums, dot};
use super::regions::{Region, regions};
use super::spectral::Spectral;
use super::spectral_sums::SpectralSums;
use super::{BLOCK, Pixel};

/// Images that are many.
const MANY: usize = 64;
/// Channels up to which the columns of a kernel are laid into the lanes of one pixel.
const FEW_CHANNELS: usize = 8;

/// What a window of a convolution reads: a few pixels with all their channels, or each channel apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patch {
    /// Kernel elements `[vertical, horizontal]`, at least 1.
    kernel: [usize; 2],
    channels: usize,
    is_depthwise: bool,
}

/// The symmetric matrix of a [`Patch`]: products of all pairs of its numbers, summed, and the sums of
/// the numbers themselves.
///
/// In tiles of 16 by 16 channels, each pair once; the channels of a depthwise convolution are paired
/// with themselves alone.
#[derive(Clone, Debug)]
pub struct PatchGram {
    patch: Layout,
    sums: Vec<Pixel>,
    windows: u64,
}

/// The windows of a [`Patch`] over images of one size.
#[derive(Clone, Debug)]
pub struct PatchWindows {
    patch: Patch,
    windows: Windows,
    regions: Vec<Region>,
    /// The way of many images, if there is one.
    spectral: Option<Arc<Spectral>>,
}

/// A patch as it is stored: with few channels, the columns of the kernel are channels too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Layout {
    taps: usize,
    channels: usize,
    is_depthwise: bool,
}

impl Patch {
    /// A window over all channels.
    pub fn dense(kernel: [usize; 2], channels: usize) -> Self {
        Self {
            kernel,
            channels,
            is_depthwise: false,
        }
    }

    /// A window over one channel, for each of them.
    pub fn depthwise(kernel: [usize; 2], channels: usize) -> Self {
        Self {
            kernel,
            channels,
            is_depthwise: true,
        }
    }

    /// Numbers of its matrix; `None` if that is too large to address.
    pub fn gram_len(&self) -> Option<usize> {
        let taps = self.kernel[0].checked_mul(self.kernel[1])?;
        taps.checked_mul(taps)?
            .checked_mul(self.channels.checked_mul(self.channels)?)?;
        self.layout().len()?.checked_mul(BLOCK)
    }

    /// Multiplications that the matrix takes for each window.
    pub fn products_per_window(&self, strides: [usize; 2], dilations: [usize; 2]) -> u64 {
        let axis = |axis: usize| {
            let kernel = if axis == 1 && self.folds() {
                1
            } else {
                self.kernel[axis]
            };
            super::regions::classes(kernel, dilations[axis], strides[axis]).len() as u64
        };
        let distances = (axis(0) * axis(1)).div_ceil(2);
        let layout = self.layout();
        let own = layout.channels.next_multiple_of(BLOCK) as u64;
        if self.is_depthwise {
            distances * own
        } else {
            distances * own * layout.channels as u64
        }
    }

    /// Whether images may also be planes `[batch, channels, height, width]`.
    pub fn reads_planes(&self) -> bool {
        self.folds()
    }

    fn folds(&self) -> bool {
        !self.is_depthwise && self.channels <= FEW_CHANNELS && self.kernel[1] > 1
    }

    fn layout(&self) -> Layout {
        let [rows, columns] = self.kernel;
        let (taps, channels) = if self.folds() {
            (rows, columns * self.channels)
        } else {
            (rows * columns, self.channels)
        };
        Layout {
            taps,
            channels,
            is_depthwise: self.is_depthwise,
        }
    }

    /// The windows over images of `[height, width]`.
    ///
    /// # Errors
    /// A kernel that exceeds the padded image.
    pub fn over(&self, image: [usize; 2], geometry: &ConvGeometry) -> Result<PatchWindows> {
        let windows = windows(geometry, self.kernel, image)?;
        let mut summed = windows;
        if self.folds() {
            summed.kernel[1] = 1;
            summed.strides[1] = 1;
            summed.pads = [windows.pads[0], 0, windows.pads[2], 0];
            summed.input[1] = windows.output[1];
        }
        let is_apart = self.is_depthwise || self.folds();
        Ok(PatchWindows {
            patch: *self,
            regions: regions(&summed),
            spectral: (!is_apart)
                .then(|| Spectral::of(&windows))
                .flatten()
                .map(Arc::new),
            windows,
        })
    }

    /// The matrix of a weight `[out, channels, height, width]`, summed over its output channels;
    /// of a depthwise weight `[channels, 1, height, width]`, that of each channel.
    ///
    /// Its product with the matrix of an input is the sum of the squared outputs, but for
    /// `windows · Σ b²` where there is a bias of one number for each output.
    ///
    /// # Errors
    /// A weight or bias of another length.
    pub fn of_weight(
        &self,
        weight: &[f32],
        outputs: usize,
        bias: Option<&[f32]>,
    ) -> Result<PatchGram> {
        let taps = self.kernel[0] * self.kernel[1];
        let inputs = if self.is_depthwise { 1 } else { self.channels };
        if weight.len() != outputs * inputs * taps
            || (self.is_depthwise && outputs != self.channels)
            || bias.is_some_and(|bias| bias.len() != outputs)
        {
            bail!(
                "a weight of {} numbers does not fit {outputs} outputs of {inputs} channels and {taps} elements",
                weight.len()
            );
        }
        let mut gram = PatchGram::zeros(self.layout())?;
        if weight.is_empty() {
            return Ok(gram);
        }
        if self.is_depthwise {
            gram.sum_channel_weights(weight, bias);
        } else {
            let planes = self.weight_planes(weight, outputs);
            gram.sum_weights(&planes, outputs, bias);
        }
        Ok(gram)
    }

    /// `[elements, blocks of channels, outputs, 16]`.
    fn weight_planes(&self, weight: &[f32], outputs: usize) -> Vec<Pixel> {
        let [rows, columns] = self.kernel;
        let layout = self.layout();
        let blocks = layout.channels.div_ceil(BLOCK);
        let mut planes = vec![[0.0; BLOCK]; layout.taps * blocks * outputs];
        let mut values = weight.iter();
        for output in 0..outputs {
            for channel in 0..self.channels {
                for (row, column) in (0..rows).flat_map(|i| (0..columns).map(move |j| (i, j))) {
                    let (tap, lane) = if self.folds() {
                        (row, column * self.channels + channel)
                    } else {
                        (row * columns + column, channel)
                    };
                    let plane = tap * blocks + lane / BLOCK;
                    if let Some(value) = values.next() {
                        planes[plane * outputs + output][lane % BLOCK] = *value;
                    }
                }
            }
        }
        planes
    }
}

impl PatchWindows {
    /// `[height, width]` of the images.
    pub fn image(&self) -> [usize; 2] {
        self.windows.input
    }

    /// Whether the matrix of many images takes less time than those of a few at a time.
    pub fn gain_together(&self) -> bool {
        let spectral = self.spectral.as_ref();
        spectral.is_some_and(|way| way.gains(MANY, self.patch.channels))
    }

    /// The matrix of all windows of blocked images `[batch, ⌈channels / 16⌉, height, width, 16]`, or of
    /// planes where [`Patch::reads_planes`] says so.
    ///
    /// The sums are the same for any number of threads. Those of many images at once take far less time
    /// than those of each image alone.
    ///
    /// # Errors
    /// A tensor that is no such image.
    pub fn gram(&self, images: &[Tensor]) -> Result<PatchGram> {
        let patch = &self.patch;
        let [height, width] = self.windows.input;
        let images: Result<Vec<Tensor>> = images
            .iter()
            .map(|image| match *image.dims() {
                [_, blocks, h, w, BLOCK]
                    if [blocks, h, w] == [patch.channels.div_ceil(BLOCK), height, width] =>
                {
                    image.contiguous()
                }
                [_, channels, h, w]
                    if patch.folds() && [channels, h, w] == [patch.channels, height, width] =>
                {
                    image.contiguous()
                }
                ref other => bail!(
                    "expected {height} by {width} pixels of {} channels, got {other:?}",
                    patch.channels
                ),
            })
            .collect();
        let images = images?;
        let held: Vec<_> = images.iter().map(Tensor::storage_and_layout).collect();
        let mut samples: Vec<&[f32]> = Vec::new();
        for (storage, layout) in &held {
            let Storage::Cpu(storage) = &**storage else {
                bail!("expected images on the CPU");
            };
            let numbers = contiguous_f32(storage, layout)?;
            let samples_here = layout.dims()[0].max(1);
            samples.extend(numbers.chunks_exact((numbers.len() / samples_here).max(1)));
        }
        let [out_height, out_width] = self.windows.output;
        let mut gram = PatchGram::zeros(patch.layout())?;
        gram.windows = (samples.len() * out_height * out_width) as u64;
        if patch.folds() {
            let folded: Vec<Vec<Pixel>> =
                samples.iter().map(|sample| self.folded(sample)).collect();
            let samples: Vec<&[Pixel]> = folded.iter().map(Vec::as_slice).collect();
            gram.sum_regions(&samples, height * out_width, &self.regions);
        } else {
            let samples: Vec<&[Pixel]> = samples
                .iter()
                .map(|sample| sample.as_chunks::<BLOCK>().0)
                .collect();
            let gaining = self.spectral.as_deref();
            match gaining.filter(|way| way.gains(samples.len(), patch.channels)) {
                Some(spectral) => gram.sum_spectra(&samples, height * width, spectral),
                None => gram.sum_regions(&samples, height * width, &self.regions),
            }
        }
        Ok(gram)
    }

    /// The pixels that the columns of a kernel read, one after another in one pixel of each output.
    fn folded(&self, sample: &[f32]) -> Vec<Pixel> {
        let Windows {
            kernel: [_, columns],
            strides: [_, stride],
            dilations: [_, dilation],
            pads: [_, left, ..],
            input: [height, width],
            output: [_, output],
        } = self.windows;
        let channels = self.patch.channels;
        let plane = height * output;
        let is_blocked = sample.len() == height * width * BLOCK;
        let mut folded = vec![[0.0; BLOCK]; (columns * channels).div_ceil(BLOCK) * plane];
        for row in 0..height {
            for lane in 0..columns * channels {
                let (tap, channel) = (lane / channels, lane % channels);
                // Columns `column · stride + shift − left` of the image.
                let shift = tap * dilation;
                let first = left.saturating_sub(shift).div_ceil(stride);
                let from = (first * stride + shift).saturating_sub(left);
                let (start, step) = if is_blocked {
                    (row * width * BLOCK + channel, BLOCK)
                } else {
                    ((channel * height + row) * width, 1)
                };
                let count = width.saturating_sub(from).div_ceil(stride);
                let Some(source) = sample.get(start + from * step..) else {
                    continue;
                };
                let target = &mut folded[lane / BLOCK * plane + row * output..][..output];
                let pixels = source.iter().step_by(stride * step).take(count);
                for (to, value) in target.iter_mut().skip(first).zip(pixels) {
                    to[lane % BLOCK] = *value;
                }
            }
        }
        folded
    }
}

impl Layout {
    fn blocks(&self) -> usize {
        self.channels.div_ceil(BLOCK)
    }

    /// Pairs of two kernel elements, without regard to the order, each with itself included.
    fn pairs(&self) -> usize {
        self.taps * (self.taps + 1) / 2
    }

    /// Channels of a block that are there.
    fn lanes(&self, block: usize) -> usize {
        BLOCK.min(self.channels - block * BLOCK)
    }

    /// Rows of 16 sums that belong to a pair of blocks.
    fn unit_len(&self, [first, second]: [usize; 2]) -> usize {
        if self.is_depthwise {
            self.pairs() + self.taps
        } else if first == second {
            self.pairs() * BLOCK + self.taps
        } else {
            self.taps * self.taps * BLOCK
        }
    }

    /// The pairs of blocks, each once.
    fn units(&self) -> Vec<[usize; 2]> {
        let blocks = self.blocks();
        let last = |first| if self.is_depthwise { first } else { blocks - 1 };
        (0..blocks)
            .flat_map(|first| (first..=last(first)).map(move |second| [first, second]))
            .collect()
    }

    /// Rows of 16 sums of the whole matrix.
    fn len(&self) -> Option<usize> {
        self.units()
            .into_iter()
            .try_fold(0usize, |sum, unit| sum.checked_add(self.unit_len(unit)))
    }
}

impl PatchGram {
    fn zeros(layout: Layout) -> Result<Self> {
        let Some(len) = layout.len() else {
            bail!("{layout:?} is too large");
        };
        checked_len(&[len, BLOCK])?;
        Ok(Self {
            patch: layout,
            sums: vec![[0.0; BLOCK]; len],
            windows: 0,
        })
    }

    /// Adds the sums of other windows of the same patch.
    pub fn add(&mut self, other: &Self) {
        self.add_scaled(other, 1.0);
        self.windows += other.windows;
    }

    /// Adds a multiple of other sums.
    fn add_scaled(&mut self, other: &Self, factor: f32) {
        let own = self.sums.as_flattened_mut().iter_mut();
        for (sum, more) in own.zip(other.sums.as_flattened()) {
            *sum += factor * more;
        }
    }

    /// Windows that were summed.
    pub fn windows(&self) -> u64 {
        self.windows
    }

    /// `Σ_ij G[i, j] · H[i, j] + Σ_i s[i] · t[i]` of the matrices and sums of the same patch.
    pub fn dot(&self, other: &Self) -> f64 {
        let mut rest = (&self.sums[..], &other.sums[..]);
        let mut total = 0.0;
        for unit in self.patch.units() {
            let len = self.patch.unit_len(unit);
            let (own, own_rest) = rest.0.split_at(len);
            let (others, other_rest) = rest.1.split_at(len);
            rest = (own_rest, other_rest);
            let rows = if self.patch.is_depthwise { 1 } else { BLOCK };
            // Each kernel element with itself comes first; all other pairs stand for two elements.
            let squares = self.patch.taps * rows;
            let once = dot(&own[..squares], &others[..squares]);
            total += if unit[0] == unit[1] {
                let pairs = self.patch.pairs() * rows;
                let twice = dot(&own[squares..pairs], &others[squares..pairs]);
                once + 2.0 * twice + dot(&own[pairs..], &others[pairs..])
            } else {
                2.0 * (once + dot(&own[squares..], &others[squares..]))
            };
        }
        total
    }

    /// The parts of the sums, one for each pair of blocks.
    fn unit_slices(&mut self) -> Vec<([usize; 2], &mut [Pixel])> {
        let layout = self.patch;
        let mut rest = &mut self.sums[..];
        let mut slices = Vec::new();
        for unit in layout.units() {
            let (own, others) = rest.split_at_mut(layout.unit_len(unit));
            slices.push((unit, own));
            rest = others;
        }
        slices
    }

    fn sum_regions(&mut self, samples: &[&[Pixel]], plane_len: usize, regions: &[Region]) {
        let layout = self.patch;
        for_each(self.unit_slices(), |([first, second], sums)| {
            let sums = if first == second {
                let (pairs, elements) = sums.split_at_mut(sums.len() - layout.taps);
                let channel_sums = |of_products: bool, sums: &mut [Pixel]| {
                    ChannelSums {
                        samples,
                        plane: first * plane_len..(first + 1) * plane_len,
                        regions,
                        of_products,
                        sums: &mut *sums,
                    }
                    .run();
                    for pixel in sums {
                        pixel[layout.lanes(first)..].fill(0.0);
                    }
                };
                channel_sums(false, elements);
                if layout.is_depthwise {
                    channel_sums(true, pairs);
                    return;
                }
                pairs
            } else {
                sums
            };
            let mut products = Vec::with_capacity(2 * regions.len());
            for region in regions {
                products.push(Product {
                    region,
                    planes: [first, second],
                    channels: [layout.lanes(first), layout.lanes(second)],
                    pairs: &region.pairs,
                    first_pair: 0,
                });
                if first != second && !region.is_square {
                    products.push(Product {
                        region,
                        planes: [second, first],
                        channels: [layout.lanes(second), layout.lanes(first)],
                        pairs: &region.pairs,
                        first_pair: layout.pairs() - layout.taps,
                    });
                }
            }
            let sums = TileSums {
                samples,
                plane_len,
                products: &products,
                sums,
            };
            sums.run();
        });
    }

    /// The sums by way of spectra, of a part of the images at a time on each thread.
    fn sum_spectra(&mut self, samples: &[&[Pixel]], plane_len: usize, spectral: &Spectral) {
        let layout = self.patch;
        if !spectral.subtracted.is_empty() {
            let mut missed = Self {
                sums: vec![[0.0; BLOCK]; self.sums.len()],
                ..*self
            };
            missed.sum_regions(samples, plane_len, &spectral.subtracted);
            self.add_scaled(&missed, -1.0);
        }
        self.sum_regions(samples, plane_len, &spectral.added);
        let images: Vec<&[&[Pixel]]> = samples.chunks(Spectral::part(samples.len())).collect();
        let mut parts: Vec<SpectralSums<'_>> = images
            .iter()
            .map(|_| SpectralSums::new(spectral, layout.channels))
            .collect();
        for_each(parts.iter_mut().zip(images).collect(), |(part, images)| {
            part.sum(images);
        });
        for_each(self.unit_slices(), |(unit, sums)| {
            let elements = if unit[0] == unit[1] { layout.taps } else { 0 };
            let (products, elements) = sums.split_at_mut(sums.len() - elements);
            if unit[0] == unit[1] {
                spectral.add_elements(&parts, unit[0], elements);
            }
            spectral.add_products(&parts, unit, layout.pairs() - layout.taps, products);
        });
    }

    fn sum_weights(&mut self, planes: &[Pixel], outputs: usize, bias: Option<&[f32]>) {
        let layout = self.patch;
        let region = Region::row(outputs);
        let pairs: Vec<usize> = (0..layout.pairs()).collect();
        let elements: Vec<[usize; 2]> = element_pairs(layout.taps);
        for_each(self.unit_slices(), |([first, second], sums)| {
            let mut products = Vec::with_capacity(layout.taps * layout.taps);
            let mut push = |[own, other]: [usize; 2], reversed: bool| {
                for (index, [tap, other_tap]) in elements.iter().enumerate() {
                    if !reversed || tap != other_tap {
                        products.push(Product {
                            region: &region,
                            planes: [
                                tap * layout.blocks() + own,
                                other_tap * layout.blocks() + other,
                            ],
                            channels: [layout.lanes(own), layout.lanes(other)],
                            pairs: &pairs[index..=index],
                            first_pair: if reversed {
                                layout.pairs() - layout.taps
                            } else {
                                0
                            },
                        });
                    }
                }
            };
            push([first, second], false);
            let sums = if first == second {
                let (pairs, elements) = sums.split_at_mut(sums.len() - layout.taps);
                for (tap, sum) in elements.iter_mut().enumerate() {
                    let plane = (tap * layout.blocks() + first) * outputs;
                    let rows = &planes[plane..plane + outputs];
                    for (row, bias) in rows.iter().zip(bias.unwrap_or_default()) {
                        for (sum, weight) in sum.iter_mut().zip(row) {
                            *sum += 2.0 * bias * weight;
                        }
                    }
                }
                pairs
            } else {
                push([second, first], true);
                sums
            };
            let sums = TileSums {
                samples: &[planes],
                plane_len: outputs,
                products: &products,
                sums,
            };
            sums.run();
        });
    }

    fn sum_channel_weights(&mut self, weight: &[f32], bias: Option<&[f32]>) {
        let layout = self.patch;
        let elements = element_pairs(layout.taps);
        for ([block, _], sums) in self.unit_slices() {
            for (sum, [tap, other]) in sums.iter_mut().zip(&elements) {
                for (lane, sum) in sum.iter_mut().enumerate().take(layout.lanes(block)) {
                    let own = &weight[(block * BLOCK + lane) * layout.taps..][..layout.taps];
                    *sum = own[*tap] * own[*other];
                }
            }
            let Some(bias) = bias else { continue };
            for (tap, sum) in sums[layout.pairs()..].iter_mut().enumerate() {
                for (lane, sum) in sum.iter_mut().enumerate().take(layout.lanes(block)) {
                    let channel = block * BLOCK + lane;
                    *sum = 2.0 * bias[channel] * weight[channel * layout.taps + tap];
                }
            }
        }
    }
}

/// The pairs of kernel elements in the order of their tiles: each with itself, then with later ones.
fn element_pairs(taps: usize) -> Vec<[usize; 2]> {
    let squares = (0..taps).map(|tap| [tap, tap]);
    let others = (0..taps).flat_map(|tap| (tap + 1..taps).map(move |other| [tap, other]));
    squares.chain(others).collect()
}
