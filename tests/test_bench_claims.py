"""How the bench counts and judges, without measuring: claims, machines, FLOPs, variants."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from bench import cpu, flops, gpu, machines, report, vit_problem
from bench.claims import BEST, EAGER, Best, Case, Claim
from bench.problem import Problem

ours, theirs = Case("kd", "a", 1), Case("kd", "b", 1)


@pytest.mark.parametrize(
    ("reach", "ratio", "met"),
    [
        ({"at_least": 1.0}, 0.5, False),
        ({"at_least": 0.4}, 0.5, True),
        ({"at_most": 1.0}, 2.0, False),
        ({"at_most": 3.0}, 2.0, True),
        ({}, 0.5, True),
    ],
)
def test_a_claim_is_judged_by_speed_or_by_time(reach, ratio, met):
    samples = {ours: np.asarray([2.0, 4.0, 6.0]), theirs: np.asarray([1.0, 2.0, 3.0])}
    row = Claim("a", ours, theirs, "b", **reach).judged(samples)
    assert (row["ratio"]["median"], row["met"]) == (ratio, met)
    assert set(row["ratio"]["all"]) == {ratio}


def test_the_ratio_is_taken_within_a_round():
    """Rounds in which the machine is ten times slower change both sides' times and no ratio."""
    slow = np.asarray([1.0, 10.0, 1.0, 10.0])
    row = Claim("a", ours, theirs, "b", at_least=1.0).judged({ours: slow, theirs: 1.5 * slow})
    assert set(row["ratio"]["all"]) == {1.5}


def test_the_best_of_pytorch_is_its_fastest_way():
    eager, by_compiler, vmap = (Case("torch", name, 1) for name in ("eager", "compiled", "vmap"))
    best = Best(
        (
            Claim("a", ours, eager, "5 times eager", times=5),
            Claim("a", ours, by_compiler, "compiled"),
            Claim("a", ours, vmap, "vmap"),
        )
    )
    samples = {ours: np.full(3, 2.0), eager: np.full(3, 1.0), vmap: np.full(3, 3.0)}
    row = best.judged(samples)
    assert (row["peer"], row["fastest"], row["ratio"]["median"]) == (BEST, "vmap", 1.5)
    row = best.judged({**samples, by_compiler: np.full(3, 1.0)})
    assert (row["fastest"], row["ratio"]["median"], row["met"]) == ("compiled", 0.5, False)


def record(**ratios):
    """A machine's record: ratios of the ViT to its peers, and of a loop's time to the scan's."""
    peers = {"eager": EAGER, "best": BEST, "loop": "the bare scan"}
    return {
        "comparisons": [
            {
                "name": "loop" if peer == "loop" else "ViT",
                "peer": peers[peer],
                "ratio": {"median": ratio},
                "reach": {"at_most": 1.05} if peer == "loop" else {"at_least": 1.0},
            }
            for peer, ratio in ratios.items()
        ]
    }


@pytest.mark.parametrize("turned", [False, True])
def test_a_claim_is_judged_by_the_machine_where_kd_does_worst(turned):
    recorded = {"a": record(eager=1.3, loop=1.0), "b": record(eager=0.87, loop=1.1)}
    recorded = dict(list(recorded.items())[::-1]) if turned else recorded
    vit, loop = machines.rows(recorded)
    assert (vit.lowest, vit.met) == (0.87, False)
    assert (loop.lowest, loop.met) == (1.1, False)
    (alone, _) = machines.rows({"a": recorded["a"]})
    assert (alone.lowest, alone.met) == (1.3, True)


@hypothesis.given(st.lists(st.floats(0.1, 9), min_size=1, max_size=4))
def test_another_machine_never_makes_a_claim_better(ratios):
    recorded = {str(i): record(eager=ratio) for i, ratio in enumerate(ratios)}
    lowest = [
        machines.against_pytorch(dict(list(recorded.items())[: i + 1]))["ViT"][0]
        for i in range(len(ratios))
    ]
    assert lowest == sorted(lowest, reverse=True)
    assert lowest[-1] == min(ratios)


def test_the_readme_has_the_lowest_of_all_machines_and_of_all_peers():
    recorded = {"a": record(eager=0.9), "b": record(eager=1.2, best=1.1)}
    text = report.speed({"machines": recorded})
    assert f"0.90 times that of {EAGER} (ViT)" in text
    assert "recorded: a; b." in text
    assert "1.1" not in text
    recorded["b"] = record(eager=1.2, best=0.7)
    assert f"0.70 times that of {BEST} (ViT)" in report.speed({"machines": recorded})


