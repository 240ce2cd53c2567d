"""The environment variables of a function in the service (spec lambda-service 2.6)."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caloric.local.process import function_environment

if TYPE_CHECKING:
    from collections.abc import Mapping

    from caloric._rust import ExecutionEnvironment
    from caloric.local.environments.interface import FunctionVersion

__all__ = ["MADE_UP", "RESERVED", "Credentials", "CredentialsSource", "HiddenVariables", "variables_of"]

RESERVED = frozenset(
    (
        "_HANDLER",
        "_X_AMZN_TRACE_ID",
        "AWS_ACCESS_KEY",
        "AWS_ACCESS_KEY_ID",
        "AWS_DEFAULT_REGION",
        "AWS_EXECUTION_ENV",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
        "AWS_LAMBDA_FUNCTION_NAME",
        "AWS_LAMBDA_FUNCTION_VERSION",
        "AWS_LAMBDA_INITIALIZATION_TYPE",
        "AWS_LAMBDA_LOG_GROUP_NAME",
        "AWS_LAMBDA_LOG_STREAM_NAME",
        "AWS_LAMBDA_RUNTIME_API",
        "AWS_REGION",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "LAMBDA_RUNTIME_DIR",
        "LAMBDA_TASK_ROOT",
    )
)
"""What the service sets, and no function configuration may."""

_XRAY_DAEMON = ("127.0.0.1", "2000")
"""Where nobody listens by default. On AWS it is a link-local address, which here may be anything."""

# Of the service's own environment only this reaches a function: what its code is to talk to in place of AWS.
_PASSED_THROUGH = ("AWS_CA_BUNDLE", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "AWS_ENDPOINT_URL")
_PASSED_THROUGH_PREFIX = "AWS_ENDPOINT_URL_"


class HiddenVariables(dict[str, str]):
    """Environment variables that show their names only: values are users' secrets, and a traceback is a log."""

    def __repr__(self) -> str:
        return f"<variables {', '.join(sorted(self))}>"

    __str__ = __repr__


