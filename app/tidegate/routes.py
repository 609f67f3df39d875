"""Which route a request took, as a template: the only form of a path that may be a label.

Looked up once per route, after the application has routed. Matching a second time, as metrics
middleware does, costs more with every route that is registered.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from prometheus_fastapi_instrumentator.routing import get_route_name
from starlette.applications import Starlette
from starlette.requests import HTTPConnection
from starlette.routing import BaseRoute
from starlette.types import Scope

NO_ROUTE: Final = "none"
"""What prometheus-fastapi-instrumentator calls whatever no route took."""

_MOST_MOUNTS: Final = 1000  # a mount's own path may have parameters: those are not remembered


class RouteTemplates:
    """The templates of one application's routes, as prometheus-fastapi-instrumentator says them."""

    def __init__(self, app: Starlette) -> None:
        self._app = app
        self._templates: dict[Any, str] = {}
        self._seen: list[object] = []  # kept alive, so that no id is ever another's
        self._endpoints: Counter[int] | None = None

    def of(self, scope: Scope, status: int) -> str:
        """Return the template of the route that took the request, or ``NO_ROUTE``.

        Args:
            scope: the request's, after the application has handled it.
            status: of the answer.
        """
        # FastAPI's route knows only its own path; the routers it was included by are in here.
        fastapi = scope.get("fastapi")
        context = fastapi and fastapi.get("effective_route_context")
        taken = context or scope.get("route")
        if taken is None:
            # Other routes leave only what they call behind.
            taken = scope.get("endpoint")
            if taken is None:
                if status == HTTPStatus.NOT_FOUND:
                    return NO_ROUTE
                return self._match(scope, redirected=status == HTTPStatus.TEMPORARY_REDIRECT)
            if not self._is_only_one(taken):
                return self._match(scope)
        inside = scope.get("app_root_path") is not None
        key = (id(taken), scope["root_path"]) if inside else id(taken)
        template = self._templates.get(key)
        if template is None:
            # A context knows its whole path; to match would make those of all other routes.
            whole = None if inside else getattr(context, "path", None)
            template = whole or self._match(scope)
            if not inside or len(self._templates) < _MOST_MOUNTS:
                self._seen.append(taken)
                self._templates[key] = template
        return template

    def _is_only_one(self, endpoint: object) -> bool:
        """Whether no two routes call this endpoint; a mounted application is none."""
        if self._endpoints is None:
            self._endpoints = Counter(id(each) for each in _endpoints(self._app.routes))
        return self._endpoints[id(endpoint)] <= 1

    def _match(self, scope: Scope, *, redirected: bool = False) -> str:
        # As it was before a mount took it.
        before = {**scope, "root_path": scope.get("app_root_path", scope.get("root_path", ""))}
        before["app"] = _Routes(self._app.routes)
        template = _name(before)
        if template is None and redirected:
            path = before["path"]
            before["path"] = path[:-1] if path.endswith("/") else f"{path}/"
            target = _name(before)
            if target is not None:
                # The template, where the instrumentator gives the path that was asked for: that
                # would be a series for each value of a parameter.
                template = target[:-1] if target.endswith("/") else f"{target}/"
        return template or NO_ROUTE


def _endpoints(routes: Iterable[Any]) -> Iterator[object]:
    for route in routes:
        contexts = getattr(route, "effective_route_contexts", None)
        if contexts is not None:  # a router that FastAPI has included
            yield from _endpoints(each.starlette_route or each for each in contexts())
        elif hasattr(route, "endpoint"):
            yield route.endpoint
        else:
            yield from _endpoints(getattr(route, "routes", None) or ())


def _name(scope: Scope) -> str | None:
    return get_route_name(HTTPConnection(scope), should_include_root_path=False)


@dataclass(frozen=True, slots=True)
class _Routes:
    """All that the instrumentator asks of an application; without a router, no redirects."""

    routes: list[BaseRoute]
