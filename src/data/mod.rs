//! Dataset folders, preprocessing and batches.
