//! Whether two ways of measuring order things alike.

/// Spearman's rank correlation of pairs, `-1..=1`.
///
/// Pearson's correlation of the ranks; equal values share the mean of their ranks. Pairs with a NaN are
/// left out. `None` for fewer than three pairs, or where one side is the same everywhere.
pub fn rank_correlation(pairs: &[(f64, f64)]) -> Option<f64> {
    let kept: Vec<(f64, f64)> = pairs
        .iter()
        .copied()
        .filter(|(a, b)| !a.is_nan() && !b.is_nan())
        .collect();
    if kept.len() < 3 {
        return None;
    }
    let first = ranks(&kept.iter().map(|pair| pair.0).collect::<Vec<_>>());
    let second = ranks(&kept.iter().map(|pair| pair.1).collect::<Vec<_>>());
    let mean = (kept.len() - 1) as f64 / 2.0;
    let (mut both, mut squares) = (0.0, [0.0; 2]);
    for (a, b) in first.iter().zip(&second) {
        both += (a - mean) * (b - mean);
        squares[0] += (a - mean) * (a - mean);
        squares[1] += (b - mean) * (b - mean);
    }
    let spread = (squares[0] * squares[1]).sqrt();
    (spread > 0.0).then(|| both / spread)
}

/// Ranks from 0; equal values share the mean of their ranks.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut ranks = vec![0.0; values.len()];
    let mut start = 0;
    while start < order.len() {
        let value = values[order[start]];
        let equal = order[start..].iter().take_while(|at| values[**at] == value);
        let count = equal.count().max(1);
        for at in &order[start..start + count] {
            ranks[*at] = start as f64 + (count - 1) as f64 / 2.0;
        }
        start += count;
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn correlations_agree_with_scipy() {
        // scipy.stats.spearmanr.
        for (a, b, expected) in [
            (
                vec![1.0, 2.0, 3.0, 4.0],
                vec![10.0, 20.0, 30.0, 1e9],
                Some(1.0),
            ),
            (
                vec![1.0, 2.0, 3.0, 4.0],
                vec![4.0, 3.0, 2.0, 1.0],
                Some(-1.0),
            ),
            (
                vec![1.0, 2.0, 2.0, 4.0, 0.5],
                vec![3.0, 1.0, 4.0, 1.0, 5.0],
                Some(-0.763_157_894_736_842_1),
            ),
            (
                vec![1.0, f64::NAN, 2.0, f64::INFINITY],
                vec![1.0, 2.0, 3.0, 4.0],
                Some(1.0),
            ),
            (vec![1.0, 1.0, 1.0], vec![1.0, 2.0, 3.0], None),
            (vec![1.0, 2.0], vec![1.0, 2.0], None),
        ] {
            let pairs: Vec<(f64, f64)> = a.into_iter().zip(b).collect();
            let found = rank_correlation(&pairs);
            let close = match (found, expected) {
                (Some(found), Some(expected)) => (found - expected).abs() < 1e-12,
                (found, expected) => found == expected,
            };
            assert!(close, "{pairs:?}: {found:?}");
        }
    }
}
