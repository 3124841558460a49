//! A wire between a client and a server that can lose the server's next words: it hands on what is
//! asked, and where the answer would begin, it hangs up.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A wire to a port of this machine.
pub(crate) struct Wire {
    /// Where it begins.
    pub(crate) port: u16,
    cut: Arc<AtomicBool>,
}

impl Wire {
    /// One that leads there.
    pub(crate) fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let here = listener.local_addr().expect("it listens").port();
        let cut = Arc::new(AtomicBool::new(false));
        let cuts = Arc::clone(&cut);
        std::thread::spawn(move || {
            for near in listener.incoming() {
                let near = near.expect("a client");
                let far = TcpStream::connect(("127.0.0.1", port)).expect("a server");
                let back = (far.try_clone().expect("a copy"), near.try_clone().expect("a copy"));
                std::thread::spawn(move || hand_on(near, far, None));
                let cuts = Arc::clone(&cuts);
                std::thread::spawn(move || hand_on(back.0, back.1, Some(&cuts)));
            }
        });
        Self { port: here, cut }
    }

    /// Loses the next answer.
    pub(crate) fn lose_next(&self) {
        self.cut.store(true, Ordering::SeqCst);
    }

    /// Whether that has happened.
    pub(crate) fn has_lost(&self) -> bool {
        !self.cut.load(Ordering::SeqCst)
    }
}

fn hand_on(mut from: TcpStream, mut to: TcpStream, cut: Option<&AtomicBool>) {
    let mut bytes = [0; 65_536];
    loop {
        let read = from.read(&mut bytes).unwrap_or(0);
        let lost = read > 0 && cut.is_some_and(|cut| cut.swap(false, Ordering::SeqCst));
        if read == 0 || lost || to.write_all(&bytes[..read]).is_err() {
            let _ = from.shutdown(Shutdown::Both);
            let _ = to.shutdown(Shutdown::Both);
            return;
        }
    }
}
