"""Training by others: what they leave is what this process would have made; who they are; what they leave is seen."""

from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from processes_child import SETTINGS, data_of

from molar_retrieval.errors import DataError
from molar_retrieval.models.alignment import TrainingJob, _train_by
from molar_retrieval.models.blending import Gain, ScoreComponent
from molar_retrieval.models.towers import trainer
from molar_retrieval.models.towers.distributed import ALONE, Group, GroupJob, Processes
from molar_retrieval.models.towers.ray_training import RayTrainingGroup
from molar_retrieval.models.towers.training import TrainingData, train
from molar_retrieval.progress import Notes, Progress
from molar_retrieval.workspace import ray_jobs
from molar_retrieval.workspace.artefacts import Workspace
from molar_retrieval.workspace.ray_jobs import ClusterAddress, ClusterNode
from molar_retrieval.workspace.settings import SplitSettings

ALIGN = SETTINGS.model_copy(update={"epochs": 4, "threads": 1})


@dataclass(frozen=True)
class MadeUpJob(TrainingJob):
    """A training whose data lies nowhere."""

    def data(self, workspace: Workspace) -> TrainingData:
        return data_of()


class HereAndNow(Group):
    """One that is in this process; what it leaves goes ``elsewhere``, where that is said."""

    def __init__(self, elsewhere: Path | None = None) -> None:
        self.elsewhere, self.pauses = elsewhere, list[int | None]()

    def for_work(self, *, gpu: bool) -> Group:
        return self

    def rounds(self, job: GroupJob, progress: Progress) -> Generator[list[dict[str, Any]]]:
        assert isinstance(job, TrainingJob)
        self.pauses.append(job.most)
        yield from (job if self.elsewhere is None else replace(job, folder=self.elsewhere)).rounds(ALONE)


@dataclass
class MadeUpProbe:
    """Finds that the content tower brings nothing."""

    asks: bool
    asked: int = 0

    def __call__(self, towers: Mapping[str, ScoreComponent]) -> Mapping[str, Gain]:
        self.asked += 1
        return {"content_tower": Gain(-0.01, 0.02)} if self.asks else {}


def job_in(folder: Path) -> MadeUpJob:
    return MadeUpJob(folder, ALIGN, SplitSettings(), folder, "run", {}, 1)


@pytest.mark.parametrize("asks", [False, True])
def test_a_group_leaves_what_this_process_would_have_made(asks: bool, tmp_path: Path) -> None:
    heard: list[list[int]] = [[], []]
    alone, state = train(
        data_of(), ALIGN, tmp_path / "alone", "run", probe=MadeUpProbe(asks),
        on_epoch=lambda score: heard[0].append(score.epoch),
    )  # fmt: skip
    group, probe, job = HereAndNow(), MadeUpProbe(asks), job_in(tmp_path / "group")
    network, left = _train_by(group, job, data_of(), probe, Notes(), lambda score: heard[1].append(score.epoch))
    assert (group.pauses, probe.asked) == (([2, None], 1) if asks else ([None], 0))
    assert heard[0] == heard[1] == [1, 2, 3, 4]
    assert [replace(one, seconds=0) for one in left.scores] == [replace(one, seconds=0) for one in state.scores]
    weights, ours = network.state_dict(), alone.state_dict()
    assert weights.keys() == ours.keys()
    assert all(torch.equal(weights[name], ours[name]) for name in ours)
    assert any("content_tower" in name for name in weights) is not asks


def test_what_is_not_seen_here_is_not_trained_here_instead(tmp_path: Path) -> None:
    group = HereAndNow(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="the last epoch that was trained is not to be seen"):
        _train_by(group, job_in(tmp_path / "here"), data_of(), MadeUpProbe(False), Notes(), lambda _: None)


class Other(Processes):
    """Not the first; that one is seven steps on."""

    def agreed(self, value: Any) -> Any:
        return 7


def test_processes_that_see_different_checkpoints_do_not_go_on(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="process 1 does not see the checkpoint"):
        train(data_of(), ALIGN, tmp_path, "run", processes=Other(1, 2))


def test_what_a_killed_rank_was_writing_goes(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.0f.writing").touch()
    assert trainer.load(tmp_path, "run", {}, torch.optim.SGD([torch.zeros(1)]), "") is None
    assert list(tmp_path.iterdir()) == []


def nodes(gpus: int) -> Iterator[ClusterNode]:
    yield ClusterNode("first", "10.0.0.1", True, 4, gpus, 0)
    yield ClusterNode("second", "10.0.0.2", False, 4, 8, 0)


@pytest.mark.parametrize(
    ("asked", "here", "there", "gpu", "found"),
    [
        (None, 0, 4, True, 4),
        (None, 4, 4, True, None),
        (None, 0, 0, True, None),
        (None, 0, 4, False, None),
        (0, 0, 4, True, None),
        (3, 4, 0, False, 3),
    ],
)
def test_a_cluster_trains_where_it_has_more_gpus_or_is_asked_to(
    monkeypatch: pytest.MonkeyPatch, asked: int | None, here: int, there: int, gpu: bool, found: int | None
) -> None:
    monkeypatch.setattr(ray_jobs, "cluster_nodes", lambda address: list(nodes(there)))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: here)
    chosen = RayTrainingGroup(ClusterAddress("ray://a:1"), asked).for_work(gpu=gpu)
    assert (chosen and chosen.ranks) == found
