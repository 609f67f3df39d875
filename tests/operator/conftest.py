from collections.abc import Iterator

import pytest

from tests.operator import world as cluster


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[cluster.World]:
    """A real kube-apiserver, with an audit log of what ServiceAccounts ask of it."""
    with cluster.world(tmp_path_factory.mktemp("control-plane")) as made:
        yield made
