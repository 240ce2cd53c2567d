//! Why a call of an extension is not accepted (spec extensions-telemetry 1.5). All of them are a 403.

use super::{ExtensionState, MAX_EXTENSIONS};

/// One entry of the catalogue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// A registration without a name.
    EmptyName,
    /// A registration whose body cannot be understood, and why.
    Format(String),
    /// An event that does not exist.
    UnknownEvent(String),
    /// Internal extensions are told of the end by a signal to their process.
    ShutdownNotSupported,
    /// On Managed Instances internal extensions are told nothing.
    NoEventsForInternal,
    /// The runtime has polled.
    RegistrationClosed,
    /// There are as many as there may be.
    TooMany,
    /// Another internal extension has the name.
    NameTaken,
    /// A call at the wrong time.
    Transition {
        /// What the extension did last.
        from: ExtensionState,
        /// What it wants to do.
        to: ExtensionState,
        /// Its identifier, or its name where it registers.
        extension: String,
    },
    /// No identifier.
    MissingIdentifier,
    /// An identifier that is no UUID.
    InvalidIdentifier,
    /// A UUID that is nobody's, for example from before a reset.
    UnknownExtension(String),
    /// The same, when an error is reported.
    UnknownIdentifier,
    /// An error without a type.
    MissingErrorType,
}

impl Refusal {
    /// `errorType`.
    pub fn error_type(&self) -> &'static str {
        match self {
            Self::EmptyName => "Extension.InvalidExtensionName",
            Self::Format(_) => "InvalidRequestFormat",
            Self::UnknownEvent(_) | Self::ShutdownNotSupported | Self::NoEventsForInternal => {
                "Extension.InvalidEventType"
            }
            Self::RegistrationClosed => "Extension.RegistrationClosed",
            Self::TooMany => "Extension.TooManyExtensions",
            Self::NameTaken | Self::Transition { .. } => "Extension.InvalidExtensionState",
            Self::MissingIdentifier => "Extension.MissingExtensionIdentifier",
            Self::InvalidIdentifier => "Extension.InvalidExtensionIdentifier",
            Self::UnknownExtension(_) | Self::UnknownIdentifier => "Extension.UnknownExtensionIdentifier",
            Self::MissingErrorType => "Extension.MissingHeader",
        }
    }

    /// `errorMessage`.
    pub fn message(&self) -> String {
        match self {
            Self::EmptyName => "Empty extension name".to_owned(),
            Self::Format(reason) => reason.clone(),
            Self::UnknownEvent(event) => format!("{event}: ErrorInvalidEventType"),
            Self::ShutdownNotSupported => {
                "SHUTDOWN: ShutdownEventNotSupportedForInternalExtension".to_owned()
            }
            Self::NoEventsForInternal => "No events allowed for internal extensions".to_owned(),
            Self::RegistrationClosed => "Extension registration closed already".to_owned(),
            Self::TooMany => format!("Extension limit ({MAX_EXTENSIONS}) reached"),
            Self::NameTaken => "Extension with this name already registered".to_owned(),
            Self::Transition { from, to, extension } => format!(
                "State transition from {} to {} failed for extension {extension}. Error: State transition is not \
                 allowed",
                from.name(),
                to.name()
            ),
            Self::MissingIdentifier => "Missing Lambda-Extension-Identifier header".to_owned(),
            Self::InvalidIdentifier => "Invalid Lambda-Extension-Identifier".to_owned(),
            Self::UnknownExtension(extension) => format!("Unknown extension {extension}"),
            Self::UnknownIdentifier => "Unknown Lambda-Extension-Identifier".to_owned(),
            Self::MissingErrorType => "Lambda-Extension-Function-Error-Type not found".to_owned(),
        }
    }
}
