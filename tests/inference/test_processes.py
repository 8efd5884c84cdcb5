"""Compiled models in forked children, and in threads at once with batches of different sizes."""

import multiprocessing
import threading
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

import inference
from benchmarks.networks import prune_

BATCHES = (1, 2, 7, 16, 33, 64, 100, 130)
# Far longer than anything here takes, even under the sanitizers on a busy machine.
PATIENCE = 120


def image_model():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(2, 9, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(144, 20)
    )
    return inference.compile(prune_(model, 0.8), torch.zeros(1, 2, 8, 8), plan="static", threads=2)


def inputs(seed, batch):
    return np.random.default_rng(seed).standard_normal((batch, 2, 8, 8), dtype=np.float32)


@pytest.fixture(scope="module")
def sparse():
    return image_model()


def fork(function):
    """Run a function in a forked child; return what it puts into the pipe."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=lambda: sender.send(function()))
    with warnings.catch_warnings():
        # Python 3.12 warns of forks of processes that have threads: which is what is tested.
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        process.start()
    try:
        assert receiver.poll(PATIENCE), "the child hangs"
        return receiver.recv()
    finally:
        process.kill()
        process.join()


def test_a_forked_child_after_threads_of_the_parent_ran(sparse):
    x = inputs(0, 130)
    expected = sparse(x)  # by two threads, of which the child has none
    for _ in range(3):
        assert np.array_equal(fork(lambda: sparse(x)), expected)
    assert np.array_equal(sparse(x), expected)


def test_forks_in_the_middle_of_calls(sparse):
    """Whatever the other threads hold at that moment, the child can go on."""
    batches = [inputs(seed, batch) for seed, batch in enumerate(BATCHES)]
    expected = [sparse(x) for x in batches]
    stop = threading.Event()

    def work(x):
        while not stop.is_set():
            sparse(x)

    threads = [threading.Thread(target=work, args=(x,)) for x in batches[-2:]]
    for thread in threads:
        thread.start()
    try:
        for k in range(8):
            x, y = batches[k % 8], expected[k % 8]
            assert np.array_equal(fork(lambda x=x: sparse(x)), y)
    finally:
        stop.set()
        for thread in threads:
            thread.join()


class Outputs(Dataset):
    """A data set whose examples come out of a compiled model."""

    def __init__(self, sparse):
        self.sparse = sparse

    def __len__(self):
        return 6

    def __getitem__(self, index):
        return torch.from_numpy(self.sparse(inputs(index, 70)))


def test_workers_of_a_data_loader(sparse):
    expected = [sparse(inputs(seed, 70)) for seed in range(6)]
    loader = DataLoader(
        Outputs(sparse), batch_size=None, num_workers=1, multiprocessing_context="fork", timeout=PATIENCE
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        found = list(loader)
    assert all(np.array_equal(a.numpy(), b) for a, b in zip(found, expected, strict=True))


def test_a_spawned_child_gets_the_model_by_pickle(sparse):
    x = inputs(1, 5)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        found = pool.apply_async(sparse, (x,)).get(PATIENCE)
    assert np.array_equal(found, sparse(x))


def test_eight_threads_with_batches_of_their_own(sparse):
    """To the bit what one thread gets, with arenas of all widths in use at once."""
    batches = [inputs(seed, batch) for seed, batch in enumerate(BATCHES)]
    expected = [sparse(x) for x in batches]
    wrong = []
    begin = threading.Barrier(8)

    def work(first):
        begin.wait()
        for k in range(first, first + 80):
            x, y = batches[k % 8], expected[k % 8]
            given = torch.from_numpy(x) if k % 3 else x
            if not np.array_equal(np.asarray(sparse(given)), y):
                wrong.append((first, k))

    threads = [threading.Thread(target=work, args=(first,)) for first in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
