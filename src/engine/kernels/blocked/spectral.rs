//! Sums of products at all distances of a window, by way of the spectra of the images.
//!
//! The products of two channels at a distance, summed over an image, are a correlation, and the
//! transform of a correlation is the product of the transforms (the theorem of Wiener and Khinchin, for
//! sums of finitely many terms). With the spectrum `X` of an image in a frame of zeros of `n` numbers,
//!
//! ```text
//! R[d]_kl = Σ_q x_k(q) x_l(q + d) = 1/n Σ_f (Re S(f)_kl cos θ + Im S(f)_kl sin θ)
//! with S(f) = X(f) X(f)ᴴ and θ = 2π f·d / n
//! ```
//! The frame is as much larger than the image as a window reaches, so that nothing comes around its
//! edges. The sum over images is taken of `S`, a single product of all channels at each frequency
//! instead of one at each distance; the few distances of a window are read off `Σ S` once at the end.
//!
//! The real part of `S` is symmetric and the imaginary part antisymmetric, so that their sum holds both:
//!
//! ```text
//! M = Re S + Im S = (Re X + Im X) Re Xᵀ + (Im X − Re X) Im Xᵀ
//! R[d] = 1/2n Σ_f (M(f) cas θ + M(f)ᵀ cas(−θ))    with cas θ = cos θ + sin θ
//! ```
//! This is the correlation by the transform of Hartley (R. N. Bracewell, "Discrete Hartley transform",
//! 1983). Two real images go through one complex transform: with `Z` that of `x + i y`, the sum of both
//! `S` at the frequencies `f` and `−f` is that of `Z Zᴴ`, as far as the real part of the correlation goes.
//! So `Z` never has to be taken apart, and `M` of both frequencies goes into one tile.
//!
//! An element of a kernel does not visit all of the image: where the image is padded by one, the first
//! column of a kernel of three never sees the last column of the image. For pairs at distance 0 along
//! an axis, the products of a missed row or column are correlations too, of that line alone; they are
//! taken from its own spectrum. What is left are corners and, with less padding, a few lines more.

use std::f64::consts::TAU;
use std::ops::Range;

use super::super::planes::Windows;
use super::BLOCK;
use super::dft::{ComplexPixel, Dft};
use super::regions::{Lag, Region, lags, regions_where};

/// Bytes of spectra that are held before their products are summed: they stay in a second-level cache
/// beside the tiles.
const SPECTRA_BYTES: usize = 768 << 10;

/// Pairs of images whose products are summed in registers: at least the first, where there are tiles
/// enough to hide that spectra come from farther away, and at most the last.
const PAIRS: [usize; 2] = [8, 16];

/// Parts into which images are cut, to be summed on several threads. The sums do not depend on their
/// number.
const PARTS: usize = 4;

/// Images of a part: what is done once for all of them must not weigh much.
const PART_IMAGES: Range<usize> = 32..64;

/// Most bytes of the sums of spectra of all parts.
const SUM_BYTES: usize = 128 << 20;

/// How the sums of the windows of one geometry are found in spectra.
#[derive(Clone, Debug)]
pub(super) struct Spectral {
    pub image: [usize; 2],
    /// Between kernel elements, each and its reverse once.
    distances: usize,
    /// The transforms of columns and of rows.
    pub transforms: [Dft; 2],
    /// Numbers from a row of a spectrum to the next: odd, which spreads a column over all cache sets.
    pub pitch: usize,
    /// Numbers of all spectra of a block.
    pub len: usize,
    /// Their spectra follow that of the image, in their order.
    pub lines: Vec<Line>,
    /// Places of each two opposite frequencies in the spectra of a block; twice the same if a frequency
    /// is its own opposite.
    pub slots: Vec<[usize; 2]>,
    /// The whole image first, then the lines.
    pub signals: Vec<Signal>,
    /// What the signals leave to be added.
    pub added: Vec<Region>,
    /// What the signals leave to be subtracted.
    pub subtracted: Vec<Region>,
}

/// A row or a column of the image that some elements of a kernel do not visit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    /// 0 for a row, 1 for a column.
    pub axis: usize,
    pub place: usize,
}

/// The image or a line, as far as its correlations count.
#[derive(Clone, Debug)]
pub(super) struct Signal {
    /// Slots of the same vertical frequency.
    pub bands: Vec<Range<usize>>,
    /// [`waves`] of the horizontal frequencies of the slots.
    pub across: Vec<Vec<f32>>,
    /// [`waves`] of the vertical frequencies of the bands.
    pub down: Vec<Vec<f32>>,
    /// Of a sum over all frequencies: negative if it is subtracted.
    pub scale: f32,
    /// The place of the frequency 0.
    pub constant: usize,
    pub lags: Vec<Lag>,
}

