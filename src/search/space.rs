//! What a search may choose: widths of every layer, under locks, bounds and groups.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::error::SearchError;
use crate::model::{Graph, Layer};
use crate::plan::{Plan, Widths, input_groups};
use crate::quant::NumberFormat;

/// Widths to choose from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpaceRequest {
    /// Widths of weights.
    pub weights: Vec<NumberFormat>,
    /// Widths of layer inputs.
    pub activations: Vec<NumberFormat>,
    /// Narrower limits for some layers; later ones win.
    pub bounds: Vec<Bound>,
}

/// Lowest and highest width of the weights of some layers, written `GLOB=LOW..HIGH`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Bound {
    glob: String,
    low: u32,
    high: u32,
}

impl Bound {
    fn allows(&self, format: NumberFormat) -> bool {
        (self.low..=self.high).contains(&format.bits())
    }
}

impl FromStr for Bound {
    type Err = SearchError;

    fn from_str(text: &str) -> Result<Self, SearchError> {
        let wrong = |reason: &str| SearchError::Spelling {
            what: "bound",
            text: text.to_owned(),
            reason: format!(
                "{reason}; expected GLOB=LOW..HIGH with bits of weights, for example \"conv1=6..8\""
            ),
        };
        let (glob, range) = text
            .rsplit_once('=')
            .ok_or_else(|| wrong("the equals sign is missing"))?;
        let (low, high) = range
            .split_once("..")
            .ok_or_else(|| wrong("the two dots are missing"))?;
        let bits = |part: &str, or: u32| match part.trim() {
            "" => Ok(or),
            number => number
                .parse::<u32>()
                .map_err(|_error| wrong("a width is no whole number")),
        };
        let (low, high) = (bits(low, 1)?, bits(high, 32)?);
        if low > high {
            return Err(wrong("the lower width is larger than the higher one"));
        }
        glob::Pattern::new(glob).map_err(|error| wrong(&error.to_string()))?;
        Ok(Self {
            glob: glob.to_owned(),
            low,
            high,
        })
    }
}

impl std::fmt::Display for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}={}..{}", self.glob, self.low, self.high)
    }
}

impl From<Bound> for String {
    fn from(bound: Bound) -> Self {
        bound.to_string()
    }
}

impl TryFrom<String> for Bound {
    type Error = SearchError;

    fn try_from(text: String) -> Result<Self, SearchError> {
        text.parse()
    }
}

/// What one layer may get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerSpace {
    /// Widths of the weight, widest first.
    pub weights: Vec<NumberFormat>,
    /// Widths of the input, widest first.
    pub activations: Vec<NumberFormat>,
}

/// What every layer may get, and which inputs move together.
#[derive(Clone, Debug, PartialEq)]
pub struct Space {
    layers: Vec<LayerSpace>,
    /// Layers whose inputs have one width, by index.
    groups: Vec<Vec<usize>>,
    /// Schemes, calibrators and locks.
    base: Plan,
}

impl Space {
    /// Puts together what may be chosen; `base` gives schemes, calibrators and locks.
    ///
    /// A locked layer keeps its widths, and the inputs tied to its input follow it.
    ///
    /// # Errors
    /// There is nothing to choose, a bound matches no layer, or a layer is left without a width.
    pub fn new(
        graph: &Graph,
        layers: &[Layer],
        base: &Plan,
        request: &SpaceRequest,
    ) -> Result<Self, SearchError> {
        let groups = input_groups(graph, layers);
        let groups = groups
            .iter()
            .map(|group| group.iter().map(|id| id.index()).collect())
            .collect();
        Self::with_groups(layers, base, request, groups)
    }

