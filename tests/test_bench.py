import json
import math
import re

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from bench import claims, cpu, flops, gpu, machines, members, report, run, tables, vit_problem
from bench.claims import BEST, EAGER, Batches, Best, Case, Claim
from bench.problem import Problem
from bench.worker import Missing, Worker
from kd.evidence import machine

TINY_VIT = ["--pixels", "16", "--repeats", "1"]
HERE = cpu.name({**machine(), **cpu.here()})
EARLIER = {"steps": "of an earlier run", "members": "of another command"}


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    # Threads of these sizes only wait for each other, and for long where the machine is busy.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A file of results, of a machine without a C++ compiler: to compile takes long."""
    pytest.importorskip("torch", reason="bench/ compares with PyTorch: pip install 'kd[bench]'")
    out = tmp_path_factory.mktemp("bench") / "results.json"
    out.write_text(json.dumps({"gpu": None, "machines": {"another": {"steps": 5}, HERE: EARLIER}}))
    sizes = "--steps 2 --batches 16 --examples 64 --accumulated_batch 16 --records 4 --floats 4000"
    vits = "--vit Ti/16 --vit_batch 2 --small_vit Ti/16 --small_vit_batch 4 --peak_sizes 64"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CXX", "no-such-compiler")
        assert run.main([*sizes.split(), *vits.split(), *TINY_VIT, "--out", str(out)]) == 0
    return json.loads(out.read_text())


@pytest.fixture(scope="module")
def results(recorded):
    return recorded["machines"][HERE]


@pytest.fixture(scope="module")
def on_gpu(tmp_path_factory):
    """What the GPU's part answers, tried out on the CPU."""
    pytest.importorskip("torch", reason="bench/ compares with PyTorch: pip install 'kd[bench]'")
    out = tmp_path_factory.mktemp("bench") / "results.json"
    sizes = "--platform cpu --student Ti/16 --teacher Ti/16 --batch 2 --steps 1 --matmul 64"
    assert gpu.main([*sizes.split(), *TINY_VIT, "--out", str(out)]) == 0
    return json.loads(out.read_text())["gpu"]


def of_compiler(name):
    return "compiled" in name


def test_a_tiny_run_measures_every_case(results):
    groups = claims.groups(Batches((16,), 16, 2, 4, 4), "Ti/16", "Ti/16")
    cases = {str(case) for group in [*groups, claims.parts(2)] for case in claims.cases(group)}
    assert {case for case in cases if not of_compiler(case)} == set(results["ms_per_step"])
    assert [(row["name"], row["peer"]) for row in results["comparisons"]] == [
        (claim.name, claim.peer)
        for group in groups
        for claim in group
        if not of_compiler(claim.peer)
    ]
    rows = results["comparisons"] + results["vit_parts"]
    numbers = [row[key] for row in rows for key in ("kd_ms", "peer_ms")]
    numbers += [value for row in rows for value in row["ratio"]["all"]]
    numbers += results["peak"]["gflops"].values()
    assert all(math.isfinite(number) and number > 0 for number in numbers)
    assert set(results["versions"]) == set(run.VERSIONS)


def test_without_a_compiler_a_line_says_what_is_left_out(results):
    assert set(results["left_out"]) == {
        "torch student compiled, batch 16",
        "torch population compiled, batch 16",
        "torch vit compiled, batch 2",
    }
    lines = [line for line in tables.one(HERE, results).splitlines() if "Left out:" in line]
    assert len(lines) == 1
    assert "torch vit compiled, batch 2: torch.compile needs a C++ compiler" in lines[0]


def test_a_run_replaces_what_it_measures_and_nothing_else(recorded, results):
    assert results["steps"] == 2
    assert results["members"] == "of another command"
    assert recorded["machines"]["another"] == {"steps": 5}
    assert "gpu" in recorded


@pytest.mark.parametrize(
    ("what", "moved"),
    [
        ("16", "update"),
        ("16, population", "update"),
        ("vit, 2", "gradient"),
        *((f"vit, 2, {way}", "gradient") for way in vit_problem.VARIANTS),
    ],
)
def test_both_sides_compute_the_same(results, what, moved):
    assert 0 <= results["relative_difference"][what]["loss"] < run.TOLERANCE
    assert 0 <= results["relative_difference"][what][moved] < run.TOLERANCE


def test_a_training_run_compiles_once(results):
    assert results["compiles_per_run"] == 1


def test_the_table_says_what_was_met(results):
    text = tables.claims({HERE: results})
    claimed = [row for row in results["comparisons"] if row["reach"]]
    assert text.count("| yes |") + text.count("| no |") == len(claimed) + 1
    assert text.count("| measured |") == len(results["comparisons"]) - len(claimed)


