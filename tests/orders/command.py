"""`python -m orders` in this process: to start another one takes more than a second."""

from __future__ import annotations

import io
import os
from subprocess import CompletedProcess

import pytest

from orders.cli import main
from tests.migrate.conftest import clean_environment


class Command:
    """Runs a command as its process would, with an environment and standard input of its own."""

    def __init__(self, patch: pytest.MonkeyPatch, captured: pytest.CaptureFixture[str]) -> None:
        self._patch = patch
        self._captured = captured

    def __call__(
        self, *arguments: str, stdin: str = "", **environment: str
    ) -> CompletedProcess[str]:
        """Return its exit code and what it has written; what it raises is raised here."""
        with self._patch.context() as patch:
            for name in os.environ.keys() - clean_environment().keys():
                patch.delenv(name)
            for name, value in environment.items():
                patch.setenv(name, value)
            patch.setattr("sys.stdin", io.StringIO(stdin))
            code = main(arguments)
        written = self._captured.readouterr()
        return CompletedProcess(arguments, code, written.out, written.err)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run `python -m orders`."""
    return Command(monkeypatch, capsys)
