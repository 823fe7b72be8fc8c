"""Processes that each see a part of the batch find the weights of the whole batch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

BALANCE = """
import json, sys
import torch
from torch import distributed, nn
from dinomask.nets.processes import mean_over_processes
from dinomask.train.balance import GradNormBalancer, ParetoBalancer, UncertaintyBalancer

rank, count, store = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
if count > 1:
    distributed.init_process_group("gloo", f"file://{store}", rank=rank, world_size=count)
goals = torch.tensor([[0.0, 3.0], [1.0, 2.0], [5.0, -1.0], [2.0, 2.0]]).chunk(count)[rank]
weights = {}
for make in (UncertaintyBalancer, GradNormBalancer, ParetoBalancer):
    x = nn.Parameter(torch.tensor(1.5))
    balancer = make("ab") if make is UncertaintyBalancer else make("ab", [x])
    parameters = [x, *balancer.parameters()]
    optimiser = torch.optim.SGD(parameters, lr=0.05)
    for step in range(20):
        optimiser.zero_grad()
        a, b = ((x - goals) ** 2).mean(0)
        if step == 9 and rank == count - 1:
            b = b * float("nan")
        total = balancer.total({"a": a, "b": 10 * b})
        # a loss that is no number in one process is learned from in none
        if torch.isfinite(mean_over_processes(total)):
            total.backward()
            for p in parameters:
                p.grad = mean_over_processes(p.grad)
            optimiser.step()
    weights[make.__name__] = [float(x.detach()), *balancer.weights().values()]
print(json.dumps(weights))
"""


def _balance(count: int, folder: Path) -> list[dict[str, list[float]]]:
    script = folder / "balance.py"
    script.write_text(BALANCE)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, str(script)]
    running = [
        subprocess.Popen(
            [*command, str(rank), str(count), str(folder / f"store{count}")],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]
    try:
        outputs = [process.communicate(timeout=600)[0] for process in running]
    finally:
        for process in running:
            process.kill()
            process.wait()
            if process.stdout:
                process.stdout.close()
    assert all(process.returncode == 0 for process in running)
    return [json.loads(output) for output in outputs]


@pytest.mark.slow
def test_two_processes_find_the_weights_of_one(tmp_path: Path) -> None:
    (whole,) = _balance(1, tmp_path)
    first, second = _balance(2, tmp_path)
    assert first == second
    for name, values in whole.items():
        assert first[name] == pytest.approx(values, rel=1e-4), name
        assert values[1] != pytest.approx(values[2], rel=0.05)
