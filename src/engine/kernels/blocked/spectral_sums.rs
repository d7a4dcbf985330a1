//! The sums over images for [`Spectral`]: transforms, products at each frequency, and what the distances
//! of a window make of them.
//!
//! Every sum is one chain of multiply-adds through the images of a group, the groups of a part and the
//! parts in this order; it does not depend on the number of threads.

use std::borrow::Cow;

use rten_simd::ops::{BitOps as _, FloatOps as _, NumOps as _};
use rten_simd::{Isa, SimdOp};

use super::dft::{ComplexPixel, Lines, Source};
use super::regions::Lag;
use super::spectral::{Signal, Spectral};
use super::tile::load_pixel;
use super::{BLOCK, Pixel};

/// Sums of the products of the channels of two blocks: a row for each channel of the second.
type Tile = [Pixel; BLOCK];

/// The sums of the products of spectra.
pub(super) struct SpectralSums<'a> {
    spectral: &'a Spectral,
    blocks: usize,
    channels: usize,
    /// Of the images of a group: those of all blocks, for each pair of images.
    spectra: Vec<ComplexPixel>,
    /// `M` of each slot, in it for each second block and each first one; none before the first images.
    tiles: Vec<Tile>,
    /// The sums of each signal, for each block.
    constants: Vec<Pixel>,
}

impl<'a> SpectralSums<'a> {
    pub(super) fn new(spectral: &'a Spectral, channels: usize) -> Self {
        let blocks = channels.div_ceil(BLOCK);
        Self {
            spectral,
            blocks,
            channels,
            spectra: Vec::new(),
            tiles: Vec::with_capacity(spectral.tiles(blocks)),
            constants: vec![[0.0; BLOCK]; spectral.signals.len() * blocks],
        }
    }

    /// Adds the products of images.
    pub(super) fn sum(&mut self, images: &[&[Pixel]]) {
        for images in images.chunks(self.spectral.group(images.len(), self.blocks)) {
            self.add(images);
        }
        self.spectra = Vec::new();
    }

    /// Adds the products of so few images that their spectra stay in a cache.
    fn add(&mut self, images: &[&[Pixel]]) {
        let numbers = images.len().div_ceil(2) * self.blocks * self.spectral.len;
        self.spectra.resize(numbers, [[0.0; BLOCK]; 2]);
        self.transform(images);
        self.add_constants();
        AddProducts { sums: self }.dispatch();
    }

    fn transform(&mut self, images: &[&[Pixel]]) {
        let [height, width] = self.spectral.image;
        let plane_len = height * width;
        let is_odd = images.len() % 2 == 1;
        let zeros = vec![[0.0; BLOCK]; if is_odd { self.blocks * plane_len } else { 0 }];
        let mut spectra = self.spectra.chunks_exact_mut(self.spectral.len);
        for pair in images.chunks(2) {
            let pair = [pair[0], *pair.get(1).unwrap_or(&&zeros[..])];
            for (block, spectra) in (0..self.blocks).zip(&mut spectra) {
                let planes = pair.map(|image| &image[block * plane_len..][..plane_len]);
                self.spectral.transform(planes, spectra);
            }
        }
    }

    /// The sum of an image is its spectrum at the frequency 0.
    fn add_constants(&mut self) {
        let spectra = self.spectra.chunks_exact(self.spectral.len);
        for (index, spectra) in spectra.enumerate() {
            let block = index % self.blocks;
            for (number, signal) in self.spectral.signals.iter().enumerate() {
                let [real, imaginary] = &spectra[signal.constant];
                let sums = &mut self.constants[number * self.blocks + block];
                for ((sum, real), imaginary) in sums.iter_mut().zip(real).zip(imaginary) {
                    *sum += real + imaginary;
                }
            }
        }
    }

    fn lanes(&self, block: usize) -> usize {
        BLOCK.min(self.channels - block * BLOCK)
    }
}

