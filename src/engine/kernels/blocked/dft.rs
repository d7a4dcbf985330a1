//! The discrete Fourier transform of a line of pixels, each channel apart.
//!
//! ```text
//! X(f) = Σ_q x(q) e^(−2πi f q / n)
//! ```
//! in mixed radices by decimation in frequency (W. M. Gentleman and G. Sande, "Fast Fourier Transforms:
//! for fun and profit", 1966): a pass of radix `r` over blocks of `r · m` numbers takes the transforms
//! of `r` numbers that lie `m` apart, turns them, and leaves `r` blocks of `m`. All passes work in
//! place. The frequencies come out in the order of their reversed digits, which costs nothing where
//! all that is asked of them is a sum over all. The lanes of a register are channels, so that no
//! number ever moves between lanes.

use std::f64::consts::TAU;

use rten_simd::ops::{BitOps as _, FloatOps as _, NumOps as _};
use rten_simd::{Isa, SimdOp};

use super::{BLOCK, Pixel};

/// The real and the imaginary parts of a pixel.
pub(super) type ComplexPixel = [Pixel; 2];

/// The transforms that a pass knows, the best first: few passes move each number seldom.
const RADICES: [usize; 6] = [6, 8, 5, 4, 3, 2];

/// The transform of one length.
#[derive(Clone, Debug)]
pub(super) struct Dft {
    len: usize,
    passes: Vec<Pass>,
    /// The frequency at each place of the result.
    frequencies: Vec<usize>,
}

#[derive(Clone, Debug)]
struct Pass {
    radix: usize,
    /// From a number to the next of the same transform.
    span: usize,
    /// `(cos, sin)` of the turns `−2π j k / (radix · span)`, for each `j` below the span and each `k`
    /// from 1.
    turns: Vec<[f32; 2]>,
}

/// A line before its transform.
#[derive(Clone, Copy, Debug)]
pub(super) enum Source<'a> {
    /// Two real lines, which become the real and the imaginary part of one, followed by zeros.
    Planes {
        planes: [&'a [Pixel]; 2],
        len: usize,
        /// From a pixel of a line to the next.
        step: usize,
    },
    /// So many first numbers of the line itself; beyond them it is zero.
    Itself(usize),
}

/// What lies beyond the end of a line.
static NOTHING: Pixel = [0.0; BLOCK];

impl Source<'_> {
    /// The parts of a number of the line. By reference, also where there is none: so all numbers of a pass
    /// are loaded alike.
    #[inline(always)]
    fn pixels<'s>(&'s self, own: &'s [ComplexPixel], at: usize, own_step: usize) -> [&'s Pixel; 2] {
        match self {
            Self::Planes { planes, len, step } if at < *len => {
                [&planes[0][at * step], &planes[1][at * step]]
            }
            Self::Itself(len) if at < *len => {
                let [real, imaginary] = &own[at * own_step];
                [real, imaginary]
            }
            _ => [&NOTHING; 2],
        }
    }
}

impl Dft {
    /// The transform of the shortest length from `least` that has no other factors than 2, 3 and 5.
    pub(super) fn from_length(least: usize) -> Self {
        let (len, radices) = (least.max(2)..)
            .find_map(|len| Some((len, radices(len)?)))
            .unwrap_or_default();
        let mut passes = Vec::with_capacity(radices.len());
        let mut frequencies = vec![0];
        let mut span = len;
        for radix in radices {
            let block = span;
            span /= radix;
            let turn = |j: usize, k: usize| {
                let angle = -TAU * (j * k) as f64 / block as f64;
                [angle.cos() as f32, angle.sin() as f32]
            };
            // The block of digit `k` holds the frequencies `k` modulo the radices so far.
            let weight = len / block;
            frequencies = frequencies
                .iter()
                .flat_map(|own| (0..radix).map(move |digit| own + digit * weight))
                .collect();
            passes.push(Pass {
                radix,
                span,
                turns: (0..span)
                    .flat_map(|j| (1..radix).map(move |k| turn(j, k)))
                    .collect(),
            });
        }
        Self {
            len,
            passes,
            frequencies,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Times that each number is moved.
    pub(super) fn passes(&self) -> usize {
        self.passes.len()
    }

    pub(super) fn frequencies(&self) -> &[usize] {
        &self.frequencies
    }

    /// Transforms numbers that lie `step` apart; `R` registers hold a pixel.
    #[inline(always)]
    fn transform<I: Isa, const R: usize>(
        &self,
        isa: I,
        source: Source<'_>,
        line: &mut [ComplexPixel],
        step: usize,
    ) {
        let mut source = source;
        for pass in &self.passes {
            match pass.radix {
                2 => pass.run::<I, R, 2>(isa, self.len, source, line, step),
                3 => pass.run::<I, R, 3>(isa, self.len, source, line, step),
                4 => pass.run::<I, R, 4>(isa, self.len, source, line, step),
                5 => pass.run::<I, R, 5>(isa, self.len, source, line, step),
                6 => pass.run::<I, R, 6>(isa, self.len, source, line, step),
                _ => pass.run::<I, R, 8>(isa, self.len, source, line, step),
            }
            source = Source::Itself(self.len);
        }
    }
}

/// Lines that are transformed one after another.
pub(super) struct Lines<'a> {
    pub transform: &'a Dft,
    pub count: usize,
    /// Of the first line.
    pub source: Source<'a>,
    /// Pixels from the source of a line to that of the next.
    pub source_pitch: usize,
    pub numbers: &'a mut [ComplexPixel],
    /// From a line to the next.
    pub pitch: usize,
    /// From a number of a line to the next.
    pub step: usize,
}

impl Lines<'_> {
    /// Transforms them with the widest registers.
    pub(super) fn run(self) {
        self.dispatch();
    }

