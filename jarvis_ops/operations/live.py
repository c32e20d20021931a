"""Commands whose output is shown while they run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyinfra.api import QuoteString, StringCommand
from pyinfra.connectors.util import CommandOutput
from typing_extensions import override

from jarvis_ops import connection, report
from jarvis_ops.text import script

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyinfra.api.arguments import ConnectorArguments
    from pyinfra.api.host import Host
    from pyinfra.api.state import State

__all__ = ["LiveCommand", "run_script"]


class LiveCommand(StringCommand):
    """A command that reports its progress on stdout, a line at a time.

    Its last line on stderr is the reason why it failed.
    """

    @override
    def execute(
        self, state: State, host: Host, connector_arguments: ConnectorArguments
    ) -> tuple[bool, CommandOutput]:
        status, output = host.run_shell_command(
            self,
            print_output=True,
            print_input=state.print_input,
            **{**connector_arguments, **self.connector_arguments},
        )
        if status:
            return status, output
        report.note(host, _reason(host, output))
        # pyinfra prints what a failed command returns, and all of it is on the screen already.
        return status, CommandOutput([])


def run_script(
    name: str, arguments: Sequence[str], environment: dict[str, str] | None = None
) -> LiveCommand:
    """Return the command that runs a script of `jarvis_ops/scripts`."""
    text = QuoteString(script(name, arguments))
    if not environment:
        return LiveCommand("sh", "-c", text)
    return LiveCommand("sh", "-c", text, _env=environment)


def _reason(host: Host, output: CommandOutput) -> str:
    if not connection.is_open(host):
        return "the connection broke"
    said = [line for line in output.stderr_lines if line.strip()]
    return said[-1].strip() if said else "the command failed without a word"
