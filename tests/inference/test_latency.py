from blemish.inference import DeviceKind
from blemish.inference.cpu import computes_bf16, cpu_capability, cpu_flags
from blemish.inference.latency import WARM_UP_RUNS, compare_backends, compare_latency, noise_feeds


def test_compare_latency_calls_in_turns():
    order = []
    found = compare_latency({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, runs=3)
    warm = WARM_UP_RUNS
    assert order == ["a"] * warm + ["b"] * warm + ["a", "b"] * 3
    assert found["a"].runs == 3 and 0 <= found["a"].wall_min <= found["a"].wall_median
    assert compare_latency({"a": order.clear}, runs=5, max_seconds=0)["a"].runs == 1


def test_compare_backends_runs_one_image(tiny):
    class Counting:
        name, precision, device_kind = "counting", "fp32", DeviceKind.CPU
        shapes: list[tuple[int, ...]] = []  # noqa: RUF012

        def run(self, feeds):
            self.shapes.append(feeds["image"].shape)
            return {}

    contract = tiny.contract(size_hw=(8, 12))
    compare_backends({"x": Counting()}, contract, runs=2)
    assert set(Counting.shapes) == {(1, 3, 8, 12)}
    assert (noise_feeds(contract)["image"] == noise_feeds(contract)["image"]).all()


def test_cpu_capability_follows_the_flags(monkeypatch):
    from blemish.inference import cpu

    assert isinstance(cpu_flags(), frozenset) and cpu_capability()
    for flags, expected in {
        ("avx2", "avx512f", "avx512_vnni", "avx512_bf16"): "avx512 int8 bf16",
        ("avx2", "avx_vnni"): "avx2 int8",
        ("avx2",): "avx2",
        ("asimd", "asimddp"): "neon int8",
    }.items():
        monkeypatch.setattr(cpu, "cpu_flags", lambda flags=flags: frozenset(flags))
        assert cpu_capability() == expected
        assert computes_bf16() == ("bf16" in expected)