    #[inline(always)]
    fn each<I: Isa, const R: usize>(self, isa: I) {
        for line in 0..self.count {
            let mut source = self.source;
            if let Source::Planes { planes, .. } = &mut source {
                *planes = planes.map(|plane| &plane[line * self.source_pitch..]);
            }
            let numbers = &mut self.numbers[line * self.pitch..];
            self.transform
                .transform::<I, R>(isa, source, numbers, self.step);
        }
    }
}

impl SimdOp for Lines<'_> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        match isa.f32().len() {
            16 => self.each::<I, 1>(isa),
            8 => self.each::<I, 2>(isa),
            _ => self.each::<I, 4>(isa),
        }
    }
}

/// The fewest radices whose product is a length, if there are any.
fn radices(len: usize) -> Option<Vec<usize>> {
    if len == 1 {
        return Some(Vec::new());
    }
    RADICES
        .iter()
        .filter(|radix| len.is_multiple_of(**radix))
        .filter_map(|radix| {
            let mut all = vec![*radix];
            all.extend(radices(len / radix)?);
            Some(all)
        })
        .min_by_key(Vec::len)
}

impl Pass {
    #[inline(always)]
    fn run<I: Isa, const R: usize, const RADIX: usize>(
        &self,
        isa: I,
        len: usize,
        source: Source<'_>,
        line: &mut [ComplexPixel],
        step: usize,
    ) {
        let ops = isa.f32();
        let span = self.span;
        for block in (0..len).step_by(RADIX * span) {
            for offset in 0..span {
                let place = block + offset;
                for register in 0..R {
                    let lanes = register * ops.len();
                    let mut values = [[ops.zero(); 2]; RADIX];
                    for (index, value) in values.iter_mut().enumerate() {
                        let [real, imaginary] = source.pixels(line, place + index * span, step);
                        *value = [ops.load(&real[lanes..]), ops.load(&imaginary[lanes..])];
                    }
                    let mut values = transformed::<I, RADIX>(isa, values);
                    if offset > 0 {
                        let turns = &self.turns[offset * (RADIX - 1)..][..RADIX - 1];
                        for (value, [cos, sin]) in values[1..].iter_mut().zip(turns) {
                            *value = turned(isa, *value, ops.splat(*cos), ops.splat(*sin));
                        }
                    }
                    for (index, [own_real, own_imaginary]) in values.into_iter().enumerate() {
                        let [real, imaginary] = &mut line[(place + index * span) * step];
                        ops.store(own_real, &mut real[lanes..]);
                        ops.store(own_imaginary, &mut imaginary[lanes..]);
                    }
                }
            }
        }
    }
}

type Complex<I> = [<I as Isa>::F32; 2];

/// `value · (cos + i sin)`.
#[inline(always)]
fn turned<I: Isa>(isa: I, [real, imaginary]: Complex<I>, cos: I::F32, sin: I::F32) -> Complex<I> {
    let ops = isa.f32();
    [
        ops.mul_sub_from(imaginary, sin, ops.mul(real, cos)),
        ops.mul_add(imaginary, cos, ops.mul(real, sin)),
    ]
}

