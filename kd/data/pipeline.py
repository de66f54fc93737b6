"""Batches of a stream, read ahead by threads. The only place that imports Grain."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from kd.data.device import shortened
from kd.data.images.crops import draws
from kd.data.order import padded_rows
from kd.data.stream import Stream
from kd.data.targets import has_label
from kd.errors import KdError

LAST_STEP = 2**31 - 1
# bytes of examples that are read at once: enough to be quick, few enough to stop soon
_BLOCK = 4 * 2**20
_AHEAD = 2 * 2**30  # bytes of batches that may be read ahead

HostBatch = dict[str, np.ndarray]


def batches(
    stream: Stream,
    seeds: int | Sequence[int],
    batch_size: int,
    share: slice | None = None,
    start: int = 0,
    *,
    stop: int = LAST_STEP,
    threads: int | None = None,
) -> Batches:
    """Batches of steps `start`, start + 1, ... before `stop`: this process's part of each, read
    ahead by threads.

    Step s holds the examples of ``kd.data.rows(seed, s, len(stream), batch_size)``: a function of
    seed and step alone. With several `seeds`, one per member of a population, each member has its
    own. `share` is the slice of the batch axis that this process needs; nothing else is read.

    Shapes: ``inputs[b h w c]`` in the source's type, ``labels[b]`` int32 (absent when unlabelled),
    ``index[b]`` int32, ``weight[b]`` float32, all one; ``[m b ...]`` with several seeds. `threads`:
    None is one per core, 0 is none.

    Raises:
      KdError: a batch that does not fit the stream, a share outside the batch; while reading, see
        `Stream.read`.
    """
    part, single = _part(share, batch_size), isinstance(seeds, int)
    members = (seeds,) if isinstance(seeds, int) else tuple(int(seed) for seed in seeds)

    order = stream.order(members, batch_size)

    def make(step: int, stopped: threading.Event) -> HostBatch:
        table = order.rows(step)[:, part]

        def draw() -> list[np.random.Generator] | None:
            each = zip(members, table, strict=True) if stream.augmented else ()
            return [draws(seed, step, int(i)) for seed, row in each for i in row] or None

        batch = _read_all(stream, table.reshape(-1), draw, stopped)
        batch = dict(shortened(batch, order.length(step), bool(stream.positions)))
        return (
            batch
            if single
            else {key: a.reshape(*table.shape, *a.shape[1:]) for key, a in batch.items()}
        )

    examples = len(members) * len(range(batch_size)[part])
    identity = {"data": stream.fingerprint, "seeds": list(members), "batch_size": batch_size}
    return Batches(make, start, stop, _read_options(stream, examples, threads), identity)


def in_order(
    stream: Stream, batch_size: int, share: slice | None = None, *, threads: int | None = None
) -> Batches:
    """Every example once, in order, as in evaluation: no random crop, no flip. Batches as those of
    `batches`.

    The last batch is filled up with zeros of weight 0 and index 0. `share` is this process's slice
    of each batch.

    Raises:
      KdError: a batch without examples, a share outside the batch; while reading, see
        `Stream.read`.
    """
    if batch_size < 1:
        raise KdError(f"a batch must hold 1 example or more, got {batch_size}")
    part, table = _part(share, batch_size), padded_rows(len(stream), batch_size)

    def make(step: int, stopped: threading.Event) -> HostBatch:
        return _read_all(stream, table[step, part], lambda: None, stopped)

    identity = {"data": stream.fingerprint, "seeds": None, "batch_size": batch_size}
    return Batches(
        make, 0, len(table), _read_options(stream, len(range(batch_size)[part]), threads), identity
    )


class Batches(Iterator[HostBatch]):
    """An iterator of batches whose position can be kept and set; a context that stops its threads
    on the way out.

    The position is the global step: a state fits any number of processes and threads.
    """

    def __init__(
        self,
        make: Callable[[int, threading.Event], HostBatch],
        start: int,
        stop: int,
        read_options: Mapping[str, int],
        identity: Mapping[str, Any],
    ) -> None:
        self._make, self._stop = make, stop
        self._read_options, self._identity = dict(read_options), dict(identity)
        self._open(start)

    def __next__(self) -> HostBatch:
        if self._stopped.is_set():
            raise StopIteration
        try:
            return next(self._iterator)
        except BaseException:  # the end, or an example that cannot be read: nothing follows
            self.close()
            raise

    def get_state(self) -> dict[str, Any]:
        """Grain's state (the next step) and what it is a position in; plain values that JSON can
        hold.
        """
        return {"grain": dict(self._iterator.get_state()), **self._identity}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go to where another iterator over the same batches was, whatever its number of processes.

        Raises:
          KdError: a state of another data set, other seeds or another batch size, or what is no
            state.
        """
        try:
            step, saved = (
                int(state["grain"]["next_index"]),
                {key: state[key] for key in self._identity},
            )
        except (KeyError, TypeError, ValueError) as error:
            raise KdError(
                "the saved data position cannot be read; start the run anew in another folder"
            ) from error
        if isinstance(saved["seeds"], tuple):
            saved["seeds"] = list(saved["seeds"])
        for key, what in (("data", "data set"), ("seeds", "seeds"), ("batch_size", "batch size")):
            if saved[key] != self._identity[key]:
                raise KdError(
                    f"the saved data position is of another {what} ({saved[key]}, now "
                    f"{self._identity[key]}); set it "
                    "back, or start the run anew in another folder"
                )
        self.close()
        self._open(step)

    def close(self) -> None:
        """Stop reading ahead and end the threads. More calls do nothing."""
        self._stopped.set()
        self._iterator.close()

    def __enter__(self) -> Batches:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self, step: int) -> None:
        import grain

        if not 0 <= step <= self._stop:
            raise KdError(
                f"data position {step} lies outside the {self._stop} steps; start the run anew"
            )
        absl = logging.getLogger("absl")  # Grain's advice on its options is of no use to a user
        absl.setLevel(max(absl.level, logging.ERROR))  # and who wants to hear less still does not
        make, stopped = self._make, threading.Event()
        steps = grain.MapDataset.range(self._stop).map(lambda step: make(int(step), stopped))
        self._iterator: Any = iter(steps.to_iter_dataset(grain.ReadOptions(**self._read_options)))
        self._iterator.set_state({"next_index": step})
        self._stopped = stopped


