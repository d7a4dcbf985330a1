//! Rounding up or down, decided by gradient descent.

use super::lanes::{LANES, Lanes, Levels, inner_product, product};

/// Steps of the descent.
const STEPS: u16 = 800;
/// Length of a step, as in Adam.
const RATE: f32 = 0.02;
/// Weight of the term that drives decisions to 0 and 1, against errors in steps of the grid.
const DECISION: f32 = 0.02;
/// Part of the steps without that term.
const FREE: f32 = 0.2;
/// The exponent of that term, at first and at last.
const EXPONENTS: [f32; 2] = [20.0, 2.0];
/// The sigmoid is stretched beyond 0 and 1 by this, so that both are reached.
const STRETCH: f32 = 0.1;
/// Decay of the means of gradients and of their squares.
const DECAY: [f32; 2] = [0.9, 0.999];

/// A block of channels whose weights are rounded up or down.
pub(super) struct Relaxation<'a> {
    /// `H`, row by row.
    pub(super) matrix: &'a [f32],
    pub(super) weights: &'a [Lanes],
    /// Which of the levels each weight has.
    pub(super) levels_at: &'a [usize],
}

impl Relaxation<'_> {
    /// Steps whose error is at most that of `known`.
    ///
    /// ```text
    /// ŵ = s · clamp(⌊w / s⌋ + h(v)),   h(v) = clamp(1.2 · σ(v) − 0.1, 0, 1)
    /// minimize over v:   (ŵ − w)ᵀ H (ŵ − w) / (s² · mean diagonal of H) + λ · Σ (1 − |2h − 1|^β)
    /// ```
    /// This is `AdaRound` (Nagel et al. 2020) by Adam, with β falling from 20 to 2; its loss on samples is
    /// that quadratic form, so that no sample is run again.
    pub(super) fn run(&self, levels: &[Levels], known: Vec<Lanes>) -> Vec<Lanes> {
        let size = self.weights.len();
        let energy: f32 = (0..size).map(|at| self.matrix[at * size + at]).sum::<f32>();
        let energy = energy / size.max(1) as f32;
        if energy <= 0.0 || levels.iter().any(|levels| levels.is_binary) {
            return known;
        }
        let mut decisions: Vec<Decision> = self
            .weights
            .iter()
            .zip(self.levels_at)
            .map(|(weight, at)| Decision::new(weight, &levels[*at]))
            .collect();
        for step in 0..STEPS {
            let errors: Vec<Lanes> = decisions.iter().map(Decision::error).collect();
            let slopes = product(self.matrix, &errors);
            let pull = Pull::at(step);
            for (decision, slope) in decisions.iter_mut().zip(&slopes) {
                decision.descend(slope, energy, &pull);
            }
        }
        let found: Vec<Lanes> = decisions.iter().map(Decision::steps).collect();
        self.better(levels, known, &found)
    }

    /// Channel by channel, the steps with the smaller error.
    fn better(&self, levels: &[Levels], known: Vec<Lanes>, found: &[Lanes]) -> Vec<Lanes> {
        let (before, after) = (self.errors(levels, &known), self.errors(levels, found));
        let mut best = known;
        for (best, found) in best.iter_mut().zip(found) {
            for lane in 0..LANES {
                if after[lane] < before[lane] {
                    best[lane] = found[lane];
                }
            }
        }
        best
    }

    /// `(ŵ − w)ᵀ H (ŵ − w)` of each channel.
    fn errors(&self, levels: &[Levels], steps: &[Lanes]) -> [f64; LANES] {
        let rows = self.weights.iter().zip(steps).zip(self.levels_at);
        let errors: Vec<Lanes> = rows
            .map(|((weight, steps), at)| {
                let level = levels[*at].of_steps(steps);
                std::array::from_fn(|lane| level[lane] - weight[lane])
            })
            .collect();
        inner_product(&errors, &product(self.matrix, &errors))
    }
}

/// What pulls decisions apart in a step.
struct Pull {
    weight: f32,
    exponent: f32,
    rate: f32,
    /// `1 / (1 − decay^t)` for both means.
    corrections: [f32; 2],
}

