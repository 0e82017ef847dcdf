"""One program over the devices of two processes."""

import socket
import subprocess
import sys
from pathlib import Path

import distributed_target
import numpy as np

TARGET = Path(distributed_target.__file__)


def test_two_processes_share_each_chunk(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    files = [tmp_path / f"{rank}.npy" for rank in (0, 1)]
    processes = [
        subprocess.Popen(
            [sys.executable, TARGET, str(rank), port, file],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank, file in enumerate(files)
    ]
    try:
        for process in processes:
            output, _ = process.communicate(timeout=300)
            assert process.returncode == 0, output
    finally:
        for process in processes:
            process.kill()
    alone = distributed_target.swept()
    for file in files:
        np.testing.assert_allclose(np.load(file), alone, rtol=1e-10)
