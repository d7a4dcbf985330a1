//! Normalisation of rows.

/// Rows of this length and more are computed in registers.
const REGISTER: usize = 8;

/// Normalises every row of numbers in place.
///
/// ```text
/// y = (x − mean) / √(variance + ε) · scale + bias
/// ```
/// (`LayerNormalization` over the last axis.) Long rows sum the mean in `f64` and the squares in fused
/// steps, and multiply by the reciprocal of the deviation; short ones follow Welford.
pub fn normalized_rows(values: &mut [f32], scale: &[f32], bias: Option<&[f32]>, epsilon: f32) {
    for row in values.chunks_exact_mut(scale.len().max(1)) {
        if row.len() < REGISTER {
            normalize_short(row, scale, bias, epsilon);
        } else {
            normalize_long(row, scale, bias, epsilon);
        }
    }
}

fn normalize_short(row: &mut [f32], scale: &[f32], bias: Option<&[f32]>, epsilon: f32) {
    let (mut mean, mut squares) = (0.0f32, 0.0f32);
    for (count, x) in (1u8..).zip(row.iter()) {
        let delta = x - mean;
        mean += delta / f32::from(count);
        squares += delta * (x - mean);
    }
    let deviation = (squares / row.len() as f32 + epsilon).sqrt();
    for (at, x) in row.iter_mut().enumerate() {
        let y = (*x - mean) / deviation * scale[at];
        *x = bias.map_or(y, |bias| y + bias[at]);
    }
}

fn normalize_long(row: &mut [f32], scale: &[f32], bias: Option<&[f32]>, epsilon: f32) {
    let mean = mean_in_doubles(row);
    let variance = squares(row, mean) / row.len() as f32;
    let factor = 1.0 / (variance + epsilon).sqrt();
    for (at, x) in row.iter_mut().enumerate() {
        let y = (*x - mean) * factor;
        *x = match bias {
            Some(bias) => y.mul_add(scale[at], bias[at]),
            None => y * scale[at],
        };
    }
}

fn mean_in_doubles(row: &[f32]) -> f32 {
    let (fours, rest) = row.as_chunks::<4>();
    let mut sums = [0.0f64; 4];
    for four in fours {
        for (sum, x) in sums.iter_mut().zip(four) {
            *sum += f64::from(*x);
        }
    }
    let begun = (sums[0] + sums[2]) + (sums[1] + sums[3]);
    let total = rest.iter().fold(begun, |total, x| total + f64::from(*x));
    (total / row.len() as f64) as f32
}

/// The sum of squared distances from the mean.
fn squares(row: &[f32], mean: f32) -> f32 {
    let (eights, rest) = row.as_chunks::<8>();
    let mut sums = [0.0f32; 8];
    for eight in eights {
        for (sum, x) in sums.iter_mut().zip(eight) {
            let d = x - mean;
            *sum = d.mul_add(d, *sum);
        }
    }
    let four = |at: usize| sums[at] + sums[at + 4];
    let mut total = (four(0) + four(2)) + (four(1) + four(3));
    // Of what is left, four are multiplied at once, without fused steps.
    let at_once = if rest.len() >= 4 { 4 } else { 0 };
    for (at, x) in rest.iter().enumerate() {
        let d = x - mean;
        total = if at < at_once {
            total + d * d
        } else {
            d.mul_add(d, total)
        };
    }
    total
}

#[cfg(test)]
mod tests {
    use super::super::recorded::recorded;
    use super::*;

    #[test]
    fn rows_are_normalized_as_by_the_runtime() {
        for case in recorded("LayerNormalization") {
            let bias = case.has("bias").then(|| case.numbers("bias"));
            let mut values = case.numbers("x");
            let epsilon = 1.0 / 131_072.0;
            normalized_rows(
                &mut values,
                &case.numbers("scale"),
                bias.as_deref(),
                epsilon,
            );
            case.assert_same(&values);
        }
    }
}