impl Spectral {
    /// Adds the sums of what the kernel elements see of a block.
    pub(super) fn add_elements(
        &self,
        parts: &[SpectralSums<'_>],
        block: usize,
        elements: &mut [Pixel],
    ) {
        for (number, signal) in self.signals.iter().enumerate() {
            // The pairs of an element with itself have its number.
            let lags = signal.lags.iter().filter(|lag| lag.distance == [0, 0]);
            for element in lags.flat_map(|lag| &lag.pairs) {
                for part in parts {
                    let sums = part.constants[number * part.blocks + block];
                    let sums = sums.iter().take(part.lanes(block));
                    for (to, sum) in elements[*element].iter_mut().zip(sums) {
                        *to += sum * signal.scale.signum();
                    }
                }
            }
        }
    }

    /// Adds what all parts together give to the tiles of two blocks, the first before the second or
    /// the same.
    ///
    /// Of different blocks, the tiles of pairs with the second block at the first element begin at
    /// `reversed`.
    pub(super) fn add_products(
        &self,
        parts: &[SpectralSums<'_>],
        unit: [usize; 2],
        reversed: usize,
        sums: &mut [Pixel],
    ) {
        AddToTiles {
            spectral: self,
            parts,
            unit,
            reversed,
            sums: sums.as_chunks_mut::<BLOCK>().0,
        }
        .dispatch();
    }
}

/// Adds the correlations to the tiles of two blocks.
struct AddToTiles<'a> {
    spectral: &'a Spectral,
    parts: &'a [SpectralSums<'a>],
    unit: [usize; 2],
    reversed: usize,
    sums: &'a mut [Tile],
}

impl SimdOp for AddToTiles<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        match isa.f32().len() {
            16 => self.run::<I, 1, 16>(isa),
            8 => self.run::<I, 2, 4>(isa),
            _ => self.run::<I, 4, 2>(isa),
        }
    }
}

impl AddToTiles<'_> {
    #[inline(always)]
    fn run<I: Isa, const R: usize, const P: usize>(self, isa: I) {
        let Some(part) = self.parts.first() else {
            return;
        };
        let [first, second] = self.unit;
        let channels = self.unit.map(|block| part.lanes(block));
        let own_tiles = joined(self.parts, first, second);
        let other_tiles = if first == second {
            Cow::Borrowed(&[][..])
        } else {
            joined(self.parts, second, first)
        };
        for signal in &self.spectral.signals {
            let own = signal.waves::<I, R, P>(isa, &own_tiles);
            if first == second {
                for lag in &signal.lags {
                    signal.add(isa, [&own, &own], lag, channels, 0, self.sums);
                }
                continue;
            }
            let other = signal.waves::<I, R, P>(isa, &other_tiles);
            for lag in &signal.lags {
                signal.add(isa, [&own, &other], lag, channels, 0, self.sums);
                if lag.distance != [0, 0] {
                    let channels = [channels[1], channels[0]];
                    signal.add(isa, [&other, &own], lag, channels, self.reversed, self.sums);
                }
            }
        }
    }
}

