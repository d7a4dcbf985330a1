//! A first guess at the preprocessing of a network.

use super::{Channels, Preprocess};

impl Preprocess {
    /// Guesses from the input's shape and from hints such as the model's file name, and says why.
    ///
    /// A file of weights does not record its preprocessing, so this can only be a proposal: the reason is meant to be
    /// shown beside it.
    pub fn guess(channels: usize, height: usize, width: usize, hints: &[&str]) -> (Self, String) {
        let hinted = |word: &str| hints.iter().any(|hint| hint.to_lowercase().contains(word));
        let (guess, why) = match (channels, height, width) {
            (3, ..) if hinted("yolox") => (
                Self {
                    scale: 1.0,
                    channels: Channels::Bgr,
                    letterbox: Some(114),
                    ..Self::UNIT
                },
                "the name says YOLOX, which takes BGR from 0 to 255 in a letterbox",
            ),
            (3, ..) if hinted("yolo") => (
                Self {
                    letterbox: Some(114),
                    ..Self::UNIT
                },
                "the name says YOLO, which mostly takes RGB from 0 to 1 in a letterbox",
            ),
            (3, ..) => (
                Self::IMAGENET,
                "three channels: most networks for colour pictures are trained with ImageNet's mean and deviation",
            ),
            (1, 28, 28) => (
                Self {
                    mean: [0.1307; 3],
                    std: [0.3081; 3],
                    channels: Channels::Gray,
                    ..Self::UNIT
                },
                "one channel of 28 x 28: MNIST's mean and deviation",
            ),
            (1, ..) => (
                Self {
                    channels: Channels::Gray,
                    ..Self::UNIT
                },
                "one channel: grey from 0 to 1",
            ),
            _ => {
                let why = format!(
                    "{channels} channels: no picture has that many, and arrays are taken as they are"
                );
                return (Self::UNIT, why);
            }
        };
        (guess, format!("Guessed: {why}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guesses() {
        for (shape, hint, expected) in [
            ((3, 224, 224), "mobilenet.onnx", "imagenet"),
            ((3, 32, 32), "", "imagenet"),
            (
                (3, 416, 416),
                "YOLOX-nano",
                "raw;channels=bgr;letterbox=114",
            ),
            ((3, 640, 640), "yolov8n", "unit;letterbox=114"),
            (
                (1, 28, 28),
                "",
                "mean=0.1307;std=0.3081;scale=255;channels=gray",
            ),
            ((1, 64, 64), "", "unit;channels=gray"),
            ((7, 64, 64), "", "unit"),
        ] {
            let (guess, why) = Preprocess::guess(shape.0, shape.1, shape.2, &["x", hint]);
            assert_eq!(guess.to_string(), expected, "{shape:?} {hint:?}");
            assert!(!why.is_empty());
        }
    }
}
