"""What can be evaluated, by name: which features a method reads, what it makes of them, and which published row it reproduces.

A name stands for the features of a run as they are (``zero-shot``, ``adapter``), for those of certain models (``dinov2``, ``sd-dino``), or
for the adapter of a certain setting. ``adapter:PATH`` is any checkpoint, and ``NAME=METHOD`` calls a method ``NAME`` in the tables.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from sc3d.config import RunConfig
from sc3d.config_file import parse_config, to_values
from sc3d.errors import ConfigError
from sc3d.evaluation.labellings import LABELLINGS, Labelling, labelling_named

TRAINED = "trained"
"""In place of a checkpoint's path: the adapter that ``sc3d train`` made of the run's labels."""

CONTROL = "copy-position"
"""The method that every other has to beat: where it is as good, a set shows nothing of what features know."""

STAND_INS = {"describe.dino": ("lite0", "daisy"), "describe.sd": ("lite0", "hog"), "describe.shape": ("spectral",)}
"""Slot -> what fills it without the paper's models. A run with one of them is evaluated by their names too, and its rows say so."""

_LABEL = re.compile(r"[^\n\r~=]{1,80}")


@dataclass(frozen=True)
class Method:
    """What predicts keypoints.

    Attributes:
        name: how it is asked for, and what tables call it.
        meaning: a line for people.
        weights: slot (``sd``, ``dino``, ``shape``, or ``position`` in the box) -> weight of its cosine; empty for an adapter. Of
            ``None``, the configuration decides: ``sd`` and ``dino`` have match.alpha and match.beta, ``shape`` the rest.
        adapter: empty, :data:`TRAINED`, or the path of a checkpoint.
        options: option -> value that the method asks for; its features, and the adapter, are those of a run with these.
        published: row of the paper's tables that it reproduces with its models.
        labelling: the adapter is trained on the labels of that (:func:`~sc3d.evaluation.labellings.labelling_named`), not on the run's own.
        prior: what the poses of a template that both photos show do (:mod:`sc3d.matching.template_prior`): ``add``, they guide the
            features, or ``alone``, they decide. Pairs without such poses are predicted from the features, and counted.
        carried: matches go through the class shape that is fitted to both photos (:mod:`sc3d.class_shapes`). Built on annotated keypoints,
            it has seen those of the training split, as tables say.
    """

    name: str
    meaning: str
    weights: Mapping[str, float | None] = field(default_factory=dict)
    adapter: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    published: str = ""
    labelling: str = ""
    prior: Literal["", "add", "alone"] = ""
    carried: bool = False

    @property
    def is_zero_shot(self) -> bool:
        """Whether it uses features as they are."""
        return not self.adapter


_DINOV2, _DINOV3, _SD = {"describe.dino": "dinov2"}, {"describe.dino": "dinov3"}, {"describe.sd": "stable_diffusion"}

_BUILT_IN = (
    Method("zero-shot", "the run's 2D features, fused with the run's weights", {"sd": None, "dino": None}),
    Method(
        "zero-shot-3d",
        "the same and the 3D descriptors: what label candidates are made with",
        {"sd": None, "dino": None, "shape": None},
    ),
    Method("dino", "whatever the run has as describe.dino, alone", {"dino": 1.0}),
    Method("sd", "whatever the run has as describe.sd, alone", {"sd": 1.0}),
    Method("shape", "the 3D descriptors alone; they know nothing of the background", {"shape": 1.0}),
    Method(
        "light-template",
        "as zero-shot, near where the pose of the photos' template shows the same point; pairs without sure poses: as zero-shot",
        {"sd": None, "dino": None},
        prior="add",
    ),
    Method(
        "template",
        f"the place that the template's pose gives, without features; pairs without sure poses: as {CONTROL}",
        {"position": 1.0},
        prior="alone",
    ),
    Method(
        "semalign3d",
        "through a 3D shape of the category, built from the training split's keypoints and fitted to both photos, on the 2D features",
        {"sd": None, "dino": None},
        options={"represent.features": "zero-shot", "represent.landmarks": "annotated"},
        published="SemAlign3D (supervised)",
        carried=True,
    ),
    Method(
        "semalign3d-unannotated",
        "the same, built on landmarks of a reference mesh that registrations carry to the other meshes: nobody annotated anything",
        {"sd": None, "dino": None},
        options={"represent.features": "zero-shot", "represent.landmarks": "registered"},
        carried=True,
    ),
    Method(
        "semalign3d-adapter",
        "the same, on the adapter that was trained on the run's labels",
        adapter=TRAINED,
        options={"represent.features": "adapter", "represent.landmarks": "annotated"},
        carried=True,
    ),
    Method(CONTROL, "the same place in the other object's box: a control, which sees nothing", {"position": 1.0}),
    Method("dinov2", "DINOv2 ViT-B/14, layer 11", {"dino": 1.0}, options=_DINOV2, published="DINOv2 nearest"),
    Method("dinov2-registers", "DINOv2 with registers", {"dino": 1.0}, options={"describe.dino": "dinov2_registers"}),
    Method("dinov3", "DINOv3 ViT-B/16", {"dino": 1.0}, options=_DINOV3),
    Method("dift", "DIFT: Stable Diffusion 2.1 at step 261", {"sd": 1.0}, options={"describe.sd": "dift"}, published="DIFT"),
    Method("stable-diffusion", "decoder features of Stable Diffusion 1.5", {"sd": 1.0}, options=_SD),
    Method(
        "sd-dino",
        "Stable Diffusion 1.5 and DINOv2, each normalised, half and half, as GeoAware-SC evaluates them",
        {"sd": 0.5, "dino": 0.5},
        options={**_SD, **_DINOV2},
        published="SD+DINOv2",
    ),
    Method("sd-dinov3", "the same with DINOv3", {"sd": 0.5, "dino": 0.5}, options={**_SD, **_DINOV3}),
    Method(
        "sd-dino-partfield",
        "Stable Diffusion, DINOv2 and PartField with the paper's weights",
        {"sd": 1 / 2, "dino": 1 / 3, "shape": 1 / 6},
        options={**_SD, **_DINOV2, "describe.shape": "partfield"},
    ),
    Method("adapter", "the adapter that was trained on the run's labels", adapter=TRAINED, published="3D-SC"),
    Method("adapter-dinov3", "the same, with DINOv3", adapter=TRAINED, options=_DINOV3),
    Method(
        "adapter-uncapped",
        "the same, with all labels of a pair at every step",
        adapter=TRAINED,
        options={"train.labels_per_pair": 3600},
    ),
)

