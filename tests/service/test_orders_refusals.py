"""What the Orders service's middleware refuses is seen by the hook around it."""

from __future__ import annotations

import json

import httpx

from tests.service.conftest import Serve


def test_a_refusal_has_an_id_a_metric_and_an_access_line(serve: Serve, migrated_url: str) -> None:
    service = serve(
        DATABASE_URL=migrated_url,
        APP_BODY_BYTES="1024",
        APP_RATE_LIMIT="3/hour",
        APP_TRUSTED_HOSTS="127.0.0.1",
        TIDEGATE_LOG_FORMAT="json",
        FORWARDED_ALLOW_IPS="127.0.0.1",
        CACHE_URL="redis://127.0.0.1:1/0",  # where nobody answers
    )
    ready = service.until_ready()
    assert ready.json()["checks"]["cache"]["status"] == "degraded"
    products = f"{service.url}/api/v1/products"
    with httpx.Client() as client:
        answers = [
            client.post(products, content=b"x" * 2000, headers={"x-forwarded-for": "192.0.2.1"}),
            client.get(products, headers={"host": "evil.net"}),
            *(client.get(products, headers={"x-forwarded-for": "192.0.2.1"}) for _ in range(3)),
            # Behind the same proxy, another client: the first one's limit is not its own.
            client.get(products, headers={"x-forwarded-for": "192.0.2.2"}),
            # Whatever a client puts before what the proxy adds changes nothing.
            client.get(products, headers={"x-forwarded-for": "192.0.2.9, 192.0.2.1"}),
        ]
    statuses = [answer.status_code for answer in answers]
    assert statuses == [413, 400, 200, 200, 429, 200, 429]
    metrics = httpx.get(f"{service.admin}/metrics").text
    for status in ("4xx", "2xx"):
        assert f'status="{status}"' in metrics
    service.process.terminate()
    lines = [json.loads(line) for line in service.stop().splitlines() if line.startswith("{")]
    told = {
        line["request_id"]: line["http.response.status_code"]
        for line in lines
        if line["message"] == "request"
    }
    assert [told[answer.headers["x-request-id"]] for answer in answers] == statuses
