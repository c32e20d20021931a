"""Users that services run as."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyinfra.api import OperationValueError, QuoteString, StringCommand, operation
from pyinfra.context import host

from jarvis_ops.facts.accounts import Accounts, AccountStates
from jarvis_ops.facts.snapshot import Question, ask, forget, question

if TYPE_CHECKING:
    from collections.abc import Generator

    from pyinfra.api.command import PyinfraCommand

__all__ = ["account", "system_user"]


def account(user: str, groups: tuple[str, ...] = ()) -> Question[Accounts]:
    """Return the question that `system_user` asks, to gather it ahead."""
    return question(AccountStates, users=(user,), groups=groups)


@operation()
def system_user(
    user: str, home: str, groups: tuple[str, ...] = ()
) -> Generator[PyinfraCommand, None, None]:
    """
    Ensure that a user for a service exists. One that is there already keeps its home and shell.

    + user: name of the user and of its own group
    + home: home directory, which is not created
    + groups: further groups that it shall be in, as far as the machine has them
    """
    if not home.startswith("/"):
        raise OperationValueError(f"home {home!r} of user {user!r} is not an absolute path")
    state = ask(host, account(user, groups))
    has = state.users.get(user)
    missing = [group for group in groups if group in state.groups and group not in (has or ())]
    if has is not None and not missing:
        host.noop(f"user {user} exists")
        return
    if has is None:
        yield from _create(user, home)
    if missing:
        yield StringCommand(
            "usermod", "-a", "-G", QuoteString(",".join(missing)), QuoteString(user)
        )
    forget(host)


def _create(user: str, home: str) -> Generator[PyinfraCommand, None, None]:
    # An earlier run may have been cut off between the two.
    yield StringCommand(
        *("getent", "group", QuoteString(user), ">/dev/null", "||"),
        *("groupadd", "--system", QuoteString(user)),
    )
    yield StringCommand(
        *("useradd", "--system", "--gid", QuoteString(user), "--no-create-home"),
        *("--home-dir", QuoteString(home), "--shell", "/usr/sbin/nologin", QuoteString(user)),
    )
