"""From YAML files and ``stage.option=value`` overrides to a validated configuration."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from sc3d.config import RunConfig, TrainConfig
from sc3d.config.stages import BUILT_IN
from sc3d.config_presets import MESHES, PRESETS, PROFILES
from sc3d.config_problems import config_problems, near_options
from sc3d.errors import ConfigError
from sc3d.near_names import did_you_mean
from sc3d.plain_text import bounded, clipped, of_yaml, read_text

_MAX_PARTS = 8

_ADAPTER: TypeAdapter[RunConfig] = TypeAdapter(RunConfig)


def parse_config(values: dict[str, Any], where: str = "configuration") -> RunConfig:
    """Build a validated configuration from nested plain values.

    Raises:
        ConfigError: names every option that is unknown, of the wrong type or out of range.
    """
    try:
        return _ADAPTER.validate_python(bounded(values))
    except ValidationError as error:
        raise ConfigError(f"{where}: {config_problems(error)}") from None
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from None


def load_config(
    path: str | Path | None = None, overrides: Sequence[str | tuple[str, Any]] = (), defaults: dict[str, Any] | None = None
) -> RunConfig:
    """Read a YAML file (or nothing) and apply overrides.

    Args:
        path: YAML file; ``None`` starts from the defaults.
        overrides: for example ``["match.alpha=0.4", "ray.workers=8"]``, whose values are YAML too, or ``("run", "runs/buses")``, whose
            value is taken as it is; the last one wins.
        defaults: nested values that the file and the overrides may replace.

    Raises:
        ConfigError: what cannot be read or is not right, with the file or override, and the option.
    """
    chosen = _read_file(path) if path is not None else {}
    for override in overrides:
        key, value = override if isinstance(override, tuple) else _read_override(override)
        nested = value
        for part in reversed(key.strip().split(".")):
            nested = {part: nested}
        chosen = _merge(chosen, nested)
    given = defaults or {}
    given = _with_options(given, chosen, "profile", RunConfig.profile, PROFILES)
    given = _with_mesh(given, chosen)
    given = _with_preset(given, chosen, _section(defaults or {}, "train").get("preset"))
    return parse_config(_merge(given, chosen), str(path) if path else "configuration")


def _read_file(path: str | Path) -> dict[str, Any]:
    try:
        loaded = of_yaml(read_text(path))
    except OSError as error:
        raise ConfigError(f"cannot read the configuration {path}: {error.strerror}") from None
    except ValueError as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from None
    if loaded is not None and not isinstance(loaded, dict):
        raise ConfigError(f"{path} must hold 'option: value' lines, not a {type(loaded).__name__}")
    return loaded or {}


def _read_override(override: str) -> tuple[str, Any]:
    key, separator, text = override.partition("=")
    parts = key.strip().split(".")
    if not separator or not all(parts) or len(parts) > _MAX_PARTS:
        raise ConfigError(f"override '{clipped(override, 200)}' must look like stage.option=value")
    try:
        return key, of_yaml(text)
    except ValueError as error:
        raise ConfigError(f"the value of the override '{clipped(override, 200)}' is not YAML: {error}") from None


def _section(values: dict[str, Any], name: str) -> dict[str, Any]:
    section = values.get(name)
    return section if isinstance(section, dict) else {}


def _with_options(
    defaults: dict[str, Any], chosen: dict[str, Any], name: str, otherwise: str, named: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """The defaults with the options that the chosen ``name`` stands for: above them if it was chosen anew, else below.

    An unknown one is left to validation.
    """
    before = str(defaults.get(name, otherwise))
    now = str(chosen.get(name, before))
    options = named.get(now, {})
    return _merge(options, defaults) if now == before else _merge(defaults, options)


def _with_mesh(given: dict[str, Any], chosen: dict[str, Any]) -> dict[str, Any]:
    """The defaults with what the chosen ``reconstruct.mesh`` stands for, and without what the one before it stood for."""
    before = str(_section(given, "reconstruct").get("mesh"))
    now = str(_section(chosen, "reconstruct").get("mesh", before))
    if now == before:
        return _merge(MESHES.get(now, {}), given)
    if before in MESHES:
        given = _merge(given, _without_mesh(before, {**given, **chosen}))
    return _merge(given, MESHES.get(now, {}))


def _with_preset(given: dict[str, Any], chosen: dict[str, Any], stored: Any) -> dict[str, Any]:
    """The defaults with the options of the preset that was chosen, by its name or by a profile: above them if it is another than the
    ``stored`` one, else below. Defaults that name no preset, as the demo's, give way to one that is chosen by name alone."""
    train = _section(given, "train")
    before = str(stored or train.get("preset", TrainConfig.preset))
    now = str(_section(chosen, "train").get("preset", train.get("preset", TrainConfig.preset)))
    options = {"preset": now, **PRESETS.get(now, {})}
    return {**given, "train": _merge(options, train) if now == before else _merge(train, options)}