/// The tiles of two blocks at all slots, summed over all parts.
#[inline(always)]
fn joined<'s>(parts: &'s [SpectralSums<'_>], first: usize, second: usize) -> Cow<'s, [Tile]> {
    if let [part] = parts
        && part.blocks == 1
    {
        return Cow::Borrowed(&part.tiles);
    }
    let mut joined: Vec<Tile> = Vec::new();
    for part in parts {
        let tiles = part.tiles.chunks_exact(part.blocks * part.blocks);
        let tiles = tiles.map(|tiles| &tiles[second * part.blocks + first]);
        if joined.is_empty() {
            joined.extend(tiles);
            continue;
        }
        for (sum, tile) in joined.iter_mut().zip(tiles) {
            let sum = sum.as_flattened_mut().iter_mut();
            for (sum, number) in sum.zip(tile.as_flattened()) {
                *sum += number;
            }
        }
    }
    Cow::Owned(joined)
}

impl Signal {
    /// The sums of tiles with all products of vertical and horizontal waves.
    #[inline(always)]
    fn waves<I: Isa, const R: usize, const P: usize>(&self, isa: I, tiles: &[Tile]) -> Vec<Tile> {
        let empty = [[0.0; BLOCK]; BLOCK];
        let start = self.bands.first().map_or(0, |band| band.start);
        let mut across = vec![empty; self.across.len() * self.bands.len()];
        let mut targets = across.iter_mut();
        for wave in &self.across {
            for (band, target) in self.bands.iter().zip(&mut targets) {
                let factors = &wave[band.start - start..band.end - start];
                weighted::<I, R, P>(isa, &tiles[band.clone()], factors, target);
            }
        }
        let mut sums = vec![empty; self.across.len() * self.down.len()];
        let mut targets = sums.iter_mut();
        for wave in &self.down {
            let bands = across.chunks_exact(self.bands.len());
            for (bands, target) in bands.zip(&mut targets) {
                weighted::<I, R, P>(isa, bands, wave, target);
            }
        }
        sums
    }

    /// Adds the correlation of two blocks at a distance, from the [`Self::waves`] of the tiles of the
    /// first with the second block and of those of the second with the first.
    #[inline(always)]
    fn add<I: Isa>(
        &self,
        _isa: I,
        [own, other]: [&[Tile]; 2],
        lag: &Lag,
        channels: [usize; 2],
        first_pair: usize,
        sums: &mut [Tile],
    ) {
        let mut sum = [[0.0; BLOCK]; BLOCK];
        let mut turned = [[0.0; BLOCK]; BLOCK];
        for (number, factor, is_even) in self.terms(lag.distance).into_iter().flatten() {
            let reversed = if is_even { factor } else { -factor };
            let (own, other) = (own[number].as_flattened(), other[number].as_flattened());
            for (sum, own) in sum.as_flattened_mut().iter_mut().zip(own) {
                *sum += factor * own;
            }
            for (sum, other) in turned.as_flattened_mut().iter_mut().zip(other) {
                *sum += reversed * other;
            }
        }
        for (row, sum) in sum.iter_mut().enumerate() {
            for (sum, turned) in sum.iter_mut().zip(&turned) {
                *sum += turned[row];
            }
        }
        for pair in &lag.pairs {
            let rows = sums[first_pair + pair].iter_mut().zip(&sum);
            for (sums, sum) in rows.take(channels[1]) {
                for (sums, sum) in sums.iter_mut().zip(sum).take(channels[0]) {
                    *sums += sum;
                }
            }
        }
    }
}

/// `Σ factor · tile`, in place of what the target holds.
#[inline(always)]
fn weighted<I: Isa, const R: usize, const P: usize>(
    isa: I,
    tiles: &[Tile],
    factors: &[f32],
    target: &mut Tile,
) {
    let ops = isa.f32();
    let lanes = ops.len();
    for first in (0..BLOCK).step_by(P) {
        let mut sums = [[ops.zero(); R]; P];
        for (tile, factor) in tiles.iter().zip(factors) {
            let factor = ops.splat(*factor);
            for (sums, row) in sums.iter_mut().zip(&tile[first..first + P]) {
                let row = load_pixel::<I, R>(isa, row);
                for (sum, row) in sums.iter_mut().zip(row) {
                    *sum = ops.mul_add(factor, row, *sum);
                }
            }
        }
        for (sums, to) in sums.into_iter().zip(&mut target[first..first + P]) {
            for (register, sum) in sums.into_iter().enumerate() {
                ops.store(sum, &mut to[register * lanes..]);
            }
        }
    }
}

impl Spectral {
    /// The spectra of a block of two images.
    fn transform(&self, planes: [&[Pixel]; 2], spectra: &mut [ComplexPixel]) {
        let [height, width] = self.image;
        let [columns, rows] = &self.transforms;
        let (image, mut lines) = spectra.split_at_mut(columns.len() * self.pitch);
        Lines {
            transform: rows,
            count: height,
            source: Source::Planes {
                planes,
                len: width,
                step: 1,
            },
            source_pitch: width,
            numbers: &mut *image,
            pitch: self.pitch,
            step: 1,
        }
        .run();
        for line in &self.lines {
            let len = self.transforms[1 - line.axis].len();
            let (spectrum, rest) = lines.split_at_mut(len);
            lines = rest;
            if line.axis == 0 {
                spectrum.copy_from_slice(&image[line.place * self.pitch..][..len]);
                continue;
            }
            Lines {
                transform: columns,
                count: 1,
                source: Source::Planes {
                    planes: planes.map(|plane| &plane[line.place..]),
                    len: height,
                    step: width,
                },
                source_pitch: 0,
                numbers: spectrum,
                pitch: len,
                step: 1,
            }
            .run();
        }
        Lines {
            transform: columns,
            count: rows.len(),
            source: Source::Itself(height),
            source_pitch: 0,
            numbers: image,
            pitch: 1,
            step: self.pitch,
        }
        .run();
    }
}

/// Adds the products of the spectra of a group to the tiles of all slots.
struct AddProducts<'s, 'a> {
    sums: &'s mut SpectralSums<'a>,
}

impl SimdOp for AddProducts<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        match isa.f32().len() {
            16 => self.sums.add_products::<I, 1>(isa),
            8 => self.sums.add_products::<I, 2>(isa),
            _ => self.sums.add_products::<I, 4>(isa),
        }
    }
}

