"""Function matching: Beyer et al. (2022), "Knowledge distillation: a good teacher is patient and
consistent".

Command:  kd train --config=configs/patient_consistent.py:teacher --workdir=runs/teacher
          kd train --config=configs/patient_consistent.py --workdir=runs/student
          --config.teacher.source=run:runs/teacher
          the same with :tiny-teacher and :tiny, on generated images (a minute each on 2 cores)
          kd plan --config=configs/patient_consistent.py --topology=v5e:16x16
          (memory and time on a pod)
Data:     TFDS imagenet2012, 1,281,167 to train and 50,000 to evaluate, streamed at 224 pixels
Paper:    student and teacher see the same crop and the same mixed image; no labels; long schedules

The teacher is a ViT-L/16 and the student a ViT-S/16; the paper distils BiT ResNets, for 300 to
9,600 epochs. Learning rates, weight decay and warm-up are first choices that nothing was tuned
against. The tiny runs shift images by one pixel in place of cropping them.
"""

from ml_collections import ConfigDict

from kd.config import base_config, choose

CLASSES = 1000  # said here, so that the run can be planned where the data is not
TEACHER = {"name": "vit", "variant": "L/16", "classes": CLASSES}
STUDENT = {"name": "vit", "variant": "S/16", "classes": CLASSES}
TINY_TEACHER = {"name": "vit", "variant": "Ti/8", "width": 128, "depth": 4, "heads": 4}
TINY_STUDENT = {"name": "vit", "variant": "Ti/8", "width": 64, "depth": 3, "heads": 4}


def get_config(arg: str = "") -> ConfigDict:
    """`arg`: empty for the student, ``teacher`` for its teacher; ``tiny`` and ``tiny-teacher`` take
    a minute.
    """
    choose(arg, "", "teacher", "tiny", "tiny-teacher")
    tiny, teacher = arg.startswith("tiny"), arg.endswith("teacher")
    config = _tiny(teacher) if tiny else _imagenet(teacher)
    config.optim.name = "adam"
    config.optim.learning_rate_schedule.shape = "cosine"  # to zero
    config.optim.clip_norm = 1.0
    if teacher:
        config.student = dict(TINY_TEACHER if tiny else TEACHER)
        config.objective = {"hard": {"weight": 1.0}}
    else:
        config.student = dict(TINY_STUDENT if tiny else STUDENT)
        config.data.mixup = True  # of what student and teacher both see
        config.objective = {
            "soft_targets": {"weight": 1.0, "temperature": 1.0}
        }  # labels are not looked at
        config.teacher.model = TINY_TEACHER if tiny else TEACHER
        config.teacher.precompute = False  # every view is a new one
    return config


def _imagenet(teacher: bool) -> ConfigDict:
    config = base_config()
    config.data.source = "tfds:imagenet2012"
    config.data.eval = "validation"
    config.data.examples = 1_281_167
    config.data.stream = True
    config.data.image_size = 224  # pixels
    config.data.crop = "random"
    config.data.flip = True
    config.data.batch_size = 4096  # examples
    config.optim.learning_rate = 0.001 if teacher else 0.003
    config.optim.weight_decay = 0.1 if teacher else 0.03  # decoupled, times the learning rate
    config.optim.learning_rate_schedule.warmup_percent = 10.0 if teacher else 2.0
    config.total_epochs = 90 if teacher else 300
    config.eval_epochs = config.checkpoint_epochs = 5
    config.compute = "bfloat16"
    config.remat = True
    config.sharding.student.rule = "fsdp"
    if not teacher:
        config.sharding.teacher.rule = "fsdp"
    return config


def _tiny(teacher: bool) -> ConfigDict:
    config = base_config()
    config.data.source = "shapes"
    config.data.jitter_pixels = 1
    config.data.batch_size = 96  # examples; divides over 1, 2, 4 and 8 devices
    config.optim.learning_rate = 0.002
    config.optim.weight_decay = 0.03
    config.optim.learning_rate_schedule.warmup_percent = 10.0
    config.total_epochs = 40 if teacher else 60
    config.eval_epochs = config.checkpoint_epochs = 10
    return config
