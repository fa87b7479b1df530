"""Documentation that is kept true: settings, tree, words, links, decisions."""

import re
from pathlib import Path

import pytest

from deploy.environments import OF_THE_APP, OF_THE_ENGINE, OF_THE_WORKER
from orchestrator.store.tables import Base

PROJECT = Path(__file__).resolve().parents[2]
README = (PROJECT / "README.md").read_text()
GLOSSARY = (PROJECT / "docs" / "glossary.md").read_text()
EXAMPLE = PROJECT / ".env.example"
LATER = {"docs/dashboard.png"}
"""Made from the running dashboard; until then only the link stands."""

ELSEWHERE = {"POSTGRES_PASSWORD", "REDIS_PASSWORD", "BIND_ADDRESS", "COMPOSE_PROJECT_NAME"}
"""Read by the compose file."""


def code() -> str:
    return "\n".join(
        file.read_text() for folder in ("shared", "engine", "orchestrator") for file in sorted((PROJECT / folder).rglob("*.py"))
    )


@pytest.fixture(scope="module")
def example() -> str:
    assert EXAMPLE.exists(), ".env.example is missing"
    return EXAMPLE.read_text()


def named(example: str) -> set[str]:
    return set(re.findall(r"^#?\s?([A-Z][A-Z0-9_]+)=", example, re.MULTILINE))


def test_every_setting_that_a_process_reads_stands_in_the_example(example: str) -> None:
    assert not (OF_THE_ENGINE | OF_THE_APP | OF_THE_WORKER) - named(example)


def test_the_example_names_no_setting_that_nobody_reads(example: str) -> None:
    assert not named(example) - OF_THE_ENGINE - OF_THE_APP - ELSEWHERE


def test_the_example_holds_no_secret(example: str) -> None:
    for line in example.splitlines():
        name, _, value = line.partition("=")
        if re.search("SECRET|TOKEN|PASSWORD|API_KEY", name) and not line.startswith("#"):
            assert not value.strip(), line


def test_every_folder_of_the_readmes_tree_is_on_the_disk() -> None:
    tree = README[README.index("## The tree") :]
    parents: list[str] = []
    for indent, name in re.findall(r"^    ( *)([a-z_]+/)", tree, re.MULTILINE):
        parents = [*parents[: len(indent) // 2], name]
        assert (PROJECT / "".join(parents)).is_dir(), "".join(parents)


def test_every_package_on_the_disk_stands_in_the_readmes_tree() -> None:
    packages = {path.parent.name for path in PROJECT.glob("*/__init__.py")}
    assert packages
    for package in packages:
        assert f"    {package}/" in README


@pytest.mark.parametrize(
    "page", ["README.md", *(f"docs/{name}.md" for name in ("architecture", "glossary", "runbook", "degraded-modes"))]
)
def test_every_link_leads_somewhere(page: str) -> None:
    text = (PROJECT / page).read_text()
    for link in re.findall(r"\]\(([^)#]+)\)", text):
        if not link.startswith("http") and link not in LATER:
            assert ((PROJECT / page).parent / link).exists(), link


def test_every_word_of_the_glossary_is_in_the_code() -> None:
    source = code()
    columns = {f"{table.name}.{column.name}" for table in Base.metadata.sorted_tables for column in table.columns}
    tables = {table.name for table in Base.metadata.sorted_tables}
    rows = [line for line in GLOSSARY.splitlines() if line.startswith("| ") and not line.startswith("| word")]
    assert len(rows) > 30
    for row in rows:
        name = re.findall(r"`([^`]+)`", row.split("|")[3])[0]
        assert name in columns or name in tables or ("." not in name and re.search(rf"\b{name}\b", source)), row


def test_every_decision_has_its_four_parts_and_its_own_number() -> None:
    decisions = sorted((PROJECT / "docs" / "adr").glob("*.md"))
    assert len(decisions) >= 13
    assert [int(file.name[:4]) for file in decisions] == list(range(1, len(decisions) + 1))
    for file in decisions:
        text = file.read_text()
        assert all(f"## {part}" in text for part in ("Context", "Decision", "Consequences", "Alternatives")), file.name


def test_every_make_target_of_the_documents_exists() -> None:
    makefile = (PROJECT / "Makefile").read_text()
    pages = README + (PROJECT / "docs" / "runbook.md").read_text()
    for target in set(re.findall(r"make ([a-z][a-z-]+)", pages)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_every_invariant_names_tests_that_exist() -> None:
    page = (PROJECT / "docs" / "invariants.md").read_text()
    sections = re.split(r"^## (\d+)\. ", page, flags=re.MULTILINE)[1:]
    assert [int(number) for number in sections[::2]] == list(range(1, 24))
    for number, text in zip(sections[::2], sections[1::2], strict=True):
        tests = re.findall(r"`(tests/[^:`]+)::(\w+)`", text)
        assert tests, f"invariant {number} names no test"
        for file, name in tests:
            assert f"def {name}(" in (PROJECT / file).read_text(), f"{file}::{name}"