@dataclass(frozen=True)
class Credentials:
    """What a function signs its requests with."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)

    def variables(self) -> dict[str, str]:
        """Return them as the SDKs look for them."""
        variables = {
            "AWS_ACCESS_KEY_ID": self.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.secret_access_key,
        }
        if self.session_token is not None:
            variables["AWS_SESSION_TOKEN"] = self.session_token
        return variables


MADE_UP = Credentials("ASIALOCALCALORIC0000", "made-up-for-a-local-function-00000000000", "made-up")
"""What a function has where its developer has none: SDKs sign with them, and AWS refuses them."""


class CredentialsSource:
    """The user's own credentials, as the SDKs find them: environment variables, then the profile; else `MADE_UP`.

    Keys that a file holds are read from it. For whatever else a profile names (a role, SSO, a program) botocore is
    asked, which is imported only then, and renews them. Instance roles are not looked for: a developer's machine has
    none, and asking takes seconds. Safe for threads.

    `variables` are those of the service, by default this process's.
    """

    def __init__(self, variables: Mapping[str, str] | None = None) -> None:
        self._variables = os.environ if variables is None else variables
        self._lock = threading.Lock()
        self._session: Any = None

    def current(self) -> Credentials:
        """Return the credentials for an environment that starts now.

        A profile that cannot be used (its SSO session is over, its program fails) gives `MADE_UP`: the function starts,
        and what it asks of AWS is refused.
        """
        variables = self._variables
        profile = variables.get("AWS_PROFILE") or variables.get("AWS_DEFAULT_PROFILE")
        key, secret = variables.get("AWS_ACCESS_KEY_ID"), variables.get("AWS_SECRET_ACCESS_KEY")
        # As in the SDKs: a profile that is named beats keys in the environment.
        if key and secret and not variables.get("AWS_PROFILE"):
            return Credentials(key, secret, variables.get("AWS_SESSION_TOKEN") or None)
        section = self._section(profile or "default")
        key, secret = section.get("aws_access_key_id"), section.get("aws_secret_access_key")
        if key and secret and "role_arn" not in section:
            return Credentials(key, secret, section.get("aws_session_token") or None)
        if section:
            return self._from_botocore(profile) or MADE_UP
        return MADE_UP

    def _section(self, profile: str) -> dict[str, str]:
        """Return what the two files say of a profile; the credentials file wins."""
        home = Path(self._variables.get("HOME") or Path.home()) / ".aws"
        config = self._variables.get("AWS_CONFIG_FILE") or str(home / "config")
        shared = self._variables.get("AWS_SHARED_CREDENTIALS_FILE") or str(home / "credentials")
        members: dict[str, str] = {}
        files = (
            (os.path.expanduser(config), profile if profile == "default" else f"profile {profile}"),
            (os.path.expanduser(shared), profile),
        )
        if not any(os.path.isfile(path) for path, _ in files):
            return {}
        from configparser import ConfigParser
        from configparser import Error as ConfigError

        for path, name in files:
            # A `%` in a secret is no interpolation.
            parser = ConfigParser(interpolation=None, strict=False)
            try:
                parser.read(path, encoding="utf-8")
            except (ConfigError, OSError, UnicodeDecodeError):
                continue
            if parser.has_section(name):
                members.update(parser.items(name))
        # A region alone, which many have, is nothing to sign with.
        wanted = (
            "aws_access_key_id",
            "role_arn",
            "credential_process",
            "sso_",
            "web_identity",
            "login_session",
        )
        return members if any(name.startswith(wanted) for name in members) else {}

    def _from_botocore(self, profile: str | None) -> Credentials | None:
        with self._lock:
            try:
                if self._session is None:
                    from botocore.session import Session

                    self._session = Session(profile=profile)
                found = self._session.get_credentials()
                frozen = None if found is None else found.get_frozen_credentials()
            except Exception:
                # Whatever a user's profile names may fail in its own way.
                self._session = None
                return None
        if frozen is None:
            return None
        return Credentials(frozen.access_key, frozen.secret_key, frozen.token)


def variables_of(
    function: FunctionVersion,
    environment: ExecutionEnvironment,
    *,
    task_root: str,
    log_stream: str,
    credentials: Credentials,
    interpreter: str | None = None,
    managed: bool = True,
    initialization_type: str = "on-demand",
    service: Mapping[str, str] | None = None,
) -> HiddenVariables:
    """Return all environment variables of a function's process.

    Nothing is taken from the service's own environment (`service`, by default this process's) but where AWS and its
    stand-ins are: what a function finds on its developer's machine and not in Lambda would hide a mistake.
    `interpreter` is the program whose folder is the first of PATH, in place of `/var/lang/bin`; `managed` says that the
    runtime is one that AWS maintains, which names itself in AWS_EXECUTION_ENV. What layers change comes on top
    (`caloric.local.layers.layer_variables`).
    """
    own = os.environ if service is None else service
    base = HiddenVariables(
        (name, value)
        for name, value in own.items()
        if name in _PASSED_THROUGH or name.startswith(_PASSED_THROUGH_PREFIX)
    )
    # AWS has /var/lang/bin first.
    folders = [os.path.dirname(interpreter)] if interpreter is not None else []
    base["PATH"] = os.pathsep.join((*folders, "/usr/local/bin", "/usr/bin", "/bin"))
    # An interpreter that was built with a shared library may need what the service was started with.
    libraries = (own.get("LD_LIBRARY_PATH"), task_root, os.path.join(task_root, "lib"))
    base["LD_LIBRARY_PATH"] = os.pathsep.join(filter(None, libraries))
    host, port = _XRAY_DAEMON
    base.update(
        {
            "LC_CTYPE": "C.UTF-8",
            "PWD": task_root,
            "SHLVL": "0",
            "AWS_XRAY_DAEMON_ADDRESS": f"{host}:{port}",
            "_AWS_XRAY_DAEMON_ADDRESS": host,
            "_AWS_XRAY_DAEMON_PORT": port,
        }
    )
    variables = HiddenVariables(
        function_environment(
            environment,
            handler=function.handler,
            task_root=task_root,
            base=base,
            user=function.variables,
        )
    )
    variables.update(
        {
            "AWS_LAMBDA_LOG_GROUP_NAME": function.log_group or f"/aws/lambda/{function.function_name}",
            "AWS_LAMBDA_LOG_STREAM_NAME": log_stream,
            "AWS_LAMBDA_INITIALIZATION_TYPE": initialization_type,
            **credentials.variables(),
        }
    )
    if managed:
        variables["AWS_EXECUTION_ENV"] = f"AWS_Lambda_{function.runtime}"
    if function.log_format == "JSON":
        variables["AWS_LAMBDA_LOG_FORMAT"] = "JSON"
        variables["AWS_LAMBDA_LOG_LEVEL"] = function.application_log_level or "INFO"
    return variables
