//! The environment variables that configure the runtime, read here and nowhere else. The table for users is in
//! `docs/configuration.md`.

use std::ffi::OsString;

/// What the variables say.
#[derive(Debug, Clone, Copy)]
pub struct Config {
    /// `CALORIC_PIPELINE`: `0` sends `GET /next` only after the answer was accepted.
    pub pipeline: bool,
    /// `CALORIC_PREFORK_IMPORT`: `1` imports the handler once, before the workers of Managed Instances are forked.
    pub prefork_import: bool,
}

impl Config {
    /// Read the variables.
    pub fn from_environment() -> Self {
        let variable = std::env::var_os;
        Self {
            pipeline: variable("CALORIC_PIPELINE").is_none_or(|value| value != "0"),
            prefork_import: variable("CALORIC_PREFORK_IMPORT").is_some_and(|value| value == "1"),
        }
    }
}

/// `CALORIC_CONCURRENCY`: how Managed Instances serve several invocations at once, where the handler is not to decide.
/// One of `task`, `thread` and `process`; fails with what else it says.
pub fn concurrency() -> Result<Option<&'static str>, OsString> {
    let Some(value) = std::env::var_os("CALORIC_CONCURRENCY").filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    ["task", "thread", "process"].into_iter().find(|way| value == *way).map(Some).ok_or(value)
}