    /// [`Space::new`] with groups that are known.
    pub(super) fn with_groups(
        layers: &[Layer],
        base: &Plan,
        request: &SpaceRequest,
        groups: Vec<Vec<usize>>,
    ) -> Result<Self, SearchError> {
        let weights = widest_first(&request.weights, "weights")?;
        let activations = widest_first(&request.activations, "inputs")?;
        if base.layers().iter().all(|choice| choice.locked) {
            return Err(SearchError::AllLocked);
        }
        let mut spaces: Vec<LayerSpace> = base
            .layers()
            .iter()
            .map(|choice| {
                let keep = |width: NumberFormat, all: &[NumberFormat]| {
                    if choice.locked {
                        vec![width]
                    } else {
                        all.to_vec()
                    }
                };
                LayerSpace {
                    weights: keep(choice.weight.format, &weights),
                    activations: keep(choice.activation.format, &activations),
                }
            })
            .collect();
        bound(&mut spaces, layers, base, &request.bounds)?;
        for group in &groups {
            tie(&mut spaces, base, group);
        }
        for (layer, space) in layers.iter().zip(&spaces) {
            for (part, widths) in [
                ("the weight", &space.weights),
                ("the input", &space.activations),
            ] {
                if widths.is_empty() {
                    let layer = layer.name.clone();
                    return Err(SearchError::NothingLeft { part, layer });
                }
            }
        }
        Ok(Self {
            layers: spaces,
            groups,
            base: base.clone(),
        })
    }

    /// What each layer may get, in layer order.
    pub fn layers(&self) -> &[LayerSpace] {
        &self.layers
    }

    /// Layers whose inputs have one width, by index.
    pub(super) fn groups(&self) -> &[Vec<usize>] {
        &self.groups
    }

    /// Schemes, calibrators and locks of the plans.
    pub fn base(&self) -> &Plan {
        &self.base
    }

    /// The plan with these widths, in layer order.
    pub fn plan(&self, widths: &[Widths]) -> Plan {
        self.base.with_widths(widths)
    }

    /// The same widths for all layers, or the nearest that a layer may get.
    pub fn uniform(&self, widths: Widths) -> Vec<Widths> {
        let layers = self.layers.iter();
        layers
            .map(|layer| Widths {
                weight: nearest(&layer.weights, widths.weight),
                activation: nearest(&layer.activations, widths.activation),
            })
            .collect()
    }

    /// Whether a plan has only widths that may be chosen.
    pub fn holds(&self, widths: &[Widths]) -> bool {
        self.layers.len() == widths.len()
            && self.layers.iter().zip(widths).all(|(layer, widths)| {
                layer.weights.contains(&widths.weight)
                    && layer.activations.contains(&widths.activation)
            })
    }
}

fn widest_first(
    widths: &[NumberFormat],
    of: &'static str,
) -> Result<Vec<NumberFormat>, SearchError> {
    let mut sorted: Vec<NumberFormat> = Vec::new();
    for width in widths {
        if !sorted.contains(width) {
            sorted.push(*width);
        }
    }
    sorted.sort_by_key(|width| std::cmp::Reverse(width.bits()));
    if sorted.is_empty() {
        return Err(SearchError::NoWidths(of));
    }
    Ok(sorted)
}

/// Applies bounds to the layers that are not locked.
fn bound(
    spaces: &mut [LayerSpace],
    layers: &[Layer],
    base: &Plan,
    bounds: &[Bound],
) -> Result<(), SearchError> {
    let mut last: Vec<Option<&Bound>> = vec![None; spaces.len()];
    for bound in bounds {
        let pattern = glob::Pattern::new(&bound.glob).ok();
        let mut matched = false;
        for (layer, slot) in layers.iter().zip(&mut last) {
            if pattern.as_ref().is_some_and(|p| p.matches(&layer.name)) {
                *slot = Some(bound);
                matched = true;
            }
        }
        if !matched {
            return Err(SearchError::NoMatch {
                glob: bound.glob.clone(),
                example: layers.first().map(|l| l.name.clone()).unwrap_or_default(),
            });
        }
    }
    for ((space, choice), bound) in spaces.iter_mut().zip(base.layers()).zip(last) {
        if let (Some(bound), false) = (bound, choice.locked) {
            space.weights.retain(|format| bound.allows(*format));
        }
    }
    Ok(())
}

