"""A process knows its place among those that torchrun or srun started."""

from __future__ import annotations

import os

import pytest

from ssl_core.config.sections import RuntimeOptions
from ssl_core.errors import UsageError
from ssl_core.launcher import first_host, is_first
from ssl_core.runner.device import choose_device
from ssl_core.runner.processes import Processes

STEP = {
    "SLURM_JOB_ID": "4711",
    "SLURM_STEP_ID": "2",
    "SLURM_STEP_NUM_TASKS": "8",
    "SLURM_STEP_NODELIST": "gpu[07-08]",
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1",
}


@pytest.fixture
def environment(monkeypatch):
    """Sets variables that are gone after the test, with those that the process adds."""
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "")  # so that it is restored
        monkeypatch.delenv(name)

    def put(**values):
        for name, value in values.items():
            monkeypatch.setenv(name, value)

    return put


def test_a_process_alone(environment):
    assert Processes.of_environment() == Processes(0, 1, 0)
    assert is_first()


def test_torchrun(environment):
    environment(RANK="3", WORLD_SIZE="4", LOCAL_RANK="1", **STEP)
    assert Processes.of_environment() == Processes(3, 4, 1)
    assert not is_first()


def test_srun_without_torchrun(environment):
    environment(**STEP)
    assert not is_first()
    assert Processes.of_environment() == Processes(5, 8, 1)
    assert os.environ["MASTER_ADDR"] == "gpu07"
    assert 20_000 <= int(os.environ["MASTER_PORT"]) < 30_000


def test_an_address_that_the_user_names(environment):
    environment(MASTER_ADDR="10.0.0.7", MASTER_PORT="1234", **STEP)
    Processes.of_environment()
    assert (os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"]) == ("10.0.0.7", "1234")


@pytest.mark.parametrize("tasks", [{}, {"SLURM_STEP_NUM_TASKS": "1"}])
def test_a_batch_script_is_one_process(environment, tasks):
    """It has the number of tasks of the job, which srun would start."""
    environment(SLURM_PROCID="0", SLURM_LOCALID="0", SLURM_NTASKS="8", SLURM_JOB_NODELIST="gpu[07-08]", **tasks)
    assert Processes.of_environment() == Processes(0, 1, 0)


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("gpu7", "gpu7"),
        ("gpu7,login1", "gpu7"),
        ("gpu[007-012,015],login1", "gpu007"),
        ("gpu[3,5]-ib", "gpu3-ib"),
        ("rack[1-2]node[04-05]", "rack1node04"),
    ],
)
def test_the_first_machine_of_a_list(nodes, first):
    assert first_host(nodes) == first


def test_more_processes_than_gpus(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    monkeypatch.delenv("SLURM_LOCALID", raising=False)
    with pytest.raises(UsageError, match=r"no GPU of its own.*sees 1.*at most 1"):
        choose_device(RuntimeOptions(), local_rank=1)