def test_the_page_names_the_claims_that_are_missed_and_the_part_that_loses(recorded, results):
    rows = [
        {**row, "ratio": {**row["ratio"], "median": math.inf if "at_least" in row["reach"] else 0}}
        for row in results["comparisons"]
    ]
    first = {**rows[0], "ratio": {**rows[0]["ratio"], "median": 0.5}}
    slow = [
        {**row, "kd_ms": row["peer_ms"] + 9 * (row["name"] == "mlp")}
        for row in results["vit_parts"]
    ]
    here = {**results, "comparisons": [first, *rows[1:]], "vit_parts": slow}
    here.pop("members")
    text = report.scaling({**recorded, "machines": {HERE: here}})
    missed = f"{first['name']} ({first['peer']})."
    assert f"Not met on every machine that is recorded: {missed}" in text
    assert "loses most is mlp, by 9 ms" in text
    assert "No GPU" in text


def test_the_gpu_part_measures_both_sides_against_the_matmul(on_gpu):
    assert set(on_gpu["sides"]) == {"kd", "torch"}
    assert on_gpu["losses_differ"] < gpu.LOSSES_AGREE
    rate = on_gpu["matmul"]["tflops"]["median"] * 1e12
    for side in on_gpu["sides"].values():
        done = on_gpu["flops_per_step"] / side["ms_per_step"]["median"] * 1e3
        assert side["part_of_ceiling"]["median"] == pytest.approx(done / rate, rel=0.1, abs=2e-3)
    assert "compiled" in tables.gpu(on_gpu)


def test_without_a_gpu_there_is_one_line_and_no_result(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(gpu, "found", lambda *_: None)
    assert gpu.main(["--out", str(tmp_path / "results.json")]) == 0
    assert capsys.readouterr().err == "no GPU that JAX can use: nothing measured\n"
    assert not list(tmp_path.iterdir())


def test_populations_are_measured_by_every_way(tmp_path):
    out = tmp_path / "results.json"
    sizes = "--members 1 2 --examples 32 --batch 4 --repeats 1"
    assert members.main([*sizes.split(), "--out", str(out)]) == 0
    results = json.loads(out.read_text())["machines"][HERE]["members"]
    assert [row["members"] for row in results["rows"]] == [1, 2]
    for row in results["rows"]:
        assert list(row["ms"]) == ["vmap", "loop", "groups of 8"]
        assert all(times["median"] > 0 for times in row["ms"].values())
        assert row["met"] == (row["ratio"]["median"] <= members.REACH)
    text = tables.members(results, HERE)
    assert "| 2 | " in text
    assert "python -m bench.members --members 1 2" in text


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
    assert of("vit") == of("vit, heads first") == of("vit compiled") == vit
    assert of("vit, batch in 4") == 6 * vit_problem.forward_flops("S/16", 32)
    assert of("vit attention") == of("vit attention, heads first")
    assert 0.9 * vit < of("vit attention") + of("vit mlp") < vit
    assert of("vit norms") is of("vit norms, kept") is of("pipeline") is None


def test_compiled_the_student_learns_the_same():
    pytest.importorskip("torch", reason="bench/ compares with PyTorch: pip install 'kd[bench]'")
    with Worker("bench.with_torch", Problem(64, 1)) as torch:
        workers = {"kd": torch, "torch": torch}
        try:
            errors = run.check(workers, 16, "check", "check compiled")
        except Missing as lacking:
            pytest.skip(str(lacking))
    assert 0 <= max(errors.values()) < run.TOLERANCE


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


def test_the_sizes_that_nobody_set_are_those_of_the_specification():
    sizes, batches = Problem(1, 1), Batches()
    assert (sizes.vit, sizes.teacher, sizes.pixels, batches.vit) == ("S/16", "B/16", 224, 8)


def test_the_page_shows_how_right_plans_were():
    results = json.loads(report.ACCURACY.read_text("utf-8"))
    block = re.search(
        r"<!-- plan accuracy -->\n(.*)\n<!-- /plan accuracy -->",
        report.SCALING.read_text(),
        re.DOTALL,
    )
    assert block is not None
    assert block[1] == report.accuracy(results)


def test_the_page_shows_the_committed_results():
    if not run.RESULTS.exists():
        pytest.skip("no committed results yet")
    results = json.loads(run.RESULTS.read_text("utf-8"))
    block = re.search(
        r"<!-- bench -->\n(.*)\n<!-- /bench -->", report.SCALING.read_text("utf-8"), re.DOTALL
    )
    assert block is not None
    assert block[1] == report.scaling(results)


def test_the_readme_shows_the_committed_results():
    results = json.loads(run.RESULTS.read_text("utf-8"))
    block = re.search(
        r"<!-- speed -->\n(.*)\n<!-- /speed -->", report.README.read_text("utf-8"), re.DOTALL
    )
    assert block is not None
    assert block[1] == report.speed(results)
