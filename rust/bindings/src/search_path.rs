//! `sys.path` and what else the `site` module would have set up, for the fast way in (`python -S`).
//!
//! In Rust because it runs at every cold start: as a Python module it would cost a fortieth of the whole. The order is
//! the managed runtime's (spec runtime-api 3.6): the function's code beats its layers, layers beat what the base image
//! brings.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyTuple};

use crate::environ;

/// Entries of the standard library that the interpreter puts at the end of `sys.path`: the zip file, the folder, and
/// the folder of compiled modules.
const LIBRARY_ENTRIES: usize = 3;
/// What `site` adds to the builtins. Code relies on `exit()` more often than it should.
const BUILTINS: [&str; 6] = ["exit", "quit", "copyright", "credits", "license", "help"];
/// Modules that are imported at start where one is on the path; OpenTelemetry's wrapper uses the first.
const CUSTOMIZATION: [&str; 2] = ["sitecustomize", "usercustomize"];

/// Set `sys.path`, process `.pth` files, import the customization modules, and add the builtins that `site` adds.
///
/// `sys.path[0]` must be the folder that holds the `caloric` package, the rest what `python -S` made.
#[pyfunction]
pub fn configure_search_path(py: Python<'_>) -> PyResult<()> {
    let sys = py.import(intern!(py, "sys"))?;
    let sys_path = sys.getattr(intern!(py, "path"))?.cast_into::<PyList>()?;
    let mut path: Vec<OsString> = sys_path.extract()?;
    let home = if path.is_empty() { OsString::new() } else { path.remove(0) };
    // PYTHONPATH comes first in what the interpreter made, the standard library last.
    let library = path.split_off(path.len().saturating_sub(LIBRARY_ENTRIES));
    let mut given = path;

    let version = py.version_info();
    let python = format!("python{}.{}", version.major, version.minor);
    let task_root = match std::env::var_os("LAMBDA_TASK_ROOT") {
        Some(root) if !root.is_empty() => root,
        _ => std::env::current_dir().unwrap_or_default().into_os_string(),
    };
    let mut site_folders = vec![task_root];
    if std::env::var_os("PYTHONPATH").is_none() {
        let layers = match std::env::var_os("CALORIC_OPT") {
            Some(opt) if !opt.is_empty() => Path::new(&opt).join("python"),
            _ => "/opt/python".into(),
        };
        site_folders.push(layers.join("lib").join(&python).join("site-packages").into());
        site_folders.push(layers.into());
        let managed = format!("/var/lang/lib/{python}/site-packages");
        if Path::new(&managed).is_dir() {
            given.push(managed.into());
        }
        if let Some(runtime) = std::env::var_os("LAMBDA_RUNTIME_DIR") {
            // Child processes find the bundled boto3 through it.
            let value = PyBytes::new(py, runtime.as_bytes());
            py.import(intern!(py, "posix"))?
                .call_method1(intern!(py, "putenv"), (PyBytes::new(py, b"PYTHONPATH"), &value))?;
            environ::variables(py)?.set_item(PyBytes::new(py, b"PYTHONPATH"), value)?;
            given.push(runtime);
        }
    }
    let mut packages = installed_packages(&sys, &python)?;
    packages.push(home);

    let mut ordered: Vec<&OsStr> = Vec::new();
    for entry in site_folders.iter().chain(&given).chain(&library).chain(&packages) {
        if !ordered.contains(&entry.as_os_str()) {
            ordered.push(entry);
        }
    }
    sys_path.as_any().set_item(pyo3::types::PySlice::full(py), &ordered)?;
    add_builtins(py)?;
    site_folders.append(&mut packages);
    process_folders(py, &site_folders, &given, &library)
}

/// Where the interpreter's own packages are: a virtual environment's, or the prefix's and Debian's places.
fn installed_packages(sys: &Bound<'_, PyModule>, python: &str) -> PyResult<Vec<OsString>> {
    let py = sys.py();
    let executable: Option<OsString> = sys.getattr(intern!(py, "executable"))?.extract()?;
    // Its folder's parent, without following links: a virtual environment's interpreter is one.
    let environment = executable.as_deref().map(Path::new).and_then(Path::parent).and_then(Path::parent);
    if let Some(environment) = environment
        && environment.join("pyvenv.cfg").is_file()
    {
        for name in ["prefix", "exec_prefix"] {
            sys.setattr(name, environment.as_os_str())?;
        }
        return Ok(vec![environment.join("lib").join(python).join("site-packages").into()]);
    }
    let prefix: OsString = sys.getattr(intern!(py, "prefix"))?.extract()?;
    let mut folders = vec![Path::new(&prefix).join("lib").join(python).join("site-packages")];
    if prefix == "/usr" {
        folders.push(format!("/usr/local/lib/{python}/dist-packages").into());
        folders.push("/usr/lib/python3/dist-packages".into());
    }
    Ok(folders.into_iter().filter(|folder| folder.is_dir()).map(Into::into).collect())
}

