"""Why an import failed, where the reason lies on disk: a sentence for the log. Imported when an import has failed.

Nothing is guessed: each hint names a file that is there, or what the loader itself said.
"""

import os
import sys
from _imp import extension_suffixes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["hint"]

# Where layers are unpacked.
_LAYERS = os.environ.get("CALORIC_OPT") or "/opt"
_MACHINES = {3: "i386", 40: "arm", 62: "x86_64", 183: "aarch64"}
_MOST_ENTRIES = 1000


def hint(error: ImportError) -> str | None:
    """Return why the import failed and what to do, or None where the disk tells nothing."""
    try:
        return _hint(error)
    except (OSError, ValueError):
        return None


def _hint(error: ImportError) -> str | None:
    message = str(error)
    if isinstance(error, ModuleNotFoundError):
        return _missing_module(error.name) if error.name else None
    if error.path and message.startswith("cannot import name '"):
        # from package import _extension
        wanted = message.split("'")[1]
        if os.path.basename(error.path).startswith("__init__."):
            return _wrong_build(os.path.dirname(error.path), wanted)
        return None
    return _unloadable(error.path, message)


# ---- a module that is not found --------------------------------------------------------------------------------------


def _missing_module(name: str) -> str | None:
    *parents, last = name.split(".")
    folders = [os.path.join(entry or os.getcwd(), *parents) for entry in sys.path]
    for folder in folders:
        found = _wrong_build(folder, last) or _other_case(folder, last)
        if found:
            return found
    return None if parents else _misplaced(last)


def _wrong_build(folder: str, name: str) -> str | None:
    """A hint for an extension module that is there, but built for another Python or platform."""
    for entry in _entries(folder):
        if not entry.startswith(f"{name}.") or not entry.endswith((".so", ".pyd")):
            continue
        if any(entry == name + suffix for suffix in extension_suffixes()):
            # For us; so it is something else that fails.
            return None
        tag = entry[len(name) + 1 :].rpartition(".")[0]
        built_for = _platform_of_tag(tag, entry)
        if built_for:
            return (
                f"{os.path.join(folder, entry)} is built for {built_for[0]}, and this is {built_for[1]}. Install the "
                f"package for {_this_python()} on {_this_platform()}, for example in a container of that platform, or "
                "with pip's options --platform and --python-version."
            )
    return None


def _platform_of_tag(tag: str, entry: str) -> tuple[str, str] | None:
    """What the tag in an extension's file name says, and what it is here; None where both are the same."""
    if entry.endswith(".pyd"):
        return "Windows", "Linux"
    implementation, _, rest = tag.partition("-")
    version, _, platform = rest.partition("-")
    if implementation == "pypy" or tag.startswith("pypy"):
        return "PyPy", _this_python()
    if implementation != "cpython" or not version.rstrip("tdm").isdigit():
        return None
    if platform == "darwin":
        return "macOS", "Linux"
    digits = version.rstrip("tdm")
    built_for = f"CPython {digits[0]}.{digits[1:]}"
    if built_for != _this_python():
        return built_for, _this_python()
    machine, _, libc = platform.partition("-linux-")
    if machine and machine != os.uname().machine:
        return machine, os.uname().machine
    own_libc = "musl" if any("-linux-musl" in suffix for suffix in extension_suffixes()) else "gnu"
    if libc in ("gnu", "musl") and libc != own_libc:
        names = {"gnu": "glibc", "musl": "musl (Alpine Linux)"}
        return names[libc], names[own_libc]
    return None


def _other_case(folder: str, name: str) -> str | None:
    wanted = name.lower()
    for entry in _entries(folder):
        stem = entry[:-3] if entry.endswith(".py") else entry
        if stem != name and stem.lower() == wanted and _is_module(os.path.join(folder, entry)):
            return f"{os.path.join(folder, entry)} is there, but capitals count: it is imported as {stem}, not {name}."
    return None


