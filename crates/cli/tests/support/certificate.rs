//! A certificate of a test's own for `localhost`, in two files that go with it.

use std::path::PathBuf;

pub(crate) struct Certificate {
    folder: PathBuf,
    pub(crate) cert: String,
    pub(crate) key: String,
}

impl Drop for Certificate {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Certificate {
    pub(crate) fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("ingle-cert-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("may be");
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("is made");
        let write = |name: &str, text: String| {
            let path = folder.join(name);
            std::fs::write(&path, text).expect("may be");
            path.to_str().expect("UTF-8").to_owned()
        };
        let cert = write("cert.pem", made.cert.pem());
        let key = write("key.pem", made.signing_key.serialize_pem());
        Self { folder, cert, key }
    }

    /// What `ingle serve` is told.
    pub(crate) fn flags(&self) -> [&str; 4] {
        ["--tls-cert", &self.cert, "--tls-key", &self.key]
    }
}
