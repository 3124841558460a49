//! What each kind of provider is sent, and how its answers are heard.