impl Spectral {
    /// `None` if the windows do not visit neighbouring pixels.
    pub(super) fn of(windows: &Windows) -> Option<Self> {
        let image = windows.input;
        if windows.strides != [1, 1] || windows.dilations != [1, 1] || windows.kernel == [1, 1] {
            return None;
        }
        let transforms =
            [0, 1].map(|axis| Dft::from_length(image[axis] + windows.kernel[axis] - 1));
        let pitch = transforms[1].len() | 1;
        let mut spectral = Self {
            image,
            pitch,
            len: transforms[0].len() * pitch,
            transforms,
            distances: lags(windows, None).len(),
            lines: Vec::new(),
            slots: Vec::new(),
            signals: Vec::new(),
            // Pairs whose missed rows or columns are taken away as lines lose the corners twice.
            added: regions_where(windows, |distance, is_visited| {
                distance == [0, 0] && is_visited == [false; 2]
            }),
            subtracted: regions_where(windows, |distance, is_visited| {
                is_visited != [true; 2]
                    && (0..2).all(|axis| is_visited[axis] || distance[axis] != 0)
            }),
        };
        spectral.push_image(lags(windows, None));
        for (axis, len) in image.into_iter().enumerate() {
            for place in 0..len {
                let lags = lags(windows, Some((axis, place)));
                if !lags.is_empty() {
                    spectral.push_line(axis, place, lags);
                }
            }
        }
        Some(spectral)
    }

    fn push_image(&mut self, lags: Vec<Lag>) {
        let [rows, columns] = [0, 1].map(|axis| places(&self.transforms[axis]));
        let [row_order, column_order] = [0, 1].map(|axis| self.transforms[axis].frequencies());
        let opposite =
            |frequency: usize, places: &[usize]| (places.len() - frequency) % places.len();
        let mut bands = Vec::new();
        let mut row_frequencies = Vec::new();
        let mut column_frequencies = Vec::new();
        // In the order of their places, so that the processor foresees what is read next.
        for row in row_order {
            let opposite_row = opposite(*row, &rows);
            if opposite_row < *row {
                continue;
            }
            let first = self.slots.len();
            for column in column_order {
                let opposite_column = opposite(*column, &columns);
                // A row of frequencies that is its own opposite holds both of each pair.
                if opposite_row == *row && opposite_column < *column {
                    continue;
                }
                self.slots.push([
                    rows[*row] * self.pitch + columns[*column],
                    rows[opposite_row] * self.pitch + columns[opposite_column],
                ]);
                column_frequencies.push(*column);
            }
            row_frequencies.push(*row);
            bands.push(first..self.slots.len());
        }
        let reach = |axis: usize| {
            let distances = lags.iter().map(|lag| lag.distance[axis].unsigned_abs());
            distances.max().unwrap_or(0)
        };
        self.signals.push(Signal {
            across: waves(&column_frequencies, reach(1), columns.len()),
            down: waves(&row_frequencies, reach(0), rows.len()),
            bands,
            scale: 0.5 / (rows.len() * columns.len()) as f32,
            constant: rows[0] * self.pitch + columns[0],
            lags,
        });
    }

    fn push_line(&mut self, axis: usize, place: usize, lags: Vec<Lag>) {
        let along = 1 - axis;
        let places = places(&self.transforms[along]);
        let start = self.len;
        self.len += places.len();
        self.lines.push(Line { axis, place });
        let first = self.slots.len();
        let len = places.len();
        let frequencies: Vec<usize> = (0..=len / 2).collect();
        self.slots.extend(frequencies.iter().map(|frequency| {
            [*frequency, (len - frequency) % len].map(|frequency| start + places[frequency])
        }));
        // A line is an image of one row, also if it is a column.
        let lags: Vec<Lag> = lags
            .into_iter()
            .map(|lag| Lag {
                distance: [0, lag.distance[along]],
                pairs: lag.pairs,
            })
            .collect();
        let distances = lags.iter().map(|lag| lag.distance[1].unsigned_abs());
        self.signals.push(Signal {
            across: waves(&frequencies, distances.max().unwrap_or(0), len),
            down: waves(&[0], 0, 1),
            bands: std::iter::once(first..self.slots.len()).collect(),
            scale: -0.5 / len as f32,
            constant: start + places[0],
            lags,
        });
    }

    /// Whether so many images of so many channels take less time this way than by all distances.
    ///
    /// Counted in multiplications of a register of 16 numbers; the factors are measured.
    pub(super) fn gains(&self, images: usize, channels: usize) -> bool {
        let (direct, spectral) = self.costs(images, channels);
        let blocks = channels.div_ceil(BLOCK);
        let bytes = self.tiles(blocks) * BLOCK * size_of::<[f32; BLOCK]>();
        let parts = images.div_ceil(Self::part(images));
        bytes.saturating_mul(parts) <= SUM_BYTES && spectral < direct
    }

