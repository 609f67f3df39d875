"""Which route a request took, as a template: the only form of a path that may be a label.

Looked up once per route, after the application has routed. Matching a second time, as metrics
middleware does, costs more with every route that is registered.
"""

from __future__ import annotations

from dataclasses import dataclass
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
        self._routes: list[Any] = []  # kept alive, so that no id is ever another's

    def of(self, scope: Scope) -> str:
        """Return the template of the route that took the request, or ``NO_ROUTE``.

        Args:
            scope: the request's, after the application has handled it.
        """
        # FastAPI's route knows only its own path; the routers it was included by are in here.
        fastapi = scope.get("fastapi")
        route = (fastapi and fastapi.get("effective_route_context")) or scope.get("route")
        if route is None:
            return self._match(scope)
        inside = scope.get("app_root_path") is not None
        key = (id(route), scope["root_path"]) if inside else id(route)
        template = self._templates.get(key)
        if template is None:
            template = self._match(scope)
            if not inside or len(self._templates) < _MOST_MOUNTS:
                self._routes.append(route)
                self._templates[key] = template
        return template

    def _match(self, scope: Scope) -> str:
        # As it was before a mount took it.
        before = {**scope, "root_path": scope.get("app_root_path", scope.get("root_path", ""))}
        before["app"] = _Routes(self._app.routes)
        template = _name(before)
        if template is None and self._app.router.redirect_slashes:
            path = before["path"]
            before["path"] = path[:-1] if path.endswith("/") else f"{path}/"
            redirected = _name(before)
            if redirected is not None:
                # The template, where the instrumentator gives the path that was asked for: that
                # would be a series for each value of a parameter.
                template = redirected[:-1] if redirected.endswith("/") else f"{redirected}/"
        return template or NO_ROUTE


def _name(scope: Scope) -> str | None:
    return get_route_name(HTTPConnection(scope), should_include_root_path=False)


@dataclass(frozen=True, slots=True)
class _Routes:
    """All that the instrumentator asks of an application; without a router, no redirects."""

    routes: list[BaseRoute]
