//! Wire formats: each protocol read and written, apart from both ends.
