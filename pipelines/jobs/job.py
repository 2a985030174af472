"""What every command that writes a run folder does around its work: lease, Ray, progress, status, configuration."""

from __future__ import annotations

import contextlib
from types import TracebackType

import pyarrow as pa

from cluster.session import RaySession, deaths_told
from pipelines.folder.configuration import RUN, record_configuration
from pipelines.report.status import StatusWriter, note_of_end
from pipelines.runner.progress import Progress
from pipelines.runner.run import run_graph
from pipelines.runner.stage import Stage, StageSummary
from pipelines.stages.registry import stages_of
from sc3d.config import RunConfig
from sc3d.config_file import located
from sc3d.errors import InputError
from sc3d.lease import RunLease
from sc3d.store import RunFolder


class Job:
    """A command at work in a run folder, as a context manager. One at a time: a second one is refused, and told who is there.

    Args:
        config: of the run. Local paths in it become absolute, since workers have other working directories.
        command: what ``sc3d status`` calls it.
        new: whether it may begin a run; else there has to be one.
        retry_rejects: try again what was rejected before.

    Attributes:
        config, folder: the configuration with absolute paths, and its run folder.
        lease, ray, progress: held for as long as the job goes on.

    Raises (on entering):
        InputError: there is no run yet.
        RunBusyError: another run that is alive writes the folder.
        StoreError: the folder cannot be read or written.

    Raises (on leaving):
        RayDiedError: a process of Ray's has died that the command cannot do without.
    """

    def __init__(self, config: RunConfig, command: str, new: bool = False, retry_rejects: bool = False) -> None:
        self.config = located(config)
        self.folder = RunFolder(self.config.run)
        self.lease, self.progress = RunLease(self.folder), Progress()
        self.ray = RaySession(config.ray, note_of_end(self.folder))
        self._command, self._new, self._retry_rejects = command, new, retry_rejects
        self._all = contextlib.ExitStack()

    def __enter__(self) -> Job:
        if not self._new and not self.folder.exists(RUN):
            raise InputError(f"{self.folder.uri} holds no run, so there is nothing to {self._command}; run sc3d label first")
        status = StatusWriter(self.folder, self._command, self.progress)
        with contextlib.ExitStack() as entered:
            for part in (self.lease, self.ray, self.progress, status, deaths_told()):
                entered.enter_context(part)
            self._all = entered.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._all.__exit__(kind, error, trace)

    def begin(self, record: bool = True) -> None:
        """The checks have passed, the work begins. ``record``: from now on the folder is this configuration's."""
        if record:
            record_configuration(self.folder, self.config)
        if self._retry_rejects:
            again = sum(stage.artefacts.forget_rejects() for stage in stages_of(self.config))
            self.progress.say(f"  {again} rejected records are tried again")

    def run_stage(self, stage: Stage, items: pa.Table | None = None) -> StageSummary:
        """Compute what is missing of a stage's items (:data:`~sc3d.shards.ITEMS`); by default of all that it answers for."""
        return run_graph([stage], stage.items() if items is None else items, self.progress, self.ray, self.lease.check)[0]
