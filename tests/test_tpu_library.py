"""libtpu without a TPU changes nothing that a command says."""

import importlib.util

import pytest

from kd.system import tpu

LIBTPU = importlib.util.spec_from_loader("libtpu", loader=None)


@pytest.mark.parametrize(
    ("environment", "installed", "devices", "plugins", "then"),
    [
        ({}, LIBTPU, [], [], {"JAX_PLATFORMS": "cpu"}),
        ({"JAX_PLATFORMS": "tpu"}, LIBTPU, [], [], {"JAX_PLATFORMS": "tpu"}),
        ({}, None, [], [], {}),
        ({}, LIBTPU, ["/dev/accel0"], [], {}),
        ({}, LIBTPU, [], ["cuda"], {}),
    ],
)
def test_it_is_left_alone_where_nothing_else_offers_devices(
    environment, installed, devices, plugins, then, monkeypatch
):
    monkeypatch.setattr(tpu.importlib.util, "find_spec", lambda name: installed)
    monkeypatch.setattr(tpu.glob, "glob", lambda pattern: devices)
    monkeypatch.setattr(tpu.importlib.metadata, "entry_points", lambda group: plugins)
    tpu.leave_alone(environment)
    assert environment == then
