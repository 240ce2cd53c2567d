//! Control groups of the kernel: where this process may make them, taking processes into one, stopping all that is in
//! it.
//!
//! Unlike a signal, the freezer of a group is seen by nobody: parents get no SIGCHLD, and a process that the function
//! has stopped itself stays as it is. Version 2 (`cgroup.freeze`, Linux 5.2) needs no controller, so that a user's own
//! session or a container with a writable group suffices. Version 1 (the hierarchy `freezer`) does not kill what is
//! frozen before it is thawed.
//!
//! To take a process in costs 10 ms, nearly all of it waiting (the kernel waits until every CPU has come to rest), and
//! is done off the endpoint's thread. To stop and wake the group then costs one write.

use std::ffi::CString;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process;
use std::str::FromStr;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use crate::error::EndpointError;
use crate::identifiers;
use crate::process_tree::{self, Held};

/// So often a tree is looked at again because a process was found that had not been taken in.
const PASSES: usize = 100;
/// A group whose last process has just been reaped may still be busy for a moment.
const REMOVAL_ATTEMPTS: usize = 20;

/// What stops an environment's processes between two invocations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FreezerChoice {
    /// The first that this process may use: version 2, version 1, signals.
    #[default]
    Auto,
    /// A control group of this version, or an error.
    Group(Version),
    /// SIGSTOP and SIGCONT.
    Signals,
}

/// The two kinds of hierarchies that the kernel has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// One hierarchy for all controllers.
    V2,
    /// The hierarchy of the controller `freezer`.
    V1,
}

impl FreezerChoice {
    /// Fails with [`EndpointError::Freezer`] if a control group is demanded that this process may not make.
    pub fn check(self) -> Result<(), EndpointError> {
        match self {
            Self::Group(version) => match version.parent() {
                Ok(_) => Ok(()),
                Err(reason) => Err(EndpointError::Freezer(format!(
                    "the freezer '{version}' cannot be used here: {reason}; 'auto' takes what there is"
                ))),
            },
            _ => Ok(()),
        }
    }

    /// The version of the groups to use; none: signals.
    pub fn version(self) -> Option<Version> {
        match self {
            Self::Auto => [Version::V2, Version::V1].into_iter().find(|version| version.parent().is_ok()),
            Self::Group(version) => Some(version),
            Self::Signals => None,
        }
    }
}

impl FromStr for FreezerChoice {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        match text {
            "auto" => Ok(Self::Auto),
            "cgroup-v2" => Ok(Self::Group(Version::V2)),
            "cgroup-v1" => Ok(Self::Group(Version::V1)),
            "signals" => Ok(Self::Signals),
            _ => Err(EndpointError::Freezer(format!(
                "the freezer '{text}' is not known: it can be auto, cgroup-v2, cgroup-v1 or signals"
            ))),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V2 => "cgroup-v2",
            Self::V1 => "cgroup-v1",
        })
    }
}

impl Version {
    /// The group below which this process makes its own: the one that it is in. Found out once, by making one; the
    /// error says why none can be made.
    fn parent(self) -> Result<&'static Path, &'static str> {
        static FOUND: [OnceLock<Result<PathBuf, String>>; 2] = [OnceLock::new(), OnceLock::new()];
        FOUND[self as usize].get_or_init(|| self.find_parent()).as_deref().map_err(String::as_str)
    }

    fn find_parent(self) -> Result<PathBuf, String> {
        let read = |path| fs::read_to_string(path).map_err(|error| format!("{path}: {error}"));
        let parent = self
            .locate(&read("/proc/self/mountinfo")?, &read("/proc/self/cgroup")?)
            .ok_or("its hierarchy is not mounted where this process could see it")?;
        // Whoever may not write there may not move a process from there either.
        writable(&parent.join("cgroup.procs"))?;
        let trial = ControlGroup::below(&parent, self);
        let made = trial.make();
        trial.remove();
        made.map_err(|error| format!("{}: {error}", parent.display()))?;
        Ok(parent)
    }

