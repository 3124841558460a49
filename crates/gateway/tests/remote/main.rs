//! Remote providers against upstreams that misbehave as a script says, over connections within the
//! test and in paused time, so that nothing waits and all is the same each time. `network.rs` alone
//! has sockets.

mod behaviour;
mod chaos;
mod kinds;
mod network;
mod sharing;
mod upstream;
