//! What holds: a policy, and the providers that it names, ready to be asked. It is exchanged whole.
//! Absent: where its text comes from, and who asks for another.

use std::time::Duration;

use ingle_protocol::Fault;

use crate::policy::{KeyFrom, Provider, Table};
use crate::remote::{Remote, Secret, Timeouts, Upstream, World, kind};

/// A policy and its providers.
#[derive(Clone, Debug)]
pub struct Held {
    /// The policy.
    pub table: Table,
    /// A digest of its text, or `none`.
    pub version: String,
    /// Those of its providers that are elsewhere.
    pub remote: Remote,
}

impl Held {
    /// Readies the providers of a policy: their keys are read now.
    ///
    /// # Errors
    /// A fault of ours that names the provider that cannot be asked as it is set up.
    pub fn new(
        table: Table,
        version: impl Into<String>,
        handle: tokio::runtime::Handle,
        world: World,
    ) -> Result<Self, Fault> {
        let remote = Remote::new(handle, upstreams(&table)?, world)?;
        Ok(Self { table, version: version.into(), remote })
    }

    /// Another policy after this one. Providers whose rows and keys are the same go on as they are,
    /// with what is known of them and their connections.
    ///
    /// # Errors
    /// As [`Held::new`] has them.
    pub fn after(&self, table: Table, version: impl Into<String>) -> Result<Self, Fault> {
        let remote = self.remote.after(upstreams(&table)?)?;
        Ok(Self { table, version: version.into(), remote })
    }
}

/// Those of a policy's providers that are elsewhere.
fn upstreams(table: &Table) -> Result<Vec<Upstream>, Fault> {
    let elsewhere = table.providers.iter().filter(|it| it.name != crate::policy::LOCAL);
    elsewhere.map(upstream).collect()
}

/// A provider as the table has it, as who asks it wants it.
fn upstream(provider: &Provider) -> Result<Upstream, Fault> {
    let name = provider.kind.name();
    let kind = kind(name).ok_or_else(|| {
        Fault::ours(format!("the provider {}: nothing is asked by {name:?}", provider.name))
    })?;
    let key = provider.key.as_ref().map(|from| match from {
        KeyFrom::Env(name) => Secret::read(&format!("env:{name}")),
        KeyFrom::File(path) => Secret::read(&format!("file:{path}")),
        KeyFrom::Keyring(name) => Secret::read(&format!("keyring:{name}")),
    });
    let ms = Duration::from_millis;
    let timeouts = Timeouts {
        per_try: ms(provider.try_timeout_ms),
        idle: ms(provider.idle_timeout_ms),
        ..Timeouts::default()
    };
    Ok(Upstream {
        url: provider.url.clone().unwrap_or_default(),
        key: key.transpose()?,
        region: provider.region.clone().unwrap_or_default(),
        project: provider.project.clone().unwrap_or_default(),
        headers: provider.headers.clone(),
        max_concurrent: usize::try_from(provider.max_concurrent).unwrap_or(usize::MAX),
        timeouts,
        retries: provider.retries,
        hedge_after: provider.hedge_after_ms.map(ms),
        ..Upstream::new(provider.name.clone(), kind)
    })
}
