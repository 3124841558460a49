//! Packages of other people's programs, for tests that need one.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A Python that has the package: the one on the path, or one with a home under `target/`.
pub(crate) fn python(package: &str) -> Result<PathBuf, String> {
    let import = format!("import {package}");
    let on_path = PathBuf::from("python3");
    if run(&on_path, &["-c", &import]).is_ok() {
        return Ok(on_path);
    }
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{package}-client"));
    let own = home.join("bin/python");
    if run(&own, &["-c", &import]).is_ok() {
        return Ok(own);
    }
    run(&on_path, &["-m", "venv", &home.to_string_lossy()])?;
    run(&own, &["-m", "pip", "install", "--quiet", "--disable-pip-version-check", package])?;
    Ok(own)
}

/// Runs it to its end; what it said where it failed.
pub(crate) fn run(program: &Path, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        Err(error) => Err(error.to_string()),
    }
}