/// Leaves the inputs of a group only what all of them may get; locked ones decide.
fn tie(spaces: &mut [LayerSpace], base: &Plan, group: &[usize]) {
    let is_locked = |index: &usize| base.layers().get(*index).is_some_and(|c| c.locked);
    let Some(&first) = group
        .iter()
        .find(|index| is_locked(index))
        .or(group.first())
    else {
        return;
    };
    let allowed = spaces[first].activations.clone();
    for index in group.iter().filter(|index| !is_locked(index)) {
        spaces[*index].activations.clone_from(&allowed);
    }
}

fn nearest(widths: &[NumberFormat], wanted: NumberFormat) -> NumberFormat {
    let distance = |width: &&NumberFormat| width.bits().abs_diff(wanted.bits());
    if widths.contains(&wanted) {
        return wanted;
    }
    widths
        .iter()
        .min_by_key(distance)
        .copied()
        .unwrap_or(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::LayerId;
    use crate::model::testing::layers_named;

    fn request(weights: &[&str], bounds: &[&str]) -> SpaceRequest {
        SpaceRequest {
            weights: weights.iter().map(|text| text.parse().unwrap()).collect(),
            activations: ["8", "4"].map(|text| text.parse().unwrap()).to_vec(),
            bounds: bounds.iter().map(|text| text.parse().unwrap()).collect(),
        }
    }

    fn bits(widths: &[NumberFormat]) -> Vec<u32> {
        widths.iter().map(|width| width.bits()).collect()
    }

    fn space(base: &Plan, request: &SpaceRequest) -> Result<Space, SearchError> {
        let layers = layers_named(&["a", "b", "c"]);
        Space::with_groups(&layers, base, request, vec![vec![0, 1], vec![2]])
    }

    #[test]
    fn locks_and_bounds_narrow_the_choice_and_ties_follow_the_lock() {
        let mut base = Plan::uniform(3, "8/16".parse().unwrap());
        base.edit(&[LayerId(1)], |choice| choice.locked = true);
        let request = request(&["2", "8", "4", "8"], &["c=..8", "c=4..8"]);
        let space = space(&base, &request).unwrap();
        let [a, b, c] = space.layers() else {
            unreachable!("three layers")
        };
        assert_eq!(bits(&a.weights), [8, 4, 2]);
        assert_eq!(bits(&a.activations), [16], "tied to the locked layer");
        assert_eq!(
            (bits(&b.weights), bits(&b.activations)),
            (vec![8], vec![16])
        );
        assert_eq!(bits(&c.weights), [8, 4]);
        assert_eq!(bits(&c.activations), [8, 4]);
        let uniform = space.uniform("2/8".parse().unwrap());
        let texts: Vec<String> = uniform.iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["2/16", "8/16", "4/8"]);
        assert!(space.holds(&uniform));
    }

    #[test]
    fn what_leaves_nothing_to_choose_is_said() {
        let base = Plan::uniform(3, "8/8".parse().unwrap());
        let mut locked = base.clone();
        locked.edit(&[0, 1, 2].map(LayerId), |choice| choice.locked = true);
        for (base, request, part) in [
            (&locked, request(&["8"], &[]), "every layer is locked"),
            (&base, request(&[], &[]), "no widths"),
            (&base, request(&["8"], &["x*=2..4"]), "\"a\""),
            (&base, request(&["8"], &["b=2..4"]), "layer \"b\""),
        ] {
            let message = space(base, &request).unwrap_err().to_string();
            assert!(message.contains(part), "{message}");
        }
    }

    #[test]
    fn wrong_bounds_say_what_is_wrong() {
        for (text, part) in [
            ("a", "equals"),
            ("a=4", "dots"),
            ("a=8..4", "larger"),
            ("a=x..4", "whole number"),
            ("[=2..4", "GLOB"),
        ] {
            let message = text.parse::<Bound>().unwrap_err().to_string();
            assert!(message.contains(part), "{message}");
        }
    }
}
