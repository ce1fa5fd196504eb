//! Pure rules over the rows of one key.
