"""The simulation of queues against queueing theory."""

import math

import pytest
from bench.scale_out import Service, fit, simulate


def erlang_b(load, places):
    """The share of arrivals that an M/G/1/K queue with exponential times refuses (K places)."""
    return load**places * (1 - load) / (1 - load ** (places + 1))


def test_simulate_equals_the_m_m_1_k_queue():
    service = Service(0.0, 0.1, spread=1.0, max_batch=1, capacity=5)  # spread 1: exponential
    for load in (0.5, 0.9, 2.0):
        found = simulate(service, 1, load * service.peak, 4000)
        weights = [load**n for n in range(6)]
        in_progress = sum(n * w for n, w in enumerate(weights)) / sum(weights)
        assert found.refused == pytest.approx(erlang_b(load, 5), rel=0.1, abs=0.005)
        assert found.in_progress == pytest.approx(in_progress, rel=0.05)
        assert found.rate == pytest.approx(load * service.peak * (1 - found.refused), rel=0.05)


def test_simulate_equals_pollaczek_and_khinchine_without_spread():
    service = Service(0.0, 0.1, spread=0.0, max_batch=1, capacity=10_000)
    found = simulate(service, 1, 7.0, 6000)  # M/D/1 at a load of .7
    assert found.in_progress == pytest.approx(0.7 + 0.7**2 / (2 * 0.3), rel=0.06)


def test_simulate_overload_answers_at_the_peak_and_refuses_the_rest():
    service = fit(one=0.0301, peak=33.4)
    assert service.peak == pytest.approx(33.4)
    found = simulate(service, 1, 4 * service.peak, 120, regular=True)
    assert found.rate == pytest.approx(service.peak, rel=0.05)
    assert found.refused == pytest.approx(0.75, abs=0.02)


def test_fit_gives_the_line_through_both_points():
    service = fit(one=0.03, peak=50)
    assert service.setup + service.each == pytest.approx(0.03)
    assert 8 / service.peak == pytest.approx(service.setup + 8 * service.each)
    slower = fit(one=0.03, peak=20)  # batches that are slower than single images
    assert slower.setup == 0 and slower.peak == pytest.approx(20)
    assert not math.isnan(simulate(service, 2, 10, 60).p99)
