"""What looks at a run as it trains: its timing, its sinks, a profile. It changes no number."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable, Sequence

from kd.config import Spec, to_json
from kd.errors import KdError, cause
from kd.processes import group
from kd.system.beside import Beside
from kd.training import sinks as kd_sinks
from kd.training.clock import Clock
from kd.training.profile import Parts, Profile, Tracer
from kd.training.task import Task
from kd.training.timing import AtPeak, Timing, read, whole, words
from kd.training.watching import Text, Watching
from kd.training.writers import Write


class Looks:
    """`sinks` are names of `kd.training.sinks.SINKS`, `profile` the steps to trace; `at_peak` makes
    MFU of a step's time. The clock runs from now on, or since `begun`.

    Raises:
      KdError: an unknown sink, or one whose library is not installed.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        title: str,
        sinks: Sequence[str] = (),
        profile: Profile | None = None,
        at_peak: AtPeak | None = None,
        begun: float | None = None,
    ) -> None:
        kd_sinks.check(sinks)
        self._folder, self._beside = folder, Beside(folder)
        self.clock = Clock(begun)
        self._title, self._names, self._profile, self._at_peak = title, sinks, profile, at_peak
        self._sinks: list[kd_sinks.Apart] = []
        self._timing: Timing | None = None
        self._peak_seconds: float | None = None
        self._say_line: Callable[[str], None] = lambda _: None

    def check(self, task: Task) -> None:
        """Raise a `KdError` where the run has no such steps as are to be traced."""
        if self._profile is not None:
            self._profile.window.check(task.total_steps)

    def watching(self, task: Task, say: Callable[[str], None]) -> Watching:
        """What the loop is told; `say` shows a line of its own."""
        self._say_line = say
        kind = task.mesh.devices.flat[0].device_kind
        return Watching(self.clock, self._parts(), lambda text: self._compiled(text, kind))

    def writers(self, spec: Spec, task: Task, step: int) -> list[Write]:
        """Sinks and timing of a run that goes on at `step`."""
        self._best_effort(self._prepare)
        config = json.loads(to_json(spec))
        about = kd_sinks.About(self._beside.path, config, step, self._folder)
        self._sinks = kd_sinks.opened(self._names, about, self._say)
        members = task.members.size or 1
        self._timing = Timing(
            self._folder / "timing.jsonl",
            self.clock,
            step,
            task.batch_size * members,
            self._peak_seconds,
            [sink.write for sink in self._sinks],
            self._say,
        )
        return [self._timing.write, *(sink.write for sink in self._sinks)]

    def close(self) -> None:
        """The last words: where the time went, of all starts of the run."""
        kd_sinks.close(self._sinks)
        if group.is_first() and (self._names or self._profile):
            self._best_effort(self._send)
        if self._timing is None or not self._timing.close():
            return
        starts, seconds = whole(read(self._timing.path))
        if starts:
            self._say(words(starts, seconds))

    def _prepare(self) -> None:
        if self._names:
            self._beside.make()
        for name in kd_sinks.continued(self._names):
            self._beside.bring(name)

    def _send(self) -> None:
        if sent := self._beside.send():
            self._say(f"{sent} files were copied from {self._beside.path} to {self._folder}")

    def _best_effort(self, action: Callable[[], None]) -> None:
        """No run ends because of its dashboards."""
        try:
            action()
        except OSError as error:
            place = f"what sinks and profile write stays in {self._beside.path}"
            self._say(f"{place}: {cause(error)}; the run goes on without its copy")

    def _parts(self) -> Parts:
        if self._profile is None:
            return Parts()
        if not group.is_first():
            return Parts(self._profile.window)
        return Tracer(self._profile, self._beside.path / "profile", self._say, self.clock.doing)

    def _compiled(self, text: Text, device_kind: str) -> None:
        if self._at_peak is None:
            return
        try:
            with self.clock.doing("compile"):
                self._peak_seconds = self._at_peak(text, device_kind)
        except KdError as error:
            self._say(str(error))

    def _say(self, text: str) -> None:
        self._say_line(f"{self._title}: {text}")
