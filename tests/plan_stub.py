"""A distillation step small enough to compile in a test, for `kd.planning.worker`:
``plan_stub:lower``.

Student and teacher are stacks of equal layers under `lax.scan`, split over all devices.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from kd.planning.lower import Facts, Lowering

LAYERS, WIDTH, TEACHER = 6, 256, 512
HUGE = 2**17  # a teacher's layer of 32 GiB


def network(layers, inputs):
    return jax.lax.scan(lambda h, layer: (jnp.tanh(h @ layer), None), inputs, layers)[0]


def step(student, momentum, teacher, batch):
    target = network(teacher, batch["teacher_inputs"])[:, :WIDTH]

    def loss(student):
        return jnp.mean((network(student, batch["inputs"]) - target) ** 2)

    gradient = jax.grad(loss)(student)
    momentum = 0.9 * momentum + gradient
    return student - 0.1 * momentum, momentum


def lower(spec, devices, teacher_width=TEACHER):
    mesh = Mesh(np.asarray(devices), ("fsdp",))

    def shape(*sizes, split=0):
        axes = [None] * len(sizes)
        axes[split] = "fsdp"
        return jax.ShapeDtypeStruct(
            sizes, jnp.float32, sharding=NamedSharding(mesh, PartitionSpec(*axes))
        )

    batch_size = spec.data.batch_size * len(devices)
    student = shape(LAYERS, WIDTH, WIDTH, split=1)
    teacher = shape(LAYERS, teacher_width, teacher_width, split=1)
    batch = {"inputs": shape(batch_size, WIDTH), "teacher_inputs": shape(batch_size, teacher_width)}
    held = {
        name: 4 * math.prod(tree.shape) // len(devices)
        for name, tree in (("parameters", student), ("teacher", teacher))
    }
    return Lowering(
        jax.jit(step, donate_argnums=(0, 1)).lower(student, student, teacher, batch),
        jax.jit(lambda t, x: network(t, x["teacher_inputs"])).lower(teacher, batch),
        {**held, "optimiser": held["parameters"], "other state": 0},
        Facts(batch_size, 1000, 50_000, width=WIDTH),
    )


def huge(spec, devices):
    return lower(spec, devices, HUGE)


def flops(batch_size, layers=LAYERS, width=WIDTH, teacher=TEACHER):
    """Closed form: forward 2bd² a layer; backward twice that for every layer but the first, whose
    inputs need none.
    """
    student = 2.0 * batch_size * width**2 * layers
    return 3 * student, 2.0 * batch_size * teacher**2 * layers