def _misplaced(name: str) -> str | None:
    """A hint for a top-level module that lies in a folder that is not searched."""
    python = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    in_layers = os.path.join(_LAYERS, "python")
    for folder in (
        _LAYERS,
        os.path.join(in_layers, "python"),
        os.path.join(_LAYERS, "lib", python, "site-packages"),
    ):
        found = _module_in(folder, name)
        if found:
            return (
                f"{found} is there, but of a layer only {in_layers} and {in_layers}/lib/{python}/site-packages are "
                "searched: the layer's zip must hold a folder python, and in it the packages."
            )
    for version in _entries(os.path.join(in_layers, "lib")):
        found = _module_in(os.path.join(in_layers, "lib", version, "site-packages"), name)
        if found and version != python:
            return f"{found} is there, but it is searched only by {version}, and this is {python}."
    for root in dict.fromkeys((os.environ.get("LAMBDA_TASK_ROOT") or os.getcwd(), os.getcwd())):
        for entry in _entries(root):
            folder = os.path.join(root, entry)
            # What is in a package is a part of that package and no module of its own.
            if os.path.exists(os.path.join(folder, "__init__.py")) or folder in sys.path:
                continue
            found = _module_in(folder, name)
            if found:
                return (
                    f"{found} is there, but {folder} is not searched: name the handler with its folder "
                    f"({entry}/…), or package what is in {entry} without the folder."
                )
    return None


def _module_in(folder: str, name: str) -> str | None:
    for path in (os.path.join(folder, f"{name}.py"), os.path.join(folder, name)):
        if _is_module(path):
            return path
    return None


def _is_module(path: str) -> bool:
    return os.path.isfile(path) if path.endswith(".py") else os.path.isfile(os.path.join(path, "__init__.py"))


def _entries(folder: str) -> "Iterator[str]":
    try:
        entries = sorted(os.listdir(folder))
    except OSError:
        return
    yield from entries[:_MOST_ENTRIES]


# ---- an extension module that cannot be loaded -----------------------------------------------------------------------


def _unloadable(path: str | None, message: str) -> str | None:
    if path and path.endswith(".so") and os.path.isfile(path):
        other = _other_machine(path)
        if other:
            return f"{path} {other}. Install the package for {_this_platform()}."
    if "libc.musl-" in message and ".so" in message and _libc():
        return f"{path or 'The library'} is built for musl (Alpine Linux), and this is glibc {_libc()}."
    _, found, rest = message.partition("version `GLIBC_")
    needed = rest.partition("'")[0]
    if found and _libc() and _numbers(needed) > _numbers(_libc()):
        return (
            f"{path or 'The library'} needs glibc {needed}, and this system has {_libc()}. Install a wheel built for "
            f"manylinux with glibc {_libc()} or older."
        )
    return None


def _other_machine(path: str) -> str | None:
    """What a library's first bytes say about who can load it; None if we can."""
    with open(path, "rb") as file:
        head = file.read(64)
    if head[:4] in (b"\xcf\xfa\xed\xfe", b"\xce\xfa\xed\xfe", b"\xca\xfe\xba\xbe"):
        return "is a library for macOS, and this is Linux"
    if head[:2] == b"MZ":
        return "is a library for Windows, and this is Linux"
    if head.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer and not the library itself"
    if not head:
        return "is empty"
    if head[:4] != b"\x7fELF" or len(head) < 20:
        return "is not a library"
    machine = int.from_bytes(head[18:20], "little" if head[5] == 1 else "big")
    own = os.uname().machine
    built_for = _MACHINES.get(machine, f"machine {machine}")
    # An i386 Python may run on an x86_64 kernel: what loaded this interpreter decides.
    with open(sys.executable or "/proc/self/exe", "rb") as file:
        interpreter = file.read(20)
    if interpreter[18:20] == head[18:20] and interpreter[4:5] == head[4:5]:
        return None
    return f"is built for {built_for}, and this is {own}"


def _libc() -> str:
    """The version of glibc, or nothing where it is another."""
    try:
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
    except (OSError, ValueError):
        return ""
    return version if name == "glibc" else ""


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def _this_python() -> str:
    return f"CPython {sys.version_info[0]}.{sys.version_info[1]}"


def _this_platform() -> str:
    return f"Linux {os.uname().machine}"
