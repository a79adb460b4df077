"""Units encoded by datatrove, for a corpus that takes more than one machine: a step for its executors.

    from datatrove.executor import SlurmPipelineExecutor
    step = EncodeUnits("/shared/corpus", out="/shared/tokens", tokenizer="/shared/tokenizer.json")
    SlurmPipelineExecutor(pipeline=[step], tasks=64, ...).run()

and then, once, `lightwell prepare /shared/corpus --out /shared/tokens --tokenizer /shared/tokenizer.json`, which finds
all units done and writes the manifest. The folder must be on a file system that all machines share. Task r of n takes
the units r, r + n, r + 2n, ...; no byte depends on how many tasks there are, as none does on workers.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightwell.corpus.manifest import MANIFEST
from lightwell.corpus.plan import make_plan, plan_tokenizer, take_folder
from lightwell.corpus.prepare import finish_units
from lightwell.corpus.units.cutting import UNIT_BYTES
from lightwell.errors import TextError
from lightwell.text.config import TextConfig
from lightwell.text.paths import TextPaths, text_paths

if TYPE_CHECKING:
    PipelineStep = object
else:
    try:
        from datatrove.pipeline.base import PipelineStep
    except ImportError:  # an extra
        PipelineStep = None


class EncodeUnits(PipelineStep or object):  # type: ignore[misc]
    """Encodes the units of a corpus into a folder of prepared text; nothing goes in and nothing comes out.

    The plan and the tokenizer are made where the step is made, so that the tasks only encode. A task that is given
    again does what is missing.

    Args:
        paths: files, folders or globs, as `lightwell prepare` takes them.
        out: the folder; new, or begun with the same arguments.
        vocab_size: tokens of a tokenizer that is trained; 0 chooses.
        unit_bytes: text in a unit.
        settings: fields of TextConfig.

    Raises:
        TextError: datatrove is not installed; or as `prepare_corpus`.
    """

    name = "Lightwell units"
    type = "Tokenizer"

    def __init__(
        self, *paths: TextPaths, out: str | Path, vocab_size: int = 0, unit_bytes: int = UNIT_BYTES, **settings: Any
    ) -> None:
        if PipelineStep is None:
            raise TextError("EncodeUnits needs the package datatrove; pip install lightwell[corpora].")
        super().__init__()
        self.config = TextConfig(paths=text_paths(*paths), **settings)
        self.vocab_size, self.out, self.unit_bytes = vocab_size, Path(out), unit_bytes
        plan = make_plan(self.config, vocab_size, self.out, unit_bytes)
        take_folder(plan)
        self.fingerprint = plan.work.fingerprint
        if not (self.out / MANIFEST).is_file():
            plan_tokenizer(plan)

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Iterator[Any]:
        """Encode the units of task `rank` of `world_size`.

        Raises:
            TextError: the sources are not what they were where the step was made, or as `prepare_corpus`.
        """
        yield from data or ()
        if (self.out / MANIFEST).is_file():
            return
        plan = make_plan(self.config, self.vocab_size, self.out, self.unit_bytes)
        if plan.work.fingerprint != self.fingerprint:
            raise TextError(f"The files of {', '.join(self.config.paths)} have changed since {self.out} was begun.")
        finish_units(plan, plan.units[rank::world_size], 1, print, lambda done, of: None)