/// The transform of a few numbers.
#[inline(always)]
fn transformed<I: Isa, const RADIX: usize>(
    isa: I,
    mut x: [Complex<I>; RADIX],
) -> [Complex<I>; RADIX] {
    match RADIX {
        2 => two(isa, &mut x, [0, 1]),
        3 => three(isa, &mut x, [0, 1, 2]),
        4 => four(isa, &mut x, [0, 1, 2, 3]),
        5 => five(isa, &mut x),
        6 => six(isa, &mut x),
        _ => eight(isa, &mut x),
    }
    x
}

#[inline(always)]
fn sum<I: Isa>(isa: I, a: Complex<I>, b: Complex<I>) -> Complex<I> {
    let ops = isa.f32();
    [ops.add(a[0], b[0]), ops.add(a[1], b[1])]
}

#[inline(always)]
fn difference<I: Isa>(isa: I, a: Complex<I>, b: Complex<I>) -> Complex<I> {
    let ops = isa.f32();
    [ops.sub(a[0], b[0]), ops.sub(a[1], b[1])]
}

/// `a + factor · b`.
#[inline(always)]
fn scaled_sum<I: Isa>(isa: I, a: Complex<I>, factor: I::F32, b: Complex<I>) -> Complex<I> {
    let ops = isa.f32();
    [
        ops.mul_add(factor, b[0], a[0]),
        ops.mul_add(factor, b[1], a[1]),
    ]
}

/// `(a − i b, a + i b)`.
#[inline(always)]
fn rotations<I: Isa>(isa: I, a: Complex<I>, b: Complex<I>) -> [Complex<I>; 2] {
    let ops = isa.f32();
    [
        [ops.add(a[0], b[1]), ops.sub(a[1], b[0])],
        [ops.sub(a[0], b[1]), ops.add(a[1], b[0])],
    ]
}

#[inline(always)]
fn two<I: Isa>(isa: I, x: &mut [Complex<I>], [a, b]: [usize; 2]) {
    (x[a], x[b]) = (sum(isa, x[a], x[b]), difference(isa, x[a], x[b]));
}

#[inline(always)]
fn three<I: Isa>(isa: I, x: &mut [Complex<I>], [a, b, c]: [usize; 3]) {
    let ops = isa.f32();
    let sine = ops.splat(0.75f32.sqrt());
    let both = sum(isa, x[b], x[c]);
    let apart = difference(isa, x[b], x[c]);
    let middle = scaled_sum(isa, x[a], ops.splat(-0.5), both);
    x[a] = sum(isa, x[a], both);
    x[b] = [
        ops.mul_add(sine, apart[1], middle[0]),
        ops.mul_sub_from(sine, apart[0], middle[1]),
    ];
    x[c] = [
        ops.mul_sub_from(sine, apart[1], middle[0]),
        ops.mul_add(sine, apart[0], middle[1]),
    ];
}

#[inline(always)]
fn four<I: Isa>(isa: I, x: &mut [Complex<I>], [a, b, c, d]: [usize; 4]) {
    two(isa, x, [a, c]);
    two(isa, x, [b, d]);
    let [minus, plus] = rotations(isa, x[c], x[d]);
    two(isa, x, [a, b]);
    let opposite = x[b];
    (x[b], x[c], x[d]) = (minus, opposite, plus);
}

#[inline(always)]
fn five<I: Isa>(isa: I, x: &mut [Complex<I>]) {
    let ops = isa.f32();
    // The cosines and sines of a fifth of a turn and of two fifths.
    let (cos, cos_twice) = (ops.splat(0.309_017), ops.splat(-0.809_017));
    let (sin, sin_twice) = (ops.splat(0.951_056_54), ops.splat(0.587_785_24));
    let outer = sum(isa, x[1], x[4]);
    let inner = sum(isa, x[2], x[3]);
    let outer_apart = difference(isa, x[1], x[4]);
    let inner_apart = difference(isa, x[2], x[3]);
    let first = scaled_sum(isa, scaled_sum(isa, x[0], cos, outer), cos_twice, inner);
    let second = scaled_sum(isa, scaled_sum(isa, x[0], cos_twice, outer), cos, inner);
    let zero = [ops.zero(); 2];
    let first_turn = scaled_sum(
        isa,
        scaled_sum(isa, zero, sin, outer_apart),
        sin_twice,
        inner_apart,
    );
    let second_turn = scaled_sum(
        isa,
        scaled_sum(isa, zero, sin_twice, outer_apart),
        ops.sub(ops.zero(), sin),
        inner_apart,
    );
    x[0] = sum(isa, x[0], sum(isa, outer, inner));
    [x[1], x[4]] = rotations(isa, first, first_turn);
    [x[2], x[3]] = rotations(isa, second, second_turn);
}

