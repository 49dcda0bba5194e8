"""Runs that start from published weights: what they start from, and when the file is read."""

import logging
import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from weights.torch_resnet import random_resnet

from pse_jax import distributed, models
from pse_jax.data import sources
from pse_jax.detector import Detector
from pse_jax.errors import WeightsError
from pse_jax.runs.checkpoint import Checkpoints
from pse_jax.runs.folder import Run
from pse_jax.training import loop, optimizer
from pse_jax.training.step import create_state
from pse_jax.weights.start import initial_variables
from tests import tiny_run

ROOT = Path(__file__).parents[2]


def config(cache, init_from):
    """The tiny run on a backbone of torchvision's, its stem frozen."""
    config = tiny_run.config(cache)
    model = config.model
    model.init_from, model.norm, model.frozen_stages = init_from, "frozen_bn", 1
    model.stride_in_1x1, model.channel_order = False, "rgb"
    model.pixel_mean, model.pixel_std = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
    return config


def test_a_run_starts_from_the_file(tmp_path, caplog):
    reference = random_resnet(10).state_dict()
    torch.save(reference, tmp_path / "resnet10.pth")
    run = config(tmp_path, str(tmp_path / "resnet10.pth"))
    sgd = optimizer.create(run.optimizer, run.model)
    with caplog.at_level(logging.INFO, "pse_jax"):
        state = loop._new_state(run, models.create(run.model, 3), sgd, distributed.make_mesh())
    kernel = state.params["backbone"]["layer4"]["block0"]["conv2"]["kernel"]
    theirs = reference["layer4.0.conv2.weight"].numpy().transpose(2, 3, 1, 0)
    assert len(kernel.addressable_shards) == 8
    for shard in kernel.addressable_shards:
        np.testing.assert_array_equal(shard.data, theirs)
    scale = reference["layer4.0.bn2.weight"] / (reference["layer4.0.bn2.running_var"] + 1e-5).sqrt()
    norm = state.frozen["backbone"]["layer4"]["block0"]["norm2"]
    np.testing.assert_allclose(norm["scale"], scale, rtol=1e-6)
    assert 0 < np.std(state.params["head"]["class_conv"]["kernel"]) < 0.02  # random, as ever
    assert "loaded: " in caplog.text and "fc.weight" in caplog.text
    assert "not in the file, left as initialised: " in caplog.text


@pytest.mark.slow
def test_a_resumed_run_does_not_read_the_file(tmp_path, monkeypatch, one_device_mesh):
    """Both runs stop before their first step, whose compilation takes long."""
    monkeypatch.setattr(distributed, "make_mesh", lambda: one_device_mesh)
    run = tiny_run.config(tmp_path / "cache")
    run.model.init_from = str(tmp_path / "none.pth")
    with pytest.raises(WeightsError, match=r"none.pth' is not a file"):
        loop.train(run, tmp_path / "run")

    sgd = optimizer.create(run.optimizer, run.model)
    model = models.create(run.model, 6)
    shapes = jax.eval_shape(lambda: create_state(model, sgd, jax.random.key(0)))
    twos = jax.tree.map(lambda leaf: np.full(leaf.shape, 2, leaf.dtype), shapes)  # step 2, that is
    categories = sources.open_train(sources.locate(run.data)).categories
    state = distributed.to_every_device(twos, one_device_mesh)
    checkpoints = Checkpoints(Run(tmp_path / "run"), 1)
    checkpoints.save(Detector(run, categories, state.variables, 2), state.training)
    checkpoints.close()

    starts = []
    monkeypatch.setattr(loop.Reporter, "introduce", lambda self, *_: starts.append(self.start))
    monkeypatch.setattr(loop, "make_train_step", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        loop.train(run, tmp_path / "run")
    assert starts == [2]


def variables_of(value):
    kernel = jnp.full((7, 7, 3, 8), value, jnp.float32)
    return {"params": {"backbone": {"stem": {"conv1": {"kernel": kernel}}}}, "frozen": {}}


def test_frozen_random_layers_give_a_warning(tmp_path, caplog):
    run, mesh = config(tmp_path, ""), distributed.make_mesh()
    variables = variables_of(1.0)
    with caplog.at_level(logging.WARNING, "pse_jax"):
        assert initial_variables(run, variables, mesh) is variables
    assert "--config.model.init_from=msra_r50" in caplog.text
    caplog.clear()
    run.model.norm, run.model.frozen_stages = "gn", 0
    initial_variables(run, variables, mesh)
    assert not caplog.text


def test_weights_of_other_networks_are_refused(tmp_path):
    torch.save({"patch_embed.proj.weight": torch.ones(1)}, tmp_path / "vit.pth")
    run = config(tmp_path, str(tmp_path / "vit.pth"))
    with pytest.raises(
        WeightsError, match=r"not a known FCOS detector \(it holds patch_embed.*, or a ResNet"
    ):
        initial_variables(run, variables_of(1.0), distributed.make_mesh())


PROGRAM = """
import sys
import numpy as np
from pse_jax import distributed
from pse_jax.processes import job
from pse_jax.errors import UserError, WeightsError

job.join()
like = {"a": np.zeros(3, np.float32), "b": np.zeros((), np.int32)}

def read():
    assert distributed.is_main()
    return {"a": np.array([1, 2, 3], np.float32), "b": np.int32(7)}

def fail():
    raise UserError("no such file")

tree = distributed.to_every_device(distributed.from_main(read, like), distributed.make_mesh())
print(np.asarray(tree["a"]).tolist(), int(tree["b"]), tree["a"].sharding.is_fully_replicated)
try:
    distributed.from_main(fail, like)
except UserError as error:
    print(error)
"""


def test_the_main_process_reads_for_all():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            cwd=ROOT,
            env={
                **os.environ,
                "JAX_PLATFORMS": "cpu",
                "JAX_NUM_CPU_DEVICES": "2",
                "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
                "JAX_NUM_PROCESSES": "2",
                "JAX_PROCESS_ID": str(index),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]
    outputs = [process.communicate(timeout=120) for process in processes]
    assert [p.returncode for p in processes] == [0, 0], outputs
    lines = [out.splitlines()[-2:] for out, _ in outputs]  # Gloo talks before them
    assert lines[0] == ["[1.0, 2.0, 3.0] 7 True", "no such file"]
    assert lines[1] == [
        "[1.0, 2.0, 3.0] 7 True",
        "the main process cannot continue; its messages say why",
    ]
