//! A folder of a test's own with a policy, keys and a ledger, and servers that run by them.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::run;
use super::server::Server;

/// Gone with the test.
pub(crate) struct Place(pub(crate) PathBuf);

impl Place {
    pub(crate) fn new(name: &str) -> Self {
        let name = format!("{name}-{}", std::process::id());
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        drop(std::fs::remove_dir_all(&folder));
        std::fs::create_dir_all(&folder).expect("a folder");
        Self(folder)
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("UTF-8").to_owned()
    }

    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) -> String {
        std::fs::write(self.0.join(name), text).expect("a file");
        self.path(name)
    }

    /// Writes the policy; gives its path.
    pub(crate) fn policy(&self, text: &str) -> String {
        self.write("policy.toml", text)
    }

    pub(crate) fn ledger(&self) -> String {
        self.path("ledger.sqlite")
    }

    /// Where its keys are, once there are any.
    pub(crate) fn keys(&self) -> String {
        self.path("keys.toml")
    }

    /// Makes a key of this name; gives its secret.
    pub(crate) fn key(&self, name: &str, more: &[&str]) -> String {
        let keys = self.keys();
        let usual = ["key", "create", name, "--file", &keys, "--quiet"];
        run(&[&usual[..], more].concat()).answer().trim().to_owned()
    }

    /// A server by the policy and the keys, if there are any.
    pub(crate) fn start(&self, more: &[&str], env: &[(&str, &str)]) -> Server {
        let (policy, keys) = (self.path("policy.toml"), self.keys());
        let mut flags = vec!["--policy", policy.as_str()];
        if Path::new(&keys).exists() {
            flags.extend(["--keys-file", keys.as_str()]);
        }
        flags.extend(more);
        Server::start_with(&flags, env)
    }

    /// The same without a model of its own, and with the ledger.
    pub(crate) fn serve(&self, more: &[&str]) -> Server {
        let ledger = self.ledger();
        let usual = ["--no-local", "--ledger", &ledger];
        self.start(&[&usual[..], more].concat(), &[])
    }

    /// The ledger's calls, oldest first.
    pub(crate) fn calls(&self) -> Vec<Value> {
        let listed = run(&["audit", "list", "--ledger", &self.ledger()]);
        listed.out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}
