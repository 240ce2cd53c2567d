//! The environment variables that configure the runtime, read here and nowhere else. The table for users is in
//! `docs/configuration.md`.

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
