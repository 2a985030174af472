"""Networks of Hugging Face's libraries: loaded whole from a local folder or not at all, or filled with reproducible random numbers."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, TypeVar

import torch
from safetensors import SafetensorError
from torch import nn

from sc3d.errors import PreflightError, WeightsError

T = TypeVar("T")
Library = Literal["transformers", "diffusers"]
Size = Literal["tiny", "full"]
"""Of a random network: small, for trials on a CPU, or as published, for measurements."""


def library(name: Library) -> ModuleType:
    """The library, imported when it is first needed: that takes seconds, and the offline profile does without.

    Raises:
        PreflightError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise PreflightError(
            f"{name} cannot be imported ({error}), and this model runs through it: pip install 'sc3d[foundation]'"
        ) from None


def load_pretrained(name: Library, model_class: str, folder: Path, also: Sequence[str] = ()) -> nn.Module:
    """A model in evaluation mode, float32, on the CPU, from the safetensors file and ``config.json`` of a local folder.

    Upstream fills tensors that a file lacks with random numbers and goes on; here that is an error.

    Args:
        also: kinds of models in ``config.json``, beside the class's own, which the class can read: those that it is a part of.

    Raises:
        WeightsError: there is no such folder, its files are damaged, or they are those of another model.
        PreflightError: the library is not installed.
    """
    made_by = library(name)
    wanted = getattr(made_by, model_class)
    _check_config(folder, wanted, model_class, also)
    options: dict[str, Any] = {"dtype": torch.float32} if name == "transformers" else {"low_cpu_mem_usage": False}
    try:
        with _quiet(made_by):
            model, report = wanted.from_pretrained(
                folder,
                local_files_only=True,
                use_safetensors=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                **options,
            )
    except (OSError, SafetensorError) as error:
        raise WeightsError(
            f"{folder}: the weights of {model_class} are missing or cut short ({_first_line(error)}); delete the file and fetch it again; "
            "only .safetensors files are read"
        ) from None
    except (RuntimeError, ValueError, TypeError, KeyError) as error:
        raise WeightsError(f"{folder}: cannot be loaded as {model_class} ({_first_line(error)}); is it the right model?") from None
    missing = sorted(report["missing_keys"])
    misfits = sorted(str(key[0]) if isinstance(key, tuple) else str(key) for key in report["mismatched_keys"])
    problems = [
        f"{len(names)} {what}, first {names[0]}" for what, names in (("missing", missing), ("of another shape", misfits)) if names
    ]
    if problems:
        raise WeightsError(
            f"{folder}: these weights are not those of {model_class} as its config.json describes it ({'; '.join(problems)}); "
            "is it the right model and revision?"
        )
    return model.eval().requires_grad_(False)


def load_part(load: Callable[[Path], T], folder: Path, what: str) -> T:
    """``load(folder)`` for what is no network, a tokenizer for example.

    Raises:
        WeightsError: it cannot be loaded.
    """
    try:
        return load(folder)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise WeightsError(f"{folder}: cannot be loaded as {what} ({_first_line(error)}); fetch it again") from None


def random_network(build: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    """What ``build`` makes, in evaluation mode, its random weights the same in every process; the callers' random state stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build().eval().requires_grad_(False)


def byte_tokenizer(most_tokens: int | None = None) -> Any:
    """A ``CLIPTokenizer`` whose words are bytes, for models without weights: 514 words, the last two the start and the end of a text.

    Args:
        most_tokens: what a text is cut to.
    """
    from tokenizers.pre_tokenizers import ByteLevel

    letters = sorted(ByteLevel.alphabet())
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    limit = {} if most_tokens is None else {"model_max_length": most_tokens}
    return library("transformers").CLIPTokenizer(vocab={word: index for index, word in enumerate(words)}, merges=[], **limit)


def _check_config(folder: Path, wanted: Any, model_class: str, also: Sequence[str]) -> None:
    file = folder / "config.json"
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise WeightsError(
            f"{file}: cannot be read ({error.strerror}); the folder must hold {model_class} with its config.json"
        ) from None
    except ValueError:
        raise WeightsError(f"{file}: is not valid JSON; fetch it again") from None
    type_of_config = getattr(wanted, "config_class", None)
    key, expected = ("model_type", type_of_config.model_type) if type_of_config else ("_class_name", model_class)
    found = config.get(key) if isinstance(config, dict) else None
    if found not in (expected, *also):
        raise WeightsError(f"{file}: describes '{found}', not '{expected}'; is the source the right model?")


@contextmanager
def _quiet(made_by: ModuleType) -> Iterator[None]:
    """Without the library's report and progress bar: what is wrong is said once, as an error."""
    log = made_by.utils.logging
    verbosity, progress = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity(log.CRITICAL)
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(verbosity)
        if progress:
            log.enable_progress_bar()


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).split("\n")[0][:200]
