"""How the models of a deployment are named."""

from pathlib import Path

import pytest

from service.catalog import model_folders

NO_MODEL = Path("unused")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    for name in ("zebra", "ant"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").touch()
    (tmp_path / "notes").mkdir()
    (tmp_path / "README.md").touch()
    return tmp_path


def test_without_a_list_the_only_model_is_called_as_its_folder() -> None:
    assert model_folders("", Path("weights/toy")) == {"toy": Path("weights/toy")}


def test_folders_and_names_keep_their_order() -> None:
    found = model_folders("weights/toy, other=/else/where ,third=a=b", NO_MODEL)
    assert list(found.items()) == [("toy", Path("weights/toy")), ("other", Path("/else/where")), ("third", Path("a=b"))]


def test_a_repository_gives_each_of_its_models(repository: Path) -> None:
    found = model_folders(f"toy=first,{repository}", NO_MODEL)
    assert list(found.items()) == [
        ("toy", Path("first")),
        ("ant", repository / "ant"),
        ("zebra", repository / "zebra"),
    ]


def test_a_folder_that_is_a_model_is_no_repository(repository: Path) -> None:
    (repository / "config.json").touch()
    assert model_folders(str(repository), NO_MODEL) == {repository.name: repository}


def test_a_link_keeps_its_own_name(repository: Path) -> None:
    (repository / "current").symlink_to("ant")
    assert "current" in model_folders(str(repository / "current"), NO_MODEL)


@pytest.mark.parametrize(
    ("models", "told"),
    [
        ("a/toy,b/toy", "two models are called toy (a/toy and b/toy)"),
        ("a,,b", "names no folder"),
        ("name=", "names no folder"),
        ("=folder", "'' is no name for the model in folder"),
        ("a/b=folder", "'a/b' is no name"),
        ("/", "'' is no name"),
    ],
)
def test_a_list_that_cannot_be_served_is_refused(models: str, told: str) -> None:
    with pytest.raises(ValueError, match="write") as refused:
        model_folders(models, NO_MODEL)
    assert told in str(refused.value)