_LABELS = "labels-"


def _trained_on(labelling: Labelling) -> Method:
    meaning = f"an adapter trained on labels: {labelling.meaning}"
    return Method(f"{_LABELS}{labelling.name}", meaning, adapter=TRAINED, labelling=labelling.name)


METHODS: dict[str, Method] = {method.name: method for method in (*_BUILT_IN, *map(_trained_on, LABELLINGS.values()))}
"""Name -> method."""


def method_of(text: str) -> Method:
    """The method that a name, ``adapter:PATH``, ``labels-LABELLING`` or ``NAME=METHOD`` stands for.

    Raises:
        ConfigError: there is no such method or labelling; names those that there are.
    """
    label, equals, rest = text.partition("=")
    if equals and not label.startswith("adapter:"):
        if not _LABEL.fullmatch(label.strip()):
            raise ConfigError(f"'{label}' cannot be the name of a method in a table; use up to 80 characters on one line")
        return dataclasses.replace(method_of(rest), name=label.strip())
    if text in METHODS:
        return METHODS[text]
    if text.startswith(_LABELS):
        return _trained_on(labelling_named(text.removeprefix(_LABELS)))
    kind, _, path = text.partition(":")
    if kind == "adapter" and path:
        return Method(text, f"the adapter of {path}", adapter=path)
    raise ConfigError(f"no method named '{text}'; there are {', '.join(METHODS)}, adapter:PATH, and NAME=METHOD for another name")


def methods_of(texts: Iterable[str]) -> list[Method]:
    """The methods of several names, each once.

    Raises:
        ConfigError: there is no such method, or two methods have one name.
    """
    found: dict[str, Method] = {}
    for text in texts:
        method = method_of(text)
        if found.setdefault(method.name, method) != method:
            raise ConfigError(f"two methods are called '{method.name}'; name them apart with NAME=METHOD")
    return list(found.values())


def resolve(method: Method, config: RunConfig) -> tuple[RunConfig, dict[str, str]]:
    """The configuration whose features (and adapter) a method reads, and the stand-ins: slot -> what fills it in the place of a model.

    A slot that holds a stand-in keeps it; any other option becomes what the method asks for.

    Raises:
        ConfigError: the method's options do not fit the others.
    """
    values = to_values(config)
    stand_ins: dict[str, str] = {}
    for option, value in method.options.items():
        stage, _, name = option.partition(".")
        present = values[stage][name]
        if present in STAND_INS.get(option, ()):
            stand_ins[option] = present
        else:
            values[stage][name] = value
    return parse_config(values, f"method {method.name}"), stand_ins


def weights_of(method: Method, config: RunConfig) -> dict[str, float]:
    """Slot -> weight of a zero-shot method under a configuration."""
    default = {"sd": config.match.alpha, "dino": config.match.beta, "shape": config.match.gamma}
    return {slot: default[slot] if weight is None else weight for slot, weight in method.weights.items()}


def named(method: Method, stand_ins: Mapping[str, str]) -> str:
    """What tables call a method: its name, and what stood in for its models."""
    built = method.carried and method.options["represent.landmarks"] == "annotated"
    supervised = built or (method.labelling and labelling_named(method.labelling).annotated)
    notes = [*(["supervised"] if supervised else []), *sorted(set(stand_ins.values()))]
    return f"{method.name} ({', '.join(notes)})" if notes else method.name


def missing_options(method: Method, config: RunConfig) -> str:
    """The ``--set`` options that turn a configuration into the one a method reads; empty if it already is."""
    values = to_values(config)

    def present(option: str) -> Any:
        stage, _, name = option.partition(".")
        return values[stage][name]

    return set_options({o: v for o, v in method.options.items() if present(o) not in (v, *STAND_INS.get(o, ()))})


def set_options(options: Mapping[str, Any]) -> str:
    """Options as they are written on the command line."""
    return " ".join(f"--set {o}={v if isinstance(v, str) else json.dumps(v)}" for o, v in options.items())
