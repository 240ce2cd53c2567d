"""The errors of the Lambda service, as its operations raise them."""

from __future__ import annotations

__all__ = ["ServiceError"]


class ServiceError(Exception):
    """An operation was refused.

    `name` is the exception's name in AWS's API model, such as `ResourceNotFoundException`. Status and shape of the
    answer follow from it (`caloric.local.http.errors`; spec lambda-service 0.4). `message` may be `None` where AWS
    sends none. `members` are further members of the exception's shape, such as `Reason`; `Type=None` leaves out the
    `Type` that the answer has otherwise, as AWS does for some.
    """

    def __init__(self, name: str, message: str | None, **members: object) -> None:
        super().__init__(f"{name}: {message}")
        self.name = name
        self.message = message
        self.members = members
