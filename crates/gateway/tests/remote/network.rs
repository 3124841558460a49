//! Real sockets on loopback: plain, TLS, and through a proxy.