CPUINFO = """processor\t: 0
vendor_id\t: AuthenticAMD
cpu family\t: 25
model\t\t: 17
model name\t: AMD EPYC
flags\t\t: fpu avx avx2 {more}

processor\t: 1
model\t\t: 99
"""


@pytest.mark.parametrize(("more", "vectors"), [("sse4_2", "avx2"), ("avx512f", "avx512")])
def test_a_cpu_is_named_by_family_model_and_vectors(more, vectors):
    about = cpu.described(CPUINFO.format(more=more))
    assert about == {"family": "25", "model": "17", "vectors": vectors}
    name = cpu.name({"cpu": "AMD EPYC", "cores": 2, **about})
    assert name == f"AMD EPYC, family 25, model 17, {vectors}, 2 cores"


def test_a_cpu_that_nobody_describes_has_a_name_still():
    assert cpu.described("") == {}
    assert cpu.name({"cpu": "arm", "cores": 4}) == "arm, 4 cores"


def test_the_share_of_the_peak_is_work_over_time_over_the_faster_sides_rate():
    result = {"peak": {"gflops": {"kd": 50.0, "torch": 100.0}}}
    row = {"kd_ms": 20.0, "peer_ms": 40.0, "gflop": 1.0}
    assert machines.share(row, "kd", result) == pytest.approx(0.5)
    assert machines.share(row, "peer", result) == pytest.approx(0.25)
    assert machines.share({**row, "gflop": None}, "kd", result) is None
    assert machines.share(row, "kd", {}) is None


def test_the_flops_of_the_mlps_step_are_the_compilers():
    """Forward and backward of the products; XLA counts element-wise operations too."""
    import jax
    import jax.numpy as jnp

    from bench.problem import first_params

    def loss(params, x):
        for weight in params[:-1]:
            x = jax.nn.relu(x @ weight)
        return jax.nn.log_softmax(x @ params[-1])[:, 0].mean()

    weights = [weight for weight, _ in first_params()]
    lowered = jax.jit(jax.grad(loss)).lower(weights, jnp.ones((32, 784)))
    assert flops.mlp_step(32) == pytest.approx(lowered.cost_analysis()["flops"], rel=0.02)


def test_the_flops_of_a_step_by_its_case():
    problem = Problem(1, 1, "Ti/16", "S/16", pixels=32)
    of = lambda name: flops.of_step(name, 2, problem)  # noqa: E731
    assert of("student") == of("loop, a checkpoint an epoch") == of("student, batch in 4")
    assert of("population") == 5 * of("student")
    vit = 6 * vit_problem.forward_flops("Ti/16", 32)
    assert of("vit") == of("vit compiled") == vit
    assert of("vit, batch in 4") == 6 * vit_problem.forward_flops("S/16", 32)
    assert 0.9 * vit < of("vit attention") + of("vit mlp") < vit
    assert of("vit norms") is of("pipeline") is None


@pytest.mark.parametrize("variant", ["Ti/16", "S/8"])
def test_pytorchs_layout_holds_every_number_of_the_parameters_once(variant):
    params = vit_problem.first_params(variant)
    moved = vit_problem.torch_layout(params)
    assert np.array_equal(np.sort(vit_problem.flat(moved)), np.sort(vit_problem.flat(params)))


def test_the_flops_of_a_vit_are_the_compilers():
    """Its count has the matrix products and, a little, everything else."""
    import jax

    from kd.models.vit import vit

    model = vit(vit_problem.CLASSES, "Ti/16", unroll=12)
    images = jax.ShapeDtypeStruct((1, 64, 64, 3), "float32")
    params, extra = jax.eval_shape(model.init, jax.random.key(0), images)
    lowered = jax.jit(lambda p, x: model.apply(p, extra, x)[0].logits).lower(params, images)
    counted = lowered.cost_analysis()["flops"]
    assert vit_problem.forward_flops("Ti/16", 64) == pytest.approx(counted, rel=0.05)


def test_a_step_needs_a_backward_of_twice_the_forward():
    student, teacher = (vit_problem.forward_flops(variant, 32) for variant in ("Ti/16", "S/16"))
    assert gpu.step_flops("Ti/16", "S/16", 32, 5) == pytest.approx(5 * (3 * student + teacher))
