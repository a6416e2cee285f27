"""Names of cases that are the same in every process, so that pytest-xdist can share them out."""

import re

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_generate_tests(metafunc):
    parametrize = metafunc.parametrize

    def without_addresses(*args, ids=None, **options):
        name = ids
        if ids in (str, repr):

            def name(value):
                return re.sub(r" at 0x[0-9a-f]+", "", ids(value))

        return parametrize(*args, ids=name, **options)

    metafunc.parametrize = without_addresses
