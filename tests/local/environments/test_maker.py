"""Environments as the service makes them: what the function sees, and what is left when they have ended."""

from __future__ import annotations

import json
import os
import shutil
import stat
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from caloric.local.environments.maker import CannotMakeError
from caloric.local.environments.runtimes import OWN_VERSION, Runtimes
from caloric.local.environments.variables import MADE_UP
from tests import parts
from tests.local.environments.conftest import ACCOUNT, FAILING, REGION, close, version_of

if TYPE_CHECKING:
    from caloric.local.environments.maker import EnvironmentMaker, RunningEnvironment
    from tests.conftest import MakeExtension, WriteFunction
    from tests.local.environments.conftest import Make, MakeMaker


def invoke(running: RunningEnvironment, event: object = None) -> Any:
    """Return what the function returned."""
    result = running.environment.invoke(json.dumps(event).encode())
    assert result.function_error is None, result.payload
    return json.loads(result.payload)


def failure(running: RunningEnvironment) -> dict[str, Any]:
    """Return the error document of an invocation that fails."""
    result = running.environment.invoke(b"{}")
    assert result.function_error == "Unhandled"
    document: dict[str, Any] = json.loads(result.payload)
    return document


def log_of(maker: EnvironmentMaker, group: str = "/aws/lambda/orders") -> list[str]:
    return [line.text for line in maker.logs.tail(group, 1000)]