    /// The folder of this process's own group, from `/proc/self/mountinfo` and `/proc/self/cgroup`.
    fn locate(self, mounts: &str, groups: &str) -> Option<PathBuf> {
        let group = groups.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let (controllers, path) = (fields.next()?, fields.next()?);
            let here = match self {
                Self::V2 => controllers.is_empty(),
                Self::V1 => controllers.split(',').any(|name| name == "freezer"),
            };
            here.then_some(path)
        })?;
        mounts.lines().find_map(|line| {
            let (mount, system) = line.split_once(" - ")?;
            let mut system = system.split(' ');
            let kind = system.next()?;
            let here = match self {
                Self::V2 => kind == "cgroup2",
                Self::V1 => kind == "cgroup" && system.nth(1)?.split(',').any(|name| name == "freezer"),
            };
            let mut mount = mount.split(' ').skip(3).map(unescaped);
            let (root, point) = (mount.next()?, mount.next()?);
            // A container may see only a part of the hierarchy, or none of what it is in.
            let below = Path::new(group).strip_prefix(root).ok()?;
            (here && !group.contains("/..")).then(|| Path::new(&point).join(below))
        })
    }

    /// The file that stops and wakes a group, and what is written to it.
    fn freezer(self) -> (&'static str, [&'static [u8]; 2]) {
        match self {
            Self::V2 => ("cgroup.freeze", [b"0", b"1"]),
            Self::V1 => ("freezer.state", [b"THAWED", b"FROZEN"]),
        }
    }
}

/// Spaces and the like are octal in `mountinfo`.
fn unescaped(field: &str) -> String {
    field.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

fn writable(path: &Path) -> Result<(), String> {
    let name = CString::new(path.as_os_str().as_bytes()).map_err(|_| "no path".to_owned())?;
    // SAFETY: the string lives until the call returns.
    match unsafe { libc::faccessat(libc::AT_FDCWD, name.as_ptr(), libc::W_OK, libc::AT_EACCESS) } {
        0 => Ok(()),
        _ => Err(format!("{}: {}", path.display(), io::Error::last_os_error())),
    }
}

/// A group for the processes of one environment. It is made when the first of them is taken in.
#[derive(Debug)]
pub struct ControlGroup {
    version: Version,
    parent: PathBuf,
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    Unmade,
    /// With the file that stops and wakes it.
    Made(File),
    /// It is not made again.
    Removed,
}

impl ControlGroup {
    /// A group of this version, not made yet. `None` if this process may make none.
    pub fn new(version: Version) -> Option<Self> {
        version.parent().ok().map(|parent| Self::below(parent, version))
    }

    fn below(parent: &Path, version: Version) -> Self {
        let path = parent.join(format!("caloric-{}-{}", process::id(), identifiers::request_id()));
        Self { version, parent: parent.to_path_buf(), path, state: Mutex::new(State::Unmade) }
    }

    /// Its folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn make(&self) -> io::Result<()> {
        let mut state = self.state();
        match *state {
            State::Made(_) => Ok(()),
            State::Removed => Err(io::Error::from_raw_os_error(libc::ENOENT)),
            State::Unmade => {
                fs::create_dir(&self.path)?;
                match OpenOptions::new().write(true).open(self.path.join(self.version.freezer().0)) {
                    Ok(file) => {
                        *state = State::Made(file);
                        Ok(())
                    }
                    // The kernel has no freezer here.
                    Err(error) => {
                        let _ = fs::remove_dir(&self.path);
                        Err(error)
                    }
                }
            }
        }
    }

    /// Take in every process below `roots`, and with them all that they will start. Takes some 10 ms.
    ///
    /// Fails where a process cannot be moved; some may have been moved then.
    pub fn take_in(&self, roots: &[Held]) -> io::Result<()> {
        self.make()?;
        let mut entrance = OpenOptions::new().write(true).open(self.path.join("cgroup.procs"))?;
        for _ in 0..PASSES {
            let members = self.members()?;
            let mut complete = true;
            for root in roots {
                process_tree::each_held(root, |process| {
                    if members.contains(&process.pid) {
                        return Ok(());
                    }
                    complete = false;
                    self.take(process, &mut entrance)
                })?;
            }
            // A process that forked before it was taken in has a child that was not; nobody else can have one.
            if complete {
                return Ok(());
            }
        }
        Err(io::Error::other("its processes leave the control group again"))
    }

    fn take(&self, process: &Held, entrance: &mut File) -> io::Result<()> {
        match entrance.write_all(process.pid.to_string().as_bytes()) {
            Err(error) if error.raw_os_error() != Some(libc::ESRCH) => return Err(error),
            _ => {}
        }
        // Should it have ended in the meantime, whoever has its pid now was taken in for it. One of ours comes again.
        if !process.is_there() && self.members()?.contains(&process.pid) {
            let _ = fs::write(self.parent.join("cgroup.procs"), process.pid.to_string());
        }
        Ok(())
    }

    fn members(&self) -> io::Result<Vec<i32>> {
        let text = fs::read_to_string(self.path.join("cgroup.procs"))?;
        Ok(text.lines().filter_map(|pid| pid.parse().ok()).collect())
    }

    /// Stop all that is in it, or let it go on.
    pub fn set_frozen(&self, frozen: bool) -> io::Result<()> {
        match &mut *self.state() {
            State::Made(file) => file.write_all(self.version.freezer().1[usize::from(frozen)]),
            _ => Err(io::Error::from_raw_os_error(libc::ENOENT)),
        }
    }

    /// Remove it, when nobody is in it any more; it is not made again.
    pub fn remove(&self) {
        if !matches!(std::mem::replace(&mut *self.state(), State::Removed), State::Made(_)) {
            return;
        }
        for _ in 0..REMOVAL_ATTEMPTS {
            match fs::remove_dir(&self.path) {
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                _ => return,
            }
        }
    }
}

