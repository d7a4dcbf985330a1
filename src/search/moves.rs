//! Steps from one plan to its neighbours.

use super::budget::Axis;
use super::effects::Model;
use super::space::Space;
use crate::model::Layer;
use crate::plan::Widths;

/// One weight, or the inputs of one group, one width up or down.
#[derive(Clone, Debug)]
struct Move {
    layers: Vec<(usize, Widths)>,
    amount: f64,
    effect: f64,
}

impl Move {
    fn touches(&self, other: &Self) -> bool {
        let of_other = |layer: usize| other.layers.iter().any(|(index, _)| *index == layer);
        self.layers.iter().any(|(layer, _)| of_other(*layer))
    }

    fn apply(&self, widths: &mut [Widths]) {
        for (layer, new) in &self.layers {
            if let Some(slot) = widths.get_mut(*layer) {
                *slot = *new;
            }
        }
    }
}

/// The moves from one plan.
pub(super) struct Moves<'a> {
    space: &'a Space,
    model: &'a Model,
    layers: &'a [Layer],
    axis: Axis,
    widths: &'a [Widths],
    amount: f64,
}

impl<'a> Moves<'a> {
    pub(super) fn new(
        space: &'a Space,
        model: &'a Model,
        layers: &'a [Layer],
        axis: Axis,
        widths: &'a [Widths],
        amount: f64,
    ) -> Self {
        Self {
            space,
            model,
            layers,
            axis,
            widths,
            amount,
        }
    }

    /// The plan one or two moves away that is expected to be best among those within a limit that are
    /// `wanted`.
    pub(super) fn neighbours(
        &self,
        limit: f64,
        wanted: impl Fn(&[Widths]) -> bool,
    ) -> Option<Vec<Widths>> {
        let moves = self.all(self.widths);
        let fits = |amount: f64| self.amount + amount <= limit;
        let mut found: Vec<(f64, usize, Option<usize>)> = Vec::new();
        for (index, one) in moves.iter().enumerate() {
            if fits(one.amount) {
                found.push((one.effect, index, None));
            }
            for (other_index, other) in moves.iter().enumerate().skip(index + 1) {
                // One up and one down.
                let is_swap = (one.amount > 0.0) != (other.amount > 0.0);
                if is_swap && fits(one.amount + other.amount) && !one.touches(other) {
                    found.push((one.effect + other.effect, index, Some(other_index)));
                }
            }
        }
        found.sort_by(|a, b| a.0.total_cmp(&b.0));
        found.into_iter().find_map(|(_, one, other)| {
            let mut widths = self.widths.to_vec();
            moves[one].apply(&mut widths);
            if let Some(other) = other {
                moves[other].apply(&mut widths);
            }
            wanted(&widths).then_some(widths)
        })
    }

    /// The plan brought within a limit by the moves that harm least, and what is left spent on those that
    /// help most; `None` if it cannot be brought there.
    pub(super) fn repaired(&self, limit: f64) -> Option<Vec<Widths>> {
        let mut widths = self.widths.to_vec();
        let mut amount = self.amount;
        while amount > limit {
            let moves = self.all(&widths);
            let down = moves.iter().filter(|one| one.amount < 0.0);
            let harm_per_unit = |one: &&Move| one.effect / -one.amount;
            let best = down.min_by(|a, b| harm_per_unit(a).total_cmp(&harm_per_unit(b)))?;
            best.apply(&mut widths);
            amount += best.amount;
        }
        if limit.is_infinite() {
            return Some(widths);
        }
        loop {
            let moves = self.all(&widths);
            let up = moves
                .iter()
                .filter(|one| one.amount > 0.0 && one.effect < 0.0 && amount + one.amount <= limit);
            let gain = |one: &&Move| -one.effect / one.amount;
            let Some(best) = up.max_by(|a, b| gain(a).total_cmp(&gain(b))) else {
                return Some(widths);
            };
            best.apply(&mut widths);
            amount += best.amount;
        }
    }

    /// Every weight and every group of inputs one width up and one down.
    fn all(&self, widths: &[Widths]) -> Vec<Move> {
        let mut moves = Vec::new();
        for (layer, (own, now)) in self.space.layers().iter().zip(widths).enumerate() {
            for weight in beside(&own.weights, now.weight) {
                let new = Widths { weight, ..*now };
                moves.push(self.one(widths, vec![(layer, new)]));
            }
        }
        for group in self.space.groups() {
            let Some(first) = group.iter().find(|layer| {
                let own = &self.space.layers()[**layer];
                own.activations.len() > 1
            }) else {
                continue;
            };
            let own = &self.space.layers()[*first];
            for activation in beside(&own.activations, widths[*first].activation) {
                let free = group.iter().filter(|layer| {
                    let own = &self.space.layers()[**layer];
                    own.activations.contains(&activation)
                });
                let changed = free
                    .map(|layer| {
                        let new = Widths {
                            activation,
                            ..widths[*layer]
                        };
                        (*layer, new)
                    })
                    .collect();
                moves.push(self.one(widths, changed));
            }
        }
        moves
    }

    fn one(&self, widths: &[Widths], layers: Vec<(usize, Widths)>) -> Move {
        let (mut amount, mut effect) = (0.0, 0.0);
        for (layer, new) in &layers {
            let old = widths[*layer];
            amount += self.amount_of(*layer, *new) - self.amount_of(*layer, old);
            let of = |widths: Widths| {
                self.model.weight(*layer, widths.weight)
                    + self.model.activation(*layer, widths.activation)
            };
            effect += of(*new) - of(old);
        }
        Move {
            layers,
            amount,
            effect,
        }
    }

    fn amount_of(&self, layer: usize, widths: Widths) -> f64 {
        let choice = self.space.base().layers().get(layer);
        let (Some(layer), Some(choice)) = (self.layers.get(layer), choice) else {
            return 0.0;
        };
        let mut choice = choice.clone();
        choice.weight.format = widths.weight;
        choice.activation.format = widths.activation;
        self.axis.amount(layer, &choice)
    }
}

/// The neighbours of one in a list.
fn beside<T: Copy + PartialEq>(all: &[T], one: T) -> impl Iterator<Item = T> + '_ {
    let place = all.iter().position(|other| *other == one);
    let before = place.and_then(|place| place.checked_sub(1));
    let after = place.map(|place| place + 1);
    [before, after]
        .into_iter()
        .flatten()
        .filter_map(|place| all.get(place).copied())
}

/// Random numbers that follow from a seed and a turn: `SplitMix64` (Steele, Lea, Flood: Fast Splittable
/// Pseudorandom Number Generators, OOPSLA 2014).
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64, turn: u64) -> Self {
        let mut random = Self(seed.wrapping_add(turn.wrapping_mul(0xD134_2543_DE82_EF95)));
        random.next();
        random
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = self.0;
        let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number from 0 to below `count`; 0 if that is 0.
    pub(super) fn below(&mut self, count: usize) -> usize {
        ((u128::from(self.next()) * count as u128) >> 64) as usize
    }
}