/// Read the `.pth` files of `site_folders`, then import the customization modules. Each folder is listed once; the
/// imports, to fail, would search all of them.
fn process_folders(
    py: Python<'_>,
    site_folders: &[OsString],
    given: &[OsString],
    library: &[OsString],
) -> PyResult<()> {
    let mut found = [false; CUSTOMIZATION.len()];
    let mut seen: Vec<&OsString> = Vec::new();
    for (folder, is_site) in
        site_folders.iter().map(|folder| (folder, true)).chain(given.iter().map(|folder| (folder, false)))
    {
        if seen.contains(&folder) {
            continue;
        }
        seen.push(folder);
        let Ok(entries) = std::fs::read_dir(folder) else { continue };
        let mut pth_files = Vec::new();
        for entry in entries.flatten() {
            let name = entry.file_name();
            if is_site && Path::new(&name).extension().is_some_and(|extension| extension == "pth") {
                pth_files.push(name.clone());
            }
            for (custom, found) in CUSTOMIZATION.iter().zip(&mut found) {
                // The module's file, its package's folder, or a compiled module with a longer ending.
                *found |= name.to_str().is_some_and(|name| name.split('.').next() == Some(custom));
            }
        }
        if !pth_files.is_empty() {
            add_pth_entries(py, Path::new(folder), pth_files)?;
        }
    }
    for (name, found) in CUSTOMIZATION.iter().zip(found) {
        // The standard library is long to list; Debian puts its own hook there.
        let in_library =
            || library.get(1).is_some_and(|folder| Path::new(folder).join(format!("{name}.py")).is_file());
        if found || in_library() {
            // Runs it, and when it fails says so and goes on.
            py.import(intern!(py, "site"))?.call_method0(format!("exec{name}"))?;
        }
    }
    Ok(())
}

/// Add what the `.pth` files of `folder` name to the end of `sys.path`. Files of plain paths, as editable installs have
/// them, are read here; as soon as one has code in it, all of them are for the `site` module, which takes as long to
/// import as everything else that is done here takes together.
fn add_pth_entries(py: Python<'_>, folder: &Path, mut files: Vec<OsString>) -> PyResult<()> {
    files.sort();
    let mut additions = Vec::new();
    for file in files {
        let Some(paths) = plain_paths(&folder.join(file)) else {
            py.import(intern!(py, "site"))?.call_method1(intern!(py, "addsitedir"), (folder.as_os_str(),))?;
            return Ok(());
        };
        additions.extend(paths.into_iter().map(|path| folder.join(path)));
    }
    let sys_path = py.import(intern!(py, "sys"))?.getattr(intern!(py, "path"))?.cast_into::<PyList>()?;
    for addition in additions {
        // As the site module has it: normalised, once, and only what exists.
        let Ok(addition) = std::path::absolute(&addition) else { continue };
        // Not as a path, of which pyo3 would make a pathlib.Path.
        let entry = addition.as_os_str();
        if addition.exists() && !sys_path.contains(entry)? {
            sys_path.append(entry)?;
        }
    }
    Ok(())
}

/// The paths in a `.pth` file; None when it has code or a path with `..` in it, is not UTF-8, or cannot be read.
fn plain_paths(file: &Path) -> Option<Vec<String>> {
    let text = std::fs::read_to_string(file).ok()?;
    let lines = text.trim_start_matches('\u{feff}').lines();
    let lines = lines.filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    lines
        .map(|line| {
            let code = line.starts_with("import ") || line.starts_with("import\t");
            let tangled = line.contains("..");
            (!code && !tangled).then(|| line.trim_end().to_owned())
        })
        .collect()
}

fn add_builtins(py: Python<'_>) -> PyResult<()> {
    let builtins = py.import(intern!(py, "builtins"))?;
    for name in BUILTINS {
        if !builtins.hasattr(name)? {
            builtins.setattr(name, SiteBuiltin { name })?;
        }
    }
    Ok(())
}

/// `exit`, `help` and the like, made by the `site` module when somebody uses one.
#[pyclass(frozen, module = "caloric._rust")]
struct SiteBuiltin {
    name: &'static str,
}

impl SiteBuiltin {
    fn real<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let site = py.import(intern!(py, "site"))?;
        for set in ["setquit", "setcopyright", "sethelper"] {
            site.call_method0(set)?;
        }
        py.import(intern!(py, "builtins"))?.getattr(self.name)
    }
}

#[pymethods]
impl SiteBuiltin {
    #[pyo3(signature = (*arguments, **keywords))]
    fn __call__<'py>(
        &self,
        py: Python<'py>,
        arguments: &Bound<'py, PyTuple>,
        keywords: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.real(py)?.call(arguments, keywords)
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(self.real(py)?.repr()?.to_string())
    }

    fn __getattr__<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
        self.real(py)?.getattr(name)
    }
}
