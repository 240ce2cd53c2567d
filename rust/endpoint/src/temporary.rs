//! The environment's own folder for temporary files: what `/tmp` is on AWS (spec extensions-telemetry 3.6).

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use crate::identifiers;

/// A folder that is made when it is first asked for. A reset keeps it; [`Self::remove`] is for the end.
#[derive(Debug, Default)]
pub struct TemporaryFolder {
    path: Option<PathBuf>,
    removed: bool,
}

impl TemporaryFolder {
    /// The folder, if it was made.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// The folder, made now if need be, in the one that this process uses for the like.
    ///
    /// Fails if it cannot be made, or was removed.
    pub fn make(&mut self) -> io::Result<PathBuf> {
        if self.removed {
            return Err(io::Error::from_raw_os_error(libc::ENOENT));
        }
        if self.path.is_none() {
            let path = std::env::temp_dir().join(format!("caloric-{}", identifiers::request_id()));
            DirBuilder::new().mode(0o700).create(&path)?;
            self.path = Some(path);
        }
        Ok(self.path.clone().unwrap_or_default())
    }

    /// Remove the folder with all that is in it; it is not made again.
    pub fn remove(&mut self) {
        self.removed = true;
        if let Some(path) = self.path.take() {
            // Whoever made files there that cannot be removed has to live with them.
            let _ = fs::remove_dir_all(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_folder_is_made_once_for_its_owner_and_removed_with_its_contents() {
        let mut folder = TemporaryFolder::default();
        assert_eq!(folder.path(), None);
        let path = folder.make().unwrap();
        assert_eq!(folder.make().unwrap(), path);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        fs::create_dir(path.join("a")).unwrap();
        fs::write(path.join("a/b"), "c").unwrap();
        folder.remove();
        assert!(!path.exists());
        assert!(folder.make().is_err());
    }
}