/// What a slot of a block of two images brings to products: `Re X` and `Im X`, by which the second
/// block is multiplied, and `Re X + Im X` and `Im X − Re X`, by which the first one is.
type Factors = [Pixel; 4];

impl SpectralSums<'_> {
    #[inline(always)]
    fn add_products<I: Isa, const R: usize>(&mut self, isa: I) {
        let (blocks, len) = (self.blocks, self.spectral.len);
        let pairs = self.spectra.len() / (blocks * len).max(1);
        // For each block, those of one frequency and its opposite for each pair of images.
        let mut factors = vec![[[0.0; BLOCK]; 4]; blocks * 2 * pairs];
        let is_first = self.tiles.is_empty();
        for (slot, [place, opposite]) in self.spectral.slots.iter().enumerate() {
            let opposites = if place == opposite { 1 } else { 2 };
            let count = pairs * opposites;
            for (index, spectra) in self.spectra.chunks_exact(len).enumerate() {
                let at = index % blocks * count + index / blocks * opposites;
                factors_of::<I, R>(isa, &spectra[*place], false, &mut factors[at]);
                if opposites == 2 {
                    factors_of::<I, R>(isa, &spectra[*opposite], true, &mut factors[at + 1]);
                }
            }
            let factors = &factors[..blocks * count];
            if is_first {
                // Not all at once: what is written is then still in the cache.
                let tiles = (slot + 1) * blocks * blocks;
                self.tiles.resize(tiles, [[0.0; BLOCK]; BLOCK]);
            }
            let mut tiles = self.tiles[slot * blocks * blocks..].iter_mut();
            for (second, other) in factors.chunks_exact(count).enumerate() {
                let channels = BLOCK.min(self.channels - second * BLOCK);
                for (own, tile) in factors.chunks_exact(count).zip(&mut tiles) {
                    add_products(isa, own, other, channels, tile);
                }
            }
        }
    }
}

/// The factors of a frequency, or of the conjugate of what is found at its opposite.
#[inline(always)]
fn factors_of<I: Isa, const R: usize>(
    isa: I,
    [real, imaginary]: &ComplexPixel,
    is_opposite: bool,
    factors: &mut Factors,
) {
    let ops = isa.f32();
    let real = load_pixel::<I, R>(isa, real);
    let imaginary = load_pixel::<I, R>(isa, imaginary);
    for register in 0..R {
        let (real, mut imaginary) = (real[register], imaginary[register]);
        if is_opposite {
            imaginary = ops.neg(imaginary);
        }
        let lanes = register * ops.len();
        ops.store(real, &mut factors[0][lanes..]);
        ops.store(imaginary, &mut factors[1][lanes..]);
        ops.store(ops.add(real, imaginary), &mut factors[2][lanes..]);
        ops.store(ops.sub(imaginary, real), &mut factors[3][lanes..]);
    }
}

