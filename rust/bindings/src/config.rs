//! The environment variables that configure the runtime, read here and nowhere else. The table for users is in
//! `docs/configuration.md`.

/// What the variables say.
#[derive(Debug, Clone, Copy)]
pub struct Config {
    /// `CALORIC_PIPELINE`: `0` sends `GET /next` only after the answer was accepted.
    pub pipeline: bool,
}

impl Config {
    /// Read the variables.
    pub fn from_environment() -> Self {
        Self { pipeline: std::env::var_os("CALORIC_PIPELINE").is_none_or(|value| value != "0") }
    }
}
