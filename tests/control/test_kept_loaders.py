"""Later batches are those without a range test or a measurement, wherever a loader keeps what they depend on."""

import collections
import functools
import io
import itertools
import random
import types

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, Sampler, TensorDataset

import torchpace.optim
from torchpace.control import lr_range_test, sharpness

EPOCH = 0
COUNTER = itertools.count()
STATE = {"epoch": 0, "orders": [list(range(7))]}
GENERATOR = torch.Generator()
SHUFFLED = list(range(7))
settings = types.SimpleNamespace(epoch=0)
outside = types.ModuleType("outside")
outside.__dict__.update(epoch=0, counter=itertools.count(5, 2))


class Settings:
    epoch = 0
    counter = itertools.count()


def batches(epoch, count=7):
    """Those of an epoch, which tell which one it is."""
    generator = torch.Generator().manual_seed(int(epoch * 100) % 2**40)
    return [torch.randn(8, 5, generator=generator) for _ in range(count)]


def data():
    return torch.cat(batches(0))


class CountsInItsClass:
    epoch = 0

    def __iter__(self):
        type(self).epoch += 1
        return iter(batches(self.epoch))


class Parent:
    epoch = 0
    history = collections.deque(maxlen=3)  # noqa: RUF012 of the class
    _cycle = itertools.count(1)


class CountsInAParent(Parent):
    def __iter__(self):
        Parent.epoch += 1
        self.history.append(Parent.epoch)
        return iter(batches(sum(self.history) + next(self._cycle)))


class CountsOnDemand:
    """Its counter is in the class from the first epoch on."""

    def __iter__(self):
        cls = type(self)
        cls.epoch = getattr(cls, "epoch", 0) + 1
        return iter(batches(cls.epoch))


class CountsByClassmethod:
    _epoch = 0

    @classmethod
    def turn(cls):
        cls._epoch += 1
        return cls._epoch

    def __iter__(self):
        return iter(batches(self.turn()))


class Slots:
    __slots__ = ("counter", "epoch")

    def __init__(self):
        self.counter, self.epoch = itertools.count(3, 2), 0

    def __iter__(self):
        self.epoch += 1
        return iter(batches(next(self.counter) + self.epoch))


class HoldsACount:
    def __init__(self, start=0, step=1):
        self.counter = itertools.count(start, step)

    def __iter__(self):
        return iter(batches(next(self.counter)))


class SharesACount:
    def __init__(self):
        self.counter = itertools.count()
        self.kept = {"a": self.counter, "list": [self.counter]}

    def __iter__(self):
        next(self.kept["a"])
        next(self.kept["list"][0])
        return iter(batches(next(self.counter)))


class HoldsAnIterator:
    """Each epoch has the next number of a list."""

    def __init__(self, numbers=None):
        self.numbers = iter(list(range(50))) if numbers is None else numbers

    def __iter__(self):
        return iter(batches(next(self.numbers)))


class CountsInAGlobal:
    def __iter__(self):
        global EPOCH
        EPOCH += 1
        return iter(batches(EPOCH))


def turn():
    STATE["epoch"] += 1
    random.Random(STATE["epoch"]).shuffle(STATE["orders"][0])
    return STATE["epoch"]


class CallsAFunction:
    def __iter__(self):
        found = batches(turn())
        return (found[at] for at in STATE["orders"][0])


class UsesGlobals:
    """A count, a generator, a list, a namespace and another class."""

    def __iter__(self):
        settings.epoch += 1
        Settings.epoch += 1
        number = next(COUNTER) + settings.epoch + Settings.epoch + next(Settings.counter)
        found = batches(number + int(torch.randint(1000, (), generator=GENERATOR)))
        SHUFFLED.sort(key=lambda at: (at * number) % 11)
        return (found[at] for at in SHUFFLED)


class UsesAModule:
    def __iter__(self):
        outside.epoch += 1
        return iter(batches(outside.epoch + next(outside.counter)))


class UsesGlobalGenerators:
    def __iter__(self):
        found = batches(random.randrange(1000) + np.random.randint(1000) + int(torch.randint(1000, ())))
        random.shuffle(found)
        return iter(found)