/// Adds the products of a block with the first `channels` of another one.
#[inline(always)]
fn add_products<I: Isa>(
    isa: I,
    own: &[Factors],
    other: &[Factors],
    channels: usize,
    tile: &mut Tile,
) {
    match (isa.f32().len(), channels) {
        (16, 0..=4) => sum_products::<I, 1, 4>(isa, own, other, 0, tile),
        (16, 5..=8) => sum_products::<I, 1, 8>(isa, own, other, 0, tile),
        (16, 9..=12) => sum_products::<I, 1, 12>(isa, own, other, 0, tile),
        (16, _) => sum_products::<I, 1, 16>(isa, own, other, 0, tile),
        (8, _) => {
            for first in (0..channels).step_by(4) {
                sum_products::<I, 2, 4>(isa, own, other, first, tile);
            }
        }
        _ => {
            for first in (0..channels).step_by(2) {
                sum_products::<I, 4, 2>(isa, own, other, first, tile);
            }
        }
    }
}

#[inline(always)]
fn sum_products<I: Isa, const R: usize, const P: usize>(
    isa: I,
    own: &[Factors],
    other: &[Factors],
    first: usize,
    tile: &mut Tile,
) {
    let ops = isa.f32();
    let lanes = ops.len();
    let mut sums = [[ops.zero(); R]; P];
    for (sums, from) in sums.iter_mut().zip(&tile[first..]) {
        *sums = load_pixel::<I, R>(isa, from);
    }
    for ([_, _, own @ ..], [values @ .., _, _]) in own.iter().zip(other) {
        for (values, own) in values.iter().zip(own) {
            let own = load_pixel::<I, R>(isa, own);
            for (sums, value) in sums.iter_mut().zip(&values[first..first + P]) {
                let value = ops.splat(*value);
                for (sum, own) in sums.iter_mut().zip(own) {
                    *sum = ops.mul_add(value, own, *sum);
                }
            }
        }
    }
    // By value, so that the sums stay in registers.
    for (sums, to) in sums.into_iter().zip(&mut tile[first..first + P]) {
        for (register, sum) in sums.into_iter().enumerate() {
            ops.store(sum, &mut to[register * lanes..]);
        }
    }
}

#[cfg(test)]
mod tests {
    use rten_simd::isa::GenericIsa;

    use super::super::super::planes::Windows;
    use super::*;

    /// Registers of other widths than those of this processor.
    fn check<I: Isa>(isa: I) {
        let windows = Windows {
            kernel: [3, 3],
            strides: [1, 1],
            pads: [1; 4],
            dilations: [1, 1],
            input: [5, 6],
            output: [5, 6],
        };
        let Some(spectral) = Spectral::of(&windows) else {
            unreachable!("windows of neighbours have spectra");
        };
        let images: Vec<Vec<Pixel>> = (0..3)
            .map(|image| {
                (0..2 * 30)
                    .map(|place| {
                        std::array::from_fn(|lane| ((image * 7 + place * 3 + lane) as f32).sin())
                    })
                    .collect()
            })
            .collect();
        let images: Vec<&[Pixel]> = images.iter().map(Vec::as_slice).collect();
        let channels = 23;
        let [mut expected, mut actual] = [(); 2].map(|()| SpectralSums::new(&spectral, channels));
        expected.sum(&images);
        actual.spectra = vec![[[0.0; BLOCK]; 2]; 2 * 2 * spectral.len];
        actual.transform(&images);
        AddProducts { sums: &mut actual }.eval(isa);
        let taps = 9;
        let mut tiles = [(); 2].map(|()| vec![[0.0; BLOCK]; taps * taps * BLOCK]);
        let reversed = taps * (taps - 1) / 2;
        spectral.add_products(&[expected], [0, 1], reversed, &mut tiles[0]);
        AddToTiles {
            spectral: &spectral,
            parts: &[actual],
            unit: [0, 1],
            reversed,
            sums: tiles[1].as_chunks_mut::<BLOCK>().0,
        }
        .eval(isa);
        let [expected, actual] = &tiles;
        for (expected, actual) in expected.as_flattened().iter().zip(actual.as_flattened()) {
            assert!(
                (expected - actual).abs() < 1e-4,
                "{expected} is not {actual}"
            );
        }
    }

    #[test]
    fn registers_of_all_widths_give_the_same() {
        check(GenericIsa::new());
        #[cfg(target_arch = "x86_64")]
        if let Some(isa) = rten_simd::isa::Avx2Isa::new() {
            check(isa);
        }
    }
}
