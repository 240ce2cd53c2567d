//! The environment's own folder on this machine: what `/tmp` and `/opt` are on AWS (spec extensions-telemetry 3.6).

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use crate::identifiers;

/// A folder whose parts are made when they are first asked for. A reset keeps it; [`Self::remove`] is for the end.
#[derive(Debug, Default)]
pub struct EnvironmentFolder {
    root: Option<PathBuf>,
    removed: bool,
}

impl EnvironmentFolder {
    /// The folder, if any part of it was made.
    pub fn root(&self) -> Option<&Path> {
        self.root.as_deref()
    }

    /// The part of this name, made now if need be, in the folder that this process uses for temporary files.
    ///
    /// Fails if it cannot be made, or was removed.
    pub fn part(&mut self, name: &str) -> io::Result<PathBuf> {
        let part = self.file(name)?;
        match private_folder().create(&part) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(part),
        }
    }

    /// Where a file of this name is, or is to be: beside the parts.
    ///
    /// Fails if the folder cannot be made, or was removed.
    pub fn file(&mut self, name: &str) -> io::Result<PathBuf> {
        if self.removed {
            return Err(io::Error::from_raw_os_error(libc::ENOENT));
        }
        if self.root.is_none() {
            let root = std::env::temp_dir().join(format!("caloric-{}", identifiers::request_id()));
            private_folder().create(&root)?;
            self.root = Some(root);
        }
        Ok(self.root.as_deref().unwrap_or(Path::new("")).join(name))
    }

    /// Remove the folder with all that is in it; it is not made again.
    pub fn remove(&mut self) {
        self.removed = true;
        if let Some(root) = self.root.take() {
            // Whoever made files there that cannot be removed has to live with them.
            let _ = fs::remove_dir_all(root);
        }
    }
}

/// Makes folders that nobody else can look into.
fn private_folder() -> DirBuilder {
    let mut builder = DirBuilder::new();
    builder.mode(0o700);
    builder
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn parts_are_made_once_for_their_owner_and_removed_with_their_contents() {
        let mut folder = EnvironmentFolder::default();
        assert_eq!(folder.root(), None);
        let tmp = folder.part("tmp").unwrap();
        assert_eq!(folder.part("tmp").unwrap(), tmp);
        let opt = folder.part("opt").unwrap();
        let root = folder.root().unwrap().to_path_buf();
        assert_eq!([tmp.parent(), opt.parent()], [Some(root.as_path()); 2]);
        for path in [&root, &tmp, &opt] {
            assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o700);
        }
        fs::create_dir(tmp.join("a")).unwrap();
        fs::write(tmp.join("a/b"), "c").unwrap();
        folder.remove();
        assert!(!root.exists());
        assert!(folder.part("tmp").is_err());
    }
}