class OnAFunction:
    def __iter__(self):
        epochs.count = getattr(epochs, "count", 0) + 1
        return iter(batches(epochs.count))


def epochs():
    return epochs.count


def closure_loader():
    epoch, counter = 0, itertools.count()

    class Closed:
        def __iter__(self):
            nonlocal epoch
            epoch += 1
            return iter(batches(epoch + next(counter)))

    return Closed()


def collating():
    """A collate function that counts its batches."""
    seen = [0]
    counter = itertools.count()

    def collate(items):
        seen[0] += 1
        return torch.stack([item[0] for item in items]) + seen[0] + next(counter)

    return collate


class Collates:
    def __init__(self):
        self.batches = 0

    def collate(self, items, more=None):
        self.batches += 1
        return torch.stack([item[0] for item in items]) + self.batches


class Epochs(list):
    """A list that counts how often it was gone through."""

    epoch = 0

    def __iter__(self):
        self.epoch += 1
        return iter([one + self.epoch for one in super().__iter__()])


class Sampled(Sampler):
    seed = 0

    def __init__(self):
        pass

    def __len__(self):
        return 56

    def __iter__(self):
        Sampled.seed += 1
        return iter(torch.randperm(56, generator=torch.Generator().manual_seed(self.seed)).tolist())


class Stream(IterableDataset):
    epoch = 0
    counter = itertools.count()

    def __init__(self):
        self.numbers = itertools.count()

    def __iter__(self):
        global EPOCH
        EPOCH += 1
        Stream.epoch += 1
        yield from torch.cat(batches(Stream.epoch + next(self.counter) + next(self.numbers) + EPOCH))


class File:
    """Goes on where it was in a file."""

    def __init__(self, path):
        self.file = io.StringIO(path.read_text())

    def __iter__(self):
        return iter([torch.full((8, 5), float(self.file.readline())) for _ in range(3)])


def loaders(path):
    tensors = TensorDataset(data())
    return {
        "class": CountsInItsClass,
        "parent": CountsInAParent,
        "class on demand": CountsOnDemand,
        "classmethod": CountsByClassmethod,
        "slots": Slots,
        "count": HoldsACount,
        "count of floats": lambda: HoldsACount(0.5, 0.25),
        "count downwards": lambda: HoldsACount(10**30, -(10**20)),
        "shared count": SharesACount,
        "list iterator": HoldsAnIterator,
        "range iterator": lambda: HoldsAnIterator(iter(range(3, 50, 2))),
        "global": CountsInAGlobal,
        "function": CallsAFunction,
        "globals": UsesGlobals,
        "module": UsesAModule,
        "global generators": UsesGlobalGenerators,
        "function attribute": OnAFunction,
        "closure": closure_loader,
        "collate": lambda: DataLoader(tensors, 8, collate_fn=collating()),
        "collate method": lambda: DataLoader(tensors, 8, collate_fn=Collates().collate),
        "collate partial": lambda: DataLoader(tensors, 8, collate_fn=functools.partial(Collates().collate, more=1)),
        "list": lambda: Epochs(batches(0)),
        "sampler": lambda: DataLoader(tensors, 8, sampler=Sampled()),
        "stream": lambda: DataLoader(Stream(), 8),
        "file": lambda: File(path),
    }


NAMES = tuple(loaders(None))


def made(name, folder):
    """A loader, and all that those here keep outside themselves, as at first."""
    global EPOCH, COUNTER
    EPOCH, COUNTER = 0, itertools.count()
    STATE.update(epoch=0, orders=[list(range(7))])
    SHUFFLED[:] = range(7)
    settings.epoch = outside.epoch = Settings.epoch = 0
    outside.counter, Settings.counter = itertools.count(5, 2), itertools.count()
    Stream.counter, Parent._cycle = itertools.count(), itertools.count(1)
    GENERATOR.manual_seed(3)
    for one in (CountsInItsClass, Parent, Stream):
        one.epoch = 0
    CountsByClassmethod._epoch = Sampled.seed = 0
    Parent.history.clear()
    for one in (CountsOnDemand, epochs):
        for attribute in ("epoch", "count"):
            if attribute in vars(one):
                delattr(one, attribute)
    (folder / "numbers").write_text("".join(f"{number}\n" for number in range(1000)))
    return loaders(folder / "numbers")[name]()