    /// What the sums cost by all distances, and this way.
    fn costs(&self, images: usize, channels: usize) -> (f64, f64) {
        let [height, width] = self.image.map(|len| len as f64);
        let [rows, columns] = [0, 1].map(|axis| self.transforms[axis].len() as f64);
        let blocks = channels.div_ceil(BLOCK) as f64;
        let channels = channels.next_multiple_of(4) as f64;
        let squares = channels * (blocks + 1.0) / 2.0;
        let others = channels * blocks * (self.distances - 1) as f64;
        let direct = images as f64 * height * width * (squares + others);
        let [down, across] = [0, 1].map(|axis| self.transforms[axis].passes() as f64);
        let transforms = 12.0 * blocks * (height * columns * across + rows * columns * down);
        let frequencies: usize = self
            .slots
            .iter()
            .map(|[place, opposite]| if place == opposite { 1 } else { 2 })
            .sum();
        let products = 1.2 * frequencies as f64 * 2.0 * blocks * channels;
        let pairs = images.div_ceil(2) as f64;
        let parts = images.div_ceil(Self::part(images)) as f64;
        let waves = self.signals[0].across.len() as f64;
        let tiles = self.slots.len() as f64 * blocks * blocks;
        let once = tiles * BLOCK as f64 * 4.0 * (waves + 4.0 + 2.0 * parts);
        (direct, pairs * (transforms + products) + once)
    }

    /// Tiles of `M` of so many blocks.
    pub(super) fn tiles(&self, blocks: usize) -> usize {
        self.slots
            .len()
            .saturating_mul(blocks.saturating_mul(blocks))
    }

    /// Images that are summed at a time, out of so many.
    pub(super) fn part(images: usize) -> usize {
        images
            .div_ceil(PARTS)
            .next_multiple_of(2)
            .clamp(PART_IMAGES.start, PART_IMAGES.end)
    }

    /// Images whose spectra are held at a time, out of so many: about the same each time.
    pub(super) fn group(&self, images: usize, blocks: usize) -> usize {
        let bytes = (self.len * blocks * size_of::<ComplexPixel>()).max(1);
        let fewest = PAIRS[0].min(4 * blocks);
        let most = (SPECTRA_BYTES / bytes).clamp(fewest, PAIRS[1]);
        let pairs = images.div_ceil(2).max(1);
        2 * pairs.div_ceil(pairs.div_ceil(most))
    }
}

impl Signal {
    /// The waves that make up `cas(a + b)`, by their numbers: their factors, and whether they are the
    /// same in the opposite direction.
    ///
    /// ```text
    /// cas(a + b) = cos a cos b − sin a sin b + sin a cos b + cos a sin b
    /// ```
    pub(super) fn terms(&self, distance: [isize; 2]) -> [Option<(usize, f32, bool)>; 4] {
        let number = |down: usize, across: usize| down * self.across.len() + across;
        let [down, across] = distance.map(|distance| {
            let distance = distance.unsigned_abs();
            let sine = (distance > 0).then_some(2 * distance);
            ((2 * distance).saturating_sub(1), sine)
        });
        let [vertical, horizontal] = distance.map(|distance| if distance < 0 { -1.0 } else { 1.0 });
        [
            Some((number(down.0, across.0), self.scale, true)),
            down.1
                .map(|sine| (number(sine, across.0), vertical * self.scale, false)),
            across
                .1
                .map(|sine| (number(down.0, sine), horizontal * self.scale, false)),
            down.1.zip(across.1).map(|(down, across)| {
                (
                    number(down, across),
                    -vertical * horizontal * self.scale,
                    true,
                )
            }),
        ]
    }
}

/// The place of each frequency.
fn places(transform: &Dft) -> Vec<usize> {
    let mut places = vec![0; transform.len()];
    for (place, frequency) in transform.frequencies().iter().enumerate() {
        places[*frequency] = place;
    }
    places
}

/// `1`, and `cos` and `sin` of `2π f d / n` for each distance `d` from 1, of all frequencies.
fn waves(frequencies: &[usize], reach: usize, len: usize) -> Vec<Vec<f32>> {
    let wave = |distance: usize, function: fn(f64) -> f64| -> Vec<f32> {
        let turn: Vec<f32> = (0..len)
            .map(|place| function(TAU * place as f64 / len as f64) as f32)
            .collect();
        let places = frequencies
            .iter()
            .map(|frequency| frequency * distance % len);
        places.map(|place| turn[place]).collect()
    };
    let mut waves = vec![wave(0, f64::cos)];
    for distance in 1..=reach {
        waves.push(wave(distance, f64::cos));
        waves.push(wave(distance, f64::sin));
    }
    waves
}
