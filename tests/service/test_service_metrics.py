"""ServiceMetrics as Prometheus reads them."""

from prometheus_client.parser import text_string_to_metric_families

from blemish.service.service_metrics import ServiceMetrics


def samples(metrics):
    """Return the value of every sample by its name and labels."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(metrics.text().decode())
        for sample in family.samples
    }


def test_service_metrics_text():
    metrics = ServiceMetrics()
    for seconds in (0.0005, 0.02, 0.02, 100):
        metrics.request_seconds.labels(route='/a"b\\').observe(seconds)
    metrics.requests.labels(route="/a", status="200").inc()
    metrics.upload_bytes.set_function(lambda: 3)
    found = samples(metrics)
    route = ("route", '/a"b\\')
    assert found["blemish_request_seconds_bucket", (("le", "0.001"), route)] == 1
    assert found["blemish_request_seconds_bucket", (("le", "0.025"), route)] == 3
    assert found["blemish_request_seconds_bucket", (("le", "+Inf"), route)] == 4
    assert found["blemish_request_seconds_count", (route,)] == 4
    assert found["blemish_requests_total", (("route", "/a"), ("status", "200"))] == 1
    assert found["blemish_upload_bytes", ()] == 3
    assert not any(name.endswith("_created") for name, _ in found)


def test_service_metrics_of_two_applications_are_independent():
    first, second = ServiceMetrics(), ServiceMetrics()
    first.requests.labels(route="/a", status="200").inc()
    assert samples(second).get(("blemish_requests_total", (("route", "/a"), ("status", "200")))) is None