def square(model, batch):
    return model(batch[0] if isinstance(batch, list) else batch).square().mean()


class Run:
    def __init__(self):
        self.model = torch.nn.Linear(5, 2)
        self.optimizer = torchpace.optim.SGD(self.model.parameters(), lr=0.1)

    def test(self, loader, **options):
        options = {"steps": 10, "low": 1e-4, "progress": False} | options
        return lr_range_test(self.model, self.optimizer, square, loader, **options)

    def measure(self, loader):
        return sharpness(lambda batch: square(self.model, batch), self.model, data=loader)


def epochs_of(loader, between):
    torch.manual_seed(7)
    random.seed(7)
    np.random.seed(7)
    seen = []
    for _ in range(3):
        between()
        seen.append([(batch[0] if isinstance(batch, list) else batch).tolist() for batch in loader])
        between()
    return seen


@pytest.mark.parametrize("how", ["test", "measure"])
@pytest.mark.parametrize("name", NAMES)
def test_later_batches_are_those_without_it(name, how, tmp_path):
    found = []
    for between in (False, True):
        loader, run = made(name, tmp_path), Run()
        calls = {"test": lambda: run.test(loader, repeats=2), "measure": lambda: run.measure(loader)}  # noqa: B023
        found.append(epochs_of(loader, calls[how] if between else lambda: None))
    assert found[0] == found[1]
    assert len({str(epoch) for epoch in found[0]}) == 3  # no epoch comes again


@pytest.mark.parametrize("name", NAMES)
def test_the_same_is_found_again(name, tmp_path):
    loader, run = made(name, tmp_path), Run()
    assert run.test(loader) == run.test(loader)


def generator():
    yield from range(50)


REFUSED = {
    "generator": generator,
    "expression": lambda: (number for number in range(50)),
    "map": lambda: map(abs, range(50)),
    "zip": lambda: (number for number, _ in zip(range(50), range(50), strict=True)),
    "enumerate": lambda: map(lambda pair: pair[0], enumerate(range(50))),  # noqa: C417 a map
    "cycle": lambda: itertools.cycle([1, 2, 3]),
    "chain": lambda: itertools.chain([1, 2], [3]),
    "count of complex numbers": lambda: map(lambda one: int(one.real), itertools.count(1j)),  # noqa: C417 a map
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("how", ["test", "measure"])
def test_what_cannot_be_put_back_is_an_error_before_anything_is_drawn(name, how):
    numbers = REFUSED[name]()
    loader, run = HoldsAnIterator(numbers), Run()
    with pytest.raises(TypeError, match=r"data holds a \w+ and draws from it, which cannot be put back"):
        getattr(run, how)(loader)
    assert loader.numbers is numbers
    assert next(numbers) == next(REFUSED[name]())


def test_an_endless_loader_is_an_error_and_goes_on():
    """Its one iterator stays from epoch to epoch."""

    class Endless:
        def __init__(self):
            self.loader = DataLoader(TensorDataset(torch.arange(560.0).reshape(112, 5)), 8)
            self.iterator = iter(self.loader)

        def __iter__(self):
            for _ in range(3):
                yield next(self.iterator)[0]

    loader, run = Endless(), Run()
    assert next(iter(loader))[0, 0] == 0
    with pytest.raises(TypeError, match="data holds a _SingleProcessDataLoaderIter and draws from it"):
        run.test(loader)
    assert next(iter(loader))[0, 0] == 40


def test_an_iterator_that_is_held_and_not_drawn_from_is_no_error():
    class Remembers:
        def __init__(self):
            self.last = generator()

        def __iter__(self):
            self.last = iter(batches(0))
            return self.last

    loader, run = Remembers(), Run()
    before = loader.last
    assert len(run.test(loader).losses) == 1
    assert loader.last is before
    assert next(before) == 0


def test_what_is_held_is_the_same_afterwards():
    loader, run = SharesACount(), Run()
    before = loader.counter
    run.test(loader)
    assert loader.counter is before is loader.kept["a"] is loader.kept["list"][0]
    counter = COUNTER
    run.test(UsesGlobals())
    assert counter is COUNTER
