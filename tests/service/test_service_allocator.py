"""What processes are started with, so that they allocate as networks need it."""

import pytest

from service.allocator import ask_for_huge_pages


@pytest.mark.parametrize("before", [None, "glibc.malloc.arena_max=1"])
def test_huge_pages_are_asked_for_unless_a_deployment_has_tunables_of_its_own(
    monkeypatch: pytest.MonkeyPatch, before: str | None
) -> None:
    environment = {} if before is None else {"GLIBC_TUNABLES": before}
    monkeypatch.setattr("os.environ", environment)
    ask_for_huge_pages()
    assert environment == {"GLIBC_TUNABLES": before or "glibc.malloc.hugetlb=1"}