def _part(share: slice | None, batch_size: int) -> slice:
    if share is None:
        return slice(0, batch_size)
    start, stop = share.start or 0, batch_size if share.stop is None else share.stop
    if share.step not in (None, 1) or not 0 <= start < stop <= batch_size:
        raise KdError(
            f"a process needs a part of the {batch_size} examples of a batch, got {share}"
        )
    return slice(start, stop)


def _read_all(
    stream: Stream,
    places: np.ndarray,
    draw: Callable[[], Sequence[np.random.Generator] | None],
    stopped: threading.Event,
) -> HostBatch:
    """The batch of `places`, and what a teacher sees of it where that is something else: `draw`
    begins the random numbers of each example anew, so that both see the same part of it.
    """
    batch = _read(stream, places, draw(), stopped)
    if stream.teacher_inputs is None:
        return batch
    shown = _read(stream.teacher_inputs, places, draw(), stopped)["inputs"]
    return {**batch, "teacher_inputs": shown}


def _read(
    stream: Stream,
    places: np.ndarray,
    draw: Sequence[np.random.Generator] | None,
    stopped: threading.Event,
) -> HostBatch:
    """The batch of `places`; a negative place is padding, of weight 0.

    Gives up between blocks when told to stop.
    """
    count = int((places >= 0).sum())
    inputs = np.empty((len(places), *stream.shape), stream.dtype)
    answers = (len(places), *stream.positions)
    labels = np.zeros(answers, np.int32) if stream.labelled else None
    inputs[count:] = 0  # padding comes last
    at_once = max(1, _BLOCK // max(inputs[:1].nbytes, 1))
    for start in range(0, count, at_once):
        if stopped.is_set():
            break  # nobody will look at this batch
        part = slice(start, min(start + at_once, count))
        part_labels = None if labels is None else labels[part]
        stream.read_into(
            inputs[part], part_labels, places[part].tolist(), None if draw is None else draw[part]
        )
    there = (places >= 0).astype(np.float32).reshape(-1, *(1,) * len(stream.positions))
    index = np.maximum(places, 0).astype(np.int32)
    weights = np.ones(answers, np.float32) if stream.weights is None else stream.weights[index]
    batch = {"inputs": inputs, "index": index, "weight": there * weights}
    if labels is None:
        return batch
    told = {"labelled": has_label(labels)} if stream.partly_labelled else {}
    return {**batch, "labels": labels, **told}


def most_threads() -> int:
    """How many threads read, where nobody says: one for each core that this process may use, up to
    16.
    """
    return min(
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        16,
    )


def _read_options(stream: Stream, examples: int, threads: int | None) -> dict[str, int]:
    """Threads and batches read ahead: two per thread, as long as memory allows, and at least
    one.
    """
    size = examples * int(np.prod(stream.shape)) * stream.dtype.itemsize
    threads = most_threads() if threads is None else threads
    ahead = max(1, min(2 * threads, _AHEAD // max(size, 1)))
    workers = min(threads, ahead)
    return {"num_threads": workers, "prefetch_buffer_size": ahead}
