//! Background work with progress, cancellation and generations.
