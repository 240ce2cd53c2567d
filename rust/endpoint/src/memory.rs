//! How much memory the processes of an environment use together.
//!
//! One process: its resident memory, whose peak the kernel keeps. Several: the sum of their proportional set sizes, in
//! which a page that several share after a fork counts once, as it would in a sandbox of their own; of the sum, the
//! peak is the highest one seen. An environment here has no memory cgroup of its own, so the kernel keeps no peak of it.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;

use crate::process_tree;

/// Reads the memory of a process and of everything it started.
#[derive(Debug)]
pub struct MemoryMeter {
    pid: i32,
    /// The parent of the process and of every orphan below it; none where a test started the process.
    reaper: Option<i32>,
    // Kept open: reading them anew is the cheap part.
    status: Option<File>,
    children: [Option<File>; 2],
    /// Whether there was more than one process at the last look at all of them.
    several: bool,
    peak_kb: u64,
}

impl MemoryMeter {
    /// The memory of `pid` and of what it starts.
    pub fn new(pid: i32, reaper: Option<i32>) -> Self {
        let open = |path: String| File::open(path).ok();
        let children = |pid: i32| open(format!("/proc/{pid}/task/{pid}/children"));
        Self {
            pid,
            reaper,
            status: open(format!("/proc/{pid}/status")),
            children: [children(pid), reaper.and_then(children)],
            several: false,
            peak_kb: 0,
        }
    }

    /// The peak so far in kB, for the end of a phase; zero if nothing was ever seen.
    ///
    /// Looks at more than the process itself only where it has children: started by its main thread, orphaned, or seen
    /// by the last [`Self::sample`].
    pub fn peak_kb(&mut self) -> u64 {
        if self.several || self.has_children() {
            self.sample();
        } else if let Some((peak, _)) = self.status.as_ref().and_then(resident) {
            self.peak_kb = self.peak_kb.max(peak);
        }
        self.peak_kb
    }

    /// What all of them use now, in kB.
    pub fn sample(&mut self) -> u64 {
        let (peak, resident) = self.status.as_ref().and_then(resident).unwrap_or_default();
        let mut pids = Vec::new();
        if let Some(reaper) = self.reaper {
            process_tree::each_process(reaper, |pid, _| pids.push(pid));
        }
        self.several = pids.len() > 1;
        let used = if self.several { pids.into_iter().map(proportional).sum() } else { resident };
        self.peak_kb = self.peak_kb.max(peak).max(used);
        used
    }

    fn has_children(&self) -> bool {
        let [own, reapers] = &self.children;
        let own_pid = self.pid;
        let mut buffer = [0; 64];
        let mut list = |file: &File| {
            let length = file.read_at(&mut buffer, 0).unwrap_or(0);
            String::from_utf8_lossy(&buffer[..length]).into_owned()
        };
        own.as_ref().is_some_and(|file| !list(file).is_empty())
            || reapers.as_ref().is_some_and(|file| list(file).trim() != own_pid.to_string())
    }
}

/// `VmHWM` and `VmRSS` in kB; a process that has ended has neither.
fn resident(status: &File) -> Option<(u64, u64)> {
    // They come some 350 bytes into the text; supplementary groups before them can be many.
    let mut buffer = [0; 4096];
    let length = status.read_at(&mut buffer, 0).ok()?;
    let text = std::str::from_utf8(&buffer[..length]).ok()?;
    Some((kilobytes(text, "VmHWM:")?, kilobytes(text, "VmRSS:")?))
}

/// The proportional set size in kB; zero for a process that has ended, or that is not ours to look into.
fn proportional(pid: i32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    kilobytes(&text, "\nPss:").unwrap_or(0)
}

fn kilobytes(text: &str, name: &str) -> Option<u64> {
    text[text.find(name)? + name.len()..].split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reaper::{ProgramSpec, Reaper};
    use std::os::fd::AsRawFd as _;
    use std::process::Command;
    use std::time::{Duration, Instant};

    #[test]
    fn the_peak_is_the_processs_own_and_stays_after_its_end() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let mut meter = MemoryMeter::new(i32::try_from(child.id()).unwrap(), None);
        // Until the program is executed it is this process.
        let began = Instant::now();
        let peak = loop {
            meter.peak_kb = 0;
            let peak = meter.peak_kb();
            if (200..20_000).contains(&peak) {
                break peak;
            }
            assert!(began.elapsed() < Duration::from_secs(10), "{peak} kB");
        };
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(meter.peak_kb(), peak);
    }

    #[test]
    fn children_count_and_the_pages_they_share_count_once() {
        let (read, write) = std::io::pipe().unwrap();
        // As much as a shell holds in a variable, in processes that wait for their input.
        let hold = "exec 3<&0; x=$(head -c 20000000 /dev/zero | tr '\\0' x); ";
        let measure = |script: &str, processes: usize| {
            let spec = ProgramSpec {
                program: "/bin/sh".into(),
                arguments: ["sh", "-c", &format!("{hold}{script}")].map(Into::into).to_vec(),
                stdin: Some(read.as_raw_fd()),
                process_group: true,
                ..ProgramSpec::default()
            };
            let reaper = Reaper::start(&spec, None).unwrap();
            let mut meter = MemoryMeter::new(reaper.program(), Some(reaper.pid()));
            let began = Instant::now();
            loop {
                let mut count = 0;
                process_tree::each_process(reaper.pid(), |_, _| count += 1);
                let used = meter.sample();
                if count == processes && used > 15_000 {
                    assert!(meter.peak_kb() >= used);
                    return used;
                }
                assert!(began.elapsed() < Duration::from_secs(20), "{count} processes, {used} kB");
                std::thread::sleep(Duration::from_millis(5));
            }
        };
        let one = measure("read y <&3", 1);
        let three = measure("(read y <&3) & (read y <&3) & read y <&3", 3);
        assert!(three < 2 * one, "{three} kB where one has {one} kB");
        drop(write);
    }
}
