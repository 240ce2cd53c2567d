"""The pytest plugin, in pytest runs of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

pytest_plugins = ["pytester"]

APP = """
import os

print("module imported")
count = 0

def handler(event, context):
    global count
    count += 1
    print("count is", count)
    return count

def raises(event, context):
    print("before it fails")
    raise ValueError("no such thing")

def pid(event, context):
    return os.getpid()
"""
# Plugins of other packages that are installed here put themselves into each run.
WITHOUT_OTHERS = ("-p", "no:ddtrace", "-p", "no:benchmark")


def run(pytester: pytest.Pytester, *options: str) -> pytest.RunResult:
    return pytester.runpytest_inprocess(*WITHOUT_OTHERS, *options)


def test_the_task_root_is_the_rootdir_unless_configured(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(app=APP)
    pytester.makepyfile(
        **{
            "tests/test_app.py": """
            def test_it(lambda_function):
                assert lambda_function("app.handler").invoke().payload == 1
            """
        }
    )
    pytester.makeini("[pytest]\n")
    run(pytester, "tests").assert_outcomes(passed=1)
    pytester.mkdir("src")
    os.rename(pytester.path / "app.py", pytester.path / "src" / "app.py")
    result = run(pytester, "tests")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*There is no app.py in the task root*lambda_task_root*"])
    pytester.makeini("[pytest]\nlambda_task_root = src\n")
    run(pytester, "tests").assert_outcomes(passed=1)


def test_a_failing_test_shows_what_the_function_wrote(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(app=APP)
    pytester.makepyfile(
        """
        def test_payload(lambda_function):
            function = lambda_function("app.raises")
            assert function.invoke().payload == {}

        def test_passes(lambda_function):
            assert lambda_function("app.handler").invoke().payload == 1
        """
    )
    result = run(pytester)
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(
        [
            ">*function.invoke().payload == {}",
            "E*FunctionFailedError: app.raises failed: ValueError: no such thing",
            "*Captured Lambda logs of app.raises call*",
            "module imported",
            "START RequestId: *",
            "before it fails",
            "*ValueError: no such thing",
            "REPORT RequestId: *",
        ]
    )
    result.stdout.no_fnmatch_line("*Lambda logs of app.handler*")


def test_environments_end_with_the_fixture_that_made_them(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(app=APP)
    pytester.makepyfile(
        """
        import os
        import pytest

        @pytest.fixture(scope="module")
        def shared(lambda_functions):
            with lambda_functions("app.handler") as function:
                yield function
            assert function.processes() == []

        pids = []

        @pytest.mark.parametrize("expected", [1, 2])
        def test_shared(shared, expected):
            assert shared.invoke().payload == expected

        def test_own(lambda_function):
            pids.append(lambda_function("app.pid").invoke().payload)

        def test_gone():
            assert not os.path.exists(f"/proc/{pids[0]}")
        """
    )
    run(pytester).assert_outcomes(passed=4)


def test_environments_end_when_a_test_fails_or_a_fixture_does(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(app=APP)
    pytester.makepyfile(
        """
        import os
        import pytest

        pids = []

        @pytest.fixture
        def broken(lambda_function):
            pids.append(lambda_function("app.pid").invoke().payload)
            raise RuntimeError

        def test_fails(lambda_function):
            pids.append(lambda_function("app.pid").invoke().payload)
            assert False

        def test_broken(broken):
            pass

        def test_gone():
            assert len(pids) == 2
            assert not [pid for pid in pids if os.path.exists(f"/proc/{pid}")]
        """
    )
    run(pytester).assert_outcomes(passed=1, failed=1, errors=1)


def test_xdist_runs_tests_side_by_side(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(app=APP)
    pytester.makepyfile(
        """
        import pytest

        @pytest.fixture(scope="session")
        def shared(lambda_functions):
            return lambda_functions("app.handler")

        @pytest.mark.parametrize("number", range(8))
        def test_own(lambda_function, number):
            function = lambda_function("app.handler", in_process=bool(number % 2))
            assert [function.invoke().payload, function.invoke().payload] == [1, 2]

        @pytest.mark.parametrize("number", range(4))
        def test_shared(shared, number):
            assert shared.invoke().payload >= 1

        def test_fails(lambda_function):
            lambda_function("app.raises").invoke().raise_for_error()
        """
    )
    result = pytester.runpytest_subprocess(*WITHOUT_OTHERS, "-n", "2")
    result.assert_outcomes(passed=12, failed=1)
    result.stdout.fnmatch_lines(["*Captured Lambda logs of app.raises call*", "before it fails"])


def test_the_plugin_imports_nothing_before_it_is_used(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import sys

        def test_modules():
            ours = sorted(name for name in sys.modules if name.partition(".")[0] == "caloric")
            assert ours == ["caloric", "caloric.testing", "caloric.testing.plugin"]
        """
    )
    pytester.runpytest_subprocess(*WITHOUT_OTHERS).assert_outcomes(passed=1)


def test_the_package_works_without_pytest(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(app=APP)
    script = pytester.makepyfile(
        script="""
        import sys

        from caloric.testing import LambdaFunction

        with LambdaFunction("app.handler") as function:
            print(function.invoke().payload)
        with LambdaFunction("app.handler", in_process=True) as function:
            function.invoke()
        assert "pytest" not in sys.modules and "_pytest" not in sys.modules
        """
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.splitlines()[0], done.stderr) == (0, "1", "")


def test_the_runtime_knows_nothing_of_it() -> None:
    program = (
        "import sys, caloric.runtime, caloric._rust, caloric.cli.invoke\n"
        "print([name for name in sys.modules if name.startswith('caloric.testing')])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