impl Drop for ControlGroup {
    fn drop(&mut self) {
        self.remove();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reaper::{ProgramSpec, Reaper};
    use std::time::Instant;

    const VERSIONS: [Version; 2] = [Version::V2, Version::V1];

    const HYBRID_MOUNTS: &str = "\
        34 31 0:32 / /sys/fs/cgroup/freezer rw,relatime shared:9 - cgroup cgroup rw,freezer\n\
        38 31 0:36 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids\n\
        41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate\n";

    fn located(version: Version, mounts: &str, groups: &str) -> Option<String> {
        version.locate(mounts, groups).map(|path| path.display().to_string())
    }

    #[test]
    fn the_own_group_is_found_in_either_hierarchy() {
        let groups = "8:pids:/other\n6:freezer:/\n0::/user.slice/user-7.slice/a b.scope\n";
        assert_eq!(
            located(Version::V2, HYBRID_MOUNTS, groups).as_deref(),
            Some("/sys/fs/cgroup/unified/user.slice/user-7.slice/a b.scope")
        );
        assert_eq!(located(Version::V1, HYBRID_MOUNTS, groups).as_deref(), Some("/sys/fs/cgroup/freezer/"));
    }

    #[test]
    fn a_container_sees_its_own_part() {
        let mounts = "9 8 0:2 /docker/ab /mnt/c\\040g rw - cgroup cgroup rw,freezer\n";
        let inside = |path: &str| located(Version::V1, mounts, &format!("6:freezer:{path}\n"));
        assert_eq!(inside("/docker/ab/x").as_deref(), Some("/mnt/c g/x"));
        assert_eq!(inside("/elsewhere"), None);
        assert_eq!(inside("/docker/ab/../cd"), None);
        assert_eq!(located(Version::V2, mounts, "0::/\n"), None);
    }

    #[test]
    fn choices_are_named_and_others_are_refused() {
        for version in VERSIONS {
            assert_eq!(version.to_string().parse::<FreezerChoice>().unwrap(), FreezerChoice::Group(version));
        }
        assert_eq!("auto".parse::<FreezerChoice>().unwrap(), FreezerChoice::Auto);
        assert_eq!("signals".parse::<FreezerChoice>().unwrap().version(), None);
        let error = "cgroup".parse::<FreezerChoice>().unwrap_err().to_string();
        assert_eq!(
            error,
            "the freezer 'cgroup' is not known: it can be auto, cgroup-v2, cgroup-v1 or signals"
        );
    }

    fn processes_below(root: i32) -> Vec<i32> {
        let mut pids = Vec::new();
        process_tree::each_process(root, |pid, _| pids.push(pid));
        pids
    }

    #[test]
    fn a_whole_family_is_taken_in_however_it_grows_and_the_group_is_removed() {
        for version in VERSIONS {
            let Some(group) = ControlGroup::new(version) else {
                eprintln!("skipped for {version}: {}", version.parent().unwrap_err());
                continue;
            };
            // It forks without a pause, and leaves a grandchild of its own session behind each time.
            let script = "sleep 600 & while :; do (setsid sleep 0.05 &); done";
            let spec = ProgramSpec {
                program: "/bin/sh".into(),
                arguments: ["sh", "-c", script].map(Into::into).to_vec(),
                process_group: true,
                ..ProgramSpec::default()
            };
            let reaper = Reaper::start(&spec, None).unwrap();
            let root = reaper.hold().unwrap();
            group.take_in(&[root]).unwrap();
            assert!(!group.members().unwrap().contains(&reaper.pid()), "the reaper is not in it");
            let began = Instant::now();
            group.set_frozen(true).unwrap();
            loop {
                // Frozen: nobody is born, and nobody dies.
                let members = group.members().unwrap();
                std::thread::sleep(Duration::from_millis(100));
                if group.members().unwrap() == members {
                    let all = processes_below(reaper.pid());
                    assert!(all.iter().all(|pid| members.contains(pid)), "{all:?} in {members:?}");
                    break;
                }
                assert!(began.elapsed() < Duration::from_secs(20), "it goes on");
            }
            group.set_frozen(false).unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(reaper.end());
            group.remove();
            assert!(!group.path().exists());
            assert!(group.make().is_err(), "it is not made again");
        }
    }
}
