//! What a network is, and how it is read from a file.
