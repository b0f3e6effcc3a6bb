"""What /metrics tells."""

from __future__ import annotations

from thingmint.metrics import Metrics


def test_counters_and_gauges() -> None:
    metrics = Metrics()
    ready = [3.0]
    metrics.gauge("key_pool_ready", "Key pairs that lie ready.", lambda: ready[0])
    for api, status, seconds in (("aws", 200, 0.002), ("aws", 200, 0.02), ("aws", 404, 0.2), ("native", 200, 9)):
        metrics.observe(api, "DescribeCertificate", status, seconds)
    lines = metrics.render().decode().splitlines()
    assert "thingmint_key_pool_ready 3.0" in lines
    assert 'thingmint_requests_total{api="aws",operation="DescribeCertificate",status="200"} 2.0' in lines
    assert 'thingmint_requests_total{api="aws",operation="DescribeCertificate",status="404"} 1.0' in lines
    assert 'thingmint_request_seconds_bucket{api="aws",le="0.003"} 1.0' in lines
    assert 'thingmint_request_seconds_count{api="aws"} 3.0' in lines
    assert 'thingmint_request_seconds_bucket{api="native",le="5.0"} 0.0' in lines
    assert any(line.startswith("process_resident_memory_bytes ") for line in lines)
    ready[0] = 4
    assert b"thingmint_key_pool_ready 4.0" in metrics.render()


def test_two_servers_in_a_process_share_nothing() -> None:
    first, second = Metrics(), Metrics()
    first.observe("aws", "x", 200, 1)
    assert b"thingmint_requests_total{" not in second.render()