impl Pull {
    fn at(step: u16) -> Self {
        let done = f32::from(step) / f32::from(STEPS);
        let annealed = ((done - FREE) / (1.0 - FREE)).max(0.0);
        let [first, last] = EXPONENTS;
        let count = i32::from(step) + 1;
        Self {
            weight: if done < FREE { 0.0 } else { DECISION },
            exponent: last + (first - last) * 0.5 * (1.0 + (annealed * std::f32::consts::PI).cos()),
            rate: RATE,
            corrections: DECAY.map(|decay| 1.0 / (1.0 - decay.powi(count))),
        }
    }
}

/// One weight of each channel, between the level below and the level above.
struct Decision {
    /// The weight in steps.
    exact: Lanes,
    floor: Lanes,
    limits: [Lanes; 2],
    scale: Lanes,
    v: Lanes,
    means: [Lanes; 2],
}

impl Decision {
    fn new(weight: &Lanes, levels: &Levels) -> Self {
        let exact: Lanes = std::array::from_fn(|lane| weight[lane] / levels.scale[lane]);
        let floor = exact.map(f32::floor);
        let v = std::array::from_fn(|lane| {
            // The sigmoid whose stretched value is the rest.
            let rest = (exact[lane] - floor[lane] + STRETCH) / (1.0 + 2.0 * STRETCH);
            (rest / (1.0 - rest)).ln()
        });
        Self {
            exact,
            floor,
            limits: [levels.lowest, levels.highest],
            scale: levels.scale,
            v,
            means: [[0.0; LANES]; 2],
        }
    }

    fn sigmoid(&self, lane: usize) -> f32 {
        1.0 / (1.0 + (-self.v[lane]).exp())
    }

    fn part(sigmoid: f32) -> f32 {
        (sigmoid * (1.0 + 2.0 * STRETCH) - STRETCH).clamp(0.0, 1.0)
    }

    fn clamped(&self, steps: f32, lane: usize) -> f32 {
        let [lowest, highest] = &self.limits;
        steps.clamp(lowest[lane], highest[lane])
    }

    /// `ŵ − w`.
    fn error(&self) -> Lanes {
        std::array::from_fn(|lane| {
            let steps = self.floor[lane] + Self::part(self.sigmoid(lane));
            (self.clamped(steps, lane) - self.exact[lane]) * self.scale[lane]
        })
    }

    fn descend(&mut self, slope: &Lanes, energy: f32, pull: &Pull) {
        for lane in 0..LANES {
            let sigmoid = self.sigmoid(lane);
            let part = Self::part(sigmoid);
            let steps = self.floor[lane] + part;
            let is_free = part > 0.0 && part < 1.0;
            if !is_free || steps != self.clamped(steps, lane) {
                continue;
            }
            let by_error = 2.0 * slope[lane] / (self.scale[lane] * energy);
            let side = 2.0 * part - 1.0;
            let by_decision = -2.0
                * pull.weight
                * pull.exponent
                * side.abs().powf(pull.exponent - 1.0)
                * side.signum();
            let bend = (1.0 + 2.0 * STRETCH) * sigmoid * (1.0 - sigmoid);
            let gradient = (by_error + by_decision) * bend;
            let [first, second] = &mut self.means;
            first[lane] = DECAY[0] * first[lane] + (1.0 - DECAY[0]) * gradient;
            second[lane] = DECAY[1] * second[lane] + (1.0 - DECAY[1]) * gradient * gradient;
            let mean = first[lane] * pull.corrections[0];
            let size = (second[lane] * pull.corrections[1]).sqrt() + 1e-8;
            self.v[lane] -= pull.rate * mean / size;
        }
    }

    /// The decided steps.
    fn steps(&self) -> Lanes {
        std::array::from_fn(|lane| {
            let up = if self.v[lane] >= 0.0 { 1.0 } else { 0.0 };
            self.clamped(self.floor[lane] + up, lane)
        })
    }
}
