//! A quantization plan: every layer's choice, its size and its cost.
