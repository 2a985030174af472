"""Which template every category of a run is posed with: read, compared with some of its photos, and put into the run folder.

Workers read a template from the run folder, by a name that holds the hash of its content; the manifest names it for each image, so that
another template, or a file that was changed, makes the category's artefacts anew. What was found for a category stays while its
templates and the options stay: photos that come later do not turn the others round.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import ClassVar

from threadpoolctl import threadpool_limits

from actors.base import Actor, run_actors
from actors.light.frames import frame_describer
from actors.light.network import Lite0
from actors.light.weights import SHA256
from actors.offline.masks import FileMask
from actors.registry import actor_of, is_rehearsal
from pipelines.stages.reconstruct import image_row
from sc3d.config import RunConfig
from sc3d.config.stages import BUILT_IN
from sc3d.datasets.toys.template import toy_template
from sc3d.errors import ConfigError, InputError
from sc3d.geometry.templates.choose import choose_template
from sc3d.geometry.templates.load import TEMPLATE_FORMATS, load_template
from sc3d.geometry.templates.pose import FramedPhoto, frame_photo
from sc3d.geometry.templates.template import Template
from sc3d.geometry.templates.views import Describer
from sc3d.records import ImageRecord
from sc3d.schema import Record, column
from sc3d.store import RunFolder

FOLDER = "templates"
CHOICES = f"{FOLDER}/choices.parquet"

SAMPLE = 24
"""Photos of a category that its templates are compared on."""

_VERSION = "choice-1"
_BUILT_IN_INSTANCES = 2


@dataclass(frozen=True, eq=False)
class CategoryTemplate(Record, name="CategoryTemplate"):
    """What was found out about the templates of a category."""

    SCHEMA_VERSION: ClassVar[int] = 1

    category: str = column("object category")
    key: str = column("hash of the templates and of what they were judged by")
    template: str = column("file of the run folder with the one that is posed; empty where none fits")
    name: str = column("file name of the best template, for people")
    cosine: float = column("its mean best render cosine over the photos that were looked at")
    lead: float = column("how far that is above the mean over all its views")
    photos: int = column("photos that were looked at")


def assign_templates(
    config: RunConfig, images: Sequence[ImageRecord], say: Callable[[str], None] = lambda text: None
) -> list[ImageRecord]:
    """The images with the template of their category, for ``reconstruct.mesh=template``; else, and for a rehearsal, as they are.

    ``say`` is told of each category what was found.

    Raises:
        ConfigError: the configuration names no templates.
        GeometryError: a template file cannot be used.
        InputError: the templates' place does not exist, or none fits a category and the configuration says to stop.
        WeightsError: the network's weights are not there.
    """
    if config.reconstruct.mesh != "template" or is_rehearsal(config):
        return list(images)
    run = RunFolder(config.run)
    known = {one.category: one for one in run.read_records(CategoryTemplate, CHOICES)} if run.exists(CHOICES) else {}
    chosen: dict[str, CategoryTemplate] = {}
    for category in sorted({image.category for image in images}):
        templates = find_templates(config, category)
        if not templates:
            say(f"  {category}: there is no template for it in {config.reconstruct.template}; its masks are inflated")
            continue
        key = _key(config, list(templates.values()))
        before = known.get(category)
        if before is not None and before.key == key:
            chosen[category] = before
        else:
            chosen[category] = _found(config, key, templates, [image for image in images if image.category == category])
        _tell(config, chosen[category], say)
    if chosen != known:
        run.write_records(CategoryTemplate, CHOICES, [{**known, **chosen}[category] for category in sorted({**known, **chosen})])
    files = {category: one.template or None for category, one in chosen.items()}
    return [image.replace(template=files.get(image.category)) for image in images]


def find_templates(config: RunConfig, category: str) -> dict[str, Template]:
    """Name -> template, of those that the configuration has for a category.

    Raises:
        ConfigError: it names no templates.
        GeometryError: a file cannot be used.
        InputError: the templates' place does not exist.
    """
    options = config.reconstruct
    place = options.template or ""
    if place == BUILT_IN:
        made = {f"{category} {i}": toy_template(category, i) for i in range(_BUILT_IN_INSTANCES)}
        return {name: template for name, template in made.items() if template is not None}
    if not place:
        raise ConfigError(
            "reconstruct.mesh=template needs reconstruct.template: a mesh file, a folder of them, or toys for built-in shapes"
        )
    root = Path(place)
    if not root.exists():
        raise InputError(
            f"{place}: there is no such file or folder; set reconstruct.template to a mesh file, or to a folder of them"
        )
    files = _files_of(root, category) if root.is_dir() else [root]
    return {file.name: load_template(file, options.template_up, options.template_front) for file in files}


def _files_of(root: Path, category: str) -> list[Path]:
    own = [root / f"{category}{kind}" for kind in TEMPLATE_FORMATS]
    inside = sorted((root / category).iterdir()) if (root / category).is_dir() else []
    return [path for path in (*own, *inside) if path.suffix.lower() in TEMPLATE_FORMATS and path.is_file()]


def _key(config: RunConfig, templates: Sequence[Template]) -> str:
    judged_by = [_VERSION, SHA256, str(config.reconstruct.min_template_fit), *(template.digest for template in templates)]
    return sha256(" ".join(judged_by).encode()).hexdigest()[:16]


def _found(config: RunConfig, key: str, templates: dict[str, Template], images: Sequence[ImageRecord]) -> CategoryTemplate:
    """Compare the templates of a category on a sample of its images, and write the one that fits into the run folder."""
    describe = frame_describer(Lite0.from_package())
    names, category = list(templates), images[0].category
    sample = sorted(images, key=lambda image: sha256(image.image_id.encode()).digest())[:SAMPLE]
    # Many small products: beside any other busy process threads that wait for each other take eight times as long.
    with threadpool_limits(1):
        photos = framed_photos(config, sample, describe)
        if not photos:
            return CategoryTemplate(category, key, "", names[0], 0.0, 0.0, 0)
        choice = choose_template(list(templates.values()), photos, describe, config.reconstruct.min_template_fit)
    best = templates[names[choice.best]]
    file = f"{FOLDER}/{best.digest}.safetensors" if choice.fits else ""
    if file:
        RunFolder(config.run).write_bytes(file, best.encode())
    return CategoryTemplate(category, key, file, names[choice.best], choice.cosine, choice.lead, len(photos))


def framed_photos(config: RunConfig, images: Sequence[ImageRecord], describe: Describer) -> list[FramedPhoto]:
    """The objects of some photos, framed and described; those that cannot be read or masked are left out."""
    masks = actor_of(config, "reconstruct.mask")
    # This process may have no GPU: what needs one is stood for by mask files and GrabCut.
    cheap: type[Actor] = FileMask if masks.needs(config).num_gpus else masks
    actors = [kind(config) for kind in (actor_of(config, "load"), cheap, actor_of(config, "mask signs"))]
    rows = run_actors(actors, [image_row(image) for image in images], "image_id", "templates")
    usable = [one.row for one in rows if one.reject is None and one.row["mask"].any()]
    return [frame_photo(row["image"], row["mask"], describe) for row in usable]


def _tell(config: RunConfig, found: CategoryTemplate, say: Callable[[str], None]) -> None:
    """Say what was found of a category; raise InputError where none fits and the configuration says to stop."""
    least = config.reconstruct.min_template_fit
    score = f"{found.cosine + found.lead:.2f} on {found.photos} photos (cosine {found.cosine:.2f}, lead {found.lead:.2f})"
    told = f"{found.name} scores {score}"
    if found.template:
        say(f"  {found.category}: template {told}")
        return
    problem = f"{found.category}: no template fits: {told}, below reconstruct.min_template_fit = {least}"
    if config.reconstruct.template_misfit == "stop":
        raise InputError(
            f"{problem}; give one of the same kind of object, look at the masks, or set reconstruct.template_misfit=inflate"
        )
    say(f"  {problem}; its masks are inflated")
