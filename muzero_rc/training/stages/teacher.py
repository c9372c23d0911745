"""The plan model whose steps the policy head imitates: fitted to the run's studies, or given."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Set
from pathlib import Path

from muzero_rc.agents.world_model.plan_model import PlanModel
from muzero_rc.dataset import Dataset, load_dataset
from muzero_rc.errors import InputError
from muzero_rc.policies.shipped import SHIPPED_FILES, shipped_policy_path
from muzero_rc.training.config import FITTED, NOBODY, ImitateConfig
from muzero_rc.training.publish import publish
from muzero_rc.training.stages.plan import fit_dataset, studies_of

__all__ = ["check_teacher", "make_teacher"]

_SHIPPED = "planned"


def check_teacher(config: ImitateConfig, exclude: Set[str]) -> None:
    """Refuses a teacher that is given and cannot be taken, before studies are made for it.

    Raises:
      InputError: it does not exist, or has seen one of these sources.
      CheckpointError: its file is damaged.
    """
    if config.teacher not in (NOBODY, FITTED):
        _given(config.teacher, exclude)


def make_teacher(
    folder: Path,
    config: ImitateConfig,
    dataset: Dataset | None,
    exclude: Set[str],
    say: Callable[[str], None],
) -> PlanModel | None:
    """The teacher of a run; None if it is to have none.

    One that is fitted is kept in `plan.npz` of the run, its data set in `dataset.npz`. Where
    the studies are of fewer than two sources, the shipped plan model stands in.

    Args:
      folder: of the run.
      config: which teacher, and how far its plans go.
      dataset: to fit to; None makes one of the run's studies.
      exclude: sources that it must not have seen.
      say: told what is done.

    Raises:
      InputError: a teacher that is given does not exist, or has seen one of these sources.
      CheckpointError: a file is damaged.
      OutputError: a file cannot be written.
    """
    if config.teacher == NOBODY:
        return None
    settings = config.plans()
    if config.teacher != FITTED:
        return dataclasses.replace(_given(config.teacher, exclude), settings=settings)
    path = folder / "plan.npz"
    if path.exists():
        return PlanModel.load(path)
    if dataset is None:
        made = folder / "dataset.npz"
        publish(folder, made)
        dataset = load_dataset(made)
    sources = {found.study.source for found in studies_of(dataset)} - exclude
    if len(sources) < 2:
        say("studies of fewer than two sources can be planned: the shipped plan model teaches")
        return dataclasses.replace(PlanModel.load(shipped_policy_path(_SHIPPED)), settings=settings)
    model = fit_dataset(dataset, settings, exclude=exclude, on_step=say).model
    model.save(path)
    return model


def _given(teacher: str, exclude: Set[str]) -> PlanModel:
    path = shipped_policy_path(teacher) if teacher in SHIPPED_FILES else Path(teacher)
    if not path.is_file():
        raise InputError(
            f"the teacher {teacher} does not exist; give fit, none, planned or a plan model"
        )
    model = PlanModel.load(path)
    if exclude and not exclude <= set(model.meta.get("excluded", ())):
        raise InputError(
            f"the teacher {teacher} may have seen what --exclude names; fit another: "
            "muzero-rc fit --exclude"
        )
    return model