def executable(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


# ---- what the function sees ------------------------------------------------------------------------------------------


def test_the_function_sees_lambdas_variables(make: Make, code: Path) -> None:
    os.environ["SERVICE_SECRET"] = "not for functions"
    os.environ["AWS_ENDPOINT_URL_S3"] = "http://127.0.0.1:5000"
    running = make(version_of(code, version="7", variables={"TABLE": "orders", "TZ": ":Europe/Zurich"}))
    seen = invoke(running)
    variables = seen["variables"]
    expected = {
        "_HANDLER": "app.handler",
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_EXECUTION_ENV": f"AWS_Lambda_python{OWN_VERSION}",
        "AWS_LAMBDA_FUNCTION_NAME": "orders",
        "AWS_LAMBDA_FUNCTION_VERSION": "7",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256",
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/orders",
        "AWS_LAMBDA_RUNTIME_API": running.environment.address,
        "LAMBDA_TASK_ROOT": str(code),
        "LAMBDA_RUNTIME_DIR": "/var/runtime",
        "PWD": str(code),
        "LANG": "en_US.UTF-8",
        "LC_CTYPE": "C.UTF-8",
        "TABLE": "orders",
        "TZ": ":Europe/Zurich",
        "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:5000",
        **MADE_UP.variables(),
    }
    assert {name: variables.get(name) for name in expected} == expected
    assert "SERVICE_SECRET" not in variables
    assert "AWS_LAMBDA_LOG_FORMAT" not in variables
    assert variables["AWS_LAMBDA_LOG_STREAM_NAME"] == seen["log_stream"] == running.stream.name
    assert variables["TMPDIR"] == seen["tmp"] != "/tmp"
    assert seen["cwd"] == str(code)
    assert seen["function_version"] == "7"
    assert seen["arn"] == f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:orders"


def test_json_logging_has_its_variables(make: Make, code: Path) -> None:
    variables = invoke(make(version_of(code, log_format="JSON", application_log_level="DEBUG")))["variables"]
    assert (variables["AWS_LAMBDA_LOG_FORMAT"], variables["AWS_LAMBDA_LOG_LEVEL"]) == ("JSON", "DEBUG")


def test_an_environment_for_provisioned_concurrency_says_so(make: Make, code: Path) -> None:
    variables = invoke(make(version_of(code), ahead=True, provisioned=True))["variables"]
    assert variables["AWS_LAMBDA_INITIALIZATION_TYPE"] == "provisioned-concurrency"


def test_temporary_files_stay_over_a_reset_and_go_with_the_environment(
    make: Make, write_function: WriteFunction
) -> None:
    code = write_function(
        """
        import os, pathlib, tempfile
        def handler(event, context):
            file = pathlib.Path(tempfile.gettempdir()) / "kept"
            if event:
                file.write_text("x")
                os._exit(3)
            return [str(file), file.exists()]
        """
    )
    running = make(version_of(code))
    result = running.environment.invoke(b"1")
    assert result.error_type == "Runtime.ExitError"
    file, there = invoke(running)
    assert there
    close(running)
    assert not Path(file).exists()


def test_the_task_folder_is_read_only_unless_we_are_root(make: Make, write_function: WriteFunction) -> None:
    code = write_function(
        """
        def handler(event, context):
            try:
                open("new", "w")
            except OSError as error:
                return type(error).__name__
            return "written"
        """
    )
    result = invoke(make(version_of(code)))
    assert result == ("written" if os.geteuid() == 0 else "PermissionError")


# ---- runtimes --------------------------------------------------------------------------------------------------------


def test_awslambdaric_runs_where_it_is_asked_for(
    make: Make, make_maker: MakeMaker, code: Path, tmp_path: Path
) -> None:
    layer = tmp_path / "layer"
    (layer / "python").mkdir(parents=True)
    (layer / "python" / "from_a_layer.py").write_text("value = 1")
    maker = make_maker(runtimes=Runtimes(tmp_path / "runtimes", runtime_client="awslambdaric"))
    running = make(version_of(code, layers=(layer,)), maker=maker)
    seen = invoke(running)
    assert seen["path"][0] == str(code)
    assert any(path.endswith("/python") for path in seen["path"])
    assert seen["log_stream"] == running.stream.name


def test_a_bootstrap_of_the_code_runs(make: Make, tmp_path: Path) -> None:
    bootstrap = executable(
        tmp_path / "task" / "bootstrap",
        """#!/bin/sh
        # Reads the request id of each event and returns the handler's name.
        api="http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation"
        while true; do
            id=$(curl -sS -o /dev/null -D - "$api/next" | tr -d '\\r' |
                awk 'tolower($1) == "lambda-runtime-aws-request-id:" { print $2 }')
            curl -sS -o /dev/null "$api/$id/response" -d "\\"$_HANDLER in $PWD, ${AWS_EXECUTION_ENV-none}\\""
        done
        """,
    )
    if shutil.which("curl") is None:
        pytest.skip("the bootstrap is a shell script that uses curl")
    running = make(version_of(bootstrap.parent, runtime="provided.al2023", handler="anything"))
    assert invoke(running) == f"anything in {bootstrap.parent}, none"


def test_a_bootstrap_of_a_layer_runs(make: Make, tmp_path: Path) -> None:
    layer = tmp_path / "layer"
    layer.mkdir()
    shutil.copy(parts.foreign("echo"), layer / "bootstrap")
    code = tmp_path / "task"
    code.mkdir()
    running = make(version_of(code, runtime="provided.al2023", layers=(layer,)))
    assert running.environment.invoke(b'{"a": 1}').function_error is None


@pytest.mark.parametrize("mode", [None, 0o644])
def test_without_an_executable_bootstrap_the_invocation_fails(
    make: Make, tmp_path: Path, mode: int | None
) -> None:
    code = tmp_path / "task"
    code.mkdir()
    if mode is not None:
        (code / "bootstrap").write_text("#!/bin/sh\n")
        (code / "bootstrap").chmod(mode)
    running = make(version_of(code, runtime="provided.al2023"))
    assert failure(running)["errorType"] == "Runtime.InvalidEntrypoint"


def test_a_runtime_of_another_language_is_a_clear_error(make: Make, code: Path) -> None:
    with pytest.raises(CannotMakeError, match=r"'nodejs22\.x' is not available locally") as raised:
        make(version_of(code, runtime="nodejs22.x"))
    assert (raised.value.error_type, raised.value.status) == ("InvalidRuntimeException", 502)


def test_a_folder_that_is_gone_is_a_clear_error(make: Make, tmp_path: Path) -> None:
    with pytest.raises(CannotMakeError, match="gone' with the code of orders is not there: put it back"):
        make(version_of(tmp_path / "gone", watched=True))


# ---- the wrapper -----------------------------------------------------------------------------------------------------


def test_the_wrapper_of_a_layer_starts_the_runtime(make: Make, code: Path, tmp_path: Path) -> None:
    executable(tmp_path / "layer" / "wrap", '#!/bin/sh\nexport WRAPPED="$1"\nexec "$@"\n')
    function = version_of(
        code, layers=(tmp_path / "layer",), variables={"AWS_LAMBDA_EXEC_WRAPPER": "/opt/wrap"}
    )
    variables = invoke(make(function))["variables"]
    assert variables["WRAPPED"] == sys.executable
    assert variables["AWS_LAMBDA_EXEC_WRAPPER"] == "/opt/wrap"


@pytest.mark.parametrize(("mode", "why"), [(None, "does not exist"), (0o644, "is not executable")])
def test_a_wrapper_that_cannot_run_ends_with_status_127(
    make: Make, maker: EnvironmentMaker, code: Path, mode: int | None, why: str
) -> None:
    if mode is not None:
        executable(code / "wrap", "#!/bin/sh\n").chmod(mode)
    running = make(version_of(code, variables={"AWS_LAMBDA_EXEC_WRAPPER": "/var/task/wrap"}))
    document = failure(running)
    assert document["errorType"] == "Runtime.ExitError"
    assert document["errorMessage"].endswith("exit status 127")
    assert f"/var/task/wrap: {why}" in log_of(maker)


def test_a_custom_runtime_has_no_wrapper(make: Make, tmp_path: Path) -> None:
    code = tmp_path / "task"
    code.mkdir()
    shutil.copy(parts.foreign("echo"), code / "bootstrap")
    function = version_of(
        code, runtime="provided.al2023", variables={"AWS_LAMBDA_EXEC_WRAPPER": "/var/task/missing"}
    )
    assert make(function).environment.invoke(b'{"a": 1}').function_error is None


# ---- layers and extensions -------------------------------------------------------------------------------------------


def test_later_layers_win_and_environments_share_them(
    make: Make, write_function: WriteFunction, tmp_path: Path
) -> None:
    layers = []
    for number in (1, 2):
        layer = tmp_path / f"layer{number}"
        (layer / "python" / "lib" / f"python{OWN_VERSION}" / "site-packages").mkdir(parents=True)
        (layer / "python" / "common.py").write_text(f"value = {number}")
        (layer / "python" / f"only{number}.py").write_text("")
        executable(layer / "bin" / "which-layer", f"#!/bin/sh\necho {number}\n")
        layers.append(layer)
    site = layers[0] / "python" / "lib" / f"python{OWN_VERSION}" / "site-packages"
    (site / "in_site_packages.py").write_text("")
    code = write_function(
        """
        import os, subprocess
        import common, only1, only2, in_site_packages
        def handler(event, context):
            return [common.value, subprocess.check_output("which-layer").decode().strip(), os.environ["CALORIC_OPT"]]
        """
    )
    first = version_of(code, layers=tuple(layers))
    value, program, opt = invoke(make(first))
    assert (value, program) == (2, "2")
    assert invoke(make(replace(first, version="1")))[2] == opt
    value, program, other = invoke(make(replace(first, layers=(layers[1], layers[0]))))
    assert (value, program) == (1, "1")
    assert other != opt


def test_extensions_of_layers_run(
    make: Make, maker: EnvironmentMaker, code: Path, tmp_path: Path, make_extension: MakeExtension
) -> None:
    layer = tmp_path / "layer" / "extensions"
    layer.mkdir(parents=True)
    shutil.copy(make_extension("watcher", "good"), layer / "watcher")
    (layer / "README").write_text("not executable, and no extension")
    variables = {"JOURNAL": str(tmp_path / "journal")}
    running = make(version_of(code, layers=(layer.parent,), variables=variables))
    invoke(running)
    assert len(running.environment.process_ids()) >= 2
    close(running)
    log = log_of(maker)
    assert any(line.startswith("EXTENSION\tName: watcher\tState: Ready") for line in log), log
    assert not any("README" in line for line in log)


def test_a_layer_can_switch_extensions_off(
    make: Make, maker: EnvironmentMaker, code: Path, tmp_path: Path, make_extension: MakeExtension
) -> None:
    layer = tmp_path / "layer"
    (layer / "extensions").mkdir(parents=True)
    shutil.copy(make_extension("watcher", "good"), layer / "extensions" / "watcher")
    (layer / "disable-extensions-jwigqn8j").write_text("")
    invoke(make(version_of(code, layers=(layer,))))
    assert not any("EXTENSION" in line for line in log_of(maker))


def test_a_layer_that_leads_outside_is_a_clear_error(make: Make, code: Path, tmp_path: Path) -> None:
    layer = tmp_path / "layer"
    layer.mkdir()
    (layer / "out").symlink_to("/etc")
    with pytest.raises(CannotMakeError, match="leads outside"):
        make(version_of(code, layers=(layer,)))


# ---- logs ------------------------------------------------------------------------------------------------------------


def test_the_stream_has_the_platforms_lines_and_the_functions(
    make: Make, maker: EnvironmentMaker, code: Path
) -> None:
    running = make(version_of(code))
    invoke(running, 1)
    invoke(running, 2)
    kinds = [line.split()[0] for line in log_of(maker)]
    assert kinds == ["START", "called", "END", "REPORT"] * 2
    assert "Init Duration" in log_of(maker)[3]


def test_a_shared_group_has_the_functions_name_in_its_streams(
    make: Make, maker: EnvironmentMaker, code: Path
) -> None:
    running = make(version_of(code, log_group="everything"))
    seen = invoke(running)
    assert seen["log_group"] == "everything"
    assert "/orders[$LATEST][" in seen["log_stream"]
    assert [line.stream for line in maker.logs.tail("everything", 1)] == [seen["log_stream"]]


def test_json_logs_are_json_with_the_functions_lines_between(
    make: Make, maker: EnvironmentMaker, code: Path
) -> None:
    running = make(version_of(code, log_format="JSON"))
    invoke(running, 1)
    running.write_log()
    start, line, report = log_of(maker)
    assert json.loads(start)["type"] == "platform.start"
    assert line == "called with 1"
    assert json.loads(report)["record"]["metrics"]["initDurationMs"] > 0


def test_secrets_are_in_no_log_and_no_repr(make: Make, maker: EnvironmentMaker, code: Path) -> None:
    function = version_of(code, variables={"PASSWORD": "correct horse"})
    invoke(make(function))
    assert "correct horse" not in "\n".join(log_of(maker))
    assert "correct horse" not in repr(function)


@pytest.mark.parametrize(
    ("event", "error", "timeout_s"),
    [
        ("crash", "Runtime.ExitError", 20),
        ("hang", "Sandbox.Timedout", 2),
        ("grow", "Runtime.OutOfMemory", 20),
    ],
)
def test_a_crash_a_timeout_and_too_much_memory_reset_the_environment(
    make: Make, write_function: WriteFunction, event: str, error: str, timeout_s: int
) -> None:
    running = make(version_of(write_function(FAILING), timeout_s=timeout_s, memory_mb=128))
    stream, pid = invoke(running)
    assert running.environment.invoke(json.dumps(event).encode()).error_type == error
    again, new_pid = invoke(running)
    assert again == stream, "the same environment, with a new process"
    assert new_pid != pid


# ---- failures and leaks ----------------------------------------------------------------------------------------------


def test_a_function_that_dies_in_init_fails_its_invocations_and_nothing_else(
    make: Make, maker: EnvironmentMaker, write_function: WriteFunction, tmp_path: Path
) -> None:
    code = write_function("import os\nos._exit(9)\n")
    (tmp_path / "good").mkdir()
    (tmp_path / "good" / "app.py").write_text("def handler(event, context): return 1")
    bad, good = make(version_of(code)), make(version_of(tmp_path / "good", function_name="good"))
    for _ in range(3):
        assert failure(bad)["errorType"] == "Runtime.ExitError"
        assert invoke(good) == 1
    (code / "app.py").write_text("def handler(event, context): return 'repaired'")
    assert invoke(bad) == "repaired"


def test_the_memory_of_an_environment_is_that_of_its_processes(make: Make, code: Path) -> None:
    running = make(version_of(code))
    assert running.memory_mb() == 0
    invoke(running)
    assert 1 < running.memory_mb() < 256


def test_hundreds_of_environments_leave_nothing_behind(
    make: Make, maker: EnvironmentMaker, code: Path
) -> None:
    def open_descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    function = version_of(code)
    first = make(function)
    folder = Path(invoke(first)["tmp"]).parent
    close(first)
    del first
    before, threads = open_descriptors(), threading.active_count()
    for _ in range(20):
        batch = [maker.make(function) for _ in range(10)]
        for running in batch:
            running.environment.submit(b"{}", lambda _: None)
        pids = [invoke(running)["pid"] for running in batch]
        close(*batch)
        assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
        del batch, running
    # The last threads may still be on their way out.
    limit = time.monotonic() + 20
    while open_descriptors() > before + 2 or threading.active_count() > threads:
        assert time.monotonic() < limit, (open_descriptors(), before)
        time.sleep(0.05)
    assert not folder.exists()
    maker.logs.look_after()
    assert len(maker.logs.streams("/aws/lambda/orders")) <= 200


def test_layers_that_are_named_by_their_digests_are_merged_once_for_each_list(
    maker: EnvironmentMaker, tmp_path: Path
) -> None:
    one, two = (tmp_path / "packages" / (digit * 64) for digit in "12")
    for layer in (one, two):
        layer.mkdir(parents=True)
        (layer / "name").write_text(layer.name)
    folders = maker.layers
    assert folders.opt(()) is None
    assert folders.opt((one,)) == one, "there is nothing to merge"
    both, other_way = folders.opt((one, two)), folders.opt((two, one))
    assert both is not None
    assert other_way is not None
    assert (both / "name").read_text() == two.name
    assert (other_way / "name").read_text() == one.name
    (two / "name").write_text("what has a digest does not change, so nobody looks")
    assert folders.opt((one, two)) == both
    assert (both / "name").read_text() == two.name
    folders.prune(lambda: [(one, two), (one,)])
    assert both.exists()
    assert one.exists()
    assert not other_way.exists()


def test_many_ask_for_the_same_layers_at_once(maker: EnvironmentMaker, tmp_path: Path) -> None:
    layers = tuple(tmp_path / name for name in ("a", "b"))
    for layer in layers:
        (layer / "python").mkdir(parents=True)
        for number in range(200):
            (layer / "python" / f"{layer.name}{number}.py").write_text("")
    with ThreadPoolExecutor(8) as threads:
        found = set(threads.map(lambda _: maker.layers.opt(layers), range(16)))
    (opt,) = found
    assert opt is not None
    assert len(list((opt / "python").iterdir())) == 400
    assert [path.name for path in opt.parent.iterdir()] == [opt.name], "nothing unfinished is left"


def test_permissions_of_layers_are_taken_away(maker: EnvironmentMaker, tmp_path: Path) -> None:
    layer = tmp_path / "layer"
    (layer / "python").mkdir(parents=True)
    (layer / "python" / "module.py").write_text("")
    opt = maker.layers.opt((layer,))
    assert opt is not None
    for path in (opt, opt / "python", opt / "python" / "module.py"):
        assert not path.stat().st_mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH)
    maker.layers.prune(lambda: [(layer,)])
    assert opt.exists()
    maker.layers.prune(list)
    assert not opt.exists()
