//! A whole gateway, with scripts for this machine and for providers elsewhere: who is asked in the
//! end, what is spent, and what is kept of it. Absent: what a policy decides, which has tests of
//! its own.

mod calls;
mod charges;
mod house;
mod spending;
#[expect(dead_code, reason = "other tests use the rest of it")]
#[path = "../remote/upstream.rs"]
mod upstream;
