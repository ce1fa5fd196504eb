//! A disk that forgets.
pub struct Disk;
pub struct PowerLossFs;