def _without_mesh(mesh: str, values: dict[str, Any]) -> dict[str, Any]:
    """What the options that a ``reconstruct.mesh`` chose are without it, in the profile of some values."""
    profile = PROFILES.get(str(values.get("profile", RunConfig.profile)), {})
    plain = to_values(RunConfig())
    return {
        stage: {option: _section(profile, stage).get(option, plain[stage][option]) for option in options}
        for stage, options in MESHES[mesh].items()
    }


def _merge(base: dict[str, Any], top: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in top.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def located(config: RunConfig) -> RunConfig:
    """The configuration with full paths for the run folder, the data set and what else workers read, where they are local, and ``~`` for
    the home folder."""
    dataset, reconstruct = config.dataset, config.reconstruct
    masks, facing = (_full_path(path) if path else None for path in (dataset.masks, dataset.facing))
    placed = dataclasses.replace(dataset, root=_full_path(dataset.root), masks=masks, facing=facing)
    if reconstruct.template and reconstruct.template != BUILT_IN:
        reconstruct = dataclasses.replace(reconstruct, template=_full_path(reconstruct.template))
    compare = dataclasses.replace(config.compare, spheres=config.compare.spheres and _full_path(config.compare.spheres))
    return dataclasses.replace(config, run=_full_path(config.run), dataset=placed, reconstruct=reconstruct, compare=compare)


def _full_path(path: str) -> str:
    if not path or "://" in path:
        return path
    return str(Path(path).expanduser().absolute())


def flat_values(config: RunConfig) -> dict[str, Any]:
    """``stage.option`` -> its value, of all options."""
    flat: dict[str, Any] = {}

    def add(values: dict[str, Any], prefix: str, shape: Any) -> None:
        for name, value in values.items():
            inner = getattr(shape, name)
            if dataclasses.is_dataclass(inner):
                add(value, f"{prefix}{name}.", inner)
            else:
                flat[f"{prefix}{name}"] = value

    add(to_values(config), "", config)
    return flat


def without(values: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Nested plain values without some options: ``stage.option``, ``stage``, or ``all``.

    Raises:
        ConfigError: there is no such option.
    """
    left = copy.deepcopy(values)
    for name in names:
        if name == "all":
            return {}
        *path, last = name.split(".")
        inner: Any = left
        for part in path:
            inner = inner.get(part) if isinstance(inner, dict) else None
        if name not in flat_values(RunConfig()) and not hasattr(RunConfig(), name):
            near = did_you_mean(near_options(clipped(name, 200)))
            raise ConfigError(f"there is no option {clipped(name, 200)} to go back to the default of{near}")
        if isinstance(inner, dict):
            inner.pop(last, None)
        # What was chosen by one name goes back with it, as if the default one were chosen anew.
        if name == "profile":
            left = _merge(left, _without_profile(values))
        elif name in ("reconstruct", "reconstruct.mesh") and (mesh := _section(values, "reconstruct").get("mesh")) in MESHES:
            left = _merge(left, _without_mesh(str(mesh), left))
        elif name == "train.preset":
            left = _merge(left, {"train": PRESETS[_preset_of(left)]})
    return left


def _preset_of(values: dict[str, Any]) -> str:
    """The preset that the profile of some values chooses."""
    profile = PROFILES.get(str(values.get("profile", RunConfig.profile)), {})
    return str(_section(profile, "train").get("preset", TrainConfig.preset))


def _without_profile(values: dict[str, Any]) -> dict[str, Any]:
    """What the default profile chooses. A preset of training that the values' own profile did not choose stays."""
    options = PROFILES[RunConfig.profile]
    if _section(values, "train").get("preset", _preset_of(values)) != _preset_of(values):
        return {stage: chosen for stage, chosen in options.items() if stage != "train"}
    return _merge(options, {"train": PRESETS[_preset_of({})]})


def to_values(config: Any) -> dict[str, Any]:
    """A configuration as nested plain values, fit for JSON and YAML."""
    return dataclasses.asdict(config)