/// By the prime factors 2 and 3, without turns (I. J. Good, "The interaction algorithm and practical
/// Fourier analysis", 1958).
#[inline(always)]
fn six<I: Isa>(isa: I, x: &mut [Complex<I>]) {
    three(isa, x, [0, 2, 4]);
    three(isa, x, [3, 5, 1]);
    two(isa, x, [0, 3]);
    two(isa, x, [2, 5]);
    two(isa, x, [4, 1]);
    x.swap(1, 5);
    x.swap(2, 4);
}

#[inline(always)]
fn eight<I: Isa>(isa: I, x: &mut [Complex<I>]) {
    let ops = isa.f32();
    four(isa, x, [0, 2, 4, 6]);
    four(isa, x, [1, 3, 5, 7]);
    let half = ops.splat(0.5f32.sqrt());
    let minus_half = ops.splat(-(0.5f32.sqrt()));
    // The odd half turned by an eighth, two and three of them.
    let [real, imaginary] = x[3];
    x[3] = [
        ops.mul(half, ops.add(real, imaginary)),
        ops.mul(half, ops.sub(imaginary, real)),
    ];
    let [real, imaginary] = x[7];
    x[7] = [
        ops.mul(half, ops.sub(imaginary, real)),
        ops.mul(minus_half, ops.add(real, imaginary)),
    ];
    let even = [x[0], x[2], x[4], x[6]];
    let odd = [x[1], x[3], x[5], x[7]];
    let turned = rotations(isa, even[2], odd[2]);
    for (index, pair) in [
        [sum(isa, even[0], odd[0]), difference(isa, even[0], odd[0])],
        [sum(isa, even[1], odd[1]), difference(isa, even[1], odd[1])],
        turned,
        [sum(isa, even[3], odd[3]), difference(isa, even[3], odd[3])],
    ]
    .into_iter()
    .enumerate()
    {
        [x[index], x[index + 4]] = pair;
    }
}

#[cfg(test)]
mod tests {
    use rten_simd::isa::GenericIsa;

    use super::*;

    fn check<I: Isa>(isa: I) {
        for len in [2, 3, 4, 5, 6, 8, 9, 10, 16, 18, 30, 36, 48, 60] {
            let dft = Dft::from_length(len);
            assert_eq!(dft.len(), len);
            let line: Vec<ComplexPixel> = (0..len)
                .map(|place| {
                    [0.3, 0.7].map(|turn| {
                        std::array::from_fn(|lane| ((place * place + lane) as f32 * turn).sin())
                    })
                })
                .collect();
            let mut transformed = line.clone();
            Lines {
                transform: &dft,
                count: 1,
                source: Source::Itself(len),
                source_pitch: 0,
                numbers: &mut transformed,
                pitch: 0,
                step: 1,
            }
            .eval(isa);
            for (place, frequency) in dft.frequencies().iter().enumerate() {
                for lane in 0..BLOCK {
                    let mut sums = [0.0f64; 2];
                    for (index, number) in line.iter().enumerate() {
                        let (sin, cos) = (-TAU * (index * frequency) as f64 / len as f64).sin_cos();
                        let [real, imaginary] = number.map(|part| f64::from(part[lane]));
                        sums[0] += real * cos - imaginary * sin;
                        sums[1] += real * sin + imaginary * cos;
                    }
                    for (actual, expected) in transformed[place].iter().zip(sums) {
                        let error = (f64::from(actual[lane]) - expected).abs();
                        assert!(error < 1e-5, "{len}: frequency {frequency}, {error}");
                    }
                }
            }
        }
    }

    #[test]
    fn frequencies_are_those_of_the_definition() {
        check(GenericIsa::new());
        #[cfg(target_arch = "x86_64")]
        {
            if let Some(isa) = rten_simd::isa::Avx2Isa::new() {
                check(isa);
            }
            if let Some(isa) = rten_simd::isa::Avx512Isa::new() {
                check(isa);
            }
        }
    }

    #[test]
    fn a_length_without_other_factors_is_found() {
        for (least, len) in [
            (0, 2),
            (7, 8),
            (11, 12),
            (34, 36),
            (58, 60),
            (114, 120),
            (226, 240),
        ] {
            assert_eq!(Dft::from_length(least).len(), len);
        }
    }
}
