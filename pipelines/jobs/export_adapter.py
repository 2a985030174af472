"""The adapter of a run, or any checkpoint -> a folder for programs without sc3d."""

from __future__ import annotations

from pathlib import Path

from pipelines.jobs.train import train_job
from sc3d.config import RunConfig
from sc3d.errors import ConfigError, InputError
from training.adapter import adapter_metadata, decode_adapter, load_adapter
from training.export import export_adapter

LATEST, BEST_PCK, BEST_LOSS = "latest", "best-pck", "best-loss"
_ENDINGS = (".safetensors", ".pth", ".pt")


def run(config: RunConfig, out: str | Path, which: str = LATEST, onnx: bool = False) -> list[Path]:
    """Write an adapter as :func:`training.export.export_adapter` does.

    Args:
        config: of the run.
        out: local folder.
        which: ``latest``, ``best-pck`` or ``best-loss`` of this configuration's training; or a checkpoint file, ours or a published one.
        onnx: also ONNX.

    Raises:
        ConfigError: ``which`` is none of these.
        InputError: the run has no such adapter.
        SchemaError, FeatureError: the checkpoint cannot be used.
        PreflightError: ONNX is asked for and not installed.
        StoreError: the folder cannot be written.
    """
    if which.endswith(".safetensors"):
        adapter = load_adapter(which)
        known = adapter_metadata(Path(which).read_bytes(), which)
        return export_adapter(adapter, out, known["sources"], known["recipe"], onnx)
    if which.endswith(_ENDINGS):
        return export_adapter(load_adapter(which), out, onnx=onnx)
    job = train_job(config)
    files = {LATEST: job.adapter_file, BEST_PCK: job.best_file("pck"), BEST_LOSS: job.best_file("loss")}
    if which not in files:
        raise ConfigError(f"--adapter must be {', '.join(files)}, or a file ending in {', '.join(_ENDINGS)}; got '{which}'")
    if not job.run.exists(files[which]):
        why = "the training was not validated" if which != LATEST and job.run.exists(job.adapter_file) else "run sc3d train first"
        raise InputError(f"{job.run.uri} has no {which} adapter of this configuration; {why}")
    data = job.run.read_bytes(files[which])
    known = adapter_metadata(data, files[which])
    return export_adapter(decode_adapter(data, files[which]), out, known["sources"], known["recipe"], onnx)
